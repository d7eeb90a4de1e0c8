//! `--delete-untagged`: the space of images without a tag comes back, and nothing else goes.

use serde_json::{Value, json};

use super::apply;
use super::story::labels;
use crate::project::Project;
use crate::support::image::{OCI_INDEX, OCI_MANIFEST};
use crate::support::registry::{Options, Registry};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A project whose images lie on a registry of its own, so that its garbage can be collected.
struct Own {
    project: Project,
    registry: Registry,
    source: Value,
}

/// An image: its layer, and its manifest with the descriptor that an index has of it.
struct Image {
    layer: String,
    digest: String,
    descriptor: Value,
}

impl Own {
    fn new(name: &'static str) -> Self {
        let (project, registry) = (Project::new(name), Registry::start(Options::default()));
        let mut source = project.source.clone();
        source["registry"]["repository"] = json!(registry.repository(name));
        Self { project, registry, source }
    }

    /// The image of a commit, without a tag.
    fn image(&self, commit: &str, content: &str, layer: &[u8]) -> Image {
        let name = self.project.name;
        let labels = labels(&self.project, commit, content);
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": labels}}).to_string();
        let config_digest = self.registry.put_blob(name, config.as_bytes());
        let layer_digest = self.registry.put_blob(name, layer);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": layer_digest, "size": layer.len()}],
        })
        .to_string();
        let reference = crate::support::image::digest(manifest.as_bytes());
        let digest = self.registry.put_manifest(name, &reference, OCI_MANIFEST, manifest.as_bytes());
        let descriptor = json!({
            "mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.len(),
            "platform": {"os": "linux", "architecture": "amd64"},
        });
        Image { layer: layer_digest, digest, descriptor }
    }

    /// An index of images at tags; its digest.
    fn index(&self, images: &[&Image], tags: &[&str]) -> String {
        let manifests: Vec<&Value> = images.iter().map(|image| &image.descriptor).collect();
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string();
        let put = |tag: &&str| self.registry.put_manifest(self.project.name, tag, OCI_INDEX, index.as_bytes());
        tags.iter().map(put).last().expect("it has a tag")
    }

    fn has(&self, digest: &str) -> bool {
        self.registry.digest(self.project.name, digest).is_some()
    }

    fn reap(&self) -> String {
        let ran = apply(&self.source);
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        ran.stdout + &ran.stderr
    }
}

#[test]
fn the_space_of_a_branch_that_is_gone_comes_back() {
    let mut own = Own::new("reap-space");
    let living = own.project.git.git(&["rev-parse", "master"]);
    let dead = own.project.git.commit("feat/foo", &[]);
    own.project.git.delete("feat/foo");
    let (of_living, of_dead) = (format!("inputs-{}", "1".repeat(64)), format!("inputs-{}", "2".repeat(64)));
    let [kept, gone, shared] = [
        own.image(&living, &of_living, b"the layer of master"),
        own.image(&dead, &of_dead, b"the layer of the branch"),
        own.image(&dead, &of_dead, b"a layer that somebody else uses too"),
    ];
    own.index(&[&kept], &[&of_living, &living, "master-latest"]);
    let index = own.index(&[&gone, &shared], &[&of_dead, &dead, "feat-foo-d8e70cfd-latest"]);
    let foreign = own.index(&[&shared], &["mine"]);

    // Tags alone give nothing back, also not by garbage collection.
    own.reap();
    own.registry.collect_garbage();
    assert!(own.has(&index) && own.registry.has_blob_on_disk(&gone.layer));
    // Nobody noted it, so nobody deletes it: the tags are set and removed once more.
    own.source["reap"] = json!({"delete_untagged": true});
    own.reap();
    assert!(own.has(&index), "what was not noted is not known to be ours");
    own.index(&[&gone, &shared], &[&of_dead, &dead]);
    let log = own.reap();
    assert!(log.contains("images without a tag: 1"), "{log}");
    assert!(own.has(&index), "not in the run that takes its tags");

    let log = own.reap();
    let short = &index[..19];
    assert!(log.contains(&format!("DELETE   - {short} no tag is left since ")), "{log}");
    assert!(log.contains("; with 2 manifests more\n"), "{log}");
    assert!(log.contains(&format!("deleted {index}\n")), "{log}");
    assert!(log.contains("images deleted: 1, manifests: 2, kept tags verified: 4\n"), "{log}");
    assert!(!own.has(&index) && !own.has(&gone.digest));
    assert!(own.has(&shared.digest) && own.has(&foreign), "a foreign index has it");
    own.registry.collect_garbage();
    let on_disk = [&kept, &gone, &shared].map(|image| own.registry.has_blob_on_disk(&image.layer));
    assert_eq!(on_disk, [true, false, true]);
    assert_eq!(own.registry.tags(own.project.name).len(), 5, "with the journal");
}
