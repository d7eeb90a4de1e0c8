//! What goes wrong while an engine builds, and large contexts.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{got, put_on};
use crate::project::Project;
use crate::support::engine::{self, Engine, EngineKind, Options};
use crate::support::git::{Change, file};
use crate::support::program::{Program, Ran};
use crate::support::registry::{Access, Account, Registry};
use crate::support::server::wait_until;
use crate::support::{image, servers};

/// The longest that anything of a build may live on after its end.
const LIMIT: Duration = Duration::from_secs(2);

/// A name of this kind of engine that is this test's alone.
fn name(test: &str, kind: EngineKind) -> &'static str {
    Box::leak(format!("trouble-{test}-{}", kind as u8).into_boxed_str())
}

/// Whether a process runs with this word in its arguments.
pub(super) fn runs(word: &str) -> bool {
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    entries
        .map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default())
        .any(|arguments| String::from_utf8_lossy(&arguments).replace('\0', " ").contains(word))
}

/// A project whose RUN sleeps for this many seconds, and the request to put it on an engine.
fn sleeper(name: &'static str, seconds: u32, engine: &Engine) -> (Project, Value) {
    let mut project = Project::empty(name);
    let dockerfile = format!("FROM {}\nRUN echo begun && sleep {seconds}\n", servers().base_image());
    project.git.commit("master", &[file("Dockerfile", &dockerfile)]);
    project.source["build"] = json!({});
    project.source["engine"] = json!({"host": engine.host()});
    let request = json!({"source": project.source});
    (project, request)
}

#[track_caller]
fn ends_within_the_limit(what: &str) {
    let since = Instant::now();
    wait_until("the engine ends the RUN", || !runs(what));
    assert!(since.elapsed() < LIMIT, "it took {:?}", since.elapsed());
}

#[test]
fn a_put_that_is_stopped_ends_the_run_at_every_engine() {
    for kind in EngineKind::ALL {
        let seconds = 8800 + kind as u32;
        let (project, request) = sleeper(name("stop", kind), seconds, engine::of(kind));
        let artifacts = crate::support::temporary();
        let mut running = Program::put(artifacts.path()).start(&request.to_string());
        running.wait_for("begun\n");
        let sleep = format!("sleep {seconds}");
        wait_until("the RUN sleeps", || runs(&sleep));
        running.terminate();
        ends_within_the_limit(&sleep);
        assert!(running.wait().stderr.contains("error: stopped by SIGTERM\n"));
        assert_eq!(project.tags(), [""; 0], "{}", kind.name());
    }
}

#[test]
fn an_engine_that_dies_is_an_error_that_says_so() {
    for kind in EngineKind::ALL {
        let engine = Engine::start(kind, Options::default());
        let (project, request) = sleeper(name("dies", kind), 8810 + kind as u32, &engine);
        let artifacts = crate::support::temporary();
        let mut running = Program::put(artifacts.path()).start(&request.to_string());
        running.wait_for("begun\n");
        let host = engine.host();
        engine.kill();
        let since = Instant::now();
        let ran = running.wait();
        assert!(since.elapsed() < LIMIT, "{}: it took {:?}", kind.name(), since.elapsed());
        let said = ran.stderr.split_once("error: ").map_or("", |(_, said)| said);
        assert!(
            said.starts_with(&format!("the engine at {host} was lost while it worked on "))
                && said.ends_with(
                    "hint: see whether the engine was stopped or ran out of memory; running the step again is safe\n"
                ),
            "{}:\n{}",
            kind.name(),
            ran.stderr
        );
        assert_eq!(project.tags(), [""; 0]);
    }
}

#[test]
fn an_engine_whose_disk_is_full_is_an_error_that_says_so() {
    for kind in EngineKind::ALL {
        let engine = Engine::start(kind, Options { disk: Some("96m"), ..Options::default() });
        let mut project = Project::empty(name("full", kind));
        project.git.commit("master", &[file("Dockerfile", "FROM scratch\nCOPY large /\n")]);
        project.source["build"] = json!({});
        project.source["only_built"] = json!(true);
        project.source["engine"] = json!({"host": engine.host()});
        let artifacts = project.checkout("master", Some(1));
        let large = std::fs::File::create(artifacts.join("repo/large")).expect("it is ours");
        large.set_len(200 << 20).expect("it is ours");
        let ran = Program::put(&artifacts).run(&json!({"source": project.source, "params": {"source": "repo"}}));
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains(": the disk of the engine is full\n"), "{}:\n{}", kind.name(), ran.stderr);
        assert_eq!(project.tags(), [""; 0], "{}", kind.name());
    }
}

#[test]
fn a_private_base_image_is_pulled_with_the_credentials_of_its_registry() {
    let account = Account { username: "ada", password: "right-password" };
    let private = Registry::start(crate::support::registry::Options {
        access: Access::Basic(account),
        ..crate::support::registry::Options::default()
    });
    let base = image::push_base(&private, "base", "1", Some(account));
    let login = json!([{"host": private.host(), "username": "ada", "password": "right-password"}]);
    for kind in EngineKind::ALL {
        let mut project = Project::empty(name("private", kind));
        project
            .git
            .commit("master", &[file("Dockerfile", &format!("FROM {base}\nRUN mkdir /got && echo 1 >/got/a\n"))]);
        project.source["build"] = json!({});
        let ran = put_on(kind, &project, &project.source, json!({}));
        assert!(ran.stderr.contains(&format!("base image {base} was refused by its registry\n")), "{}", ran.stderr);
        let source = project.source_with(&[("/registries", login.clone())]);
        put_on(kind, &project, &source, json!({})).succeeds();
        assert!(!ran.stderr.contains("right-password"));
    }
}

#[test]
fn ten_thousand_files_and_links_arrive_as_git_has_them() {
    let texts: Vec<(String, String)> =
        (0..10_000).map(|number| (format!("files/{}/{number}", number % 97), format!("{number}\n"))).collect();
    let mut changes: Vec<Change<'_>> = texts.iter().map(|(path, text)| file(path, text)).collect();
    changes.push(Change::Symlink("files/link", "0/0"));
    let count = "RUN mkdir /got && find /files -type f | wc -l >/got/files && cat /files/link >/got/link";
    for kind in EngineKind::ALL {
        let mut project = Project::empty(name("many", kind));
        let dockerfile = format!("FROM {}\nCOPY files /files/\n{count}\n", servers().base_image());
        project.git.commit("master", &[&changes[..], &[file("Dockerfile", &dockerfile)]].concat());
        project.source["build"] = json!({});
        let ran = put_on(kind, &project, &project.source, json!({}));
        let found = got(&project, &ran.succeeds()["version"]);
        assert_eq!((found["files"].trim(), found["link"].as_str()), ("10000", "0"), "{}", kind.name());
    }
}

/// The most memory that a put took, in kB, by what the kernel counted.
#[track_caller]
fn peak(artifacts: &Path, request: &Value) -> (Ran, u64) {
    let mut running = Program::put(artifacts).start(&request.to_string());
    let status = format!("/proc/{}/status", running.id());
    let mut peak = 0;
    running.wait_for("exporting to image\n");
    let text = std::fs::read_to_string(status).unwrap_or_default();
    for line in text.lines().filter_map(|line| line.strip_prefix("VmHWM:")) {
        peak = line.trim().trim_end_matches(" kB").parse().expect("the kernel counts in kB");
    }
    (running.wait(), peak)
}

#[test]
fn memory_does_not_grow_with_the_context() {
    for kind in [EngineKind::Docker20, EngineKind::BuildKit] {
        let mut project = Project::empty(name("memory", kind));
        project.git.commit("master", &[file("Dockerfile", "FROM scratch\nCOPY large /\n")]);
        project.source["build"] = json!({});
        project.source["only_built"] = json!(true);
        project.source["engine"] = json!({"host": engine::of(kind).host()});
        let artifacts = project.checkout("master", Some(1));
        // All zeros: it takes no room on the disk of the test, and little at the engine's registry.
        let large = std::fs::File::create(artifacts.join("repo/large")).expect("it is ours");
        large.set_len(400 << 20).expect("it is ours");
        let (ran, peak) = peak(&artifacts, &json!({"source": project.source, "params": {"source": "repo"}}));
        ran.succeeds();
        assert!(peak < 50_000, "{}: {peak} kB", kind.name());
    }
}
