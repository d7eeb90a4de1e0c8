//! Which files an image is made of: what we count, held against what the engine takes.
//!
//! The session serves counted files only, so an image that is built at all has asked for nothing else.

mod checkouts;
mod images;
mod lfs;
mod params;
mod submodules;
mod versions;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::project::{Project, only, put};
use crate::support::git::{Change, file};
use crate::support::image;
use crate::support::program::Ran;
use crate::support::servers;
use crate::support::temporary;

/// What becomes of a Dockerfile.
enum Becomes<'a> {
    /// An image whose `/got` has exactly these: files with their content, links with `-> target`.
    Image(&'a [(&'a str, &'a str)]),
    /// An error with exactly these lines; `{image}` is the reference of the image.
    Error(&'a str),
}
use Becomes::{Error, Image};

/// A row of a table: a repository and its build, and what becomes of it. In texts `{base}` is a base image.
struct Row<'a> {
    name: &'static str,
    dockerfile: &'a str,
    files: &'a [Change<'a>],
    build: Value,
    becomes: Becomes<'a>,
}

/// Checks every row by a project of its own, through check, put and get.
#[track_caller]
fn holds(rows: &[Row<'_>]) {
    let failed: Vec<String> =
        rows.iter().filter_map(|row| fails(row).map(|why| format!("{}: {why}", row.name))).collect();
    assert!(failed.is_empty(), "{} of {} rows:\n{}", failed.len(), rows.len(), failed.join("\n"));
}

fn fails(row: &Row<'_>) -> Option<String> {
    let Row { name, dockerfile, files, build, becomes } = row;
    let mut project = Project::empty(name);
    project.source["build"] = build.clone();
    let dockerfile = dockerfile.replace("{base}", servers().base_image());
    let path = build["dockerfile"].as_str().unwrap_or("Dockerfile");
    project.git.commit("master", &[&[file(path, &dockerfile)], *files].concat());
    let version = only(&project.check(None));
    let ran = project.put(&project.source, "master");
    match becomes {
        Image(expected) => {
            if ran.code != Some(0) {
                return Some(format!("it was not built:\n{}", ran.stderr));
            }
            let answer = ran.succeeds();
            if answer["version"] != version {
                return Some(format!("check says {version}, put {}", answer["version"]));
            }
            let expected = expected.iter().map(|&(path, content)| (path.to_owned(), content.to_owned())).collect();
            let found = got(&project, &version);
            (found != expected).then(|| format!("the image has {found:?}\n{}", ran.stderr))
        }
        Error(expected) => {
            let expected = expected
                .replace("{image}", &content_reference(&project, &version))
                .replace("{registry}", &servers().registry().host());
            let found = error(&ran);
            (found != expected).then(|| format!("the error is\n{found}\nin place of\n{expected}\n"))
        }
    }
}

/// The reference that an image is built for.
fn content_reference(project: &Project, version: &Value) -> String {
    let inputs = version["inputs"].as_str().expect("a version has inputs");
    format!("{}:inputs-{inputs}", servers().registry().repository(project.name))
}

/// What a failed program says in the end: its error, cause and hint.
#[track_caller]
fn error(ran: &Ran) -> String {
    let at = ran.stderr.find("error: ").unwrap_or_else(|| panic!("there is no error: {}\n{}", ran.stdout, ran.stderr));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    ran.stderr[at..].trim_end().to_owned()
}

/// What the image of a version has below `/got`.
#[track_caller]
fn got(project: &Project, version: &Value) -> BTreeMap<String, String> {
    let (directory, ran) = project.get(version, json!({}));
    ran.succeeds();
    let root = directory.join("rootfs/got");
    let mut found = BTreeMap::new();
    read(&root, &root, &mut found);
    std::fs::remove_dir_all(directory).expect("what get wrote can be removed");
    found
}

fn read(root: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.map(|entry| entry.expect("the directory can be read")) {
        let path = entry.path();
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_dir() {
            read(root, &path, found);
            continue;
        }
        let content = if kind.is_symlink() {
            format!("-> {}", std::fs::read_link(&path).expect("it is a link").display())
        } else {
            String::from_utf8_lossy(&std::fs::read(&path).expect("the file can be read")).into_owned()
        };
        let name = path.strip_prefix(root).expect("it lies below").to_string_lossy().into_owned();
        found.insert(name, content);
    }
}

/// A put of a checkout that a test has changed.
#[track_caller]
fn put_repo(project: &Project, artifacts: &Path) -> Ran {
    put(&project.source, artifacts, json!({"source": "repo"}))
}

#[test]
fn sources_of_copy_and_add_are_what_the_engine_takes() {
    let context = &[
        file("app/a.c", "a"),
        file("app/b.c", "b"),
        file("app/b.h", "h"),
        file("lib/a.c", "lib"),
        file("notes.md", "notes"),
        file("with space", "space"),
        file("-dash", "dash"),
        file("größe/ü.txt", "umlaut"),
    ];
    holds(&[
        Row {
            name: "inputs-copy-files",
            dockerfile: "FROM scratch\nCOPY notes.md app /got/\n",
            files: context,
            build: json!({}),
            becomes: Image(&[("a.c", "a"), ("b.c", "b"), ("b.h", "h"), ("notes.md", "notes")]),
        },
        Row {
            name: "inputs-copy-wildcards",
            dockerfile: "FROM scratch\nCOPY a*/?.c *.md /got/\n",
            files: context,
            build: json!({}),
            becomes: Image(&[("a.c", "a"), ("b.c", "b"), ("notes.md", "notes")]),
        },
        Row {
            name: "inputs-copy-class",
            dockerfile: "FROM scratch\nCOPY app/[a].[c-h] /got/\n",
            files: context,
            build: json!({}),
            becomes: Image(&[("a.c", "a")]),
        },
        Row {
            name: "inputs-copy-arg",
            dockerfile: "ARG WHAT=app\nFROM scratch\nARG WHAT\nARG FILE=${WHAT:-x}/a.c\nCOPY $FILE /got/\n",
            files: context,
            build: json!({"args": {"WHAT": "lib"}}),
            becomes: Image(&[("a.c", "lib")]),
        },
        Row {
            name: "inputs-copy-arg-empty",
            dockerfile: "FROM scratch\nARG WHAT\nCOPY ${WHAT}app/a.c /got/\n",
            files: context,
            build: json!({}),
            becomes: Image(&[("a.c", "a")]),
        },
        Row {
            name: "inputs-copy-odd-names",
            dockerfile: "FROM scratch\nCOPY [\"with space\", \"/got/\"]\nCOPY ./-dash größe /got/\n",
            files: context,
            build: json!({}),
            becomes: Image(&[("-dash", "dash"), ("with space", "space"), ("ü.txt", "umlaut")]),
        },
        Row {
            name: "inputs-copy-all",
            dockerfile: "FROM scratch\nCOPY . /got/\n",
            files: &[file("a", "a"), file(".hidden", "h"), file("d/.gitignore", "x\n")],
            build: json!({}),
            becomes: Image(&[
                (".hidden", "h"),
                ("Dockerfile", "FROM scratch\nCOPY . /got/\n"),
                ("a", "a"),
                ("d/.gitignore", "x\n"),
            ]),
        },
        Row {
            name: "inputs-copy-dots",
            dockerfile: "FROM scratch\ncopy --chown=1:2 ./app/../lib//a.c \\\n  # a comment\n  ../notes.md /got/\n",
            files: context,
            build: json!({}),
            becomes: Image(&[("a.c", "lib"), ("notes.md", "notes")]),
        },
        Row {
            name: "inputs-copy-missing",
            dockerfile: "FROM scratch\nCOPY app/a.c target/app /got/\n",
            files: context,
            build: json!({}),
            becomes: Error(
                "error: cannot build {image}: [1/1] COPY app/a.c target/app /got/ needs \"target/app\", which is not in the build context\n\
                 hint: check the path and the ignore file; a file that an earlier task made is not in git, so add it to the repository or make it in the Dockerfile",
            ),
        },
        Row {
            name: "inputs-copy-outside",
            dockerfile: "FROM scratch\nCOPY tool /got/\n",
            files: &[file("ci/tool", "tool"), file("ci/other", "other"), file("other/Dockerfile", "FROM nothing")],
            build: json!({"context": "ci", "dockerfile": "docker/Dockerfile"}),
            becomes: Image(&[("tool", "tool")]),
        },
        Row {
            name: "inputs-copy-from",
            dockerfile: "FROM scratch AS app\nCOPY app/a.c /x/\nFROM scratch AS unused\nCOPY lib /got/\n\
                         FROM scratch\nCOPY --from=app /x/a.c /got/\n",
            files: context,
            build: json!({}),
            becomes: Image(&[("a.c", "a")]),
        },
        Row {
            name: "inputs-copy-target",
            dockerfile: "FROM scratch AS one\nCOPY app/a.c /got/\nFROM one\nCOPY nosuch /got/\n",
            files: context,
            build: json!({"target": "one"}),
            becomes: Image(&[("a.c", "a")]),
        },
        Row {
            name: "inputs-copy-nothing",
            dockerfile: "FROM {base}\nRUN mkdir /got && echo made > /got/made\n",
            files: &[file("app", "app")],
            build: json!({"context": "empty", "dockerfile": "Dockerfile"}),
            becomes: Image(&[("made", "made\n")]),
        },
    ]);
}

#[test]
fn args_and_labels_come_from_files_of_the_repository() {
    let dockerfile = "FROM {base}\nARG WHAT\nARG MORE\nCOPY $WHAT /got/\nRUN echo $MORE > /got/more\n";
    let files = &[
        file("a", "a"),
        file("b", "b"),
        file("ci/args", "# which file\nWHAT=b\nMORE=x y\n"),
        file("ci/args.yaml", "WHAT: a\nMORE: 1.10\n"),
        file("ci/bad", "WHAT=a\nMORE\n"),
    ];
    holds(&[
        Row {
            name: "inputs-args-lines",
            dockerfile,
            files,
            build: json!({"args_file": "ci/args"}),
            becomes: Image(&[("b", "b"), ("more", "x y\n")]),
        },
        Row {
            name: "inputs-args-yaml",
            dockerfile,
            files,
            build: json!({"args_file": "ci/args.yaml", "args": {"MORE": "1.10"}}),
            becomes: Image(&[("a", "a"), ("more", "1.10\n")]),
        },
    ]);
    let mut project = Project::empty("inputs-labels-file");
    project.git.commit("master", &[&[file("Dockerfile", "FROM scratch\nCOPY a /got/\n")], files.as_slice()].concat());
    project.source["build"] = json!({"labels_file": "ci/args", "labels": {"own": "1"}});
    let version = only(&project.check(None));
    assert_eq!(project.put(&project.source, "master").succeeds()["version"], version);
    let tag = format!("inputs-{}", version["inputs"].as_str().expect("a version has inputs"));
    let labels = servers().registry().image_config(project.name, &tag)["config"]["Labels"].clone();
    assert_eq!((&labels["WHAT"], &labels["MORE"], &labels["own"]), (&json!("b"), &json!("x y"), &json!("1")));
    project.git.commit("master", &[file("ci/args", "WHAT=a\n")]);
    assert_ne!(only(&project.check(None))["inputs"], version["inputs"], "the file is part of the image");

    project.source["build"] = json!({"args_file": "ci/bad"});
    let expected = "error: cannot read the build args in ci/bad\n\
                    cause: line 2 has no '=': \"MORE\"\n\
                    hint: it is made of NAME=value lines; .yml, .yaml or .json at its end makes it a block of names with one text each";
    assert_eq!(error(&project.check(None)), expected);
    assert_eq!(error(&project.put(&project.source, "master")), expected);
}

#[test]
fn an_ignore_file_excludes_what_the_engine_would_not_get() {
    let context = &[
        file("src/a", "a"),
        file("src/secret", "s"),
        file("src/keep/secret", "k"),
        file("doc/a.md", "md"),
        file("b", "b"),
    ];
    let all = "FROM scratch\nCOPY . /got/\n";
    let with = |ignore: &[Change<'static>]| [context.as_slice(), ignore].concat();
    holds(&[
        Row {
            name: "inputs-ignore-exceptions",
            dockerfile: all,
            files: &with(&[file(".dockerignore", "*\n!src\n**/secret\n!src/keep/*\n")]),
            build: json!({}),
            becomes: Image(&[("src/a", "a"), ("src/keep/secret", "k")]),
        },
        Row {
            name: "inputs-ignore-own",
            dockerfile: all,
            files: &with(&[
                file(".dockerignore", "src\n"),
                file("docker/app.dockerignore", "# ours\n\n/doc/\nb\n.dockerignore\ndocker"),
            ]),
            build: json!({"dockerfile": "docker/app"}),
            becomes: Image(&[("src/a", "a"), ("src/keep/secret", "k"), ("src/secret", "s")]),
        },
        Row {
            name: "inputs-ignore-own-empty",
            dockerfile: all,
            files: &with(&[file(".dockerignore", "*\n"), file("Dockerfile.dockerignore", "")]),
            build: json!({}),
            becomes: Image(&[
                (".dockerignore", "*\n"),
                ("Dockerfile", all),
                ("Dockerfile.dockerignore", ""),
                ("b", "b"),
                ("doc/a.md", "md"),
                ("src/a", "a"),
                ("src/keep/secret", "k"),
                ("src/secret", "s"),
            ]),
        },
        Row {
            name: "inputs-ignore-dockerfile",
            dockerfile: "FROM scratch\nCOPY b .dockerignor* /got/\n",
            files: &with(&[file(".dockerignore", "Dockerfile\n.dockerignore\nsrc\n")]),
            build: json!({}),
            becomes: Image(&[("b", "b")]),
        },
        Row {
            name: "inputs-ignore-copied",
            dockerfile: "FROM scratch\nCOPY src b /got/\n",
            files: &with(&[file(".dockerignore", "b\n")]),
            build: json!({}),
            becomes: Error(
                "error: cannot build {image}: [1/1] COPY src b /got/ needs \"b\", which is not in the build context\n\
                 hint: check the path and the ignore file; a file that an earlier task made is not in git, so add it to the repository or make it in the Dockerfile",
            ),
        },
        Row {
            name: "inputs-ignore-context",
            dockerfile: "FROM scratch\nCOPY . /got/\n",
            files: &with(&[file(".dockerignore", "*\n"), file("src/.dockerignore", "secret\n.docker*\n")]),
            build: json!({"context": "src", "dockerfile": "Dockerfile"}),
            becomes: Image(&[("a", "a"), ("keep/secret", "k")]),
        },
        Row {
            name: "inputs-ignore-mount",
            dockerfile: "FROM {base}\nRUN --mount=target=/c mkdir /got && cp -r /c/. /got\n",
            files: &with(&[file(".dockerignore", "*\n!b\n")]),
            build: json!({}),
            becomes: Image(&[("b", "b")]),
        },
    ]);
}

#[test]
fn a_source_that_is_or_passes_through_a_link_takes_what_the_engine_follows() {
    let files = &[
        file("real/f", "f"),
        file("real/g", "g"),
        file("other", "o"),
        Change::Symlink("file-link", "other"),
        Change::Symlink("directory-link", "./real"),
        Change::Symlink("dir/up", "../other"),
        Change::Symlink("dir/nowhere", "/etc/nosuch"),
        Change::Symlink("twice", "directory-link/f"),
        Change::Symlink("out", "../../../../other"),
        Change::Symlink("absolute", "/real/g"),
    ];
    holds(&[
        Row {
            name: "inputs-link-file",
            dockerfile: "FROM scratch\nCOPY file-link absolute twice out /got/\n",
            files,
            build: json!({}),
            becomes: Image(&[("absolute", "g"), ("file-link", "o"), ("out", "o"), ("twice", "f")]),
        },
        Row {
            name: "inputs-link-through",
            dockerfile: "FROM scratch\nCOPY directory-link/f /got/\n",
            files,
            build: json!({}),
            becomes: Image(&[("f", "f")]),
        },
        Row {
            name: "inputs-link-wildcard",
            dockerfile: "FROM scratch\nCOPY file* direc*/g /got/\n",
            files,
            build: json!({}),
            // The engine's wildcards do not enter links.
            becomes: Image(&[("file-link", "o")]),
        },
        Row {
            name: "inputs-link-below",
            dockerfile: "FROM scratch\nCOPY dir /got/\n",
            files,
            build: json!({}),
            becomes: Image(&[("nowhere", "-> /etc/nosuch"), ("up", "-> ../other")]),
        },
        Row {
            name: "inputs-link-nowhere",
            dockerfile: "FROM scratch\nCOPY dir/nowhere /got/\n",
            files,
            build: json!({}),
            becomes: Error(
                "error: cannot build {image}: [1/1] COPY dir/nowhere /got/ needs \"etc/nosuch\", which is not in the build context\n\
                 hint: check the path and the ignore file; a file that an earlier task made is not in git, so add it to the repository or make it in the Dockerfile",
            ),
        },
        Row {
            name: "inputs-link-paths",
            dockerfile: "FROM scratch\nCOPY file-link /got/\n",
            files,
            build: json!({"paths": ["file-link"]}),
            becomes: Error(
                "error: the build reads other, which is no part of the image's inputs\n\
hint: add it to `source.build.paths`, so that a change of it is a new image, or exclude it in .dockerignore",
            ),
        },
        Row {
            name: "inputs-link-dockerfile",
            dockerfile: "not read",
            files: &[
                file("docker/real", "FROM scratch\nCOPY a /got/\n"),
                file("a", "a"),
                Change::Remove("Dockerfile"),
                Change::Symlink("Dockerfile", "docker/real"),
            ],
            build: json!({}),
            becomes: Image(&[("a", "a")]),
        },
    ]);
}

#[test]
fn files_that_run_mounts_count_and_other_mounts_do_not() {
    let files = &[file("src/a", "a"), file("src/b", "b"), file("c", "c")];
    let copy = "mkdir /got && cp -r /m/. /got";
    holds(&[
        Row {
            name: "inputs-mount-bind",
            dockerfile: &format!("FROM {{base}}\nRUN --mount=type=bind,source=src,target=/m {copy}\n"),
            files,
            build: json!({}),
            becomes: Image(&[("a", "a"), ("b", "b")]),
        },
        Row {
            name: "inputs-mount-plain",
            dockerfile: &format!("FROM {{base}}\nRUN --mount=src=src/a,dst=/m/x {copy}\n"),
            files,
            build: json!({}),
            becomes: Image(&[("x", "a")]),
        },
        Row {
            name: "inputs-mount-whole",
            dockerfile: "FROM {base}\nRUN --mount=target=/m mkdir /got && cp /m/c /got\n",
            files,
            build: json!({}),
            becomes: Image(&[("c", "c")]),
        },
        Row {
            name: "inputs-mount-tmpfs",
            dockerfile: "FROM {base}\nCOPY c /got/\nRUN --mount=type=tmpfs,target=/m touch /m/x\n",
            files,
            build: json!({}),
            becomes: Image(&[("c", "c")]),
        },
        Row {
            name: "inputs-mount-secret",
            dockerfile: "FROM {base}\nCOPY c /got/\nRUN --mount=type=secret,id=x true\n",
            files,
            build: json!({}),
            becomes: Image(&[("c", "c")]),
        },
        Row {
            name: "inputs-mount-other",
            dockerfile: "FROM {base} AS x\nCOPY c /m/c\nFROM {base}\n\
                         RUN --mount=type=cache,target=/m --mount=type=tmpfs,target=/n --mount=from=x,source=/m,target=/x cp -r /x /got\n",
            files,
            build: json!({}),
            becomes: Image(&[("c", "c")]),
        },
    ]);
}

#[test]
fn paths_are_the_whole_truth_and_what_lies_beyond_is_refused_by_name() {
    let files = &[file("src/a", "a"), file("src/b.md", "b"), file("c", "c"), file("d", "d")];
    holds(&[
        Row {
            name: "inputs-paths",
            dockerfile: "FROM scratch\nCOPY src c /got/\n",
            files,
            build: json!({"paths": ["src", "c"]}),
            becomes: Image(&[("a", "a"), ("b.md", "b"), ("c", "c")]),
        },
        Row {
            name: "inputs-paths-beyond",
            dockerfile: "FROM scratch\nCOPY src c d /got/\n",
            files: &[file("ctx/src/a", "a"), file("ctx/c", "c"), file("ctx/d", "d")],
            build: json!({"context": "ctx", "dockerfile": "Dockerfile", "paths": ["ctx/src"]}),
            becomes: Error(
                "error: the build reads ctx/c and 1 more, which are no part of the image's inputs\n\
hint: add it to `source.build.paths`, so that a change of it is a new image, or exclude it in .dockerignore",
            ),
        },
        Row {
            name: "inputs-paths-ignored",
            dockerfile: "FROM scratch\nCOPY src /got/\n",
            files,
            build: json!({"ignore_paths": ["*.md"]}),
            becomes: Error(
                "error: the build reads src/b.md, which is no part of the image's inputs\n\
hint: `ignore_paths` only says what does not count: exclude it in .dockerignore instead, so that no build reads it, or let it count",
            ),
        },
    ]);
}

#[test]
fn what_the_engine_adds_to_the_dockerfile_is_refused_by_name_until_it_is_counted() {
    let base = |name: &str, config: Value| {
        let layout = temporary();
        image::layout(layout.path(), &[tar_of(&[("etc/base", b"base")])], config);
        image::push(layout.path(), servers().registry(), name, "1", None)
    };
    let onbuild = base("inputs-onbuild-base", json!({"OnBuild": ["COPY extra* /got/"]}));
    let with_env = base("inputs-env-base", json!({"Env": ["WHAT=other"]}));
    let dockerfile = format!("FROM {onbuild}\nCOPY a /got/\n");
    let files = &[file("a", "a"), file("extra", "extra"), file("other", "other")];
    holds(&[
        Row {
            name: "inputs-onbuild",
            dockerfile: &dockerfile,
            files,
            build: json!({}),
            becomes: Error(
                "error: the build reads extra, which is no part of the image's inputs\n\
hint: an ONBUILD or ENV of the base image may lead there, which git cannot tell: list everything that the build reads in `source.build.paths`, this too, or exclude it in .dockerignore",
            ),
        },
        Row {
            name: "inputs-onbuild-counted",
            dockerfile: &dockerfile,
            files,
            build: json!({"paths": ["a", "extra*"]}),
            becomes: Image(&[("a", "a"), ("extra", "extra")]),
        },
        Row {
            name: "inputs-env-of-base",
            dockerfile: &format!("FROM {with_env}\nCOPY $WHAT /got/\n"),
            files,
            build: json!({}),
            becomes: Image(&[("other", "other")]),
        },
        Row {
            name: "inputs-env-of-base-and-arg",
            dockerfile: &format!("FROM {with_env}\nARG WHAT=a\nCOPY $WHAT /got/\n"),
            files,
            build: json!({}),
            becomes: Image(&[("a", "a")]),
        },
        Row {
            name: "inputs-env-and-arg",
            dockerfile: "FROM scratch\nENV WHAT=other\nARG WHAT=a\nCOPY $WHAT /got/\n",
            files,
            build: json!({}),
            becomes: Image(&[("a", "a")]),
        },
    ]);
}

#[test]
fn what_the_frontend_does_not_know_ends_with_its_own_words() {
    let files = &[file("a", "a"), file("b", "b")];
    holds(&[
        Row {
            name: "inputs-heredoc-run",
            dockerfile: "FROM {base}\nRUN <<EOF\nmkdir /got\nEOF\n",
            files,
            build: json!({}),
            becomes: Error(
                "error: cannot build {image}: the Dockerfile has an error in line 3\n\
cause: dockerfile parse error line 3: unknown instruction: MKDIR\n\
hint: if the line is right, it is newer than this engine: Docker 20.10 knows no here-documents, for one; `# syntax=docker/dockerfile:1` in the first line brings them",
            ),
        },
        Row {
            name: "inputs-heredoc-copy",
            dockerfile: "FROM scratch\nCOPY <<EOF /got/x\ntext\nEOF\n",
            files,
            build: json!({}),
            becomes: Error(
                "error: cannot build {image}: the Dockerfile has an error in line 3\n\
cause: dockerfile parse error line 3: unknown instruction: TEXT\n\
hint: if the line is right, it is newer than this engine: Docker 20.10 knows no here-documents, for one; `# syntax=docker/dockerfile:1` in the first line brings them",
            ),
        },
        Row {
            name: "inputs-syntax-missing",
            dockerfile: &format!(
                "# syntax={}/nosuch/frontend:1\nFROM scratch\nCOPY a /got/\n",
                servers().registry().host()
            ),
            files,
            build: json!({}),
            becomes: Error(
                "error: cannot build {image}: the `# syntax` image {registry}/nosuch/frontend:1 was not found\n\
cause: {registry}/nosuch/frontend:1: not found\n\
hint: check the name; registries often say the same for a missing and for a private image, and only the host of `source.registry.repository` is asked with `source.registry.username`",
            ),
        },
        Row {
            name: "inputs-syntax-unknown-option",
            dockerfile: "FROM scratch\nCOPY --parents a /got/\n",
            files,
            build: json!({}),
            becomes: Error(
                "error: cannot build {image}: the Dockerfile has an error in line 2\n\
cause: dockerfile parse error line 2: Unknown flag: parents\n\
hint: if the line is right, it is newer than this engine: Docker 20.10 knows no here-documents, for one; `# syntax=docker/dockerfile:1` in the first line brings them",
            ),
        },
        Row {
            name: "inputs-escape",
            dockerfile: "# escape=`\nFROM scratch\nCOPY `\n a /got/\n",
            files,
            build: json!({}),
            becomes: Image(&[("a", "a")]),
        },
    ]);
}

/// A tar archive of files.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        image::append(&mut archive, tar::EntryType::Regular, path, 0o644, content);
    }
    archive.into_inner().expect("memory can be written to")
}
