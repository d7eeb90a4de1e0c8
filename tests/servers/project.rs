//! A git repository with an image, and the resource that stands for it: what most tests begin with.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::git::{GitRepository, file};
use crate::support::program::{Program, Ran};
use crate::support::{servers, temporary};

/// A repository on the shared git server, and a repository of the same name on the shared registry.
pub struct Project {
    pub name: &'static str,
    pub git: GitRepository,
    /// `source` of the resource, for branch master.
    pub source: Value,
    artifacts: TempDir,
}

impl Project {
    /// A project with an empty repository. The name is this test's alone.
    #[track_caller]
    pub fn empty(name: &'static str) -> Self {
        let git = servers().git().repository(name);
        let source = json!({
            "git": {"uri": git.uri(), "branch": "master"},
            "registry": {"repository": servers().registry().repository(name), "insecure": true},
            "build": {"context": "ci/image"},
        });
        Self { name, git, source, artifacts: temporary() }
    }

    /// A project with an application and an image of one file on top of busybox.
    #[track_caller]
    pub fn new(name: &'static str) -> Self {
        let project = Self::empty(name);
        project.git.commit(
            "master",
            &[
                file("app.sh", "echo app 1\n"),
                file("ci/image/Dockerfile", &dockerfile()),
                file("ci/image/tool.sh", "echo tool 1\n"),
            ],
        );
        project
    }

    /// The source with another value at a path such as `/git/branch`; `null` takes the key out.
    pub fn source_with(&self, changes: &[(&str, Value)]) -> Value {
        let mut source = self.source.clone();
        for (path, value) in changes {
            let mut at = &mut source;
            for part in path.trim_start_matches('/').split('/') {
                at = at.as_object_mut().expect("the path leads through blocks").entry(part).or_insert(json!({}));
            }
            *at = value.clone();
        }
        source
    }

    /// Runs check.
    #[track_caller]
    pub fn check(&self, version: Option<&Value>) -> Ran {
        check(&self.source, version)
    }

    /// A new, empty directory, gone with the project.
    #[track_caller]
    pub fn directory(&self) -> PathBuf {
        tempfile::tempdir_in(self.artifacts.path()).expect("the directory is writable").keep()
    }

    /// Checks out a branch or commit as the git resource does, as the artifact `repo`; the directory of the artifacts.
    #[track_caller]
    pub fn checkout(&self, what: &str, depth: Option<u32>) -> PathBuf {
        let artifacts = self.directory();
        self.git.checkout(&artifacts.join("repo"), what, depth);
        artifacts
    }

    /// Runs out with the artifact `repo` made of this branch or commit.
    #[track_caller]
    pub fn put(&self, source: &Value, what: &str) -> Ran {
        put(source, &self.checkout(what, Some(1)), json!({"source": "repo"}))
    }

    /// Runs in with these params; the directory that it filled.
    #[track_caller]
    pub fn get(&self, version: &Value, params: Value) -> (PathBuf, Ran) {
        let directory = self.directory();
        let ran = get(&self.source, version, &directory, params);
        (directory, ran)
    }

    /// The tags of the project's image.
    #[track_caller]
    pub fn tags(&self) -> Vec<String> {
        servers().registry().tags(self.name)
    }

    /// What a tag of the project's image points to.
    #[track_caller]
    pub fn digest(&self, tag: &str) -> Option<String> {
        servers().registry().digest(self.name, tag)
    }
}

/// The Dockerfile of [`Project::new`].
pub fn dockerfile() -> String {
    format!("FROM {}\nCOPY tool.sh /usr/local/bin/tool\nRUN chmod 0755 /usr/local/bin/tool\n", servers().base_image())
}

/// Runs check.
#[track_caller]
pub fn check(source: &Value, version: Option<&Value>) -> Ran {
    let mut request = json!({"source": source});
    if let Some(version) = version {
        request["version"] = version.clone();
    }
    Program::check().run(&request)
}

/// Runs out.
#[track_caller]
pub fn put(source: &Value, artifacts: &std::path::Path, params: Value) -> Ran {
    Program::put(artifacts).run(&json!({"source": with_engine(source), "params": params}))
}

/// The source with the engine of the tests.
pub fn with_engine(source: &Value) -> Value {
    let mut source = source.clone();
    source["engine"] = json!({"host": servers().engine().host()});
    source
}

/// Runs in.
#[track_caller]
pub fn get(source: &Value, version: &Value, directory: &std::path::Path, params: Value) -> Ran {
    Program::get(directory).run(&json!({"source": source, "version": version, "params": params}))
}

/// The only version of a check's answer.
#[track_caller]
pub fn only(ran: &Ran) -> Value {
    let answer = ran.succeeds();
    let versions = answer.as_array().expect("check answers a list");
    assert_eq!(versions.len(), 1, "{answer}");
    versions[0].clone()
}
