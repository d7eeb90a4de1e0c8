use proptest::prelude::*;

use super::*;
use crate::names::{Digest, InputsId};

/// A tree with its contents.
pub(in crate::decide) type Files = BTreeMap<GitPath, (Mode, Vec<u8>)>;

pub(in crate::decide) fn recipe() -> Recipe {
    let repository = crate::names::GitUrl::parse("https://git.example/acme/app.git").expect("an address").0;
    Recipe {
        context: GitPath::new(""),
        dockerfile: GitPath::new("Dockerfile"),
        paths: None,
        ignore_paths: Vec::new(),
        details: None,
        target: None,
        args: BTreeMap::new(),
        args_file: None,
        labels: BTreeMap::new(),
        labels_file: None,
        epoch: None,
        platforms: BTreeSet::from([Recipe::PLATFORM.to_owned()]),
        secrets: BTreeSet::new(),
        contexts: BTreeMap::new(),
        words: Words::default(),
        follow: Follow::Git,
        repository: repository.repository().clone(),
        tag_prefix: String::new(),
    }
}

pub(in crate::decide) fn files(entries: &[(&str, Mode, &str)]) -> Files {
    entries.iter().map(|(path, mode, text)| (GitPath::new(*path), (*mode, text.as_bytes().to_vec()))).collect()
}

pub(in crate::decide) fn tree(files: &Files) -> Tree {
    let id = |text: &[u8]| {
        let digest = Digest::of(text).hex();
        digest[..40].parse().expect("40 digits")
    };
    files.iter().map(|(path, (mode, text))| (path.clone(), Entry { mode: *mode, id: id(text) })).collect()
}

/// Selects, and reads what is asked for.
pub(in crate::decide) fn select_all(recipe: &Recipe, files: &Files) -> Result<Selection, InputsError> {
    let mut texts = BTreeMap::new();
    for _ in 0..5 {
        match select(recipe, &modes(&tree(files)), &texts)? {
            Asked::Known(selection) => return Ok(selection),
            Asked::Need(missing) => {
                assert!(!missing.is_empty(), "something is missing");
                for path in missing {
                    let text = files[&path].1.clone();
                    assert!(texts.insert(path, text).is_none(), "nothing is asked for twice");
                }
            }
        }
    }
    panic!("it is never satisfied");
}

fn counted(recipe: &Recipe, files: &Files) -> String {
    let selection = select_all(recipe, files).expect("an image");
    selection.files.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

use Mode::{Executable, File, Submodule, Symlink};

#[test]
fn what_the_dockerfile_reads_counts() {
    let copy = |sources: &str| format!("FROM a\nCOPY {sources} /\n");
    for (name, sources, entries, expected) in [
        ("a file", "x", vec![("x", File, ""), ("y", File, "")], "Dockerfile x"),
        ("a directory", "d", vec![("d/e/f", File, ""), ("dd", File, "")], "Dockerfile d/e/f"),
        ("a wildcard", "*.c", vec![("x.c", File, ""), ("d/y.c", File, "")], "Dockerfile x.c"),
        ("all", ".", vec![("x", File, ""), (".git/config", File, "")], "Dockerfile x"),
        (
            "ignored",
            ".",
            vec![("x", File, ""), ("y", File, ""), (".dockerignore", File, "x")],
            ".dockerignore Dockerfile y",
        ),
        (
            "the Dockerfile's own ignore file wins",
            ".",
            vec![
                ("x", File, ""),
                ("y", File, ""),
                (".dockerignore", File, "x"),
                ("Dockerfile.dockerignore", File, "y\n.*"),
            ],
            "Dockerfile Dockerfile.dockerignore x",
        ),
        (
            "both are excluded and count all the same",
            "d",
            vec![("d/x", File, ""), (".dockerignore", File, "*\n!d")],
            ".dockerignore Dockerfile d/x",
        ),
        ("a symlink", "x", vec![("x", Symlink, "z"), ("z", File, "")], "Dockerfile x z"),
        ("through a symlink", "l/x", vec![("l", Symlink, "d"), ("d/x", File, "")], "Dockerfile d/x l"),
        (
            "a symlink below a source is copied as it is",
            "d",
            vec![("d/l", Symlink, "../z"), ("z", File, "")],
            "Dockerfile d/l",
        ),
        ("a submodule", "s/x", vec![("s", Submodule, "1"), ("z", File, "")], "Dockerfile s"),
        (
            "a submodule that is kept in part",
            ".",
            vec![("s", Submodule, "1"), ("t", Submodule, "2"), (".dockerignore", File, "*\n!s/x")],
            ".dockerignore Dockerfile s",
        ),
        (
            "attributes",
            "d/e",
            vec![
                ("d/e/x", File, ""),
                (".gitattributes", File, ""),
                ("d/.gitattributes", File, ""),
                ("d/f/.gitattributes", File, ""),
            ],
            ".gitattributes Dockerfile d/.gitattributes d/e/x",
        ),
    ] {
        let mut files = files(&entries);
        files.insert(GitPath::new("Dockerfile"), (File, copy(sources).into_bytes()));
        assert_eq!(counted(&recipe(), &files), expected, "{name}");
    }
}

#[test]
fn paths_say_exactly_what_counts() {
    let files = files(&[
        ("ci/Dockerfile", File, "FROM a\nCOPY . /"),
        ("ci/.dockerignore", File, "*"),
        ("ci/a/x", File, ""),
        ("ci/b/x.md", File, ""),
        ("image.details", File, "NAME=n\nVERSION=1\nl=v"),
        ("README.md", File, ""),
        ("lib", Submodule, "1"),
    ]);
    let words = Recipe {
        context: GitPath::new("ci"),
        dockerfile: GitPath::new("ci/Dockerfile"),
        details: Some(GitPath::new("image.details")),
        ..recipe()
    };
    let always = "ci/.dockerignore ci/Dockerfile";
    let with = |paths: &[&str], ignore_paths: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let paths = (!paths.is_empty()).then(|| owned(paths));
        counted(&Recipe { paths, ignore_paths: owned(ignore_paths), ..words.clone() }, &files)
    };
    assert_eq!(with(&["*.md"], &[]), format!("README.md {always} ci/b/x.md image.details"));
    assert_eq!(with(&["lib/src"], &[]), format!("{always} image.details lib"));
    assert_eq!(with(&["ci", "README.md"], &["*.md"]), format!("{always} ci/a/x image.details"));
    assert_eq!(with(&[], &[]), format!("{always} image.details"));
    let details = select_all(&words, &files).expect("an image").details;
    assert_eq!(details.name.as_deref(), Some("n"));
    assert_eq!(details.labels["l"], "v");
}

#[test]
fn the_whole_of_a_directory_that_is_a_named_context_counts() {
    let entries = [
        ("ci/Dockerfile", File, "FROM a\nCOPY x /\nCOPY --from=lib . /lib\n"),
        ("ci/x", File, ""),
        ("lib/common/y", File, ""),
        ("lib/common/.dockerignore", File, "y"),
        ("lib/other", File, ""),
        (".dockerignore", File, "lib"),
    ];
    let words = |directory: &str, paths: Option<Vec<String>>| Recipe {
        context: GitPath::new("ci"),
        dockerfile: GitPath::new("ci/Dockerfile"),
        contexts: BTreeMap::from([("lib".to_owned(), NamedContext::Directory(GitPath::new(directory)))]),
        paths,
        ..recipe()
    };
    let expected = "ci/Dockerfile ci/x lib/common/.dockerignore lib/common/y";
    assert_eq!(counted(&words("lib/common", None), &files(&entries)), expected);
    assert_eq!(counted(&words("lib/common", Some(vec!["ci/x".to_owned()])), &files(&entries)), expected);
    let error = select_all(&words("lib/other/x", None), &files(&entries)).expect_err("a file stands there");
    assert_eq!(
        format!("{error}\n{}", error.hint().unwrap_or_default()),
        "the context lib/other/x is no directory: lib/other is a file\nname a directory of this repository in \
         `source.build.contexts.lib`, without symlinks or submodules"
    );
}

#[test]
fn args_and_labels_of_files_are_those_of_the_recipe_and_the_files_count() {
    let files = files(&[
        ("Dockerfile", File, "FROM a\nARG WHAT\nCOPY $WHAT /\n"),
        ("ci/args", File, "WHAT=x\nB=1\n"),
        ("ci/labels.yml", File, "l: v\n"),
        ("x", File, ""),
        ("y", File, ""),
    ]);
    let pair = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let words = Recipe {
        args: pair("B", "1"),
        args_file: Some(GitPath::new("ci/args")),
        labels_file: Some(GitPath::new("ci/labels.yml")),
        ..recipe()
    };
    assert_eq!(counted(&words, &files), "Dockerfile ci/args ci/labels.yml x");
    let selection = select_all(&words, &files).expect("an image");
    assert_eq!(selection.args, [pair("B", "1"), pair("WHAT", "x")].into_iter().flatten().collect());
    assert_eq!(selection.labels, pair("l", "v"));
    let without = Recipe { args: selection.args.clone(), labels: selection.labels.clone(), ..recipe() };
    assert_ne!(
        digest(&words, &selection, &tree(&files)),
        digest(&without, &select_all(&without, &files).expect("an image"), &tree(&files)),
        "the files count as entries"
    );
}

#[test]
fn what_is_wrong_with_a_file_of_args_is_told_with_its_line() {
    let pair = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    for (text, expected) in [
        (None, "there is no file of build args at ci/args\ncommit the file, or take `source.build.args_file` out"),
        (
            Some((Symlink, "x")),
            "there is no file of build args at ci/args: it is a symlink\ncommit the file, or take `source.build.args_file` out",
        ),
        (
            Some((File, "B=1\nA")),
            "cannot read the build args in ci/args\nit is made of NAME=value lines; .yml, .yaml or .json at its end makes it \
             a block of names with one text each",
        ),
        (
            Some((File, "B=1\nA=2")),
            "A of the build args has another value in line 2 of ci/args than in `args`\n\
             give it in one of the two",
        ),
        (
            Some((File, "B=${BUILD_ID}")),
            "B of the build args in line 1 of ci/args has a `$BUILD_…` variable: every build would make another image\n\
             say which build it was in `params.labels` or `params.tags` of the put",
        ),
    ] {
        let mut files = files(&[("Dockerfile", File, "FROM a")]);
        files.extend(text.map(|(mode, text)| (GitPath::new("ci/args"), (mode, text.as_bytes().to_vec()))));
        let recipe = Recipe { args: pair.clone(), args_file: Some(GitPath::new("ci/args")), ..recipe() };
        let error = select_all(&recipe, &files).expect_err("the file is bad");
        assert_eq!(format!("{error}\n{}", error.hint().unwrap_or_default()), expected, "{text:?}");
    }
}

#[test]
fn a_dockerfile_that_is_a_symlink_is_followed_once() {
    let inside = files(&[("Dockerfile", Symlink, "./ci/../ci/D"), ("ci/D", File, "FROM a\nCOPY x /"), ("x", File, "")]);
    let selection = select_all(&recipe(), &inside).expect("it leads to a file");
    assert_eq!(selection.dockerfile, GitPath::new("ci/D"));
    assert_eq!(counted(&recipe(), &inside), "Dockerfile ci/D x");
    for target in ["../x", "/etc/passwd", "none", "Dockerfile"] {
        let error = select_all(&recipe(), &files(&[("Dockerfile", Symlink, target)])).expect_err("it leads nowhere");
        assert_eq!(
            error.to_string(),
            format!("the Dockerfile Dockerfile is a symlink to {target}, which is no file of the repository")
        );
    }
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let none = files(&[("ci/Dockerfile", File, "FROM a"), ("s", Symlink, "ci"), ("d", File, "NAME")]);
    let with = |change: fn(&mut Recipe)| {
        let mut recipe = Recipe { dockerfile: GitPath::new("ci/Dockerfile"), ..recipe() };
        change(&mut recipe);
        let error = select_all(&recipe, &none).expect_err("something is wrong");
        format!("{error}\n{}", error.hint().unwrap_or_default())
    };
    assert_eq!(
        with(|recipe| recipe.dockerfile = GitPath::new("Dockerfile")),
        "there is no Dockerfile at Dockerfile\nsay where it is with `source.build.dockerfile`, or `source.build.context` \
         for its directory; there is one at ci/Dockerfile"
    );
    assert_eq!(
        with(|recipe| recipe.context = GitPath::new("s/t")),
        "the context s/t is no directory: s is a symlink\nname a directory of this repository in `source.build.context`, \
         without symlinks or submodules"
    );
    assert_eq!(
        with(|recipe| recipe.details = Some(GitPath::new("x"))),
        "there is no file of details at x\ncommit the file, or take `source.build.details` out"
    );
    assert_eq!(
        with(|recipe| recipe.details = Some(GitPath::new("d"))),
        "cannot read the details in d\nit is made of KEY=value lines; NAME and VERSION are ours, every other key becomes a label"
    );
    assert_eq!(
        with(|recipe| recipe.paths = Some(vec![":!x".to_owned()])),
        "`source.build.paths` has the pattern \":!x\", which begins with ':', which is git's sign for magic; exclude with \
         `source.build.ignore_paths`\ngive a path from the root of the repository, with *, ? and […]"
    );
}

/// A case of the golden file: its name, and its digest.
fn golden_cases() -> Vec<(&'static str, InputsId)> {
    let files = files(&[
        ("Dockerfile", File, "FROM a\nCOPY src run.sh lib /\n"),
        (".dockerignore", File, "src/no"),
        (".gitattributes", File, "* text=auto"),
        ("image.details", File, "NAME=n\n"),
        ("src/yes", File, "y"),
        ("src/no", File, "n"),
        ("src/link", Symlink, "yes"),
        ("run.sh", Executable, "#!/bin/sh"),
        ("lib", Submodule, "commit"),
        ("other", File, "o"),
    ]);
    let of = |change: &dyn Fn(&mut Recipe)| {
        let mut recipe = recipe();
        change(&mut recipe);
        let selection = select_all(&recipe, &files).expect("an image");
        digest(&recipe, &selection, &tree(&files))
    };
    let pair = || BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let context = |context: NamedContext| BTreeMap::from([("A".to_owned(), context)]);
    let git = || NamedContext::Git {
        url: "https://git.example/acme/lib.git".to_owned(),
        commit: "1".repeat(40).parse().expect("40 digits"),
    };
    vec![
        ("plain", of(&|_| {})),
        ("epoch", of(&|recipe| recipe.epoch = Some("2026-11".to_owned()))),
        ("empty epoch", of(&|recipe| recipe.epoch = Some(String::new()))),
        ("target", of(&|recipe| recipe.target = Some("2026-11".to_owned()))),
        ("args", of(&|recipe| recipe.args = pair())),
        ("labels", of(&|recipe| recipe.labels = pair())),
        ("tag prefix", of(&|recipe| recipe.tag_prefix = "x-".to_owned())),
        ("platform", of(&|recipe| recipe.platforms = names(&["linux/arm64"]))),
        ("details", of(&|recipe| recipe.details = Some(GitPath::new("image.details")))),
        ("context", of(&|recipe| recipe.context = GitPath::new("src"))),
        ("paths", of(&|recipe| recipe.paths = Some(vec!["other".to_owned()]))),
        ("ignored paths", of(&|recipe| recipe.ignore_paths = vec!["src".to_owned()])),
        ("platforms", of(&|recipe| recipe.platforms = names(&["linux/arm64", "linux/amd64"]))),
        ("secrets", of(&|recipe| recipe.secrets = names(&["npm", "pip"]))),
        ("context image", of(&|recipe| recipe.contexts = context(NamedContext::Image("debian:12".to_owned())))),
        ("context git", of(&|recipe| recipe.contexts = context(git()))),
        ("context directory", of(&|recipe| recipe.contexts = context(NamedContext::Directory(GitPath::new("src"))))),
        ("context layout", of(&|recipe| recipe.contexts = context(NamedContext::Layout(GitPath::new("src"))))),
        ("context finished", of(&|recipe| recipe.contexts = context(NamedContext::Finished(Digest::of(b"image"))))),
        ("ssh", of(&|recipe| recipe.words = Words::default().with("ssh", ["default"]))),
        ("two words", of(&|recipe| recipe.words = Words::default().with("ssh", ["default"]).with("network", ["host"]))),
        ("one word of two", of(&|recipe| recipe.words = Words::default().with("add_hosts", ["a=1", "b=2"]))),
        ("a flag", of(&|recipe| recipe.words = Words::default().with_flag("reproducible", true))),
    ]
}

#[test]
fn the_format_is_that_of_the_golden_file_and_every_word_counts() {
    let cases = golden_cases();
    let text: String = cases.iter().map(|(name, inputs)| format!("{inputs} {name}\n")).collect();
    assert_eq!(
        text,
        include_str!("../../../tests/golden/inputs-format-1.txt"),
        "another digest for the same files is another image for every user: raise FORMAT, and begin a new golden file"
    );
    let different: BTreeSet<InputsId> = cases.iter().map(|(_, inputs)| *inputs).collect();
    assert_eq!(different.len(), cases.len(), "no two of these are the same image");
}

#[test]
fn a_word_that_is_not_given_is_not_hashed() {
    let files = files(&[("Dockerfile", File, "FROM a")]);
    let of = |words: Words| {
        let recipe = Recipe { words, ..recipe() };
        digest(&recipe, &select_all(&recipe, &files).expect("an image"), &tree(&files))
    };
    let none = Words::default().with("ssh", Vec::<String>::new()).with_flag("reproducible", false);
    assert_eq!(of(none), of(Words::default()));
}

#[test]
fn the_encoding_is_what_its_documentation_says() {
    let files = files(&[("Dockerfile", File, "FROM a")]);
    let words = Words::default().with("network", ["host"]);
    let recipe = Recipe { epoch: Some("e".to_owned()), words, ..recipe() };
    let mut bytes = Vec::new();
    let number = |bytes: &mut Vec<u8>, number: usize| bytes.extend_from_slice(&(number as u64).to_be_bytes());
    let text = |bytes: &mut Vec<u8>, text: &[u8]| {
        number(bytes, text.len());
        bytes.extend_from_slice(text);
    };
    text(&mut bytes, b"git-image inputs");
    number(&mut bytes, 1);
    for word in ["git.example/acme/app", "", "linux/amd64", "", "Dockerfile"] {
        text(&mut bytes, word.as_bytes());
    }
    number(&mut bytes, 0);
    number(&mut bytes, 1);
    text(&mut bytes, b"e");
    for _ in 0..5 {
        number(&mut bytes, 0);
    }
    number(&mut bytes, 1);
    text(&mut bytes, b"Dockerfile");
    text(&mut bytes, b"100644");
    text(&mut bytes, tree(&files)[&GitPath::new("Dockerfile")].id.as_bytes());
    number(&mut bytes, 1);
    text(&mut bytes, b"network");
    number(&mut bytes, 1);
    text(&mut bytes, b"host");
    let selection = select_all(&recipe, &files).expect("an image");
    assert_eq!(digest(&recipe, &selection, &tree(&files)).to_string(), Digest::of(&bytes).hex());
}

/// One path of a random tree: what it holds is one of a few texts that mean something there.
pub(in crate::decide) fn entry() -> impl Strategy<Value = (&'static str, Option<(Mode, &'static str)>)> {
    let dockerfile = prop_oneof![
        Just("FROM a\nCOPY a/b /"),
        Just("FROM a\nCOPY a /\nCOPY d/*.txt /"),
        Just("FROM a\nRUN --mount=source=link/f,target=/f x"),
        Just("FROM a\nCOPY . /"),
        Just("FROM a\nCOPY link *.txt /"),
        Just("FROM a\nARG WHAT\nCOPY $WHAT /"),
    ];
    let ignore = prop_oneof![Just("a/b"), Just("*\n!a"), Just("**/*.txt"), Just("link")];
    let details = prop_oneof![Just("NAME=a"), Just("bad"), Just("")];
    let args = prop_oneof![Just("WHAT=a/b"), Just("WHAT=d"), Just("bad"), Just("")];
    let any_mode = prop_oneof![4 => Just(File), 1 => Just(Executable), 1 => Just(Symlink), 1 => Just(Submodule)];
    let regular = prop_oneof![6 => Just(File), 1 => Just(Symlink)];
    let plain = prop_oneof![
        Just("a"),
        Just("a/b"),
        Just("a/b/c"),
        Just("a/.gitattributes"),
        Just("a/b/.gitattributes"),
        Just("d/.gitattributes"),
        Just(".gitattributes"),
        Just("d/x.txt"),
        Just("d/y"),
        Just("x.txt"),
        Just("link"),
        Just("link/f"),
        Just("D"),
        Just("d"),
    ];
    prop_oneof![
        2 => (Just("Dockerfile"), (regular.clone(), prop_oneof![5 => dockerfile, 1 => Just("D")]).prop_map(Some)),
        1 => (prop_oneof![Just(".dockerignore"), Just("Dockerfile.dockerignore")], proptest::option::of((regular.clone(), ignore))),
        1 => (Just("image.details"), proptest::option::of((regular.clone(), details))),
        1 => (Just("args"), proptest::option::of((regular, args))),
        8 => (plain, proptest::option::weighted(0.7, (any_mode, prop_oneof![Just("FROM a"), Just("2")]))),
    ]
}

pub(in crate::decide) fn edit(files: &mut Files, edits: &[(&str, Option<(Mode, &str)>)]) {
    for (path, content) in edits {
        let path = GitPath::new(*path);
        files.remove(&path);
        if let Some((mode, text)) = content {
            // A path is a file or a directory, never both.
            files.retain(|other, _| !other.is_within(&path) && !path.is_within(other));
            files.insert(path, (*mode, text.as_bytes().to_vec()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_diff_that_touches_nothing_counted_and_only_such_a_diff_keeps_the_inputs(
        before in proptest::collection::vec(entry(), 0..14),
        edits in proptest::collection::vec(entry(), 1..4),
        with_details in any::<bool>(),
        with_args in any::<bool>(),
        context in prop_oneof![4 => Just(""), 1 => Just("a"), 1 => Just("d")],
        paths in proptest::option::weighted(0.2, Just(vec!["a/b".to_owned(), "*.txt".to_owned()])),
        ignore_paths in prop_oneof![3 => Just(vec![]), 1 => Just(vec!["a/b/*".to_owned(), "link".to_owned()])],
    ) {
        let mut recipe = Recipe { context: GitPath::new(context), paths, ignore_paths, ..recipe() };
        recipe.details = with_details.then(|| GitPath::new("image.details"));
        recipe.args_file = with_args.then(|| GitPath::new("args"));
        let mut parent = files(&[("Dockerfile", File, "FROM a\nCOPY a/b d /"), ("image.details", File, "NAME=x")]);
        edit(&mut parent, &before);
        let mut child = parent.clone();
        edit(&mut child, &edits);
        for (from, to) in [(&parent, &child), (&child, &parent)] {
            let (from_tree, to_tree) = (tree(from), tree(to));
            let Ok(selection) = select_all(&recipe, to) else { continue };
            let changed = from_tree.keys().chain(to_tree.keys()).filter(|path| from_tree.get(path) != to_tree.get(path));
            let touched: Vec<_> = changed.filter(|path| selection.selector.counts(path).is_some()).collect();
            let other = select_all(&recipe, from).ok().map(|other| digest(&recipe, &other, &from_tree));
            let same = other == Some(digest(&recipe, &selection, &to_tree));
            prop_assert_eq!(same, touched.is_empty(), "touched: {:?}", touched);
        }
    }
}
