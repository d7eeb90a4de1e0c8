//! A registry and a git repository in memory, which are stopped, fail, or meet somebody else at every request.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::Timestamp;

use crate::clients::registry::{Deleted, Descriptor, Manifest, PullTimes};
use crate::commands::reap::ReapError;
use crate::commands::reap::outside::{Outside, RegistrySide};
use crate::decide::reap::artifact::{self, Artifact, JournalNote, Kind};
use crate::decide::reap::pulls::Pulls;
use crate::decide::reap::{GitFacts, History, Labels, Lines, Question};
use crate::names::{Branch, CommitId, Digest, Tag};
use crate::request::Product;

/// What a registry makes of DELETE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// distribution 2.8: by digest only.
    ByDigest,
    /// distribution 3, Zot, Gitea: by tag takes that tag away.
    ByTag,
    /// GitHub and others: by tag deletes the manifest, and all its tags with it.
    TagMeansManifest,
    /// Nexus: by tag answers 404 for a tag that exists.
    TagIsNotFound,
    /// Says 202 to a tag and does nothing.
    TagIsIgnored,
    /// By digest leaves the tags, which then dangle.
    TagsStay,
    /// Harbor: the API of the product alone takes a tag away, and only from the digest that is named.
    OwnApi,
    /// `storage.delete.enabled: false`.
    Disabled,
}

/// What happens at one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// The reaper is killed before this request is sent.
    Kill(usize),
    /// This request fails and has no effect.
    FailBefore(usize),
    /// This request has its effect, and its answer is lost.
    FailAfter(usize),
}

pub type Event = Box<dyn FnOnce(&mut World)>;

#[derive(Default)]
pub struct World {
    pub manifests: BTreeMap<Digest, Manifest>,
    pub labels: BTreeMap<Digest, Labels>,
    pub notes: BTreeMap<Digest, Bytes>,
    pub children: BTreeMap<Digest, Vec<Descriptor>>,
    pub tags: BTreeMap<Tag, Digest>,
    pub branches: BTreeMap<Branch, CommitId>,
    /// When images were pulled, on a registry that tells it and counts every GET of a manifest.
    pub pulled: Option<PullTimes>,
    /// What must never be lost, not even for one request.
    pub protected: BTreeMap<Tag, Digest>,
    pub pulls: i64,
    pub requests: usize,
    pub writes: usize,
    /// Whether images may be deleted by their digest.
    pub may_delete_images: bool,
    /// The images that were, and by which request.
    pub deleted: Vec<(usize, Digest)>,
    /// The images that the registry does not delete, and what it says.
    pub spared: BTreeMap<Digest, Deleted>,
    /// What refers to a manifest; `None`: the registry does not tell.
    pub referrers: Option<BTreeMap<Digest, Vec<Descriptor>>>,
    /// The requests that listed the tags.
    pub lists: Vec<usize>,
    pub killed: bool,
}

pub struct Model {
    pub world: RefCell<World>,
    pub deletes: Deletes,
    pub trouble: Trouble,
    pub event: RefCell<Option<(usize, Event)>>,
}

impl World {
    pub fn put(&mut self, tag: &str, manifest: &Manifest) {
        self.manifests.insert(manifest.digest, manifest.clone());
        self.tags.insert(tag.parse().expect("a tag"), manifest.digest);
    }

    /// Somebody pulls an image.
    pub fn pull(&mut self, digest: &Digest) {
        if let Some(pulled) = &mut self.pulled {
            self.pulls += 1;
            pulled.images.insert(*digest, Timestamp::from_second(self.pulls).expect("few"));
        }
    }

    fn delete(&mut self, digest: &Digest, deletes: Deletes) -> Deleted {
        let Some(manifest) = self.manifests.remove(digest) else { return Deleted::WasNotThere };
        if artifact::kind(&manifest) == Kind::Other {
            assert!(self.may_delete_images, "an image was deleted by its digest");
            if let Some(answer) = self.spared.get(digest) {
                self.manifests.insert(*digest, manifest);
                return *answer;
            }
            self.deleted.push((self.requests, *digest));
        }
        if !matches!(deletes, Deletes::TagsStay | Deletes::OwnApi) {
            self.tags.retain(|_, other| other != digest);
        }
        Deleted::Gone
    }

    pub fn resolve(&self, tag: &str) -> Option<Digest> {
        let digest = self.tags.get(&tag.parse::<Tag>().expect("a tag"))?;
        self.manifests.contains_key(digest).then_some(*digest)
    }

    fn check(&self) {
        for (tag, digest) in &self.protected {
            assert_eq!(self.resolve(tag.as_str()), Some(*digest), "{tag} was lost at request {}", self.requests);
        }
    }

    /// The tags that point to an artifact of the reaper, probes left out.
    pub fn hidden(&self) -> BTreeSet<&Tag> {
        let artifact = |digest| artifact::kind(&self.manifests[digest]) != Kind::Other;
        let hidden = self.tags.iter().filter(|(tag, digest)| !tag.as_str().starts_with("_reaper") && artifact(digest));
        hidden.map(|(tag, _)| tag).collect()
    }

    /// Every tag but the journal's; fails when one of them does not point to an image.
    pub fn tags(&self) -> BTreeSet<String> {
        let images = self.tags.iter().filter(|(tag, _)| !tag.as_str().starts_with("_reaper-journal-"));
        let each = images.map(|(tag, digest)| {
            let manifest = self.manifests.get(digest).unwrap_or_else(|| panic!("{tag} dangles"));
            assert_eq!(artifact::kind(manifest), Kind::Other, "{tag} points to an artifact of the reaper");
            tag.to_string()
        });
        each.collect()
    }

    /// The journal, if there is one.
    pub fn journal(&self) -> Option<JournalNote> {
        let (_, digest) = self.tags.iter().find(|(tag, _)| tag.as_str().starts_with("_reaper-journal-"))?;
        let Kind::Journal(config) = artifact::kind(&self.manifests[digest]) else { return None };
        Some(serde_json::from_slice(&self.notes[&config.digest]).expect("a journal is JSON"))
    }
}

impl Model {
    pub fn new(world: World, deletes: Deletes, trouble: Trouble) -> Self {
        Self { world: RefCell::new(world), deletes, trouble, event: RefCell::new(None) }
    }

    /// One request: what happens at it, then its effect.
    pub async fn request<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, ReapError> {
        let number = {
            let mut world = self.world.borrow_mut();
            world.requests += 1;
            let number = world.requests;
            if self.event.borrow().as_ref().is_some_and(|(at, _)| *at == number)
                && let Some((_, event)) = self.event.take()
            {
                event(&mut world);
            }
            world.killed |= self.trouble == Trouble::Kill(number);
            number
        };
        if self.trouble == Trouble::Kill(number) {
            std::future::pending::<()>().await;
        }
        if self.trouble == Trouble::FailBefore(number) {
            return Err(broken());
        }
        let mut world = self.world.borrow_mut();
        let answer = effect(&mut world);
        world.check();
        if self.trouble == Trouble::FailAfter(number) { Err(broken()) } else { Ok(answer) }
    }

    async fn write<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, ReapError> {
        self.world.borrow_mut().writes += 1;
        self.request(effect).await
    }
}

fn broken() -> ReapError {
    ReapError::Output(std::io::Error::other("the connection broke"))
}

impl RegistrySide for Model {
    async fn tags(&self) -> Result<Vec<String>, ReapError> {
        self.request(|world| {
            world.lists.push(world.requests);
            world.tags.keys().map(Tag::to_string).collect()
        })
        .await
    }

    async fn describe(&self, tag: &Tag) -> Result<Option<Descriptor>, ReapError> {
        let describe = |world: &mut World| {
            let digest = world.resolve(tag.as_str())?;
            let Manifest { media_type, bytes, .. } = &world.manifests[&digest];
            let (media_type, size) = (media_type.clone(), bytes.len() as u64);
            Some(Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new() })
        };
        self.request(describe).await
    }

    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, ReapError> {
        self.request(|world| {
            world.pull(digest);
            world.manifests.get(digest).cloned()
        })
        .await
    }

    async fn labels(&self, manifest: &Manifest) -> Result<Labels, String> {
        let labels = self.request(|world| world.labels.get(&manifest.digest).cloned()).await;
        Ok(labels.map_err(|error| error.to_string())?.unwrap_or_default())
    }

    fn children(&self, manifest: &Manifest) -> Vec<Descriptor> {
        self.world.borrow().children.get(&manifest.digest).cloned().unwrap_or_default()
    }

    async fn blobs(&self, manifest: &Manifest) -> Result<Vec<(Digest, u64)>, ReapError> {
        Ok(vec![(manifest.digest, manifest.bytes.len() as u64)])
    }

    async fn note(&self, config: &Descriptor) -> Result<Bytes, ReapError> {
        let bytes = self.request(|world| world.notes.get(&config.digest).cloned()).await?;
        Ok(bytes.expect("a note is pushed before its manifest"))
    }

    async fn push_note(&self, artifact: &Artifact) -> Result<(), ReapError> {
        let config = artifact.config.clone();
        self.write(|world| world.notes.insert(Digest::of(&config), config)).await.map(drop)
    }

    async fn put_once(&self, tag: &Tag, manifest: &Manifest) -> Result<(), ReapError> {
        self.put(tag, manifest).await
    }

    async fn put(&self, tag: &Tag, manifest: &Manifest) -> Result<(), ReapError> {
        self.write(|world| world.put(tag.as_str(), manifest)).await
    }

    async fn put_by_digest(&self, manifest: &Manifest) -> Result<(), ReapError> {
        self.write(|world| world.manifests.insert(manifest.digest, manifest.clone())).await.map(drop)
    }

    async fn lists_referrers(&self) -> Result<bool, ReapError> {
        self.request(|world| world.referrers.is_some()).await
    }

    async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, ReapError> {
        let of = |world: &mut World| world.referrers.as_ref().and_then(|all| all.get(digest).cloned());
        Ok(self.request(of).await?.unwrap_or_default())
    }

    async fn delete(&self, digest: &Digest) -> Result<Deleted, ReapError> {
        let deletes = self.deletes;
        self.write(|world| match deletes {
            Deletes::Disabled => Deleted::NotAllowed,
            _ => world.delete(digest, deletes),
        })
        .await
    }

    async fn product(&self) -> Result<Option<Product>, ReapError> {
        match self.deletes {
            Deletes::OwnApi => self.request(|_| Some(Product::Harbor)).await,
            _ => Ok(None),
        }
    }

    async fn pulls(&self) -> Result<Pulls, ReapError> {
        let tells = self.world.borrow().pulled.is_some();
        if !tells {
            return Ok(Pulls::NotTold);
        }
        self.request(|world| Pulls::Told(world.pulled.clone().unwrap_or_default())).await
    }

    async fn untag(&self, tag: &Tag, digest: &Digest) -> Result<Deleted, ReapError> {
        self.write(|world| {
            if world.tags.get(tag) != Some(digest) {
                return Deleted::WasNotThere;
            }
            world.tags.remove(tag);
            Deleted::Gone
        })
        .await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<Deleted, ReapError> {
        let deletes = self.deletes;
        self.write(|world| match deletes {
            Deletes::ByDigest | Deletes::TagsStay | Deletes::OwnApi | Deletes::Disabled => Deleted::NotAllowed,
            Deletes::TagIsNotFound => Deleted::WasNotThere,
            Deletes::TagIsIgnored => Deleted::Gone,
            Deletes::ByTag => world.tags.remove(tag).map_or(Deleted::WasNotThere, |_| Deleted::Gone),
            Deletes::TagMeansManifest => match world.tags.get(tag).copied() {
                Some(digest) => world.delete(&digest, deletes),
                None => Deleted::WasNotThere,
            },
        })
        .await
    }
}

impl Outside for Model {
    type Registry = Self;

    fn registry(&self) -> &Self {
        self
    }

    async fn git(&self, question: &Question, _known: Option<&GitFacts>) -> Result<GitFacts, ReapError> {
        self.request(|world| GitFacts {
            default_branch: Some("master".parse().expect("a good branch")),
            branches: world.branches.clone(),
            others: BTreeSet::new(),
            tags: BTreeMap::new(),
            history: History::Complete,
            lines: Lines::default(),
            asked: question.clone(),
            reachable: question
                .commits
                .iter()
                .filter(|commit| world.branches.values().any(|tip| tip == *commit))
                .copied()
                .collect(),
        })
        .await
    }
}
