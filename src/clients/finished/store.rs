//! The files of an image on disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::GzEncoder;
use oci_distribution::manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE;
use sha2::{Digest as _, Sha256};

use super::FinishedError;
use crate::clients::registry::Open;
use crate::names::Digest;

/// What gzip begins with: RFC 1952, 2.3.1.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// What zstd begins with: RFC 8878, 3.1.1.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The library has no word for it.
const ZSTD_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// How often a link in an archive may lead to another one.
const LINKS: usize = 8;
/// The levels of gzip beyond the first cost much and save little.
const LEVEL: u32 = 1;

/// Where the files of an image are.
pub(super) enum Store {
    Directory(PathBuf),
    Files(BTreeMap<String, PathBuf>),
    Archive { path: PathBuf, files: BTreeMap<String, Place> },
}

/// A file in an archive, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Place {
    offset: u64,
    size: u64,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, FinishedError> {
        let failed = |source| FinishedError::Io { path: path.to_owned(), source };
        let metadata = path.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let not = |why| FinishedError::NotAnImage { path: path.to_owned(), why };
        if !metadata.is_file() {
            return Err(not("it is neither a file nor a directory"));
        }
        let mut file = File::open(path).map_err(failed)?;
        let mut magic = [0; 2];
        match file.read_exact(&mut magic) {
            Ok(()) if magic == GZIP => return Err(not("it is compressed")),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(not("it is empty")),
            Err(error) => return Err(failed(error)),
        }
        file.rewind().map_err(failed)?;
        let damaged = |error: io::Error| FinishedError::Damaged { path: path.to_owned(), why: error.to_string() };
        let mut archive = tar::Archive::new(file);
        let (mut files, mut links) = (BTreeMap::new(), Vec::new());
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let name = normal(&entry.path_bytes());
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let place = Place { offset: entry.raw_file_position(), size: entry.size() };
                    if metadata.len() < place.offset.saturating_add(place.size) {
                        let why = format!("it ends in the middle of {name}");
                        return Err(FinishedError::Damaged { path: path.to_owned(), why });
                    }
                    files.insert(name, place);
                }
                // Docker of old writes a layer that two images share once, and links to it.
                kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                    let Some(target) = entry.link_name_bytes() else { continue };
                    let base = match kind {
                        tar::EntryType::Symlink => name.rsplit_once('/').map_or("", |(directory, _)| directory),
                        _ => "",
                    };
                    let target = [base.as_bytes(), b"/", &target].concat();
                    links.push((name, normal(&target)));
                }
                _ => {}
            }
        }
        for _ in 0..LINKS {
            for (name, target) in &links {
                if let Some(place) = files.get(target).copied() {
                    files.entry(name.clone()).or_insert(place);
                }
            }
        }
        Ok(Self::Archive { path: path.to_owned(), files })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(directory) => directory.join(name).is_file(),
            Self::Files(files) => files.contains_key(name),
            Self::Archive { files, .. } => files.contains_key(name),
        }
    }

    /// A file and its size in bytes.
    pub(super) fn file(&self, name: &str) -> io::Result<(Box<dyn Read + Send>, u64)> {
        self.file_from(name, 0)
    }

    /// A file from `offset` on, and its whole size in bytes.
    pub(super) fn file_from(&self, name: &str, offset: u64) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let (path, place) = match self {
            Self::Directory(directory) => whole(name, directory.join(name))?,
            Self::Files(files) => whole(name, files.get(name).ok_or_else(missing)?.clone())?,
            Self::Archive { path, files } => (path.clone(), *files.get(name).ok_or_else(missing)?),
        };
        let offset = offset.min(place.size);
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(place.offset + offset))?;
        Ok((Box::new(file.take(place.size - offset)), place.size))
    }

    /// Opens a file again and again: whole, of this digest when one is known, and compressed where that is wanted.
    pub(super) fn opener(self: &Arc<Self>, name: String, expected: Option<Digest>, pack: Pack) -> Open {
        let store = Arc::clone(self);
        Arc::new(move || {
            let (file, size) = store.file(&name)?;
            let source = Verified { inner: file, name: name.clone(), size, expected, hasher: Sha256::new(), read: 0 };
            Ok(match pack {
                Pack::AsIs => Box::new(source),
                Pack::Gzip => Box::new(GzEncoder::new(source, Compression::new(LEVEL))),
            })
        })
    }
}

/// The media type of a layer that is compressed, by its first bytes.
pub(super) fn packed(start: &[u8]) -> Option<&'static str> {
    match start {
        _ if start.starts_with(GZIP) => Some(IMAGE_LAYER_GZIP_MEDIA_TYPE),
        _ if start.starts_with(ZSTD) => Some(ZSTD_MEDIA_TYPE),
        _ => None,
    }
}

/// A file of its own, called `name` here.
fn whole(name: &str, path: PathBuf) -> io::Result<(PathBuf, Place)> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is no file")));
    }
    Ok((path, Place { offset: 0, size: metadata.len() }))
}

/// A name in an archive without `.` and `..`.
pub(super) fn normal(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What becomes of a file on its way.
#[derive(Clone, Copy)]
pub(super) enum Pack {
    /// Nothing.
    AsIs,
    /// It is compressed.
    Gzip,
}

/// A file that must be whole, and have a digest when one is known.
struct Verified<R> {
    inner: R,
    name: String,
    size: u64,
    expected: Option<Digest>,
    hasher: Sha256,
    read: u64,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.read += count as u64;
        if count == 0 && !buffer.is_empty() {
            let damaged = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
            if self.read != self.size {
                return damaged(format!("{} ends after {} of {} bytes", self.name, self.read, self.size));
            }
            let actual = Digest::from_bytes(self.hasher.clone().finalize().into());
            if let Some(expected) = self.expected.filter(|expected| *expected != actual) {
                return damaged(format!("{} has the digest {actual}, not {expected}", self.name));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> tempfile::NamedTempFile {
        let mut archive = tar::Builder::new(tempfile::NamedTempFile::new().expect("a file can be made"));
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            match kind {
                tar::EntryType::Regular => {
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, name, content.as_bytes()).expect("it can be written");
                }
                _ => {
                    header.set_size(0);
                    archive.append_link(&mut header, name, content).expect("it can be written");
                }
            }
        }
        archive.into_inner().expect("it can be written")
    }

    fn read(store: &Store, name: &str) -> Option<String> {
        let (mut file, _) = store.file(name).ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn the_links_of_an_archive_lead_to_its_own_files_and_nowhere_else() {
        use tar::EntryType::{Link, Regular, Symlink};
        let file = archive(&[
            ("./a/layer.tar", Regular, "layer"),
            ("b/layer.tar", Symlink, "../a/layer.tar"),
            ("c/layer.tar", Symlink, "../b/layer.tar"),
            ("d", Link, "a/layer.tar"),
            ("out", Symlink, "../../../../etc/passwd"),
            ("loop", Symlink, "loop"),
        ]);
        let store = Store::open(file.path()).expect("it is an archive");
        for name in ["a/layer.tar", "b/layer.tar", "c/layer.tar", "d"] {
            assert_eq!(read(&store, name).as_deref(), Some("layer"), "{name}");
        }
        for name in ["out", "loop", "etc/passwd", "none"] {
            assert_eq!(read(&store, name), None, "{name}");
        }
    }

    #[test]
    fn a_file_that_ends_early_or_has_another_digest_is_told() {
        let told = |size, expected| {
            let inner = b"bytes".as_slice();
            let mut file = Verified { inner, name: "layer".to_owned(), size, expected, hasher: Sha256::new(), read: 0 };
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map(drop).map_err(|error| error.to_string())
        };
        let (right, wrong) = (Digest::of(b"bytes"), Digest::of(b"other"));
        assert_eq!(told(5, Some(right)), Ok(()));
        assert_eq!(told(5, None), Ok(()));
        assert_eq!(told(6, Some(right)), Err("layer ends after 5 of 6 bytes".to_owned()));
        assert_eq!(told(5, Some(wrong)), Err(format!("layer has the digest {right}, not {wrong}")));
    }

    proptest::proptest! {
        #[test]
        fn no_name_leads_out(name in "[./a]{0,12}") {
            let name = normal(name.as_bytes());
            proptest::prop_assert!(!name.starts_with('/') && name.split('/').all(|part| part != ".."), "{}", name);
        }
    }
}
