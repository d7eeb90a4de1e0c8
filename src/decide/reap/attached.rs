//! Tags that belong to an image: signatures, attestations and bills of materials.
//!
//! They have no label, and the digest of their image in their name. They stay while a tag stays on that image, or on an
//! index that has it, and go after the last of them.
//!
//! Fact: distribution-spec 1.1, "Referrers Tag Schema"; cosign, pkg/oci/remote, `SignatureTag` and its neighbours.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::Reason;
use super::{Origin, RegistryFacts, Rules, Verdict};
use crate::names::Digest;

/// What is known of an image that no tag points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The registry has no such manifest.
    Gone,
    /// What it says of itself.
    Image(Origin),
}

/// The image that a tag belongs to, by its name: `sha256-<64 hex>`, `.sig`, `.att` or `.sbom` behind it or nothing.
pub fn subject(tag: &str) -> Option<Digest> {
    let (name, kind) = tag.split_once('.').unwrap_or((tag, ""));
    let hex = name.strip_prefix("sha256-").filter(|_| ["", "sig", "att", "sbom"].contains(&kind))?;
    format!("sha256:{hex}").parse().ok()
}

/// Judges the tags that belong to images by what happens to these. Gives the images that have to be read for that.
pub(super) fn judge<'a>(
    registry: &'a RegistryFacts,
    rules: &Rules,
    has_other_prefixes: bool,
    reasons: &mut BTreeMap<&'a str, Reason>,
) -> BTreeSet<Digest> {
    let attached: Vec<(&str, Digest)> = reasons
        .iter()
        .filter(|(_, reason)| **reason == Reason::NotOurForm)
        .filter_map(|(tag, _)| Some((*tag, subject(tag)?)))
        .collect();
    let mut unread = BTreeSet::new();
    if attached.is_empty() {
        return unread;
    }
    // The tags on each image, those of the indexes that have it included. One that stays comes before one that goes.
    let mut holders: BTreeMap<Digest, (bool, &str)> = BTreeMap::new();
    for (&tag, reason) in reasons.iter().filter(|(tag, _)| subject(tag).is_none()) {
        let Some((image, _)) = registry.tags[tag].image() else { continue };
        let goes = reason.verdict() == Verdict::Remove;
        for digest in std::iter::once(&image).chain(registry.children.get(&image).into_iter().flatten()) {
            let holder = holders.entry(*digest).or_insert((goes, tag));
            if holder.0 && !goes {
                *holder = (goes, tag);
            }
        }
    }
    for (tag, image) in attached {
        let reason = match (holders.get(&image), registry.subjects.get(&image)) {
            (Some((false, holder)), _) => Reason::Attached((*holder).to_owned()),
            (Some((true, holder)), _) => Reason::AttachedToDead((*holder).to_owned()),
            (None, Some(Subject::Gone)) => Reason::SubjectGone,
            (None, Some(Subject::Image(Origin::Labels(labels))))
                if labels.repository.as_deref() == Some(rules.repository.as_str()) && !has_other_prefixes =>
            {
                Reason::SubjectUntagged
            }
            (None, Some(Subject::Image(_))) => Reason::NotOurForm,
            (None, None) => {
                unread.insert(image);
                Reason::Unread
            }
        };
        reasons.insert(tag, reason);
    }
    unread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_to_which_image_it_belongs() {
        let hex = "0123456789abcdef".repeat(4);
        for (tag, is_attached) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}.att"), true),
            (format!("sha256-{hex}.sbom"), true),
            (format!("sha256-{hex}.other"), false),
            (format!("sha256-{}", &hex[1..]), false),
            (format!("x-sha256-{hex}.sig"), false),
        ] {
            let expected = is_attached.then(|| format!("sha256:{hex}").parse().expect("a digest"));
            assert_eq!(subject(&tag), expected, "{tag}");
        }
    }
}
