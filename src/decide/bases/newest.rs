//! Which build of a version is the newest, where bases are followed: to that the tag of the commit points.

use crate::names::{BasesId, Digest};

/// How often bases and tag are read before it is given up.
const ROUNDS: usize = 8;

/// A build of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// What it is built on.
    pub bases: BasesId,
    /// Its image.
    pub digest: Digest,
}

/// What is read before it is decided where the tag of a commit points, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the tag points to.
    pub tag: Option<Digest>,
    /// The bases of that, when it is a build of our version on bases that were followed.
    pub bases_there: Option<BasesId>,
    /// The bases of this moment; `None`: they cannot be told.
    pub now: Option<BasesId>,
    /// The build on these, if there is one.
    pub built_on_now: Option<Digest>,
}

/// What must be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Point the tag to this build, and read again.
    Write(Digest),
    /// Read again.
    ReadAgain,
    /// The tag points to the newest build.
    Done {
        /// Which that is.
        newest: Digest,
        /// Whether the tag was written.
        wrote: bool,
    },
    /// It was another one every time that it was read.
    Unsettled {
        /// How often.
        rounds: usize,
    },
}

/// Decides to which build of a version the tag of its commit points: to the newest.
///
/// Digests have no order, so the present decides: a build on the bases of this moment. Where there is none, because
/// they moved while it was built, the later of two puts wins, or a base that moves faster than builds end would keep
/// the tag where it is for ever.
///
/// No registry compares before it writes. So a put writes its content tag before it asks here, and it reads again after
/// it wrote: whoever writes last then sees what all others built.
#[derive(Debug, Clone)]
pub struct Newest {
    ours: Build,
    /// The bases of the moment when our put began.
    at_first: Option<BasesId>,
    /// What the tag pointed to then.
    tag_at_first: Option<Digest>,
    wrote: bool,
    decided: Option<Digest>,
    rounds: usize,
}

impl Newest {
    /// Begins for the build of a put, with what was so when it began.
    pub fn new(ours: Build, at_first: Option<BasesId>, tag_at_first: Option<Digest>) -> Self {
        Self { ours, at_first, tag_at_first, wrote: false, decided: None, rounds: 0 }
    }

    /// Takes what was read, and says what is next.
    pub fn next(&mut self, reading: &Reading) -> Next {
        self.rounds += 1;
        let newest = self.newest(reading);
        let before = self.decided.replace(newest);
        if reading.tag == Some(newest) && before.is_none_or(|before| before == newest) {
            return Next::Done { newest, wrote: self.wrote };
        }
        if self.rounds >= ROUNDS {
            return Next::Unsettled { rounds: self.rounds };
        }
        if reading.tag == Some(newest) {
            return Next::ReadAgain;
        }
        self.wrote = true;
        Next::Write(newest)
    }

    fn newest(&self, reading: &Reading) -> Digest {
        let Reading { tag, bases_there, now, built_on_now } = *reading;
        let Build { bases, digest } = self.ours;
        if now == Some(bases) {
            return digest;
        }
        // Ours were those of the moment when we began, and nobody has moved the tag since.
        let is_later = self.at_first == Some(bases) && tag == self.tag_at_first;
        match (built_on_now, tag) {
            (Some(newest), _) => newest,
            (None, Some(there)) if bases_there.is_some_and(|theirs| theirs != bases) && !is_later => there,
            (None, _) => digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::from_bytes([number; 32])
    }

    fn id(number: u8) -> BasesId {
        BasesId::from_bytes([number; 32])
    }

    fn build(number: u8) -> Build {
        Build { bases: id(number), digest: digest(number) }
    }

    #[test]
    fn the_tag_of_a_commit_belongs_to_the_build_on_the_newest_bases() {
        // Ours are bases 1. What the tag points to with its bases, those of now with their build, those at first and
        // what the tag pointed to then.
        for (name, there, now, built, at_first, tag_at_first, expected) in [
            ("the first", None, Some(1), None, 1, None, 1),
            ("ours are those of now", Some((2, Some(2))), Some(1), Some(1), 2, None, 1),
            ("an old put that ends late", Some((2, Some(2))), Some(2), Some(2), 2, Some(2), 2),
            ("the newest was built, and its put died before the tag", None, Some(3), Some(3), 1, None, 3),
            ("they moved while it was built", Some((2, Some(2))), Some(3), None, 1, Some(2), 1),
            ("they moved, and another put was quicker", Some((2, Some(2))), Some(3), None, 1, None, 2),
            ("they had moved before it began", Some((2, Some(2))), Some(3), None, 3, Some(2), 2),
            ("no registry tells", Some((2, Some(2))), None, None, 2, Some(2), 2),
            ("no registry tells, and nobody else put", Some((2, Some(2))), None, None, 1, Some(2), 1),
            ("the other was built before bases were followed", Some((2, None)), Some(3), None, 3, Some(2), 1),
            ("the same bases, built again", Some((2, Some(1))), None, None, 3, Some(2), 1),
        ] {
            let mut rule = Newest::new(build(1), Some(id(at_first)), tag_at_first.map(digest));
            let reading = Reading {
                tag: there.map(|(number, _)| digest(number)),
                bases_there: there.and_then(|(_, bases)| bases).map(id),
                now: now.map(id),
                built_on_now: built.map(digest),
            };
            let newest = digest(expected);
            let next = match reading.tag == Some(newest) {
                true => Next::Done { newest, wrote: false },
                false => Next::Write(newest),
            };
            assert_eq!(rule.next(&reading), next, "{name}");
        }
    }

    #[test]
    fn bases_that_never_rest_are_given_up() {
        let mut rule = Newest::new(build(1), None, None);
        let reading =
            |now| Reading { tag: None, bases_there: None, now: Some(id(now)), built_on_now: Some(digest(now)) };
        for now in 2..2 + u8::try_from(ROUNDS).expect("few") - 1 {
            assert_eq!(rule.next(&reading(now)), Next::Write(digest(now)));
        }
        assert_eq!(rule.next(&reading(99)), Next::Unsettled { rounds: ROUNDS });
    }

    /// A registry of images, and one of bases. The digest of a build is the number of its bases.
    #[derive(Debug, Clone)]
    struct World {
        tag: Option<u8>,
        built: BTreeSet<u8>,
        now: u8,
    }

    /// A put, between two of its requests.
    #[derive(Debug, Clone)]
    struct Put {
        number: u8,
        rule: Newest,
        step: Step,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Step {
        Push,
        ReadTag,
        ReadNow { tag: Option<u8> },
        ReadBuilt { tag: Option<u8>, now: u8 },
        Write(Digest),
        Done,
    }

    impl Put {
        fn new(number: u8, at_first: u8) -> Self {
            Self { number, rule: Newest::new(build(number), Some(id(at_first)), None), step: Step::Push }
        }

        fn step(&mut self, world: &mut World) {
            self.step = match self.step {
                Step::Push => {
                    world.built.insert(self.number);
                    Step::ReadTag
                }
                Step::ReadTag => Step::ReadNow { tag: world.tag },
                Step::ReadNow { tag } => Step::ReadBuilt { tag, now: world.now },
                Step::ReadBuilt { tag, now } => {
                    let reading = Reading {
                        tag: tag.map(digest),
                        bases_there: tag.map(id),
                        now: Some(id(now)),
                        built_on_now: world.built.contains(&now).then(|| digest(now)),
                    };
                    match self.rule.next(&reading) {
                        Next::Write(newest) => Step::Write(newest),
                        Next::ReadAgain => Step::ReadTag,
                        Next::Done { .. } => Step::Done,
                        Next::Unsettled { .. } => panic!("two puts and one move settle"),
                    }
                }
                Step::Write(newest) => {
                    world.tag = [1, 2].into_iter().find(|number| digest(*number) == newest);
                    Step::ReadTag
                }
                Step::Done => Step::Done,
            };
        }
    }

    /// Every order in which the requests of two puts, and the move of the base, can come.
    fn every_order(world: &World, puts: &[Put; 2], seen: &mut usize) {
        if puts.iter().all(|put| put.step == Step::Done) && world.now == 2 {
            assert_eq!(world.tag, Some(2), "{puts:?}");
            *seen += 1;
            return;
        }
        if world.now == 1 {
            every_order(&World { now: 2, ..world.clone() }, puts, seen);
        }
        for next in 0..2 {
            // The bases of the second are there only after the move.
            if puts[next].step != Step::Done && puts[next].number <= world.now {
                let (mut world, mut puts) = (world.clone(), puts.clone());
                puts[next].step(&mut world);
                every_order(&world, &puts, seen);
            }
        }
    }

    #[test]
    fn two_puts_that_overlap_in_any_order_leave_the_build_on_the_newest_bases() {
        let mut seen = 0;
        for at_first in [1, 2] {
            let world = World { tag: None, built: BTreeSet::new(), now: 1 };
            every_order(&world, &[Put::new(1, at_first), Put::new(2, 2)], &mut seen);
        }
        assert!(seen > 1000, "{seen} orders");
    }
}
