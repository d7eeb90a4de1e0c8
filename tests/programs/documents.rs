//! The documents: what they name by a link is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_link_of_a_document_leads_to_a_file_and_a_heading() {
    for (document, text) in documents() {
        for link in links(&text) {
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let file = match path {
                "" => document.clone(),
                path => document.parent().expect("a file is in a directory").join(path),
            };
            assert!(file.exists(), "{}: {link} is not there", document.display());
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&file).expect("a link with a heading names a text");
                assert!(headings(&text).contains(heading), "{}: {link} has no such heading", document.display());
            }
        }
    }
}

#[test]
fn every_block_of_code_says_its_language() {
    for (document, text) in documents() {
        let fences = text.lines().filter(|line| line.starts_with("```"));
        for (number, fence) in fences.enumerate().filter(|(number, _)| number % 2 == 0) {
            assert_ne!(fence, "```", "{}: block {}", document.display(), number / 2 + 1);
        }
    }
}

/// Every document of the repository, and its text.
fn documents() -> Vec<(PathBuf, String)> {
    let directories = ["", "docs", "docs/decisions", "pipelines"].map(|name| Path::new(ROOT).join(name));
    let entries = directories.iter().flat_map(|path| std::fs::read_dir(path).expect("the directory is there"));
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let documents: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.clone(), std::fs::read_to_string(&path).expect("a document is text")))
        .collect();
    assert!(10 < documents.len(), "{documents:?}");
    documents
}

/// The lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The links to other places than the web.
fn links(text: &str) -> Vec<String> {
    let ends = prose(text).flat_map(|line| line.split("](").skip(1));
    let links = ends.filter_map(|end| end.split_once(')')).map(|(link, _)| link.to_owned());
    links.filter(|link| !link.contains("://")).collect()
}

/// The anchors that GitHub gives to headings. No two headings of a document may be the same, or one gets a number.
fn headings(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let name = line.trim_start_matches('#').trim().to_lowercase();
        let kept = name.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}
