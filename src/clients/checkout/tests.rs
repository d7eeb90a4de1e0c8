use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::clients::git::tests::{Sandbox, path, run};
use crate::decide::inputs::Mode;
use crate::names::{GitPath, ObjectId};

fn open(sandbox: &Sandbox) -> Result<Checkout, CheckoutError> {
    Checkout::open(&sandbox.path("repo"))
}

#[track_caller]
fn differences(sandbox: &Sandbox, more: &[&str]) -> Differences {
    let (git, checkout) = sandbox.borrowed();
    let tree = run(git.tree(checkout.head())).expect("the tree is read");
    let counted: BTreeSet<GitPath> = tree.keys().cloned().chain(more.iter().map(|text| path(text))).collect();
    run(checkout.compare(&git, &tree, &counted)).expect("the files are compared")
}

#[test]
fn head_is_read_from_a_loose_ref_a_packed_ref_or_a_bare_id() {
    let sandbox = Sandbox::new();
    let commit = sandbox.commit("one");
    let head = || open(&sandbox).map(|it| (it.head(), it.branch().map(ToString::to_string))).expect("HEAD is read");
    assert_eq!(head(), (commit, Some("master".to_owned())));
    sandbox.git(&["pack-refs", "--all"]);
    assert_eq!(head(), (commit, Some("master".to_owned())));
    sandbox.git(&["checkout", "--quiet", "--detach"]);
    assert_eq!(head(), (commit, None));
}

#[test]
fn what_is_no_usable_checkout_is_refused() {
    let sandbox = Sandbox::new();
    let error = |name: &str| Checkout::open(&sandbox.path(name)).expect_err("it is refused").to_string();
    assert_eq!(error("repo"), format!("the checkout {} has no commit", sandbox.path("repo").display()));
    std::fs::create_dir(sandbox.path("empty")).expect("a directory is made");
    assert_eq!(error("empty"), format!("{} is no git checkout: it has no .git", sandbox.path("empty").display()));
    sandbox.commit("one");
    sandbox.write(".git/HEAD", "a".repeat(64));
    assert_eq!(error("repo"), format!("the checkout {} uses SHA-256 for its objects", sandbox.path("repo").display()));
    sandbox.write(".git/HEAD", "ref: refs/../../x");
    assert_eq!(error("repo"), format!("{} is not what git has there", sandbox.file(".git/HEAD").display()));
}

#[test]
fn a_git_directory_that_leads_out_of_the_artifact_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.commit("one");
    symlink("/etc/passwd", sandbox.file(".git/objects/pack/x.idx")).expect("a link is made");
    assert!(matches!(open(&sandbox), Err(CheckoutError::Escapes { .. })));
    std::fs::remove_file(sandbox.file(".git/objects/pack/x.idx")).expect("the link goes");
    sandbox.write(".git/objects/info/alternates", "/elsewhere\n");
    assert!(matches!(open(&sandbox), Err(CheckoutError::Alternates { .. })));
    std::fs::rename(sandbox.file(".git"), sandbox.path("moved")).expect("it is moved");
    symlink("../moved", sandbox.file(".git")).expect("a link is made");
    assert!(matches!(open(&sandbox), Err(CheckoutError::Escapes { .. })));
    std::fs::remove_file(sandbox.file(".git")).expect("the link goes");
    sandbox.write(".git", "gitdir: ../moved\n");
    assert!(matches!(open(&sandbox), Err(CheckoutError::Escapes { .. })));
}

#[test]
fn a_git_directory_elsewhere_in_the_artifact_is_found() {
    let sandbox = Sandbox::new();
    let commit = sandbox.commit("one");
    std::fs::rename(sandbox.file(".git"), sandbox.file("hidden")).expect("it is moved");
    sandbox.write(".git", "gitdir: hidden\n");
    assert_eq!(open(&sandbox).map(|checkout| checkout.head()).expect("it is a checkout"), commit);
}

#[test]
fn the_list_has_files_links_and_nested_repositories_and_no_git_directories() {
    let sandbox = Sandbox::new();
    sandbox.write("d/a", "abc");
    sandbox.commit("one");
    symlink("/nowhere", sandbox.file("link")).expect("a link is made");
    std::fs::create_dir(sandbox.file("void")).expect("a directory is made");
    sandbox.git_at(&sandbox.path("repo"), &["clone", "--quiet", ".", "nested"]);
    sandbox.write("odd/.git/x", "");
    sandbox.write("odd/y", "");
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.file("socket")).expect("a socket is made");
    let checkout = open(&sandbox).expect("it is a checkout");
    let list = checkout.list().expect("the files are listed");
    let modes: Vec<_> = list.iter().map(|(path, found)| (path.to_string(), found.mode)).collect();
    let expected = [
        ("d/a", Some(Mode::File)),
        ("link", Some(Mode::Symlink)),
        ("nested", Some(Mode::Submodule)),
        ("odd/y", Some(Mode::File)),
        ("socket", None),
    ];
    assert_eq!(modes, expected.map(|(path, mode)| (path.to_owned(), mode)));
    assert_eq!(list[&path("nested")].commit, Some(checkout.head()));
    assert_eq!(list[&path("d/a")].size_bytes, 3);
}

#[test]
fn a_file_is_read_unless_it_leads_out_or_is_too_large() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "abc");
    sandbox.commit("one");
    symlink("a", sandbox.file("inside")).expect("a link is made");
    symlink("/etc/passwd", sandbox.file("outside")).expect("a link is made");
    let checkout = open(&sandbox).expect("it is a checkout");
    assert_eq!(checkout.read(&path("inside"), 3).expect("it is read"), Some(b"abc".to_vec()));
    assert_eq!(checkout.read(&path("none"), 3).expect("it is not there"), None);
    assert!(matches!(checkout.read(&path("a"), 2), Err(CheckoutError::TooLarge { .. })));
    assert!(matches!(checkout.read(&path("outside"), 9999), Err(CheckoutError::Escapes { .. })));
}

#[test]
fn hashes_are_those_of_git() {
    let sandbox = Sandbox::new();
    sandbox.write("d/a", "abc\n");
    sandbox.write("large", vec![7; 200_000]);
    symlink("d/a", sandbox.file("link")).expect("a link is made");
    symlink("d", sandbox.file("through")).expect("a link is made");
    sandbox.commit("one");
    let (git, checkout) = sandbox.borrowed();
    let tree = run(git.tree(checkout.head())).expect("the tree is read");
    let wanted: Vec<GitPath> = tree.keys().cloned().chain([path("none"), path("through/a")]).collect();
    let hashes = run(checkout.hash(wanted)).expect("the files are hashed");
    let expected: BTreeMap<GitPath, ObjectId> = tree.into_iter().map(|(path, entry)| (path, entry.id)).collect();
    assert_eq!(hashes, expected);
}

#[test]
fn a_file_whose_directory_became_a_symlink_or_a_file_is_missing() {
    let sandbox = Sandbox::new();
    sandbox.write("d/a", "x");
    sandbox.write("e/a", "x");
    sandbox.write("f/a", "x");
    sandbox.commit("one");
    for directory in ["d", "f"] {
        std::fs::remove_dir_all(sandbox.file(directory)).expect("it goes");
    }
    symlink("e", sandbox.file("d")).expect("a link is made");
    sandbox.write("f", "");
    let expected = Differences { missing: ["d/a", "f/a"].map(path).to_vec(), ..Differences::default() };
    assert_eq!(differences(&sandbox, &[]), expected);
    let checkout = open(&sandbox).expect("it is a checkout");
    assert_eq!(checkout.read(&path("f/a"), 9).expect("it is not there"), None);
}

#[test]
fn differences_are_told_apart() {
    let sandbox = Sandbox::new();
    for name in ["same", "changed", "mode", "gone", "kind"] {
        sandbox.write(name, name);
    }
    sandbox.write(".gitignore", "out/\n");
    sandbox.commit("one");
    sandbox.write("changed", "other");
    sandbox.write("out/built", "x");
    std::fs::set_permissions(sandbox.file("mode"), std::fs::Permissions::from_mode(0o755)).expect("the mode is set");
    std::fs::remove_file(sandbox.file("gone")).expect("it goes");
    std::fs::remove_file(sandbox.file("kind")).expect("it goes");
    symlink("same", sandbox.file("kind")).expect("a link is made");
    let expected = Differences {
        modified: ["changed", "kind", "mode"].map(path).to_vec(),
        missing: vec![path("gone")],
        untracked: vec![path("out/built")],
        pointers: Vec::new(),
    };
    assert_eq!(differences(&sandbox, &["out/built", "nowhere"]), expected);
}

#[test]
fn line_ends_count_only_where_the_attributes_keep_them() {
    let sandbox = Sandbox::new();
    sandbox.write(".gitattributes", "*.txt text\n*.bat eol=crlf\n*.auto text=auto\n*.bin -text\n*.id ident\n");
    for name in ["a.txt", "a.bat", "a.auto", "a.bin", "a.none"] {
        sandbox.write(name, "1\n2\n");
    }
    sandbox.write("nul.auto", "1\0\n");
    sandbox.write("a.id", "$Id$\n");
    sandbox.commit("one");
    for name in ["a.txt", "a.bat", "a.auto", "a.bin", "a.none"] {
        sandbox.write(name, "1\r\n2\r\n");
    }
    sandbox.write("nul.auto", "1\0\r\n");
    sandbox.write("a.id", "$Id: 0123 $\n");
    let expected = ["a.bin", "a.none", "nul.auto"].map(path).to_vec();
    assert_eq!(differences(&sandbox, &[]), Differences { modified: expected, ..Differences::default() });
}

#[test]
fn content_of_lfs_is_the_same_as_its_pointer_and_a_pointer_in_its_place_is_told() {
    let pointer = |content: &[u8]| {
        use sha2::Digest as _;
        let oid = hex::encode(sha2::Sha256::digest(content));
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {}\n", content.len())
    };
    let sandbox = Sandbox::new();
    sandbox.write(".gitattributes", "*.lfs filter=lfs diff=lfs merge=lfs -text\n");
    sandbox.write("brought.lfs", pointer(b"content"));
    sandbox.write("other.lfs", pointer(b"content"));
    sandbox.write("left.lfs", pointer(b"left"));
    sandbox.write("no-attribute", pointer(b"left"));
    sandbox.write("raw.lfs", vec![b'x'; 8 * 1024 * 1024 + 1]);
    sandbox.commit("one");
    sandbox.write("raw.lfs", "smaller");
    sandbox.write("brought.lfs", "content");
    sandbox.write("other.lfs", "CONTENT");
    let expected = Differences {
        modified: ["other.lfs", "raw.lfs"].map(path).to_vec(),
        pointers: vec![path("left.lfs")],
        ..Differences::default()
    };
    assert_eq!(differences(&sandbox, &[]), expected);
}

#[test]
fn a_submodule_that_was_not_brought_is_no_difference_and_one_at_another_commit_is() {
    let sandbox = Sandbox::new();
    sandbox.commit("one");
    sandbox.git(&["clone", "--quiet", ".", "sub"]);
    sandbox.git(&["add", "sub"]);
    sandbox.git(&["commit", "--quiet", "--message", "with a submodule"]);
    assert_eq!(differences(&sandbox, &[]), Differences::default());
    sandbox.git_at(&sandbox.file("sub"), &["commit", "--quiet", "--allow-empty", "--message", "more"]);
    assert_eq!(differences(&sandbox, &[]).modified, [path("sub")]);
    std::fs::remove_dir_all(sandbox.file("sub")).expect("it goes");
    std::fs::create_dir(sandbox.file("sub")).expect("a directory is made");
    assert_eq!(differences(&sandbox, &[]), Differences::default());
}
