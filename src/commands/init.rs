//! `git-image init`: the files of a new image project.

use std::io::{Read as _, Write};
use std::path::PathBuf;

use super::cli::{CliError, output};
use super::fly::{FlyError, VARIABLES};
use crate::clients::git::{Head, WorkingTree};
use crate::concourse::Edge;
use crate::decide::pipelines::{PipelineName, Template};
use crate::error::Error;
use crate::names::{GitUrl, ImageReference, Repository};
use crate::say::Say;

/// Writes the files of a new image project into the working tree, and says what to do next.
///
/// A Dockerfile with its image.details, a first task, the pipelines of the default branch and of other branches, and the
/// values of their variables. Nothing that is there is overwritten, and nothing is committed.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct InitArgs {
    /// Where the image goes
    #[arg(long, value_name = "REGISTRY/NAME")]
    repository: Repository,

    /// Where the image of this resource type is, as `make image PUSH=…` put it
    #[arg(long, value_name = "REGISTRY/NAME")]
    git_image: Repository,

    /// The image that yours is built on
    #[arg(long, value_name = "IMAGE", default_value = "debian:12-slim")]
    base: ImageReference,

    /// The name of the pipeline [default: the last part of the git repository's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The address of your Concourse, for the webhooks that are shown
    #[arg(long, value_name = "URL", default_value = "https://ci.example.com")]
    concourse: String,

    /// Your team there
    #[arg(long, value_name = "TEAM", default_value = "main")]
    team: String,
}

const EXAMPLES: &str = "\
Examples:
  git-image init --repository registry.example.com/acme/app-ci --git-image registry.example.com/tools/git-image
          writes ci/ into the working tree
  git-image init --repository registry.example.com/acme/app-ci --git-image registry.example.com/tools/git-image \\
      --base debian:13-slim --concourse https://ci.acme.example --team apps
          names another base, and shows the webhooks as they will be

What to do next is written to stdout, the names of the files to stderr.
Exit status: 0 done, 1 refused or failed, 2 wrong usage.";

/// What the files are made of.
struct Project<'a> {
    args: &'a InitArgs,
    uri: &'a str,
    branch: &'a str,
    pipeline: &'a PipelineName,
    webhook_token: &'a str,
}

/// Writes the files, and what to do next.
///
/// # Errors
///
/// One of them is there: then none is written.
pub async fn init(args: &InitArgs, out: &mut impl Write, edge: &Edge, say: &Say) -> Result<(), Error> {
    let tree = WorkingTree::open(edge).await?;
    let (address, password) = GitUrl::parse(&tree.remote_address().await?).map_err(FlyError::Address)?;
    password.iter().for_each(|password| say.hide(password));
    // A repository that nobody has pushed to has no default branch yet.
    let default = tree.remote_refs().await?.default_branch;
    let branch = match (default, tree.head().await?) {
        (Some(branch), _) | (None, Head::Branch(branch)) => branch,
        (None, Head::Detached) => return Err(FlyError::Detached.into()),
    };
    let named = args.name.as_deref().map_or_else(|| PipelineName::of_repository(address.repository()), str::parse);
    let pipeline = named.map_err(FlyError::Name)?;
    let webhook_token = random_token()?;
    let project = Project {
        args,
        uri: address.as_str(),
        branch: branch.as_str(),
        pipeline: &pipeline,
        webhook_token: &webhook_token,
    };

    let files: Vec<(PathBuf, String)> =
        project.files().into_iter().map(|(path, text)| (tree.root().join(path), text)).collect();
    let there: Vec<PathBuf> = files.iter().filter(|(path, _)| path.exists()).map(|(path, _)| path.clone()).collect();
    if !there.is_empty() {
        return Err(CliError::There { paths: there }.into());
    }
    for (path, text) in files {
        let failed = |source| CliError::File { what: "write", path: path.clone(), source };
        let directory = path.parent().unwrap_or(tree.root());
        std::fs::create_dir_all(directory).map_err(failed)?;
        // Not what somebody has made there meanwhile.
        let mut file = std::fs::File::create_new(&path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        say.line(format_args!("written   {}", path.display()));
    }
    Ok(output::write(out, project.next().as_bytes())?)
}

impl Project<'_> {
    /// Each file, by its path below the root of the repository.
    fn files(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ci/image/Dockerfile", self.dockerfile()),
            ("ci/image/image.details", self.details()),
            ("ci/test.yml", TASK.to_owned()),
            ("ci/pipelines/master.yml", Template::Master.text().to_owned()),
            ("ci/pipelines/feature-branch.yml", Template::FeatureBranch.text().to_owned()),
            (VARIABLES, self.variables()),
        ]
    }

    fn dockerfile(&self) -> String {
        format!(
            "# The image in which this repository's pipelines run their tasks.\n\
             # It is built anew when this file, or a file that it copies, has changed, and only then.\n\
             FROM {}\n\
             \n\
             # What the tasks need, for example:\n\
             # RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*\n\
             # COPY tool.sh /usr/local/bin/tool\n",
            self.args.base
        )
    }

    fn details(&self) -> String {
        let name = self.args.repository.name().rsplit('/').next().unwrap_or_default();
        format!(
            "# The last part of the image's repository.\n\
             NAME={name}\n\
             # With a VERSION, the image of the default branch gets it as a tag. It is never moved: another image needs another one.\n\
             # VERSION=0.1.0\n\
             # Every other key is a label of the image.\n"
        )
    }

    /// The templates' own file of variables, with the values of this project.
    fn variables(&self) -> String {
        let values = [
            ("git_uri", self.uri),
            ("branch", self.branch),
            ("image_repository", &self.args.repository.to_string()),
            ("git_image", &self.args.git_image.to_string()),
            ("webhook_token", self.webhook_token),
            ("test_file", "ci/test.yml"),
            ("pipeline", &self.pipeline.to_string()),
            ("context", "ci/image"),
            ("dockerfile", "ci/image/Dockerfile"),
            ("details", "ci/image/image.details"),
            ("master_template", "repo/ci/pipelines/master.yml"),
            ("feature_template", "repo/ci/pipelines/feature-branch.yml"),
        ];
        let line = |line: &str| {
            let name = line.split_once(':').map_or("", |(name, _)| name);
            match values.iter().find(|(known, _)| *known == name) {
                // JSON's texts are YAML's, whatever is in them.
                Some((name, value)) => format!("{name}: {}\n", serde_json::Value::from(*value)),
                None => format!("{line}\n"),
            }
        };
        include_str!("../../pipelines/variables.yml").lines().map(line).collect()
    }

    fn next(&self) -> String {
        let Self { args: InitArgs { concourse, team, .. }, pipeline, webhook_token, branch, .. } = self;
        let hook = |resource: &str| {
            format!(
                "{}/api/v1/teams/{team}/pipelines/{pipeline}/resources/{resource}/check/webhook?webhook_token={webhook_token}",
                concourse.trim_end_matches('/')
            )
        };
        format!(
            "What to do next:\n\
             \n\
             1. Look at the files, and push them to {branch}:\n\
             \n\
             \x20  git add ci && git commit --message 'ci: build an image for the pipeline' && git push\n\
             \n\
             2. Where git or the registry wants a login, write it into a file that is not committed, or give it to\n\
             \x20  Concourse's credential manager and take these names out of {VARIABLES}:\n\
             \n\
             \x20  registry_username, registry_password; git_username and git_password, or git_private_key\n\
             \n\
             3. Set the pipeline, from {branch}; later, from any branch that you have pushed:\n\
             \n\
             \x20  fly --target ci login --concourse-url {concourse} --team-name {team}\n\
             \x20  git-image set-pipeline --target ci --load-vars-from {VARIABLES} --load-vars-from FILE-WITH-THE-LOGINS\n\
             \x20  fly --target ci unpause-pipeline --pipeline {pipeline}\n\
             \n\
             4. Let the git server say at once when something was pushed. Add these two webhooks:\n\
             \n\
             \x20  {}\n\
             \x20  {}\n\
             \n\
             \x20  GitHub: Settings, Webhooks, Add webhook: Payload URL; content type application/json; just the push event,\n\
             \x20          and for the second also branch or tag creation and deletion\n\
             \x20  GitLab: Settings, Webhooks, Add new webhook: URL; trigger Push events\n",
            hook("repo"),
            hook("branches"),
        )
    }
}

const TASK: &str = "\
# What the job `test` runs, in the image of this commit. The repository is the directory `repo`.
platform: linux

inputs:
  - name: repo

run:
  path: sh
  args: [-euc, ls repo]
";

/// A text that nobody guesses.
fn random_token() -> Result<String, CliError> {
    let (mut random, path) = ([0; 16], PathBuf::from("/dev/urandom"));
    let read = std::fs::File::open(&path).and_then(|mut file| file.read_exact(&mut random));
    read.map_err(|source| CliError::File { what: "read", path, source })?;
    Ok(hex::encode(random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    #[test]
    fn every_value_of_the_project_has_its_line_among_the_variables() {
        let args = InitArgs {
            repository: "r.example.com/acme/app-ci".parse().expect("it is a repository"),
            git_image: "r.example.com/tools/git-image".parse().expect("it is a repository"),
            base: "debian:12-slim".parse().expect("it is an image"),
            name: None,
            concourse: "https://ci.example.com".to_owned(),
            team: "main".to_owned(),
        };
        let pipeline = "app".parse().expect("it is a name");
        let project = Project {
            args: &args,
            uri: "https://h/a.git",
            branch: "1.0",
            pipeline: &pipeline,
            webhook_token: "secret",
        };
        let [ours, theirs] = [project.variables(), include_str!("../../pipelines/variables.yml").to_owned()]
            .map(|text| yaml::parse(&text).expect("it is YAML"));
        let keys =
            |value: &serde_json::Value| value.as_object().expect("it is a block").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&ours), keys(&theirs));
        for (name, value) in [
            ("git_uri", "https://h/a.git"),
            ("branch", "1.0"),
            ("image_repository", "r.example.com/acme/app-ci"),
            ("git_image", "r.example.com/tools/git-image"),
            ("webhook_token", "secret"),
            ("test_file", "ci/test.yml"),
            ("pipeline", "app"),
            ("context", "ci/image"),
            ("dockerfile", "ci/image/Dockerfile"),
            ("details", "ci/image/image.details"),
            ("master_template", "repo/ci/pipelines/master.yml"),
            ("feature_template", "repo/ci/pipelines/feature-branch.yml"),
        ] {
            assert_eq!(ours[name], value, "{name}");
        }
        assert_eq!(project.next(), include_str!("../../tests/golden/init-next.txt"));
    }
}
