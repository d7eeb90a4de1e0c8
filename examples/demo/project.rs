//! A git repository with an application and an image, and what Concourse would send about it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::story::{Step, Story};
use crate::support::git::{GitRepository, file};
use crate::support::program::{Program, Ran};
use crate::support::registry::Registry;
use crate::support::{servers, temporary};

/// The image's repository in the registry.
pub const IMAGE: &str = "acme/app-ci";

/// The program of the image, whose text each commit of the story changes.
pub const GREET: &str = "ci/image/greet";

/// The project that the story is about.
pub struct Project {
    /// Its git repository.
    pub git: GitRepository,
    /// What the steps of the story read and write; in memory.
    directories: TempDir,
}

impl Project {
    /// Starts the servers, and makes the repository with its first commit.
    pub fn create() -> Self {
        let git = servers().git().repository("acme/app");
        let dockerfile = dockerfile();
        git.commit_with_message(
            "master",
            "Add the application and its image",
            &[
                file("app/main.sh", "greet\n"),
                file("ci/image/Dockerfile", &dockerfile),
                file(GREET, &greet("the first image")),
            ],
        );
        Self { git, directories: temporary() }
    }

    /// `source` of the resource for a branch, as a pipeline has it.
    pub fn source(&self, branch: &str) -> Value {
        json!({
            "git": {"uri": self.git.uri(), "branch": branch},
            "registry": {"repository": registry().repository(IMAGE), "insecure": true},
            "build": {"context": "ci/image"},
            "engine": {"host": servers().engine().host()},
        })
    }

    /// Runs check.
    pub fn check(&self, story: &mut Story, headline: &str, branch: &str, version: Option<&Value>) -> Ran {
        let mut input = json!({"source": self.source(branch)});
        if let Some(version) = version {
            input["version"] = version.clone();
        }
        story.step(Step { headline, command: "/opt/resource/check", program: Program::check(), input: &input })
    }

    /// Checks a branch out as the get of Concourse's git resource does; the directory of the build's artifacts.
    pub fn checkout(&self, branch: &str) -> PathBuf {
        let artifacts = self.directory();
        self.git.checkout(&artifacts.join("repo"), branch, Some(1));
        artifacts
    }

    /// Runs out on a checkout of the branch.
    pub fn put(&self, story: &mut Story, headline: &str, branch: &str, artifacts: &Path) -> Ran {
        let input = json!({"source": self.source(branch), "params": {"source": "repo"}});
        story.step(Step {
            headline,
            command: "/opt/resource/out /tmp/build/put\n(in /tmp/build/put/repo: the checkout that the get of the git resource made)",
            program: Program::put(artifacts),
            input: &input,
        })
    }

    /// Runs in; the directory that it filled.
    pub fn get(&self, story: &mut Story, headline: &str, version: &Value) -> PathBuf {
        let directory = self.directory();
        let input = json!({"source": self.source("master"), "version": version});
        story.step(Step {
            headline,
            command: "/opt/resource/in /tmp/build/get",
            program: Program::get(&directory),
            input: &input,
        });
        directory
    }

    /// Runs `git-image reap --source -` with further options.
    pub fn reap(&self, story: &mut Story, headline: &str, options: &[&str]) -> Ran {
        let command = format!("git-image reap --source - {}", options.join(" "));
        let input = self.source("master");
        story.step(Step { headline, command: &command, program: self.reap_program(options), input: &input })
    }

    /// What a plan of the reaper says now, without a step of the story.
    pub fn plan(&self) -> String {
        self.reap_program(&["--grace", "0s"]).run(&self.source("master")).stdout
    }

    /// An empty directory.
    pub fn directory(&self) -> PathBuf {
        tempfile::tempdir_in(self.directories.path()).expect("the directory is writable").keep()
    }

    fn reap_program(&self, options: &[&str]) -> Program {
        Program::git_image(["reap", "--source", "-"].into_iter().chain(options.iter().copied()))
    }
}

/// The registry of the story.
pub fn registry() -> &'static Registry {
    servers().registry()
}

/// What a tag of the image points to.
pub fn digest(tag: &str) -> Option<String> {
    registry().digest(IMAGE, tag)
}

/// All tags of the image.
pub fn tags() -> Vec<String> {
    registry().tags(IMAGE)
}

/// The Dockerfile of the image.
pub fn dockerfile() -> String {
    format!("FROM {}\nCOPY greet /usr/local/bin/greet\nRUN chmod 0755 /usr/local/bin/greet\n", servers().base_image())
}

/// The program of the image.
pub fn greet(from: &str) -> String {
    format!("#!/bin/sh\necho \"Hello from {from}.\"\n")
}

/// The only version of a check's answer.
#[track_caller]
pub fn only(ran: &Ran) -> Value {
    match ran.succeeds() {
        Value::Array(versions) if versions.len() == 1 => versions[0].clone(),
        other => panic!("one version was expected: {other}"),
    }
}

/// The content tag of a version: it names what the image is made of.
pub fn content_tag(version: &Value) -> String {
    format!("inputs-{}", text(version, "inputs"))
}

/// The text of a key.
#[track_caller]
pub fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {object}"))
}
