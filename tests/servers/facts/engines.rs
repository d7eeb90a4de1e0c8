//! What we believe about engines.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::engine::{self, ADDRESS, Engine, EngineKind, Options, buildkit_program};
use crate::support::registry::{self, Registry, Transport};
use crate::support::server::run;
use crate::support::{http, image, servers, temporary};

#[test]
fn each_engine_is_of_the_version_and_store_that_its_name_says() {
    let newer = 28..=u32::MAX;
    for (kind, releases, store) in [
        (EngineKind::Docker20, 20..=20, "overlay2"),
        (EngineKind::Docker28, newer.clone(), "overlay2"),
        (EngineKind::Docker28Containerd, newer, "overlayfs"),
    ] {
        let version = engine::of(kind).get("/version").json()["Version"].as_str().expect("a version").to_owned();
        let release = version.split('.').next().expect("a text has a first part").parse().expect("a number");
        assert!(releases.contains(&release), "{}: {version}", kind.name());
        assert_eq!(engine::of(kind).get("/info").json()["Driver"], store, "{}", kind.name());
    }
    let version = run(engine::of(EngineKind::BuildKit).buildctl().args(["debug", "info"]));
    assert!(version.contains(include_str!("../../../resource-image/buildkit-version").trim()), "{version}");
}

#[test]
fn each_engine_runs_commands_of_a_dockerfile() {
    let dockerfile = format!("FROM {}\nRUN mkdir /made && test $(id -u) = 0\n", servers().base_image());
    for kind in [EngineKind::Docker20, EngineKind::Docker28, EngineKind::Docker28Containerd] {
        let mut context = tar::Builder::new(Vec::new());
        image::append(&mut context, tar::EntryType::Regular, "Dockerfile", 0o644, dockerfile.as_bytes());
        let context = context.into_inner().expect("memory can be written to");
        let engine = engine::of(kind);
        let url = engine.url("/build?version=2&t=facts-run");
        let answer =
            http::send("POST", &url, |request| request.header("content-type", "application/x-tar").body(context));
        assert_eq!(engine.get("/images/facts-run/json").status, 200, "{}: {}", kind.name(), answer.text());
    }
    let reference = servers().registry().repository("facts/run:1");
    succeeds(build(engine::of(EngineKind::BuildKit), &dockerfile, &reference), "BuildKit");
    assert_ne!(servers().registry().digest("facts/run", "1"), None);
}

#[test]
fn buildkit_pushes_to_loopback_by_http_and_elsewhere_by_https_and_a_registry_of_its_configuration_as_that_says() {
    let tls = Registry::start(registry::Options { transport: Transport::Tls, ..Default::default() });
    let told = Engine::start(EngineKind::BuildKit, Options { trusts: &[&tls], ..Options::default() });
    let secure = tls.repository("facts/trust:1");
    let elsewhere = format!("{ADDRESS}:9/facts/trust:1");
    let untold = engine::of(EngineKind::BuildKit);
    for (engine, reference, expected) in [
        (&told, &secure, None),
        (untold, &secure, Some(format!("http://{}/v2/facts/trust/", tls.host()))),
        (untold, &elsewhere, Some(format!("https://{ADDRESS}:9/v2/facts/trust/"))),
    ] {
        let output = build(engine, "FROM scratch\nLABEL a=b\n", reference);
        let said = String::from_utf8_lossy(&output.stderr);
        match expected {
            None => assert!(output.status.success(), "{said}"),
            Some(url) => assert!(!output.status.success() && said.contains(&url), "{url}: {said}"),
        }
    }
}

#[test]
fn an_engine_with_tls_lets_in_who_shows_a_certificate() {
    let options = Options { transport: Transport::Tls, ..Options::default() };
    for kind in [EngineKind::Docker20, EngineKind::BuildKit] {
        let engine = Engine::start(kind, options);
        let certificates = engine.certificates().expect("it was started with TLS");
        let ask = |client: Option<(&Path, &Path)>| {
            let mut command;
            let prefix = match kind {
                EngineKind::BuildKit => {
                    command = Command::new(buildkit_program("buildctl"));
                    command.arg("--addr").arg(engine.tcp_host()).arg("--tlscacert").arg(certificates.authority_file());
                    "--tls"
                }
                EngineKind::Docker20 | EngineKind::Docker28 | EngineKind::Docker28Containerd => {
                    command = Command::new("curl");
                    command.arg(format!("{}/_ping", engine.tcp_host().replace("tcp:", "https:")));
                    command.args(["--silent", "--fail", "--cacert"]).arg(certificates.authority_file());
                    "--"
                }
            };
            if let Some((certificate, key)) = client {
                command.arg(format!("{prefix}cert")).arg(certificate).arg(format!("{prefix}key")).arg(key);
            }
            if kind == EngineKind::BuildKit {
                command.args(["debug", "workers"]);
            }
            command.output().expect("the client is there").status.success()
        };
        let (certificate, key) = (certificates.client_certificate_file(), certificates.client_key_file());
        assert!(ask(Some((&certificate, &key))), "{}: {}", kind.name(), engine.log());
        assert!(!ask(None), "{}", kind.name());
    }
}

#[test]
fn an_engine_on_a_full_disk_says_so() {
    let options = Options { disk: Some("8m"), ..Options::default() };
    let engine = Engine::start(EngineKind::BuildKit, options);
    let dockerfile = format!("FROM {}\nRUN dd if=/dev/urandom of=/big bs=1M count=16\n", servers().base_image());
    let output = build(&engine, &dockerfile, &servers().registry().repository("facts/full:1"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.to_lowercase().contains("no space left on device"), "{said}");
}

/// Builds with BuildKit's own client, and pushes.
#[track_caller]
fn build(engine: &Engine, dockerfile: &str, reference: &str) -> Output {
    let directory = temporary();
    std::fs::write(directory.path().join("Dockerfile"), dockerfile).expect("a file can be written");
    let local = |name: &str| format!("--local={name}={}", directory.path().display());
    let mut command = engine.buildctl();
    command
        .args(["build", "--progress=plain", "--frontend=dockerfile.v0", &local("context"), &local("dockerfile")])
        .arg(format!("--output=type=image,push=true,name={reference}"));
    command.output().expect("`make setup` builds buildctl")
}

#[track_caller]
fn succeeds(output: Output, name: &str) {
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}
