//! Where `$BRANCH-latest` points: to the newest version of the branch that is built, and never backwards.
//!
//! No registry compares before it writes, so two puts can overtake each other between a reading and a write. What
//! holds all the same rests on two rules: a put writes the tag that shows its image before it asks here, and it reads again after
//! it wrote. Whoever writes last then reads what all others wrote, and corrects it.

use std::collections::BTreeMap;

use crate::concourse::Version;
use crate::decide::versions::Since;
use crate::names::Digest;

/// How often line and tags are read before it is given up.
pub const ROUNDS: usize = 8;

/// What must be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Read the branch anew, and its versions since the commit of ours.
    ReadLine,
    /// Read which of these versions are built, and the tag of the branch.
    ReadTags(Vec<Version>),
    /// Point the tag of the branch to this image.
    Write {
        /// The version.
        version: Version,
        /// Its image.
        digest: Digest,
    },
    /// It is decided.
    Done(Outcome),
}

/// What was done or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Answers [`Ask::ReadLine`].
    Line(LineReading),
    /// Answers [`Ask::ReadTags`].
    Tags {
        /// The images of the versions; those that are not built are left out.
        built: BTreeMap<Version, Digest>,
        /// What the tag of the branch points to.
        latest: Option<Digest>,
    },
    /// Answers [`Ask::Write`].
    Written,
}

/// What the branch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineReading {
    /// There is no such branch any more.
    BranchGone,
    /// Its versions since the commit of ours.
    Since(Since),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It pointed to our version already.
    Unchanged,
    /// It points to our version now.
    Set,
    /// It belongs to a newer version that is built, and points there.
    Kept {
        /// That version.
        newer: Version,
    },
    /// Our commit is not on the branch, so the tag is none of our business.
    NotOnBranch {
        /// Why not.
        why: NotOnBranch,
    },
    /// The image of our version is gone, and no newer one is built: somebody removed it.
    ContentGone,
    /// Branch or tags changed every time that they were read.
    Unsettled {
        /// How often.
        rounds: usize,
    },
}

/// Why a commit is not on its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOnBranch {
    /// The branch was deleted.
    BranchGone,
    /// Its first-parent line does not have the commit: a force push, or a checkout of another branch.
    NotOnLine,
}

/// Decides where the tag of the branch points, one step at a time.
#[derive(Debug, Clone)]
pub struct Latest {
    ours: Version,
    step: Step,
    rounds: usize,
    wrote: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Line {
        before: Option<(Version, Digest)>,
    },
    /// The versions that it could belong to, newest first; the last is ours.
    Tags {
        before: Option<(Version, Digest)>,
        candidates: Vec<Version>,
    },
    Write {
        version: Version,
        digest: Digest,
    },
    Done(Outcome),
}

impl Latest {
    /// Begins for the version that was put.
    pub fn new(ours: Version) -> Self {
        Self { ours, step: Step::Line { before: None }, rounds: 0, wrote: false }
    }

    /// Takes what the last [`Ask`] brought, `None` at the start, and says what is next.
    ///
    /// What does not answer the last question is not taken: the question is asked again.
    pub fn next(&mut self, told: Option<Told>) -> Ask {
        self.step = match (self.step.clone(), told) {
            (Step::Line { before }, Some(Told::Line(line))) => self.candidates(before, line),
            (Step::Tags { before, candidates }, Some(Told::Tags { built, latest })) => {
                self.decide(before, &candidates, &built, latest)
            }
            (Step::Write { version, digest }, Some(Told::Written)) => {
                self.wrote = true;
                Step::Line { before: Some((version, digest)) }
            }
            (step, _) => step,
        };
        match &self.step {
            Step::Line { .. } => Ask::ReadLine,
            Step::Tags { candidates, .. } => Ask::ReadTags(candidates.clone()),
            Step::Write { version, digest } => Ask::Write { version: *version, digest: *digest },
            Step::Done(outcome) => Ask::Done(*outcome),
        }
    }

    fn candidates(&mut self, before: Option<(Version, Digest)>, line: LineReading) -> Step {
        self.rounds += 1;
        match line {
            LineReading::BranchGone => Step::Done(Outcome::NotOnBranch { why: NotOnBranch::BranchGone }),
            LineReading::Since(Since::NotOnLine) => Step::Done(Outcome::NotOnBranch { why: NotOnBranch::NotOnLine }),
            LineReading::Since(Since::Versions { newer, own: _ }) => {
                // Ours stands for what git says of our commit: when files differed from the commit, it is another one.
                let candidates = newer.into_iter().chain([self.ours]).collect();
                Step::Tags { before, candidates }
            }
        }
    }

    fn decide(
        &self,
        before: Option<(Version, Digest)>,
        candidates: &[Version],
        built: &BTreeMap<Version, Digest>,
        latest: Option<Digest>,
    ) -> Step {
        let image = |version: &Version| Some((*version, *built.get(version)?));
        let Some((version, digest)) = candidates.iter().find_map(image) else {
            return Step::Done(Outcome::ContentGone);
        };
        if latest == Some(digest) && before.is_none_or(|before| before == (version, digest)) {
            return Step::Done(match (version == self.ours, self.wrote) {
                (true, true) => Outcome::Set,
                (true, false) => Outcome::Unchanged,
                (false, _) => Outcome::Kept { newer: version },
            });
        }
        if self.rounds >= ROUNDS {
            return Step::Done(Outcome::Unsettled { rounds: self.rounds });
        }
        match latest == Some(digest) {
            true => Step::Line { before: Some((version, digest)) },
            false => Step::Write { version, digest },
        }
    }
}
