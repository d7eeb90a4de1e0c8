//! The registries of the images that an image is built on: which digests their tags have now.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;

use crate::clients::registry::Registry;
use crate::commands::StepError;
use crate::decide::bases::{Bases, Wanted};
use crate::error::Error;
use crate::names::{Digest, ImageReference, RegistryHost, Repository};
use crate::request::{ApiSource, FurtherRegistry, RegistrySource, RegistryTransport, RepositorySetting, Source};
use crate::say::Say;

/// The file in which get writes the bases of a version, and in which put finds them beside the checkout.
pub const FILE: &str = "bases.json";

/// What the tags of bases stand for: each asked for once.
#[derive(Default)]
pub struct Resolved(BTreeMap<ImageReference, Digest>);

impl Resolved {
    /// Asks for those that are not known yet: one HEAD each, all at once, with the credentials of the build.
    ///
    /// # Errors
    ///
    /// A registry cannot be read, or does not have one of them.
    pub async fn ask<'a>(
        &mut self,
        source: &Source,
        wanted: impl IntoIterator<Item = &'a Wanted>,
        say: &Say,
    ) -> Result<(), Error> {
        let is_unknown = |one: &&ImageReference| one.digest().is_none() && !self.0.contains_key(*one);
        let unknown: BTreeSet<&ImageReference> =
            wanted.into_iter().flat_map(BTreeMap::values).filter(is_unknown).collect();
        let asked =
            unknown.into_iter().map(async |one| Ok::<_, Error>((one.clone(), resolve(source, one, say).await?)));
        let found = try_join_all(asked).await?;
        self.0.extend(found);
        Ok(())
    }

    /// The bases of a build, of which all were asked for.
    pub fn bases(&self, wanted: &Wanted) -> Bases {
        Bases::of(wanted, |one| self.0.get(one).copied()).expect("each was asked for")
    }
}

/// The bases of a build as they are now.
///
/// # Errors
///
/// As [`Resolved::ask`].
pub async fn resolve_all(source: &Source, wanted: &Wanted, say: &Say) -> Result<Bases, Error> {
    let mut resolved = Resolved::default();
    resolved.ask(source, [wanted], say).await?;
    Ok(resolved.bases(wanted))
}

async fn resolve(source: &Source, image: &ImageReference, say: &Say) -> Result<Digest, Error> {
    let Some(tag) = image.tag() else { return Err(StepError::NoBase { image: image.clone() }.into()) };
    let asked = async {
        let registry = Registry::to_read(image.repository(), &registry_of(source, image.repository()), say)?;
        registry.resolve(tag).await
    };
    match asked.await {
        Ok(Some(found)) => Ok(found.digest),
        Ok(None) => Err(StepError::NoBase { image: image.clone() }.into()),
        Err(error) => Err(StepError::Base { image: image.clone(), source: Box::new(error) }.into()),
    }
}

/// How the registry of a base is reached, and who asks: the source's own registry, one of its list, or any other.
pub fn registry_of(source: &Source, repository: &Repository) -> RegistrySource {
    let own = &source.registry;
    let Ok(host) = repository.registry().parse::<RegistryHost>() else { return own.clone() };
    let further = source.registries.iter().find(|one| one.host == host);
    let is_own = own.repository.host() == host;
    let credentials = further.and_then(|one| one.credentials.clone());
    let (transport, ca_certs) = match further {
        _ if is_own => (own.transport, own.ca_certs.clone()),
        // What the source says of its own registry is then about the mirror.
        _ if host.is_docker_hub() && own.mirror.is_some() => (own.transport, own.ca_certs.clone()),
        Some(FurtherRegistry { transport, ca_certs, .. }) => (*transport, ca_certs.clone()),
        None => (RegistryTransport::Https, Vec::new()),
    };
    RegistrySource {
        repository: RepositorySetting::Whole(repository.clone()),
        tag_prefix: String::new(),
        credentials: if is_own { own.credentials.clone() } else { credentials },
        transport,
        ca_certs,
        client_certs: own.client_certs.clone(),
        variant: None,
        platform: own.platform.clone(),
        mirror: own.mirror.clone(),
        download_timeout: own.download_timeout,
        api: ApiSource::default(),
    }
}
