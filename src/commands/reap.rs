//! `git-image reap`: removes the tags of branches and commits that git no longer has.
//!
//! The registry is read before git, and git again before anything goes; [`crate::decide::reap`] says why.
//! The files: `read` reads, `record` keeps the journal, `canary` proves how a tag is removed, `remove` removes,
//! `untagged` deletes what was left without a tag, and `apply` says what and looks again; they ask the outside through
//! `outside`, which `registry` and `servers` connect to the real registry and git.

mod apply;
pub mod args;
pub(super) mod canary;
pub(super) mod outside;
pub(super) mod read;
mod record;
pub(super) mod registry;
pub(super) mod remove;
mod servers;
mod untagged;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use self::args::{Format, Mode, ReapArgs};
use self::outside::{Outside, RegistrySide as _};
use self::read::Images;
use self::remove::Run;
use crate::clients::git::GitError;
use crate::clients::registry::RegistryError;
use crate::concourse::Edge;
use crate::decide::reap::artifact::RunId;
use crate::decide::reap::pulls::Pulls;
use crate::decide::reap::{self as decide, Found, Grace, MaxDelete, Plan, Refusal, Rules};
use crate::decide::tags;
use crate::error::{Error, LoginOf};
use crate::names::{BadName, Digest, GitRepository, Repository, Tag};
use crate::request::Source;
use crate::say::Say;

pub(super) use self::servers::Servers;

/// Why tags were not reaped, or not as planned.
#[derive(Debug, thiserror::Error)]
pub enum ReapError {
    /// git's answer cannot be trusted, or the plan goes too far.
    #[error("refused to reap {repository}")]
    Refused {
        /// The repository of the registry.
        repository: Repository,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// The registry deletes nothing.
    #[error("cannot remove tags from {repository}: the registry does not allow deletes")]
    DeletesDisabled {
        /// The repository of the registry.
        repository: Repository,
        /// Why the API of the product did not do it either.
        #[source]
        api: Option<Box<ReapError>>,
    },
    /// No way was found to remove a tag that leaves its siblings alone.
    #[error("cannot remove single tags from {repository}: tried on a probe, {harm}")]
    NoMethod {
        /// The repository of the registry.
        repository: Repository,
        /// What happened to the probe.
        harm: &'static str,
        /// Why the API of the product did not do it either.
        #[source]
        api: Option<Box<ReapError>>,
    },
    /// A probe could not be removed.
    #[error("cannot remove the probe {tag} from {repository}")]
    ProbeLeft {
        /// The repository of the registry.
        repository: Repository,
        /// The tag of the probe.
        tag: Tag,
    },
    /// The registry acknowledged a delete that it did not do.
    #[error("cannot remove {} from {repository}: the registry did not do it", names(tags_left))]
    NotRemoved {
        /// The repository of the registry.
        repository: Repository,
        /// The tags that are still there.
        tags_left: Vec<Tag>,
    },
    /// The removal was stopped half way.
    #[error("stopped half way in {repository}; tags removed so far: {removed}")]
    Stopped {
        /// The repository of the registry.
        repository: Repository,
        /// How many tags were removed.
        removed: usize,
        /// What stopped it.
        #[source]
        why: Box<ReapError>,
    },
    /// The registry did not delete what has no tag, or refused to.
    #[error("cannot delete {first} from {repository} by its digest{}", more(*manifests))]
    NotDeleted {
        /// The repository of the registry.
        repository: Repository,
        /// How many manifests are left.
        manifests: usize,
        /// The first of them.
        first: Digest,
        /// What the registry said; `None`: that it does not delete it, or nothing was to be seen of it.
        #[source]
        why: Option<Box<ReapError>>,
    },
    /// The deletion of images was stopped half way.
    #[error("stopped half way in {repository}; images deleted so far: {deleted}")]
    StoppedDeleting {
        /// The repository of the registry.
        repository: Repository,
        /// How many images were deleted.
        deleted: usize,
        /// What stopped it.
        #[source]
        why: Box<ReapError>,
    },
    /// Kept tags were gone after the removal, and are back.
    #[error("REPAIRED: kept tags of {repository} were lost meanwhile and are put back: {}", names(repaired))]
    Repaired {
        /// The repository of the registry.
        repository: Repository,
        /// The tags.
        repaired: Vec<Tag>,
    },
    /// A kept tag is gone, and so is its manifest.
    #[error("tag {tag} of {repository} is lost: the registry has no manifest {digest} any more")]
    Lost {
        /// The repository of the registry.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// What it pointed to.
        digest: Digest,
    },
    /// No tag of ours can have the prefix.
    #[error("cannot use `source.registry.tag_prefix`")]
    Prefix(#[source] BadName),
    /// The system has no random number.
    #[error("cannot read a random number from /dev/urandom")]
    Random(#[source] std::io::Error),
    /// Some of git's refs went each time.
    #[error("cannot read the branches of git repository {repository}: some went each time that they were read")]
    GitMoves {
        /// The git repository.
        repository: GitRepository,
    },
    /// There is no place for what git fetches.
    #[error("cannot make a directory in {}", within.display())]
    Directory {
        /// The directory for temporary files.
        within: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The plan cannot be written to stdout.
    #[error("cannot write the plan to stdout")]
    Output(#[source] std::io::Error),
    /// The page cannot be written.
    #[error("cannot write the page to {}", file.display())]
    Page {
        /// The file of `--html`.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The registry refused, or could not be reached.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// git, or the server that it spoke to, refused.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl ReapError {
    /// Whose login is to blame, if one is.
    pub fn login(&self) -> Option<LoginOf> {
        match self {
            Self::Git(error) => error.is_of_login().then_some(LoginOf::Git),
            Self::Registry(error) => error.is_of_login().then_some(LoginOf::Registry),
            Self::Stopped { why, .. } => why.login(),
            _ => None,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { refusal, .. } => refusal.hint(),
            Self::DeletesDisabled { api: Some(api), .. } | Self::NoMethod { api: Some(api), .. } => api.hint(),
            Self::DeletesDisabled { api: None, .. } => {
                Some("allow them: in distribution's registry, `storage.delete.enabled: true`".to_owned())
            }
            Self::NoMethod { api: None, .. } => Some(
                "its own API may be needed: say what it is in `source.registry.api.product`; no tag was touched"
                    .to_owned(),
            ),
            Self::ProbeLeft { .. } => Some("no other tag was touched; remove it by hand".to_owned()),
            Self::NotRemoved { .. } => Some("run it again; what is left is tried anew".to_owned()),
            Self::NotDeleted { why, .. } => why.as_ref().and_then(|why| why.hint()).or_else(|| {
                Some(
                    "no tag was touched; leave `reap.delete_untagged` out where the registry frees space by itself"
                        .to_owned(),
                )
            }),
            Self::Stopped { why, .. } | Self::StoppedDeleting { why, .. } => {
                Some(why.hint().unwrap_or_else(|| "run it again; it goes on where it stopped".to_owned()))
            }
            Self::Repaired { .. } => Some(
                "somebody else removed them or pushed at the same time; see that they pull, and use a grace period"
                    .to_owned(),
            ),
            Self::Lost { tag, .. } => Some(format!("build the image again; if {tag} is not ours, push it again")),
            Self::GitMoves { .. } => Some("run it again when nobody is deleting branches".to_owned()),
            Self::Prefix(_) | Self::Random(_) | Self::Directory { .. } | Self::Output(_) | Self::Page { .. } => None,
            Self::Registry(error) => error.hint(),
            Self::Git(error) => error.hint(),
        }
    }
}

fn more(manifests: usize) -> String {
    if manifests == 1 { String::new() } else { format!(", and {} more", manifests - 1) }
}

fn names(tags: &[Tag]) -> String {
    tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", ")
}

/// Reaps: reads registry and git, writes the plan to `output`, and with `--apply` does it.
///
/// `input` is stdin, for `--source -` and `--password-stdin`.
///
/// # Errors
///
/// See [`ReapError`]; and what [`crate::commands::StepError`] says of the image's NAME. Without `--apply` nothing was
/// changed, whatever the error.
pub async fn reap(
    args: &ReapArgs,
    input: &mut impl Read,
    output: &mut impl Write,
    edge: &Edge,
    say: &Say,
) -> Result<(), Error> {
    let source = args.source.read(input, edge, say).await?;
    let rules =
        rules(&source, args.grace(&source.reap), args.max_delete(&source.reap), args.delete_untagged(&source.reap))?;
    let servers = Servers::open(&source, &edge.programs, say).await?;
    // What is missing is told before anything is removed.
    let tasks = if args.nexus_tasks { Some(servers.registry().nexus_tasks().await?) } else { None };
    let request = Request {
        repository: servers.repository(),
        rules: &rules,
        mode: args.mode(),
        now: edge.now,
        format: args.format(),
        html: args.html.as_deref(),
    };
    plan_and_apply(&servers, &request, output, say).await?;
    if let Some(tasks) = tasks {
        tasks.run(say).await?;
    }
    Ok(())
}

/// What the reaper would do with every tag now, and the servers that it asked: for a command that only shows it.
///
/// # Errors
///
/// As [`reap`].
pub(super) async fn judge(source: &Source, edge: &Edge, say: &Say) -> Result<(Plan, Servers), Error> {
    let rules = rules(source, source.reap.grace.unwrap_or_default(), MaxDelete::Default, false)?;
    let servers = Servers::open(source, &edge.programs, say).await?;
    let (plan, ..) = read_and_decide(&servers, servers.repository(), &rules, edge.now, say).await?;
    Ok((plan, servers))
}

fn rules(source: &Source, grace: Grace, max_delete: MaxDelete, delete_untagged: bool) -> Result<Rules, ReapError> {
    tags::check_prefix(&source.registry.tag_prefix).map_err(ReapError::Prefix)?;
    Ok(Rules {
        repository: source.git.uri.repository().clone(),
        branch: source.git.branch.clone(),
        tag_prefix: source.registry.tag_prefix.clone(),
        keep: source.reap.keep.clone(),
        grace,
        max_delete,
        delete_untagged,
    })
}

struct Request<'a> {
    repository: &'a Repository,
    rules: &'a Rules,
    mode: Mode,
    now: Timestamp,
    format: Format,
    html: Option<&'a Path>,
}

async fn plan_and_apply<O: Outside>(
    outside: &O,
    request: &Request<'_>,
    output: &mut impl Write,
    say: &Say,
) -> Result<(), ReapError> {
    let Request { repository, rules, mode, now, format, html } = *request;
    let (plan, found, images) = read_and_decide(outside, repository, rules, now, say).await?;
    show(&plan, format, output)?;
    if let Some(file) = html {
        let blobs = read::blobs(outside.registry(), &plan, &images).await?;
        let written = std::fs::write(file, plan.page(&blobs));
        written.map_err(|source| ReapError::Page { file: file.to_owned(), source })?;
    }

    match mode {
        Mode::Plan => {
            canary::foretell(outside.registry(), say).await;
            Ok(())
        }
        Mode::Apply => {
            let id = random_run_id()?;
            let run = Run {
                registry: outside.registry(),
                repository,
                writer: rules.repository.as_str(),
                tag_prefix: &rules.tag_prefix,
                id: &id,
                say,
            };
            apply::apply(&apply::Reaping { outside, rules, now, run }, plan, found, images).await
        }
    }
}

async fn read_and_decide<O: Outside>(
    outside: &O,
    repository: &Repository,
    rules: &Rules,
    now: Timestamp,
    say: &Say,
) -> Result<(Plan, Found, Images), ReapError> {
    let mut images = Images::default();
    say.line(format_args!("reading the tags of {repository}"));
    let registry = read::registry(outside.registry(), repository, rules, &BTreeMap::new(), &mut images).await?;
    say.line(format_args!("reading the branches and the history of {}", rules.repository));
    let git = outside.git(&registry.question(rules), None).await?;
    let mut found = Found { registry, git };
    let plan = decide_by_labels(outside, repository, rules, now, &mut found, &mut images).await?;
    if !plan.asks_for_pulls() {
        return Ok((plan, found, images));
    }
    found.registry.pulls = outside.registry().pulls().await?;
    if let Pulls::Refused { why } = &found.registry.pulls {
        say.line(format_args!("when images were pulled is not looked at: {why}"));
    }
    let plan = decide::reap(&found, rules, now).map_err(|refusal| refused(repository, refusal))?;
    Ok((plan, found, images))
}

fn refused(repository: &Repository, refusal: Refusal) -> ReapError {
    ReapError::Refused { repository: repository.clone(), refusal }
}

/// How often more labels are read: those of images, and those of images below tombstones.
const ROUNDS: usize = 3;

/// Decides, and reads the labels that the decision asks for. What a digest says never changes, so it may be read after
/// git.
async fn decide_by_labels<O: Outside>(
    outside: &O,
    repository: &Repository,
    rules: &Rules,
    now: Timestamp,
    found: &mut Found,
    images: &mut Images,
) -> Result<Plan, ReapError> {
    let decide = |found: &Found| decide::reap(found, rules, now).map_err(|refusal| refused(repository, refusal));
    let mut plan = decide(found)?;
    for _ in 0..ROUNDS {
        if plan.unread().is_empty() {
            break;
        }
        read::labels(outside.registry(), plan.unread(), &mut found.registry, images).await?;
        let question = found.registry.question(rules);
        if !found.git.answers(&question) {
            found.git = outside.git(&question, Some(&found.git)).await?;
        }
        plan = decide(found)?;
    }
    Ok(plan)
}

fn show(plan: &Plan, format: Format, output: &mut impl Write) -> Result<(), ReapError> {
    let written = match format {
        Format::Text => writeln!(output, "{plan}"),
        Format::Json => writeln!(output, "{}", plan.json()),
    };
    match written.and_then(|()| output.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(ReapError::Output),
    }
}

/// A number for a run.
pub(super) fn random_run_id() -> Result<RunId, ReapError> {
    let mut random = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    read.map_err(ReapError::Random)?;
    Ok(RunId::new(random))
}

#[cfg(test)]
pub(super) mod tests;
