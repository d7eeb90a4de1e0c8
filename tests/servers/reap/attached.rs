//! Signatures and their like, and images of several platforms.

use serde_json::json;

use super::{after_a_branch, apply, lines, save, tags};
use crate::project::Project;
use crate::support::image::{OCI_INDEX, OCI_MANIFEST};
use crate::support::servers;

/// Signs the image of a digest, as cosign does; the tag.
#[track_caller]
fn sign(project: &Project, digest: &str) -> String {
    let registry = servers().registry();
    let config = registry.put_blob(project.name, b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "annotations": {"of": digest},
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
    });
    let tag = format!("{}.sig", digest.replace(':', "-"));
    registry.put_manifest(project.name, &tag, OCI_MANIFEST, manifest.to_string().as_bytes());
    tag
}

#[test]
fn signatures_go_with_their_image_and_children_of_a_kept_index_stay() {
    let (project, dead) = after_a_branch("reap-signed");
    let gone = save(&project, "feat-foo-d8e70cfd-latest");
    let other = dead.iter().map(|tag| save(&project, tag)).find(|image| image.digest != gone.digest);
    let other = other.expect("the branch had two images");
    let master = project.digest("master-latest").expect("master has an image");
    // A foreign index has one of the two dead images.
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": other.media_type, "digest": other.digest, "size": other.bytes.len(),
            "platform": {"os": "linux", "architecture": "amd64"}}],
    });
    servers().registry().put_manifest(project.name, "several", OCI_INDEX, index.to_string().as_bytes());
    let [kept, dead_signature, child] = [&master, &gone.digest, &other.digest].map(|digest| sign(&project, digest));

    let ran = apply(&project.source);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(tags(&ran.stdout, "REMOVE").contains(&dead_signature.as_str()), "{}", ran.stdout);
    let keeps = lines(&ran.stdout, "KEEP");
    assert!(keeps.contains(&(child.as_str(), "belongs to the image of tag several, which stays")), "{}", ran.stdout);
    let left = project.tags();
    for tag in [&kept, &child, &"several".to_owned()] {
        assert!(left.contains(tag), "{tag}: {left:?}");
    }
    assert!(!left.contains(&dead_signature) && dead.iter().all(|tag| !left.contains(tag)), "{left:?}");
    assert_eq!(project.digest(&other.digest), Some(other.digest.clone()), "the child of the index is there");

    let again = apply(&project.source);
    assert_eq!(tags(&again.stdout, "REMOVE"), Vec::<&str>::new(), "{}", again.stdout);
}
