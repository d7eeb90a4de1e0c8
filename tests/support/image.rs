//! A small image, made of Debian's static busybox, and its way into a registry.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::registry::{Account, Registry};
use super::server::run;
use super::temporary;

/// Where Debian's package busybox-static has it.
const BUSYBOX: &str = "/bin/busybox";

/// The media type of an OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The media type of an OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The media type of Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a client that reads images says that it accepts.
pub const MANIFEST_TYPES: [&str; 4] =
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, "application/vnd.docker.distribution.manifest.list.v2+json"];

/// Pushes the base image and returns its reference, for `FROM`: busybox with its links in `/bin`.
#[track_caller]
pub fn push_base(registry: &Registry, repository: &str, tag: &str, account: Option<Account<'_>>) -> String {
    push(base(), registry, repository, tag, account)
}

/// Pushes an OCI layout that [`layout`] made, and returns its reference.
#[track_caller]
pub fn push(layout: &Path, registry: &Registry, repository: &str, tag: &str, account: Option<Account<'_>>) -> String {
    let reference = format!("{}:{tag}", registry.repository(repository));
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
    if let Some(Account { username, password }) = account {
        command.arg(format!("--dest-creds={username}:{password}"));
    }
    run(command.arg(format!("oci:{}", layout.display())).arg(format!("docker://{reference}")));
    reference
}

/// Writes an image of these layers (tar archives, not compressed) as an OCI layout into a directory.
#[track_caller]
pub fn layout(directory: &Path, layers: &[Vec<u8>], config: serde_json::Value) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("the layout's directory can be made");
    let put = |bytes: &[u8], media_type: &str| {
        let digest = digest(bytes);
        let name = digest.trim_start_matches("sha256:");
        std::fs::write(blobs.join(name), bytes).expect("a blob can be written");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>()},
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json"),
        "layers": layers.iter().map(|layer| put(&gzip(layer), "application/vnd.oci.image.layer.v1.tar+gzip")).collect::<Vec<_>>(),
    });
    let index = json!({"schemaVersion": 2, "manifests": [put(manifest.to_string().as_bytes(), OCI_MANIFEST)]});
    let write = |name: &str, text: String| std::fs::write(directory.join(name), text).expect("can be written");
    write("index.json", index.to_string());
    write("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string());
}

/// The digest of these bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// These bytes compressed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory can be written to");
    encoder.finish().expect("memory can be written to")
}

/// Pushes the base image with these programs of the machine and the libraries that they need, where they are here.
#[track_caller]
pub fn push_base_with(programs: &[&str], registry: &Registry, repository: &str, tag: &str) -> String {
    let directory = temporary();
    let mut archive = tar::Builder::new(Vec::new());
    let mut files: Vec<String> = programs.iter().map(ToString::to_string).collect();
    let listed = run(Command::new("ldd").args(programs));
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    files.extend(libraries.map(str::to_owned));
    files.sort();
    files.dedup();
    for file in files {
        let content = std::fs::read(&file).expect("a program or its library can be read");
        append(&mut archive, tar::EntryType::Regular, file.trim_start_matches('/'), 0o755, &content);
    }
    let programs = archive.into_inner().expect("memory can be written to");
    layout(directory.path(), &[busybox(), programs], json!({"Env": ["PATH=/usr/bin:/bin"]}));
    push(directory.path(), registry, repository, tag, None)
}

/// The base image's layout, made once.
#[track_caller]
fn base() -> &'static Path {
    static BASE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BASE.get_or_init(|| {
        let directory = temporary();
        let path = directory.path().join("base");
        let environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
        layout(&path, &[busybox()], json!({"Env": environment, "Cmd": ["/bin/sh"]}));
        (directory, path)
    });
    path
}

/// A root with busybox under all of its names.
#[track_caller]
fn busybox() -> Vec<u8> {
    let program = std::fs::read(BUSYBOX).expect("/bin/busybox is there: `make setup` installs busybox-static");
    let mut archive = tar::Builder::new(Vec::new());
    for directory in ["bin", "etc", "root", "tmp", "usr", "usr/bin", "usr/local", "usr/local/bin", "var"] {
        append(&mut archive, tar::EntryType::Directory, directory, 0o755, &[]);
    }
    append(&mut archive, tar::EntryType::Regular, "bin/busybox", 0o755, &program);
    append(&mut archive, tar::EntryType::Regular, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    append(&mut archive, tar::EntryType::Regular, "etc/group", 0o644, b"root:x:0:\n");
    for applet in run(Command::new(BUSYBOX).arg("--list")).lines().filter(|name| *name != "busybox") {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("memory can be written to");
    }
    archive.into_inner().expect("memory can be written to")
}

/// Adds an entry to an archive of a layer, with everything but its name, mode and content zero.
pub fn append(archive: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, path: &str, mode: u32, content: &[u8]) {
    let mut header = header(kind, mode, content.len());
    archive.append_data(&mut header, path, content).expect("memory can be written to");
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}
