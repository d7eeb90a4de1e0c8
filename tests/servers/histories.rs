//! check on histories of every shape, beside a slow and obvious model that asks plain git about each commit.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::project::{Project, check, only};
use crate::support::chance::Chance;
use crate::support::git::{Change, file};
use crate::support::program::Program;
use crate::support::server::run;
use crate::support::{servers, temporary};

/// How many events a history has.
const EVENTS: u64 = 32;

const BRANCHES: [&str; 2] = ["master", "feature/a"];

/// What happens in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Application,
    Image,
    Mode,
    Link,
    Rename,
    Case,
    Skipped,
    Revert,
    Merge,
    Octopus,
    NewRoot,
    ForcePush,
    Recreated,
    TagOfThatName,
}

impl Event {
    const ALL: [Self; 14] = [
        Self::Application,
        Self::Image,
        Self::Mode,
        Self::Link,
        Self::Rename,
        Self::Case,
        Self::Skipped,
        Self::Revert,
        Self::Merge,
        Self::Octopus,
        Self::NewRoot,
        Self::ForcePush,
        Self::Recreated,
        Self::TagOfThatName,
    ];
}

/// A repository in which things happen, and what was found out of it by plain git.
struct Story {
    project: Project,
    chance: Chance,
    number: u64,
    /// The inputs that check told for each tree of the image: one for one.
    inputs: BTreeMap<String, String>,
    commits: BTreeMap<String, Commit>,
}

/// What plain git tells of a commit.
#[derive(Clone)]
struct Commit {
    /// The files that its image is made of; `None`: there is no Dockerfile.
    made_of: Option<String>,
    is_skipped: bool,
}

impl Story {
    fn new(name: &'static str, seed: u64) -> Self {
        let project = Project::empty(name);
        project.git.commit("master", &[file("ci/image/Dockerfile", "FROM scratch\nCOPY . /\n"), file("app.sh", "0\n")]);
        project.git.set(BRANCHES[1], "master");
        Self { project, chance: Chance(seed), number: 0, inputs: BTreeMap::new(), commits: BTreeMap::new() }
    }

    fn happen(&mut self, event: Event) {
        self.number += 1;
        let number = self.number;
        let text = format!("{number}\n");
        let content = format!("{}\n", self.chance.below(3));
        let branch = self.branch();
        let git = &self.project.git;
        match event {
            Event::Application => drop(git.commit(branch, &[file("app.sh", &text)])),
            Event::Image => drop(git.commit(branch, &[file("ci/image/tool.sh", &content), file("app.sh", &text)])),
            Event::Mode => drop(git.commit(branch, &[Change::Executable("ci/image/tool.sh", content.as_bytes())])),
            Event::Link => drop(git.commit(branch, &[Change::Symlink("ci/image/tool.sh", "Dockerfile")])),
            Event::Rename => {
                git.commit(branch, &[Change::Remove("ci/image/tool.sh"), file("ci/image/bin/tool.sh", &content)]);
            }
            Event::Case => drop(git.commit(branch, &[file("ci/image/Tool.sh", &content)])),
            Event::Skipped => {
                let message = if number.is_multiple_of(2) { "try [ci skip]" } else { "[skip ci] try" };
                git.commit_with_message(branch, message, &[file("ci/image/tool.sh", &text)]);
            }
            Event::Revert => {
                if git.git(&["rev-list", "--count", "--first-parent", &head(branch)]) != "1" {
                    git.revert(branch);
                }
            }
            Event::Merge => self.merge(branch, &[&head(self.other(branch))]),
            Event::Octopus => {
                git.set("topic", &format!("{}~0", head(branch)));
                git.commit("topic", &[file("ci/image/topic", &content)]);
                self.merge(branch, &[&head(self.other(branch)), "refs/heads/topic"]);
            }
            Event::NewRoot => {
                let root = format!("root-{number}");
                git.commit(&root, &[file("ci/image/Dockerfile", "FROM scratch\nCOPY . /\n"), file("root", &text)]);
                self.merge(branch, &[&head(&root)]);
            }
            Event::ForcePush => {
                let count: u64 =
                    git.git(&["rev-list", "--count", "--first-parent", &head(branch)]).parse().expect("a number");
                let back = self.chance.below(count.min(4));
                let git = &self.project.git;
                git.set(branch, &format!("{}~{back}", head(branch)));
                git.commit(branch, &[file("app.sh", &text)]);
            }
            Event::Recreated => {
                let at = git.id(&head(self.other(branch)));
                git.delete(branch);
                git.set(branch, &at);
            }
            Event::TagOfThatName => {
                let first = git.git(&["rev-list", "--max-parents=0", "--max-count=1", &head(branch)]);
                git.git(&["update-ref", &format!("refs/tags/{branch}"), &first]);
            }
        }
    }

    fn branch(&mut self) -> &'static str {
        BRANCHES[usize::from(self.chance.below(4) == 0)]
    }

    fn other(&self, branch: &str) -> &'static str {
        if branch == BRANCHES[0] { BRANCHES[1] } else { BRANCHES[0] }
    }

    /// A merge commit with the tree of one of its parents: what a merge with either strategy leaves.
    fn merge(&mut self, branch: &str, others: &[&str]) {
        let into = head(branch);
        let parents = [&[into.as_str()], others].concat();
        let from = parents[usize::try_from(self.chance.below(parents.len() as u64)).expect("there are few")];
        self.project.git.merge_all(others, branch, from);
    }

    fn commit(&mut self, commit: &str) -> Commit {
        let git = &self.project.git;
        let ask = || {
            let listed = git.git(&["ls-tree", "-r", commit, "ci/image/"]);
            let message = git.git(&["log", "-1", "--format=%B", commit]);
            Commit {
                made_of: listed.contains("\tci/image/Dockerfile").then_some(listed),
                is_skipped: message.contains("[ci skip]") || message.contains("[skip ci]"),
            }
        };
        self.commits.entry(commit.to_owned()).or_insert_with(ask).clone()
    }

    /// The commits that check sees, newest first, each with whether it is a version; and those that `[ci skip]` hides.
    fn line(&mut self, branch: &str) -> (Vec<(String, bool)>, Vec<String>) {
        let listed = self.project.git.git(&["rev-list", "--first-parent", &head(branch)]);
        let all: Vec<(String, Commit)> = listed.lines().map(|id| (id.to_owned(), self.commit(id))).collect();
        let hidden = all.iter().take_while(|(_, commit)| commit.is_skipped).count();
        let seen = (hidden..all.len()).map(|at| {
            let (id, commit) = &all[at];
            let before = all.get(at + 1).and_then(|(_, before)| before.made_of.as_ref());
            (id.clone(), commit.made_of.is_some() && commit.made_of.as_ref() != before)
        });
        (seen.collect(), all[..hidden].iter().map(|(id, _)| id.clone()).collect())
    }

    /// What check must answer.
    fn expected(&mut self, branch: &str, given: Option<&str>, depth: usize) -> Vec<String> {
        let (line, hidden) = self.line(branch);
        let versions = |commits: &[(String, bool)]| -> Vec<String> {
            commits.iter().filter(|(_, is_version)| *is_version).map(|(commit, _)| commit.clone()).collect()
        };
        let mut newest_first = match given {
            None => versions(&line).into_iter().take(depth).collect(),
            Some(given) if hidden.iter().any(|commit| commit == given) => vec![given.to_owned()],
            Some(given) => match line.iter().position(|(commit, _)| commit == given) {
                Some(at) => [versions(&line[..at]), vec![given.to_owned()]].concat(),
                None => versions(&line).into_iter().take(1).collect(),
            },
        };
        newest_first.reverse();
        newest_first
    }

    /// Checks, and compares the answer. Gives its versions.
    fn check(&mut self, branch: &str, given: Option<&Value>, depth: usize, cache: &std::path::Path) -> Vec<Value> {
        let source = self.project.source_with(&[("/git/branch", json!(branch)), ("/git/version_depth", json!(depth))]);
        let ran = Program::check().environment("TMPDIR", cache).run(&json!({"source": source, "version": given}));
        let expected = self.expected(branch, given.map(|given| text(given, "ref")), depth);
        // A branch whose every commit is hidden has no version.
        let answer = ran.succeeds();
        let answer = answer.as_array().expect("check answers a list");
        let refs: Vec<&str> = answer.iter().map(|version| text(version, "ref")).collect();
        assert_eq!(refs, expected, "branch {branch}, given {given:?}, depth {depth}:\n{}", ran.stderr);
        for version in answer {
            let made_of = self.commit(text(version, "ref")).made_of.expect("a version has a Dockerfile");
            let known = self.inputs.entry(made_of).or_insert_with(|| text(version, "inputs").to_owned());
            assert_eq!(known, text(version, "inputs"), "the same files are the same image: {version}");
        }
        answer.clone()
    }
}

/// A branch, and not a tag of its name.
fn head(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

fn text<'a>(version: &'a Value, key: &str) -> &'a str {
    version[key].as_str().expect("a version has texts only")
}

#[test]
fn answers_are_those_of_the_slow_model_on_any_history() {
    for (name, seed) in [("histories-1", 3), ("histories-2", 11)] {
        let mut story = Story::new(name, seed);
        let container = temporary();
        let mut newest: BTreeMap<&str, Value> = BTreeMap::new();
        let mut seen: Vec<Value> = Vec::new();
        let mut happened: BTreeMap<Event, u64> = BTreeMap::new();
        for number in 0..EVENTS {
            // Each kind once, then any.
            let kinds = Event::ALL.len() as u64;
            let kind = if number < kinds { number } else { story.chance.below(kinds) };
            let event = Event::ALL[usize::try_from(kind).expect("there are few")];
            story.happen(event);
            *happened.entry(event).or_default() += 1;
            // One container for all pipelines of a source, whatever version each was given.
            for branch in BRANCHES {
                let given = newest.get(branch).cloned();
                let answer = story.check(branch, given.as_ref(), 1, container.path());
                newest.extend(answer.last().map(|version| (branch, version.clone())));
                seen.extend(answer);
            }
            let older = seen[usize::try_from(story.chance.below(seen.len() as u64)).expect("there are few")].clone();
            story.check(BRANCHES[0], Some(&older), 1, container.path());
            if number.is_multiple_of(4) {
                let depth = usize::try_from(1 + story.chance.below(4)).expect("it is small");
                story.check(BRANCHES[0], None, depth, temporary().path());
            }
        }
        assert_eq!(happened.len(), Event::ALL.len());
        let mut images: Vec<&String> = story.inputs.values().collect();
        images.sort_unstable();
        images.dedup();
        assert_eq!(images.len(), story.inputs.len(), "other files are another image");
        assert!(5 < images.len(), "the history had few images: {}", images.len());
    }
}

#[test]
fn a_submodule_that_moves_in_the_context_is_a_version_and_elsewhere_none() {
    let project = Project::new("histories-submodule");
    let library = servers().git().repository("histories-submodule-library");
    let commits: Vec<String> =
        (0..3).map(|number| library.commit("master", &[file("lib", &format!("{number}\n"))])).collect();
    let modules = format!(
        "[submodule \"in\"]\n\tpath = ci/image/lib\n\turl = {0}\n[submodule \"out\"]\n\tpath = lib\n\turl = {0}\n",
        library.uri()
    );
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let change = |inside: &str, outside: &str| {
        let at = [Change::Submodule("ci/image/lib", inside), Change::Submodule("lib", outside)];
        project.git.commit(
            "master",
            &[&at[..], &[file(".gitmodules", &modules), file("ci/image/Dockerfile", dockerfile)]].concat(),
        )
    };
    let first = change(&commits[0], &commits[0]);
    let version = only(&project.check(None));
    assert_eq!(version["ref"], first.as_str());
    change(&commits[0], &commits[1]);
    assert_eq!(only(&project.check(Some(&version))), version);
    let moved = change(&commits[2], &commits[1]);
    let answer = project.check(Some(&version)).succeeds();
    assert_eq!([&answer[0]["ref"], &answer[1]["ref"]], [&json!(first), &json!(moved)]);
}

#[test]
fn a_dockerfile_that_went_and_came_back_is_a_version_of_the_commit_that_brought_it() {
    let project = Project::new("histories-back");
    let first = only(&project.check(None));
    project.git.commit("master", &[Change::Remove("ci/image/Dockerfile")]);
    let ran = project.check(Some(&first));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("there is no Dockerfile"), "{}", ran.stderr);
    let back = project.git.revert("master");
    let answer = project.check(Some(&first)).succeeds();
    assert_eq!([&answer[0], &answer[1]["ref"]], [&first, &json!(back)]);
    assert_eq!(answer[1]["inputs"], first["inputs"]);
}

#[test]
fn a_repository_of_sha256_is_refused_by_name() {
    let project = Project::new("histories-sha256");
    std::fs::remove_dir_all(project.git.path()).expect("it is ours");
    let path = project.git.path().display().to_string();
    let tree = "git init --quiet --bare --object-format=sha256 --initial-branch=master \"$0\" && cd \"$0\" && \
         tree=$(git mktree </dev/null) && \
         id=$(git -c user.name=Ada -c user.email=ada@acme.example commit-tree -m first \"$tree\") && \
         git update-ref refs/heads/master \"$id\"";
    run(Command::new("sh").args(["-ec", tree, &path]));
    project.check(None).fails_with(
        "error: 127.0.0.1/histories-sha256 uses SHA-256 for its objects\n\
         hint: only repositories with SHA-1 object names can be used for now\n",
    );
}

#[test]
fn a_history_that_the_server_itself_has_only_in_part_is_used_as_far_as_it_goes() {
    let project = Project::new("histories-shallow");
    for number in 0..5 {
        project.git.commit("master", &[file("app.sh", &format!("{number}\n"))]);
    }
    let oldest = project.git.id("master~2");
    std::fs::write(project.git.path().join("shallow"), format!("{oldest}\n")).expect("it is ours");
    project.check(None).fails_with(&format!(
        "error: the git server of 127.0.0.1/histories-shallow has no history before commit {oldest}\n\
         hint: its repository is itself a shallow clone: run `git fetch --unshallow` there, so that it can tell which \
         commit brought the image's files\n"
    ));
    let brought = project.git.commit("master", &[file("ci/image/tool.sh", "echo newer\n")]);
    assert_eq!(only(&project.check(None))["ref"], brought.as_str());
}

#[test]
fn a_filter_of_messages_says_where_the_branch_ends() {
    let project = Project::new("histories-filter");
    let first = project.git.id("master");
    let messages = ["feat: one", "chore(release): two", "fix: three\n\nnot yet: [skip deploy]"];
    let ids: Vec<String> = messages
        .iter()
        .map(|message| project.git.commit_with_message("master", message, &[file("ci/image/tool.sh", message)]))
        .collect();
    let given = json!({"ref": first, "inputs": "0".repeat(64)});
    for (filter, last) in [
        (json!({}), &ids[2]),
        (json!({"exclude": ["\\[skip deploy\\]", "^nothing"]}), &ids[1]),
        (json!({"exclude": ["skip deploy", "^chore(release):"]}), &ids[0]),
        (json!({"exclude": ["skip deploy", "^chore"], "exclude_all_match": true}), &ids[2]),
        (json!({"exclude": ["skip deploy", "^fix"], "exclude_all_match": true}), &ids[1]),
        (json!({"include": ["^feat"]}), &ids[0]),
        (json!({"include": ["^chore", "two$"], "include_all_match": true}), &ids[1]),
        (json!({"include": ["^fix", "^chore"], "exclude": ["deploy"]}), &ids[1]),
        (json!({"include": ["^commit"]}), &first),
    ] {
        let source = project.source_with(&[("/git/commit_filter", filter.clone())]);
        // What lies before the end of the branch is not filtered.
        let end = 2 + ids.iter().position(|id| id == last).map_or(0, |at| at + 1);
        let expected: Vec<&str> = std::iter::once(&first).chain(&ids).map(String::as_str).take(end - 1).collect();
        let answer = check(&source, Some(&given)).succeeds();
        let refs: Vec<&str> = answer.as_array().expect("a list").iter().map(|version| text(version, "ref")).collect();
        assert_eq!(refs, expected, "{filter}");
    }
    let none = project.source_with(&[("/git/commit_filter", json!({"include": ["no such word"]}))]);
    let ran = check(&none, None);
    assert_eq!(ran.succeeds(), json!([]));
    assert!(ran.stderr.contains("does not pass `source.git.commit_filter`"), "{}", ran.stderr);
    let broken = project.source_with(&[("/git/commit_filter", json!({"exclude": ["\\("]}))]);
    check(&broken, None).fails_with(
        "error: `source.git.commit_filter` is not usable\n\
         cause: fatal: command line, '\\(': Unmatched ( or \\(\n\
         hint: the patterns are basic regular expressions, as for `git log --grep`; write \\[ and \\* for the characters \
         themselves\n",
    );
}
