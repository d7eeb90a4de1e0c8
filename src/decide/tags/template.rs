//! The tags that users ask for.

use std::collections::BTreeMap;

use super::{OurTag, classify, slug};
use crate::concourse::Version;
use crate::names::{BadName, Branch, CommitId, Tag};

/// What the placeholders of a tag stand for.
#[derive(Debug, Clone, Copy)]
pub struct TagValues<'a> {
    /// The version that is put: `{ref}` is its commit.
    pub version: &'a Version,
    /// The commit of the checkout: `{commit}`, and `{short}` for its first 7 digits.
    pub commit: CommitId,
    /// The branch: `{branch}` is its slug.
    pub branch: &'a Branch,
    /// `params.version`, or `VERSION` of `image.details`: `{version}`.
    pub given_version: Option<&'a str>,
    /// Concourse's `BUILD_*`: `$BUILD_ID` or `${BUILD_ID}`.
    pub build: &'a BTreeMap<String, String>,
}

/// Why a text of `tags` is no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// A placeholder that there is not.
    #[error("the tag {template:?} has the unknown placeholder {placeholder}")]
    Unknown {
        /// The text.
        template: String,
        /// The placeholder, with its braces or dollar.
        placeholder: String,
        /// The variables of the build that are known.
        build: Vec<String>,
    },
    /// A brace is not closed, or one closes that was not opened.
    #[error("the tag {template:?} has a brace without its other half")]
    Brace {
        /// The text.
        template: String,
    },
    /// `{version}`, and there is no `VERSION`.
    #[error("the tag {template:?} needs a version, and there is none")]
    NoVersion {
        /// The text.
        template: String,
    },
    /// What came out is no tag.
    #[error("{}", if why.text == *template { why.to_string() } else { format!("the tag {template:?} becomes {why}") })]
    NoTag {
        /// The text.
        template: String,
        /// What came out, and why it is no tag.
        why: BadName,
    },
    /// What came out has a form that this resource keeps for itself.
    #[error("the tag {tag} has a form that only this resource writes")]
    Ours {
        /// The tag.
        tag: Tag,
    },
}

impl TagError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { build, .. } => {
                let mut known: Vec<String> =
                    ["{ref}", "{commit}", "{short}", "{branch}", "{version}"].map(str::to_owned).to_vec();
                known.extend(build.iter().map(|name| format!("${name}")));
                Some(format!("known are {}", known.join(", ")))
            }
            Self::Brace { .. } => {
                Some("placeholders are written {branch} or ${BUILD_ID}; a tag itself has no braces".to_owned())
            }
            Self::NoVersion { .. } => {
                Some("give `params.version`, or VERSION in the file that `source.build.details` names".to_owned())
            }
            Self::NoTag { .. } => None,
            Self::Ours { .. } => Some(
                "give another name: `inputs-<64 hex>`, `<40 hex>`, `…-latest`, `cache-<8 hex>-…` and `_reaper…` are set by the resource itself"
                    .to_owned(),
            ),
        }
    }
}

/// The tag that a text of `tags` stands for, with the prefix before it.
///
/// # Errors
///
/// An unknown placeholder, or what comes out is no tag or has one of our forms.
pub fn user_tag(prefix: &str, template: &str, values: &TagValues<'_>) -> Result<Tag, TagError> {
    let name = fill(template, values)?;
    let no_tag = |why| TagError::NoTag { template: template.to_owned(), why };
    // By itself first: behind a prefix, an empty text would be a tag too.
    let bare: Tag = name.parse().map_err(no_tag)?;
    let tag: Tag = format!("{prefix}{bare}").parse().map_err(no_tag)?;
    if classify("", &bare) == OurTag::Foreign { Ok(tag) } else { Err(TagError::Ours { tag }) }
}

/// A text with Concourse's `$BUILD_*` and `${BUILD_*}` filled in. One that this build does not have, as a one-off build has
/// no job, becomes empty; everything else stays as it is.
pub fn expand_build_variables(text: &str, build: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let braced = rest.starts_with("${");
        let start = if braced { 2 } else { 1 };
        let name = &rest[start..];
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len());
        let closed = !braced || name[end..].starts_with('}');
        if closed && name[..end].starts_with("BUILD_") {
            expanded.push_str(build.get(&name[..end]).map_or("", String::as_str));
            rest = &name[end + usize::from(braced)..];
        } else {
            expanded.push('$');
            rest = &rest[1..];
        }
    }
    expanded + rest
}

fn fill(template: &str, values: &TagValues<'_>) -> Result<String, TagError> {
    let brace = || TagError::Brace { template: template.to_owned() };
    let mut filled = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}', '$']) {
        filled.push_str(&rest[..at]);
        let found = &rest[at..];
        let (placeholder, after) = if found.starts_with('}') {
            return Err(brace());
        } else if found.starts_with('{') || found.starts_with("${") {
            found.split_at(found.find('}').ok_or_else(brace)? + 1)
        } else {
            let end = found[1..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            found.split_at(end.map_or(found.len(), |end| end + 1))
        };
        filled.push_str(&value(template, placeholder, values)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn value(template: &str, placeholder: &str, values: &TagValues<'_>) -> Result<String, TagError> {
    let TagValues { version, commit, branch, given_version, build } = values;
    let known = match placeholder {
        "{ref}" => Some(version.commit.to_string()),
        "{commit}" => Some(commit.to_string()),
        "{short}" => Some(commit.short()),
        "{branch}" => Some(slug(branch)),
        "{version}" => match given_version {
            Some(version) => Some(version.to_string()),
            None => return Err(TagError::NoVersion { template: template.to_owned() }),
        },
        _ => placeholder
            .strip_prefix('$')
            .map(|name| name.trim_start_matches('{').trim_end_matches('}'))
            .filter(|name| name.starts_with("BUILD_"))
            .and_then(|name| build.get(name).cloned()),
    };
    known.ok_or_else(|| TagError::Unknown {
        template: template.to_owned(),
        placeholder: placeholder.to_owned(),
        build: build.keys().filter(|name| name.starts_with("BUILD_")).cloned().collect(),
    })
}
