//! Errors of the registry.

use serde_json::{Value, json};

use super::{ends_with, names, put_tip, reference};
use crate::project::{Project, get, only};
use crate::support::registry::{Access, Account, Options, Registry, Transport};
use crate::support::{image, servers, temporary};

const ACCOUNT: Account<'_> = Account { username: "ada", password: "right-password" };

/// Puts to this registry, and holds the error against these words; REFERENCE in them is the image.
#[track_caller]
fn put_fails(name: &'static str, registry: Value, words: &str) {
    let project = Project::new(name);
    let ran = put_tip(&project.source_with(&[("/registry", registry.clone())]));
    let repository = registry["repository"].as_str().expect("a text");
    let image = if words.contains("REFERENCE") { reference(&ran, repository) } else { String::new() };
    let address = image.replacen('/', "/v2/", 1).replace(":inputs", "/manifests/inputs");
    ends_with(&ran, &words.replace("REFERENCE", &image).replace("ADDRESS", &address));
}

#[test]
fn a_registry_that_cannot_be_reached_is_named_with_the_request() {
    put_fails(
        "errors-registry-refused",
        json!({"repository": "127.0.0.1:1/app", "insecure": true}),
        "error: cannot read REFERENCE\n\
         cause: GET http://ADDRESS failed\n\
         cause: Connection refused (os error 111)\n\
         hint: check the host and port in `source.registry.repository`, and whether a proxy is needed to reach it from here\n",
    );
    put_fails(
        "errors-registry-unknown",
        json!({"repository": "nowhere.invalid/app"}),
        "error: cannot read REFERENCE\n\
         cause: GET https://ADDRESS failed\n\
         cause: failed to lookup address information: Temporary failure in name resolution\n\
         hint: check the host and port in `source.registry.repository`, and whether a proxy is needed to reach it from here\n",
    );
}

#[test]
fn http_and_https_that_meet_are_told_apart() {
    let plain = servers().registry().repository("errors-https");
    put_fails(
        "errors-registry-https",
        json!({"repository": plain}),
        &format!(
            "error: cannot read REFERENCE: {} speaks plain http, not https\n\
         hint: if it is meant to have no TLS, set `source.registry.insecure: true`\n",
            servers().registry().host()
        ),
    );
    let tls = Registry::start(Options { transport: Transport::Tls, ..Options::default() });
    let repository = tls.repository("errors-http");
    put_fails(
        "errors-registry-http",
        json!({"repository": repository, "insecure": true}),
        &format!(
            "error: cannot read REFERENCE: {} speaks https, not plain http\n\
         hint: take `insecure: true` out of `source.registry`\n",
            tls.host()
        ),
    );
    put_fails(
        "errors-registry-ca",
        json!({"repository": repository}),
        "error: cannot read REFERENCE\n\
         cause: GET https://ADDRESS failed\n\
         cause: invalid peer certificate: UnknownIssuer\n\
         hint: put the certificate of the authority that signed the registry's certificate into `source.registry.ca_certs`\n",
    );
    let no_pem = json!({"repository": repository, "ca_certs": ["no certificate"]});
    put_fails(
        "errors-registry-pem",
        no_pem,
        "error: entry 1 of `source.registry.ca_certs` is not a certificate in PEM form\n\
         hint: each entry is the text of a PEM file, with its BEGIN CERTIFICATE and END CERTIFICATE lines\n",
    );
}

#[test]
fn a_password_that_is_wrong_or_missing_is_said_by_its_key() {
    let registry = Registry::start(Options { access: Access::Basic(ACCOUNT), ..Options::default() });
    let repository = registry.repository("acme/app");
    let wrong = json!({"repository": repository, "insecure": true, "username": "ada", "password": "wrong-password"});
    put_fails(
        "errors-registry-wrong",
        wrong,
        "error: cannot read REFERENCE\n\
         cause: the registry answered 401 UNAUTHORIZED: authentication required (GET http://ADDRESS)\n\
         hint: check `source.registry.username` and `source.registry.password`\n",
    );
    put_fails(
        "errors-registry-none",
        json!({"repository": repository, "insecure": true}),
        "error: cannot read REFERENCE\n\
         cause: the registry answered 401 UNAUTHORIZED: authentication required (GET http://ADDRESS)\n\
         hint: give `source.registry.username` and `source.registry.password`\n",
    );
}

#[test]
fn a_token_server_that_knows_nobody_or_grants_too_little_is_said() {
    let registry = Registry::start(Options { access: Access::Token(ACCOUNT), ..Options::default() });
    let repository = registry.repository("acme/app");
    let wrong = json!({"repository": repository, "insecure": true, "username": "ada", "password": "wrong-password"});
    put_fails(
        "errors-token-wrong",
        wrong,
        &format!(
            "error: cannot read REFERENCE: no token was given for it\n\
         cause: the token server answered 401 UNAUTHORIZED: incorrect username or password (GET {})\n\
         hint: check `source.registry.username` and `source.registry.password`\n",
            registry.tokens().expect("it has one").url()
        ),
    );
    // Who gives no account may pull.
    put_fails(
        "errors-token-pull",
        json!({"repository": repository, "insecure": true}),
        "error: cannot push REFERENCE by the engine: the image was refused by its registry\n\
         cause: denied: requested access to the resource is denied\n\
         hint: check `source.registry.username` and `password`: the account needs to write to the repository\n",
    );
}

#[test]
fn a_layer_that_is_damaged_or_cut_off_in_the_registry_leaves_no_rootfs() {
    // A base of its own: the damage must not meet other tests.
    let registry = Registry::start(Options::default());
    let project = Project::new("errors-damaged");
    let source = project
        .source_with(&[("/registry", json!({"repository": registry.repository("errors-damaged"), "insecure": true}))]);
    let version = put_tip(&source).succeeds()["version"].clone();
    assert_eq!(version, only(&project.check(None)));
    let tag = format!("inputs-{}", version["inputs"].as_str().expect("a text"));
    let manifest = registry.image_manifest("errors-damaged", &tag);
    let digest = manifest["layers"][0]["digest"].as_str().expect("an image has layers").to_owned();
    let hex = digest.trim_start_matches("sha256:");
    let file = registry.data().join("blobs/sha256").join(&hex[..2]).join(hex).join("data");
    let whole = std::fs::read(&file).expect("the registry keeps the layer there");

    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0xff;
    std::fs::write(&file, &damaged).expect("the registry's data can be written");
    let directory = temporary();
    let ran = get(&source, &version, directory.path(), json!({}));
    let repository = registry.repository("errors-damaged");
    let hint = "hint: the image is damaged in the registry or on the way: run the step again, and if it stays, the registry's storage must be repaired\n";
    let actual = image::digest(&damaged);
    ends_with(
        &ran,
        &format!(
            "error: cannot download layer {digest}\n\
             cause: cannot read blob {digest} of {repository}: its bytes have the digest {actual}, not {digest}\n{hint}"
        ),
    );
    assert_eq!(names(directory.path()), [""; 0]);

    std::fs::write(&file, &whole[..whole.len() / 2]).expect("the registry's data can be written");
    let ran = get(&source, &version, directory.path(), json!({}));
    let address = registry.url(&format!("errors-damaged/blobs/{digest}"));
    ends_with(
        &ran,
        &format!(
            "error: cannot download layer {digest}\n\
             cause: cannot read blob {digest} of {repository}\n\
             cause: GET {address} failed\n\
             cause: end of file before message length reached\n\
             hint: the network, a proxy or the registry ended the transfer: run the step again\n"
        ),
    );
    assert_eq!(names(directory.path()), [""; 0]);

    std::fs::write(&file, &whole).expect("the registry's data can be written");
    get(&source, &version, directory.path(), json!({})).succeeds();
}

#[test]
fn a_manifest_that_is_damaged_in_the_registry_leaves_no_file() {
    let registry = Registry::start(Options::default());
    let project = Project::new("errors-manifest");
    let repository = registry.repository("errors-manifest");
    let source = project.source_with(&[("/registry", json!({"repository": repository, "insecure": true}))]);
    let version = put_tip(&source).succeeds()["version"].clone();
    let digest = registry.digest("errors-manifest", "master-latest").expect("the put has set it");
    let hex = digest.trim_start_matches("sha256:");
    let file = registry.data().join("blobs/sha256").join(&hex[..2]).join(hex).join("data");
    let manifest = std::fs::read_to_string(&file).expect("the registry keeps the manifest there");
    std::fs::write(&file, manifest.replace("sha256:", "sha256: ")).expect("the registry's data can be written");
    let directory = temporary();
    let ran = get(&source, &version, directory.path(), json!({}));
    let actual = image::digest(&std::fs::read(&file).expect("it was written"));
    ends_with(
        &ran,
        &format!(
            "error: cannot read {}: its bytes have the digest {actual}, not {digest}\n\
             hint: the image is damaged in the registry or on the way: run the step again, and if it stays, the registry's storage must be repaired\n",
            reference(&ran, &repository)
        ),
    );
    assert_eq!(names(directory.path()), [""; 0]);
}
