//! What the engine is asked for: the words of a build in the terms of BuildKit's Dockerfile frontend and its exporters.

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::moby::buildkit::v1::{CacheOptions, CacheOptionsEntry, Exporter, SolveRequest};

use super::error::EngineError;
use super::identity::Exports;
use super::{Build, NamedContext, content, random_id};
use crate::request::{Compression, Network, RegistryCache, RegistryTransport, Steps, Timestamps};

/// The level of gzip when none is given: half as long as the engines' own, for layers that are some percent larger.
const GZIP_LEVEL: u8 = 1;

/// Refuses what an engine cannot do that keeps images in a store of its own: it would leave it out without a word, or
/// fail in words of its own.
pub(super) fn refuse(build: &Build<'_>, exports: Exports, engine: &str) -> Result<(), EngineError> {
    let options = build.options;
    let image = build.given.contexts.iter().find(|(_, context)| matches!(context, NamedContext::Image(_)));
    let image = image.map(|(name, _)| format!("contexts.{name}: an image on disk"));
    let asked = [
        (image.as_deref().unwrap_or_default(), image.is_some()),
        ("source.build.compression", options.compression.is_some()),
        ("source.build.reproducible: true", options.timestamps == Timestamps::Rewritten),
        ("source.build.cache: true", options.cache == RegistryCache::Always),
        ("source.build.platforms", build.platforms.len() > 1),
    ];
    match (exports, asked.iter().find(|(_, asked)| *asked)) {
        (Exports::ToTheEngine, Some((key, _))) => {
            Err(EngineError::Unable { key: (*key).to_owned(), engine: engine.to_owned() })
        }
        (Exports::ToTheEngine | Exports::ToTheRegistry | Exports::Nowhere, _) => Ok(()),
    }
}

/// The request for a build.
pub(super) fn of(build: &Build<'_>, exports: Exports, session: String) -> SolveRequest {
    let mut request = SolveRequest {
        r#ref: random_id(),
        session,
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: attributes(build),
        entitlements: build.options.entitlements().into_iter().map(|one| one.as_str().to_owned()).collect(),
        ..SolveRequest::default()
    };
    let (exporter, exported) = match exports {
        Exports::ToTheEngine => ("moby", HashMap::from([text("name", &build.reference.whole())])),
        Exports::ToTheRegistry => ("image", to_the_registry(build)),
        Exports::Nowhere => return request,
    };
    if exports == Exports::ToTheRegistry {
        request.cache = Some(cache(build));
    }
    // In both places: 20.10 knows only the old one, and without it exports nothing and says that all is well.
    // Newer engines take the old one only when the new one is empty.
    exporter.clone_into(&mut request.exporter_deprecated);
    request.exporter_attrs_deprecated = exported.clone();
    request.exporters = vec![Exporter { r#type: exporter.to_owned(), attrs: exported }];
    request
}

fn text(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn attributes(build: &Build<'_>) -> HashMap<String, String> {
    let options = build.options;
    let mut attributes = HashMap::from([
        text("filename", build.dockerfile_name),
        // A base image is what its registry has, not what this engine happens to have under the name.
        text("image-resolve-mode", "pull"),
        text("platform", &build.platforms.iter().map(String::as_str).collect::<Vec<_>>().join(",")),
        // The image was made when its commit was. A Dockerfile that wants to know declares the ARG.
        text("build-arg:SOURCE_DATE_EPOCH", &build.commit_time.to_string()),
    ]);
    attributes.extend(build.target.map(|target| text("target", target)));
    // Before the args, which may say otherwise.
    attributes.extend(build.given.proxies.iter().map(|(name, value)| text(&format!("build-arg:{name}"), value)));
    attributes.extend(build.args.iter().map(|(name, value)| text(&format!("build-arg:{name}"), value)));
    attributes.extend(build.labels.iter().map(|(name, value)| text(&format!("label:{name}"), value)));
    attributes.extend(build.given.contexts.iter().map(|(name, context)| {
        let source = match context {
            NamedContext::Fetched(address) => address.clone(),
            NamedContext::Files(_) => format!("local:{name}"),
            NamedContext::Image(blobs) => format!("oci-layout://{}@{}", content::STORE, blobs.root()),
        };
        text(&format!("context:{name}"), &source)
    }));
    if !build.given.contexts.is_empty() {
        // A frontend that does not know named contexts says so, and does not look for images of these names.
        attributes.extend([text("frontend.caps", "moby.buildkit.frontend.contexts")]);
    }
    let pairs = |map: &BTreeMap<String, String>| {
        map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    };
    if !options.add_hosts.is_empty() {
        attributes.extend([text("add-hosts", &pairs(&options.add_hosts))]);
    }
    if !options.ulimits.is_empty() {
        attributes.extend([text("ulimit", &pairs(&options.ulimits))]);
    }
    attributes.extend(options.shm_size_bytes.map(|bytes| text("shm-size", &bytes.to_string())));
    attributes.extend(match options.network {
        Network::Engine => None,
        Network::None => Some(text("force-network-mode", "none")),
        Network::Host => Some(text("force-network-mode", "host")),
    });
    if options.steps == Steps::Again {
        // Without names of stages: all of them.
        attributes.extend([text("no-cache", "")]);
    }
    if !build.cache.from.is_empty() {
        let imports: Vec<_> =
            cache_imports(build).map(|entry| serde_json::json!({"Type": entry.r#type, "Attrs": entry.attrs})).collect();
        attributes.extend([text("cache-imports", &serde_json::Value::Array(imports).to_string())]);
    }
    attributes
}

fn to_the_registry(build: &Build<'_>) -> HashMap<String, String> {
    let name = format!("{}/{}", build.reference.registry(), build.reference.repository());
    let mut exported = HashMap::from([
        text("name", &name),
        text("push", "true"),
        // Tags are ours to set, in our order; the image lies there without one until then.
        text("push-by-digest", "true"),
        // An engine with an image store of its own need not keep what nobody will run there.
        text("store", "false"),
        // A Docker engine would take its own, which have no zstd.
        text("oci-mediatypes", "true"),
    ]);
    exported.extend(compression(build.options.compression));
    exported.extend(insecure(build));
    if build.options.timestamps == Timestamps::Rewritten {
        exported.extend([text("rewrite-timestamp", "true")]);
    }
    exported
}

fn compression(compression: Option<Compression>) -> Vec<(String, String)> {
    let (name, level) = match compression {
        None => ("gzip", Some(GZIP_LEVEL)),
        Some(Compression::Gzip(level)) => ("gzip", level.or(Some(GZIP_LEVEL))),
        Some(Compression::Zstd(level)) => ("zstd", level),
    };
    let level = level.map(|level| text("compression-level", &level.to_string()));
    std::iter::once(text("compression", name)).chain(level).collect()
}

fn insecure(build: &Build<'_>) -> Option<(String, String)> {
    (build.registry == RegistryTransport::Http).then(|| text("registry.insecure", "true"))
}

fn cache_imports(build: &Build<'_>) -> impl Iterator<Item = CacheOptionsEntry> {
    build.cache.from.iter().map(|reference| CacheOptionsEntry {
        r#type: "registry".to_owned(),
        attrs: std::iter::once(text("ref", reference)).chain(insecure(build)).collect(),
    })
}

fn cache(build: &Build<'_>) -> CacheOptions {
    let export = |reference: &String| {
        let mut attrs = HashMap::from([
            text("ref", reference),
            // The steps of all stages: those that the image does not have are the long ones.
            text("mode", "max"),
            // A good build is not lost because its cache cannot be written.
            text("ignore-error", "true"),
            text("image-manifest", "true"),
            text("oci-mediatypes", "true"),
        ]);
        attrs.extend(compression(build.options.compression));
        attrs.extend(insecure(build));
        CacheOptionsEntry { r#type: "registry".to_owned(), attrs }
    };
    CacheOptions {
        exports: build.cache.to.iter().map(export).collect(),
        imports: cache_imports(build).collect(),
        ..CacheOptions::default()
    }
}
