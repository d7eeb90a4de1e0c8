//! Releases, and the tags that stand for the newest of a line: `1.2`, `1` and `latest`.

use std::fmt;
use std::str::FromStr;

use crate::names::{BadName, Branch};

/// A version that is released: `X.Y.Z`, perhaps with a pre-release such as `-rc.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release(semver::Version);

impl Release {
    /// Whether it comes before a release, such as `1.2.3-rc.1`: no alias stands for it.
    pub fn is_pre_release(&self) -> bool {
        !self.0.pre.is_empty()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Release {
    type Err = BadName;

    /// Reads `X.Y.Z` or `vX.Y.Z`. The `v` is dropped, as the registry-image resource does: it is rarely meant in a tag.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = |why: String| BadName { what: "version", text: text.to_owned(), why };
        let version: semver::Version = text
            .strip_prefix('v')
            .unwrap_or(text)
            .parse()
            .map_err(|error| bad(format!("is not X.Y.Z, as semantic versions are: {error}")))?;
        if version.build.is_empty() {
            Ok(Self(version))
        } else {
            Err(bad("has build metadata behind '+', which no tag may have".to_owned()))
        }
    }
}

/// A tag that stands for the newest release of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The tag, without prefix.
    pub name: String,
    /// The newest release of its line, when that is not the one asked about: its tag, without prefix.
    pub newer: Option<String>,
}

/// The tag of a version: with a variant, that stands behind it.
pub fn version_name(version: &str, variant: Option<&str>) -> String {
    match variant {
        Some(variant) => format!("{version}-{variant}"),
        None => version.to_owned(),
    }
}

/// The aliases of a release, from the smallest line to the largest, and whether a newer release of the same variant has
/// the better claim. `names` are the tags that there are, without prefix; what is no release says nothing.
///
/// Fact: registry-image resource, `aliasesToBump` in commands/out.go.
pub fn aliases<'a>(release: &Release, variant: Option<&str>, names: impl IntoIterator<Item = &'a str>) -> [Alias; 3] {
    let ours = &release.0;
    let mut there: Vec<(semver::Version, &str)> =
        names.into_iter().filter_map(|name| Some((released(name, variant)?, name))).collect();
    // The longest name of one version is the last: an alias is not shown where its release is there too.
    there.sort_by(|(one, name), (other, longer)| one.cmp(other).then(name.len().cmp(&longer.len())));
    let newest = |in_line: &dyn Fn(&semver::Version) -> bool| {
        let newest = there.iter().rev().find(|(version, _)| in_line(version));
        newest.filter(|(version, _)| ours < version).map(|(_, name)| (*name).to_owned())
    };
    let semver::Version { major, minor, .. } = *ours;
    [
        Alias {
            name: version_name(&format!("{major}.{minor}"), variant),
            newer: newest(&|version| (version.major, version.minor) == (major, minor)),
        },
        Alias { name: version_name(&major.to_string(), variant), newer: newest(&|version| version.major == major) },
        Alias { name: variant.unwrap_or("latest").to_owned(), newer: newest(&|_| true) },
    ]
}

/// The version of a tag that stands for a release of this variant. `1.2` counts as `1.2.0`: if it is the only tag, the
/// release that it stands for is one of that line.
fn released(name: &str, variant: Option<&str>) -> Option<semver::Version> {
    let name = match variant {
        Some(variant) => name.strip_suffix(variant)?.strip_suffix('-')?,
        None => name,
    };
    let name = name.strip_prefix('v').unwrap_or(name);
    let is_short = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let missing = if is_short { 2_usize.checked_sub(name.matches('.').count())? } else { 0 };
    let version: semver::Version = format!("{name}{}", ".0".repeat(missing)).parse().ok()?;
    (version.pre.is_empty() && version.build.is_empty()).then_some(version)
}

/// Whether a tag, without prefix, has the name of a release or of an alias of one.
pub fn is_release_name(name: &str) -> bool {
    let is_alias = |name: &str| {
        let parts: Vec<&str> = name.split('.').collect();
        // A longer number is a time or a build.
        let is_number = |part: &&str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        parts.len() <= 2 && parts.iter().all(is_number)
    };
    name == "latest" || name.parse::<Release>().is_ok() || is_alias(name.strip_prefix('v').unwrap_or(name))
}

/// Whether releases are made of a branch: one of these names it. `*` stands for any characters.
pub fn is_release_branch(patterns: &[String], branch: &Branch) -> bool {
    patterns.iter().any(|pattern| matches(pattern, branch.as_str()))
}

/// Whether a pattern names this text; `*` stands for any characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(left) = name.strip_prefix(start) else { return false };
    // Each further piece as early as possible; the last one must be the end.
    let mut left = left;
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decided(release: &str, variant: Option<&str>, tags: &str) -> String {
        let release = release.parse().expect("it is a version");
        let line = |alias: Alias| match alias.newer {
            Some(newer) => format!("{} < {newer}", alias.name),
            None => alias.name,
        };
        aliases(&release, variant, tags.split_whitespace()).map(line).join(", ")
    }

    #[test]
    fn an_alias_moves_to_the_newest_release_of_its_line_and_to_no_older_one() {
        let foo = Some("foo");
        for (release, variant, tags, expected) in [
            ("1.2.3", None, "", "1.2, 1, latest"),
            ("1.2.3", None, "1.2.3 1.2 1 latest", "1.2, 1, latest"),
            ("v1.2.3", None, "1.2.2 1.1.9 0.9.0", "1.2, 1, latest"),
            ("1.2.3", None, "1.2.4", "1.2 < 1.2.4, 1 < 1.2.4, latest < 1.2.4"),
            ("1.2.3", None, "1.3.0 1.2.9 2.0.0", "1.2 < 1.2.9, 1 < 1.3.0, latest < 2.0.0"),
            ("1.2.3", None, "1.3.0", "1.2, 1 < 1.3.0, latest < 1.3.0"),
            ("1.2.3", None, "2.0.0", "1.2, 1, latest < 2.0.0"),
            ("1.2.10", None, "1.2.9", "1.2, 1, latest"),
            ("1.2.3", None, "v1.2.4", "1.2 < v1.2.4, 1 < v1.2.4, latest < v1.2.4"),
            ("1.2.3", None, "2 1.3", "1.2, 1 < 1.3, latest < 2"),
            ("1.2.3", None, "2 2.0 2.0.0", "1.2, 1, latest < 2.0.0"),
            (
                "1.2.3",
                None,
                "1.2.4-rc.1 2.0.0-foo 1.2.4+x x1.2.4 01.2.4 1.2.3.4 latest master-latest",
                "1.2, 1, latest",
            ),
            ("1.2.3", foo, "2.0.0 1.2.4 foo", "1.2-foo, 1-foo, foo"),
            ("1.2.3", foo, "1.2.4-foo", "1.2-foo < 1.2.4-foo, 1-foo < 1.2.4-foo, foo < 1.2.4-foo"),
            ("1.2.3", foo, "1.2.4-rc.1-foo 1.2.4-xfoo 1.2.4-foo-bar 2-foo", "1.2-foo, 1-foo, foo < 2-foo"),
        ] {
            assert_eq!(decided(release, variant, tags), expected, "{release} {variant:?} {tags}");
        }
    }

    #[test]
    fn a_version_is_x_y_z() {
        for (text, expected) in [
            ("1.2.3", "1.2.3"),
            ("v1.2.3", "1.2.3"),
            ("1.2.3-rc.1", "1.2.3-rc.1"),
            (
                "1.2",
                "version \"1.2\" is not X.Y.Z, as semantic versions are: unexpected end of input while parsing minor version number",
            ),
            (
                "latest",
                "version \"latest\" is not X.Y.Z, as semantic versions are: unexpected character 'l' while parsing major version number",
            ),
            ("1.2.3+b", "version \"1.2.3+b\" has build metadata behind '+', which no tag may have"),
        ] {
            let found = text.parse::<Release>().map_or_else(|error| error.to_string(), |release| release.to_string());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_pattern_names_branches() {
        for (pattern, branch, expected) in [
            ("main", "main", true),
            ("main", "mainline", false),
            ("release/*", "release/1.2", true),
            ("release/*", "release", false),
            ("*", "a/b", true),
            ("*.x", "1.x", true),
            ("*.x", "1.x.y", false),
            ("v*-*-lts", "v1-a-b-lts", true),
            ("v*-*-lts", "v1-lts", false),
            ("a*a", "a", false),
        ] {
            let branch = branch.parse().expect("it is a branch");
            assert_eq!(is_release_branch(&[pattern.to_owned()], &branch), expected, "{pattern} {branch}");
        }
    }

    proptest! {
        /// Whatever the order in which releases are put, each alias is at the newest of its line in the end.
        #[test]
        fn aliases_end_at_the_newest_release_in_any_order(
            releases in proptest::collection::vec((0..3_u64, 0..3_u64, 0..3_u64), 1..12),
            variant in proptest::option::of(Just("foo")),
        ) {
            let mut tags: std::collections::BTreeMap<String, (u64, u64, u64)> = Default::default();
            for release in &releases {
                let (major, minor, patch) = *release;
                let text = format!("{major}.{minor}.{patch}");
                tags.insert(version_name(&text, variant), *release);
                let names: Vec<String> = tags.keys().cloned().collect();
                let release_: Release = text.parse().expect("it is a version");
                for alias in aliases(&release_, variant, names.iter().map(String::as_str)) {
                    match alias.newer {
                        None => drop(tags.insert(alias.name, *release)),
                        Some(newer) => prop_assert!(*release < tags[&newer]),
                    }
                }
            }
            for &(major, minor, _) in &releases {
                let newest = |in_line: &dyn Fn(&(u64, u64, u64)) -> bool| releases.iter().copied().filter(in_line).max();
                let at = |name: &str| tags.get(name).copied();
                prop_assert_eq!(at(&version_name(&format!("{major}.{minor}"), variant)), newest(&|r| (r.0, r.1) == (major, minor)));
                prop_assert_eq!(at(&version_name(&major.to_string(), variant)), newest(&|r| r.0 == major));
                prop_assert_eq!(at(variant.unwrap_or("latest")), newest(&|_| true));
            }
        }

        #[test]
        fn no_tag_makes_the_reader_panic(name in ".*", variant in proptest::option::of("[a-z0-9.-]{1,5}")) {
            released(&name, variant.as_deref());
        }
    }
}
