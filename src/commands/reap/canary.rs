//! Proves, on tags that nobody needs, how this registry removes one tag and leaves its siblings.
//!
//! What DELETE by tag does cannot be told from the status code: some registries refuse it, some untag, some delete the
//! manifest with all its tags, some answer 404 for a tag that exists.
//!
//! Fact: docs/facts.md, `delete-tag`, `delete-probe`, `tombstone`.

use std::error::Error;

use super::ReapError;
use super::outside::RegistrySide;
use super::remove::Run;
use crate::clients::registry::Deleted;
use crate::decide::reap::artifact::{self, Artifact};
use crate::names::{Digest, Tag};
use crate::request::Product;
use crate::say::Say;

/// How one tag is removed without touching its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The API of its own that this product has for it.
    OwnApi(Product),
    /// The registry's own DELETE by tag.
    ByTag,
    /// A tombstone is put on the tag, and the tombstone is deleted.
    Tombstone,
}

impl Method {
    /// What the probes have shown.
    pub fn proven(self) -> String {
        let way = match self {
            Self::OwnApi(product) => format!("by the API of {}", product.name()),
            Self::ByTag => "by name".to_owned(),
            Self::Tombstone => "by tombstones".to_owned(),
        };
        format!("tags are removed {way}: a probe showed that this leaves their siblings alone")
    }
}

/// Says by which API tags would go, where the product is known: what else there is only the probes tell, and these write.
pub async fn foretell<R: RegistrySide>(registry: &R, say: &Say) {
    // A plan is good without it.
    if let Ok(Some(product)) = registry.product().await {
        let name = product.name();
        say.line(format_args!(
            "with --apply, tags are removed by the API of {name} if a probe shows that this leaves their siblings alone"
        ));
    }
}

/// Finds the method that works here. Cleans up after itself, also when none does.
///
/// # Errors
///
/// Deletes are disabled (then nothing was written), no method leaves the sibling alone, or a request failed.
pub async fn prove<R: RegistrySide>(run: &Run<'_, R>) -> Result<Method, ReapError> {
    let Run { registry, repository: _, writer, tag_prefix, id, say } = run;
    let product = registry.product().await?;
    if product.is_none() {
        may_delete(run, None).await?;
    }
    let name = |letter| format!("{}_reaper-canary-{}-{letter}", tag_prefix, id.as_str()).parse();
    let canary = Canary {
        run,
        tags: (name('a').map_err(ReapError::Prefix)?, name('b').map_err(ReapError::Prefix)?),
        by_api: artifact::canary(writer, id, 3),
        by_tag: artifact::canary(writer, id, 1),
        by_tombstone: artifact::canary(writer, id, 2),
    };
    let method = canary.find(product).await;
    let cleaned = canary.clean(product, &method).await;
    match (method, cleaned) {
        (Ok(method), Ok(())) => Ok(method),
        (Ok(_), Err(error)) => Err(error),
        (Err(error), cleaned) => {
            if let Err(left) = cleaned {
                say.line(format_args!("the probes could not be cleaned up; the next run does: {left}"));
            }
            Err(error)
        }
    }
}

/// Looks whether anything is ever deleted; gives back why the API of the product does not do it.
///
/// No manifest has this digest, so nothing can be lost: 404 says that deletes are allowed, 405 that they are not.
pub async fn may_delete<R: RegistrySide>(
    run: &Run<'_, R>,
    api: Option<Box<ReapError>>,
) -> Result<Option<Box<ReapError>>, ReapError> {
    match run.registry.delete(&Digest::from_bytes([0; 32])).await? {
        Deleted::NotAllowed => Err(ReapError::DeletesDisabled { repository: run.repository.clone(), api }),
        Deleted::Gone | Deleted::WasNotThere => Ok(api),
    }
}

struct Canary<'a, R> {
    run: &'a Run<'a, R>,
    tags: (Tag, Tag),
    by_api: Artifact,
    by_tag: Artifact,
    by_tombstone: Artifact,
}

impl<R: RegistrySide> Canary<'_, R> {
    async fn find(&self, product: Option<Product>) -> Result<Method, ReapError> {
        let mut api = None;
        if let Some(product) = product {
            match self.try_api().await {
                Ok(None) => return Ok(Method::OwnApi(product)),
                Ok(Some(harm)) => self.not_by_api(product, harm),
                // What else there is may do, and a probe shows that too.
                Err(error) if is_refusal(&error) => {
                    self.not_by_api(product, &with_causes(&error));
                    api = Some(Box::new(error));
                }
                Err(error) => return Err(error),
            }
        }
        if product.is_some() {
            api = may_delete(self.run, api).await?;
        }
        self.put(&self.by_tag).await?;
        match self.run.registry.delete_tag(&self.tags.0).await? {
            Deleted::NotAllowed => {}
            // Also after a 404: what counts is what happened.
            Deleted::Gone | Deleted::WasNotThere => match self.harm(&self.by_tag).await? {
                None => return Ok(Method::ByTag),
                Some(harm) => self.run.say.line(format_args!("DELETE by tag is not used here: {harm}")),
            },
        }
        self.put(&self.by_tombstone).await?;
        let tombstone = self.tombstone();
        self.run.registry.push_note(&tombstone).await?;
        self.run.registry.put(&self.tags.0, &tombstone.manifest).await?;
        self.run.registry.delete(&tombstone.manifest.digest).await?;
        match self.harm(&self.by_tombstone).await? {
            None => Ok(Method::Tombstone),
            Some(harm) => Err(ReapError::NoMethod { repository: self.run.repository.clone(), harm, api }),
        }
    }

    /// Tries the API of the product; what is not as it should be afterwards.
    async fn try_api(&self) -> Result<Option<&'static str>, ReapError> {
        self.put(&self.by_api).await?;
        match self.run.registry.untag(&self.tags.0, &self.by_api.manifest.digest).await? {
            Deleted::NotAllowed => Ok(Some("it does not allow that")),
            Deleted::Gone | Deleted::WasNotThere => self.harm(&self.by_api).await,
        }
    }

    fn not_by_api(&self, product: Product, why: &str) {
        self.run.say.line(format_args!("the API of {} is not used here: {why}", product.name()));
    }

    fn tombstone(&self) -> Artifact {
        let tags = [(self.tags.0.to_string(), self.by_tombstone.manifest.digest)];
        artifact::tombstone(self.run.writer, self.run.id, 0, tags.into())
    }

    async fn put(&self, probe: &Artifact) -> Result<(), ReapError> {
        self.run.registry.push_note(probe).await?;
        self.run.registry.put(&self.tags.0, &probe.manifest).await?;
        self.run.registry.put(&self.tags.1, &probe.manifest).await
    }

    /// What is not as it should be: the first tag gone, the second one and the manifest there.
    async fn harm(&self, probe: &Artifact) -> Result<Option<&'static str>, ReapError> {
        let digest = probe.manifest.digest;
        let (a, b) = (self.run.registry.resolve(&self.tags.0).await?, self.run.registry.resolve(&self.tags.1).await?);
        if b != Some(digest) || self.run.registry.manifest(&digest).await?.is_none() {
            return Ok(Some("it also removed another tag on the same digest"));
        }
        // Some registries forget the manifest and leave the tag, which then points to nothing for ever.
        let listed = self.run.registry.tags().await?.iter().any(|tag| tag == self.tags.0.as_str());
        Ok((listed || a.is_some()).then_some("the tag was still there afterwards"))
    }

    /// Removes whatever of the probes is there, by tag and by digest: their digests are ours alone. What one registry
    /// refuses another one needs, so only what is left in the end is an error.
    async fn clean(&self, product: Option<Product>, method: &Result<Method, ReapError>) -> Result<(), ReapError> {
        let tags = [&self.tags.0, &self.tags.1];
        if product.is_some() && matches!(method, Err(ReapError::NoMethod { .. })) {
            // The tombstone left a tag that points to nothing, and the API finds only one that points to something. It comes
            // to this where the API works, too: another run took the probe away while it was tried.
            self.put(&self.by_api).await?;
        }
        for tag in tags {
            // By the API first: where a deleted manifest leaves its tags, what is done first counts.
            if product.is_some()
                && let Some(digest) = self.run.registry.resolve(tag).await?
            {
                let _ = self.run.registry.untag(tag, &digest).await;
            }
            if self.run.registry.resolve(tag).await?.is_some() {
                let _ = self.run.registry.delete_tag(tag).await;
            }
        }
        if product.is_some() && !matches!(method, Ok(Method::ByTag | Method::Tombstone)) {
            // What a deleted manifest does to tags is not known here.
            self.assert_gone(&tags).await?;
        }
        let by_api = product.map(|_| &self.by_api);
        for artifact in by_api.into_iter().chain([&self.by_tag, &self.by_tombstone, &self.tombstone()]) {
            let _ = self.run.registry.delete(&artifact.manifest.digest).await;
        }
        self.assert_gone(&tags).await
    }

    async fn assert_gone(&self, tags: &[&Tag]) -> Result<(), ReapError> {
        for tag in tags {
            if self.run.registry.resolve(tag).await?.is_some() {
                return Err(ReapError::ProbeLeft { repository: self.run.repository.clone(), tag: (*tag).clone() });
            }
        }
        Ok(())
    }
}

/// Whether a request was refused, so that it is refused the next time too.
pub fn is_refusal(error: &ReapError) -> bool {
    matches!(error, ReapError::Registry(error) if !error.is_passing())
}

/// An error and its causes in one line.
fn with_causes(error: &ReapError) -> String {
    let causes = std::iter::successors(Some(error as &dyn Error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
