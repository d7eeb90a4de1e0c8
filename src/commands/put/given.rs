//! What a build is given beside its context: secrets, ssh keys, named contexts, proxies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::clients::context::{Context, ContextKind, Share};
use crate::clients::engine::{Given, NamedContext};
use crate::clients::finished::Blobs;
use crate::clients::ssh_agent::Agent;
use crate::commands::StepError;
use crate::commands::put::build::{self, LaidOut};
use crate::commands::put::{Put, artifact_is_there, artifact_path};
use crate::concourse::Edge;
use crate::error::Error;
use crate::names::{GitPath, Secret};
use crate::request::{ContextSource, SecretSource, SshKey};

/// What the build is given, and the agents that must live as long as it.
pub async fn given(put: &Put<'_>, edge: &Edge, files: &LaidOut, work: &Path) -> Result<(Given, Vec<Agent>), Error> {
    let (options, artifacts) = (&put.source.build.options, edge.directory()?);
    let mut given = Given { proxies: edge.programs.proxies(), ..Given::default() };
    for (id, source) in &options.secrets {
        let key = format!("source.build.secrets.{id}");
        given.secrets.insert(id.clone(), secret(put, edge, artifacts, &key, source)?);
    }
    let mut agents = Vec::new();
    for (number, (id, SshKey { key: source, passphrase })) in options.ssh.iter().enumerate() {
        let key = format!("source.build.ssh.{id}");
        let private = secret(put, edge, artifacts, &key, source)?;
        let directory = work.join(format!("agent-{number}"));
        std::fs::create_dir(&directory).map_err(|source| StepError::File {
            what: "make",
            path: directory.clone(),
            source,
        })?;
        let agent = Agent::start(&key, &private, passphrase.as_ref(), &directory, &edge.programs).await?;
        given.agents.insert(id.clone(), agent.socket().to_owned());
        agents.push(agent);
    }
    given.contexts = contexts(put, files)?;
    Ok((given, agents))
}

fn contexts(put: &Put<'_>, files: &LaidOut) -> Result<BTreeMap<String, NamedContext>, Error> {
    let mut contexts = BTreeMap::new();
    for (name, source) in &put.source.build.options.contexts {
        let context = match source {
            ContextSource::Image(reference) => NamedContext::Fetched(format!("docker-image://{reference}")),
            ContextSource::Git { url, commit } => NamedContext::Fetched(format!("{url}#{commit}")),
            ContextSource::Directory(directory) => {
                NamedContext::Files(Arc::new(build::context(put, files, directory)?))
            }
            ContextSource::Layout(directory) => {
                NamedContext::Image(Arc::new(layout(build::context(put, files, directory)?, directory)?))
            }
        };
        contexts.insert(name.clone(), context);
    }
    let images = &put.subject.images;
    contexts.extend(images.iter().map(|(name, blobs)| (name.clone(), NamedContext::Image(blobs.clone()))));
    Ok(contexts)
}

/// The image in a directory of the repository.
fn layout(context: Context, directory: &GitPath) -> Result<Blobs, Error> {
    let counted = context.entries().iter().filter(|entry| matches!(entry.kind, ContextKind::File { .. }));
    let files = counted.filter(|entry| entry.share == Share::Counted);
    let files = files.map(|entry| (entry.path.to_string(), entry.on_disk.clone())).collect();
    Ok(Blobs::of_files(files, directory.to_os_path())?)
}

/// A secret, which from now on no line shows.
fn secret(put: &Put<'_>, edge: &Edge, artifacts: &Path, key: &str, source: &SecretSource) -> Result<Secret, Error> {
    let secret = match source {
        SecretSource::Value(value) => value.clone(),
        SecretSource::File(path) => {
            let name = path;
            let path = artifact_path(artifacts, &format!("{key}.file"), name)?;
            artifact_is_there(artifacts, name)?;
            let text = std::fs::read_to_string(&path);
            Secret::new(text.map_err(|source| StepError::File {
                what: "read a secret of the build from",
                path,
                source,
            })?)
        }
        SecretSource::Variable(name) => {
            let value =
                edge.variable(name).ok_or_else(|| StepError::NoVariable { key: key.to_owned(), name: name.clone() })?;
            Secret::new(value)
        }
    };
    put.say.hide(&secret);
    Ok(secret)
}
