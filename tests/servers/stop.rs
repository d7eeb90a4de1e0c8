//! Steps that are stopped: nothing is left, and the next step does its work.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::project::{Project, check, get, put, with_engine};
use crate::proxy::{Pace, Proxy};
use crate::support::git::file;
use crate::support::program::{Program, Ran, Running};
use crate::support::server::wait_until;
use crate::support::{servers, temporary};

/// What every stopped program says last.
const STOPPED: &str =
    "error: stopped by SIGTERM\nhint: what was begun has been ended; running the step again continues safely\n";

/// The longest that a program may live after SIGTERM.
const LIMIT: Duration = Duration::from_secs(3);

/// Ends a program as Concourse does, and checks how it ends.
#[track_caller]
fn terminate(running: Running) -> Ran {
    let since = Instant::now();
    running.terminate();
    let ran = running.wait();
    assert!(since.elapsed() < LIMIT, "it took {:?}:\n{}", since.elapsed(), ran.stderr);
    assert!(ran.stderr.ends_with(STOPPED), "{}", ran.stderr);
    assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(1)));
    ran
}

/// The command lines of what runs with this word in its arguments or environment.
fn processes_with(word: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let read = |path: &Path, name: &str| std::fs::read(path.join(name)).unwrap_or_default();
    entries
        .filter_map(|entry| {
            let path = entry.path();
            let arguments = String::from_utf8_lossy(&read(&path, "cmdline")).replace('\0', " ");
            let environment = String::from_utf8_lossy(&read(&path, "environ")).into_owned();
            (arguments.contains(word) || environment.contains(word)).then_some(arguments)
        })
        .filter(|arguments| !arguments.is_empty())
        .collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory is there").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A project whose image takes long to build: by a RUN that sleeps for this many seconds.
fn sleeper(name: &'static str, seconds: u32) -> Project {
    let project = Project::new(name);
    let dockerfile = format!("FROM {}\nRUN echo begun && sleep {seconds}\n", servers().base_image());
    project.git.commit("master", &[file("ci/image/Dockerfile", &dockerfile)]);
    project
}

#[test]
fn a_put_that_is_stopped_during_a_run_ends_the_run_and_leaves_no_image() {
    let project = sleeper("stop-out", 7771);
    let (artifacts, tmp) = (project.checkout("master", Some(1)), temporary());
    let request = json!({"source": with_engine(&project.source), "params": {"source": "repo"}});
    let mut running = Program::put(&artifacts).environment("TMPDIR", tmp.path()).start(&request.to_string());
    running.wait_for("begun\n");
    wait_until("the RUN sleeps", || !processes_with("sleep 7771").is_empty());
    terminate(running);
    wait_until("the engine ends the RUN", || processes_with("sleep 7771").is_empty());
    let tmp_path = tmp.path().to_string_lossy();
    assert_eq!(processes_with(&tmp_path), [""; 0], "no child survives");
    assert_eq!(names(tmp.path()), [""; 0], "no temporary file is left");
    assert_eq!(project.tags(), [""; 0]);
    let images = servers().engine().get("/images/json").text();
    assert!(!images.contains(project.name), "the engine keeps no name: {images}");
}

#[test]
fn a_put_that_is_killed_in_the_middle_succeeds_when_it_is_run_again() {
    let project = sleeper("stop-kill", 2);
    let artifacts = project.checkout("master", Some(1));
    let request = json!({"source": with_engine(&project.source), "params": {"source": "repo"}});
    let mut running = Program::put(&artifacts).start(&request.to_string());
    running.wait_for("begun\n");
    let process = rustix::process::Pid::from_raw(i32::try_from(running.id()).expect("an id fits"));
    rustix::process::kill_process(process.expect("it has an id"), rustix::process::Signal::KILL).expect("it runs");
    assert_eq!(running.wait().code, None);
    let version = put(&project.source, &artifacts, json!({"source": "repo"})).succeeds()["version"].clone();
    assert_eq!(project.tags().len(), 3);
    let (_, ran) = project.get(&version, json!({}));
    ran.succeeds();
}

#[test]
fn a_get_that_is_stopped_during_the_download_leaves_no_file() {
    let project = Project::new("stop-in");
    let version = project.put(&project.source, "master").succeeds()["version"].clone();
    let proxy = Proxy::start(&servers().registry().host(), Pace::Slow);
    let source = project.source_with(&[("/registry/repository", json!(format!("{}/{}", proxy.host(), project.name)))]);
    for format in ["rootfs", "oci", "oci-layout"] {
        let (directory, tmp) = (temporary(), temporary());
        let request = json!({"source": source, "version": version, "params": {"format": format}});
        proxy.set(Pace::Slow);
        let before = proxy.bytes();
        let running = Program::get(directory.path()).environment("TMPDIR", tmp.path()).start(&request.to_string());
        wait_until("a part of the layer arrived", || proxy.bytes() > before + 100_000);
        terminate(running);
        assert_eq!(processes_with(&tmp.path().to_string_lossy()), [""; 0], "no child survives");
        assert_eq!((names(directory.path()), names(tmp.path())), (vec![], vec![]), "{format}");
        proxy.set(Pace::Full);
        get(&source, &version, directory.path(), json!({"format": format})).succeeds();
    }
}

#[test]
fn a_check_that_is_stopped_while_it_waits_leaves_only_its_cache_which_serves_the_next() {
    stop_check("stop-check", &json!([]), 0);
    // A setting with which git itself speaks to the server.
    stop_check("stop-check-git", &json!([{"name": "http.version", "value": "HTTP/1.1"}]), 1);
}

/// `children`: how many at least run while the server says nothing.
#[track_caller]
fn stop_check(name: &'static str, git_config: &Value, children: usize) {
    let project = Project::new(name);
    let address = project.git.uri().trim_start_matches("http://").split('/').next().expect("it has a host").to_owned();
    let proxy = Proxy::start(&address, Pace::Silent);
    let source = project.source_with(&[
        ("/git/uri", json!(project.git.uri().replace(&address, &proxy.host()))),
        ("/git/git_config", git_config.clone()),
    ]);
    let tmp = temporary();
    let program = || Program::check().environment("TMPDIR", tmp.path());
    let request = json!({"source": source});
    let word = tmp.path().to_string_lossy().into_owned();
    for pace in [Pace::Silent, Pace::Slow] {
        let before = proxy.connections();
        let running = program().start(&request.to_string());
        wait_until("somebody has connected", || proxy.connections() > before);
        assert!(children < processes_with(&word).len(), "git runs as a child");
        terminate(running);
        assert_eq!(processes_with(&word), [""; 0], "no child survives");
        let left = names(tmp.path());
        assert!(left.iter().all(|name| name.starts_with("git-image-check-")), "{left:?}");
        assert!(left.len() <= 1, "{left:?}");
        proxy.set(if pace == Pace::Silent { Pace::Slow } else { Pace::Full });
    }
    proxy.set(Pace::Full);
    let version = program().run(&request).succeeds();
    assert_eq!(version, check(&project.source, None).succeeds());
    let again = program().run(&json!({"source": source, "version": version[0]}));
    assert_eq!(again.succeeds(), version);
    assert!(again.stderr.contains("nothing new"), "the cache serves:\n{}", again.stderr);
}
