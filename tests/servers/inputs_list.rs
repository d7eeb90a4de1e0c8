//! `git-image inputs`: the files that an image is made of, and what changed between two commits.

use serde_json::{Value, json};

use crate::project::Project;
use crate::support::git::{Change, file};
use crate::support::program::{Program, Ran};
use crate::support::temporary;

fn inputs(source: &Value, arguments: &[&str]) -> Ran {
    Program::git_image(["inputs", "--source", "-"].iter().chain(arguments).copied()).run(source)
}

#[test]
fn each_file_is_listed_with_its_reason() {
    let project = Project::new("inputs-list");
    let version = project.check(None).succeeds()[0].clone();
    let (commit, id) = (project.git.id("master"), version["inputs"].as_str().expect("it is a text").to_owned());
    let ran = inputs(&project.source, &[]);
    let expected = format!(
        "{commit} is made of 2 files, inputs {id}\n\
         ci/image/Dockerfile  the Dockerfile\n\
         ci/image/tool.sh     a source in line 2 of the Dockerfile\n"
    );
    assert_eq!((ran.code, ran.stdout), (Some(0), expected), "{}", ran.stderr);
    let listed = inputs(&project.source, &["--json", "master"]).succeeds();
    assert_eq!(listed["inputs"], id);
    assert_eq!(listed["files"][1], json!({"path": "ci/image/tool.sh", "why": "a source in line 2 of the Dockerfile"}));
    assert_eq!(listed["whole_context"], Value::Null);

    project.git.commit("all", &[file("ci/image/Dockerfile", "FROM scratch\nCOPY . /\n"), file("ci/image/more", "")]);
    let ran = inputs(&project.source, &["all"]);
    assert!(ran.stdout.contains("\nci/image/more        "), "{}", ran.stdout);
}

#[test]
fn what_changed_between_two_commits_is_listed() {
    let project = Project::new("inputs-compared");
    let first = project.git.id("master");
    project.git.set("plain", "master");
    let second = project.git.commit("plain", &[file("app.sh", "echo app 2\n")]);
    let ran = inputs(&project.source, &[&first, "plain"]);
    let id = project.check(None).succeeds()[0]["inputs"].as_str().expect("it is a text").to_owned();
    let same = format!("{} and {} have the same image: inputs {id}\n", &first[..7], &second[..7]);
    assert_eq!((ran.code, ran.stdout), (Some(0), same), "{}", ran.stderr);

    let directory = temporary();
    let dockerfile = crate::project::dockerfile().replace("tool.sh", "new.sh");
    let changes = [
        file("ci/image/Dockerfile", &dockerfile),
        file("ci/image/new.sh", "echo new\n"),
        Change::Remove("ci/image/tool.sh"),
    ];
    project.git.commit("master", &changes);
    let tree = project.git.clone_to(&directory.path().join("tree"));
    let program = Program::git_image(["inputs", "--source", "-", "HEAD~1", "HEAD", "--json"]);
    let compared = program.working_directory(&tree.path).run(&project.source).succeeds();
    let why = "a source in line 2 of the Dockerfile";
    assert_eq!(
        compared["changes"],
        json!([
            {"path": "ci/image/Dockerfile", "change": "changed", "why": "the Dockerfile"},
            {"path": "ci/image/new.sh", "change": "added", "why": why},
            {"path": "ci/image/tool.sh", "change": "removed", "why": why},
        ])
    );
    let ran = inputs(&project.source, &[&first, "master"]);
    let end = format!(
        ", because of 3 files\n\
         changed  ci/image/Dockerfile  the Dockerfile\n\
         added    ci/image/new.sh      {why}\n\
         removed  ci/image/tool.sh     {why}\n"
    );
    assert!(ran.stdout.ends_with(&end), "{}", ran.stdout);

    let program = Program::git_image(["inputs", "--source", "-", "nothing"]);
    program.working_directory(&tree.path).run(&project.source).fails_with(
        "error: there is no commit \"nothing\" in this working tree, and no such branch on the remote\n\
         hint: give its 40 digits, or fetch it\n",
    );
}
