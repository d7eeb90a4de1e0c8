//! `git-image prune`: keeps the newest versions of the repositories of a registry, and removes the tags of older ones.
//!
//! [`crate::decide::prune`] decides; `read` reads, `remove` does it with what the reaper removes with; they ask the registry
//! through `outside`.

mod outside;
mod read;
mod remove;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use jiff::Timestamp;

use self::outside::Pruned;
use super::cli::CliError;
use super::cli::login::LoginArgs;
use super::reap::args::{Format, Mode};
use super::reap::{self, canary};
use crate::clients::registry::Registry;
use crate::concourse::Edge;
use crate::decide::prune::{self as decide, Rules, TooMany, is_meant};
use crate::decide::reap::MaxDelete;
use crate::error::Error;
use crate::names::{BadName, RegistryHost, Repository, Secret};
use crate::request::product::ApiUrl;
use crate::request::{ApiSource, AwsKey, ProductSetting, RegistrySource, RegistryTransport, RepositorySetting};
use crate::say::Say;

/// What stands in the place of a git repository in what prune writes to a registry. No git repository has this name.
const WRITER: &str = "git-image prune";

/// Keeps the newest versions of every matching image of a registry, and removes the tags of older ones.
///
/// For images that no git repository tells the age of. Shows a plan with one line for each tag: what happens to it, and
/// why. Nothing is changed without --apply. It may remove tags that git-image did not write. The newest are those that
/// were pushed last, where the registry tells that, else made last, by their configs; where these do not tell an order,
/// nothing of that repository is removed.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct PruneArgs {
    /// The registry, such as registry.example.com:5000
    #[arg(long, value_name = "HOST")]
    host: RegistryHost,

    /// Which of its repositories; * stands for any characters of one part of a name
    #[arg(long = "match", value_name = "GLOB")]
    pattern: String,

    /// How many versions of each stay; one that has several tags counts once
    #[arg(long, value_name = "N")]
    keep_last: NonZeroUsize,

    /// A tag that stays, and keeps its image; * stands for any characters. May be given several times
    ///
    /// latest and *-latest always stay.
    #[arg(long, value_name = "PATTERN")]
    protect: Vec<String>,

    /// Do what the plan says
    ///
    /// First proves, in each repository and on two tags of its own, that this registry can remove one tag and leave the
    /// others on the same digest alone. Afterwards verifies every tag that was kept.
    #[arg(long)]
    apply: bool,

    /// Refuse to remove more than N tags of all repositories together [default: 100, and at most half of the tags of a
    /// repository that has 20 or more]
    #[arg(long, value_name = "N")]
    max_delete: Option<usize>,

    /// Afterwards run the tasks of Nexus that free what the tags have left, and wait for them
    ///
    /// These are all of the type "Docker - Delete unused manifests and images", then all of "Admin - Compact blob store";
    /// without one of each, nothing is done. Not run when the removal failed.
    #[arg(long, requires = "apply")]
    nexus_tasks: bool,

    /// Which product the registry is, when it is not recognised: harbor, gitlab, nexus, docker-hub,
    /// ghcr, ecr, acr, gar; none: only OCI's API is used
    #[arg(long, value_name = "PRODUCT")]
    product: Option<ProductSetting>,

    /// Where the product's own API is, when it is not at --host, such as https://nexus.example.com
    #[arg(long, value_name = "URL")]
    api_url: Option<ApiUrl>,

    /// Which repository of Nexus is meant, when several have the same image
    #[arg(long, value_name = "NAME")]
    nexus_repository: Option<String>,

    /// Write the plan as JSON
    #[arg(long)]
    json: bool,

    /// Reach the registry by plain http
    #[arg(long)]
    insecure: bool,

    /// A certificate (PEM) that is trusted besides the system's. May be given several times
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca_cert: Vec<PathBuf>,

    #[command(flatten)]
    login: LoginArgs,
}

const EXAMPLES: &str = "\
Examples:
  git-image prune --host registry.example.com --match 'team/*' --keep-last 5
          shows the plan
  git-image prune --host registry.example.com --match 'team/*' --keep-last 5 --protect 'v*' --apply
          keeps what begins with v, and the newest five of the rest
  git-image prune --host registry.example.com --match 'team/*' --keep-last 5 | grep '^REMOVE'
          shows only what would be removed

The plan is written to stdout, everything else to stderr.
Exit status: 0 done, 1 refused, failed or repaired, 2 wrong usage.";

/// Why nothing was pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// No repository is meant.
    #[error("no repository of {host} matches {pattern:?}")]
    NoMatch {
        /// The registry.
        host: RegistryHost,
        /// The pattern.
        pattern: String,
    },
    /// The plan goes too far.
    #[error("refused to prune {host}")]
    Refused {
        /// The registry.
        host: RegistryHost,
        /// Why.
        #[source]
        refusal: TooMany,
    },
    /// The registry lists what is no repository.
    #[error("cannot prune {host}")]
    Name {
        /// The registry.
        host: RegistryHost,
        /// Why.
        #[source]
        source: BadName,
    },
}

impl PruneError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoMatch { .. } => Some(
                "* does not reach beyond a /; only what the registry shows to this account is looked at".to_owned(),
            ),
            Self::Refused { refusal, .. } => {
                Some(format!("read the plan; if it is right, allow it with --max-delete {}", refusal.all))
            }
            Self::Name { .. } => None,
        }
    }
}

/// Prunes: reads the registry, writes the plan to `output`, and with `--apply` does it.
///
/// `input` is stdin, for `--password-stdin`.
///
/// # Errors
///
/// See [`PruneError`], and [`reap::ReapError`] for the removal. Without `--apply` nothing was changed, whatever the error.
pub async fn prune(
    args: &PruneArgs,
    input: &mut impl Read,
    output: &mut impl Write,
    edge: &Edge,
    say: &Say,
) -> Result<(), Error> {
    let source = args.registry(input, edge, say).await?;
    let repositories = args.repositories(&source, say).await?;
    // What is missing is told before anything is removed.
    let tasks = match repositories.values().next().filter(|_| args.nexus_tasks) {
        Some(registry) => Some(registry.nexus_tasks().await?),
        None => None,
    };
    let rules = Rules {
        keep_last: args.keep_last,
        protected: args.protect.clone(),
        max_delete: args.max_delete.map_or(MaxDelete::Default, MaxDelete::Count),
    };
    let request = Request {
        host: &args.host,
        rules: &rules,
        mode: if args.apply { Mode::Apply } else { Mode::Plan },
        format: if args.json { Format::Json } else { Format::Text },
        now: edge.now,
    };
    plan_and_apply(&repositories, &request, output, say).await?;
    if let Some(tasks) = tasks {
        tasks.run(say).await?;
    }
    Ok(())
}

struct Request<'a> {
    host: &'a RegistryHost,
    rules: &'a Rules,
    mode: Mode,
    format: Format,
    now: Timestamp,
}

async fn plan_and_apply<R: Pruned>(
    repositories: &BTreeMap<String, R>,
    request: &Request<'_>,
    output: &mut impl Write,
    say: &Say,
) -> Result<(), Error> {
    let Request { host, rules, mode, format, now } = *request;
    let mut found = BTreeMap::new();
    for (name, registry) in repositories {
        say.line(format_args!("reading the tags of {}", registry.repository()));
        found.insert(name.clone(), read::repository(registry, say).await?);
    }
    let plan = decide::prune(host.as_str(), &found, rules, now);
    let text = match format {
        Format::Text => plan.to_string(),
        Format::Json => plan.json(),
    };
    match writeln!(output, "{text}").and_then(|()| output.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        result => result.map_err(CliError::Output)?,
    }
    match mode {
        Mode::Plan => {
            if let Some(registry) = repositories.values().next() {
                canary::foretell(registry, say).await;
            }
        }
        Mode::Apply => {
            plan.within_limits().map_err(|refusal| PruneError::Refused { host: host.clone(), refusal })?;
            for (name, judgements) in &plan.repositories {
                remove::apply(&repositories[name], judgements, &reap::random_run_id()?, say).await?;
            }
        }
    }
    Ok(())
}

impl PruneArgs {
    /// How the registry is reached, and who asks.
    async fn registry(&self, stdin: &mut impl Read, edge: &Edge, say: &Say) -> Result<RegistrySource, Error> {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            text.map_err(|source| CliError::File { what: "read", path: path.clone(), source })
        };
        Ok(RegistrySource {
            repository: RepositorySetting::Whole(Repository::catalog(&self.host)),
            tag_prefix: String::new(),
            credentials: self.login.read(&self.host, stdin, edge, say).await?,
            transport: if self.insecure { RegistryTransport::Http } else { RegistryTransport::Https },
            ca_certs: self.ca_cert.iter().map(read).collect::<Result<_, _>>()?,
            client_certs: Vec::new(),
            platform: None,
            variant: None,
            mirror: None,
            download_timeout: RegistrySource::DOWNLOAD_TIMEOUT,
            api: ApiSource {
                product: self.product.unwrap_or_default(),
                url: self.api_url.clone().map(|url| url.0),
                repository: self.nexus_repository.clone(),
                token: None,
                aws_key: aws_key(edge, say),
            },
        })
    }

    /// The repositories that are meant, by their names.
    async fn repositories(&self, source: &RegistrySource, say: &Say) -> Result<BTreeMap<String, Registry>, Error> {
        let listed = Registry::new(&Repository::catalog(&self.host), source, say)?.repositories().await?;
        let mut meant = BTreeMap::new();
        for name in listed.into_iter().filter(|name| is_meant(&self.pattern, name)) {
            let repository = Repository::listed(&self.host, &name);
            let repository = repository.map_err(|source| PruneError::Name { host: self.host.clone(), source })?;
            meant.insert(name, Registry::new(&repository, source, say)?);
        }
        if meant.is_empty() {
            return Err(PruneError::NoMatch { host: self.host.clone(), pattern: self.pattern.clone() }.into());
        }
        Ok(meant)
    }
}

/// The access key of AWS in the environment, for ECR, by the names that its tools read.
fn aws_key(edge: &Edge, say: &Say) -> Option<AwsKey> {
    let value = |name| edge.variable(name).filter(|value| !value.is_empty());
    let (id, secret) = (value("AWS_ACCESS_KEY_ID")?, value("AWS_SECRET_ACCESS_KEY")?);
    let key = AwsKey { id, secret: Secret::new(secret), session_token: value("AWS_SESSION_TOKEN").map(Secret::new) };
    [Some(&key.secret), key.session_token.as_ref()].into_iter().flatten().for_each(|secret| say.hide(secret));
    Some(key)
}

#[cfg(test)]
mod tests;
