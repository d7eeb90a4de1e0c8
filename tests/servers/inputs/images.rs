//! Contexts that are not ordinary: large, with odd names, archives.

use serde_json::json;

use super::{Becomes, Row, got, holds, tar_of};
use crate::project::{Project, only};
use crate::support::git::{Change, file};
use crate::support::image;

#[test]
fn three_thousand_files_are_an_image() {
    let mut project = Project::empty("inputs-many");
    project.source["build"] = json!({});
    let names: Vec<String> = (0..3000).map(|number| format!("tree/{}/{}/f{number}", number % 7, number % 60)).collect();
    let mut changes: Vec<_> = names.iter().map(|name| file(name, name)).collect();
    changes.push(file("Dockerfile", "FROM scratch\nCOPY tree /got/\n"));
    project.git.commit("master", &changes);
    let version = only(&project.check(None));
    let ran = project.put(&project.source, "master");
    assert_eq!(ran.succeeds()["version"], version);
    assert!(ran.stderr.contains("image: 3001 files"), "{}", ran.stderr);
    let found = got(&project, &version);
    assert_eq!(found.len(), 3000);
    assert!(found.iter().all(|(path, content)| content.strip_prefix("tree/") == Some(path)));
}

#[test]
fn archives_are_unpacked_and_names_that_the_protocol_lacks_are_refused() {
    let archive = tar_of(&[("d/in-tar", b"packed")]);
    let compressed = image::gzip(&archive);
    let files = &[
        Change::Write("a.tar", &archive),
        Change::Write("b.tgz", &compressed),
        Change::Write("\"bad/n\\377me\"", b"x"),
        file("bad/good", "y"),
    ];
    holds(&[
        Row {
            name: "inputs-archive",
            dockerfile: "FROM scratch\nADD a.tar /got/a/\nADD b.tg? /got/b/\n",
            files,
            build: json!({}),
            becomes: Becomes::Image(&[("a/d/in-tar", "packed"), ("b/d/in-tar", "packed")]),
        },
        Row {
            name: "inputs-not-text",
            dockerfile: "FROM scratch\nCOPY bad /got/\n",
            files,
            build: json!({}),
            becomes: Becomes::Error(
                "error: bad/n\\xffme cannot be sent to the engine: its name, or where it links to, is not UTF-8\n\
                 hint: rename it, or exclude it in .dockerignore",
            ),
        },
        Row {
            name: "inputs-not-text-elsewhere",
            dockerfile: "FROM scratch\nCOPY bad/good /got/\n",
            files,
            build: json!({}),
            becomes: Becomes::Image(&[("good", "y")]),
        },
        Row {
            name: "inputs-submodule-elsewhere",
            dockerfile: "FROM scratch\nCOPY . /got/\n",
            files: &[
                Change::Submodule("vendor/lib", "0123456789012345678901234567890123456789"),
                file("a", "a"),
                file(".dockerignore", "*\n!a\n"),
            ],
            build: json!({}),
            becomes: Becomes::Image(&[("a", "a")]),
        },
    ]);
}
