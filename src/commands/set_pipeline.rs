//! `git-image set-pipeline`: sets the pipeline of a branch, with fly.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cli::CliError;
use super::cli::variables::{Setting, VariableArgs};
use super::fly::{FlyArgs, FlyError, Place, SECRETS, VARIABLES};
use crate::concourse::Edge;
use crate::decide::pipelines::{self, Pipeline, Template};
use crate::error::Error;
use crate::pipeline::{self, Variables};
use crate::say::Say;
use crate::yaml;

/// Sets the pipeline of a branch, with fly.
///
/// The branch must be on the remote `origin`, as it is here. The default branch has a pipeline of its own, with releases
/// and the reaper; every other branch is an instance of it: `app/branch:"feat/foo"`. The variables `branch` and, when it
/// has no value, `git_uri` are set from the working tree; `epoch`, when it has none, is that of the pipeline of the
/// default branch, unless --print is given.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct SetPipelineArgs {
    #[command(flatten)]
    fly: FlyArgs,

    /// The template, in place of git-image's own
    ///
    /// Without it: the file that the variable `master_template` or `feature_template` names, when that begins with
    /// `repo/`, below the root of the working tree; else the one that git-image brings.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,

    #[command(flatten)]
    variables: VariableArgs,
}

const EXAMPLES: &str = "\
Examples:
  git-image set-pipeline --target ci
          sets the pipeline of the branch that is checked out, with ci/variables.yml and ci/secrets.yml
  git-image set-pipeline --target ci --branch feat/foo --load-vars-from vars.yml --non-interactive
          sets that of another branch, and asks nothing
  git-image set-pipeline --print
          prints the command that would be run

What is run is shown on stderr; stdout is fly's, or with --print the command.
Exit status: 0 done, 1 refused or failed, 2 wrong usage.";

/// Checks the branch, shows what is run, and runs it.
///
/// # Errors
///
/// The branch is not pushed, no pipeline can have the name, or fly fails.
pub async fn set_pipeline(args: &SetPipelineArgs, out: &mut impl Write, edge: &Edge, say: &Say) -> Result<(), Error> {
    let place = Place::read(edge, say).await?;
    let given = args.variables.or_of(place.tree.root());
    let variables = given.read()?;
    let pipeline = args.fly.pipeline(&place, &variables).await?;
    let branch = &pipeline.branch;
    let (local, remote) = (place.tree.tip(branch).await?, place.refs.branches.get(branch).copied());
    let commit = pipelines::is_pushed(branch, local, remote)
        .map_err(|source| FlyError::NotPushed { branch: branch.clone(), source })?;
    say.line(format_args!("branch    {branch} of {}, at {}", place.address.repository(), commit.short()));
    say.line(format_args!("pipeline  {pipeline}"));
    // It goes when fly has ended.
    let directory = super::workplace(edge)?;
    let template = template(args.template.as_deref(), &pipeline, &variables, place.tree.root());
    let (config, text) = match template {
        Found::File(path) => {
            let text = std::fs::read_to_string(&path);
            let failed = |source| CliError::File { what: "read the template", path: path.clone(), source };
            let text = text.map_err(failed)?;
            say.line(format_args!("template  {}", path.display()));
            (path, text)
        }
        Found::Ours(template) => {
            let name = template.file_name();
            say.line(format_args!("template  {name} of git-image"));
            let path = directory.path().join(name);
            let failed = |source| CliError::File { what: "write", path: path.clone(), source };
            std::fs::write(&path, template.text()).map_err(failed)?;
            (if args.fly.print { PathBuf::from(name) } else { path }, template.text().to_owned())
        }
    };
    let mut words = vec!["--pipeline".to_owned(), pipeline.name.to_string()];
    if pipeline.template == Template::FeatureBranch {
        words.extend(["--instance-var".to_owned(), pipeline.branch_setting()]);
    }
    words.extend(["--config".to_owned(), config.display().to_string()]);
    words.extend(given.fly_words());
    if variables.get("git_uri").is_none() {
        words.extend(["--var".to_owned(), format!("git_uri={}", place.address.as_str())]);
    }
    words.extend(["--yaml-var".to_owned(), pipeline.branch_setting()]);
    // Images of another epoch are other images: a branch would find none of those that are there.
    if variables.get("epoch").is_none_or(Value::is_null)
        && !args.fly.print
        && let Some(epoch) = args.fly.epoch(&pipeline.name, edge).await
    {
        say.line(format_args!("epoch     {epoch}, as pipeline {} has it now", pipeline.name));
        words.extend(["--var".to_owned(), format!("epoch={epoch}")]);
    }
    let unset = unset(&text, &variables);
    if !unset.is_empty() {
        say.line(format_args!("unset     {}: left to Concourse's credential manager", unset.join(", ")));
    }
    args.fly.run("set-pipeline", &words, out, edge, say).await
}

/// The variables of a template that nobody here gives a value. Of what is no YAML, fly says more than we could.
fn unset(template: &str, variables: &Variables) -> Vec<String> {
    // Those that are set from the working tree, and from the pipeline of the default branch.
    let ours = ["branch", "git_uri", "epoch"];
    let names = yaml::parse(template).map(|template| pipeline::names(&template)).unwrap_or_default();
    let unset = names.into_iter().filter(|name| {
        // `((.:name))` is known in a build alone, and `((source:name))` names who knows it.
        !name.contains(':') && !ours.contains(&name.as_str()) && variables.get(name).is_none()
    });
    unset.map(|name| format!("(({name}))")).collect()
}

/// Where a template is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// In a file.
    File(PathBuf),
    /// In here.
    Ours(Template),
}

fn template(given: Option<&Path>, pipeline: &Pipeline, variables: &Variables, root: &Path) -> Found {
    let own = pipeline.template.own(variables, root);
    given.map(Path::to_owned).or(own).map_or(Found::Ours(pipeline.template), Found::File)
}

impl VariableArgs {
    /// These, or when no file is given those that `init` wrote, as far as they are there.
    pub(super) fn or_of(&self, root: &Path) -> Self {
        if !self.load_vars_from.is_empty() {
            return self.clone();
        }
        let usual = [VARIABLES, SECRETS].map(|path| root.join(path));
        Self { load_vars_from: usual.into_iter().filter(|path| path.is_file()).collect(), ..self.clone() }
    }

    /// As arguments of fly.
    fn fly_words(&self) -> Vec<String> {
        let Self { load_vars_from, var, yaml_var } = self;
        let files = load_vars_from.iter().flat_map(|path| ["--load-vars-from".to_owned(), path.display().to_string()]);
        let pair = |flag: &str, Setting { name, value }: &Setting| [flag.to_owned(), format!("{name}={value}")];
        files
            .chain(var.iter().flat_map(|setting| pair("--var", setting)))
            .chain(yaml_var.iter().flat_map(|setting| pair("--yaml-var", setting)))
            .collect()
    }
}
