//! What there is to say of each branch: its pipeline, its tag, its image, and what the reaper does with it.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::names::InputsId;
use crate::say::size;

/// How the image that a branch's tag points to stands to the branch's newest commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is made of what the commit has.
    UpToDate,
    /// It is made of something else: the newest put failed, or has not come yet.
    Outdated,
    /// The tag is not there.
    NotBuilt,
    /// The tag points to an image of another git repository, or to one without our labels.
    Foreign,
    /// The commit has no image: no Dockerfile, or one that cannot be read.
    NoImage,
    /// The branch is gone, and its tag is not.
    Gone,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UpToDate => "up to date",
            Self::Outdated => "outdated",
            Self::NotBuilt => "not built",
            Self::Foreign => "not ours",
            Self::NoImage => "no image",
            Self::Gone => "branch gone",
        })
    }
}

/// What the branch's tag points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latest {
    /// Nothing.
    Missing,
    /// An image with these inputs.
    Ours(InputsId),
    /// Something else.
    Theirs,
}

/// How they stand. `tip` is what the image of the branch's newest commit is made of, when it can have one.
pub fn state(latest: Latest, tip: Option<InputsId>) -> State {
    match (latest, tip) {
        (Latest::Theirs, _) => State::Foreign,
        (Latest::Missing | Latest::Ours(_), None) => State::NoImage,
        (Latest::Missing, Some(_)) => State::NotBuilt,
        (Latest::Ours(built), Some(tip)) if built == tip => State::UpToDate,
        (Latest::Ours(_), Some(_)) => State::Outdated,
    }
}

/// One branch, or one branch's tag whose branch is gone.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The branch; `None`: it is gone.
    pub branch: Option<String>,
    /// Its newest commit.
    pub commit: Option<String>,
    /// Its pipeline, as fly takes it.
    pub pipeline: Option<String>,
    /// Its tag, there or not.
    pub tag: String,
    /// How the image stands to the branch.
    pub state: State,
    /// The digest of the image.
    pub digest: Option<String>,
    /// VERSION of the image.
    pub version: Option<String>,
    /// The compressed size of the image.
    pub size_bytes: Option<u64>,
    /// When the commit was made that the image was first built from.
    pub created: Option<Timestamp>,
    /// What the reaper does with the tag, in its own word; `None`: there is no tag.
    pub verdict: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// The rows as a table for people.
pub struct Table<'a> {
    /// The rows.
    pub rows: &'a [Row],
    /// What ages are measured against.
    pub now: Timestamp,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = ["BRANCH", "PIPELINE", "TAG", "IMAGE", "VERSION", "SIZE", "AGE", "REAPER"].map(str::to_owned);
        let rows: Vec<[String; 8]> =
            std::iter::once(heading).chain(self.rows.iter().map(|row| self.cells(row))).collect();
        let mut widths = [0; 8];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

impl Table<'_> {
    fn cells(&self, row: &Row) -> [String; 8] {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let reaper = match (&row.verdict, &row.reason) {
            (Some(verdict), Some(reason)) => format!("{verdict}: {reason}"),
            (verdict, _) => or_none(verdict),
        };
        [
            or_none(&row.branch),
            or_none(&row.pipeline),
            row.tag.clone(),
            row.state.to_string(),
            or_none(&row.version),
            or_none(&row.size_bytes.map(size)),
            or_none(&row.created.map(|created| age(created, self.now))),
            reaper,
        ]
    }
}

/// How long ago, in the largest unit that it has at least two of; `now` for less.
fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second());
    let units = [(365 * 86_400, "years"), (7 * 86_400, "weeks"), (86_400, "days"), (3_600, "hours"), (60, "minutes")];
    match units.into_iter().find(|(length, _)| 2 * length <= seconds) {
        Some((length, unit)) => format!("{} {unit}", seconds / length),
        None => "now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_told_by_what_tag_and_tip_are_made_of() {
        let [one, two] = [1, 2].map(|byte| InputsId::from_bytes([byte; 32]));
        for (latest, tip, expected) in [
            (Latest::Ours(one), Some(one), State::UpToDate),
            (Latest::Ours(one), Some(two), State::Outdated),
            (Latest::Missing, Some(one), State::NotBuilt),
            (Latest::Missing, None, State::NoImage),
            (Latest::Ours(one), None, State::NoImage),
            (Latest::Theirs, Some(one), State::Foreign),
        ] {
            assert_eq!(state(latest, tip), expected, "{latest:?} {tip:?}");
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_branch() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("it is a time");
        let row = Row {
            branch: Some("master".to_owned()),
            commit: Some("c".repeat(40)),
            pipeline: Some("app".to_owned()),
            tag: "master-latest".to_owned(),
            state: State::UpToDate,
            digest: Some(format!("sha256:{}", "d".repeat(64))),
            version: Some("1.4.2".to_owned()),
            size_bytes: Some(51_200_000),
            created: Some("2026-11-18T11:00:00Z".parse().expect("it is a time")),
            verdict: Some("keep".to_owned()),
            reason: Some("branch master is there".to_owned()),
        };
        let nothing = Row {
            branch: Some("feat/foo".to_owned()),
            pipeline: Some("app/branch:\"feat/foo\"".to_owned()),
            tag: "feat-foo-d8e70cfd-latest".to_owned(),
            state: State::NotBuilt,
            digest: None,
            version: None,
            size_bytes: None,
            created: None,
            verdict: None,
            reason: None,
            ..row.clone()
        };
        let gone = Row { branch: None, commit: None, pipeline: None, state: State::Gone, ..row.clone() };
        let table = Table { rows: &[row, nothing, gone], now }.to_string();
        assert_eq!(table, include_str!("../../tests/golden/branches.txt"));
    }

    #[test]
    fn an_age_is_in_the_largest_unit_of_which_there_are_two() {
        let now = Timestamp::from_second(1_000_000_000).expect("it is a time");
        for (seconds, text) in [
            (-5, "now"),
            (119, "now"),
            (120, "2 minutes"),
            (7_199, "119 minutes"),
            (7_200, "2 hours"),
            (3 * 86_400, "3 days"),
            (14 * 86_400, "2 weeks"),
            (800 * 86_400, "2 years"),
        ] {
            let then = Timestamp::from_second(1_000_000_000 - seconds).expect("it is a time");
            assert_eq!(age(then, now), text, "{seconds}");
        }
    }
}
