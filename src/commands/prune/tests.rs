//! What holds at every request, whoever else is at work. The registry is the one in memory that the reaper is tested by.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::*;
use crate::clients::registry::{Descriptor, Manifest};
use crate::commands::reap::ReapError;
use crate::commands::reap::tests::model::{Deletes, Event, Model, Trouble, World};
use crate::decide::reap::artifact::{self, RunId};
use crate::decide::reap::journal::Journal;
use crate::error::Report;
use crate::names::{Digest, Tag};

static REPOSITORY: LazyLock<Repository> =
    LazyLock::new(|| "registry.example/team/app".parse().expect("a good repository"));

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// When an image was made: each an hour after the one before.
fn made(number: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + 3600 * number).expect("a time of this century")
}

fn number(bytes: &Bytes) -> i64 {
    let image: serde_json::Value = serde_json::from_slice(bytes).expect("a manifest is JSON");
    image["image"].as_i64().unwrap_or_default()
}

impl Pruned for Model {
    fn repository(&self) -> &Repository {
        &REPOSITORY
    }

    async fn created(&self, manifest: &Manifest) -> Result<Timestamp, String> {
        let created = self.request(|_| made(number(&manifest.bytes))).await;
        created.map_err(|error| error.to_string())
    }

    async fn pushed(&self) -> Result<Result<BTreeMap<Digest, Timestamp>, String>, ReapError> {
        if self.deletes != Deletes::OwnApi {
            return Ok(Ok(BTreeMap::new()));
        }
        let pushed = |world: &mut World| {
            world.manifests.values().map(|manifest| (manifest.digest, made(number(&manifest.bytes)))).collect()
        };
        self.request(pushed).await.map(Ok)
    }
}

fn image(number: i64) -> Manifest {
    of_type(IMAGE, number)
}

fn of_type(media_type: &str, number: i64) -> Manifest {
    let bytes = Bytes::from(format!("{{\"image\":{number}}}"));
    Manifest { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes }
}

fn signature(number: i64) -> String {
    format!("sha256-{}.sig", image(number).digest.hex())
}

/// Images 1 to 6, and 10 an index of image 11, older than all. The newest two stay, and what names keep: 2 is `latest`, 3 is
/// protected. A signature goes with 1, and one stays with 6. A reaper is at work here too.
fn story() -> World {
    let mut world = World::default();
    for (tag, number) in [("v1", 1), ("also", 1), ("v4", 4), ("11-amd64", -2)] {
        world.put(tag, &image(number));
    }
    world.put(&signature(1), &image(101));
    world.put("v0", &of_type(INDEX, -1));
    let child = Descriptor {
        media_type: IMAGE.to_owned(),
        digest: image(-2).digest,
        size: 1,
        platform: None,
        annotations: BTreeMap::new(),
    };
    world.children.insert(of_type(INDEX, -1).digest, vec![child]);
    let stay = [("v2", 2), ("latest", 2), ("v3", 3), ("release", 3), ("v5", 5), ("v6", 6), (&signature(6), 106)];
    for (tag, number) in stay {
        world.put(tag, &image(number));
        world.protected.insert(tag.parse().expect("a tag"), image(number).digest);
    }
    let journal = Journal::new(made(9), BTreeMap::new(), BTreeMap::new());
    let journal = artifact::journal("git.example/acme/app", &RunId::new([1; 8]), 1, journal);
    world.notes.insert(Digest::of(&journal.config), journal.config);
    world.put("_reaper-journal-01234567", &journal.manifest);
    world
}

/// Prunes; `None` when it was killed.
fn run(model: Model, mode: Mode) -> (Model, Option<Result<String, String>>) {
    let repositories = BTreeMap::from([("team/app".to_owned(), model)]);
    let host = "registry.example".parse().expect("a good host");
    let rules = Rules {
        keep_last: NonZeroUsize::new(2).expect("not 0"),
        protected: vec!["rel*".to_owned()],
        max_delete: MaxDelete::Count(1000),
    };
    let request = Request { host: &host, rules: &rules, mode, format: Format::Text, now: made(1000) };
    let (mut output, say) = (Vec::new(), Say::new(std::io::sink()));
    let result = {
        let mut future = pin!(plan_and_apply(&repositories, &request, &mut output, &say));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(result) => break Some(result),
                Poll::Pending if repositories["team/app"].world.borrow().killed => break None,
                Poll::Pending => {}
            }
        }
    };
    let output = String::from_utf8(output).expect("a plan is text");
    let result = result.map(|result| result.map(|()| output).map_err(|error| Report(&error).to_string()));
    (repositories.into_values().next().expect("there is one"), result)
}

/// Prunes a registry that leaves it in peace.
#[track_caller]
fn pruned(model: Model) -> Model {
    let (model, result) = run(model, Mode::Apply);
    let result = result.expect("nobody killed it");
    assert!(result.is_ok(), "{result:?}");
    model
}

/// The same registry for the next run.
fn after(model: Model) -> Model {
    let world = World { killed: false, requests: 0, ..model.world.into_inner() };
    Model::new(world, model.deletes, Trouble::None)
}

#[track_caller]
fn assert_pruned(model: &Model) {
    let world = model.world.borrow();
    let left: BTreeSet<String> = world.protected.keys().map(Tag::to_string).collect();
    assert_eq!(world.tags(), left);
    assert!(world.journal().is_some(), "the reaper's journal stays");
}

/// How many requests a whole run makes.
fn requests(deletes: Deletes) -> usize {
    let model = pruned(Model::new(story(), deletes, Trouble::None));
    assert_pruned(&model);
    model.world.into_inner().requests
}

const KINDS: [Deletes; 4] = [Deletes::ByDigest, Deletes::ByTag, Deletes::TagMeansManifest, Deletes::OwnApi];

#[test]
fn older_versions_go_and_the_rest_stays_on_registries_of_every_kind() {
    for deletes in KINDS.into_iter().chain([Deletes::TagIsNotFound, Deletes::TagIsIgnored]) {
        assert!(requests(deletes) > 0, "{deletes:?}");
    }
}

#[test]
fn without_apply_only_reads_are_sent() {
    let (model, plan) = run(Model::new(story(), Deletes::ByDigest, Trouble::None), Mode::Plan);
    let plan = plan.expect("nobody killed it").expect("no error");
    assert!(plan.contains("summary  keep 8, unknown 0, restore 0, remove 6\n"), "{plan}");
    assert_eq!(model.world.borrow().writes, 0);
}

#[test]
fn a_second_run_removes_nothing() {
    let again = after(pruned(Model::new(story(), Deletes::ByDigest, Trouble::None)));
    let writes = again.world.borrow().writes;
    assert_eq!(pruned(again).world.borrow().writes, writes);
}

#[test]
fn a_run_that_is_killed_at_any_request_is_finished_by_the_next_one() {
    for deletes in KINDS {
        for number in 1..=requests(deletes) {
            let (model, result) = run(Model::new(story(), deletes, Trouble::Kill(number)), Mode::Apply);
            assert_eq!(result, None, "{deletes:?} {number}");
            assert_pruned(&pruned(after(model)));
        }
    }
}

#[test]
fn a_run_in_which_any_request_fails_loses_nothing_and_is_finished_by_the_next_one() {
    for deletes in KINDS {
        for number in 1..=requests(deletes) {
            for trouble in [Trouble::FailBefore(number), Trouble::FailAfter(number)] {
                let (model, result) = run(Model::new(story(), deletes, trouble), Mode::Apply);
                assert!(result.is_some());
                assert_eq!(model.world.borrow().hidden(), BTreeSet::new(), "{deletes:?} {trouble:?}");
                assert_pruned(&pruned(after(model)));
            }
        }
    }
}

#[test]
fn a_run_that_is_killed_twice_is_finished_all_the_same() {
    for deletes in [Deletes::ByDigest, Deletes::OwnApi] {
        for number in (1..=requests(deletes)).step_by(3) {
            for second in (1..=number).step_by(5) {
                let (model, _) = run(Model::new(story(), deletes, Trouble::Kill(number)), Mode::Apply);
                let world = World { killed: false, requests: 0, ..model.world.into_inner() };
                let (model, _) = run(Model::new(world, deletes, Trouble::Kill(second)), Mode::Apply);
                assert_pruned(&pruned(after(model)));
            }
        }
    }
}

#[test]
fn two_runs_at_once_do_no_harm() {
    for deletes in KINDS {
        for number in 1..=requests(deletes) + 10 {
            let model = Model::new(story(), deletes, Trouble::None);
            let other: Event = Box::new(move |world| {
                let requests = world.requests;
                let inner = pruned(Model::new(std::mem::take(world), deletes, Trouble::None));
                *world = World { requests, ..inner.world.into_inner() };
            });
            model.event.replace(Some((number, other)));
            let (model, result) = run(model, Mode::Apply);
            // A run that finds its own work done by the other one may say so; the next one has nothing left to do.
            if let Err(error) = result.expect("nobody killed it") {
                assert!(!error.contains("REPAIRED") && !error.contains("lost"), "{deletes:?} {number}: {error}");
            }
            assert_pruned(&pruned(after(model)));
        }
    }
}

/// Runs a whole prune with an event just before each of its requests.
fn with_event_at_every_request(deletes: Deletes, event: impl Fn() -> Event, check: impl Fn(usize, &World)) {
    for number in 1..=requests(deletes) {
        let model = Model::new(story(), deletes, Trouble::None);
        model.event.replace(Some((number, event())));
        check(number, &pruned(model).world.borrow());
    }
}

#[test]
fn a_new_version_that_is_pushed_at_any_moment_stays() {
    for deletes in KINDS {
        // It is newer than what is there, and what stayed stays: the plan was made before, or one version less stays.
        let push = || -> Event {
            Box::new(|world| {
                world.protected.remove(&"v5".parse::<Tag>().expect("a tag"));
                world.put("v7", &image(7));
                world.protected.insert("v7".parse().expect("a tag"), image(7).digest);
            })
        };
        with_event_at_every_request(deletes, push, |number, world| {
            assert_eq!(world.resolve("v7"), Some(image(7).digest), "{deletes:?} {number}");
        });
    }
}

#[test]
fn a_tag_that_is_set_on_a_dying_image_at_any_moment_stays_and_still_pulls() {
    for deletes in KINDS {
        let put = || -> Event {
            Box::new(|world| {
                world.put("release-1", &image(1));
                world.protected.insert("release-1".parse().expect("a tag"), image(1).digest);
            })
        };
        with_event_at_every_request(deletes, put, |number, world| {
            assert_eq!(world.resolve("release-1"), Some(image(1).digest), "{deletes:?} {number}");
            // The last list but one is the last look at what images have before their signatures go.
            let [.., looked, _] = world.lists[..] else { panic!("the tags are listed more than once") };
            assert!(number > looked || world.resolve(&signature(1)).is_some(), "{deletes:?} {number}");
        });
    }
}

#[test]
fn a_kept_tag_that_somebody_else_removes_is_put_back_and_named() {
    let model = Model::new(story(), Deletes::ByDigest, Trouble::None);
    let lose: Event = Box::new(|world| {
        let tag: Tag = "v5".parse().expect("a tag");
        world.protected.remove(&tag);
        world.tags.remove(&tag);
    });
    model.event.replace(Some((requests(Deletes::ByDigest) / 2, lose)));
    let (model, result) = run(model, Mode::Apply);
    assert_eq!(
        result.expect("nobody killed it").expect_err("repaired"),
        "error: REPAIRED: kept tags of registry.example/team/app were lost meanwhile and are put back: v5\n\
         hint: somebody else removed them or pushed at the same time; see that they pull, and use a grace period"
    );
    assert_eq!(model.world.borrow().resolve("v5"), Some(image(5).digest));
}
