//! What prune asks of a repository besides what the reaper asks.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::clients::registry::{Manifest, Registry};
use crate::commands::reap::ReapError;
use crate::commands::reap::outside::RegistrySide;
use crate::commands::reap::registry::config;
use crate::names::{Digest, Repository};

/// A repository that is pruned.
///
/// It is a trait for the same reason as [`crate::commands::reap::outside::Outside`]. The real one is [`Registry`].
pub trait Pruned: RegistrySide {
    /// Which one it is.
    fn repository(&self) -> &Repository;

    /// When an image was made; or why that cannot be told, in one line.
    async fn created(&self, manifest: &Manifest) -> Result<Timestamp, String>;

    /// When the registry got each image, where the API of its product tells; or why that refuses, in one line.
    ///
    /// What it refuses it refuses the next time too, and the configs are asked each time. What may pass is an error: the
    /// order must not be another one by chance.
    async fn pushed(&self) -> Result<Result<BTreeMap<Digest, Timestamp>, String>, ReapError>;
}

impl Pruned for Registry {
    fn repository(&self) -> &Repository {
        self.repository()
    }

    async fn created(&self, manifest: &Manifest) -> Result<Timestamp, String> {
        let config = config(self, manifest).await.map_err(|error| error.to_string())?;
        let created = config.created.ok_or("its config has no `created`")?;
        created.parse().map_err(|_| format!("`created` of its config is {created:?}"))
    }

    async fn pushed(&self) -> Result<Result<BTreeMap<Digest, Timestamp>, String>, ReapError> {
        match self.pushed().await {
            Ok(pushed) => Ok(Ok(pushed)),
            Err(error) if !error.is_passing() => Ok(Err(error.why())),
            Err(error) => Err(error.into()),
        }
    }
}
