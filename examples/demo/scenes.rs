//! What happens in the demo, in order. Every scene checks what it says.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::project::{GREET, IMAGE, Project, content_tag, digest, dockerfile, greet, only, registry, tags, text};
use crate::story::Story;
use crate::support::git::file;
use crate::support::server::run;

/// The branch of the story, and its tag.
const BRANCH: &str = "feat/foo";
const BRANCH_LATEST: &str = "feat-foo-d8e70cfd-latest";

/// Says what is about to be seen.
pub fn opening(story: &mut Story) {
    story.tell(
        "git-image is a Concourse resource type for one container image whose Dockerfile lies in a git repository.\n\
         This demo starts a git server, a registry and a Docker engine of its own, and runs the resource's programs\n\
         as Concourse would run them: JSON on stdin, JSON on stdout, a log on stderr.\n\
         After each step it checks what it claims; if a claim does not hold, it ends with exit code 1.",
    );
}

/// The first image, with what its put took.
pub struct FirstImage {
    /// Its version.
    pub version: Value,
    /// How long the put that built it ran.
    took: Duration,
}

/// The first image: found, built, fetched, used.
pub fn first_image(story: &mut Story, project: &Project) -> FirstImage {
    story.chapter("A repository with an application and its image");
    story.tell(&format!("git server: {}\nregistry:   {}\n", project.git.uri(), registry().repository(IMAGE)));
    story.show("ci/image/Dockerfile (the base is Debian's busybox)", &dockerfile());
    story.show(GREET, &greet("the first image"));
    story.show("app/main.sh (the application; no part of the image)", "greet");

    let ran = project.check(
        story,
        "check reads from git alone which version of the image there is; nothing is built yet",
        "master",
        None,
    );
    let version = only(&ran);
    let commit = project.git.id("master");
    story.check_that(
        "one version: `ref` is the commit that brought the image's files, `inputs` a digest of these files",
        text(&version, "ref") == commit && text(&version, "inputs").len() == 64,
    );

    let artifacts = project.checkout("master");
    let ran =
        project.put(story, "put builds the image, because the registry does not have it yet", "master", &artifacts);
    let mut expected = vec![content_tag(&version), commit, "master-latest".to_owned()];
    expected.sort();
    let built = digest("master-latest");
    story.check_that(
        "put answers the version that check announced; the image has three tags: inputs-…, the commit, master-latest",
        ran.succeeds()["version"] == version
            && tags() == expected
            && built.is_some()
            && expected.iter().all(|tag| digest(tag) == built),
    );

    let directory =
        project.get(story, "get fetches the image, so that a task can run in it (`image:` of the task)", &version);
    story.show("files that it wrote", &list(&directory));
    story.check_that(
        "greet, run inside rootfs/ by chroot, prints \"Hello from the first image.\"",
        directory.join("metadata.json").is_file() && greeting(&directory) == "Hello from the first image.",
    );
    FirstImage { version, took: ran.elapsed }
}

/// A commit that does not touch the image.
pub fn application_commit(story: &mut Story, project: &Project, first: &FirstImage) {
    let FirstImage { version, took } = first;
    story.chapter("A commit that touches only the application");
    project.git.commit_with_message("master", "Greet twice", &[file("app/main.sh", "greet\ngreet\n")]);
    story.tell("Somebody changed app/main.sh. No file of the image changed.");

    let ran = project.check(
        story,
        "check announces nothing new, so no job that waits for an image is triggered",
        "master",
        Some(version),
    );
    story.check_that("the only version is the one that Concourse already has", only(&ran) == *version);

    let before = tags();
    let artifacts = project.checkout("master");
    let ran = project.put(
        story,
        "put finds the image and builds nothing, so a job can afford it for every commit",
        "master",
        &artifacts,
    );
    // Compared with the build, not with a number of seconds: the machine may be slow.
    story.check_that(
        &format!(
            "the version that Concourse already has, no new tag, in {:.2} s; the build above took {:.2} s",
            ran.elapsed.as_secs_f64(),
            took.as_secs_f64()
        ),
        ran.succeeds()["version"] == *version
            && tags() == before
            && ran.stderr.contains("nothing to build")
            && ran.elapsed < *took,
    );
}

/// A branch, first without a change of the image, then with one. Returns the branch's version.
pub fn branch(story: &mut Story, project: &Project, master: &Value) -> Value {
    story.chapter("A feature branch");
    project.git.set(BRANCH, "master");
    story.tell("feat/foo begins at master. A pipeline for the branch has the same resource, with `branch: feat/foo`.");

    let before = tags();
    let artifacts = project.checkout(BRANCH);
    let headline = "put on the new branch takes master's image, and only adds the branch's own tag";
    let ran = project.put(story, headline, BRANCH, &artifacts);
    let added: Vec<_> = tags().into_iter().filter(|tag| !before.contains(tag)).collect();
    story.check_that(
        &format!("nothing was built; the only new tag is {BRANCH_LATEST}, on the digest of master-latest"),
        ran.succeeds()["version"] == *master
            && ran.stderr.contains("nothing to build")
            && added == [BRANCH_LATEST]
            && digest(BRANCH_LATEST) == digest("master-latest"),
    );

    let changed = format!("{}RUN echo feat/foo > /etc/made-for\n", dockerfile());
    project.git.commit_with_message(BRANCH, "Say what the image is made for", &[file("ci/image/Dockerfile", &changed)]);
    story.tell("\nA commit on feat/foo adds a RUN to the Dockerfile.");
    let ran = project.check(
        story,
        "check sees a new version of the branch's image, because the Dockerfile changed",
        BRANCH,
        Some(master),
    );
    let versions = ran.succeeds();
    let version = versions.as_array().and_then(|versions| versions.last()).expect("there is a version").clone();
    story.check_that(
        "the newest version is the branch's commit, with other inputs than master's",
        text(&version, "ref") == project.git.id(BRANCH) && version["inputs"] != master["inputs"],
    );

    let artifacts = project.checkout(BRANCH);
    let before = digest("master-latest");
    let ran = project.put(story, "put builds it for the branch, and leaves master's tags alone", BRANCH, &artifacts);
    story.check_that(
        &format!("{BRANCH_LATEST} now has an image of its own; master-latest has not moved"),
        ran.succeeds()["version"] == version
            && digest(BRANCH_LATEST) == digest(&content_tag(&version))
            && digest(BRANCH_LATEST) != before
            && digest("master-latest") == before,
    );
    version
}

/// Two builds that end in the wrong order. Returns the newer version.
pub fn late_build(story: &mut Story, project: &Project) -> Value {
    story.chapter("An older build that finishes late");
    project.git.commit_with_message("master", "Second image", &[file(GREET, &greet("the second image"))]);
    let late = project.checkout("master");
    project.git.commit_with_message("master", "Third image", &[file(GREET, &greet("the third image"))]);
    let newest = project.checkout("master");
    story.tell(
        "Two commits on master change the image, and each has a build. The build of the newer commit is the quicker one.",
    );

    let ran = project.put(story, "the build of the newer commit puts first, and sets master-latest", "master", &newest);
    let newer = ran.succeeds()["version"].clone();
    let latest = digest("master-latest");
    story.check_that("master-latest is the newer commit's image", latest == digest(&content_tag(&newer)));

    let headline = "the build of the older commit puts later: its image is kept, but master-latest does not go back";
    let ran = project.put(story, headline, "master", &late);
    let older = ran.succeeds()["version"].clone();
    story.check_that(
        "the older image has its own tags, master-latest stays on the newer one, and the log says why",
        older != newer
            && digest(text(&older, "ref")).is_some()
            && digest("master-latest") == latest
            && ran.stderr.contains("tag: master-latest left: the branch has a newer image"),
    );
    newer
}

/// The branch goes, and with it what was only the branch's.
pub fn branch_deleted(story: &mut Story, project: &Project, branch: &Value) {
    story.chapter("The branch is deleted");
    project.git.delete(BRANCH);
    story.tell("feat/foo is gone from git. Its tags are still in the registry.");

    let gone = [content_tag(branch), text(branch, "ref").to_owned(), BRANCH_LATEST.to_owned()];
    let before = tags();
    let ran = project.reap(
        story,
        "git-image reap shows what would go and why the rest stays, and changes nothing",
        &["--grace", "0s"],
    );
    let planned = |tag: &String| ran.stdout.lines().any(|line| line.starts_with(&format!("REMOVE   {tag} ")));
    story.check_that(
        "the plan removes the three tags that only feat/foo needed; nothing was changed yet",
        gone.iter().all(planned) && count(&ran.stdout, "REMOVE") == gone.len() && tags() == before,
    );

    story.tell(
        "\nA registry deletes images, not single tags. To remove a tag and nothing else, reap points it to an empty\n\
         manifest of its own, a tombstone, and deletes that. First it proves on two probes that this harms no other tag.",
    );
    let headline = "git-image reap --apply does what the plan says, and verifies what it kept";
    project.reap(story, headline, &["--grace", "0s", "--apply"]);
    let kept: Vec<_> = before.into_iter().filter(|tag| !gone.contains(tag)).collect();
    story.check_that("exactly these three tags are gone, all others are there", tags() == kept);
}

/// The image of master is whole after the reaper ran.
pub fn still_pulls(story: &mut Story, project: &Project, newest: &Value) {
    story.chapter("The image of master still pulls");
    let directory = project.get(
        story,
        "get fetches master's newest image again: removing the branch's tags did not harm it",
        newest,
    );
    story.check_that(
        "greet prints \"Hello from the third image.\"",
        greeting(&directory) == "Hello from the third image.",
    );
    let reference = format!("{}:master-latest", registry().repository(IMAGE));
    let copy = project.directory();
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"])
        .arg(format!("docker://{reference}"))
        .arg(format!("dir:{}", copy.display())));
    story.check_that(
        &format!("another client can pull it too: skopeo copy docker://{reference}"),
        copy.join("manifest.json").is_file(),
    );
}

/// Every tag that is left, and why.
pub fn what_is_left(story: &mut Story, project: &Project) {
    story.chapter("What is in the registry now, and why");
    let plan = project.plan();
    let rows: Vec<[String; 3]> = plan
        .lines()
        .filter_map(|line| line.strip_prefix("KEEP     "))
        .filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            Some([words.next()?.to_owned(), words.next()?.to_owned(), words.next()?.to_owned()])
        })
        .collect();
    story.show(&registry().repository(IMAGE), &table(&rows));
    let listed: Vec<_> = rows.into_iter().map(|[tag, _, _]| tag).collect();
    story.check_that("these are all tags of the repository, and the reaper keeps each of them", listed == tags());
}

/// The rows under a heading, with content and commit tags shortened.
fn table(rows: &[[String; 3]]) -> String {
    let short = |tag: &str| match tag.strip_prefix("inputs-") {
        Some(inputs) => format!("inputs-{}…", &inputs[..12]),
        None if tag.len() == 40 => format!("{}…", &tag[..12]),
        None => tag.to_owned(),
    };
    let meaning = |tag: &str| match tag {
        tag if tag.starts_with("inputs-") => "the image of these inputs",
        tag if tag.ends_with("-latest") => "the newest image of the branch",
        _ => "the image of this commit",
    };
    let row =
        |tag: &str, digest: &str, meaning: &str, why: &str| format!("{tag:<21} {digest:<20} {meaning:<31} {why}\n");
    let mut table = row("TAG", "DIGEST", "MEANING", "KEPT BECAUSE");
    for [tag, digest, why] in rows {
        table += &row(&short(tag), digest, meaning(tag), why);
    }
    table
}

fn count(plan: &str, verdict: &str) -> usize {
    plan.lines().filter(|line| line.starts_with(verdict)).count()
}

/// What the program of an image prints, run in its root.
fn greeting(directory: &Path) -> String {
    run(Command::new("chroot").arg(directory.join("rootfs")).arg("/usr/local/bin/greet"))
}

/// The names in a directory.
fn list(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).expect("the directory can be read").flatten();
    let mut names: Vec<_> = entries
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    names.join("  ")
}
