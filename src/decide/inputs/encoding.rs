//! The digest of a selection: what exactly is hashed.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::{Entry, Mode, Recipe, Selection, Tree};
use crate::names::{GitPath, GitRepository, InputsId};

/// The number of the format. It rises with every change of which files count or how they are hashed.
pub const FORMAT: u64 = 1;

/// The digest: the format number, the words of the build, and the counted entries of the tree, in the order of their paths.
///
/// It is the SHA-256 of these, one after the other:
///
/// - a *number* is 8 bytes, the highest first; a *text* is the number of its bytes and the bytes;
///   an *option* is the number 0, or the number 1 and the value; a *list* is the number of its items and the items;
/// - the text `git-image inputs`, the number [`FORMAT`];
/// - texts: repository, tag prefix, platforms (sorted, with a comma between two), context, Dockerfile; options of texts:
///   target, epoch, path of the details;
/// - lists of pairs of texts, in the order of their keys: args, labels, those of `args_file` and `labels_file` among them;
/// - the list of the names of the build's secrets (texts, sorted);
/// - the list of its named contexts, in the order of their names: name, and `image:<reference>`, `git:<address>#<commit>`,
///   `directory:<path>`, `layout:<path>` or `finished:<digest>` (texts);
/// - the list of entries: path (text), mode (`100644`, `100755`, `120000` or `160000`, text), object id (text of 20 bytes);
/// - only when any is given, the list of further words, in the order of their keys: key (text), values (list of texts).
///
/// The content of `image.details` is one of the entries. `paths` and `ignore_paths` are not hashed, only the files that
/// they choose: the same files are the same image.
pub fn digest(recipe: &Recipe, selection: &Selection, tree: &Tree) -> InputsId {
    // By name, so that a new word of the recipe is not forgotten here.
    let Recipe {
        context,
        dockerfile,
        paths: _,
        ignore_paths: _,
        details,
        target,
        // As the selection has them: with those of the files.
        args: _,
        args_file: _,
        labels: _,
        labels_file: _,
        epoch,
        platforms,
        secrets,
        contexts,
        words,
        // Which digests the images have is no matter of git's.
        follow: _,
        repository,
        tag_prefix,
    } = recipe;
    let mut hash = Encoder(Sha256::new());
    hash.text(b"git-image inputs");
    hash.number(FORMAT);
    hash.text(GitRepository::as_str(repository).as_bytes());
    hash.text(tag_prefix.as_bytes());
    hash.text(platforms.iter().map(String::as_str).collect::<Vec<_>>().join(",").as_bytes());
    hash.text(context.as_bytes());
    hash.text(dockerfile.as_bytes());
    hash.option(target.as_deref().map(str::as_bytes));
    hash.option(epoch.as_deref().map(str::as_bytes));
    hash.option(details.as_ref().map(GitPath::as_bytes));
    hash.pairs(&selection.args);
    hash.pairs(&selection.labels);
    hash.texts(secrets);
    hash.list(contexts.len());
    for (name, context) in contexts {
        hash.text(name.as_bytes());
        hash.text(&context.hashed());
    }
    let entries: Vec<(&GitPath, &Entry)> = selection.files.keys().filter_map(|path| tree.get_key_value(path)).collect();
    hash.list(entries.len());
    for (path, Entry { mode, id }) in entries {
        hash.text(path.as_bytes());
        hash.text(mode_text(*mode));
        hash.text(id.as_bytes());
    }
    let words = words.iter();
    if words.len() > 0 {
        hash.list(words.len());
        for (key, values) in words {
            hash.text(key.as_bytes());
            hash.texts(values);
        }
    }
    InputsId::from_bytes(hash.0.finalize().into())
}

fn mode_text(mode: Mode) -> &'static [u8] {
    match mode {
        Mode::File => b"100644",
        Mode::Executable => b"100755",
        Mode::Symlink => b"120000",
        Mode::Submodule => b"160000",
    }
}

struct Encoder(Sha256);

impl Encoder {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn list(&mut self, length: usize) {
        // Widening: usize has at most 64 bits on every target.
        self.number(length as u64);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.list(bytes.len());
        self.0.update(bytes);
    }

    fn option(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.number(0),
            Some(bytes) => {
                self.number(1);
                self.text(bytes);
            }
        }
    }

    fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a String, IntoIter: ExactSizeIterator>) {
        let texts = texts.into_iter();
        self.list(texts.len());
        texts.for_each(|text| self.text(text.as_bytes()));
    }

    fn pairs(&mut self, pairs: &BTreeMap<String, String>) {
        self.list(pairs.len());
        for (key, value) in pairs {
            self.text(key.as_bytes());
            self.text(value.as_bytes());
        }
    }
}
