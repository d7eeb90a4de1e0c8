//! `git-image branches`: one line for each branch, from registry and git as they are.

use serde_json::{Value, json};

use crate::project::Project;
use crate::support::git::file;
use crate::support::program::Program;
use crate::support::servers;

#[test]
fn each_branch_has_its_pipeline_its_tag_its_image_and_the_reapers_word() {
    let project = Project::new("branches");
    project.put(&project.source, "master").succeeds();
    for (branch, built) in [("feat/foo", true), ("old", true), ("new", false)] {
        project.git.set(branch, "master");
        project.git.commit(branch, &[file("ci/image/tool.sh", &format!("echo {branch}\n"))]);
        if built {
            project.put(&project.source_with(&[("/git/branch", json!(branch))]), branch).succeeds();
        }
    }
    project.git.commit("feat/foo", &[file("ci/image/tool.sh", "echo newer\n")]);
    project.git.commit("plain", &[file("app.sh", "echo app\n")]);
    project.git.delete("old");
    let ran = Program::git_image(["branches", "--source", "-", "--json"]).run(&project.source);
    let rows = ran.succeeds();
    let rows: Vec<&Value> = rows.as_array().expect("it is a list").iter().collect();
    let seen = |row: &&Value| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        [text("branch"), text("pipeline"), text("state"), text("verdict"), text("reason")]
    };
    assert_eq!(
        rows.iter().map(seen).collect::<Vec<_>>(),
        [
            ["master", "branches", "up-to-date", "keep", "branch master is there"],
            ["feat/foo", "branches/branch:\"feat/foo\"", "outdated", "keep", "branch feat/foo is there"],
            ["new", "branches/branch:\"new\"", "not-built", "-", "-"],
            ["plain", "branches/branch:\"plain\"", "no-image", "-", "-"],
            ["-", "-", "gone", "grace", "its branch is gone"],
        ]
    );
    let master = rows[0];
    assert_eq!(master["commit"], project.git.id("master"));
    assert_eq!(master["digest"], json!(project.digest("master-latest")));
    assert_eq!(master["tag"], "master-latest");
    assert!(0 < master["size_bytes"].as_u64().expect("it has a size"), "{master}");
    assert!(master["created"].as_str().is_some_and(|time| time.starts_with("20")), "{master}");

    let ran = Program::git_image(["branches", "--source", "-", "--name", "app"]).run(&project.source);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    for (line, begin) in [
        "BRANCH    PIPELINE               TAG                       IMAGE        VERSION  SIZE ",
        "master    app                    master-latest             up to date   -  ",
        "feat/foo  app/branch:\"feat/foo\"  feat-foo-d8e70cfd-latest  outdated     -  ",
        "new       app/branch:\"new\"       new-latest                not built    -        -  ",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(lines[line].starts_with(begin), "{}", ran.stdout);
    }
    assert_eq!(lines.len(), 6, "{}", ran.stdout);
}

#[test]
fn an_image_of_an_epoch_is_up_to_date_for_who_names_none() {
    let project = Project::new("branches-epoch");
    let of_the_week = project.source_with(&[("/build/epoch", json!("2026-47"))]);
    project.put(&of_the_week, "master").succeeds();
    let next_week = project.source_with(&[("/build/epoch", json!("2026-48"))]);
    for (source, state) in [(&project.source, "up-to-date"), (&of_the_week, "up-to-date"), (&next_week, "outdated")] {
        let ran = Program::git_image(["branches", "--source", "-", "--json"]).run(source);
        assert_eq!(ran.succeeds()[0]["state"], state, "{source}");
    }
}

#[test]
fn what_git_lacks_of_many_branches_is_fetched_together() {
    let project = Project::new("branches-many");
    let requests = || {
        let before = servers().git().requests_for(project.name).len();
        let ran = Program::git_image(["branches", "--source", "-", "--json"]).run(&project.source);
        (ran.succeeds().as_array().map_or(0, Vec::len), servers().git().requests_for(project.name).len() - before)
    };
    let (branches, of_one) = requests();
    assert_eq!(branches, 1);
    for number in 0..20 {
        let branch = format!("branch-{number}");
        project.git.set(&branch, "master");
        let dockerfile = format!("FROM scratch\nLABEL number={number}\n");
        project.git.commit(&branch, &[file("ci/image/Dockerfile", &dockerfile)]);
    }
    assert_eq!(requests(), (21, of_one));
}
