//! Why a verb could not do what it was asked for, when no server and no program is to blame.

use std::path::PathBuf;

use crate::clients::git::GitError;
use crate::clients::lfs::LfsError;
use crate::clients::registry::RegistryError;
use crate::decide::tags::{Release, TagError};
use crate::names::{
    BadName, Branch, CommitId, Digest, GitPath, GitRepository, ImageReference, InputsId, Repository, Tag,
};

/// How many paths an error names; it says how many more there are.
const NAMED: usize = 10;

/// Why a verb could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// `params.source` names nothing that is there.
    #[error("there is no artifact `{name}` in this step")]
    NoSuchArtifact {
        /// The value of the param.
        name: String,
        /// What there is.
        there: Vec<String>,
    },
    /// A path of the params leads outside of the step's directory.
    #[error("`{key}` {path:?} leads outside of the artifacts of this step")]
    Outside {
        /// The key.
        key: String,
        /// Its value.
        path: String,
    },
    /// A secret is to come from a variable that is not set.
    #[error("there is no variable {name} for `{key}` in the environment of this step")]
    NoVariable {
        /// The key of the source, with its blocks.
        key: String,
        /// The variable.
        name: String,
    },
    /// A param names something that is no directory.
    #[error("`{key}` {path:?} is no directory")]
    NoDirectory {
        /// The key.
        key: &'static str,
        /// Its value.
        path: String,
    },
    /// The files of the checkout are not those of its commit.
    #[error("the checkout `{artifact}` is not what git has at {commit}: {}", differences(changed, missing, unknown))]
    NotAsCommitted {
        /// The artifact.
        artifact: String,
        /// Its HEAD.
        commit: CommitId,
        /// Files with another content or mode.
        changed: Vec<GitPath>,
        /// Files of the commit that are not there.
        missing: Vec<GitPath>,
        /// Files that the build would read and git does not have.
        unknown: Vec<GitPath>,
    },
    /// Files of Git LFS cannot be had.
    #[error("the build reads files of git-lfs that cannot be had: {}", paths(files.iter()))]
    Lfs {
        /// The files.
        files: Vec<GitPath>,
        /// Why.
        #[source]
        source: Box<LfsError>,
    },
    /// LFS pointers lie where their content should be.
    #[error("the build would read git-lfs pointers in place of files: {}", paths(files.iter()))]
    LfsPointers {
        /// The files.
        files: Vec<GitPath>,
    },
    /// The build reads from a submodule that is not there, of a checkout whose files count as they lie.
    #[error("the build would read from a submodule that the checkout lacks: {}", paths(files.iter()))]
    Submodules {
        /// Where they lie.
        files: Vec<GitPath>,
    },
    /// A submodule has no address that git may use here.
    #[error("the submodule {path} has no usable address in .gitmodules")]
    SubmoduleAddress {
        /// Where it lies.
        path: GitPath,
        /// What is wrong with the address; `None`: there is none.
        #[source]
        source: Option<BadName>,
    },
    /// A submodule cannot be fetched.
    #[error("cannot get the submodule {path}")]
    Submodule {
        /// Where it lies.
        path: GitPath,
        /// Why.
        #[source]
        source: Box<GitError>,
    },
    /// The engine asked for a file that is not part of the inputs.
    #[error("the build reads {path}{}, which {} of the image's inputs", if *more == 0 { String::new() } else { format!(" and {more} more") }, if *more == 0 { "is no part" } else { "are no part" })]
    BeyondInputs {
        /// The first such file.
        path: GitPath,
        /// How many more there are.
        more: usize,
        /// What says which files count.
        rule: Rule,
    },
    /// The commit has no Dockerfile, so there is no version.
    #[error("{commit} has no version: there is no Dockerfile `{dockerfile}` in it")]
    NoVersion {
        /// The commit.
        commit: CommitId,
        /// Where the Dockerfile should be.
        dockerfile: GitPath,
    },
    /// The history that would tell `ref` can be had neither from the checkout nor from the remote.
    #[error("the commit that brought the present inputs of {commit} cannot be told")]
    NoHistory {
        /// HEAD of the checkout.
        commit: CommitId,
        /// Why the remote does not help.
        #[source]
        source: GitError,
    },
    /// `get` of an image that nobody has built.
    #[error("there is no image of this version yet: {repository} has no tag {tag}")]
    NotBuilt {
        /// The repository.
        repository: Repository,
        /// The missing tag.
        tag: Tag,
    },
    /// Which digest a base has cannot be told, and bases are followed.
    #[error("cannot tell which digest the base image {image} has")]
    Base {
        /// The image.
        image: ImageReference,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// A base is not there, and bases are followed.
    #[error("the base image {image} is not in its registry")]
    NoBase {
        /// The image.
        image: ImageReference,
    },
    /// The engine builds from whatever the tags of bases stand for, and bases are followed.
    #[error("the engine cannot be held to the digests of base images, which `source.build.follow_bases` needs")]
    BasesNotHeld,
    /// A get of ours wrote which bases it saw, and its file cannot be read.
    #[error("cannot read the bases that the get saw from {}", path.display())]
    BasesFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A tag that would be moved belongs to another git repository.
    #[error("tag {tag} of {repository} belongs to another git repository, {theirs}")]
    Foreign {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// What the image's label says.
        theirs: String,
        /// The git repository of this resource.
        ours: GitRepository,
    },
    /// VERSION is taken by an image of other inputs.
    #[error("{origin} {tag} is taken: {repository}:{tag} is an image of other inputs")]
    VersionTaken {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// The inputs of the image that has it, when it is labelled.
        theirs: Option<String>,
        /// The inputs of this put.
        ours: InputsId,
        /// What names the version.
        origin: VersionOrigin,
    },
    /// A version that is given for a branch of which none are released.
    #[error(
        "`params.version` releases {version}, and branch {branch} is neither the default branch nor a release branch"
    )]
    NoReleaseBranch {
        /// The version.
        version: Release,
        /// The branch.
        branch: Branch,
    },
    /// Two versions.
    #[error("`params.version` is {given}, and VERSION in `{details}` is {there}")]
    TwoVersions {
        /// The param.
        given: Release,
        /// The details file.
        details: GitPath,
        /// VERSION.
        there: Tag,
    },
    /// There is no version whose aliases could move.
    #[error("`params.bump_aliases` is set, and there is no version")]
    NothingToBump,
    /// VERSION has no aliases.
    #[error("`params.bump_aliases` is set, and VERSION has no aliases")]
    NoAliases {
        /// Why.
        #[source]
        source: BadName,
    },
    /// NAME and the repository disagree.
    #[error("NAME in `{details}` is {name}, but the repository is {repository}")]
    OtherName {
        /// The details file.
        details: GitPath,
        /// NAME.
        name: String,
        /// The repository.
        repository: Repository,
    },
    /// The repository ends in `/` and no NAME completes it.
    #[error("`source.registry.repository` ends in '/', and no NAME completes it")]
    NoName {
        /// The details file, when one is named.
        details: Option<GitPath>,
    },
    /// NAME makes no repository.
    #[error("NAME in `{details}` cannot be the last part of a repository")]
    BadRepository {
        /// The details file.
        details: GitPath,
        /// Why.
        #[source]
        source: BadName,
    },
    /// A tag of the user cannot be made.
    #[error("`{key}` gives no tag")]
    UserTag {
        /// The key with its index, or the file.
        key: String,
        /// Why.
        #[source]
        source: TagError,
    },
    /// A tag was put, and the registry answers another image for it.
    #[error("tag {tag} of {repository} does not stay where it was set")]
    TagMoved {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
    },
    /// The engine pushed an image, and the registry does not have it.
    #[error("{repository} does not have {digest}, which the engine has just pushed there")]
    ImageGone {
        /// The repository.
        repository: Repository,
        /// The digest of its manifest.
        digest: Digest,
    },
    /// The content tag vanished while further tags were set.
    #[error("{repository} lost {tag} while it was being put")]
    ContentGone {
        /// The repository.
        repository: Repository,
        /// The content tag.
        tag: Tag,
    },
    /// The branch moved again and again while its tag was decided.
    #[error("tag {tag} of {repository} could not be settled in {rounds} rounds")]
    Unsettled {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// How often it was tried.
        rounds: usize,
    },
    /// A file could not be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried, as a verb.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What names a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionOrigin {
    /// VERSION of the details file.
    Details(GitPath),
    /// `params.version`.
    Params,
}

impl std::fmt::Display for VersionOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Details(_) => "VERSION",
            Self::Params => "`params.version`",
        })
    }
}

/// What says which files count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `source.build.paths`.
    Paths,
    /// The Dockerfile, less `source.build.ignore_paths`.
    IgnorePaths,
    /// The Dockerfile.
    Dockerfile,
}

impl StepError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSuchArtifact { name, there } => {
                let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
                format!(
                    "there is {there}. Concourse brings the artifacts that `inputs` of the put names, or without it those whose name begins a param; a get must have run before under the name `{name}`"
                )
            }
            Self::NoDirectory { .. } => "the task that makes it must have it in its `outputs`; write it as ARTIFACT/DIRECTORY".to_owned(),
            Self::Outside { .. } => "write it as ARTIFACT or ARTIFACT/PATH".to_owned(),
            Self::NoVariable { .. } => {
                "Concourse sets only BUILD_… and what the image of the resource type sets; give the secret by `value: ((name))`, or by `file`".to_owned()
            }
            Self::NotAsCommitted { unknown, changed, missing, .. } if changed.is_empty() && missing.is_empty() && !unknown.is_empty() => {
                "they were made by an earlier task, or git ignores them: commit them, exclude them in .dockerignore, or set `source.only_built: true` so that their content counts".to_owned()
            }
            Self::NotAsCommitted { .. } => {
                "commit the change, or set `source.only_built: true`: then the content of the files as they lie is what the version stands for".to_owned()
            }
            Self::Lfs { source, .. } => return source.hint(),
            Self::LfsPointers { .. } => {
                "get the repository with git-lfs (not `disable_git_lfs: true`) and name that artifact in `params.source`".to_owned()
            }
            Self::Submodules { .. } => {
                "get the repository with its submodules, or exclude them in .dockerignore".to_owned()
            }
            Self::SubmoduleAddress { .. } => {
                "commit an http(s) or ssh address for it, or get the repository with its submodules and name that artifact in `params.source`".to_owned()
            }
            Self::Submodule { source, .. } => match source.as_ref() {
                GitError::Refused { .. } | GitError::NoRepository { .. } | GitError::Key { .. } => {
                    "say who asks in `source.git.submodule_credentials` (host, username and password; or url and private_key), or exclude it in .dockerignore".to_owned()
                }
                error => return error.hint(),
            },
            Self::BeyondInputs { rule, .. } => match rule {
                Rule::Paths => "add it to `source.build.paths`, so that a change of it is a new image, or exclude it in .dockerignore",
                Rule::IgnorePaths => {
                    "`ignore_paths` only says what does not count: exclude it in .dockerignore instead, so that no build reads it, or let it count"
                }
                Rule::Dockerfile => {
                    "an ONBUILD or ENV of the base image may lead there, which git cannot tell: list everything that the build reads in `source.build.paths`, this too, or exclude it in .dockerignore"
                }
            }
            .to_owned(),
            Self::NoVersion { .. } => "say where it is with `source.build.dockerfile` or `source.build.context`".to_owned(),
            Self::NoHistory { .. } => {
                "get the repository without `depth`, or let `source.git` name the repository that the checkout comes from".to_owned()
            }
            Self::NotBuilt { .. } => {
                "the put of this resource makes it. A job that does not build it needs `passed` on this get, naming the job that does, or `source.only_built: true` on a resource that only uses the image".to_owned()
            }
            Self::Base { source, .. } => return source.hint(),
            Self::NoBase { .. } => {
                "see that the Dockerfile names an image that exists; for a registry that shows images only to whom it knows, give `source.registries`".to_owned()
            }
            Self::BasesNotHeld => {
                "take BuildKit 0.11 or later, or Docker 23 or later, or write the digests into the Dockerfile, or leave `follow_bases` out".to_owned()
            }
            Self::BasesFile { .. } => "leave the files of a get as they are".to_owned(),
            Self::Foreign { ours, .. } => {
                format!("this resource is {ours}; give each of the two repositories its own `source.registry.tag_prefix`")
            }
            Self::VersionTaken { origin, theirs, ours, .. } => {
                let theirs = theirs.as_deref().unwrap_or("not labelled");
                let change = match origin {
                    VersionOrigin::Details(details) => format!("change VERSION in `{details}`"),
                    VersionOrigin::Params => "give another `params.version`".to_owned(),
                };
                format!("a version is never moved: {change} (its inputs: {theirs}; yours: {ours})")
            }
            Self::NoReleaseBranch { .. } => {
                "leave `version` out for this branch, or name the branch in `source.release_branches`".to_owned()
            }
            Self::TwoVersions { .. } => "give one of the two".to_owned(),
            Self::NothingToBump => {
                "give `params.version`, or VERSION in the file that `source.build.details` names".to_owned()
            }
            Self::NoAliases { .. } => "aliases are X.Y, X and latest of a version X.Y.Z".to_owned(),
            Self::OtherName { .. } => {
                "make them agree, or let `source.registry.repository` end in '/' so that NAME is its last part".to_owned()
            }
            Self::NoName { details: Some(details) } => format!("write NAME=… into `{details}`, or give the whole repository"),
            Self::NoName { details: None } => {
                "name a file with NAME=… in `source.build.details`, or give the whole repository".to_owned()
            }
            Self::BadRepository { .. } => "a name has lower-case letters, digits and . _ - between them".to_owned(),
            Self::UserTag { source, .. } => return source.hint(),
            Self::TagMoved { .. } => "something else writes the same tag; find it, then run the step again".to_owned(),
            Self::ImageGone { .. } => {
                "the engine may reach another registry under this name than git-image does, or something removes untagged images at once; look at both".to_owned()
            }
            Self::ContentGone { .. } => "something removes images while they are put; run the step again".to_owned(),
            Self::Unsettled { .. } => "the branch is pushed to faster than its tag can follow; run the step again".to_owned(),
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => "free space on the worker".to_owned(),
            Self::File { .. } => return None,
        })
    }
}

fn differences(changed: &[GitPath], missing: &[GitPath], unknown: &[GitPath]) -> String {
    let kinds = [("changed", changed), ("missing", missing), ("not in git", unknown)];
    let shown: Vec<String> = kinds
        .into_iter()
        .filter(|(_, files)| !files.is_empty())
        .map(|(kind, files)| format!("{kind}: {}", paths(files.iter())))
        .collect();
    shown.join("; ")
}

fn paths<'a>(paths: impl Iterator<Item = &'a GitPath>) -> String {
    let all: Vec<String> = paths.map(ToString::to_string).collect();
    match all.len().checked_sub(NAMED) {
        None | Some(0) => all.join(", "),
        Some(more) => format!("{} and {more} more", all[..NAMED].join(", ")),
    }
}
