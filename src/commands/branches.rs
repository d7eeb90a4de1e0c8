//! `git-image branches`: each branch with its pipeline, its tag, its image, and what the reaper does with it.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::cli::output;
use super::cli::source::SourceArgs;
use super::facts::labels;
use super::reap::{self, Servers};
use super::{image, inputs};
use crate::clients::registry::Image;
use crate::concourse::Edge;
use crate::decide::branches::{Latest, Row, State, Table, state};
use crate::decide::inputs::Recipe;
use crate::decide::pipelines::{Pipeline, PipelineName};
use crate::decide::reap::{Judgement, Plan};
use crate::decide::tags::{OurTag, classify, latest_tag};
use crate::error::Error;
use crate::names::{Branch, CommitId, InputsId, Tag};
use crate::request::Source;
use crate::say::Say;

/// Lists each branch with its pipeline, its tag, its image, and what the reaper does with it.
///
/// The image is up to date when it is made of what the branch's newest commit has; SIZE is compressed, and AGE is that of
/// the commit that it was first built from. Tags of branches that are gone come last. Nothing is changed.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct BranchesArgs {
    /// Print JSON: a list with one block for each branch
    #[arg(long)]
    json: bool,

    /// The name of the pipeline, as for set-pipeline
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Which image.
    #[command(flatten)]
    source: SourceArgs,
}

const EXAMPLES: &str = "\
Examples:
  git-image branches --source source.yml
  git-image branches --pipeline pipeline.yml -l vars.yml --json | jq -r '.[] | select(.state == \"outdated\") | .branch'
          prints the branches whose image waits to be built

The list is written to stdout, everything else to stderr.
Exit status: 0 done, 1 refused or failed, 2 wrong usage.";

/// How many images are read at once.
const READS: usize = 16;

/// Of how many branches the files are looked at in one go: each request to git serves so many, and memory holds the
/// trees of so many.
const TREES: usize = 32;

/// Reads registry and git as the reaper does, and writes the list.
///
/// # Errors
///
/// They cannot be read, or git's answer is one by which the reaper decides nothing.
pub async fn branches(
    args: &BranchesArgs,
    input: &mut impl Read,
    out: &mut impl Write,
    edge: &Edge,
    say: &Say,
) -> Result<(), Error> {
    let source = args.source.read(input, edge, say).await?;
    let (plan, servers) = reap::judge(&source, edge, say).await?;
    let named = args
        .name
        .as_deref()
        .map(str::parse)
        .unwrap_or_else(|| PipelineName::of_repository(source.git.uri.repository()));
    // A name that no pipeline can have is said where one is set.
    let place = Place { source: &source, servers: &servers, plan: &plan, name: named.ok() };

    let git = plan.git();
    let branches: Vec<(&Branch, CommitId)> = git.branches.iter().map(|(branch, &tip)| (branch, tip)).collect();
    let mut made_of = Vec::new();
    for some in branches.chunks(TREES) {
        made_of.extend(place.made_of(some).await?);
    }
    let rows = branches.into_iter().zip(made_of).map(|((branch, tip), made_of)| place.branch(branch, tip, made_of));
    let mut rows: Vec<Row> = stream::iter(rows).buffered(READS).try_collect().await?;
    let is_default = |row: &Row| row.branch.as_deref() == git.default_branch.as_ref().map(Branch::as_str);
    rows.sort_by_key(|row| !is_default(row));
    let living: BTreeSet<String> = rows.iter().map(|row| row.tag.clone()).collect();
    let gone = plan.judgements().iter().filter(|judgement| place.is_latest_of_ours(judgement));
    let gone = gone.filter(|judgement| !living.contains(&judgement.tag)).map(|judgement| place.gone(judgement));
    rows.extend(stream::iter(gone).buffered(READS).try_collect::<Vec<Row>>().await?);

    let text = if args.json {
        serde_json::to_string_pretty(&rows).expect("rows have only text keys, so they are always JSON") + "\n"
    } else {
        Table { rows: &rows, now: edge.now }.to_string()
    };
    Ok(output::write(out, text.as_bytes())?)
}

struct Place<'a> {
    source: &'a Source,
    servers: &'a Servers,
    plan: &'a Plan,
    name: Option<PipelineName>,
}

impl Place<'_> {
    async fn branch(&self, branch: &Branch, tip: CommitId, made_of: Option<InputsId>) -> Result<Row, Error> {
        let tag = latest_tag(&self.source.registry.tag_prefix, branch);
        let default = self.plan.git().default_branch.as_ref();
        let pipeline = default.zip(self.name.clone());
        let pipeline = pipeline.map(|(default, name)| Pipeline::of_branch(name, branch.clone(), default).to_string());
        let image = image::at(self.servers.registry(), &tag).await?;
        let state = state(self.latest(image.as_ref()), made_of);
        let row = self.row(tag.as_str(), state, image.as_ref());
        Ok(Row { branch: Some(branch.to_string()), commit: Some(tip.to_string()), pipeline, ..row })
    }

    async fn gone(&self, judgement: &Judgement) -> Result<Row, Error> {
        let image = match judgement.tag.parse::<Tag>() {
            Ok(tag) => image::at(self.servers.registry(), &tag).await?,
            Err(_) => None,
        };
        Ok(self.row(&judgement.tag, State::Gone, image.as_ref()))
    }

    fn row(&self, tag: &str, state: State, image: Option<&Image>) -> Row {
        let judgement = self.plan.judgements().iter().find(|judgement| judgement.tag == tag);
        Row {
            branch: None,
            commit: None,
            pipeline: None,
            tag: tag.to_owned(),
            state,
            digest: image.map(|image| image.manifest.digest.to_string()),
            version: image.and_then(|image| image.label(labels::OUR_VERSION)).map(str::to_owned),
            size_bytes: image.map(Image::size),
            created: image.and_then(|image| image.config.created.as_deref()?.parse().ok()),
            verdict: judgement.map(|judgement| judgement.verdict.word().to_owned()),
            reason: judgement.map(|judgement| judgement.reason.to_string()),
        }
    }

    /// What the images of the branches' newest commits are made of; `None`: that commit has none.
    async fn made_of(&self, branches: &[(&Branch, CommitId)]) -> Result<Vec<Option<InputsId>>, Error> {
        let recipe = |branch: &Branch| {
            let mut source = self.source.clone();
            // Where images are not shared between branches, the branch is a part of what they are made of.
            source.git.branch = Some(branch.clone());
            Recipe::new(&source)
        };
        let asked: Vec<(Recipe, CommitId)> = branches.iter().map(|&(branch, tip)| (recipe(branch), tip)).collect();
        let made_of = inputs::of_commits(self.servers.local(), &asked).await?;
        Ok(made_of.into_iter().map(Result::ok).collect())
    }

    fn latest(&self, image: Option<&Image>) -> Latest {
        let Some(image) = image else { return Latest::Missing };
        let is_ours = image.label(labels::REPOSITORY) == Some(self.source.git.uri.repository().as_str());
        // Who names no epoch does not ask when it was built anew: pipelines set theirs while they run.
        let but_epoch = image.label(labels::INPUTS_BUT_EPOCH).filter(|_| self.source.build.epoch.is_none());
        let inputs = but_epoch.or(image.label(labels::INPUTS)).and_then(|text| text.parse().ok());
        inputs.filter(|_| is_ours).map_or(Latest::Theirs, Latest::Ours)
    }

    /// Whether it is the tag of a branch, of our git repository as far as its image tells.
    fn is_latest_of_ours(&self, judgement: &Judgement) -> bool {
        use crate::decide::reap::Verdict::{Foreign, Grace, Keep, Remove, Restore, Unknown};

        let form = judgement.tag.parse().map(|tag| classify(&self.source.registry.tag_prefix, &tag));
        let ours = match judgement.verdict {
            Keep | Grace | Restore | Remove | Unknown => true,
            Foreign => false,
        };
        ours && matches!(form, Ok(OurTag::Latest { .. }))
    }
}
