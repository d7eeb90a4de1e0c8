use proptest::prelude::*;

use super::*;
use crate::decide::inputs::tests::{Files, edit, entry, files, recipe, select_all, tree};
use crate::decide::inputs::{Mode, digest};

/// A branch, oldest commit first, and the truth about it.
struct World {
    ids: Vec<CommitId>,
    trees: Vec<Files>,
    skipped: Vec<bool>,
    states: BTreeMap<CommitId, State>,
}

fn id(number: usize) -> CommitId {
    let mut bytes = [7; 20];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    CommitId::from_bytes(bytes)
}

impl World {
    fn new(trees: Vec<Files>, skipped: Vec<bool>) -> Self {
        let ids: Vec<CommitId> = (0..trees.len()).map(id).collect();
        let state = |files: &Files| match select_all(&recipe(), files) {
            Ok(selection) => State::Image {
                inputs: digest(&recipe(), &selection, &tree(files)),
                selector: Box::new(selection.selector),
            },
            Err(_) => State::NoDockerfile,
        };
        let states = ids.iter().copied().zip(trees.iter().map(state)).collect();
        Self { ids, trees, skipped, states }
    }

    fn inputs(&self, position: usize) -> Option<InputsId> {
        match &self.states[&self.ids[position]] {
            State::Image { inputs, .. } => Some(*inputs),
            State::NoDockerfile => None,
        }
    }

    /// The newest commits of the line, so many of them, as a shallow fetch shows them.
    fn line(&self, depth: usize) -> Vec<LineCommit> {
        let oldest = self.ids.len().saturating_sub(depth);
        let commit = |position: usize| {
            let parent = match position {
                0 => Parent::Root,
                _ if position == oldest => Parent::Unknown,
                _ => Parent::Commit(self.ids[position - 1]),
            };
            let before = position.checked_sub(1).map(|before| tree(&self.trees[before])).unwrap_or_default();
            let after = tree(&self.trees[position]);
            let differs = |path: &&GitPath| before.get(path) != after.get(path);
            let changed = match parent {
                Parent::Unknown => Vec::new(),
                Parent::Root | Parent::Commit(_) => {
                    let paths: std::collections::BTreeSet<_> =
                        before.keys().chain(after.keys()).filter(differs).cloned().collect();
                    // The order does not matter.
                    paths.into_iter().rev().collect()
                }
            };
            LineCommit { id: self.ids[position], parent, changed, ci_skip: self.skipped[position], is_filtered: false }
        };
        (oldest..self.ids.len()).rev().map(commit).collect()
    }

    /// The slow model: every version, oldest first, with the position of the commit that brought it.
    fn versions(&self) -> Vec<(usize, Version)> {
        let brought =
            |position: &usize| self.inputs(*position) != position.checked_sub(1).and_then(|before| self.inputs(before));
        let version = |position| Some((position, Version::of_git(self.ids[position], self.inputs(position)?)));
        (0..self.ids.len()).filter(brought).filter_map(version).collect()
    }

    /// Asks until there is an answer, knowing so many commits at first and so many more each time.
    fn ask<T>(
        &self,
        first: usize,
        more: usize,
        built: &dyn Fn(InputsId) -> bool,
        question: impl Fn(&[LineCommit], &BTreeMap<CommitId, State>, &BTreeMap<Version, Built>) -> Next<T>,
    ) -> T {
        let (mut depth, mut states, mut tags) = (first, BTreeMap::new(), BTreeMap::new());
        for _ in 0..1000 {
            match question(&self.line(depth), &states, &tags) {
                Next::Done(answer) => return answer,
                Next::State(commit) => {
                    assert!(states.insert(commit, self.states[&commit].clone()).is_none(), "asked for once");
                }
                Next::Built(version) => {
                    let built = if built(version.inputs) { Built::Yes { bases: None } } else { Built::No };
                    assert!(tags.insert(version, built).is_none(), "asked for once");
                }
                Next::Deeper => {
                    assert!(depth < self.ids.len(), "there is nothing deeper");
                    depth += more;
                }
            }
        }
        panic!("it is never satisfied");
    }
}

/// Histories with reverts, unrelated commits, mode changes, symlinks, submodules, and commits without a Dockerfile.
fn world() -> impl Strategy<Value = World> {
    let step = prop_oneof![
        6 => proptest::collection::vec(entry(), 1..3).prop_map(Step::Edit),
        2 => (0..8_usize).prop_map(Step::Revert),
        2 => Just(Step::Unrelated),
        1 => Just(Step::NoDockerfile),
    ];
    proptest::collection::vec((step, proptest::bool::weighted(0.2)), 1..9).prop_map(|steps| {
        let mut trees: Vec<Files> = Vec::new();
        let mut skipped = Vec::new();
        for (number, (step, skip)) in steps.into_iter().enumerate() {
            let start = files(&[("Dockerfile", Mode::File, "FROM a\nCOPY a d /"), ("a/b", Mode::File, "1")]);
            let mut next = trees.last().cloned().unwrap_or(start);
            match step {
                Step::Edit(edits) => edit(&mut next, &edits),
                Step::Revert(to) => next = trees.get(to).cloned().unwrap_or(next),
                Step::Unrelated => {
                    next.insert(GitPath::new("z"), (Mode::File, number.to_string().into_bytes()));
                }
                Step::NoDockerfile => {
                    next.remove(&GitPath::new("Dockerfile"));
                }
            }
            trees.push(next);
            skipped.push(skip);
        }
        World::new(trees, skipped)
    })
}

#[derive(Debug, Clone)]
enum Step {
    Edit(Vec<(&'static str, Option<(Mode, &'static str)>)>),
    Revert(usize),
    Unrelated,
    NoDockerfile,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.trees.iter().zip(&self.skipped)).finish()
    }
}

/// What check must answer, by looking at everything.
fn slow_answer(world: &World, question: &Question<'_>, built: &dyn Fn(InputsId) -> bool) -> CheckAnswer {
    let all = world.versions();
    let tip = match question.ci_skip {
        CiSkip::Ignore => Some(world.ids.len() - 1),
        CiSkip::Honour => (0..world.ids.len()).rev().find(|&position| !world.skipped[position]),
    };
    let announced = |version: &Version| match question.announce {
        Announce::All => true,
        Announce::OnlyBuilt => built(version.inputs),
    };
    let visible: Vec<(usize, Version)> = all
        .into_iter()
        .filter(|(position, version)| tip.is_some_and(|tip| *position <= tip) && announced(version))
        .collect();
    let position = question.given.and_then(|given| world.ids.iter().position(|id| *id == given.commit));
    let last = |count: usize| visible.iter().rev().take(count).rev().map(|(_, version)| *version).collect::<Vec<_>>();
    let empty = match question.announce {
        _ if tip.is_none() => Remark::AllSkipped,
        Announce::All => Remark::NoDockerfile,
        Announce::OnlyBuilt => Remark::NoneBuilt,
    };
    let (versions, remark) = match (question.given, position) {
        (None, _) => (last(question.depth.get()), None),
        (Some(given), Some(position)) => {
            let newer = visible.iter().filter(|(brought, _)| *brought > position).map(|(_, version)| *version);
            (std::iter::once(*given).chain(newer).collect(), None)
        }
        (Some(given), None) => {
            (last(1), Some(Remark::GivenGone { given: *given, looked_at: tip.map_or(0, |tip| tip + 1) }))
        }
    };
    let remark = if versions.is_empty() { Some(empty) } else { remark };
    CheckAnswer { versions, remark }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn answers_are_those_of_the_slow_model_whatever_is_known_at_first(
        world in world(),
        (first, more) in (0..9_usize, 1..4_usize),
        depth in 1..4_usize,
        given in proptest::option::of((0..12_usize, any::<bool>())),
        honour in any::<bool>(),
        only_built in proptest::option::of(any::<u8>()),
    ) {
        let built = |inputs: InputsId| only_built.is_none_or(|odd| (inputs.as_bytes()[0] ^ odd) & 1 == 0);
        // A given version is one of git's, or (by a put of files that git does not describe) another at some commit.
        let given = given.map(|(number, dirty)| match world.versions().get(number) {
            Some((_, version)) if !dirty => *version,
            _ => Version::of_git(id(number), InputsId::from_bytes([9; 32])),
        });
        let question = Question {
            given: given.as_ref(),
            depth: NonZeroUsize::new(depth).expect("at least one"),
            ci_skip: if honour { CiSkip::Honour } else { CiSkip::Ignore },
            announce: if only_built.is_some() { Announce::OnlyBuilt } else { Announce::All },
            limit: LIMIT,
        };
        let found = world.ask(first, more, &built, |line, states, built| answer(&question, line, states, built));
        prop_assert_eq!(found, slow_answer(&world, &question, &built));
    }

    #[test]
    fn the_version_at_the_tip_is_that_of_the_slow_model(world in world(), first in 0..9_usize, more in 1..4_usize) {
        let tip = world.ids.len() - 1;
        let expected = world.inputs(tip).and_then(|_| world.versions().last().map(|(_, version)| *version));
        let found = world.ask(first, more, &|_| true, |line, states, _| version_at(line, states));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_versions_since_a_commit_are_those_of_the_slow_model(
        world in world(), commit in 0..12_usize, first in 0..9_usize, more in 1..4_usize,
    ) {
        let found = world.ask(first, more, &|_| true, |line, states, _| versions_since(line, states, id(commit)));
        let expected = if commit < world.ids.len() {
            let (newer, older): (Vec<_>, Vec<_>) =
                world.versions().into_iter().rev().partition(|(position, _)| *position > commit);
            let own = world.inputs(commit).and_then(|_| older.first().map(|(_, version)| *version));
            Since::Versions { newer: newer.into_iter().map(|(_, version)| version).collect(), own }
        } else {
            Since::NotOnLine
        };
        prop_assert_eq!(found, expected);
    }
}

fn tree_with(text: &str, unrelated: &str) -> Files {
    files(&[("Dockerfile", Mode::File, "FROM a\nCOPY a /"), ("a", Mode::File, text), ("other", Mode::File, unrelated)])
}

fn question(given: Option<&Version>, limit: usize) -> Question<'_> {
    Question { given, depth: NonZeroUsize::MIN, ci_skip: CiSkip::Honour, announce: Announce::All, limit }
}

fn check(world: &World, question: &Question<'_>) -> CheckAnswer {
    world.ask(1, 1, &|_| true, |line, states, built| answer(question, line, states, built))
}

#[test]
fn a_revert_is_a_new_version_with_the_old_inputs() {
    let world = World::new(vec![tree_with("1", ""), tree_with("2", ""), tree_with("1", "")], vec![false; 3]);
    let versions: Vec<Version> = world.versions().into_iter().map(|(_, version)| version).collect();
    assert_eq!(versions.len(), 3);
    assert_eq!(versions[0].inputs, versions[2].inputs);
    assert_eq!(check(&world, &question(Some(&versions[0]), LIMIT)).versions, versions);
}

#[test]
fn unrelated_commits_do_not_change_the_version() {
    let trees: Vec<Files> = (0..5).map(|number| tree_with("1", &number.to_string())).collect();
    let world = World::new(trees, vec![false; 5]);
    let expected = Version::of_git(id(0), world.inputs(0).expect("an image"));
    assert_eq!(check(&world, &question(None, LIMIT)).versions, [expected]);
    assert_eq!(check(&world, &question(Some(&expected), LIMIT)).versions, [expected]);
}

#[test]
fn a_commit_at_a_shallow_boundary_has_unknown_parents_and_never_none() {
    let world = World::new(vec![tree_with("1", ""), tree_with("1", "x")], vec![false; 2]);
    assert_eq!(version_at(&world.line(1), &world.states), Next::Deeper);
    assert_eq!(versions_since(&world.line(1), &world.states, id(0)), Next::Deeper);
    assert_eq!(answer(&question(None, LIMIT), &world.line(1), &world.states, &BTreeMap::new()), Next::Deeper);
}

#[test]
fn a_version_that_is_gone_is_not_looked_for_without_end() {
    let trees: Vec<Files> = (0..20).map(|number| tree_with(&number.to_string(), "")).collect();
    let world = World::new(trees, vec![false; 20]);
    let gone = Version::of_git(id(99), InputsId::from_bytes([1; 32]));
    // Known are 6 commits, and no more are asked for.
    let found = answer(&question(Some(&gone), 5), &world.line(6), &world.states, &BTreeMap::new());
    let newest = Version::of_git(id(19), world.inputs(19).expect("an image"));
    let remark = Remark::GivenGone { given: gone, looked_at: 6 };
    assert_eq!(found, Next::Done(CheckAnswer { versions: vec![newest], remark: Some(remark) }));
    assert_eq!(answer(&question(Some(&gone), 5), &world.line(5), &world.states, &BTreeMap::new()), Next::Deeper);
}
