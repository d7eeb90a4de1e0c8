//! `git-image init`: the files of a new image project.

use std::io::{Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::cli::{CliError, output};
use super::fly::{FlyError, SECRETS, VARIABLES};
use crate::clients::git::{Head, WorkingTree};
use crate::concourse::Edge;
use crate::decide::pipelines::{PipelineName, Template};
use crate::error::Error;
use crate::names::{GitUrl, ImageReference, Repository};
use crate::say::Say;

/// Writes the files of a new image project into the working tree, and says what to do next.
///
/// A Dockerfile with its image.details, a first task, the pipelines of the default branch and of other branches, and the
/// values of their variables: ci/variables.yml, and ci/secrets.yml, which git ignores. Nothing that is there is overwritten,
/// and nothing is committed.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct InitArgs {
    /// Where the image goes
    #[arg(long, value_name = "REGISTRY/NAME")]
    repository: Repository,

    /// Where the image of this resource type is, as `make image PUSH=…` put it
    #[arg(long, value_name = "REGISTRY/NAME")]
    git_image: Repository,

    /// The engine that builds: the address of a BuildKit daemon or Docker engine, such as tcp://builder.example.com:1234
    ///
    /// Without it, images are built inside the container of the step, which needs workers that allow `privileged`.
    #[arg(long, value_name = "ADDRESS")]
    engine_host: Option<String>,

    /// The registry speaks plain http
    #[arg(long)]
    insecure: bool,

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
      --engine-host tcp://builder.example.com:1234 --base debian:13-slim --concourse https://ci.acme.example --team apps
          names the engine and another base, and shows the webhooks as they will be

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

    let mut files = project.files();
    if !tree.ignores(SECRETS).await? {
        let ignore = tree.root().join(IGNORE);
        if ignore.exists() {
            return Err(CliError::NotIgnored { path: tree.root().join(SECRETS), ignore }.into());
        }
        files.push((IGNORE, "secrets.yml\n".to_owned()));
    }
    let files: Vec<(PathBuf, String)> = files.into_iter().map(|(path, text)| (tree.root().join(path), text)).collect();
    let there: Vec<PathBuf> = files.iter().filter(|(path, _)| path.exists()).map(|(path, _)| path.clone()).collect();
    if !there.is_empty() {
        return Err(CliError::There { paths: there }.into());
    }
    let secrets = tree.root().join(SECRETS);
    for (path, text) in files {
        let mode = if path == secrets { 0o600 } else { 0o666 };
        write(&path, mode, &text).map_err(|source| CliError::File { what: "write", path: path.clone(), source })?;
        say.line(format_args!("written   {}", path.display()));
    }
    Ok(output::write(out, project.next().as_bytes())?)
}

/// Writes a new file, and not what somebody has made there meanwhile.
fn write(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

/// What keeps [`SECRETS`] out of git.
const IGNORE: &str = "ci/.gitignore";

impl Project<'_> {
    /// Each file, by its path below the root of the repository.
    fn files(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ci/image/Dockerfile", self.dockerfile()),
            ("ci/image/image.details", self.details()),
            ("ci/test.yml", TASK.to_owned()),
            ("ci/pipelines/master.yml", Template::Master.text().to_owned()),
            ("ci/pipelines/feature-branch.yml", Template::FeatureBranch.text().to_owned()),
            ("ci/pipelines/branches.yml", include_str!("../../pipelines/branches.yml").to_owned()),
            (VARIABLES, self.variables()),
            (SECRETS, self.secrets()),
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

    /// The templates' own file of variables, with the values of this project, and without what is secret.
    fn variables(&self) -> String {
        let InitArgs { repository, git_image, engine_host, insecure, .. } = self.args;
        // JSON is YAML, whatever is in its texts.
        let values = [
            ("git_uri", json!(self.uri)),
            ("branch", json!(self.branch)),
            ("image_repository", json!(repository.to_string())),
            ("git_image", json!(git_image.to_string())),
            ("test_file", json!("ci/test.yml")),
            ("pipeline", json!(self.pipeline.to_string())),
            ("context", json!("ci/image")),
            ("dockerfile", json!("ci/image/Dockerfile")),
            ("details", json!("ci/image/image.details")),
            ("engine_host", json!(engine_host)),
            ("registry_insecure", json!(insecure)),
            ("master_template", json!("repo/ci/pipelines/master.yml")),
            ("feature_template", json!("repo/ci/pipelines/feature-branch.yml")),
        ];
        let line = |line: &str| {
            let name = line.split_once(':').map_or("", |(name, _)| name);
            match values.iter().find(|(known, _)| *known == name) {
                Some((name, value)) => format!("{name}: {value}\n"),
                None => format!("{line}\n"),
            }
        };
        let lines = include_str!("../../pipelines/variables.yml").lines();
        lines.filter(|line| !line.starts_with("webhook_token:")).map(line).collect()
    }

    fn secrets(&self) -> String {
        format!(
            "# What nobody may read in a commit; git ignores this file. `git-image set-pipeline` reads it after {VARIABLES}.\n\
             # Whoever knows the token can make Concourse look for new commits, and nothing else.\n\
             webhook_token: {}\n\
             \n\
             # Where git or the registry wants a login: take away the number signs, and write it here.\n\
             # git_username: ci\n\
             # git_password: …\n\
             # registry_username: ci\n\
             # registry_password: …\n\
             # For git over ssh, in place of user and password:\n\
             # git_private_key: |\n\
             #   -----BEGIN OPENSSH PRIVATE KEY-----\n\
             #   …\n",
            json!(self.webhook_token)
        )
    }

    fn next(&self) -> String {
        let Self { args: InitArgs { concourse, team, .. }, pipeline, webhook_token, branch, .. } = self;
        let hook = |pipeline: &str, resource: &str| {
            format!(
                "{}/api/v1/teams/{team}/pipelines/{pipeline}/resources/{resource}/check/webhook?webhook_token={webhook_token}",
                concourse.trim_end_matches('/')
            )
        };
        let (own, all) = (pipeline.to_string(), format!("{pipeline}-branches"));
        format!(
            "What to do next:\n\
             \n\
             1. Look at the files, and push them to {branch}:\n\
             \n\
             \x20  git add ci && git commit --message 'ci: build an image for the pipeline' && git push --set-upstream origin HEAD\n\
             \n\
             2. Where git or the registry wants a login, write it into {SECRETS}, which git ignores.\n\
             \x20  Or have Concourse's credential manager answer to webhook_token and the names of the logins; then remove {SECRETS},\n\
             \x20  and the lines of these names from {VARIABLES}.\n\
             \n\
             3. Set the pipeline, from {branch}; later, from any branch that you have pushed:\n\
             \n\
             \x20  fly --target ci login --concourse-url {concourse} --team-name {team}\n\
             \x20  git-image set-pipeline --target ci\n\
             \x20  fly --target ci unpause-pipeline --pipeline {own}\n\
             \n\
             \x20  Or, with Concourse 8.3 or later, set one that sets those of all branches, and archives each with its branch:\n\
             \n\
             \x20  fly --target ci set-pipeline --pipeline {all} --config ci/pipelines/branches.yml \\\n\
             \x20      --load-vars-from {VARIABLES} --load-vars-from {SECRETS}\n\
             \x20  fly --target ci unpause-pipeline --pipeline {all}\n\
             \n\
             4. Let the git server say at once when something was pushed. Add these two webhooks:\n\
             \n\
             \x20  {}\n\
             \x20  {}\n\
             \n\
             \x20  or with {all} this one:\n\
             \n\
             \x20  {}\n\
             \n\
             \x20  GitHub: Settings, Webhooks, Add webhook: Payload URL; content type application/json; just the push event,\n\
             \x20          and for `branches` also branch or tag creation and deletion\n\
             \x20  GitLab: Settings, Webhooks, Add new webhook: URL; trigger Push events\n",
            hook(&own, "repo"),
            hook(&own, "branches"),
            hook(&all, "branches"),
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
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::yaml;

    #[test]
    fn every_value_of_the_project_has_its_line_among_the_variables() {
        let args = InitArgs {
            repository: "r.example.com/acme/app-ci".parse().expect("it is a repository"),
            git_image: "r.example.com/tools/git-image".parse().expect("it is a repository"),
            engine_host: Some("tcp://builder:1234".to_owned()),
            insecure: true,
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
        let [ours, secrets, theirs] =
            [project.variables(), project.secrets(), include_str!("../../pipelines/variables.yml").to_owned()]
                .map(|text| yaml::parse(&text).expect("it is YAML"));
        let keys =
            |value: &Value| value.as_object().expect("it is a block").keys().cloned().collect::<BTreeSet<String>>();
        assert_eq!(secrets, json!({"webhook_token": "secret"}));
        assert!(keys(&ours).is_disjoint(&keys(&secrets)));
        assert_eq!(&keys(&ours) | &keys(&secrets), keys(&theirs));
        // A login is written into the file by taking the number signs away.
        let filled = project.secrets().replace("\n# git_", "\ngit_").replace("\n# registry_", "\nregistry_");
        let filled = keys(&yaml::parse(&filled.replace("\n#   ", "\n   ")).expect("it is YAML"));
        let logins = keys(&theirs).into_iter().filter(|name| {
            ["_username", "_password", "_private_key", "webhook_token"].iter().any(|end| name.ends_with(end))
        });
        assert_eq!(filled, logins.collect());
        for (name, value) in [
            ("git_uri", "https://h/a.git"),
            ("branch", "1.0"),
            ("image_repository", "r.example.com/acme/app-ci"),
            ("git_image", "r.example.com/tools/git-image"),
            ("test_file", "ci/test.yml"),
            ("pipeline", "app"),
            ("context", "ci/image"),
            ("dockerfile", "ci/image/Dockerfile"),
            ("details", "ci/image/image.details"),
            ("engine_host", "tcp://builder:1234"),
            ("master_template", "repo/ci/pipelines/master.yml"),
            ("feature_template", "repo/ci/pipelines/feature-branch.yml"),
        ] {
            assert_eq!(ours[name], value, "{name}");
        }
        assert_eq!(ours["registry_insecure"], true);
        assert_eq!(project.next(), include_str!("../../tests/golden/init-next.txt"));
    }
}
