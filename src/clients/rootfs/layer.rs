//! Applies one layer after the other to a root: image-spec 1.1, "Image Layer Filesystem Changeset".

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::archive::{Archive, Entry, Kind, Piece};
use super::blocks::{Blocks, Part};
use super::tree::{Directory, InRoot, Tree, look, open_directory};
use super::writers::Writers;

/// The bits of a mode that a new file can have at once, as far as the umask lets it.
const PERMISSIONS: u32 = 0o777;

/// How many of the skipped things are named.
const NAMED: usize = 10;

/// Why a layer cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The bytes of the layer could not be had, inflated or understood.
    #[error("cannot read its archive")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// The file system refused.
    #[error("cannot {action} {path:?}")]
    Write {
        /// What was tried, as a verb.
        action: &'static str,
        /// The entry.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The owner could not be set.
    #[error("cannot give {path:?} to user {uid} and group {gid}")]
    Owner {
        /// The entry.
        path: PathBuf,
        /// The user's number.
        uid: u64,
        /// The group's number.
        gid: u64,
        /// Why.
        source: io::Error,
    },
    /// A hard link could not be made: often because what it links to is missing.
    #[error("cannot create hard link {path:?} to {target:?}")]
    Link {
        /// The entry.
        path: PathBuf,
        /// What it links to.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An entry that no honest tool writes.
    #[error("entry {path:?} is refused: {why}")]
    Refused {
        /// The entry.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The root could not be opened in a way that keeps paths inside.
    #[error("cannot open {root:?} with openat2, which keeps what is unpacked inside it")]
    NoOpenat2 {
        /// The root.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LayerError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source } | Self::Write { source, .. } | Self::Link { source, .. } if is_full(source) => Some(FULL.to_owned()),
            Self::Write { source, .. } if is_errno(source, Errno::MFILE) => Some("raise the limit of open files (ulimit -n)".to_owned()),
            Self::Owner { source, .. } if is_errno(source, Errno::INVAL) => Some(
                "this container maps only some user and group numbers, and these are not among them: make the image with lower numbers, or run the resource type with `privileged: true`".to_owned(),
            ),
            Self::Owner { source, .. } if is_errno(source, Errno::PERM) => {
                Some("only root can set owners: run the program as root, as Concourse does".to_owned())
            }
            Self::NoOpenat2 { .. } => {
                Some("openat2 needs Linux 5.6, and a seccomp profile of the worker that allows it".to_owned())
            }
            Self::Refused { .. } => Some("the image is broken or hostile: make it again with tools that you trust".to_owned()),
            Self::Read { .. } | Self::Write { .. } | Self::Link { .. } | Self::Owner { .. } => None,
        }
    }
}

const FULL: &str = "the worker's disk is full, or a quota is used up: make room, or make the image smaller";

fn is_full(error: &io::Error) -> bool {
    is_errno(error, Errno::NOSPC) || is_errno(error, Errno::DQUOT)
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// What a layer brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerStats {
    /// The entries that were unpacked: files, links, directories and whiteouts.
    pub files: u64,
    /// The size of the layer's archive, inflated, in bytes.
    pub bytes: u64,
    /// What could not be made here.
    pub skipped: Skipped,
}

/// What an unprivileged container may not make, and what was therefore left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Device nodes.
    pub devices: Omitted,
    /// Extended attributes, each as its name and the entry.
    pub xattrs: Omitted,
}

/// A count, and the first few by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Omitted {
    /// How many.
    pub count: u64,
    /// The first ten.
    pub names: Vec<String>,
}

impl Omitted {
    fn add(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.names.len() < NAMED {
            self.names.push(name());
        }
    }

    /// Adds what another layer left out.
    pub(super) fn append(&mut self, other: Self) {
        let Self { count, names } = other;
        self.count += count;
        self.names.extend(names);
        self.names.truncate(NAMED);
    }
}

/// A directory to which layers are applied, the lowest first.
pub struct Rootfs {
    path: PathBuf,
    tree: Tree,
    writers: Writers,
    /// The times of directories, set at the end because every entry in a directory changes them. By inode, so that a
    /// directory that was reached on two ways has one time.
    directory_times: HashMap<u64, (InRoot, (i64, u32))>,
}

impl Rootfs {
    /// Opens a directory, which must be there.
    ///
    /// # Errors
    /// It is no directory, or the kernel has no `openat2`.
    pub fn open(path: &Path) -> Result<Self, LayerError> {
        let tree = Tree::open(path).map_err(|error| match error {
            Errno::NOSYS | Errno::PERM => LayerError::NoOpenat2 { root: path.to_owned(), source: error.into() },
            other => LayerError::Write { action: "open", path: path.to_owned(), source: other.into() },
        })?;
        Ok(Self { path: path.to_owned(), tree, writers: Writers::start(), directory_times: HashMap::new() })
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> Result<bool, LayerError> {
        self.tree.is_empty().map_err(|error| self.at_root("read", error))
    }

    /// Removes everything in it.
    pub(super) fn clear(&mut self) -> Result<(), LayerError> {
        self.tree.clear().map_err(|error| self.at_root("remove", error))
    }

    fn at_root(&self, action: &'static str, error: Errno) -> LayerError {
        LayerError::Write { action, path: self.path.clone(), source: error.into() }
    }

    /// Applies a layer: a tar archive that is being inflated. It is read to its end.
    ///
    /// # Errors
    /// The layer is damaged, hostile, or cannot be unpacked here. What is in the directory is then of no use.
    pub(super) fn apply(&mut self, layer: Blocks) -> Result<LayerStats, LayerError> {
        self.tree.begin_layer();
        let applied = self.entries(layer);
        // Also after an error: nobody writes any more when this returns.
        let settled = self.writers.settle();
        let stats = applied?;
        settled.map(|()| stats)
    }

    fn entries(&mut self, layer: Blocks) -> Result<LayerStats, LayerError> {
        let mut archive = Archive::new(layer);
        let mut files = 0;
        let mut skipped = Skipped::default();
        while let Some(entry) = archive.next().map_err(unreadable)? {
            self.entry(entry, &mut archive, &mut skipped)?;
            files += 1;
        }
        let bytes = archive.finish().map_err(unreadable)?;
        Ok(LayerStats { files, bytes, skipped })
    }

    /// Sets the times of the directories, after the last layer.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn set_directory_times(&mut self) -> Result<(), LayerError> {
        for (inode, (path, mtime)) in std::mem::take(&mut self.directory_times) {
            let failed = |error: Errno| LayerError::Write {
                action: "set the time of",
                path: path.shown(),
                source: error.into(),
            };
            let fd = match path.split() {
                None => self.tree.needed(b"").and_then(|root| open_directory(root.as_ref(), b".")),
                Some((parent, name)) => match self.tree.existing(parent).map_err(failed)? {
                    Some(parent) => open_directory(parent.as_ref(), name),
                    None => continue,
                },
            };
            match fd {
                Ok(fd) if fs::fstat(&fd).map_err(failed)?.st_ino == inode => {
                    fs::futimens(&fd, &times(mtime)).map_err(failed)?;
                }
                // A later layer removed it, or put something else there.
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, archive: &mut Archive, skipped: &mut Skipped) -> Result<(), LayerError> {
        let refused = |why| LayerError::Refused { path: Path::new(OsStr::from_bytes(&entry.path)).to_owned(), why };
        let path = InRoot::new(&entry.path).map_err(refused)?;
        let Some((parent, name)) = path.split() else {
            return match entry.kind {
                Kind::Directory => self.root(&entry, &path, skipped),
                _ => Err(refused("it would replace the root by something that is no directory")),
            };
        };
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(parent, hidden, &path);
        }
        let parent = self.tree.needed(parent).map_err(|error| failed("make the directory of", &path, error))?;
        let at = Place { path: &path, parent: &parent, name };
        match entry.kind {
            Kind::File => self.file(entry, at, archive, skipped),
            Kind::Directory => self.directory(&entry, at, skipped),
            Kind::Symlink => self.symlink(&entry, at, skipped),
            Kind::HardLink => self.hard_link(&entry, at),
            Kind::Fifo => self.node(&entry, at, FileType::Fifo, skipped),
            Kind::CharacterDevice => self.node(&entry, at, FileType::CharacterDevice, skipped),
            Kind::BlockDevice => self.node(&entry, at, FileType::BlockDevice, skipped),
        }
    }

    /// Hides what lower layers have: `hidden` is the rest of the name after `.wh.`.
    fn whiteout(&mut self, parent: &[u8], hidden: &[u8], path: &InRoot) -> Result<(), LayerError> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(LayerError::Refused { path: path.shown(), why: "it is a whiteout of no name" });
        }
        let remove = |error| failed("apply the whiteout", path, error);
        let Some(directory) = self.tree.existing(parent).map_err(remove)? else { return Ok(()) };
        match hidden {
            b".wh..opq" => self.tree.hide_all(&directory),
            // The book-keeping of AUFS (`.wh..wh.plnk`, `.wh..wh.aufs`), which old images still have.
            _ if hidden.starts_with(b".wh.") => Ok(()),
            name => self.tree.hide(&directory, name),
        }
        .map_err(remove)
    }

    fn root(&mut self, entry: &Entry, path: &InRoot, skipped: &mut Skipped) -> Result<(), LayerError> {
        let root = self.tree.needed(b"").map_err(|error| failed("open", path, error))?;
        let fd = open_directory(root.as_ref(), b".").map_err(|error| failed("open", path, error))?;
        self.finish_directory(entry, path, fd, skipped)
    }

    fn directory(&mut self, entry: &Entry, at: Place<'_>, skipped: &mut Skipped) -> Result<(), LayerError> {
        let make = || fs::mkdirat(at.parent, at.name, Mode::from_raw_mode(entry.mode & PERMISSIONS));
        let fd = match make() {
            // What is in a directory of a lower layer stays; only its attributes change.
            Err(Errno::EXIST) => match open_directory(at.parent, at.name) {
                Ok(fd) => remove_attributes(&fd).map(|()| fd),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    self.tree.place(at.parent, at.name, make).and_then(|()| open_directory(at.parent, at.name))
                }
                Err(error) => Err(error),
            },
            made => made.and_then(|()| open_directory(at.parent, at.name)),
        };
        let fd = fd.map_err(|error| failed("make directory", at.path, error))?;
        self.tree.bring(at.parent, at.name);
        self.finish_directory(entry, at.path, fd, skipped)
    }

    fn finish_directory(
        &mut self,
        entry: &Entry,
        path: &InRoot,
        fd: OwnedFd,
        skipped: &mut Skipped,
    ) -> Result<(), LayerError> {
        let inode = set_owner_and_mode(entry, &fd, || path.clone())?;
        set_xattrs(entry, path, &fd, skipped)?;
        self.tree.hold(path.as_bytes(), Rc::new(Directory { fd, inode }));
        self.directory_times.insert(inode, (path.clone(), entry.mtime));
        Ok(())
    }

    fn file(
        &mut self,
        mut entry: Entry,
        at: Place<'_>,
        archive: &mut Archive,
        skipped: &mut Skipped,
    ) -> Result<(), LayerError> {
        self.writers.check()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & PERMISSIONS);
        let create = || fs::openat(at.parent, at.name, flags, mode);
        let fd = self.tree.place(at.parent, at.name, create).map_err(|error| failed("create file", at.path, error))?;
        let pieces = std::mem::take(&mut entry.pieces);
        let data = pieces.iter().filter(|piece| 0 < piece.length);
        if data.map(|piece| piece.offset + piece.length).max().unwrap_or(0) < entry.size {
            fs::ftruncate(&fd, entry.size).map_err(|error| failed("write", at.path, error))?;
        }
        let file = NewFile { fd, entry };
        if !file.entry.xattrs.is_empty() {
            // Not by a writer: what could not be set is told in the order of the layer.
            each_part(&pieces, archive, |part, offset| file.write(part.bytes(), offset))?;
            file.set_owner_and_mode()?;
            set_xattrs(&file.entry, at.path, &file.fd, skipped)?;
            return file.set_time();
        }
        match pieces.as_slice() {
            [piece] if piece.offset == 0 && archive.holds(piece.length).map_err(unreadable)? => {
                self.writers.fill(file, archive.data(piece.length).map_err(unreadable)?);
            }
            pieces => {
                let sink = self.writers.open(file);
                each_part(pieces, archive, |part, offset| {
                    sink.write(part, offset);
                    Ok(())
                })?;
                sink.close();
            }
        }
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, at: Place<'_>, skipped: &mut Skipped) -> Result<(), LayerError> {
        let create = || fs::symlinkat(entry.target.as_slice(), at.parent, at.name);
        self.tree.place(at.parent, at.name, create).map_err(|error| failed("create symlink", at.path, error))?;
        self.finish_node(entry, at, skipped)
    }

    fn hard_link(&mut self, entry: &Entry, at: Place<'_>) -> Result<(), LayerError> {
        let refused = |why| LayerError::Refused { path: at.path.shown(), why };
        let target = InRoot::new(&entry.target).map_err(|_| refused("it is a hard link to a path with `..` or NUL"))?;
        let (directory, name) = target.split().ok_or_else(|| refused("it is a hard link to the root"))?;
        let link =
            |error: Errno| LayerError::Link { path: at.path.shown(), target: target.shown(), source: error.into() };
        let directory = self.tree.existing(directory).map_err(link)?.ok_or(Errno::NOENT).map_err(link)?;
        // A link to itself would otherwise remove what it links to.
        let found = look(&directory.fd, name).map_err(link)?;
        let is_there =
            look(at.parent, at.name).is_ok_and(|there| (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino));
        if is_there {
            self.tree.bring(at.parent, at.name);
            return Ok(());
        }
        // Without flags a symlink is linked itself, not what it points to.
        let create = || fs::linkat(directory.as_ref(), name, at.parent, at.name, AtFlags::empty());
        self.tree.place(at.parent, at.name, create).map_err(link)
    }

    /// A device or a fifo. A device that may not be made here is left out.
    fn node(&mut self, entry: &Entry, at: Place<'_>, kind: FileType, skipped: &mut Skipped) -> Result<(), LayerError> {
        let (major, minor) = entry.device;
        let device = if kind == FileType::Fifo { 0 } else { fs::makedev(major, minor) };
        let create = || fs::mknodat(at.parent, at.name, kind, Mode::RUSR | Mode::WUSR, device);
        match self.tree.place(at.parent, at.name, create) {
            Ok(()) => {}
            Err(Errno::PERM) if kind != FileType::Fifo => {
                skipped.devices.add(|| at.path.shown().display().to_string());
                // What a lower layer has there is replaced all the same.
                return self.tree.hide(at.parent, at.name).map_err(|error| failed("replace", at.path, error));
            }
            Err(error) => return Err(failed("create device", at.path, error)),
        }
        self.finish_node(entry, at, skipped)
    }

    /// The attributes of what cannot be opened: it was just made, so the name is surely it.
    fn finish_node(&mut self, entry: &Entry, at: Place<'_>, skipped: &mut Skipped) -> Result<(), LayerError> {
        let (uid, gid) = owner(entry, || at.path.clone())?;
        fs::chownat(at.parent, at.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| owner_refused(entry, at.path, error))?;
        if entry.kind != Kind::Symlink {
            fs::chmodat(at.parent, at.name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(|error| failed("set the mode of", at.path, error))?;
        }
        // Only security modules and overlayfs put attributes on these, and they can be set by path alone.
        for (name, _) in &entry.xattrs {
            skipped.xattrs.add(|| format!("{} of {}", name.escape_ascii(), at.path.shown().display()));
        }
        fs::utimensat(at.parent, at.name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed("set the time of", at.path, error))
    }
}

/// Where an entry goes: a name in a directory that is held open.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a InRoot,
    parent: &'a Rc<Directory>,
    name: &'a [u8],
}

fn failed(action: &'static str, path: &InRoot, error: Errno) -> LayerError {
    LayerError::Write { action, path: path.shown(), source: error.into() }
}

fn owner_refused(entry: &Entry, path: &InRoot, error: Errno) -> LayerError {
    LayerError::Owner { path: path.shown(), uid: entry.uid, gid: entry.gid, source: error.into() }
}

fn owner(entry: &Entry, path: impl Fn() -> InRoot) -> Result<(Uid, Gid), LayerError> {
    // The highest number means "leave it" to the kernel.
    let number = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    match (number(entry.uid), number(entry.gid)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(owner_refused(entry, &path(), Errno::INVAL)),
    }
}

/// A file that was created under its name, and has neither data nor attributes yet.
pub(super) struct NewFile {
    fd: OwnedFd,
    entry: Entry,
}

impl NewFile {
    /// Writes data at a place of the file.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, mut bytes: &[u8], mut at: u64) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            let count = rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.fd, bytes, at))
                .map_err(|error| failed("write", &self.path(), error))?;
            bytes = &bytes[count..];
            at += count as u64;
        }
        Ok(())
    }

    /// Gives it its attributes, after its last data.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn finish(self) -> Result<(), LayerError> {
        self.set_owner_and_mode()?;
        self.set_time()
    }

    fn set_owner_and_mode(&self) -> Result<(), LayerError> {
        set_owner_and_mode(&self.entry, &self.fd, || self.path()).map(drop)
    }

    fn set_time(&self) -> Result<(), LayerError> {
        fs::futimens(&self.fd, &times(self.entry.mtime)).map_err(|error| failed("set the time of", &self.path(), error))
    }

    /// The path for messages.
    fn path(&self) -> InRoot {
        InRoot::new(&self.entry.path).expect("it was created there")
    }
}

/// Owner and mode, in this order: a change of owner takes away setuid bits. Most are right from the beginning, and to
/// look is cheaper than to set them again. Gives the inode's number.
fn set_owner_and_mode(entry: &Entry, fd: &OwnedFd, path: impl Fn() -> InRoot) -> Result<u64, LayerError> {
    let (uid, gid) = owner(entry, &path)?;
    let stat = fs::fstat(fd).map_err(|error| failed("read", &path(), error))?;
    let is_owned = (stat.st_uid, stat.st_gid) == (uid.as_raw(), gid.as_raw());
    if !is_owned {
        fs::fchown(fd, Some(uid), Some(gid)).map_err(|error| owner_refused(entry, &path(), error))?;
    }
    if !is_owned || stat.st_mode & 0o7777 != entry.mode {
        let mode = Mode::from_raw_mode(entry.mode);
        fs::fchmod(fd, mode).map_err(|error| failed("set the mode of", &path(), error))?;
    }
    Ok(stat.st_ino)
}

/// After owner and mode: a change of owner takes away capabilities.
fn set_xattrs(entry: &Entry, path: &InRoot, fd: &OwnedFd, skipped: &mut Skipped) -> Result<(), LayerError> {
    for (name, value) in &entry.xattrs {
        match fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            // A program that needs its capability would fail later and elsewhere: that is an error now.
            Err(Errno::PERM | Errno::NOTSUP) if name != b"security.capability" => {
                skipped.xattrs.add(|| format!("{} of {}", name.escape_ascii(), path.shown().display()));
            }
            Err(error) => return Err(failed("set the extended attributes of", path, error)),
        }
    }
    Ok(())
}

/// Removes the extended attributes that a lower layer gave to a directory: an entry replaces them all.
fn remove_attributes(fd: &OwnedFd) -> rustix::io::Result<()> {
    let length = match fs::flistxattr_query(fd) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(()),
        length => length?,
    };
    let mut names = vec![0; length];
    let length = fs::flistxattr(fd, names.as_mut_slice())?;
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        match fs::fremovexattr(fd, name) {
            // A label of a security module is not the layer's, and cannot be removed.
            Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes the data of a file in parts, each with its place in the file.
fn each_part(
    pieces: &[Piece],
    archive: &mut Archive,
    mut take: impl FnMut(Part, u64) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    for piece in pieces {
        let (mut at, end) = (piece.offset, piece.offset + piece.length);
        while at < end {
            let part = archive.data(end - at).map_err(unreadable)?.ok_or(io::ErrorKind::UnexpectedEof);
            let part = part.map_err(|kind| unreadable(kind.into()))?;
            let begin = at;
            at += part.bytes().len() as u64;
            take(part, begin)?;
        }
    }
    Ok(())
}

fn unreadable(source: io::Error) -> LayerError {
    LayerError::Read { source }
}

/// Access time as modification time: the archive has one, and "now" would make every get another tree.
fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
