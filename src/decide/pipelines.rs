//! Which pipeline a branch has: its name, its template, and whether it may be set.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::names::{BadName, Branch, CommitId, GitRepository};
use crate::pipeline::Variables;

/// The name of a pipeline: an identifier of Concourse.
///
/// Fact: concourse, `atc/configwarning.go`, `ValidateIdentifier`: a lower-case letter (or one without case) or a digit
/// first, then also `-`, `_` and `.`, and not digits alone. Concourse 8 warns of other names and says that it will
/// refuse them; `/` it refuses already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineName(String);

impl fmt::Display for PipelineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PipelineName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let refuse = |why: String| Err(BadName { what: "pipeline", text: text.to_owned(), why });
        let is_letter = |c: char| (c.is_alphabetic() && !c.is_uppercase()) || c.is_ascii_digit();
        let Some(first) = text.chars().next() else { return refuse("is empty".to_owned()) };
        if !is_letter(first) {
            return refuse(format!("begins with {first:?}; it must begin with a lower-case letter or a digit"));
        }
        if let Some(c) = text.chars().find(|&c| !is_letter(c) && !"-_.".contains(c)) {
            return refuse(format!("has {c:?}; Concourse takes lower-case letters, digits, '-', '_' and '.'"));
        }
        if text.chars().all(|c| c.is_ascii_digit()) {
            return refuse("has only digits".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl PipelineName {
    /// The name that a repository's pipelines have when nobody says another: the last part of its name.
    ///
    /// # Errors
    ///
    /// No pipeline can have it.
    pub fn of_repository(repository: &GitRepository) -> Result<Self, BadName> {
        repository.as_str().rsplit('/').next().unwrap_or_default().to_lowercase().parse()
    }
}

/// The template of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// For the default branch: releases and the reaper too.
    Master,
    /// For every other branch.
    FeatureBranch,
}

impl Template {
    /// The name of its file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Master => "master.yml",
            Self::FeatureBranch => "feature-branch.yml",
        }
    }

    /// The template itself.
    pub fn text(self) -> &'static str {
        match self {
            Self::Master => include_str!("../../pipelines/master.yml"),
            Self::FeatureBranch => include_str!("../../pipelines/feature-branch.yml"),
        }
    }

    /// The template of the user's own that the variables name: `repo/…`, below the root of the repository.
    pub fn own(self, variables: &Variables, root: &Path) -> Option<PathBuf> {
        let name = match self {
            Self::Master => "master_template",
            Self::FeatureBranch => "feature_template",
        };
        Some(root.join(variables.get(name)?.as_str()?.strip_prefix("repo/")?))
    }
}

/// The pipeline of a branch.
///
/// The default branch has the pipeline `name`, every other one the instance `name/branch:"…"`, as `branches.yml` sets
/// it: the value of an instance variable may be any text, so no two branches share a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// The name, which all instances share.
    pub name: PipelineName,
    /// The branch.
    pub branch: Branch,
    /// What it is made of; it is an instance exactly when this is [`Template::FeatureBranch`].
    pub template: Template,
}

impl Pipeline {
    /// The pipeline of a branch.
    pub fn of_branch(name: PipelineName, branch: Branch, default_branch: &Branch) -> Self {
        let template = if branch == *default_branch { Template::Master } else { Template::FeatureBranch };
        Self { name, branch, template }
    }

    /// The branch as a value that YAML keeps a text: `branch="1.0"`.
    pub fn branch_setting(&self) -> String {
        format!("branch={}", quoted(&self.branch))
    }
}

impl fmt::Display for Pipeline {
    /// As fly takes it: `app`, or `app/branch:"feat/foo"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.template {
            Template::Master => write!(f, "{}", self.name),
            Template::FeatureBranch => write!(f, "{}/branch:{}", self.name, quoted(&self.branch)),
        }
    }
}

fn quoted(branch: &Branch) -> String {
    serde_json::Value::from(branch.as_str()).to_string()
}

/// Why no pipeline is set for a branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPushed {
    /// The remote does not have the branch.
    #[error("the remote has no branch {branch}")]
    Missing {
        /// The branch.
        branch: Branch,
    },
    /// The remote has another commit.
    #[error("branch {branch} is at {} here, and at {} on the remote", local.short(), remote.short())]
    Differs {
        /// The branch.
        branch: Branch,
        /// The commit here.
        local: CommitId,
        /// The commit there.
        remote: CommitId,
    },
}

impl NotPushed {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { branch } => format!("push it first: git push --set-upstream origin {branch}"),
            Self::Differs { .. } => {
                "push it, or pull what others have pushed: the pipeline sees only the remote".to_owned()
            }
        }
    }
}

/// Whether what the pipeline will see is what the user has. `local` is `None` for a branch that is only on the remote.
///
/// # Errors
///
/// It is not.
pub fn is_pushed(branch: &Branch, local: Option<CommitId>, remote: Option<CommitId>) -> Result<CommitId, NotPushed> {
    let Some(remote) = remote else { return Err(NotPushed::Missing { branch: branch.clone() }) };
    match local {
        Some(local) if local != remote => Err(NotPushed::Differs { branch: branch.clone(), local, remote }),
        Some(_) | None => Ok(remote),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(name: &str) -> Branch {
        name.parse().expect("it is a branch")
    }

    #[test]
    fn a_name_that_no_pipeline_can_have_is_refused() {
        for (text, message) in [
            ("app", None),
            ("app-2_x.y", None),
            ("2app", None),
            ("größe", None),
            ("", Some("pipeline \"\" is empty")),
            ("42", Some("pipeline \"42\" has only digits")),
            ("-app", Some("pipeline \"-app\" begins with '-'; it must begin with a lower-case letter or a digit")),
            ("App", Some("pipeline \"App\" begins with 'A'; it must begin with a lower-case letter or a digit")),
            (
                "team/app",
                Some("pipeline \"team/app\" has '/'; Concourse takes lower-case letters, digits, '-', '_' and '.'"),
            ),
            (
                "my app",
                Some("pipeline \"my app\" has ' '; Concourse takes lower-case letters, digits, '-', '_' and '.'"),
            ),
        ] {
            let found = text.parse::<PipelineName>().map(drop).map_err(|error| error.to_string());
            assert_eq!(found.err().as_deref(), message, "{text:?}");
        }
    }

    #[test]
    fn the_default_branch_has_the_pipeline_and_every_other_an_instance() {
        let name: PipelineName = "app".parse().expect("it is a name");
        for (name_of_branch, shown, setting, template) in [
            ("master", "app", "branch=\"master\"", Template::Master),
            ("feature/Foo_1", "app/branch:\"feature/Foo_1\"", "branch=\"feature/Foo_1\"", Template::FeatureBranch),
            ("1.0", "app/branch:\"1.0\"", "branch=\"1.0\"", Template::FeatureBranch),
            ("a,b\"c", "app/branch:\"a,b\\\"c\"", "branch=\"a,b\\\"c\"", Template::FeatureBranch),
        ] {
            let pipeline = Pipeline::of_branch(name.clone(), branch(name_of_branch), &branch("master"));
            assert_eq!(
                (pipeline.to_string().as_str(), pipeline.branch_setting().as_str(), pipeline.template),
                (shown, setting, template)
            );
        }
    }

    #[test]
    fn a_pipeline_is_set_only_for_what_the_remote_has() {
        let [one, two] = [1, 2].map(|byte| CommitId::from_bytes([byte; 20]));
        let pushed = |local, remote| is_pushed(&branch("b"), local, remote).map_err(|error| error.to_string());
        assert_eq!(pushed(Some(one), Some(one)), Ok(one));
        assert_eq!(pushed(None, Some(one)), Ok(one));
        assert_eq!(pushed(Some(one), None), Err("the remote has no branch b".to_owned()));
        assert_eq!(
            pushed(Some(one), Some(two)),
            Err("branch b is at 0101010 here, and at 0202020 on the remote".to_owned())
        );
    }
}
