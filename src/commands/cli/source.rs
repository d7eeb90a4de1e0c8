//! Which image a command is about: the `source` of its resource, wherever the user has it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::variables::VariableArgs;
use super::{CliError, login};
use crate::clients::git::{WorkingTree, user_login};
use crate::concourse::Edge;
use crate::decide::pipelines::Template;
use crate::error::Error;
use crate::pipeline::{self, Variables};
use crate::request::Source;
use crate::say::Say;
use crate::yaml;

/// Which image, and who asks for it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which image")]
pub struct SourceArgs {
    /// The resource's `source`, as YAML or JSON: a file, or - for stdin
    ///
    /// Without it and --pipeline, inside a working tree: the image of the pipeline that `set-pipeline` would set for the
    /// default branch, with the variables that are given or lie in ci/variables.yml and ci/secrets.yml; where there are
    /// none, the image --repository of the remote `origin`.
    #[arg(long, value_name = "FILE", conflicts_with = "pipeline")]
    source: Option<Input>,

    /// A pipeline that has the resource, as YAML
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,

    /// The resource of that pipeline, where it has several of git-image
    #[arg(long, value_name = "NAME", requires = "pipeline")]
    resource: Option<String>,

    /// The repository of the registry, in place of the source's
    #[arg(long, value_name = "REGISTRY/NAME")]
    repository: Option<String>,

    /// Who asks the registry; its password comes from stdin
    ///
    /// Otherwise GIT_IMAGE_REGISTRY_USERNAME and GIT_IMAGE_REGISTRY_PASSWORD of the environment are taken, else those of
    /// the source, else what `docker login` left in Docker's config.json or in its credential helpers. git is asked
    /// with GIT_IMAGE_GIT_USERNAME and GIT_IMAGE_GIT_PASSWORD, or the key in GIT_IMAGE_GIT_PRIVATE_KEY, else as the
    /// source says, else with what your git's credential helpers keep, or your ssh keys.
    #[arg(long, value_name = "USER", requires = "password_stdin")]
    username: Option<String>,

    /// Read the password of --username from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,

    #[command(flatten)]
    variables: VariableArgs,
}

/// Where a text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `-`.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl FromStr for Input {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdin } else { Self::File(text.into()) })
    }
}

/// The keys of `git` and `registry` that may have no value here: it is the credential manager's, and ours to find.
const LOGINS: [&str; 5] = ["username", "password", "private_key", "private_key_user", "private_key_passphrase"];

impl SourceArgs {
    /// Reads the source, and finds who asks.
    ///
    /// # Errors
    ///
    /// It cannot be read or is none, a variable has no value, or a credential helper fails.
    pub async fn read(&self, stdin: &mut impl Read, edge: &Edge, say: &Say) -> Result<Source, Error> {
        let (found, variables) = self.find(stdin, edge).await?;
        let mut source = variables.fill(found);
        if let Some(repository) = &self.repository {
            set(&mut source, "registry", "repository", repository);
        }
        for block in ["git", "registry"] {
            source.get_mut(block).into_iter().for_each(forget_unfilled_logins);
        }
        let unfilled: Vec<String> = pipeline::names(&source).into_iter().collect();
        if !unfilled.is_empty() {
            return Err(CliError::Unfilled { names: unfilled }.into());
        }
        // After that: a password may look like a variable.
        for (block, names) in
            [("git", ["GIT_IMAGE_GIT_USERNAME", "GIT_IMAGE_GIT_PASSWORD"]), ("registry", login::VARIABLES)]
        {
            if let Some([username, password]) = login::both(names, edge)? {
                set(&mut source, block, "username", &username);
                set(&mut source, block, "password", &password);
            }
        }
        if let Some(key) = edge.variable("GIT_IMAGE_GIT_PRIVATE_KEY").filter(|key| !key.is_empty()) {
            set(&mut source, "git", "private_key", &key);
        }
        if let Some(username) = &self.username {
            set(&mut source, "registry", "username", username);
            set(&mut source, "registry", "password", &login::password(stdin)?);
        }
        let mut source = Source::from_value(source)?;
        for secret in source.secrets() {
            say.hide(secret);
        }
        if source.git.credentials.is_none() {
            source.git.credentials = user_login::ask(&source.git.uri, edge).await;
            source.git.credentials.iter().for_each(|login| say.hide(&login.password));
        }
        if source.registry.credentials.is_none() {
            source.registry.credentials = login::of_docker(&source.registry.repository.host(), edge).await?;
            source.registry.credentials.iter().for_each(|login| say.hide(&login.password));
        }
        Ok(source)
    }

    /// The source as the user has it, and values for its variables.
    async fn find(&self, stdin: &mut impl Read, edge: &Edge) -> Result<(Value, Variables), Error> {
        if let Some(path) = &self.pipeline {
            let (text, variables) = (read_file(path)?, self.variables.read()?);
            return Ok((self.of_pipeline(&text, &path.display().to_string(), &variables)?, variables));
        }
        let (what, text) = match &self.source {
            Some(Input::Stdin) if self.password_stdin => return Err(CliError::StdinTwice.into()),
            Some(Input::Stdin) => {
                let mut text = String::new();
                stdin.read_to_string(&mut text).map_err(CliError::Stdin)?;
                ("stdin".to_owned(), text)
            }
            Some(Input::File(path)) => (path.display().to_string(), read_file(path)?),
            None => return self.of_working_tree(edge).await,
        };
        let value = yaml::parse(&text).map_err(|source| CliError::NotYaml { what, source })?;
        Ok((value, self.variables.read()?))
    }

    fn of_pipeline(&self, text: &str, what: &str, variables: &Variables) -> Result<Value, CliError> {
        let what = || what.to_owned();
        let value = yaml::parse(text).map_err(|source| CliError::NotYaml { what: what(), source })?;
        let value = variables.fill(value);
        pipeline::source(&value, self.resource.as_deref()).map_err(|source| CliError::Pipeline { what: what(), source })
    }

    /// The image of the pipeline whose variables lie in the working tree, or are given; without any, the repository that
    /// the working tree is a clone of, with the settings that need not be given.
    async fn of_working_tree(&self, edge: &Edge) -> Result<(Value, Variables), Error> {
        let tree = match WorkingTree::open(edge).await {
            Err(_) if self.repository.is_none() => return Err(CliError::NoSource.into()),
            tree => tree?,
        };
        let given = self.variables.or_of(tree.root());
        let variables = given.read()?;
        if !given.is_empty() {
            let template = Template::Master;
            let source = match template.own(&variables, tree.root()) {
                Some(path) => self.of_pipeline(&read_file(&path)?, &path.display().to_string(), &variables)?,
                None => self.of_pipeline(template.text(), template.file_name(), &variables)?,
            };
            return Ok((source, variables));
        }
        if self.repository.is_none() {
            return Err(CliError::NoSource.into());
        }
        Ok((json!({"git": {"uri": tree.remote_address().await?}, "registry": {}}), variables))
    }
}

fn read_file(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::File { what: "read", path: path.to_owned(), source })
}

/// Sets a key of a block. What is no block is left for the check of the whole, which says so.
fn set(source: &mut Value, block: &str, key: &str, value: &str) {
    let Value::Object(source) = source else { return };
    let block = source.entry(block).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(block) = block {
        block.insert(key.to_owned(), Value::String(value.to_owned()));
    }
}

/// A login of which a part has no value here is none.
fn forget_unfilled_logins(block: &mut Value) {
    let Value::Object(block) = block else { return };
    let unfilled = LOGINS.iter().any(|key| block.get(*key).is_some_and(|value| !pipeline::names(value).is_empty()));
    if unfilled {
        for key in LOGINS {
            block.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_only_the_credential_manager_has_is_forgotten_whole() {
        let mut block = json!({"repository": "r", "username": "ci", "password": "((registry.password))"});
        forget_unfilled_logins(&mut block);
        assert_eq!(block, json!({"repository": "r"}));
        let mut whole = json!({"repository": "r", "username": "ci", "password": "p"});
        forget_unfilled_logins(&mut whole);
        assert_eq!(whole, json!({"repository": "r", "username": "ci", "password": "p"}));
    }
}
