//! Layers of entries with everything that an entry can have.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tar::EntryType;

/// An entry.
#[derive(Clone)]
pub struct Item<'a> {
    pub kind: EntryType,
    pub name: Vec<u8>,
    pub mode: u32,
    pub owner: (u64, u64),
    pub content: &'a [u8],
    pub target: Option<&'a str>,
    pub device: (u32, u32),
    /// `None`: a second later than the entry before it; a hard link has the time of the last other entry.
    pub mtime: Option<u64>,
    /// Whether it may open ports below 1024.
    pub capable: bool,
    pub attributes: &'a [(&'a str, &'a [u8])],
}

pub fn regular<'a>(path: &str, mode: u32, owner: (u64, u64), content: &'a str) -> Item<'a> {
    Item {
        kind: EntryType::Regular,
        name: path.as_bytes().to_vec(),
        mode,
        owner,
        content: content.as_bytes(),
        target: None,
        device: (0, 0),
        mtime: None,
        capable: false,
        attributes: &[],
    }
}

pub fn directory(path: &str, mode: u32, owner: (u64, u64)) -> Item<'static> {
    Item { kind: EntryType::Directory, ..regular(path, mode, owner, "") }
}

pub fn link<'a>(kind: EntryType, path: &str, target: &'a str) -> Item<'a> {
    Item { kind, target: Some(target), ..regular(path, 0o777, (0, 0), "") }
}

/// cap_net_bind_service, effective and permitted. Fact: linux/capability.h, struct vfs_cap_data of revision 2.
fn capability() -> [u8; 20] {
    let mut capability = [0; 20];
    capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    capability[4..8].copy_from_slice(&(1_u32 << 10).to_le_bytes());
    capability
}

/// The archive of these entries.
pub fn layer(items: &[Item<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut before = 1_000_000_000 - 1;
    for item in items {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(item.kind);
        header.set_mode(item.mode);
        header.set_uid(item.owner.0);
        header.set_gid(item.owner.1);
        header.set_size(item.content.len() as u64);
        header.set_device_major(item.device.0).expect("a GNU header has devices");
        header.set_device_minor(item.device.1).expect("a GNU header has devices");
        let next = before + u64::from(item.kind != EntryType::Link);
        header.set_mtime(item.mtime.unwrap_or(next));
        before = next;
        let capability = capability();
        let named = item.attributes.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value));
        let capable = item.capable.then_some(("SCHILY.xattr.security.capability".to_owned(), capability.as_slice()));
        let records: Vec<(String, &[u8])> = named.chain(capable).collect();
        if !records.is_empty() {
            let records = records.iter().map(|(name, value)| (name.as_str(), *value));
            archive.append_pax_extensions(records).expect("memory can be written to");
        }
        let path = Path::new(OsStr::from_bytes(&item.name));
        match item.target {
            Some(target) => archive.append_link(&mut header, path, target),
            None => archive.append_data(&mut header, path, item.content),
        }
        .expect("memory can be written to");
    }
    archive.into_inner().expect("memory can be written to")
}
