//! Which versions a branch has, and which of them check answers.
//!
//! A version lies where the inputs changed on the first-parent line of the branch. The functions here are asked again
//! and again: each time they name the one thing that they lack, until they have an answer.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;

use crate::concourse::Version;
use crate::decide::inputs::Selector;
use crate::names::{BasesId, CommitId, GitPath, InputsId};
use crate::request::{Announce, CiSkip};

/// The first parent of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// This commit.
    Commit(CommitId),
    /// It has none: the first commit of a history.
    Root,
    /// Not known: the commit lies at the boundary of what was fetched.
    Unknown,
}

/// A commit of the first-parent line of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineCommit {
    /// The commit.
    pub id: CommitId,
    /// Its first parent.
    pub parent: Parent,
    /// The paths that differ from the first parent; every path for a root; empty when the parent is unknown.
    pub changed: Vec<GitPath>,
    /// Whether its message has `[ci skip]` or `[skip ci]`.
    pub ci_skip: bool,
    /// Whether `source.git.commit_filter` leaves it out, by its message.
    pub is_filtered: bool,
}

/// What is known of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// An image can be made of it.
    Image {
        /// The digest of everything that it is made of.
        inputs: InputsId,
        /// Which paths decide that.
        selector: Box<Selector>,
    },
    /// There is no Dockerfile, or none that can be used.
    NoDockerfile,
}

/// An answer, or the one thing that must be known before there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<T> {
    /// The answer.
    Done(T),
    /// The state of this commit.
    State(CommitId),
    /// Whether there is an image of this version.
    Built(Version),
    /// More commits of the line.
    Deeper,
}

/// Whether there is an image of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Built {
    /// There is none.
    No,
    /// There is one.
    Yes {
        /// What it is built on, when bases are followed.
        bases: Option<BasesId>,
    },
}

/// How many commits past the tip's own `ref` check looks for the given one.
pub const LIMIT: usize = 1000;

/// What check is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The newest version that Concourse knows; `None` at the first check.
    pub given: Option<&'a Version>,
    /// How many versions the first check answers, at most.
    pub depth: NonZeroUsize,
    /// What `[ci skip]` does.
    pub ci_skip: CiSkip,
    /// Which versions are announced.
    pub announce: Announce,
    /// How many commits past the tip's own `ref` are looked at: [`LIMIT`], except in tests.
    pub limit: usize,
}

/// What check answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckAnswer {
    /// The versions, oldest first.
    pub versions: Vec<Version>,
    /// What a person should know about them.
    pub remark: Option<Remark>,
}

/// What a person should know about an answer of check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// The commit of the given version is not on the branch.
    GivenGone {
        /// The version.
        given: Version,
        /// How many commits of the branch were looked at.
        looked_at: usize,
    },
    /// With `only_built`: no version has been built yet.
    NoneBuilt,
    /// No commit that was looked at has a Dockerfile.
    NoDockerfile,
    /// Every commit of the branch is hidden by its message.
    AllSkipped,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivenGone { given, looked_at } => write!(
                f,
                "the given version's commit {} is not among the newest {looked_at} commits of the branch (force push, \
                 or reset to an older state), so only the newest version is answered; if the branch was reset, \
                 Concourse goes on using the version that it found last, until there is a new one or that one is disabled",
                given.commit
            ),
            Self::NoneBuilt => f.write_str("no version of the branch has been built yet (`source.only_built` is set)"),
            Self::NoDockerfile => f.write_str("no commit of the branch has a Dockerfile there"),
            Self::AllSkipped => f.write_str(
                "every commit of the branch has [ci skip] in its message, or does not pass `source.git.commit_filter`",
            ),
        }
    }
}

/// All versions since a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// The commit is on the line.
    Versions {
        /// Those that were brought after the commit, newest first.
        newer: Vec<Version>,
        /// That which the commit has; `None`: it has no Dockerfile.
        own: Option<Version>,
    },
    /// The line ends without meeting the commit.
    NotOnLine,
}

/// The version at the start of the line, newest commit first: its inputs, and the newest commit that brought them.
/// `None`: there is no Dockerfile.
pub fn version_at(line: &[LineCommit], states: &BTreeMap<CommitId, State>) -> Next<Option<Version>> {
    let mut walk = Walk { line, states, start: 0 };
    let Some(first) = line.first() else { return Next::Deeper };
    match states.get(&first.id) {
        None => Next::State(first.id),
        Some(State::NoDockerfile) => Next::Done(None),
        Some(State::Image { .. }) => match walk.run() {
            Err(need) => need.into(),
            Ok(run) => Next::Done(run.and_then(|run| run.version)),
        },
    }
}

/// The line without the commits at its start that their messages hide. An empty one: all of them are hidden.
pub fn end_of_branch(line: &[LineCommit], ci_skip: CiSkip) -> Next<&[LineCommit]> {
    let is_hidden = |commit: &&LineCommit| {
        commit.is_filtered
            || match ci_skip {
                CiSkip::Ignore => false,
                CiSkip::Honour => commit.ci_skip,
            }
    };
    let hidden = line.iter().take_while(is_hidden).count();
    let ends = line.last().is_some_and(|commit| commit.parent == Parent::Root);
    if hidden == line.len() && !ends { Next::Deeper } else { Next::Done(&line[hidden..]) }
}

/// What check answers, of a line whose first commit is the tip: every version after the given one, oldest first, the
/// given one included.
///
/// A given version goes on from its commit, whatever its inputs are: a put may have built files that git does not
/// describe. When the line does not have that commit, only the newest version is answered, with a remark.
/// `built` says which versions have an image, as far as it was asked.
pub fn answer(
    question: &Question<'_>,
    line: &[LineCommit],
    states: &BTreeMap<CommitId, State>,
    built: &BTreeMap<Version, Built>,
) -> Next<CheckAnswer> {
    find_answer(question, line, states, built).map_or_else(Next::from, Next::Done)
}

/// All versions from the tip down to the one that `commit` has.
pub fn versions_since(line: &[LineCommit], states: &BTreeMap<CommitId, State>, commit: CommitId) -> Next<Since> {
    match find(line, commit, usize::MAX) {
        Found::Unknown => Next::Deeper,
        Found::No { .. } => Next::Done(Since::NotOnLine),
        Found::At(position) => since(line, states, position).map_or_else(Next::from, Next::Done),
    }
}

fn since(line: &[LineCommit], states: &BTreeMap<CommitId, State>, position: usize) -> Result<Since, Need> {
    let mut walk = Walk { line, states, start: 0 };
    let mut newer = Vec::new();
    loop {
        match walk.run()? {
            Some(run) if run.end < position => newer.extend(run.version),
            run => return Ok(Since::Versions { newer, own: run.and_then(|run| run.version) }),
        }
    }
}

fn find_answer(
    question: &Question<'_>,
    line: &[LineCommit],
    states: &BTreeMap<CommitId, State>,
    built: &BTreeMap<Version, Built>,
) -> Result<CheckAnswer, Need> {
    let visible = match end_of_branch(line, question.ci_skip) {
        Next::Done(visible) => visible,
        Next::State(_) | Next::Built(_) | Next::Deeper => return Err(Need::Deeper),
    };
    let hidden = &line[..line.len() - visible.len()];
    if visible.is_empty() {
        let known = question.given.filter(|given| hidden.iter().any(|commit| commit.id == given.commit));
        let remark = known.is_none().then_some(Remark::AllSkipped);
        return Ok(CheckAnswer { versions: known.into_iter().copied().collect(), remark });
    }
    let mut search = Search { walk: Walk { line: visible, states, start: 0 }, question, built };
    let Some(given) = question.given else {
        let newest_first = search.versions(Stop::Count(question.depth.get()))?;
        let remark = search.remark_when_empty(&newest_first);
        return Ok(CheckAnswer { versions: newest_first.into_iter().rev().collect(), remark });
    };
    // A put may have built a commit that check does not see: nothing that check sees is newer.
    if hidden.iter().any(|commit| commit.id == given.commit) {
        return Ok(CheckAnswer { versions: vec![*given], remark: None });
    }
    let found = match find(visible, given.commit, question.limit) {
        found @ Found::At(_) => found,
        // How far the search goes is counted from the tip's own version, however old that is.
        Found::No { .. } | Found::Unknown => {
            let own = Walk { line: visible, states, start: 0 }.run()?.map_or(0, |run| run.end);
            find(visible, given.commit, own.saturating_add(question.limit))
        }
    };
    let newest_first = match found {
        Found::Unknown => return Err(Need::Deeper),
        Found::At(position) => {
            let mut versions = search.versions(Stop::Before(position))?;
            versions.push(*given);
            versions
        }
        Found::No { looked_at } => {
            let versions = search.versions(Stop::Count(1))?;
            let gone = Remark::GivenGone { given: *given, looked_at };
            let remark = search.remark_when_empty(&versions).or(Some(gone));
            return Ok(CheckAnswer { versions, remark });
        }
    };
    Ok(CheckAnswer { versions: newest_first.into_iter().rev().collect(), remark: None })
}

/// Where a commit is on a line.
enum Found {
    At(usize),
    No {
        looked_at: usize,
    },
    /// The line is not known that far.
    Unknown,
}

fn find(line: &[LineCommit], commit: CommitId, last: usize) -> Found {
    let known = &line[..line.len().min(last.saturating_add(1))];
    if let Some(position) = known.iter().position(|one| one.id == commit) {
        return Found::At(position);
    }
    let ends = known.last().is_none_or(|commit| commit.parent == Parent::Root);
    if (ends && !line.is_empty()) || known.len() > last { Found::No { looked_at: known.len() } } else { Found::Unknown }
}

/// What a walk lacks.
#[derive(Debug, Clone, Copy)]
enum Need {
    State(CommitId),
    Built(Version),
    Deeper,
}

impl<T> From<Need> for Next<T> {
    fn from(need: Need) -> Self {
        match need {
            Need::State(commit) => Self::State(commit),
            Need::Built(version) => Self::Built(version),
            Need::Deeper => Self::Deeper,
        }
    }
}

/// Commits that follow each other and have the same inputs.
struct Run {
    /// The position of the oldest: the one that brought them.
    end: usize,
    /// `None`: there is no Dockerfile in them.
    version: Option<Version>,
}

/// Goes down a line, from one run to the next.
struct Walk<'a> {
    line: &'a [LineCommit],
    states: &'a BTreeMap<CommitId, State>,
    start: usize,
}

impl Walk<'_> {
    /// The run that begins where the last one ended; `None` at the end of the history.
    fn run(&mut self) -> Result<Option<Run>, Need> {
        self.run_up_to(usize::MAX)
    }

    /// Like [`Self::run`], and when it reaches this position, where it ends does not matter.
    fn run_up_to(&mut self, position: usize) -> Result<Option<Run>, Need> {
        let Some(first) = self.line.get(self.start) else {
            let ended = self.start > 0 && self.line[self.start - 1].parent == Parent::Root;
            return if ended { Ok(None) } else { Err(Need::Deeper) };
        };
        let state = self.states.get(&first.id).ok_or(Need::State(first.id))?;
        let mut end = self.start;
        let version = match state {
            // What would bring a Dockerfile is not known: the commit before is judged by itself.
            State::NoDockerfile => None,
            State::Image { inputs, selector } => {
                while end < position && !self.brought(end, selector)? {
                    end += 1;
                }
                Some(Version::of_git(self.line[end].id, *inputs))
            }
        };
        self.start = end + 1;
        Ok(Some(Run { end, version }))
    }

    /// Whether the commit at this position changed what counts.
    fn brought(&self, position: usize, selector: &Selector) -> Result<bool, Need> {
        let commit = self.line.get(position).ok_or(Need::Deeper)?;
        match commit.parent {
            Parent::Root => Ok(true),
            Parent::Unknown => Err(Need::Deeper),
            Parent::Commit(_) => Ok(commit.changed.iter().any(|path| selector.counts(path).is_some())),
        }
    }
}

/// How far a search for versions goes.
#[derive(Clone, Copy)]
enum Stop {
    /// When it has so many.
    Count(usize),
    /// At a version that was brought at this position of the line, or before it.
    Before(usize),
}

/// Collects the versions that are announced.
struct Search<'a> {
    walk: Walk<'a>,
    question: &'a Question<'a>,
    built: &'a BTreeMap<Version, Built>,
}

impl Search<'_> {
    /// Newest first.
    fn versions(&mut self, stop: Stop) -> Result<Vec<Version>, Need> {
        let mut versions = Vec::new();
        let mut last = None;
        loop {
            match stop {
                Stop::Count(count) if versions.len() >= count => break,
                Stop::Before(position) if self.walk.start >= position => break,
                Stop::Count(_) | Stop::Before(_) => {}
            }
            if last.is_some_and(|last| self.walk.start > last) {
                break;
            }
            let run = match stop {
                Stop::Count(_) => self.walk.run()?,
                Stop::Before(position) => self.walk.run_up_to(position)?,
            };
            let Some(run) = run else { break };
            last = last.or(Some(run.end.saturating_add(self.question.limit)));
            if matches!(stop, Stop::Before(position) if run.end >= position) {
                break;
            }
            if let Some(version) = run.version {
                versions.extend(self.announced(version)?);
            }
        }
        Ok(versions)
    }

    /// The version as it is announced; `None`: it is not.
    fn announced(&self, version: Version) -> Result<Option<Version>, Need> {
        match self.question.announce {
            Announce::All => Ok(Some(version)),
            Announce::OnlyBuilt => match self.built.get(&version) {
                None => Err(Need::Built(version)),
                Some(Built::No) => Ok(None),
                Some(Built::Yes { bases }) => Ok(Some(Version { bases: *bases, ..version })),
            },
        }
    }

    fn remark_when_empty(&self, versions: &[Version]) -> Option<Remark> {
        match (versions, self.question.announce) {
            ([_, ..], _) => None,
            ([], Announce::OnlyBuilt) => Some(Remark::NoneBuilt),
            ([], Announce::All) => Some(Remark::NoDockerfile),
        }
    }
}
