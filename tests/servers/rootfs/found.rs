//! What is in a directory, and in a container of an engine.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tar::EntryType;

use crate::support::engine::{self, EngineKind};
use crate::support::{http, image};

/// What is at each path.
pub type Tree = BTreeMap<PathBuf, Found>;

/// What is at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: &'static str,
    pub mode: u32,
    pub owner: (u64, u64),
    /// Of a file.
    pub size: Option<u64>,
    /// The digest of a file.
    pub content: Option<String>,
    /// Of a symlink.
    pub target: Option<PathBuf>,
    /// Of a device.
    pub device: Option<(u32, u32)>,
    /// When it was changed, since 1970.
    pub seconds: i64,
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// The first of the names that it has; `None`: it has one.
    pub links: Option<PathBuf>,
}

const CAPABILITY: &str = "security.capability";

impl Found {
    /// Of its attributes the one that an export has.
    pub fn capability(&self) -> BTreeMap<String, Vec<u8>> {
        self.attributes.iter().filter(|(name, _)| *name == CAPABILITY).map(|(a, b)| (a.clone(), b.clone())).collect()
    }
}

/// Everything below a directory.
#[track_caller]
pub fn on_disk(root: &Path) -> Tree {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![root.to_owned()]);
    let mut inodes: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).expect("rootfs can be read").flatten() {
            let path = entry.path();
            let metadata = path.symlink_metadata().expect("it was just listed");
            let is = metadata.file_type();
            let kind = match () {
                () if is.is_dir() => "directory",
                () if is.is_symlink() => "link",
                () if is.is_file() => "file",
                () if is.is_fifo() => "fifo",
                () if is.is_char_device() => "character device",
                () if is.is_block_device() => "block device",
                () => "other",
            };
            if is.is_dir() {
                waiting.push(path.clone());
            }
            let relative = path.strip_prefix(root).expect("it is below").to_owned();
            if !is.is_dir() {
                inodes.entry(metadata.ino()).or_default().push(relative.clone());
            }
            let device = || (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            let content = || image::digest(&std::fs::read(&path).expect("a file can be read"));
            let one = Found {
                kind,
                mode: if is.is_symlink() { 0o777 } else { metadata.mode() & 0o7777 },
                owner: (metadata.uid().into(), metadata.gid().into()),
                size: is.is_file().then_some(metadata.len()),
                content: is.is_file().then(content),
                target: path.read_link().ok(),
                device: (is.is_char_device() || is.is_block_device()).then(device),
                seconds: metadata.mtime(),
                attributes: attributes(&path),
                links: None,
            };
            found.insert(relative, one);
        }
    }
    note_links(&mut found, inodes.into_values());
    found
}

/// Every attribute of what is at a path.
fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = [0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let read = |name: &[u8]| {
        let mut value = [0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value).expect("it was just listed");
        (String::from_utf8_lossy(name).into_owned(), value[..length].to_vec())
    };
    names.map(read).collect()
}

/// Notes of each path the first of the names that the same thing has.
fn note_links(found: &mut Tree, groups: impl Iterator<Item = Vec<PathBuf>>) {
    for mut group in groups.filter(|group| 1 < group.len()) {
        group.sort();
        for path in &group {
            found.get_mut(path).expect("it was found").links = Some(group[0].clone());
        }
    }
}

/// What an engine says is in a container of this image.
#[track_caller]
pub fn in_engine(kind: EngineKind, reference: &str) -> Tree {
    let engine = engine::of(kind);
    let send = |method: &str, path: &str, body: Value| {
        let answer = http::send(method, &engine.url(path), |request| request.json(&body));
        assert!(answer.status < 300, "{}: {method} {path}: {}", kind.name(), answer.text());
        answer
    };
    let (name, tag) = reference.rsplit_once(':').expect("it has a tag");
    let pulled = send("POST", &format!("/images/create?fromImage={name}&tag={tag}"), json!({})).text();
    assert!(!pulled.contains("errorDetail"), "{}: {pulled}", kind.name());
    let created = send("POST", "/containers/create", json!({"Image": reference, "Cmd": ["none"]})).json();
    let id = created["Id"].as_str().expect("it is a text");
    let exported = send("GET", &format!("/containers/{id}/export"), json!({})).body;
    send("DELETE", &format!("/containers/{id}"), json!({}));
    send("DELETE", &format!("/images/{reference}"), json!({}));
    let mut found = in_archive(&exported);
    // What an engine adds to every container.
    let added = ["dev", "proc", "sys", "etc", ".dockerenv"];
    found.retain(|path, _| !added.iter().any(|name| path.starts_with(name)) && !path.as_os_str().as_bytes().is_empty());
    found
}

/// What is in an archive of a whole root.
#[track_caller]
fn in_archive(exported: &[u8]) -> Tree {
    let mut archive = tar::Archive::new(exported);
    let mut found = Tree::new();
    let mut groups: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for entry in archive.entries().expect("an export is an archive") {
        let mut entry = entry.expect("an export is an archive");
        let path: PathBuf = entry.path().expect("it has a path").components().collect();
        let (mut attributes, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        for record in entry.pax_extensions().expect("records can be read").into_iter().flatten().flatten() {
            if let Some(name) = record.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
                attributes.insert(name.to_owned(), record.value_bytes().to_vec());
            }
            // What a header has no room for. Of a time, whole seconds.
            let number = record.value().ok().and_then(|text| text.split('.').next()?.parse::<u64>().ok());
            if let (Ok(key), Some(number)) = (record.key(), number) {
                numbers.insert(key.to_owned(), number);
            }
        }
        let target = entry.link_name().expect("it has a target").map(|target| target.into_owned());
        let header = entry.header().clone();
        let kind = match header.entry_type() {
            EntryType::Directory => "directory",
            EntryType::Symlink => "link",
            EntryType::Regular => "file",
            EntryType::Fifo => "fifo",
            EntryType::Char => "character device",
            EntryType::Block => "block device",
            EntryType::Link => {
                let target = target.expect("it has a target");
                let copy: Found = found[&target].clone();
                found.insert(path.clone(), copy);
                groups.entry(target.clone()).or_insert_with(|| vec![target]).push(path);
                continue;
            }
            _ => "other",
        };
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("an export is an archive");
        let is_file = kind == "file";
        let device = || {
            let number = |number: std::io::Result<Option<u32>>| number.expect("a number").unwrap_or_default();
            (number(header.device_major()), number(header.device_minor()))
        };
        let number = |key: &str, plain: std::io::Result<u64>| {
            numbers.get(key).copied().unwrap_or_else(|| plain.expect("it is a number"))
        };
        let one = Found {
            kind,
            mode: if kind == "link" { 0o777 } else { header.mode().expect("a number") & 0o7777 },
            owner: (number("uid", header.uid()), number("gid", header.gid())),
            size: is_file.then_some(content.len() as u64),
            content: is_file.then(|| image::digest(&content)),
            target,
            device: kind.ends_with("device").then(device),
            seconds: number("mtime", header.mtime()).cast_signed(),
            attributes,
            links: None,
        };
        found.insert(path, one);
    }
    note_links(&mut found, groups.into_values());
    found
}
