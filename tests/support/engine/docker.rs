//! Docker's engine, `dockerd`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{cache, group, option, socket};
use crate::support::certificates::Certificates;
use crate::support::server::run;

/// Where an engine keeps images.
#[derive(Clone, Copy)]
pub enum Store {
    /// Docker's own.
    Classic,
    /// containerd's.
    Containerd,
}

/// A `dockerd` with all it writes below `directory`, and with this configuration.
#[track_caller]
pub fn command(program: &str, directory: &Path, configuration: &str) -> Command {
    std::fs::write(directory.join("config.json"), configuration).expect("the configuration can be written");
    let mut command = Command::new(program);
    command
        .arg(option("config-file", directory.join("config.json")))
        .arg(option("data-root", directory.join("data")))
        .arg(option("exec-root", directory.join("exec")))
        .arg(option("pidfile", directory.join("pid")))
        .arg(format!("--host=unix://{}", socket(directory).display()))
        .arg(option("bridge", bridge()))
        .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false"])
        .env("DOCKER_TMPDIR", directory.join("data/tmp"));
    if let Some(group) = group() {
        command.arg(option("cgroup-parent", group));
    }
    command
}

/// The engine that `make setup` unpacked. It finds its own containerd on the PATH, and the system's runc.
#[track_caller]
pub fn newer(directory: &Path, store: Store) -> Command {
    let root = cache().join("docker-forky/usr");
    // Newer ones change what they take when nothing is said, and remove from their cache while they build.
    let configuration = match store {
        Store::Classic => {
            r#"{"storage-driver": "overlay2", "features": {"containerd-snapshotter": false}, "builder": {"gc": {"enabled": false}}}"#
        }
        Store::Containerd => r#"{"features": {"containerd-snapshotter": true}, "builder": {"gc": {"enabled": false}}}"#,
    };
    let mut command = command(&root.join("sbin/dockerd").to_string_lossy(), directory, configuration);
    let inherited = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{0}/sbin:{0}/bin:{inherited}", root.display()));
    command
}

/// The options for listening on a port of 127.0.0.1.
pub fn port(port: u16, certificates: Option<&Certificates>) -> Vec<OsString> {
    let host = format!("--host=tcp://127.0.0.1:{port}").into();
    match certificates {
        None => vec![host, "--tls=false".into()],
        Some(certificates) => vec![
            host,
            "--tlsverify".into(),
            option("tlscacert", certificates.authority_file()),
            option("tlscert", certificates.certificate_file()),
            option("tlskey", certificates.key_file()),
        ],
    }
}

/// Makes a bridge for an engine's containers. `--bridge=none` would break every RUN through BuildKit.
/// Its network is of a range that is kept for documentation: it is nobody's.
#[track_caller]
fn bridge() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < 16, "no more than 16 engines a test binary");
    let name = format!("git-image{number}");
    let ip = |arguments: &[&str]| run(Command::new("ip").args(arguments));
    ip(&["link", "add", &name, "type", "bridge"]);
    ip(&["address", "add", &format!("192.0.2.{}/28", u16::from(number) * 16 + 1), "dev", &name]);
    ip(&["link", "set", &name, "up"]);
    name
}
