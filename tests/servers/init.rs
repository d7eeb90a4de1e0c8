//! What `git-image init` writes works as it is: it is pushed, checked, built and fetched.

use std::path::Path;

use git_image::pipeline::{self, Variables};
use git_image::yaml;
use serde_json::{Value, json};

use crate::project::{check, get, only, put};
use crate::support::git::{WorkingTree, file};
use crate::support::program::{Program, Ran};
use crate::support::{servers, temporary};

fn init(tree: &WorkingTree, name: &str) -> Ran {
    let repository = servers().registry().repository(name);
    let arguments = ["init", "--repository", &repository, "--git-image", "registry.example.com/tools/git-image"];
    let program = Program::git_image(arguments).argument("--base").argument(servers().base_image());
    program.working_directory(&tree.path).run_text("")
}

/// The source of the pipeline's image, as Concourse would make it.
fn source(tree: &Path) -> Value {
    let read = |path: &str| {
        let text = std::fs::read_to_string(tree.join(path)).expect("the file is there");
        yaml::parse(&text).expect("it is YAML")
    };
    let mut variables = Variables::default();
    for file in ["ci/variables.yml", "ci/secrets.yml"] {
        variables.add_all(read(file)).expect("it is a block");
    }
    let source = variables.fill(pipeline::source(&read("ci/pipelines/master.yml"), None).expect("it has an image"));
    assert_eq!(pipeline::names(&source).into_iter().collect::<Vec<_>>(), Vec::<String>::new());
    source
}

#[test]
fn the_files_of_a_new_project_build_an_image_and_set_a_pipeline() {
    let git = servers().git().repository("init");
    let directory = temporary();
    git.commit("master", &[file("README", "an app\n")]);
    let tree = git.clone_to(&directory.path().join("tree"));
    let ran = init(&tree, "init");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let root = tree.path.canonicalize().expect("it is there");
    let written: Vec<String> = [
        "image/Dockerfile",
        "image/image.details",
        "test.yml",
        "pipelines/master.yml",
        "pipelines/feature-branch.yml",
        "pipelines/branches.yml",
        "variables.yml",
        "secrets.yml",
        ".gitignore",
    ]
    .map(|path| format!("written   {}/ci/{path}\n", root.display()))
    .to_vec();
    assert_eq!(ran.stderr, written.concat());
    let steps = "/api/v1/teams/main/pipelines/init/resources/repo/check/webhook?webhook_token=";
    assert!(ran.stdout.starts_with("What to do next:\n") && ran.stdout.contains(steps), "{}", ran.stdout);

    tree.git(&["add", "ci"]);
    assert!(!tree.git(&["status", "--porcelain"]).contains("secrets.yml"), "the token is in no commit");
    let mode = std::fs::metadata(root.join("ci/secrets.yml")).expect("it is there").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o077, 0);
    tree.git(&["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "ci"]);
    tree.git(&["push", "--quiet", &format!("file://{}", git.path().display()), "master"]);

    let mut source = source(&tree.path);
    source["registry"]["insecure"] = json!(true);
    let version = only(&check(&source, None));
    let artifacts = temporary();
    git.checkout(&artifacts.path().join("repo"), "master", Some(1));
    assert_eq!(put(&source, artifacts.path(), json!({"source": "repo"})).succeeds()["version"], version);
    let image = temporary();
    assert_eq!(get(&source, &version, image.path(), json!({})).succeeds()["version"], version);
    assert!(image.path().join("rootfs/bin").is_dir(), "the base image is below it");

    // Inside the working tree, no command needs to be told which image is meant.
    let ran = Program::git_image(["inputs", "--json"]).working_directory(&tree.path).run_text("");
    assert_eq!(ran.succeeds()["inputs"], version["inputs"]);

    let ran = Program::git_image(["set-pipeline", "--print"]).working_directory(&tree.path).run_text("");
    let command = format!(
        "fly set-pipeline --pipeline init --config {0}/ci/pipelines/master.yml --load-vars-from {0}/ci/variables.yml --load-vars-from {0}/ci/secrets.yml --yaml-var 'branch=\"master\"'\n",
        root.display()
    );
    assert_eq!((ran.code, ran.stdout), (Some(0), command), "{}", ran.stderr);
}

#[test]
fn nothing_is_overwritten_and_nothing_else_is_written_then() {
    let git = servers().git().repository("init-twice");
    let directory = temporary();
    git.commit("master", &[file("ci/test.yml", "mine\n"), file("ci/image/Dockerfile", "FROM scratch\n")]);
    let tree = git.clone_to(&directory.path().join("tree"));
    let root = tree.path.canonicalize().expect("it is there");
    init(&tree, "init-twice").fails_with(&format!(
        "error: there is already {0}/ci/image/Dockerfile, {0}/ci/test.yml\n\
         hint: nothing was written; move them away, or go on with what they say\n",
        root.display()
    ));
    assert!(!root.join("ci/variables.yml").exists());
    assert_eq!(tree.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_token_is_not_written_where_git_would_commit_it() {
    let git = servers().git().repository("init-ignore");
    let directory = temporary();
    git.commit("master", &[file("ci/.gitignore", "*.log\n")]);
    let tree = git.clone_to(&directory.path().join("tree"));
    let root = tree.path.canonicalize().expect("it is there");
    init(&tree, "init-ignore").fails_with(&format!(
        "error: cannot write {0}/ci/secrets.yml: {0}/ci/.gitignore does not keep it out of git\n\
         hint: nothing was written; add a line `secrets.yml` there: it is for what nobody may read in a commit\n",
        root.display()
    ));
    assert_eq!(tree.git(&["status", "--porcelain"]), "");

    std::fs::write(root.join("ci/.gitignore"), "*.log\nsecrets.yml\n").expect("the file is writable");
    let ran = init(&tree, "init-ignore");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(root.join("ci/secrets.yml").is_file() && !ran.stderr.contains(".gitignore"), "{}", ran.stderr);
}
