//! GNU tar as the judge: it unpacks the same archive, or makes one that we must read.

use std::process::Command;

use super::*;

#[track_caller]
fn tar(arguments: &[&str], archive: &Path, directory: &Path) {
    #[expect(clippy::disallowed_methods, reason = "a test waits for the program, and need not stop it")]
    let mut command = Command::new("tar");
    command.args(arguments).arg("-f").arg(archive).arg("-C").arg(directory);
    if arguments.contains(&"-c") {
        command.arg(".");
    }
    let output = command.output().expect("tar is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Everything that can be seen of a tree, a line for each path.
fn seen(top: &Path) -> Vec<String> {
    let mut inodes = Vec::new();
    let mut lines = Vec::new();
    let mut paths = vec![top.to_owned()];
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        let content = if metadata.is_symlink() {
            fs::read_link(&path).expect("it is a symlink").into_os_string().into_encoded_bytes()
        } else if metadata.is_file() {
            fs::read(&path).expect("it is a file")
        } else {
            Vec::new()
        };
        if metadata.is_dir() {
            let mut inside: Vec<_> =
                fs::read_dir(&path).expect("it is there").map(|e| e.expect("it is there").path()).collect();
            inside.sort();
            paths.extend(inside);
        }
        // Hard links show as the number of the path that had the file first.
        let first = inodes.iter().position(|&inode| inode == metadata.ino()).unwrap_or(inodes.len());
        inodes.push(metadata.ino());
        lines.push(format!(
            "{:?} {:o} {}:{} {}.{} {:x} #{first} {} {}",
            path.strip_prefix(top).expect("it is below"),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.rdev(),
            content.len(),
            Digest::of(&content),
        ));
    }
    lines
}

#[test]
fn an_archive_is_unpacked_as_gnu_tar_unpacks_it() {
    let owner = (1001, 1002);
    let layer = Tar::default()
        .item(&Item { mode: 0o700, mtime: 1, ..item(b'5', b"./") })
        .item(&Item { mode: 0o3711, mtime: 2, owner, ..item(b'5', b"./etc/") })
        .item(&Item { mode: 0o6755, owner, data: &[7; 70_000], ..item(b'0', b"./etc/file") })
        .item(&Item { mode: 0, owner, data: b"old", ..item(0, b"./etc/regular") })
        .item(&Item { mtime: 3, target: b"../etc/file", owner, ..item(b'2', b"./etc/link") })
        .item(&Item { target: b"./etc/file", mode: 0o6755, owner, ..item(b'1', b"./hard") })
        .item(&Item { mode: 0o640, owner, ..item(b'6', b"./fifo") })
        .pax(&[
            ("path", "./\u{e9}\u{20ac}".as_bytes()),
            ("mtime", b"-1.75"),
            ("uid", b"3000000"),
            ("SCHILY.xattr.user.a", b"b"),
        ])
        .item(&Item { data: b"pax", ..item(b'0', b"x") })
        .end();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = directory.path().join("layer.tar");
    fs::write(&archive, &layer).expect("make the archive");
    let theirs = directory.path().join("theirs");
    fs::create_dir(&theirs).expect("make a directory");
    tar(&["-x", "-p", "--numeric-owner", "--same-owner"], &archive, &theirs);
    let unpacking = Unpacking::of(&[layer]).expect();
    assert_eq!(seen(&unpacking.path("")), seen(&theirs));
}

#[test]
fn sparse_files_are_read_in_every_format_that_gnu_tar_writes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join("source");
    fs::create_dir(&source).expect("make a directory");
    let make = |name: &str, pieces: &[(u64, &[u8])], size: u64| {
        let file = fs::File::create(source.join(name)).expect("make a file");
        for (offset, data) in pieces {
            std::os::unix::fs::FileExt::write_all_at(&file, data, *offset).expect("write a file");
        }
        file.set_len(size).expect("write a file");
    };
    make("holes at both ends", &[(1 << 20, b"data"), (3 << 20, &[5; 9000])], 8 << 20);
    make("nothing but a hole", &[], 1 << 20);
    let many: Vec<(u64, &[u8])> = (0..60).map(|number| (number << 16, b"x".as_slice())).collect();
    make("more pieces than a header takes", &many, 60 << 16);
    make("dense", &[(0, &[1; 5000])], 5000);
    let formats: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for format in formats {
        let archive = directory.path().join("layer.tar");
        tar(&[format, &["-c", "--sparse", "--numeric-owner"]].concat(), &archive, &source);
        let layer = fs::read(&archive).expect("it was made");
        assert!(layer.len() < 1 << 20, "{format:?}: tar found no holes");
        let unpacking = Unpacking::of(&[layer]).expect();
        let without_times = |lines: Vec<String>| -> Vec<String> {
            // The formats differ in how much of a second they keep.
            lines
                .iter()
                .map(|line| line.split(' ').filter(|word| !word.contains('.')).collect::<Vec<_>>().join(" "))
                .collect()
        };
        assert_eq!(without_times(seen(&unpacking.path(""))), without_times(seen(&source)), "{format:?}");
    }
}
