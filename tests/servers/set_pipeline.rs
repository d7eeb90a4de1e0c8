//! `git-image set-pipeline` and `destroy-pipeline`, in a clone of a real git server; fly is a script that writes down
//! what it was asked.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::git::{GitRepository, WorkingTree, file};
use crate::support::program::{Program, Ran};
use crate::support::{servers, temporary};

/// Writes its arguments, the template and what the user says to files beside itself.
const FLY: &str = r#"#!/bin/sh
directory=$(dirname "$0")
case " $* " in *' get-pipeline '*) exec cat "$directory/$6.json" ;; esac
for word do printf '%s\n' "$word"; done > "$directory/arguments"
while [ $# -gt 0 ]; do
    [ "$1" = --config ] && cp "$2" "$directory/config"
    shift
done
printf 'apply? '
read -r answer && echo "fly heard $answer"
[ ! -e "$directory/fails" ]
"#;

/// A repository with master and `feat/foo`, a clone of it, and fly.
struct Place {
    git: GitRepository,
    tree: WorkingTree,
    directory: TempDir,
}

impl Place {
    #[track_caller]
    fn new(name: &'static str) -> Self {
        let (git, directory) = (servers().git().repository(name), temporary());
        git.commit("master", &[file("Dockerfile", "FROM scratch\n")]);
        git.commit("feat/foo", &[file("Dockerfile", "FROM scratch\nLABEL a=b\n")]);
        let tree = git.clone_to(&directory.path().join("tree"));
        let place = Self { git, tree, directory };
        place.write("bin/fly", FLY);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(place.bin().join("fly"), mode).expect("it is made a program");
        place
    }

    fn bin(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it has a parent")).expect("the directory is made");
        std::fs::write(path, text).expect("the file is written");
    }

    /// Runs a command in a directory below the root of the clone, with "yes" on stdin.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_in(&self.tree.path, arguments)
    }

    #[track_caller]
    fn run_in(&self, directory: &Path, arguments: &[&str]) -> Ran {
        Program::git_image(arguments.iter().copied())
            .environment("PATH", format!("{}:/usr/bin:/bin", self.bin().display()))
            .working_directory(directory)
            .run_text("yes\n")
    }

    /// What fly was asked, a line for each argument.
    #[track_caller]
    fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.bin().join("arguments")).expect("fly was run");
        text.lines().map(str::to_owned).collect()
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.bin().join("config")).expect("fly had a template")
    }
}

#[test]
fn the_branch_that_is_checked_out_gets_its_pipeline() {
    let place = Place::new("set-pipeline");
    let git_uri = format!("git_uri={}", place.git.uri());
    let ran = place.run(&["set-pipeline", "--target", "ci"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "apply? fly heard yes\n"), "{}", ran.stderr);
    let mut asked = place.asked();
    assert!(asked.remove(6).ends_with("/master.yml"), "{asked:?}");
    let expected = ["--target", "ci", "set-pipeline", "--pipeline", "set-pipeline", "--config", "--var", &git_uri];
    assert_eq!(asked, [expected.as_slice(), &["--yaml-var", "branch=\"master\""]].concat());
    assert_eq!(place.config(), include_str!("../../pipelines/master.yml"));
    let commit = &place.git.id("master")[..7];
    let said = format!(
        "branch    master of 127.0.0.1/set-pipeline, at {commit}\npipeline  set-pipeline\ntemplate  master.yml of git-image\nunset     ((context)), ((details)), ((dockerfile)), "
    );
    assert!(ran.stderr.starts_with(&said), "{}", ran.stderr);
    let said = "((webhook_token)): left to Concourse's credential manager\n\
                run       fly --target ci set-pipeline --pipeline set-pipeline --config ";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    assert!(ran.stderr.ends_with(&format!(" --var {git_uri} --yaml-var 'branch=\"master\"'\n")), "{}", ran.stderr);

    // Another branch is an instance, and everything that is given goes to fly.
    place.tree.git(&["checkout", "--quiet", "feat/foo"]);
    place.write("tree/vars.yml", "git_uri: https://h/a.git\npipeline: app\n");
    let arguments = ["set-pipeline", "-l", "vars.yml", "-v", "a=b c", "-y", "d={e: 1}", "--non-interactive"];
    let ran = place.run(&arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut asked = place.asked();
    assert!(asked.remove(6).ends_with("/feature-branch.yml"), "{asked:?}");
    assert_eq!(
        asked,
        [
            "set-pipeline",
            "--pipeline",
            "app",
            "--instance-var",
            "branch=\"feat/foo\"",
            "--config",
            "--load-vars-from",
            "vars.yml",
            "--var",
            "a=b c",
            "--yaml-var",
            "d={e: 1}",
            "--yaml-var",
            "branch=\"feat/foo\"",
            "--non-interactive",
        ]
    );
    assert_eq!(place.config(), include_str!("../../pipelines/feature-branch.yml"));
}

#[test]
fn a_branch_builds_in_the_epoch_of_the_default_branch() {
    let place = Place::new("set-pipeline-epoch");
    place.write("tree/vars.yml", "pipeline: app\nepoch: null\n");
    let config = |epoch| {
        let source = format!(r#"{{"git": {{}}, "registry": {{}}, "build": {{"epoch": {epoch}}}}}"#);
        format!(r#"{{"resources": [{{"name": "image", "type": "git-image", "source": {source}}}]}}"#)
    };
    let arguments = ["set-pipeline", "--target", "ci", "-l", "vars.yml", "--branch", "feat/foo"];
    for (epoch, given, expected) in [
        ("\"2026-11\"", None, Some("epoch=2026-11")),
        ("\"2026-11\"", Some("epoch=mine"), Some("epoch=mine")),
        ("\"((epoch))\"", None, None),
        ("null", None, None),
    ] {
        place.write("bin/app.json", &config(epoch));
        let ran =
            place.run(&arguments.into_iter().chain(given.iter().flat_map(|given| ["-v", given])).collect::<Vec<_>>());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let asked = place.asked();
        let epochs: Vec<&str> = asked.iter().map(String::as_str).filter(|word| word.starts_with("epoch=")).collect();
        assert_eq!(epochs, Vec::from_iter(expected), "{epoch}");
        let said = "\nepoch     2026-11, as pipeline app has it now\n";
        assert_eq!(ran.stderr.contains(said), expected == Some("epoch=2026-11"), "{}", ran.stderr);
    }
}

#[test]
fn print_runs_nothing_and_prints_one_command() {
    let place = Place::new("set-pipeline-print");
    place.write("tree/ci/variables.yml", &format!("git_uri: {}\npipeline: app\n", place.git.uri()));
    let variables = place.tree.path.join("ci/variables.yml").display().to_string();
    let ran = place.run_in(&place.tree.path.join("ci"), &["set-pipeline", "--print", "--branch", "feat/foo"]);
    let command = format!(
        "fly set-pipeline --pipeline app --instance-var 'branch=\"feat/foo\"' --config feature-branch.yml --load-vars-from {variables} --yaml-var 'branch=\"feat/foo\"'\n"
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), command.as_str()), "{}", ran.stderr);
    // What `init` keeps out of git is read after what it commits.
    place.write("tree/ci/secrets.yml", "webhook_token: t\n");
    let ran = place.run(&["set-pipeline", "--print", "--branch", "feat/foo"]);
    let secrets = place.tree.path.join("ci/secrets.yml").display().to_string();
    let files = format!("--load-vars-from {variables} --load-vars-from {secrets} ");
    assert!(ran.stdout.contains(&files) && !ran.stderr.contains("webhook_token"), "{}{}", ran.stdout, ran.stderr);
    let ran = place.run(&["destroy-pipeline", "--print", "-t", "ci", "--branch", "gone", "--name", "other"]);
    let command = "fly --target ci destroy-pipeline --pipeline 'other/branch:\"gone\"'\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), command), "{}", ran.stderr);
    assert!(!place.bin().join("arguments").exists(), "fly was not run");
}

#[test]
fn a_template_of_ones_own_is_taken_from_the_option_or_the_variables() {
    let place = Place::new("set-pipeline-template");
    place.write("tree/ci/own.yml", "jobs: []\n");
    place
        .write("tree/ci/variables.yml", "master_template: repo/ci/own.yml\nfeature_template: git-image/rootfs/x.yml\n");
    assert_eq!(place.run(&["set-pipeline"]).code, Some(0));
    assert_eq!(place.config(), "jobs: []\n");
    assert_eq!(place.run(&["set-pipeline", "--branch", "feat/foo"]).code, Some(0));
    assert_eq!(place.config(), include_str!("../../pipelines/feature-branch.yml"));
    assert_eq!(place.run(&["set-pipeline", "--branch", "feat/foo", "--template", "ci/own.yml"]).code, Some(0));
    assert_eq!(place.config(), "jobs: []\n");
    place.run(&["set-pipeline", "--template", "ci/none.yml"]).fails_with(&format!(
        "branch    master of 127.0.0.1/set-pipeline-template, at {}\npipeline  set-pipeline-template\n\
         error: cannot read the template ci/none.yml\ncause: No such file or directory (os error 2)\n",
        &place.git.id("master")[..7]
    ));
}

#[test]
fn what_the_pipeline_would_not_see_is_refused() {
    let place = Place::new("set-pipeline-refused");
    let (tree, server) = (&place.tree, &place.git);
    let refused = |arguments: &[&str], stderr: &str| place.run(arguments).fails_with(stderr);

    let pushed = server.id("master");
    let newer = server.commit("master", &[file("more", "more\n")]);
    refused(
        &["set-pipeline"],
        &format!(
            "error: cannot set a pipeline for branch master\n\
             cause: branch master is at {} here, and at {} on the remote\n\
             hint: push it, or pull what others have pushed: the pipeline sees only the remote\n",
            &pushed[..7],
            &newer[..7]
        ),
    );
    tree.git(&["checkout", "--quiet", "-b", "new"]);
    refused(
        &["set-pipeline"],
        "error: cannot set a pipeline for branch new\n\
         cause: the remote has no branch new\n\
         hint: push it first: git push --set-upstream origin new\n",
    );
    tree.git(&["checkout", "--quiet", "--detach"]);
    for command in ["set-pipeline", "destroy-pipeline"] {
        refused(
            &[command],
            "error: the working tree is at no branch: HEAD is detached\n\
             hint: name the branch with --branch, or check it out\n",
        );
    }
    refused(
        &["set-pipeline", "--branch", "feat/foo", "--name", "team/app"],
        "error: cannot name a pipeline\n\
         cause: pipeline \"team/app\" has '/'; Concourse takes lower-case letters, digits, '-', '_' and '.'\n\
         hint: give one with --name, or the variable `pipeline`\n",
    );
    let ran = place.run(&["set-pipeline", "--branch", "--target"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);

    std::fs::write(place.bin().join("fails"), "").expect("the file is written");
    let ran = place.run(&["set-pipeline", "--branch", "feat/foo"]);
    let end = "\nerror: fly set-pipeline failed\ncause: exit status: 1\n";
    assert!(ran.stderr.ends_with(end) && ran.code == Some(1), "{}", ran.stderr);
    std::fs::remove_file(place.bin().join("fly")).expect("it is there");
    let ran = place.run(&["destroy-pipeline", "--branch", "feat/foo"]);
    let end = "error: cannot run fly: it is not on the PATH\n\
               hint: your Concourse has it: download it at the foot of its first page, make it executable, and put it on the PATH\n";
    assert!(ran.stderr.ends_with(end) && ran.code == Some(1), "{}", ran.stderr);

    server.git(&["symbolic-ref", "HEAD", "refs/heads/none"]);
    refused(
        &["set-pipeline", "--branch", "feat/foo"],
        "error: the remote has no default branch, so it cannot be told which template the branch has\n\
         hint: set the default branch on the git server\n",
    );
    tree.git(&["remote", "set-url", "origin", "http://user:hunter2@127.0.0.1:9/a.git"]);
    let ran = place.run(&["set-pipeline", "--branch", "feat/foo"]);
    assert!(
        ran.stderr.starts_with("error: cannot ask the remote origin for its branches\ncause: fatal: unable to access"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    tree.git(&["remote", "remove", "origin"]);
    refused(
        &["set-pipeline"],
        "error: this working tree has no remote origin\nhint: add it: git remote add origin URL\n",
    );
}
