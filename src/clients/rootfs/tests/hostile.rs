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

/// A hostile layer is made of few names, so that entries meet.
fn hostile_entry() -> impl Strategy<Value = (u8, String, String)> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "s",
        "canary",
        "..",
        ".",
        "",
        "rootfs",
        ".wh.a",
        ".wh.s",
        ".wh..wh..opq",
        "proc",
        "self",
    ]);
    let path = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    let target = prop::sample::select(vec![
        "/",
        "..",
        "../..",
        "../canary",
        "../../canary",
        "/../canary",
        "a",
        "b",
        "s",
        "a/..",
        "s/..",
        "/proc/self/cwd",
        "/proc/self/root",
        "../canary/file",
        "/a/b",
        "s/s",
        ".",
        "CANARY",
        "CANARY/file",
    ])
    .prop_map(str::to_owned);
    (prop::sample::select(b"0001223555".to_vec()), path, target)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_reaches_outside_the_root(entries in prop::collection::vec(hostile_entry(), 1..20)) {
        let outside = tempfile::tempdir().expect("a temporary directory");
        let (root, canary) = (outside.path().join("rootfs"), outside.path().join("canary"));
        fs::create_dir(&root).expect("make the root");
        fs::create_dir(&canary).expect("make the canary");
        fs::write(canary.join("file"), "sings").expect("make the canary");
        let states = || [state(outside.path()), state(&canary), state(&canary.join("file"))];
        let before = states();
        let mut rootfs = Rootfs::open(&root).expect("it is there");
        for (kind, path, target) in &entries {
            let target = target.replace("CANARY", &canary.display().to_string());
            let data: &[u8] = if *kind == b'0' { b"evil" } else { b"" };
            let entry = Item { target: target.as_bytes(), data, mode: 0o777, owner: (6, 6), ..item(*kind, path.as_bytes()) };
            // A layer for each: what is refused must not end the attack.
            let _ = rootfs.apply(Tar::default().item(&entry).end().as_slice());
        }
        let _ = rootfs.set_directory_times();
        prop_assert_eq!(before, states());
        rootfs.clear().expect("it can be emptied");
        prop_assert_eq!(before, states());
        prop_assert_eq!(list(outside.path()), ["canary/", "canary/file=sings", "rootfs/"]);
    }
}

/// What a write from inside the root would change.
fn state(path: &Path) -> (u32, u32, i64, i64, u64) {
    let metadata = fs::symlink_metadata(path).expect("it is there");
    (metadata.mode(), metadata.uid(), metadata.ctime(), metadata.ctime_nsec(), metadata.nlink())
}
