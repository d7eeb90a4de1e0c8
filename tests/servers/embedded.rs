//! The engine inside the resource, in containers like those of Concourse.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use git_image::clients::process::{Environment, Program};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::connections::relay;
use crate::errors::{ends_with, reference};
use crate::project::Project;
use crate::support::container::{self, Container, Groups, Options, Privilege, Root, Scratch};
use crate::support::engine;
use crate::support::git::file;
use crate::support::program::{Ran, Running};
use crate::support::registry::{self, Account, Registry, Transport};
use crate::support::server::wait_until;
use crate::support::tunnel::Tunnel;
use crate::support::{image, servers, temporary};

/// What a container is before a step.
struct Before {
    mounts: String,
    groups: Vec<PathBuf>,
}

impl Before {
    fn of(container: &Container) -> Self {
        Self { mounts: container.mounts(), groups: container.groups() }
    }

    /// Fails the test unless the container is as it was: nothing runs, is mounted, or lies about.
    #[track_caller]
    fn is_restored(&self, container: &Container) {
        assert_eq!(container.processes(), [""; 0], "nothing survives");
        assert_eq!(container.mounts(), self.mounts);
        assert_eq!(container.groups(), self.groups);
        let left = std::fs::read_dir(container.in_it("scratch")).into_iter().flatten().flatten();
        assert_eq!(left.map(|entry| entry.file_name()).collect::<Vec<_>>(), [""; 0], "/scratch is empty");
    }
}

fn request(project: &Project) -> Value {
    json!({"source": project.source, "params": {"source": "repo"}})
}

/// Puts the tip of master in a new container.
#[track_caller]
fn put(project: &Project, options: &Options) -> Ran {
    let container = Container::start(&project.checkout("master", Some(1)), options);
    let before = Before::of(&container);
    let ran = container.put().run(&request(project));
    before.is_restored(&container);
    ran
}

/// A project whose image is made by this RUN.
#[track_caller]
fn project(name: &'static str, run: &str) -> Project {
    let project = Project::empty(name);
    let dockerfile = format!("FROM {}\nRUN {run}\n", servers().base_image());
    project.git.commit("master", &[file("ci/image/Dockerfile", &dockerfile)]);
    project
}

/// A container for a project, as it is before a step.
#[track_caller]
fn container(project: &Project, options: &Options) -> (Container, Before) {
    let container = Container::start(&project.checkout("master", Some(1)), options);
    let before = Before::of(&container);
    (container, before)
}

/// Sends a signal to `out` itself, as Concourse does, and not to what runs it.
#[track_caller]
fn signal(container: &Container, signal: Signal) {
    kill_process(container.process(), signal).expect("it runs");
}

/// Fails the test unless these are the last words of a put that failed.
#[track_caller]
fn refuses(ran: &Ran, words: &str) {
    ends_with(ran, words);
    assert!(!ran.stderr.contains("engine: "), "{}", ran.stderr);
}

#[test]
fn an_image_is_built_without_an_engine_outside_and_nothing_is_left() {
    let project = Project::new("embedded");
    let (container, before) = container(&project, &Options::default());
    let put = || container.put().run(&request(&project));
    let ran = put();
    ran.succeeds();
    let engine = "\nengine: BuildKit 0.33.1 inside this resource, for linux/amd64 ";
    assert!(ran.stderr.contains(engine) && ran.stderr.contains(", snapshotter overlayfs\n"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    before.is_restored(&container);
    assert_eq!(project.tags().len(), 4, "the image's three, and its cache");
    // What is there needs no engine; what is new is built with a new one.
    let again = put();
    again.succeeds();
    assert!(!again.stderr.contains("engine: "), "{}", again.stderr);
    let changed = project.source_with(&[("/build/epoch", json!("2"))]);
    let ran = container.put().run(&json!({"source": changed, "params": {"source": "repo"}}));
    ran.succeeds();
    before.is_restored(&container);
    assert!(ran.stderr.contains(" cached\n"), "the layers of the first one are in the registry:\n{}", ran.stderr);
    assert_eq!(project.tags().len(), 5, "{:?}", project.tags());
}

#[test]
fn a_build_that_fails_says_so_as_with_any_engine_and_nothing_is_left() {
    let project = project("embedded-run", "echo one && exit 3");
    let ran = put(&project, &Options::default());
    let reference = reference(&ran, &servers().registry().repository(project.name));
    ends_with(
        &ran,
        &format!(
            "error: cannot build {reference}: [1/2] RUN echo one && exit 3 ended with exit code 3\n\
             hint: the output of the failed step is repeated above\n"
        ),
    );
    assert!(!ran.stderr.contains("level=info"), "the engine's own log is not shown:\n{}", ran.stderr);
}

#[test]
fn a_put_that_is_stopped_during_a_run_leaves_nothing() {
    let project = project("embedded-stop", "echo begun && sleep 7773");
    let (container, before) = container(&project, &Options::default());
    let mut running = container.put().start(&request(&project).to_string());
    running.wait_for("begun\n");
    wait_until("the RUN sleeps", || container.processes().contains(&"sleep 7773".to_owned()));
    let since = Instant::now();
    signal(&container, Signal::TERM);
    let ran = running.wait();
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    ends_with(
        &ran,
        "error: stopped by SIGTERM\nhint: what was begun has been ended; running the step again continues safely\n",
    );
    before.is_restored(&container);
    assert_eq!(project.tags(), [""; 0]);
}

#[test]
fn a_put_that_is_stopped_or_killed_at_any_moment_leaves_nothing() {
    let project = project("embedded-kill", "echo begun && sleep 7774");
    let scratch_is_used = |container: &Container, name: &str| {
        let entries = std::fs::read_dir(container.in_it("scratch")).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.path().join(name).exists())
    };
    type Moment<'a> = (&'a str, &'a dyn Fn(&Container, &mut Running));
    let moments: [Moment<'_>; 6] = [
        ("its directory is made", &|container, _| wait_until("it", || scratch_is_used(container, ""))),
        ("its keeper prepares", &|container, _| wait_until("it", || scratch_is_used(container, "files"))),
        ("its daemon starts", &|container, _| wait_until("it", || scratch_is_used(container, "state"))),
        ("its daemon answers", &|_, running| running.wait_for("engine: ")),
        ("it builds", &|_, running| running.wait_for("load build definition")),
        ("a RUN runs", &|_, running| running.wait_for("begun\n")),
    ];
    for ((name, moment), sent) in moments.iter().flat_map(|moment| [(moment, Signal::TERM), (moment, Signal::KILL)]) {
        let (container, before) = container(&project, &Options::default());
        let mut running = container.put().start(&request(&project).to_string());
        moment(&container, &mut running);
        signal(&container, sent);
        running.wait();
        if sent == Signal::KILL {
            wait_until(&format!("all has ended that was killed when {name}"), || container.processes().is_empty());
        }
        before.is_restored(&container);
    }
    assert_eq!(project.tags(), [""; 0]);
}

#[test]
fn an_engine_that_dies_during_a_build_is_an_error_with_its_log() {
    let project = project("embedded-dies", "echo begun && sleep 7775");
    let (container, before) = container(&project, &Options::default());
    let mut running = container.put().start(&request(&project).to_string());
    running.wait_for("begun\n");
    let engine = container.process_of("/usr/local/bin/buildkitd");
    kill_process(engine, Signal::KILL).expect("it runs");
    let ran = running.wait();
    let reference = reference(&ran, &servers().registry().repository(project.name));
    let beginning = format!(
        "\nerror: the engine inside this resource ended while it worked on {reference}: buildkitd ended with signal: 9 (SIGKILL)\ncause: time="
    );
    assert!(ran.stderr.contains(&beginning), "{}", ran.stderr);
    let end = "\nhint: the cause is the end of its log; SIGKILL mostly means that the worker ran out of memory. Running the step again is safe\n";
    assert!(ran.stderr.ends_with(end), "{}", ran.stderr);
    before.is_restored(&container);
}

#[test]
fn a_container_without_privilege_is_refused_with_the_line_that_grants_it() {
    let project = Project::new("embedded-privilege");
    let options = Options { privilege: Privilege::None, ..Options::default() };
    refuses(
        &put(&project, &options),
        "error: cannot start the engine inside this resource: its container is not privileged\n\
         hint: add the line `privileged: true` to this type in `resource_types` of the pipeline, beside its `name` and `type`; \
         a worker that was started with --containerd-privileged-mode=ignore ignores the line. \
         Or give `source.engine.host`: an engine elsewhere needs no privilege here\n",
    );
    let options = Options { privilege: Privilege::FuseOnly, ..Options::default() };
    refuses(
        &put(&project, &options),
        "error: cannot start the engine inside this resource: its container is not privileged enough to set a host name, as each RUN does\n\
         cause: Operation not permitted (os error 1)\n\
         hint: `privileged: true` is there, and the worker limits what it means: its operator can start it with --containerd-privileged-mode=full. \
         Or give `source.engine.host`: an engine elsewhere needs no privilege here\n",
    );
}

#[test]
fn an_image_of_the_resource_that_lacks_a_program_is_named() {
    let project = Project::new("embedded-programs");
    let hidden = Options { hidden: vec!["/usr/sbin/runc"], ..Options::default() };
    refuses(
        &put(&project, &hidden),
        "error: cannot start the engine inside this resource: there is no program `runc`\n\
         hint: the image of this resource type must have `runc` on its PATH, beside `buildkitd`\n",
    );
    let none = Options { programs: BTreeMap::new(), ..Options::default() };
    refuses(
        &put(&project, &none),
        "error: there is no engine to build with: neither /var/run/docker.sock nor /run/buildkit/buildkitd.sock exists, and there is no program `buildkitd`\n\
         hint: give `source.engine.host`: tcp://host:port or unix:///path of a BuildKit daemon or a Docker engine; or put `buildkitd` and `runc` into the image of this resource type\n",
    );
}

#[test]
fn a_place_for_its_state_that_is_missing_or_slow_or_full_is_named() {
    let project = Project::new("embedded-scratch");
    let put = |scratch: Scratch| put(&project, &Options { scratch, ..Options::default() });
    refuses(
        &put(Scratch::Missing),
        "error: cannot start the engine inside this resource: there is no directory /scratch\n\
         hint: Concourse mounts a volume there in every container; elsewhere mount a file system there, or give `source.engine.host`\n",
    );
    let ran = put(Scratch::Volume("1m"));
    let reference = reference(&ran, &servers().registry().repository(project.name));
    let full = format!("error: cannot build {reference}: the disk of the engine is full\ncause: ");
    assert!(ran.stderr.contains(&full), "{}", ran.stderr);
    let hint = "\nhint: make room on the disk of the worker: the engine keeps its state in /scratch, a volume there, until the build ends\n";
    assert!(ran.stderr.ends_with(hint), "{}", ran.stderr);
    let ran = put(Scratch::Volume("64k"));
    let full = "\nerror: the engine inside this resource did not start: buildkitd ended with exit status: 1\ncause: ";
    assert!(ran.stderr.contains(full) && ran.stderr.contains("no space left on device"), "{}", ran.stderr);
    assert!(ran.stderr.ends_with(hint), "{}", ran.stderr);
    let ran = put(Scratch::InTheRoot);
    ran.succeeds();
    let warning = "\nwarning: the file system of /scratch cannot stack layers, so the engine copies them: builds take longer and more disk. \
                   Let the worker keep its volumes on ext4 or xfs, or give `source.engine.host`\n";
    assert!(ran.stderr.contains(warning), "{}", ran.stderr);
}

#[test]
fn control_groups_of_either_version_serve_and_missing_ones_are_mounted_for_the_engine_alone() {
    for (name, groups) in [("embedded-groups-2", Groups::Version2), ("embedded-groups-0", Groups::Missing)] {
        let project = Project::new(name);
        let others = Container::groups_at_the_top();
        let (container, before) = container(&project, &Options { groups, ..Options::default() });
        container.put().run(&request(&project)).succeeds();
        before.is_restored(&container);
        // The engine had its groups at the top: none of the container is mounted. Others on this machine may have theirs there.
        wait_until(name, || Container::groups_at_the_top().iter().all(|group| others.contains(group)));
    }
}

#[test]
fn a_root_that_is_read_only_serves() {
    let project = Project::new("embedded-read-only");
    put(&project, &Options { root: Root::ReadOnly, ..Options::default() }).succeeds();
}

#[test]
fn a_registry_with_a_certificate_of_its_own_serves_base_images_and_takes_the_image() {
    let project = Project::empty("embedded-tls");
    let registry = Registry::start(registry::Options { transport: Transport::Tls, ..registry::Options::default() });
    let base = image::push_base(&registry, "base", "1", None);
    project.git.commit("master", &[file("ci/image/Dockerfile", &format!("FROM {base}\nRUN true\n"))]);
    let source = project.source_with(&[(
        "/registry",
        json!({"repository": registry.repository("embedded-tls"), "ca_certs": [registry.ca_certs()]}),
    )]);
    let (container, before) = container(&project, &Options::default());
    container.put().run(&json!({"source": source, "params": {"source": "repo"}})).succeeds();
    before.is_restored(&container);
}

#[test]
fn a_registry_that_speaks_plain_http_is_reached_so_when_the_source_says_it() {
    let project = Project::empty("embedded-http");
    let address = relay(servers().registry());
    let base = servers().base_image().replace(&servers().registry().host(), &address);
    project.git.commit("master", &[file("ci/image/Dockerfile", &format!("FROM {base}\nRUN true\n"))]);
    let (container, before) = container(&project, &Options::default());
    let put = |changes: &[(&str, Value)]| {
        let ran = container.put().run(&json!({"source": project.source_with(changes), "params": {"source": "repo"}}));
        before.is_restored(&container);
        ran
    };
    let ran = put(&[]);
    let reference = reference(&ran, &servers().registry().repository(project.name));
    let words = format!(
        "error: cannot build {reference}: base image {base} is at a registry that the engine does not trust\n\
         cause: {base}: failed to resolve source metadata for {base}: failed to do request: \
         Head \"https://{address}/v2/base/manifests/1\": http: server gave HTTP response to HTTPS client\n\
         hint: say in `source.registry` or `source.registries` how this registry is reached: `insecure: true` for plain http, `ca_certs` for a certificate of its own\n"
    );
    ends_with(&ran, &words);
    put(&[("/registries", json!([{"host": address, "insecure": true}]))]).succeeds();
    let own = json!({"repository": format!("{address}/embedded-http-own"), "insecure": true});
    put(&[("/registry", own)]).succeeds();
    assert_eq!(servers().registry().tags("embedded-http-own").len(), 4, "the image's three, and its cache");
}

#[test]
fn what_the_source_allows_the_engine_allows() {
    let project = Project::empty("embedded-allow");
    let dockerfile = format!("FROM {}\nRUN --network=host ip address | grep 198.51.100.1\n", servers().base_image());
    project.git.commit("master", &[file("ci/image/Dockerfile", &dockerfile)]);
    engine::make_address();
    let (container, before) = container(&project, &Options::default());
    for build in [json!({"network": "host"}), json!({"allow": ["network.host"]})] {
        let mut source = project.source.clone();
        source["build"].as_object_mut().expect("a block").extend(build.as_object().expect("a block").clone());
        let request = json!({"source": source, "params": {"source": "repo", "rebuild": true}});
        container.put().run(&request).succeeds();
        before.is_restored(&container);
    }
}

#[test]
fn the_proxy_of_the_worker_reaches_the_engine() {
    let project = Project::empty("embedded-proxy");
    let address = relay(servers().registry());
    let base = servers().base_image().replace(&servers().registry().host(), &address);
    project.git.commit("master", &[file("ci/image/Dockerfile", &format!("FROM {base}\nRUN true\n"))]);
    let account = Account { username: "worker", password: "proxy-password" };
    let proxy = Tunnel::start(Some(account));
    let variable = format!("http_proxy=http://worker:proxy-password@127.0.0.1:{}", proxy.port());
    let source = project.source_with(&[("/registries", json!([{"host": address, "insecure": true}]))]);
    let (container, before) = container(&project, &Options::default());
    let request = json!({"source": source, "params": {"source": "repo"}});
    let ran = container.put_with(&[&variable, "no_proxy=127.0.0.1"]).run(&request);
    ran.succeeds();
    before.is_restored(&container);
    let asked = proxy.requests();
    assert!(asked.iter().any(|request| request.contains(&address) && request.ends_with(" 200")), "{asked:?}");
    assert!(!ran.stderr.contains("proxy-password"), "{}", ran.stderr);
}

#[test]
fn a_keeper_that_is_killed_takes_the_engine_with_it() {
    let project = project("embedded-keeper", "echo begun && sleep 7776");
    let (container, before) = container(&project, &Options::default());
    let mut running = container.put().start(&request(&project).to_string());
    running.wait_for("begun\n");
    kill_process(container.process_of("/opt/resource/out --keep-engine"), Signal::KILL).expect("it runs");
    let ran = running.wait();
    assert!(ran.stderr.contains("buildkitd ended with signal: 9 (SIGKILL)\ncause: time="), "{}", ran.stderr);
    before.is_restored(&container);
}

#[test]
fn what_an_enclosed_child_started_ends_with_it_also_what_left_its_process_group() {
    let environment = Environment::select(temporary().path().to_owned(), std::env::vars_os());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    // It ends when it is told so, as the keeper does; what it started knows nothing of that.
    let script = "setsid sleep 7781 & trap '' TERM; echo begun >&2; read line; exit 4";
    let shell = || Program::new("sh", "the script", &environment).args(["-c", script]).enclose(Duration::from_secs(2));
    let mut child = shell().expect("root makes namespaces");
    wait_until("it speaks", || child.said().0 == "begun");
    wait_until("its child runs", || runs("sleep 7781"));
    child.write(b"end\n");
    let ended = runtime.block_on(child.ended()).expect("it is waited for");
    assert_eq!(ended.status.code(), Some(4));
    assert!(!runs("sleep 7781"), "its child ended before it was waited for");

    // One that does not read is ended too.
    let deaf = Program::new("sleep", "sleep", &environment).arg("7782").enclose(Duration::from_millis(10));
    drop(deaf.expect("root makes namespaces"));
    assert!(!runs("sleep 7782"));
}

/// Whether this command line runs.
fn runs(command: &str) -> bool {
    container::all_processes().iter().any(|process| process.command == command)
}
