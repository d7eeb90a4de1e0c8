//! What Concourse shows of a version: the metadata of get and put.

use crate::clients::git::CommitFacts;
use crate::clients::registry::Image;
use crate::concourse::{Metadata, Version};
use crate::names::{Branch, Repository, Tag};
use crate::say::size;

/// The metadata of a version, line by line in the order in which it is shown.
#[derive(Default)]
pub struct Facts(Vec<Metadata>);

impl Facts {
    /// Starts with the version and its commit. Without `commit` git could not be asked.
    pub fn new(version: &Version, branch: Option<&Branch>, commit: Option<&CommitFacts>) -> Self {
        let mut facts = Self::default();
        facts.add("commit", version.commit);
        if let Some(commit) = commit {
            facts.add("author", format_args!("{} <{}>", commit.author_name, commit.author_email));
            facts.add("date", commit.commit_date);
            facts.add("message", &commit.message);
        }
        if let Some(branch) = branch {
            facts.add("branch", branch);
        }
        facts
    }

    /// Adds one line.
    pub fn add(&mut self, name: &str, value: impl ToString) {
        self.0.push(Metadata { name: name.to_owned(), value: value.to_string() });
    }

    /// Adds what the registry says of the image.
    pub fn add_image(&mut self, repository: &Repository, tag: &Tag, image: &Image) {
        self.add("image", format_args!("{repository}:{tag}"));
        self.add("digest", image.manifest.digest);
        self.add("size", size(image.size()));
        if let Some(base) = image.label(labels::BASE_NAME) {
            match image.label(labels::BASE_DIGEST) {
                Some(digest) if !base.contains('@') => self.add("base image", format_args!("{base}@{digest}")),
                _ => self.add("base image", base),
            }
        }
    }

    /// Adds the tags that point to the image.
    pub fn add_tags(&mut self, tags: &[Tag]) {
        self.add("tags", tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", "));
    }

    /// All lines.
    pub fn into_metadata(self) -> Vec<Metadata> {
        self.0
    }
}

/// The labels that put writes. Those of `org.opencontainers.image` are the OCI image-spec's annotations.
pub mod labels {
    /// The inputs of the image.
    pub const INPUTS: &str = "git-image.inputs";
    /// What they would be without `build.epoch`, where that is something else.
    pub const INPUTS_BUT_EPOCH: &str = "git-image.inputs-but-epoch";
    /// The bases that it is built on, when they are followed: the digest that a version has.
    pub const BASES: &str = "git-image.bases";
    /// The same as references with digests.
    pub const BASE_IMAGES: &str = "git-image.base-images";
    /// The commit that brought the inputs; the reaper keeps the image while it is reachable.
    pub const COMMIT: &str = "git-image.commit";
    /// The canonical name of the git repository: whose image it is.
    pub const REPOSITORY: &str = "git-image.repository";
    /// When the commit was made.
    pub const CREATED: &str = "org.opencontainers.image.created";
    /// The commit.
    pub const REVISION: &str = "org.opencontainers.image.revision";
    /// Where the source is.
    pub const SOURCE: &str = "org.opencontainers.image.source";
    /// Where to read about the image.
    pub const URL: &str = "org.opencontainers.image.url";
    /// VERSION, for everybody. A Dockerfile may set another one, and an image without VERSION has that of its base.
    pub const VERSION: &str = "org.opencontainers.image.version";
    /// VERSION, for us.
    pub const OUR_VERSION: &str = "git-image.version";
    /// NAME, or the last part of the repository.
    pub const TITLE: &str = "org.opencontainers.image.title";
    /// The branch that it was first built for.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// The image that it is built on, as the Dockerfile names it.
    pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
    /// What that name stood for when the image was built.
    pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
}

/// When and for whom an image was first built, from its labels.
pub fn first_build(image: &Image) -> String {
    let commit = image.label(labels::COMMIT).map_or("an unknown commit", |commit| commit.get(..7).unwrap_or(commit));
    let branch = image.label(labels::REF_NAME).unwrap_or("unknown");
    // An image that a task made need not say when.
    let time = image.config.created.as_deref().and_then(|time| time.get(..16)).map(|time| time.replace('T', " "));
    format!("from {commit} of branch {branch}{}", time.map(|time| format!(" at {time}")).unwrap_or_default())
}
