//! The engines of one build: one, or one for each platform that the source gives an engine of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::clients::engine::embedded::SCRATCH;
use crate::clients::engine::{Build, Built, EmbeddedSettings, Engine, EngineError};
use crate::clients::registry::{At, Manifest};
use crate::commands::StepError;
use crate::commands::put::Put;
use crate::dockerfile;
use crate::error::Error;
use crate::names::Digest;
use crate::request::EngineHost;

/// The media type of what several platforms make together.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An engine, and the platforms that it builds for.
struct Builder {
    engine: Engine,
    platforms: BTreeSet<String>,
}

/// Engines that answer, one at least.
pub struct Builders(Vec<Builder>);

impl Builders {
    /// Connects to each, before anything is built.
    ///
    /// # Errors
    ///
    /// One does not answer, or cannot run what the Dockerfile runs for one of its platforms.
    pub async fn connect(put: &Put<'_>, dockerfile: &[u8]) -> Result<Self, EngineError> {
        let recipe = &put.subject.recipe;
        let mut by_host: BTreeMap<Option<usize>, BTreeSet<String>> = BTreeMap::new();
        let own: Vec<(&String, &EngineHost)> = put.source.engine.platforms.iter().collect();
        for platform in &recipe.platforms {
            // Platforms of one engine are built together.
            let host = own.iter().find(|(name, _)| *name == platform).map(|(_, host)| *host);
            let number = host.and_then(|host| own.iter().position(|(_, other)| *other == host));
            by_host.entry(number).or_default().insert(platform.clone());
        }
        let image = format!(
            "{} {} {} {}",
            put.registry.repository(),
            recipe.dockerfile,
            recipe.target.as_deref().unwrap_or_default(),
            recipe.platforms.iter().map(String::as_str).collect::<Vec<_>>().join(",")
        );
        let inside = EmbeddedSettings { scratch: Path::new(SCRATCH), environment: put.programs, source: put.source };
        let mut builders = Vec::new();
        for (number, platforms) in by_host {
            let engine = match number {
                None => Engine::connect(&inside, &image, put.say).await?,
                Some(number) => Engine::connect_to(own[number].1.clone(), &inside, put.say).await?,
            };
            put.say.line(format_args!("engine: {}", engine.describe()));
            if let Some(advice) = engine.advice() {
                put.say.line(advice);
            }
            if dockerfile::runs_programs(dockerfile, recipe.target.as_deref()) {
                engine.can_run(&platforms)?;
            }
            builders.push(Builder { engine, platforms });
        }
        Ok(Self(builders))
    }

    /// Whether an engine has never built anything: then a cache in the registry helps.
    pub fn begin_empty(&self) -> bool {
        self.0.iter().any(|builder| builder.engine.begins_empty())
    }

    /// Whether every engine knows named contexts, by which an image is taken by digest.
    pub fn can_pin(&self) -> bool {
        self.0.iter().all(|builder| builder.engine.can_pin())
    }

    /// Builds each platform by its engine, and keeps nothing.
    ///
    /// # Errors
    ///
    /// As for [`Engine::test`].
    pub async fn test(&self, put: &Put<'_>, build: &Build<'_>) -> Result<(), EngineError> {
        for Builder { engine, platforms } in &self.0 {
            engine.test(&Build { platforms, ..build.clone() }, put.say).await?;
        }
        Ok(())
    }

    /// Builds each platform by its engine, one after the other; what several engines made becomes one index.
    ///
    /// # Errors
    ///
    /// As for [`Engine::build`]; the index cannot be put.
    pub async fn build(&self, put: &Put<'_>, build: &Build<'_>) -> Result<Built, Error> {
        if let [Builder { engine, .. }] = self.0.as_slice() {
            return Ok(engine.build(build, put.say).await?);
        }
        let mut manifests = Vec::new();
        for Builder { engine, platforms } in &self.0 {
            let names = platforms.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            put.say.line(format_args!("build: {names} by {}", engine.describe()));
            match engine.build(&Build { platforms, ..build.clone() }, put.say).await? {
                Built::Pushed(digest) => manifests.extend(descriptors(put, digest, platforms).await?),
                Built::InEngine(built) => {
                    built.discard().await?;
                    let key = "source.engine.platforms".to_owned();
                    return Err(EngineError::Unable { key, engine: engine.describe() }.into());
                }
            }
        }
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let bytes = index.to_string().into_bytes();
        let index = Manifest { digest: Digest::of(&bytes), media_type: INDEX.to_owned(), bytes: bytes.into() };
        put.registry.put_manifest(At::Digest(&index.digest), &index).await?;
        Ok(Built::Pushed(index.digest))
    }

    /// Ends the engine that was started for this build, if one was; any other stays as it is.
    pub fn close(self) {
        for Builder { engine, .. } in self.0 {
            engine.close();
        }
    }
}

/// What an engine pushed, as entries of an index: one manifest, or those of its own index.
async fn descriptors(
    put: &Put<'_>,
    digest: Digest,
    platforms: &BTreeSet<String>,
) -> Result<Vec<serde_json::Value>, Error> {
    let manifest = put.registry.manifest(At::Digest(&digest)).await?;
    let repository = put.registry.repository();
    let manifest = manifest.ok_or_else(|| StepError::ImageGone { repository: repository.clone(), digest })?;
    let read: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    if let Some(inner) = read["manifests"].as_array() {
        return Ok(inner.clone());
    }
    let platform = platforms.iter().map(|platform| platform_object(platform)).next();
    Ok(vec![serde_json::json!({
        "mediaType": manifest.media_type,
        "digest": digest,
        "size": manifest.bytes.len(),
        "platform": platform,
    })])
}

/// `linux/arm/v7` as an index has it.
fn platform_object(platform: &str) -> serde_json::Value {
    let names = ["os", "architecture", "variant"];
    names
        .into_iter()
        .zip(platform.split('/'))
        .map(|(name, part)| (name.to_owned(), serde_json::Value::from(part)))
        .collect()
}
