//! BuildKit's daemon, `buildkitd`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::{Options, buildkit_program, group, option, socket};
use crate::support::certificates::Certificates;

/// A `buildkitd` with all it writes below `directory`.
///
/// It reaches registries on 127.0.0.1 by plain HTTP unless it is told of their certificates.
#[track_caller]
pub fn command(directory: &Path, options: Options<'_>) -> Command {
    std::fs::write(directory.join("buildkitd.toml"), configuration(options)).expect("can be written");
    let mut command = Command::new(buildkit_program("buildkitd"));
    command
        .arg("--config")
        .arg(directory.join("buildkitd.toml"))
        .arg("--root")
        .arg(directory.join("data"))
        .arg("--addr")
        .arg(format!("unix://{}", socket(directory).display()))
        .env("TMPDIR", directory);
    command
}

/// The options for listening on a port of 127.0.0.1.
pub fn port(port: u16, certificates: Option<&Certificates>) -> Vec<OsString> {
    let mut options = vec![format!("--addr=tcp://127.0.0.1:{port}").into()];
    if let Some(certificates) = certificates {
        options.push(option("tlscacert", certificates.authority_file()));
        options.push(option("tlscert", certificates.certificate_file()));
        options.push(option("tlskey", certificates.key_file()));
    }
    options
}

/// Nothing is removed from its cache while tests run, and it looks for no containerd.
fn configuration(options: Options<'_>) -> String {
    let mut text = format!("insecure-entitlements = {:?}\n", options.entitlements);
    text += "[worker.containerd]\nenabled = false\n[worker.oci]\ngc = false\n";
    let mut line = |line: std::fmt::Arguments<'_>| text.write_fmt(line).expect("memory can be written to");
    if let Some(group) = group() {
        line(format_args!("defaultCgroupParent = {:?}\n", group.display().to_string()));
    }
    for registry in options.trusts {
        let authority = registry.ca_file().expect("a registry with TLS");
        line(format_args!("[registry.{:?}]\nhttp = false\nca = [{authority:?}]\n", registry.host()));
    }
    text
}
