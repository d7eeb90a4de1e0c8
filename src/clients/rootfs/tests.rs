//! Hand-made layers, honest and hostile, unpacked to real directories. The tests need root, as unpacking does.
//!
//! A symlink in a layer never points to a directory of the machine: on the day that unpacking is broken, a test must
//! fail, and not do what the layer wanted.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

mod bytes;
mod gnu_tar;
mod hostile;
mod model;
mod whole;

use super::*;

/// A tar archive that is written by hand, so that it can be as wrong as a test wants it.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

/// One header, ready to be changed.
struct Item<'a> {
    kind: u8,
    path: &'a [u8],
    target: &'a [u8],
    data: &'a [u8],
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    device: (u32, u32),
}

fn item(kind: u8, path: &[u8]) -> Item<'_> {
    let mode = if kind == b'5' { 0o755 } else { 0o644 };
    Item { kind, path, target: b"", data: b"", mode, owner: (0, 0), mtime: 1_000_000_000, device: (0, 0) }
}

impl Tar {
    fn item(mut self, item: &Item<'_>) -> Self {
        for (kind, name) in [(b'L', item.path), (b'K', item.target)] {
            if name.len() > 100 {
                self.block(kind, b"././@LongLink", b"", &[name, b"\0"].concat(), |_| {});
            }
        }
        self.block(item.kind, item.path, item.target, item.data, |header| {
            header.set_mode(item.mode);
            header.set_uid(item.owner.0);
            header.set_gid(item.owner.1);
            header.set_mtime(item.mtime);
            header.set_device_major(item.device.0).expect("a GNU header has devices");
            header.set_device_minor(item.device.1).expect("a GNU header has devices");
        });
        self
    }

    fn block(&mut self, kind: u8, path: &[u8], target: &[u8], data: &[u8], change: impl Fn(&mut tar::Header)) {
        let mut header = tar::Header::new_gnu();
        let gnu = header.as_gnu_mut().expect("it was made as one");
        let short = &path[..path.len().min(100)];
        gnu.name[..short.len()].copy_from_slice(short);
        let short = &target[..target.len().min(100)];
        gnu.linkname[..short.len()].copy_from_slice(short);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(data.len() as u64);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.item(&Item { data: data.as_bytes(), ..item(b'0', path.as_bytes()) })
    }

    fn directory(self, path: &str) -> Self {
        self.item(&item(b'5', path.as_bytes()))
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.item(&Item { target: target.as_bytes(), ..item(b'2', path.as_bytes()) })
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.item(&Item { target: target.as_bytes(), ..item(b'1', path.as_bytes()) })
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (name, value) in records {
            let rest = name.len() + value.len() + 3;
            let mut length = rest + rest.to_string().len();
            if length.to_string().len() > rest.to_string().len() {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {name}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.block(b'x', b"PaxHeaders/x", b"", &data, |_| {});
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// The blocks of a layer, as far as one needs.
fn blocks(layer: Vec<u8>) -> Blocks {
    Blocks::begin(std::io::Cursor::new(layer), Arc::default())
}

struct Unpacking {
    /// Holds `rootfs/` and a canary beside it.
    outside: tempfile::TempDir,
    result: Result<Vec<LayerStats>, LayerError>,
}

impl Unpacking {
    fn of(layers: &[Vec<u8>]) -> Self {
        let outside = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(outside.path().join("rootfs")).expect("make the root");
        fs::create_dir(outside.path().join("canary")).expect("make the canary");
        fs::write(outside.path().join("canary/file"), "sings").expect("make the canary");
        let result = Rootfs::open(&outside.path().join("rootfs")).and_then(|mut rootfs| {
            let stats = layers.iter().map(|layer| rootfs.apply(blocks(layer.clone()))).collect::<Result<_, _>>()?;
            rootfs.set_directory_times()?;
            Ok(stats)
        });
        Self { outside, result }
    }

    #[track_caller]
    fn expect(self) -> Self {
        if let Err(error) = &self.result {
            panic!("{error}: {:?}", std::error::Error::source(error).map(ToString::to_string));
        }
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.outside.path().join("rootfs").join(path)
    }

    fn metadata(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.path(path)).expect(path)
    }

    fn tree(&self) -> Vec<String> {
        list(&self.path(""))
    }
}

/// Every path below a directory, with `/` for a directory, `=content` for a file, `->target` for a symlink.
fn list(top: &Path) -> Vec<String> {
    fn walk(top: &Path, at: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(at).expect("read a directory") {
            let path = entry.expect("read a directory").path();
            let name = path.strip_prefix(top).expect("it is below").as_os_str().as_bytes().escape_ascii().to_string();
            let kind = fs::symlink_metadata(&path).expect("it is there").file_type();
            if kind.is_dir() {
                lines.push(format!("{name}/"));
                walk(top, &path, lines);
            } else if kind.is_symlink() {
                lines.push(format!("{name}->{}", fs::read_link(&path).expect("it is a symlink").display()));
            } else if kind.is_file() {
                lines.push(format!("{name}={}", fs::read_to_string(&path).expect("it is text")));
            } else {
                lines.push(format!("{name} {kind:?}"));
            }
        }
    }
    let mut lines = Vec::new();
    walk(top, top, &mut lines);
    lines.sort();
    lines
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn lower() -> Tar {
    Tar::default().directory("d").file("d/old", "1").directory("d/sub").file("d/sub/old", "1").file("top", "1")
}

#[test]
fn later_layers_hide_and_replace_what_lower_layers_have() {
    let upper = Tar::default;
    let cases: Vec<(&str, Vec<Tar>, &[&str])> = vec![
        (
            "a whiteout of a file",
            vec![lower(), upper().file("d/.wh.old", "")],
            &["d/", "d/sub/", "d/sub/old=1", "top=1"],
        ),
        ("a whiteout of a directory", vec![lower(), upper().file(".wh.d", "")], &["top=1"]),
        ("a whiteout of nothing", vec![upper().file("x/.wh.y", "").file(".wh.z", "")], &[]),
        (
            "an opaque directory, marked first",
            vec![lower(), upper().directory("d").file("d/.wh..wh..opq", "").file("d/new", "2")],
            &["d/", "d/new=2", "top=1"],
        ),
        (
            "an opaque directory, marked last",
            vec![lower(), upper().file("d/new", "2").file("d/sub/new", "2").file("d/.wh..wh..opq", "")],
            &["d/", "d/new=2", "d/sub/", "d/sub/new=2", "top=1"],
        ),
        (
            "a whiteout after its sibling of the same name",
            vec![lower(), upper().file("top", "2").file(".wh.top", "").file("d/sub/new", "2").file(".wh.d", "")],
            &["d/", "d/sub/", "d/sub/new=2", "top=2"],
        ),
        ("an opaque root", vec![lower(), upper().file("d/old", "2").file(".wh..wh..opq", "")], &["d/", "d/old=2"]),
        ("a directory by a file", vec![lower(), upper().file("d", "2")], &["d=2", "top=1"]),
        (
            "a file by a directory",
            vec![lower(), upper().directory("top")],
            &["d/", "d/old=1", "d/sub/", "d/sub/old=1", "top/"],
        ),
        (
            "a file by a directory without an entry",
            vec![upper().file("a", "1"), upper().file("a/b", "2")],
            &["a/", "a/b=2"],
        ),
        ("a directory by a symlink", vec![lower(), upper().symlink("d", "top")], &["d->top", "top=1"]),
        (
            "a symlink by a directory",
            vec![upper().directory("a").file("a/f", "1").symlink("b", "a"), upper().directory("b").file("b/g", "2")],
            &["a/", "a/f=1", "b/", "b/g=2"],
        ),
        (
            "a symlinked parent",
            vec![upper().directory("own/lib").symlink("lib", "/own/lib"), upper().file("lib/x", "2")],
            &["lib->/own/lib", "own/", "own/lib/", "own/lib/x=2"],
        ),
        (
            "a symlinked parent that points to nothing yet",
            vec![upper().symlink("a/lib", "../usr/./lib").file("a/lib/x/y", "2")],
            &["a/", "a/lib->../usr/./lib", "usr/", "usr/lib/", "usr/lib/x/", "usr/lib/x/y=2"],
        ),
        (
            "a whiteout behind a symlinked parent",
            vec![lower().symlink("s", "d"), upper().file("s/.wh.old", "").file("s/.wh.sub", "")],
            &["d/", "s->d", "top=1"],
        ),
        (
            "a symlinked parent that is a link of /proc",
            vec![upper().symlink("p", "/proc/self/cwd").file("p/file-of-a-test", "2")],
            &["p->/proc/self/cwd", "proc/", "proc/self/", "proc/self/cwd/", "proc/self/cwd/file-of-a-test=2"],
        ),
        ("a file twice in one layer", vec![upper().file("a", "1").file("a", "2")], &["a=2"]),
        (
            "book-keeping of AUFS",
            vec![lower(), upper().directory(".wh..wh.plnk").file(".wh..wh.aufs", "").file(".wh.d", "")],
            &["top=1"],
        ),
        (
            "absolute and dotted names",
            vec![upper().file("/a", "1").file("./b", "1").file("c//./d", "1")],
            &["a=1", "b=1", "c/", "c/d=1"],
        ),
    ];
    for (name, layers, expected) in cases {
        let layers: Vec<_> = layers.into_iter().map(Tar::end).collect();
        let unpacking = Unpacking::of(&layers).expect();
        assert_eq!(unpacking.tree(), expected, "{name}");
    }
}

#[test]
fn hard_links_share_a_file_and_to_a_symlink_are_that_symlink() {
    let first = Tar::default().file("a", "1").hard_link("b", "a").symlink("s", "/file-of-a-test").hard_link("t", "./s");
    let second = Tar::default().hard_link("d/c", "/a").hard_link("a", "a").hard_link("b", "s");
    let unpacking = Unpacking::of(&[first.end(), second.end()]).expect();
    assert_eq!(
        unpacking.tree(),
        ["a=1", "b->/file-of-a-test", "d/", "d/c=1", "s->/file-of-a-test", "t->/file-of-a-test"]
    );
    assert_eq!(unpacking.metadata("a").ino(), unpacking.metadata("d/c").ino());
    assert_eq!(unpacking.metadata("s").ino(), unpacking.metadata("b").ino());
}

#[test]
fn modes_owners_and_times_are_those_of_the_layer() {
    let owner = (1234, 4_000_000_000);
    let layer = Tar::default()
        .item(&Item { mode: 0o1777, mtime: 5, ..item(b'5', b"./") })
        .item(&Item { mode: 0o2750, owner, mtime: 6, ..item(b'5', b"dir") })
        .item(&Item { mode: 0o4755, owner, mtime: 7, data: b"x", ..item(b'0', b"dir/setuid") })
        .item(&Item { owner, mtime: 8, target: b"nowhere", ..item(b'2', b"dir/link") })
        .item(&Item { mode: 0o622, owner, mtime: 9, ..item(b'6', b"dir/fifo") })
        .item(&Item { mode: 0o666, owner, mtime: 10, device: (1, 3), ..item(b'3', b"dir/null") })
        .pax(&[("mtime", b"11.25"), ("uid", b"77"), ("gid", b"78")])
        .item(&item(b'0', b"pax"));
    let unpacking = Unpacking::of(&[layer.end()]).expect();
    let seen = |path| {
        let metadata = unpacking.metadata(path);
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.mtime())
    };
    assert_eq!(seen(""), (0o1777, 0, 0, 5));
    assert_eq!(seen("dir"), (0o2750, 1234, 4_000_000_000, 6));
    assert_eq!(seen("dir/setuid"), (0o4755, 1234, 4_000_000_000, 7));
    assert_eq!(seen("dir/link"), (0o777, 1234, 4_000_000_000, 8));
    assert_eq!(seen("dir/fifo"), (0o622, 1234, 4_000_000_000, 9));
    assert_eq!(seen("pax"), (0o644, 77, 78, 11));
    assert_eq!(unpacking.metadata("pax").mtime_nsec(), 250_000_000);
    assert!(unpacking.metadata("dir/fifo").file_type().is_fifo());
    // Where devices may not be made, they are counted instead.
    match fs::symlink_metadata(unpacking.path("dir/null")) {
        Ok(device) => {
            assert_eq!(seen("dir/null"), (0o666, 1234, 4_000_000_000, 10));
            assert_eq!(device.rdev(), rustix::fs::makedev(1, 3));
        }
        Err(_) => {
            let stats = unpacking.result.as_ref().expect("it was unpacked");
            assert_eq!(stats[0].skipped.devices, Omitted { count: 1, names: vec!["dir/null".to_owned()] });
        }
    }
}

#[test]
fn the_time_of_a_directory_outlives_what_later_layers_put_into_it() {
    let first = Tar::default().item(&Item { mtime: 5, ..item(b'5', b"d") }).file("d/a", "1");
    let second = Tar::default().file("d/b", "2").file("d/.wh.a", "");
    let unpacking = Unpacking::of(&[first.end(), second.end()]).expect();
    assert_eq!(unpacking.metadata("d").mtime(), 5);
}

#[test]
fn a_capability_stays_whatever_its_bytes_are() {
    // Version 2, effective; dac_override and fowner are the bits of a line end.
    let capability = [1, 0, 0, 2, b'\n', 0, 0, 0, b'\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Tar::default().pax(&[("SCHILY.xattr.security.capability", &capability)]).item(&Item {
        owner: (7, 7),
        mode: 0o4755,
        ..item(b'0', b"ping")
    });
    let unpacking = Unpacking::of(&[layer.end()]).expect();
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(unpacking.path("ping"), c"security.capability", &mut value).expect("it has one");
    assert_eq!(value[..length], capability);
    assert_eq!(unpacking.metadata("ping").mode() & 0o7777, 0o4755);
}

#[test]
fn long_and_odd_names_are_kept() {
    let long = format!("{}/{}", "p".repeat(120), "n".repeat(200));
    let layer = Tar::default()
        .file(&long, "gnu")
        .symlink("to-long", &long)
        .item(&Item { data: b"raw", ..item(b'0', b"\xff\xfe") })
        .pax(&[("path", b"first"), ("path", b"two\nlines"), ("size", b"3")])
        .item(&Item { data: b"pax", ..item(b'0', b"short") });
    let unpacking = Unpacking::of(&[layer.end()]).expect();
    let directory = format!("{}/", "p".repeat(120));
    let file = format!("{long}=gnu");
    let link = format!("to-long->{long}");
    assert_eq!(unpacking.tree(), ["\\xff\\xfe=raw", &directory, &file, &link, "two\\nlines=pax"]);
}

#[test]
fn compression_is_told_by_the_bytes() {
    let tar = Tar::default().file("a", "1").end();
    let (head, tail) = tar.split_at(700);
    let zstd = zstd::encode_all(tar.as_slice(), 3).expect("memory takes it");
    let parts = [zstd::encode_all(head, 1), zstd::encode_all(tail, 1)].map(|part| part.expect("memory takes it"));
    let cases = [
        ("plain", tar.clone()),
        ("gzip", gzip(&tar)),
        ("gzip of two members", [gzip(head), gzip(tail)].concat()),
        ("zstd", zstd),
        ("zstd of two frames", parts.concat()),
    ];
    for (name, layer) in cases {
        let unpacking = Unpacking::of(&[layer]).expect();
        assert_eq!(unpacking.tree(), ["a=1"], "{name}");
        let stats = &unpacking.result.as_ref().expect("it was unpacked")[0];
        assert_eq!((stats.files, stats.bytes), (1, tar.len() as u64), "{name}");
    }
}

#[test]
fn an_empty_layer_brings_nothing() {
    for layer in [vec![], Tar::default().end(), gzip(&Tar::default().end())] {
        assert!(Unpacking::of(&[layer]).expect().tree().is_empty());
    }
}

#[test]
fn a_damaged_layer_is_refused() {
    let tar = Tar::default().file("a", &"data".repeat(1000)).end();
    let zipped = gzip(&tar);
    let mut flipped = zipped.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    let cases = [
        ("cut in the data", tar[..1000].to_vec()),
        ("cut in a header", tar[..300].to_vec()),
        ("cut gzip", zipped[..zipped.len() - 4].to_vec()),
        ("wrong gzip checksum", flipped),
        ("no archive", vec![b'x'; 2048]),
        ("an extension without an entry", Tar::default().pax(&[("path", b"a")]).end()),
    ];
    for (name, layer) in cases {
        let result = Unpacking::of(&[layer]).result;
        assert!(matches!(result, Err(LayerError::Read { .. })), "{name}: {result:?}");
    }
}
