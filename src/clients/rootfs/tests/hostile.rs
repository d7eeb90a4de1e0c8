//! Layers that want to reach outside, or to exhaust what unpacks them.

use proptest::prelude::*;

use super::*;

#[test]
fn what_no_honest_tool_writes_is_refused() {
    let cases = [
        (Tar::default().file("../a", ""), r#"entry "../a" is refused: its path has a `..`"#),
        (Tar::default().file("a/../../b", ""), r#"entry "a/../../b" is refused: its path has a `..`"#),
        (Tar::default().file("a/.wh...", ""), r#"entry "a/.wh..." is refused: it is a whiteout of no name"#),
        (Tar::default().file(".wh.", ""), r#"entry ".wh." is refused: it is a whiteout of no name"#),
        (
            Tar::default().hard_link("a", "../canary/file"),
            r#"entry "a" is refused: it is a hard link to a path with `..` or NUL"#,
        ),
        (Tar::default().hard_link("a", "/"), r#"entry "a" is refused: it is a hard link to the root"#),
        (
            Tar::default().symlink("/", "/etc"),
            r#"entry "/" is refused: it would replace the root by something that is no directory"#,
        ),
    ];
    for (layer, message) in cases {
        let unpacking = Unpacking::of(&[layer.end()]);
        assert_eq!(unpacking.result.expect_err("it is hostile").to_string(), message);
        assert_eq!(list(unpacking.outside.path()), ["canary/", "canary/file=sings", "rootfs/"]);
    }
}

#[test]
fn a_hundred_nested_symlinks_and_a_loop_end_in_an_error() {
    let looped = Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", "");
    let endless = Tar::default().symlink("a", "a/a").file("a/x", "");
    for layer in [looped, endless] {
        assert!(matches!(Unpacking::of(&[layer.end()]).result, Err(LayerError::Write { .. })));
    }
}

#[test]
fn a_tree_deeper_than_any_path_is_removed() {
    let mut layer = Tar::default();
    let step = "d/".repeat(1000);
    layer = layer.file(&format!("{step}x"), "").symlink("s1", &step);
    for number in 1..4 {
        layer = layer.file(&format!("s{number}/{step}x"), "");
        layer = layer.symlink(&format!("s{}", number + 1), &format!("s{number}/{step}"));
    }
    let whiteouts = Tar::default().file(".wh.d", "");
    let unpacking = Unpacking::of(&[layer.end(), whiteouts.end()]).expect();
    assert!(!unpacking.path("d").exists());
}

/// What random entries are made of: few names, so that they meet.
const PARTS: [&str; 12] =
    ["a", "b", "s", "canary", "..", ".", "", "rootfs", ".wh.a", ".wh.s", ".wh..wh..opq", ".wh.canary"];

/// Where random links point to. `CANARY` is the absolute path of the canary.
const TARGETS: [&str; 17] = [
    "..",
    "../..",
    "../canary",
    "../../canary",
    "/../canary",
    "../canary/file",
    "a",
    "b",
    "a/..",
    "s/..",
    "s/s",
    ".",
    "CANARY",
    "CANARY/file",
    // Links that the kernel makes up, which lead out of any root when they are followed.
    "/proc/self/rootCANARY",
    "/proc/self/cwd",
    "/proc/thread-self/rootCANARY/file",
];

type HostileEntry = (u8, String, &'static str);

/// Files, hard links, symlinks, devices (the null device), directories and fifos.
fn hostile_entry() -> impl Strategy<Value = HostileEntry> {
    let path = prop::collection::vec(prop::sample::select(&PARTS), 1..4).prop_map(|parts| parts.join("/"));
    (prop::sample::select(b"000112223455556".as_slice()), path, prop::sample::select(&TARGETS))
}

/// Layers of one entry and of several: what is refused ends its layer, and must not end the attack.
fn hostile_layers() -> impl Strategy<Value = Vec<Vec<HostileEntry>>> {
    let layer = prop_oneof![
        3 => prop::collection::vec(hostile_entry(), 1),
        1 => prop::collection::vec(hostile_entry(), 2..8),
    ];
    prop::collection::vec(layer, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_reaches_outside_the_root(layers in hostile_layers()) {
        let outside = tempfile::tempdir().expect("a temporary directory");
        // Deep, so that an entry that climbs out meets only what is ours.
        let arena = outside.path().join("1/2/3/4/5/6/7/8");
        fs::create_dir_all(&arena).expect("make the arena");
        let (root, canary) = (arena.join("rootfs"), arena.join("canary"));
        fs::create_dir(&root).expect("make the root");
        fs::create_dir(&canary).expect("make the canary");
        fs::write(canary.join("file"), "sings").expect("make the canary");
        let file = canary.join("file");
        let states = || -> Vec<_> { file.ancestors().take(10).map(state).collect() };
        let before = states();
        let mut rootfs = Rootfs::open(&root).expect("it is there");
        for entries in &layers {
            let mut layer = Tar::default();
            for (kind, path, target) in entries {
                let target = target.replace("CANARY", &canary.display().to_string());
                let data: &[u8] = if *kind == b'0' { b"evil" } else { b"" };
                layer = layer.item(&Item {
                    target: target.as_bytes(), data, mode: 0o777, owner: (6, 6), device: (1, 3), ..item(*kind, path.as_bytes())
                });
            }
            let _ = rootfs.apply(blocks(layer.end()));
        }
        let _ = rootfs.set_directory_times();
        prop_assert_eq!(&before, &states());
        rootfs.clear().expect("it can be emptied");
        prop_assert_eq!(&before, &states());
        prop_assert_eq!(list(&arena), ["canary/", "canary/file=sings", "rootfs/"]);
    }
}

/// What a write from inside the root would change.
fn state(path: &Path) -> (u32, u32, i64, i64, u64) {
    let metadata = fs::symlink_metadata(path).expect("it is there");
    (metadata.mode(), metadata.uid(), metadata.ctime(), metadata.ctime_nsec(), metadata.nlink())
}
