//! Which tags a put writes, and where the tag of the branch points.

mod aliases;
mod latest;
mod template;
#[cfg(test)]
mod tests;

use sha2::{Digest as _, Sha256};

use crate::names::{BadName, BasesId, Branch, CommitId, GitRepository, InputsId, Tag};

pub use aliases::{Alias, Release, aliases, is_release_branch, is_release_name, matches, version_name};
pub use latest::{Ask, Latest, LineReading, NotOnBranch, Outcome, ROUNDS, Told};
pub use template::{TagError, TagValues, expand_build_variables, user_tag};

/// The most characters that `source.registry.tag_prefix` may have: a content tag must fit behind it.
pub const PREFIX_LENGTH: usize = Tag::MAX_LENGTH - INPUTS.len() - 64;

/// The most characters of a slug: with the prefix, `cache-`, 8 digits and `-` before it, or `-latest` behind it, it is a tag.
const SLUG_LENGTH: usize = Tag::MAX_LENGTH - PREFIX_LENGTH - CACHE.len() - HASH_LENGTH - 1;

/// Hexadecimal digits of a shortened hash, in slugs and cache tags.
const HASH_LENGTH: usize = 8;

const INPUTS: &str = "inputs-";
const LATEST: &str = "-latest";
const CACHE: &str = "cache-";
const REAPER: &str = "_reaper";

/// Checks `source.registry.tag_prefix`.
///
/// # Errors
///
/// No tag can begin with it, or it is longer than [`PREFIX_LENGTH`].
pub fn check_prefix(prefix: &str) -> Result<(), BadName> {
    let bad = |why: String| Err(BadName { what: "tag prefix", text: prefix.to_owned(), why });
    if prefix.is_empty() {
        return Ok(());
    }
    if let Err(error) = prefix.parse::<Tag>() {
        return bad(error.why);
    }
    match prefix.len() {
        0..=PREFIX_LENGTH => Ok(()),
        length => bad(format!("has {length} characters, more than {PREFIX_LENGTH}")),
    }
}

/// The tag by which the image of a version is found: `inputs-<64 hex>`, written once and never moved.
pub fn content_tag(prefix: &str, inputs: InputsId, bases: Option<BasesId>) -> Tag {
    own_tag(prefix, &format!("{INPUTS}{}", content_id(inputs, bases)))
}

/// What stands for an image in its content tag: the inputs. Where bases are followed, the SHA-256 of `git-image content`,
/// inputs and bases, a line each.
pub fn content_id(inputs: InputsId, bases: Option<BasesId>) -> InputsId {
    match bases {
        None => inputs,
        Some(bases) => InputsId::from_bytes(Sha256::digest(format!("git-image content\n{inputs}\n{bases}\n")).into()),
    }
}

/// The tag of the image that a commit brought.
pub fn commit_tag(prefix: &str, commit: CommitId) -> Tag {
    own_tag(prefix, &commit.to_string())
}

/// `$BRANCH-latest`: the newest version of a branch that is built.
pub fn latest_tag(prefix: &str, branch: &Branch) -> Tag {
    own_tag(prefix, &format!("{}{LATEST}", slug(branch)))
}

/// The tag of a branch's build cache.
pub fn cache_tag(prefix: &str, repository: &GitRepository, branch: &Branch) -> Tag {
    own_tag(prefix, &format!("{CACHE}{}-{}", hex::encode(repository_mark(repository)), slug(branch)))
}

/// The tag of the reaper's journal: one for each git repository and prefix.
pub fn journal_tag(prefix: &str, repository: &GitRepository) -> Tag {
    own_tag(prefix, &format!("{REAPER}-journal-{}", hex::encode(repository_mark(repository))))
}

/// The first bytes of the sha256 of a git repository's name: what stands for it in the tags of caches and journals.
pub fn repository_mark(repository: &GitRepository) -> [u8; HASH_LENGTH / 2] {
    short_hash(repository.as_str())
}

fn own_tag(prefix: &str, name: &str) -> Tag {
    let tag = format!("{prefix}{name}").parse();
    tag.expect("the prefix was checked by `check_prefix`, and our names fit behind every such prefix")
}

fn short_hash(text: &str) -> [u8; HASH_LENGTH / 2] {
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// A branch's name as part of a tag. Different branches have different slugs.
///
/// Characters that a tag may not have become `-`. When that loses information, the name is too long, or it looks like
/// a slug with a hash, `-` and 8 digits of the name's sha256 are added.
/// A name in upper case keeps it: tags tell `A` from `a`.
pub fn slug(branch: &Branch) -> String {
    let name = branch.as_str();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    // At the start a tag has neither '.' nor '-', and a leading '_' could be taken for the reaper's.
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_plain = begins_well && name.chars().all(fits) && name.len() <= SLUG_LENGTH;
    if is_plain && !ends_in_hash(name) && !looks_like_cache(name) {
        return name.to_owned();
    }
    let hash = hex::encode(short_hash(name));
    let mut slug: String = name.chars().map(|c| if fits(c) { c } else { '-' }).collect();
    if !begins_well {
        slug.insert_str(0, "b-");
    }
    if looks_like_cache(&slug) {
        slug.insert_str(0, "b-");
    }
    // Only ASCII is left, so every position is a boundary.
    slug.truncate(SLUG_LENGTH - HASH_LENGTH - 1);
    format!("{slug}-{hash}")
}

fn is_short_hash(text: &str) -> bool {
    text.len() == HASH_LENGTH && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn ends_in_hash(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, end)| is_short_hash(end))
}

/// Whether `<name>-latest` would be taken for a cache tag.
fn looks_like_cache(name: &str) -> bool {
    name.strip_prefix(CACHE).and_then(|rest| rest.get(..HASH_LENGTH)).is_some_and(is_short_hash)
}

/// What a tag is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OurTag {
    /// A content tag.
    Content(InputsId),
    /// The tag of a commit.
    Commit(CommitId),
    /// The tag of a branch.
    Latest {
        /// The branch.
        slug: String,
    },
    /// A build cache.
    Cache {
        /// The first bytes of the sha256 of the git repository's name.
        repository: [u8; HASH_LENGTH / 2],
        /// The branch.
        slug: String,
    },
    /// The reaper's journal, or a probe of it.
    Reaper,
    /// None of ours: without the prefix, or of another form.
    Foreign,
}

/// What a tag is to us, by its form alone.
pub fn classify(prefix: &str, tag: &Tag) -> OurTag {
    let Some(name) = tag.as_str().strip_prefix(prefix) else { return OurTag::Foreign };
    if let Some(Ok(inputs)) = name.strip_prefix(INPUTS).map(str::parse) {
        return OurTag::Content(inputs);
    }
    if let Ok(commit) = name.parse() {
        return OurTag::Commit(commit);
    }
    if name.starts_with(REAPER) {
        return OurTag::Reaper;
    }
    if let Some((mark, slug)) = name.strip_prefix(CACHE).and_then(|rest| rest.split_once('-')) {
        let mut repository = [0; HASH_LENGTH / 2];
        if is_short_hash(mark) && !slug.is_empty() && hex::decode_to_slice(mark, &mut repository).is_ok() {
            return OurTag::Cache { repository, slug: slug.to_owned() };
        }
    }
    match name.strip_suffix(LATEST) {
        Some(slug) if !slug.is_empty() => OurTag::Latest { slug: slug.to_owned() },
        Some(_) | None => OurTag::Foreign,
    }
}
