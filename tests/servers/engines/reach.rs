//! How engines are reached: on ports, with certificates, one of several.

use serde_json::{Value, json};

use crate::project::Project;
use crate::support::engine::{self, Engine, EngineKind, Options};
use crate::support::git::{Passphrase, SshServer};
use crate::support::program::{Program, Ran};
use crate::support::registry::Transport;
use crate::support::server::free_port;
use crate::support::servers;

#[track_caller]
fn put(project: &Project, engine: Value) -> Ran {
    let mut source = project.source.clone();
    source["engine"] = engine;
    let artifacts = project.checkout("master", Some(1));
    Program::put(&artifacts).run(&json!({"source": source, "params": {"source": "repo"}}))
}

fn line<'a>(ran: &'a Ran, start: &str) -> &'a str {
    ran.stderr.lines().find(|line| line.starts_with(start)).unwrap_or_default()
}

#[test]
fn every_engine_says_what_it_is() {
    for (kind, name) in [
        (EngineKind::Docker20, "Docker engine 20.10."),
        (EngineKind::Docker28, "Docker engine "),
        (EngineKind::Docker28Containerd, "Docker engine "),
        (EngineKind::BuildKit, "BuildKit 0.33.1 at "),
    ] {
        let project = Project::new(Box::leak(format!("reach-name-{}", kind as u8).into_boxed_str()));
        let ran = put(&project, json!({"host": engine::of(kind).tcp_host()}));
        ran.succeeds();
        let said = line(&ran, "engine: ");
        assert!(said.starts_with(&format!("engine: {name}")), "{}: {said}", kind.name());
        assert!(said.contains(&format!(" at {}, for linux/amd64", engine::of(kind).tcp_host())), "{said}");
        let pushes = matches!(kind, EngineKind::Docker28Containerd | EngineKind::BuildKit);
        assert_eq!(said.ends_with(", snapshotter overlayfs"), pushes, "{}: {said}", kind.name());
    }
}

#[test]
fn an_engine_that_asks_for_a_certificate() {
    for kind in [EngineKind::Docker20, EngineKind::Docker28Containerd, EngineKind::BuildKit] {
        let project = Project::new(Box::leak(format!("reach-tls-{}", kind as u8).into_boxed_str()));
        let engine = Engine::start(kind, Options { transport: Transport::Tls, ..Options::default() });
        let certificates = engine.certificates().expect("it speaks TLS");
        let read = |path: std::path::PathBuf| std::fs::read_to_string(path).expect("it is there");
        let ca = read(certificates.authority_file());
        let (cert, key) = (read(certificates.client_certificate_file()), read(certificates.client_key_file()));
        let host = engine.tcp_host();
        let ran = put(&project, json!({"host": host, "tls": {"ca": ca, "cert": cert, "key": key}}));
        ran.succeeds();
        // Docker 20.10 is of a Go that calls it a bad one.
        let missing = if kind == EngineKind::Docker20 { "BadCertificate" } else { "CertificateRequired" };
        for (tls, cause) in [
            (json!({"ca": ca}), format!("received fatal alert: {missing}").as_str()),
            (json!({"cert": cert, "key": key}), "invalid peer certificate: UnknownIssuer"),
            (json!({}), "invalid peer certificate: UnknownIssuer"),
        ] {
            let project = Project::new(Box::leak(format!("reach-tls-{}-{}", kind as u8, cause.len()).into_boxed_str()));
            let ran = put(&project, json!({"host": host, "tls": tls}));
            assert_eq!(
                ran.stderr.split_once("error: ").map_or("", |(_, said)| said),
                format!(
                    "cannot reach the engine at {host}\n\
                     cause: {cause}\n\
                     hint: check `source.engine.host`: a BuildKit daemon or a Docker engine (20.10 or newer) must listen there, \
                     with TLS exactly when `source.engine.tls` is given, and the worker must be allowed to connect\n"
                ),
                "{}:\n{}",
                kind.name(),
                ran.stderr
            );
        }
    }
}

#[test]
fn certificates_that_are_none_are_named_without_being_shown() {
    let project = Project::new("reach-bad-tls");
    let engine = engine::of(EngineKind::BuildKit).tcp_host();
    for (tls, key, cause) in [
        (json!({"ca": "secret words"}), "ca", "it has no certificate in PEM"),
        (json!({"cert": "x", "key": "secret words"}), "key", "it is no private key in PEM"),
    ] {
        let ran = put(&project, json!({"host": engine, "tls": tls}));
        let expected = format!(
            "error: `source.engine.tls.{key}` is not usable\n\
             cause: {cause}\n\
             hint: write the whole PEM text there, with its BEGIN and END lines\n"
        );
        assert!(ran.stderr.ends_with(&expected), "{}", ran.stderr);
        assert!(!ran.stderr.contains("secret words"), "{}", ran.stderr);
    }
}

#[test]
fn of_several_engines_the_first_that_answers_builds() {
    let nowhere = format!("tcp://127.0.0.1:{}", free_port());
    let engine = engine::of(EngineKind::BuildKit).tcp_host();
    let mut skipped = 0;
    for number in 0..8 {
        let project = Project::new(Box::leak(format!("reach-list-{number}").into_boxed_str()));
        let ran = put(&project, json!({"host": [nowhere, engine]}));
        ran.succeeds();
        let said = line(&ran, "engine: tcp://");
        if !said.is_empty() {
            assert_eq!(
                said,
                format!("engine: {nowhere} does not answer (Connection refused (os error 111)); trying the next")
            );
            skipped += 1;
        }
    }
    assert!((1..8).contains(&skipped), "both engines are some image's first: {skipped} of 8");
}

#[test]
fn an_engine_behind_ssh() {
    let ssh = SshServer::start(servers().git(), Passphrase::Words("words of a pass"));
    let (key, known_hosts) = (ssh.private_key(), ssh.known_hosts());
    for kind in EngineKind::ALL {
        let project = Project::new(Box::leak(format!("reach-ssh-{}", kind as u8).into_boxed_str()));
        let host = format!("ssh://{}{}", ssh.login(), engine::of(kind).host().trim_start_matches("unix://"));
        let access = json!({"host": host, "private_key": key, "private_key_passphrase": "words of a pass", "known_hosts": known_hosts});
        let ran = put(&project, access);
        ran.succeeds();
        assert!(line(&ran, "engine: ").contains(&format!(" at {host}, for ")), "{}: {}", kind.name(), ran.stderr);
        assert!(!ran.stderr.contains("words of a pass"), "{}", ran.stderr);
    }
    let port = ssh.login().rsplit(':').next().map(|port| format!("-p{port}")).expect("it has a port");
    assert!(!super::trouble::runs(&port), "no ssh survives its put");
}

#[test]
fn a_host_that_is_not_known_or_lets_nobody_in_is_an_error_and_an_unknown_key_is_said() {
    let ssh = SshServer::start(servers().git(), Passphrase::None);
    let other = SshServer::start(servers().git(), Passphrase::None);
    let host =
        format!("ssh://{}{}", ssh.login(), engine::of(EngineKind::BuildKit).host().trim_start_matches("unix://"));
    let project = Project::new("reach-ssh-accepted");
    let ran = put(&project, json!({"host": host, "private_key": ssh.private_key()}));
    ran.succeeds();
    assert!(line(&ran, "ssh: the host key of ").ends_with("accepted because source.engine.known_hosts is not given"));
    let project = Project::new("reach-ssh-refused");
    for access in [
        json!({"host": host, "private_key": ssh.private_key(), "known_hosts": other.known_hosts()}),
        json!({"host": host, "private_key": other.private_key()}),
    ] {
        let ran = put(&project, access);
        let said = ran.stderr.split_once("error: ").map_or("", |(_, said)| said);
        assert!(
            said.starts_with(&format!("cannot log in to the engine's host at {host}\ncause: "))
                && said.ends_with(
                    "hint: check `source.engine.host`, `private_key` and `known_hosts`: the user must be let in by this key, \
                     may forward sockets, and may use the engine's socket there\n"
                ),
            "{said}"
        );
        assert_eq!(project.tags(), [""; 0]);
    }
}
