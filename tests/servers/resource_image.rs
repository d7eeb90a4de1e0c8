//! The programs in the image of the resource type, in containers as Concourse makes them.

use std::path::Path;

use serde_json::{Value, json};

use crate::project::{Project, only};
use crate::support::container::{Container, Options, Privilege};
use crate::support::engine::{self, EngineKind};
use crate::support::git::{Change, Passphrase, SshServer, file};
use crate::support::{resource_image, servers, temporary};

#[test]
fn the_image_has_the_three_programs_and_says_what_it_is() {
    resource_image::push("resource-image", "1");
    let config = servers().registry().image_config("resource-image", "1");
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.title"], "git-image");
    assert_eq!((&config["architecture"], &config["os"]), (&json!("amd64"), &json!("linux")));
    for program in [
        "opt/resource/check",
        "opt/resource/in",
        "opt/resource/out",
        "usr/local/bin/buildkitd",
        "usr/sbin/runc",
        "usr/bin/ssh-agent",
        "usr/bin/ssh-add",
        "usr/share/git-image/pipelines/feature-branch.yml",
        "usr/share/git-image/pipelines/tasks/reap.yml",
    ] {
        assert!(resource_image::root().join(program).is_file(), "{program}");
    }
}

#[test]
fn an_unprivileged_container_checks_puts_with_a_remote_engine_and_gets() {
    let project = Project::new("resource-image");
    let artifacts = project.checkout("master", Some(1));
    let destination = temporary();
    let container = container(Privilege::None, &artifacts, destination.path());
    is_as_strict_as_concourse(&container);

    let version = only(&container.program(&["/opt/resource/check"]).run(&json!({"source": project.source})));
    let without = json!({"source": project.source, "params": {"source": "repo"}});
    let refused = container.program(&["/opt/resource/out", "/tmp/build/put"]).run(&without);
    assert!(refused.code == Some(1) && refused.stderr.contains("privileged: true"), "{}", refused.stderr);
    let engine = json!({"host": engine::of(EngineKind::BuildKit).tcp_host()});
    let source = project.source_with(&[("/engine", engine)]);
    let request = json!({"source": source, "params": {"source": "repo"}});
    let put = container.program(&["/opt/resource/out", "/tmp/build/put"]).run(&request).succeeds();
    assert_eq!(put["version"], version);
    let request = json!({"source": project.source, "version": version, "params": {"source": true}});
    let get = container.program(&["/opt/resource/in", "/tmp/build/get"]).run(&request).succeeds();
    assert_eq!(get["version"], version);
    let read = |name: &str| std::fs::read_to_string(destination.path().join(name)).expect("in wrote it");
    assert_eq!(read("rootfs/usr/local/bin/tool"), "echo tool 1\n");
    assert_eq!(read("source/app.sh"), "echo app 1\n");
}

#[test]
fn git_over_ssh_works_in_the_image() {
    let project = Project::new("resource-image-ssh");
    let ssh = SshServer::start(servers().git(), Passphrase::Words("open sesame"));
    let nothing = temporary();
    let container = container(Privilege::None, nothing.path(), temporary().path());
    let source = project.source_with(&[
        ("/git/uri", json!(ssh.uri("resource-image-ssh"))),
        ("/git/private_key", json!(ssh.private_key())),
        ("/git/private_key_passphrase", json!("open sesame")),
    ]);
    let checked = container.program(&["/opt/resource/check"]).run(&json!({"source": source}));
    let there = project.check(None);
    assert_eq!(only(&checked)["inputs"].as_str().map(str::len), only(&there)["inputs"].as_str().map(str::len));
}

#[test]
fn a_privileged_container_checks_puts_with_the_engine_of_the_image_and_gets() {
    let project = Project::new("resource-image-engine");
    let artifacts = project.checkout("master", Some(1));
    let destination = temporary();
    let container = container(Privilege::Full, &artifacts, destination.path());
    let version = only(&container.program(&["/opt/resource/check"]).run(&json!({"source": project.source})));
    let request = json!({"source": project.source, "params": {"source": "repo"}});
    let put = container.program(&["/opt/resource/out", "/tmp/build/put"]).run(&request);
    assert_eq!(put.succeeds()["version"], version);
    assert!(put.stderr.contains(" inside this resource, for linux/amd64 "), "{}", put.stderr);
    assert!(put.stderr.contains(", snapshotter overlayfs\n"), "{}", put.stderr);
    let left: Vec<_> = std::fs::read_dir(container.in_it("scratch")).expect("it is there").flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == "lost+found"), "{left:?}");
    let request = json!({"source": project.source, "version": version});
    container.program(&["/opt/resource/in", "/tmp/build/get"]).run(&request).succeeds();
    let tool = std::fs::read_to_string(destination.path().join("rootfs/usr/local/bin/tool")).expect("in wrote it");
    assert_eq!(tool, "echo tool 1\n");
}

#[test]
fn the_engine_of_the_image_fetches_a_git_repository_with_submodules_that_a_dockerfile_adds() {
    let part = servers().git().repository("resource-image-part");
    let first = part.commit("master", &[file("part.sh", "echo part\n")]);
    let library = servers().git().repository("resource-image-library");
    let modules = format!("[submodule \"part\"]\n\tpath = part\n\turl = {}\n", part.uri());
    let commit = library.commit("master", &[file(".gitmodules", &modules), Change::Submodule("part", &first)]);
    let project = Project::new("resource-image-git");
    let dockerfile = format!("FROM {}\nADD {}#{commit} /library\n", servers().base_image(), library.uri());
    project.git.commit("master", &[file("ci/image/Dockerfile", &dockerfile)]);
    let (artifacts, destination) = (project.checkout("master", Some(1)), temporary());
    let container = container(Privilege::Full, &artifacts, destination.path());
    let request = json!({"source": project.source, "params": {"source": "repo"}});
    let put = container.program(&["/opt/resource/out", "/tmp/build/put"]).run(&request);
    let request = json!({"source": project.source, "version": put.succeeds()["version"]});
    container.program(&["/opt/resource/in", "/tmp/build/get"]).run(&request).succeeds();
    let added = std::fs::read_to_string(destination.path().join("rootfs/library/part/part.sh")).expect("it was added");
    assert_eq!(added, "echo part\n");
}

/// A container of the image, with these artifacts for `out`, and this directory for `in`.
#[track_caller]
fn container(privilege: Privilege, artifacts: &Path, destination: &Path) -> Container {
    let mounts = vec![(destination.to_owned(), "/tmp/build/get")];
    Container::start(artifacts, &Options { mounts, ..Options::of_image(resource_image::root(), privilege) })
}

/// Holds what the tests of this file rely on against what was seen in Concourse.
#[track_caller]
fn is_as_strict_as_concourse(container: &Container) {
    for (script, expected) in [
        (": >/dev/stderr", Some("Permission denied")),
        (": >/proc/self/fd/2", Some("Permission denied")),
        (": >/scratch/file && : >/tmp/file", None),
        (": >/sys/file", Some("Read-only file system")),
        ("[ \"$(pwd)\" = / ] && ! [ -t 0 ] && ! [ -t 2 ]", None),
    ] {
        let ran = container.program(&["/bin/sh", "-c", script]).run(&Value::Null);
        match expected {
            None => assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{script}"),
            Some(why) => assert!(ran.code != Some(0) && ran.stderr.contains(why), "{script}: {}", ran.stderr),
        }
    }
    let environment = container.program(&["/bin/sh", "-c", "export -p"]).run(&Value::Null).stdout;
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names, ["export HOME", "export PATH", "export PWD", "export SHLVL"], "the last two are the shell's own");
}
