//! What the engine is asked for: the words of a build in the terms of BuildKit's Dockerfile frontend and its exporters.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest};

use super::identity::Exports;
use super::{Build, random_id};
use crate::request::RegistryTransport;

/// The request for a build.
pub(super) fn of(build: &Build<'_>, exports: Exports, session: String) -> SolveRequest {
    let (exporter, exported) = exporter(build, exports);
    SolveRequest {
        r#ref: random_id(),
        session,
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: attributes(build),
        // In both places: 20.10 knows only the old one, and without it exports nothing and says that all is well.
        // Newer engines take the old one only when the new one is empty.
        exporter_deprecated: exporter.to_owned(),
        exporter_attrs_deprecated: exported.clone(),
        exporters: vec![Exporter { r#type: exporter.to_owned(), attrs: exported }],
        ..SolveRequest::default()
    }
}

fn text(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn attributes(build: &Build<'_>) -> HashMap<String, String> {
    let mut attributes = HashMap::from([
        text("filename", build.dockerfile_name),
        // A base image is what its registry has, not what this engine happens to have under the name.
        text("image-resolve-mode", "pull"),
    ]);
    attributes.extend(build.target.map(|target| text("target", target)));
    attributes.extend(build.platform.map(|platform| text("platform", platform)));
    attributes.extend(build.args.iter().map(|(name, value)| text(&format!("build-arg:{name}"), value)));
    attributes.extend(build.labels.iter().map(|(name, value)| text(&format!("label:{name}"), value)));
    attributes
}

fn exporter(build: &Build<'_>, exports: Exports) -> (&'static str, HashMap<String, String>) {
    match exports {
        Exports::ToTheEngine => ("moby", HashMap::from([text("name", &build.reference.whole())])),
        Exports::ToTheRegistry => {
            let name = format!("{}/{}", build.reference.registry(), build.reference.repository());
            let mut exported = HashMap::from([
                text("name", &name),
                text("push", "true"),
                // Tags are ours to set, in our order; the image lies there without one until then.
                text("push-by-digest", "true"),
                // An engine with an image store of its own need not keep what nobody will run there.
                text("store", "false"),
                // Half as long as the engines' own level, for layers that are some percent larger.
                text("compression", "gzip"),
                text("compression-level", "1"),
            ]);
            if build.registry == RegistryTransport::Http {
                exported.extend([text("registry.insecure", "true")]);
            }
            ("image", exported)
        }
    }
}
