//! Disks that are full.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{ends_with, names, put_tip};
use crate::project::{Project, check, get};
use crate::support::git::file;
use crate::support::program::Program;
use crate::support::{server, servers, temporary};

/// A small disk. It goes with the mount namespace of the tests.
fn small_disk(directory: &Path, size: &str) {
    server::run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"]).arg(directory));
}

#[test]
fn a_rootfs_that_does_not_fit_is_an_error_and_leaves_nothing() {
    let project = Project::new("errors-full");
    let version = put_tip(&project.source).succeeds()["version"].clone();
    let directory = temporary();
    small_disk(directory.path(), "512k");
    let ran = get(&project.source, &version, directory.path(), json!({}));
    let manifest = servers().registry().image_manifest(project.name, "master-latest");
    ends_with(
        &ran,
        &format!(
            "error: cannot unpack layer {}\n\
             cause: cannot write \"bin/busybox\"\n\
             cause: No space left on device (os error 28)\n\
             hint: the worker's disk is full, or a quota is used up: make room, or make the image smaller\n",
            manifest["layers"][0]["digest"].as_str().expect("an image has layers")
        ),
    );
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn a_full_tmp_is_said_by_check() {
    let project = Project::new("errors-full-check");
    // What random names and contents make cannot be compressed.
    let files: Vec<(String, String)> =
        (0..3000).map(|number| (format!("files/{number:x}"), number.to_string())).collect();
    project.git.commit("master", &files.iter().map(|(path, text)| file(path, text)).collect::<Vec<_>>());
    let run = |size: &str| {
        let directory = temporary();
        small_disk(directory.path(), size);
        let ran = Program::check().environment("TMPDIR", directory.path()).run(&json!({"source": project.source}));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        ran.stderr.replace(&directory.path().display().to_string(), "TMP")
    };
    let cache = |stderr: &str| {
        let at = stderr.find("git-image-check-").expect("the path is named") + "git-image-check-".len();
        stderr[at..at + 16].to_owned()
    };
    let stderr = run("4k");
    assert_eq!(
        stderr,
        format!(
            "error: cannot write TMP/git-image-check-{}/repository/config.new\n\
             cause: No space left on device (os error 28)\n\
             hint: free space on this machine, which in a step is the worker\n",
            cache(&stderr)
        )
    );
    assert_eq!(
        run("64k"),
        "error: no space left for the files of 127.0.0.1/errors-full-check\n\
         cause: fatal: write error: No space left on device\n\
         fatal: index-pack failed\n\
         hint: free space on this machine, which in a step is the worker\n"
    );
    check(&project.source, None).succeeds();
}
