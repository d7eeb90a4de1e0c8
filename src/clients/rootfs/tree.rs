//! The directory that layers are unpacked to, as a world of its own.
//!
//! Every path is resolved by the kernel *inside* the root (`openat2` with `RESOLVE_IN_ROOT`): `/` and `..`, also those
//! in symlinks, cannot leave it. The last part of a path is never followed: it is a plain name in a directory that is
//! held open. So no order of entries, and nothing that a lower layer left behind, reaches outside.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result};

/// How many symlinks one path may pass through: the kernel's own limit.
const MAX_SYMLINKS: u32 = 40;

/// How many directories are held open: neighbours mostly share theirs, and most trees are no deeper.
const HELD: usize = 128;

/// A path of an entry: parts divided by single `/`, none of them empty, `.` or `..`. Empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct InRoot(Vec<u8>);

impl InRoot {
    /// Reads the path of an entry. An absolute one is meant from the root.
    ///
    /// # Errors
    /// Why the path is refused, for `..` (no tool that makes layers writes it) and for NUL.
    pub fn new(raw: &[u8]) -> std::result::Result<Self, &'static str> {
        let mut path = Vec::with_capacity(raw.len());
        for part in raw.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            if part == b".." {
                return Err("its path has a `..`");
            }
            if part.contains(&0) {
                return Err("its path has a NUL byte");
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Ok(Self(path))
    }

    /// The directory and the name in it; `None` for the root.
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => Some((&self.0[..at], &self.0[at + 1..])),
            None if self.0.is_empty() => None,
            None => Some((b"", &self.0)),
        }
    }

    /// The path as [`Tree`] takes it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for messages.
    pub fn shown(&self) -> PathBuf {
        let bytes = if self.0.is_empty() { b".".as_slice() } else { &self.0 };
        Path::new(OsStr::from_bytes(bytes)).to_owned()
    }
}

/// A directory that is held open.
pub(super) struct Directory {
    pub fd: OwnedFd,
    pub inode: u64,
}

impl AsFd for Directory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a removal leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    /// What the layer that is being applied brought.
    ThisLayer,
}

/// The root, and what is known of it.
pub(super) struct Tree {
    root: Rc<Directory>,
    /// Directories by their paths, until a directory or symlink goes: then a path may lead elsewhere.
    held: HashMap<Vec<u8>, Rc<Directory>>,
    /// How many layers were begun.
    layers: usize,
    /// What the layer that is being applied brought. Nothing of the first layer, which has none below it to be told from.
    brought: Marks,
    hasher: RandomState,
}

impl Tree {
    /// Opens a directory that is there.
    ///
    /// # Errors
    /// `NOSYS` or `PERM` when there is no `openat2`.
    pub fn open(root: &Path) -> Result<Self> {
        let fd = fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let inode = fs::fstat(&fd)?.st_ino;
        let tree = Self {
            root: Rc::new(Directory { fd, inode }),
            held: HashMap::new(),
            layers: 0,
            brought: Marks::default(),
            hasher: RandomState::new(),
        };
        tree.resolve(b"", OFlags::DIRECTORY | OFlags::PATH)?;
        Ok(tree)
    }

    /// From now on, what is brought is another layer's.
    pub fn begin_layer(&mut self) {
        self.brought.clear();
        self.layers += 1;
    }

    /// Whether nothing is in the root.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(names(&self.root.fd)?.is_empty())
    }

    /// Opens what is at a path; symlinks are followed, inside the root.
    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match fs::openat2(&self.root.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), inside) {
                // The kernel could not rule out that a `..` was moved meanwhile; somewhere on the machine something was.
                Err(Errno::AGAIN) if tries < 1000 => tries += 1,
                result => return result,
            }
        }
    }

    fn directory(&self, path: &[u8]) -> Result<Rc<Directory>> {
        let fd = self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)?;
        let inode = fs::fstat(&fd)?.st_ino;
        Ok(Rc::new(Directory { fd, inode }))
    }

    /// The directory at a path, if there is one.
    pub fn existing(&mut self, path: &[u8]) -> Result<Option<Rc<Directory>>> {
        if let Some(directory) = self.held.get(path) {
            return Ok(Some(Rc::clone(directory)));
        }
        match self.directory(path) {
            Ok(directory) => {
                self.hold(path, Rc::clone(&directory));
                Ok(Some(directory))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Holds a directory open that is at a path, for what comes next into it.
    pub fn hold(&mut self, path: &[u8], directory: Rc<Directory>) {
        if self.held.len() == HELD {
            self.held.clear();
        }
        self.held.insert(path.to_vec(), directory);
    }

    /// The directory at a path; what is missing on the way is made, with mode 0755 and owner 0:0.
    pub fn needed(&mut self, path: &[u8]) -> Result<Rc<Directory>> {
        if let Some(directory) = self.existing(path)? {
            return Ok(directory);
        }
        self.make(path, &mut 0)?;
        self.directory(path)
    }

    fn make(&mut self, path: &[u8], symlinks: &mut u32) -> Result<()> {
        let mut parent = Rc::clone(&self.root);
        let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        let mut begin = 0;
        for end in ends.chain([path.len()]) {
            let (prefix, name) = (&path[..end], &path[begin..end]);
            begin = end + 1;
            if name.is_empty() {
                continue;
            }
            parent = match self.directory(prefix) {
                Ok(directory) => directory,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    self.make_one(&parent, &path[..end - name.len()], name, symlinks)?;
                    self.directory(prefix)?
                }
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Makes one directory, or what the symlink that is there points to. A file gives way: what is later counts.
    fn make_one(&mut self, parent: &Rc<Directory>, before: &[u8], name: &[u8], symlinks: &mut u32) -> Result<()> {
        if name == b".." {
            return Err(Errno::NOENT);
        }
        match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_symlink() => {
                *symlinks += 1;
                if *symlinks > MAX_SYMLINKS {
                    return Err(Errno::LOOP);
                }
                let target = fs::readlinkat(parent, name, Vec::new())?.into_bytes();
                let whole = if target.starts_with(b"/") { target } else { [before, &target].concat() };
                return self.make(&whole, symlinks);
            }
            Ok(_) => self.remove(parent, name)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        let fd = open_directory(parent, name)?;
        // Neither the umask nor a setgid parent has a say.
        fs::fchown(&fd, Some(fs::Uid::ROOT), Some(fs::Gid::ROOT))?;
        fs::fchmod(&fd, Mode::from_raw_mode(0o755))
    }

    /// Makes something new at a name: `create` must fail with `EXIST` when anything is there, which is then removed.
    pub fn place<T>(&mut self, parent: &Rc<Directory>, name: &[u8], create: impl Fn() -> Result<T>) -> Result<T> {
        let made = match create() {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                create()?
            }
            made => made?,
        };
        self.bring(parent, name);
        Ok(made)
    }

    /// Marks a name as brought by this layer.
    pub fn bring(&mut self, parent: &Directory, name: &[u8]) {
        if self.layers == 1 {
            return;
        }
        self.brought.insert(self.mark(parent.inode, name));
    }

    fn mark(&self, directory: u64, name: &[u8]) -> u64 {
        self.hasher.hash_one((directory, name))
    }

    /// Removes what is at a name, with all that is in it.
    fn remove(&mut self, parent: &Directory, name: &[u8]) -> Result<()> {
        self.remove_name(parent, name, Keep::Nothing)
    }

    /// Removes what lower layers have at a name; what this layer brought stays.
    pub fn hide(&mut self, parent: &Directory, name: &[u8]) -> Result<()> {
        if self.layers == 1 {
            return Ok(());
        }
        self.remove_name(parent, name, Keep::ThisLayer)
    }

    /// Removes what lower layers have in a directory; what this layer brought stays.
    pub fn hide_all(&mut self, directory: &Directory) -> Result<()> {
        if self.layers == 1 {
            return Ok(());
        }
        self.held.clear();
        let fd = fs::openat(directory, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        self.empty(fd, Keep::ThisLayer).map(drop)
    }

    /// Removes everything in the root.
    pub fn clear(&mut self) -> Result<()> {
        self.held.clear();
        let fd = self.resolve(b"", OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.empty(fd, Keep::Nothing).map(drop)
    }

    fn remove_name(&mut self, parent: &Directory, name: &[u8], keep: Keep) -> Result<()> {
        let mark = self.mark(parent.inode, name);
        let stays = keep == Keep::ThisLayer && self.brought.contains(mark);
        match open_directory(parent, name) {
            Ok(fd) => {
                self.held.clear();
                let emptied = self.empty(fd, keep)?;
                if stays || !emptied {
                    return Ok(());
                }
                fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
            }
            // A symlink is LOOP or NOTDIR.
            Err(Errno::NOTDIR | Errno::LOOP) if stays => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                if FileType::from_raw_mode(look(parent, name)?.st_mode).is_symlink() {
                    // A path that went through it leads elsewhere now.
                    self.held.clear();
                }
                fs::unlinkat(parent, name, AtFlags::empty())?;
            }
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes what is in a directory. Tells whether nothing is left.
    ///
    /// However deep the tree is, one descriptor is open: the way back up is `..`, which cannot be a symlink.
    fn empty(&mut self, top: OwnedFd, keep: Keep) -> Result<bool> {
        let mut at = top;
        let mut inode = fs::fstat(&at)?.st_ino;
        let (mut subdirectories, mut emptied) = self.empty_level(&at, inode, keep)?;
        let mut above: Vec<Level> = Vec::new();
        loop {
            if let Some(name) = subdirectories.pop() {
                let below = open_directory(&at, &name)?;
                above.push(Level { name, inode, subdirectories, emptied });
                at = below;
                inode = fs::fstat(&at)?.st_ino;
                (subdirectories, emptied) = self.empty_level(&at, inode, keep)?;
                continue;
            }
            let Some(level) = above.pop() else { return Ok(emptied) };
            at = open_directory(&at, b"..")?;
            if fs::fstat(&at)?.st_ino != level.inode {
                // Someone else moves directories in our root.
                return Err(Errno::STALE);
            }
            let mark = self.mark(level.inode, &level.name);
            let stays = !emptied || (keep == Keep::ThisLayer && self.brought.contains(mark));
            if !stays {
                fs::unlinkat(&at, level.name.as_slice(), AtFlags::REMOVEDIR)?;
            }
            Level { inode, subdirectories, emptied, .. } = level;
            emptied &= !stays;
        }
    }

    /// Removes what is no directory. Gives the names of the directories, and whether nothing else is left.
    fn empty_level(&mut self, directory: &OwnedFd, inode: u64, keep: Keep) -> Result<(Vec<Vec<u8>>, bool)> {
        let mut subdirectories = Vec::new();
        let mut emptied = true;
        for (name, kind) in names(directory)? {
            let is_directory = match kind {
                FileType::Unknown => {
                    let stat = fs::statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode).is_dir()
                }
                kind => kind.is_dir(),
            };
            if is_directory {
                subdirectories.push(name);
                continue;
            }
            let mark = self.mark(inode, &name);
            if keep == Keep::ThisLayer && self.brought.contains(mark) {
                emptied = false;
                continue;
            }
            fs::unlinkat(directory, name.as_slice(), AtFlags::empty())?;
        }
        Ok((subdirectories, emptied))
    }
}

/// Names in directories, as hashes of both: eight bytes for each, where the name would need a hundred.
///
/// Nothing is taken out. A name that was replaced is brought again, and a directory that gets the inode number of one
/// that is gone was itself made by this layer, with all that is in it.
#[derive(Default)]
struct Marks {
    sorted: Vec<u64>,
    /// Those that came since it was sorted.
    new: Vec<u64>,
}

impl Marks {
    /// So many are looked through one by one, for layers where whiteouts and files take turns.
    const UNSORTED: usize = 4096;

    fn insert(&mut self, mark: u64) {
        self.new.push(mark);
    }

    fn contains(&mut self, mark: u64) -> bool {
        if Self::UNSORTED < self.new.len() {
            self.sorted.append(&mut self.new);
            self.sorted.sort_unstable();
        }
        self.new.contains(&mark) || self.sorted.binary_search(&mark).is_ok()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A directory on the way down to the one that is being emptied.
struct Level {
    /// The name of the directory below it.
    name: Vec<u8>,
    inode: u64,
    subdirectories: Vec<Vec<u8>>,
    emptied: bool,
}

/// Opens a directory to read it and to change its attributes. A symlink at the name is not followed.
pub(super) fn open_directory(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}

/// What is at a name; a symlink is not followed.
pub(super) fn look(parent: impl AsFd, name: &[u8]) -> Result<Stat> {
    fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn names(directory: &OwnedFd) -> Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if name != c"." && name != c".." {
            names.push((name.to_bytes().to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}
