//! `git-image doctor`: whether git, registry and engine can be reached, and what the registry allows.

use std::io::{Read, Write};
use std::path::Path;

use serde::Serialize;

use super::cli::source::SourceArgs;
use super::cli::{CliError, output};
use super::{details, image};
use crate::clients::engine::embedded::SCRATCH;
use crate::clients::engine::{EmbeddedSettings, Engine, EngineError};
use crate::clients::git::Git;
use crate::clients::registry::{Registry, RegistryError, Row};
use crate::concourse::Edge;
use crate::decide::doctor::{Suspicion, suspicions};
use crate::decide::tags::latest_tag;
use crate::error::{Error, Report};
use crate::names::{Branch, Repository, Tag};
use crate::request::Source;
use crate::say::Say;

/// Looks whether git, registry and engine can be reached, and what the registry allows.
///
/// Nothing is changed anywhere: what is deleted to see whether it may be is the digest that no content has, and a tag that
/// nobody has. An engine that the source does not name is looked for on this machine; where there is none, it is left to
/// the workers.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct DoctorArgs {
    /// Print JSON: a list with one block for each finding
    #[arg(long)]
    json: bool,

    /// Do not look for an engine: only the workers reach it
    #[arg(long)]
    without_engine: bool,

    /// Which image.
    #[command(flatten)]
    source: SourceArgs,
}

const EXAMPLES: &str = "\
Examples:
  git-image doctor --source source.yml
  git-image doctor --pipeline pipeline.yml -l vars.yml --without-engine --json | jq '.[] | select(.verdict == \"fail\")'

The findings are written to stdout, everything else to stderr.
Exit status: 0 nothing failed, 1 something did, 2 wrong usage.";

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// It works.
    Ok,
    /// It can be done without.
    No,
    /// It is worth a second look.
    Odd,
    /// A put or check would fail.
    Fail,
}

/// One finding.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    verdict: Verdict,
    /// What was looked at.
    what: String,
    /// What was found.
    found: String,
}

impl Finding {
    fn new(verdict: Verdict, what: impl Into<String>, found: impl ToString) -> Self {
        Self { verdict, what: what.into(), found: found.to_string() }
    }

    fn failed(what: &str, error: impl Into<Error>) -> Self {
        Self::new(Verdict::Fail, what, Report(&error.into().on_the_command_line()))
    }

    fn line(&self) -> String {
        let Self { verdict, what, found } = self;
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::No => "no",
            Verdict::Odd => "odd",
            Verdict::Fail => "FAIL",
        };
        // What follows the first line of an error stands below it.
        format!("{word:<5} {what:<24} {}\n", found.replace('\n', &format!("\n{:31}", "")))
    }
}

/// Looks, and writes what it finds.
///
/// # Errors
///
/// The source cannot be read, or something would fail.
pub async fn doctor(
    args: &DoctorArgs,
    input: &mut impl Read,
    out: &mut impl Write,
    edge: &Edge,
    say: &Say,
) -> Result<(), Error> {
    let source = args.source.read(input, edge, say).await?;
    let mut findings = Vec::new();
    let directory = super::workplace(edge)?;
    let git = Git::open(&source.git, &directory.path().join("git"), &edge.programs, say).await?;
    let branch = look_at_git(&source, &git, &mut findings).await;
    match details::repository_of(&source, &git).await {
        Err(error) => findings.push(Finding::failed("registry", error)),
        Ok(repository) => {
            look_at_registry(&source, &repository, branch.as_ref(), &mut findings, say).await?;
            if !args.without_engine {
                findings.push(look_at_engine(&source, &repository, edge, say).await);
            }
        }
    }
    let odd = suspicions(&source).into_iter().map(|Suspicion { key, why }| Finding::new(Verdict::Odd, key, why));
    findings.extend(odd);
    let text = if args.json {
        serde_json::to_string_pretty(&findings).expect("findings have only text keys, so they are always JSON") + "\n"
    } else {
        findings.iter().map(Finding::line).collect()
    };
    output::write(out, text.as_bytes())?;
    match findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count() {
        0 => Ok(()),
        failed => Err(CliError::Unwell { failed }.into()),
    }
}

/// The branch of the source, when git tells.
async fn look_at_git(source: &Source, git: &Git, findings: &mut Vec<Finding>) -> Option<Branch> {
    match git.tip(source.git.branch.as_ref()).await {
        Ok(tip) => {
            let found = format!("{}: {} is at {}", git.repository(), tip.branch, tip.commit.short());
            findings.push(Finding::new(Verdict::Ok, "git", found));
            Some(tip.branch)
        }
        Err(error) => {
            findings.push(Finding::failed("git", error));
            None
        }
    }
}

async fn look_at_registry(
    source: &Source,
    repository: &Repository,
    branch: Option<&Branch>,
    findings: &mut Vec<Finding>,
    say: &Say,
) -> Result<(), Error> {
    let registry = Registry::new(repository, &source.registry, say)?;
    match registry.tags().await {
        Ok(tags) => findings.push(Finding::new(Verdict::Ok, "registry", format!("{repository}: {} tags", tags.len()))),
        Err(error) => {
            findings.push(Finding::failed("registry", error));
            return Ok(());
        }
    }
    let row = registry.product().await.ok().flatten().map(Row::of);
    if let Some(row) = row {
        look_at_product(row, findings);
    }
    let mut look = |what: &str, answer: Result<bool, RegistryError>, without: &str| {
        findings.push(match answer {
            Ok(true) => Finding::new(Verdict::Ok, what, "yes"),
            Ok(false) => Finding::new(Verdict::No, what, without),
            // What the account may not is no fault of a pipeline that does not need it.
            Err(error) => Finding::new(Verdict::No, what, Report(&error.into())),
        });
    };
    let (by_digest, by_tag) = match row {
        Some(_) => ("no: reap uses the API of the product", "no: reap uses the API of the product"),
        None => (
            "no: `git-image reap` cannot remove anything here",
            "no: reap removes a tag by way of a manifest of its own",
        ),
    };
    let unused: Tag = "_git-image-doctor-looks-here".parse().expect("it is a tag");
    look("delete by digest", registry.deletes_digests().await, by_digest);
    look("delete by tag", registry.deletes_tags(&unused).await, by_tag);
    look("referrers", registry.lists_referrers().await, "no: signatures are found by their tags alone");
    let tag = branch.map(|branch| latest_tag(&source.registry.tag_prefix, branch));
    let image = match &tag {
        Some(tag) => image::at(&registry, tag).await.ok().flatten(),
        None => None,
    };
    match image {
        Some(image) => {
            let mounted = registry.mounts(&image.config_descriptor.digest).await;
            look("mount and push", mounted, "no: layers that another repository has are uploaded again");
        }
        None => findings.push(Finding::new(Verdict::No, "mount and push", "not tried: the branch has no image yet")),
    }
    Ok(())
}

/// Which product it is, and how a tag goes there.
fn look_at_product(row: &Row, findings: &mut Vec<Finding>) {
    let name = row.product.name();
    findings.push(Finding::new(
        Verdict::Ok,
        "product",
        format!("{name}, by {}; reap removes a tag by its API: {}", row.recognised_by, row.call),
    ));
}

async fn look_at_engine(source: &Source, repository: &Repository, edge: &Edge, say: &Say) -> Finding {
    let inside = EmbeddedSettings { scratch: Path::new(SCRATCH), environment: &edge.programs, source };
    match Engine::connect(&inside, &repository.to_string(), say).await {
        Ok(engine) => {
            let finding = Finding::new(Verdict::Ok, "engine", engine.describe());
            engine.close();
            finding
        }
        // The source leaves it to the workers, and this may be none.
        Err(EngineError::NoEngine { .. }) => Finding::new(
            Verdict::No,
            "engine",
            "none on this machine, and the source names none: put then uses a socket of its worker, or the engine inside, \
             which needs `privileged: true` on the resource type",
        ),
        Err(error) => Finding::failed("engine", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Product;

    #[test]
    fn a_product_is_told_with_the_way_that_its_tags_go() {
        let mut findings = Vec::new();
        look_at_product(Row::of(Product::Harbor), &mut findings);
        assert_eq!(
            findings.iter().map(Finding::line).collect::<String>(),
            "ok    product                  Harbor, by the service `harbor-registry` that it names to whom has no token; \
             reap removes a tag by its API: \
             `DELETE /api/v2.0/projects/P/repositories/R/artifacts/<digest>/tags/<tag>`\n"
        );
    }
}
