//! The same builds on every engine: a BuildKit daemon, and Docker engines old and new with either store.

mod images;
mod options;
mod reach;
mod trouble;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::project::Project;
use crate::support::engine::{self, EngineKind};
use crate::support::git::{Change, file};
use crate::support::program::{Program, Ran};
use crate::support::servers;

/// Runs out with the artifact `repo`, made of master, on an engine of this kind.
#[track_caller]
pub fn put_on(kind: EngineKind, project: &Project, source: &Value, mut params: Value) -> Ran {
    let mut source = source.clone();
    source["engine"] = json!({"host": engine::of(kind).host()});
    params["source"] = json!("repo");
    let artifacts = project.checkout("master", Some(1));
    Program::put(&artifacts).run(&json!({"source": source, "params": params}))
}

/// What becomes of a build.
enum Becomes<'a> {
    /// An image whose `/got` has exactly these files, each with its first line.
    Got(&'a [(&'a str, &'a str)]),
    /// An error that begins with these lines; `{image}` is the reference of the image, `{last}` the number of the second step of two.
    Fails(&'a str),
}
use Becomes::{Fails, Got};

/// A row of a table: a repository and its build, and what becomes of it on every engine. In texts `{base}` is a base image.
struct Row<'a> {
    name: &'static str,
    dockerfile: &'a str,
    files: &'a [Change<'a>],
    build: Value,
    becomes: Becomes<'a>,
    /// The engines that cannot do it.
    except: &'a [EngineKind],
}

#[track_caller]
fn holds(rows: &[Row<'_>]) {
    let mut failed = Vec::new();
    for row in rows {
        for kind in EngineKind::ALL.into_iter().filter(|kind| !row.except.contains(kind)) {
            if let Some(why) = fails(row, kind) {
                failed.push(format!("{} on {}: {why}", row.name, kind.name()));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn fails(row: &Row<'_>, kind: EngineKind) -> Option<String> {
    let Row { name, dockerfile, files, build, becomes, except: _ } = row;
    let mut project = Project::empty(name);
    project.source["build"] = build.clone();
    // Each engine has a repository of its own, so that each builds.
    project.source["registry"]["repository"] =
        json!(format!("{}/{}", servers().registry().repository(name), format!("{kind:?}").to_lowercase()));
    let dockerfile = dockerfile.replace("{base}", servers().base_image());
    let path = build["dockerfile"].as_str().unwrap_or("Dockerfile");
    project.git.commit("master", &[&[file(path, &dockerfile)], *files].concat());
    let ran = put_on(kind, &project, &project.source, json!({}));
    match becomes {
        Got(expected) => {
            if ran.code != Some(0) {
                return Some(format!("it was not built:\n{}", ran.stderr));
            }
            let expected: BTreeMap<String, String> =
                expected.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
            let got = got(&project, &ran.succeeds()["version"]);
            (got != expected).then(|| format!("/got has {got:?} in place of {expected:?}; the log:\n{}", ran.stderr))
        }
        Fails(expected) => {
            let said = ran.stderr.split_once("error: ").map_or("", |(_, said)| said);
            let reference = said.split(' ').find(|word| word.contains(":inputs-")).unwrap_or_default();
            let expected = expected.replace("{image}", reference.trim_end_matches(':'));
            // BuildKit counts a base that is given by digest among the steps, and does not number it.
            let expected = expected.replace("{last}", if OLD.contains(&kind) { "[2/2]" } else { "[1/2]" });
            (ran.code != Some(1) || !format!("error: {said}").starts_with(&expected))
                .then(|| format!("it does not end with\n{expected}\nbut:\n{}", ran.stderr))
        }
    }
}

/// The files in `/got` of the image of a version, each with its first line.
#[track_caller]
fn got(project: &Project, version: &Value) -> BTreeMap<String, String> {
    let (directory, ran) = project.get(version, json!({}));
    ran.succeeds();
    let root = directory.join("rootfs/got");
    let entries = std::fs::read_dir(&root).expect("the image has /got").flatten();
    entries
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_else(|error| error.to_string());
            (entry.file_name().to_string_lossy().into_owned(), text.lines().next().unwrap_or_default().to_owned())
        })
        .collect()
}

const OLD: &[EngineKind] = &[EngineKind::Docker20];

#[test]
fn every_engine_builds_what_a_dockerfile_can_say() {
    holds(&[
        Row {
            name: "engines-args",
            dockerfile: "FROM {base}\nARG WORD=default\nARG OTHER=other\nRUN mkdir /got && echo $WORD $OTHER >/got/words\n",
            files: &[],
            build: json!({"args": {"WORD": "given"}}),
            becomes: Got(&[("words", "given other")]),
            except: &[],
        },
        Row {
            name: "engines-stages",
            dockerfile: "FROM {base} AS one\nRUN mkdir /got && echo 1 >/got/one\nFROM {base} AS two\nCOPY --from=one /got /got\nRUN echo 2 >/got/two\nFROM two\nRUN exit 9\n",
            files: &[],
            build: json!({"target": "two"}),
            becomes: Got(&[("one", "1"), ("two", "2")]),
            except: &[],
        },
        Row {
            name: "engines-mounts",
            dockerfile: "FROM {base} AS words\nRUN mkdir /words && echo stage >/words/a\nFROM {base}\nRUN --mount=type=cache,target=/cache echo kept >/cache/a\nRUN --mount=type=cache,target=/cache --mount=type=bind,from=words,source=/words,target=/words --mount=type=bind,source=bound,target=/bound mkdir /got && cp /cache/a /got/cached && cp /words/a /got/words && cp /bound /got/bound\n",
            files: &[file("bound", "of the context\n")],
            build: json!({}),
            becomes: Got(&[("bound", "of the context"), ("cached", "kept"), ("words", "stage")]),
            except: &[],
        },
        Row {
            name: "engines-heredoc",
            dockerfile: "FROM {base}\nRUN <<END\nmkdir /got\necho ran >/got/run\nEND\nCOPY <<END /got/copied\nwords\nEND\n",
            files: &[],
            build: json!({}),
            becomes: Got(&[("copied", "words"), ("run", "ran")]),
            except: OLD,
        },
        Row {
            name: "engines-ignore",
            dockerfile: "FROM {base}\nCOPY . /got/\nRUN rm /got/Dockerfile /got/.dockerignore\n",
            files: &[
                file(".dockerignore", "*.md\n!kept.md\n"),
                file("a", "a\n"),
                file("left.md", "left\n"),
                file("kept.md", "kept\n"),
            ],
            build: json!({}),
            becomes: Got(&[("a", "a"), ("kept.md", "kept")]),
            except: &[],
        },
        Row {
            name: "engines-outside",
            dockerfile: "FROM {base}\nCOPY sub/a /got/\n",
            files: &[file("context/sub/a", "a\n"), file("context/b", "b\n")],
            build: json!({"context": "context", "dockerfile": "docker/Build.file"}),
            becomes: Got(&[("a", "a")]),
            except: &[],
        },
    ]);
}

#[test]
fn every_engine_says_in_the_same_words_why_a_build_fails() {
    holds(&[
        Row {
            name: "engines-run",
            dockerfile: "FROM {base}\nRUN echo why >&2; exit 42\n",
            files: &[],
            build: json!({}),
            becomes: Fails(
                "error: cannot build {image}: {last} RUN echo why >&2; exit 42 ended with exit code 42\n\
                 hint: the output of the failed step is repeated above\n",
            ),
            except: &[],
        },
        Row {
            name: "engines-missing",
            dockerfile: "FROM {base}\nCOPY nosuch /got/\n",
            files: &[],
            build: json!({}),
            becomes: Fails(
                "error: cannot build {image}: {last} COPY nosuch /got/ needs \"nosuch\", which is not in the build context\n",
            ),
            except: &[],
        },
        Row {
            name: "engines-parse",
            dockerfile: "FROM {base}\nCOPPY a /got/\n",
            files: &[],
            build: json!({}),
            becomes: Fails("error: cannot build {image}: the Dockerfile has an error in line 2\n"),
            except: &[],
        },
        Row {
            name: "engines-stage",
            dockerfile: "FROM {base} AS one\n",
            files: &[],
            build: json!({"target": "nosuch"}),
            becomes: Fails("error: cannot build {image}: the Dockerfile has no stage \"nosuch\"\n"),
            except: &[],
        },
    ]);
}
