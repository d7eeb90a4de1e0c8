//! What the reaper itself writes to a registry: tombstones, probes and its journal.
//!
//! The registry API can delete a manifest, and with it every tag on it; many registries cannot take away one tag alone.
//! So a unique manifest, the tombstone, is put on the tag, and the tombstone is deleted: other tags on the image
//! never notice. The config of a tombstone says where each tag pointed to before, so that a run that was stopped in
//! between can be undone or finished by the next one.
//!
//! Fact: docs/facts.md, `tombstone`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clients::registry::{Descriptor, Manifest};
use crate::names::Digest;

use super::journal::Journal;

/// The media type of a tombstone's config: what tells it from an image.
pub const TOMBSTONE: &str = "application/vnd.git-image.tombstone.v1+json";

/// The media type of a probe's config.
pub const CANARY: &str = "application/vnd.git-image.canary.v1+json";

/// The media type of a journal's config.
pub const JOURNAL: &str = "application/vnd.git-image.journal.v1+json";

/// The size of every manifest of ours, so that the head of an answer tells what may be one. An image that has this size
/// by chance is read once more than it need be.
pub const MANIFEST_BYTES: u64 = 777;

/// The annotation that fills a manifest up to its size.
const FILL: &str = "git-image.reaper";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What makes the artifacts of one run unlike those of any other: a random number.
///
/// Two runs that wrote the same bytes would delete each other's tombstones, and with them tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId(String);

impl RunId {
    /// The run with this random number.
    pub fn new(random: [u8; 8]) -> Self {
        Self(hex::encode(random))
    }

    /// 16 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The config of a tombstone or of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The canonical name of the git repository whose reaper wrote it.
    pub repository: String,
    /// The run that wrote it.
    pub run: String,
    /// Which artifact of the run it is, so that no two have the same bytes.
    pub number: usize,
    /// Where each tag pointed to before. A probe has none.
    #[serde(default)]
    pub tags: BTreeMap<String, Digest>,
}

/// The config of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalNote {
    /// The canonical name of the git repository whose reaper wrote it.
    pub repository: String,
    /// The run that wrote it.
    pub run: String,
    /// Which journal of the run it is.
    pub number: usize,
    /// What it says.
    pub journal: Journal,
}

/// An artifact of ours: a manifest, and the blob that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The media type of the config.
    pub config_type: &'static str,
    /// The config, which has to be pushed first.
    pub config: Bytes,
    /// The manifest.
    pub manifest: Manifest,
}

/// What a manifest is to the reaper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A tombstone, whose [`Note`] is in this blob.
    Tombstone(Descriptor),
    /// A probe, whose [`Note`] is in this blob.
    Canary(Descriptor),
    /// A journal, whose [`JournalNote`] is in this blob.
    Journal(Descriptor),
    /// Anything else.
    Other,
}

/// The largest config that is read: the 100 tags of a [`Note`] need some 20 KB, a full [`JournalNote`] 8 MB.
const MAX_NOTE_BYTES: u64 = 8 << 20;

/// Tells a tombstone, a probe or a journal by the media type of its config.
pub fn kind(manifest: &Manifest) -> Kind {
    #[derive(Deserialize)]
    struct Head {
        config: Option<Descriptor>,
    }
    let head = serde_json::from_slice::<Head>(&manifest.bytes).ok();
    match head.and_then(|head| head.config).filter(|config| config.size <= MAX_NOTE_BYTES) {
        Some(config) if config.media_type == TOMBSTONE => Kind::Tombstone(config),
        Some(config) if config.media_type == CANARY => Kind::Canary(config),
        Some(config) if config.media_type == JOURNAL => Kind::Journal(config),
        Some(_) | None => Kind::Other,
    }
}

/// A tombstone for these tags, which point to these digests now. `writer` is the canonical name of the git repository, or
/// that of another command.
pub fn tombstone(writer: &str, run: &RunId, number: usize, tags: BTreeMap<String, Digest>) -> Artifact {
    artifact(TOMBSTONE, &Note { repository: writer.to_owned(), run: run.0.clone(), number, tags })
}

/// A probe: a manifest that nobody needs.
pub fn canary(writer: &str, run: &RunId, number: usize) -> Artifact {
    artifact(CANARY, &Note { repository: writer.to_owned(), run: run.0.clone(), number, tags: BTreeMap::new() })
}

/// A journal.
pub fn journal(writer: &str, run: &RunId, number: usize, journal: Journal) -> Artifact {
    artifact(JOURNAL, &JournalNote { repository: writer.to_owned(), run: run.0.clone(), number, journal })
}

fn artifact(config_type: &'static str, note: &impl Serialize) -> Artifact {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        schema_version: u8,
        media_type: &'a str,
        artifact_type: &'a str,
        config: Descriptor,
        layers: [Descriptor; 0],
        annotations: BTreeMap<&'a str, String>,
    }
    let config = serde_json::to_vec(note).expect("a note has only text keys, so it is always JSON");
    let descriptor = Descriptor {
        media_type: config_type.to_owned(),
        digest: Digest::of(&config),
        size: config.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    };
    let manifest = |fill: usize| {
        let body = Body {
            schema_version: 2,
            media_type: MANIFEST,
            artifact_type: config_type,
            config: descriptor.clone(),
            layers: [],
            annotations: [(FILL, "-".repeat(fill))].into(),
        };
        serde_json::to_vec(&body).expect("a manifest has only text keys, so it is always JSON")
    };
    let missing = MANIFEST_BYTES.saturating_sub(manifest(0).len() as u64);
    let bytes = manifest(usize::try_from(missing).expect("it is small"));
    Artifact {
        config_type,
        config: config.into(),
        manifest: Manifest { digest: Digest::of(&bytes), media_type: MANIFEST.to_owned(), bytes: bytes.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::GitUrl;

    #[test]
    fn a_tombstone_says_what_it_lies_on_and_is_unlike_any_other() {
        let (url, _) = GitUrl::parse("https://git.example/acme/app.git").expect("a good address");
        let run = RunId::new([7; 8]);
        let tags = BTreeMap::from([("x-latest".to_owned(), Digest::of(b"x"))]);
        let first = tombstone(url.repository().as_str(), &run, 1, tags.clone());
        let Kind::Tombstone(config) = kind(&first.manifest) else { panic!("{:?}", kind(&first.manifest)) };
        assert_eq!(config.digest, Digest::of(&first.config));
        let note: Note = serde_json::from_slice(&first.config).expect("a note");
        assert_eq!((note.repository.as_str(), note.tags), ("git.example/acme/app", tags.clone()));
        assert_eq!(first.manifest.bytes.len() as u64, MANIFEST_BYTES);
        let others = [
            tombstone(url.repository().as_str(), &run, 2, tags.clone()),
            tombstone(url.repository().as_str(), &RunId::new([8; 8]), 1, tags),
            canary(url.repository().as_str(), &run, 1),
        ];
        assert!(others.iter().all(|other| other.manifest.bytes.len() as u64 == MANIFEST_BYTES));
        assert!(others.iter().all(|other| other.manifest.digest != first.manifest.digest));
        assert!(matches!(kind(&others[2].manifest), Kind::Canary(_)));
    }

    #[test]
    fn a_manifest_of_others_is_neither() {
        for bytes in ["", "{}", "[]", r#"{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"}}"#] {
            let bytes = Bytes::from_static(bytes.as_bytes());
            let manifest = Manifest { digest: Digest::of(&bytes), media_type: MANIFEST.to_owned(), bytes };
            assert_eq!(kind(&manifest), Kind::Other);
        }
    }
}
