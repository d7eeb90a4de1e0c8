//! The client against a server that lies, for answers that no honest registry gives on demand.
//!
//! Longer than 500 lines, and one subject: each test is a short script of answers.

use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;

use super::liar::{Liar, Page, reply};
use super::*;

mod downloads;

#[test]
fn every_request_can_run_on_any_thread() {
    fn sendable<T: Send>(_: T) {}
    #[expect(dead_code, reason = "that it compiles is the test")]
    fn all(registry: &Registry, at: At<'_>, descriptor: &Descriptor, tag: &Tag, manifest: &Manifest) {
        sendable(registry.resolve(tag));
        sendable(registry.image(at, Choice::Rather(&ImagePlatform::default())));
        sendable(registry.blob(descriptor));
        sendable(registry.stream_blob(descriptor));
        sendable(registry.push_blob("", Bytes::new()));
        sendable(registry.put_manifest(at, manifest));
        sendable(registry.tags());
        sendable(registry.delete(&descriptor.digest));
        sendable(registry.untag(tag, &descriptor.digest));
    }
}

fn tag() -> Tag {
    "v1".parse().expect("it is a tag")
}

fn blob_of(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/octet-stream".to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: Default::default(),
    }
}

const TAGS: &str = r#"{"name":"acme/app","tags":["b","a"]}"#;

#[tokio::test]
async fn a_429_is_waited_for_as_long_as_the_registry_says_and_that_is_said() {
    let limited = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    let liar = Liar::start(move |heard| match heard.len() {
        1 => reply(429, &["retry-after: 1"], limited),
        _ => reply(200, &[], TAGS),
    })
    .await;
    let page = Page::default();
    let began = std::time::Instant::now();
    let tags = liar.registry_with(None, &Say::new(page.clone())).tags().await.expect("the second try works");
    assert_eq!(tags, ["a", "b"]);
    assert!(began.elapsed() >= std::time::Duration::from_secs(1));
    let said = page.text().replace(&liar.host, "HOST");
    assert_eq!(
        said,
        "cannot list the tags of HOST/acme/app yet: the registry answered 429 TOOMANYREQUESTS: slow down \
         (GET http://HOST/v2/acme/app/tags/list?n=1000); trying again in 1.0 s (2 of 4)\n"
    );
}

#[tokio::test]
async fn a_429_that_asks_for_an_hour_is_an_error_at_once() {
    let liar = Liar::start(|_| reply(429, &["retry-after: 3600"], "")).await;
    let error = liar.registry().tags().await.expect_err("nobody waits for an hour");
    assert_eq!(
        liar.report(error),
        "error: cannot list the tags of HOST/acme/app\n\
         cause: the registry answered 429 Too Many Requests (GET http://HOST/v2/acme/app/tags/list?n=1000)\n\
         hint: wait, or use an account with a higher limit in `source.registry.username`"
    );
    assert_eq!(liar.lines().len(), 1);
}

#[tokio::test]
async fn a_500_is_tried_again_and_four_of_them_are_an_error() {
    let liar = Liar::start(|heard| if heard.len() < 4 { reply(500, &[], "") } else { reply(200, &[], TAGS) }).await;
    assert_eq!(liar.registry().tags().await.expect("the fourth try works"), ["a", "b"]);

    let liar = Liar::start(|_| reply(503, &["content-type: text/plain"], "back\nsoon\u{7}")).await;
    let error = liar.registry().tags().await.expect_err("it never works");
    assert_eq!(
        liar.report(error),
        "error: cannot list the tags of HOST/acme/app\n\
         cause: the registry answered 503 Service Unavailable: back soon (GET http://HOST/v2/acme/app/tags/list?n=1000)\n\
         hint: the registry has a fault, which its log explains; run the step again later"
    );
    assert_eq!(liar.lines().len(), 4);
}

#[tokio::test]
async fn a_delete_is_never_repeated() {
    let liar = Liar::start(|_| reply(500, &[], "")).await;
    let digest = Digest::of(b"");
    assert!(matches!(liar.registry().delete(&digest).await, Err(RegistryError::Server { .. })));
    assert_eq!(liar.lines(), [format!("DELETE /v2/acme/app/manifests/{digest}")]);

    let liar = Liar::start(|_| String::new()).await;
    assert!(matches!(liar.registry().delete(&digest).await, Err(RegistryError::Interrupted { .. })));
    assert_eq!(liar.lines().len(), 1);
}

#[tokio::test]
async fn a_delete_ends_as_the_registry_says() {
    let error = |code: &str| format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#);
    let rows: [(u16, String, Option<Deleted>, Option<Deleted>); 6] = [
        (202, String::new(), Some(Deleted::Gone), Some(Deleted::Gone)),
        (404, error("MANIFEST_UNKNOWN"), Some(Deleted::WasNotThere), Some(Deleted::WasNotThere)),
        (404, "404 page not found".to_owned(), None, None),
        (405, error("UNSUPPORTED"), Some(Deleted::NotAllowed), Some(Deleted::NotAllowed)),
        (400, error("UNSUPPORTED"), Some(Deleted::NotAllowed), Some(Deleted::NotAllowed)),
        (400, error("DIGEST_INVALID"), None, Some(Deleted::NotAllowed)),
    ];
    for (status, body, by_digest, by_tag) in rows {
        let row = format!("{status} {body}");
        let liar = Liar::start(move |_| reply(status, &[], &body)).await;
        assert_eq!(liar.registry().delete(&Digest::of(b"")).await.ok(), by_digest, "{row}");
        assert_eq!(liar.registry().delete_tag(&tag()).await.ok(), by_tag, "{row}");
    }
}

/// A registry that wants tokens, and the server that gives them, in one: the n-th token is `token-n`.
async fn token_registry(good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Liar {
    token_registry_with(300, good).await
}

/// The same, with tokens that live so many seconds.
async fn token_registry_with(life: u64, good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Liar {
    let host = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&host);
    let liar = Liar::start(move |heard| {
        let now = heard.last().expect("there is one");
        let given = heard.iter().filter(|request| request.line.starts_with("GET /token")).count();
        if now.line.starts_with("GET /token") {
            return reply(200, &[], &format!(r#"{{"token":"token-{given}","expires_in":{life}}}"#));
        }
        match now.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if good(token) => reply(200, &[], TAGS),
            _ => {
                let host = own.lock().expect("no holder panics");
                let challenge = format!(
                    r#"www-authenticate: Bearer realm="http://{host}/token",service="a, b",scope="repository:acme/app:pull""#
                );
                reply(401, &[&challenge], "")
            }
        }
    })
    .await;
    liar.host.clone_into(&mut host.lock().expect("no holder panics"));
    liar
}

#[tokio::test]
async fn a_token_is_fetched_once_and_kept_and_basic_credentials_go_to_its_server_only_after() {
    let liar = token_registry(|_| true).await;
    let registry = liar.registry_of_alice();
    registry.tags().await.expect("the token is good");
    registry.tags().await.expect("the token is good");
    let heard = liar.heard();
    let requests: Vec<_> = heard.iter().map(|one| (one.line.as_str(), one.authorization.as_deref())).collect();
    let (list, basic) = ("GET /v2/acme/app/tags/list?n=1000", Some("Basic YWxpY2U6c2VjcmV0"));
    assert_eq!(
        requests,
        [
            (list, basic),
            ("GET /token?service=a%2C+b&scope=repository%3Aacme%2Fapp%3Apull", basic),
            (list, Some("Bearer token-1")),
            (list, Some("Bearer token-1")),
        ]
    );
}

#[tokio::test]
async fn a_token_that_is_refused_in_the_middle_is_renewed_once() {
    let refused = Arc::new(Mutex::new(false));
    let flag = Arc::clone(&refused);
    let liar = token_registry(move |token| !(token == "token-1" && *flag.lock().expect("no holder panics"))).await;
    let registry = liar.registry_of_alice();
    registry.tags().await.expect("the token is good");
    *refused.lock().expect("no holder panics") = true;
    registry.tags().await.expect("a new token is fetched");
    let fetched = liar.lines().iter().filter(|line| line.starts_with("GET /token")).count();
    assert_eq!(fetched, 2);

    let liar = token_registry(|_| false).await;
    let error = liar.registry_of_alice().tags().await.expect_err("no token is good");
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert_eq!(liar.lines().len(), 3);
}

#[tokio::test]
async fn a_token_that_has_expired_is_renewed_before_anybody_refuses_it() {
    let liar = token_registry_with(0, |_| true).await;
    let registry = liar.registry_of_alice();
    for _ in 0..3 {
        registry.tags().await.expect("the token is good");
    }
    let (list, token) =
        ("GET /v2/acme/app/tags/list?n=1000", "GET /token?service=a%2C+b&scope=repository%3Aacme%2Fapp%3Apull");
    assert_eq!(liar.lines(), [list, token, list, token, list, token, list]);
}

#[tokio::test]
async fn many_requests_at_once_fetch_one_token() {
    let liar = token_registry(|_| true).await;
    let registry = liar.registry_of_alice();
    let answers = futures_util::future::join_all((0..20).map(|_| registry.tags())).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(liar.lines().iter().filter(|line| line.starts_with("GET /token")).count(), 1);
}

#[tokio::test]
async fn a_token_server_that_refuses_is_heard() {
    let liar = Liar::start(|_| reply(401, &[r#"www-authenticate: Bearer realm="/token""#], "")).await;
    let error = liar.registry_of_alice().tags().await.expect_err("the realm is no address");
    assert_eq!(
        liar.report(error),
        "error: cannot list the tags of HOST/acme/app: the registry asks for credentials in a way that is not followed: \
         the address of its token server is not a URL"
    );

    let tokens = Liar::start(|_| reply(401, &[], r#"{"details":"incorrect username or password"}"#)).await;
    let realm = format!(r#"www-authenticate: Bearer realm="http://{}/token?account=x&key=hidden""#, tokens.host);
    let liar = Liar::start(move |_| reply(401, &[&realm], "")).await;
    let error = liar.registry_of_alice().tags().await.expect_err("the token is refused");
    assert_eq!(
        liar.report(error).replace(&tokens.host, "TOKENS"),
        "error: cannot list the tags of HOST/acme/app: no token was given for it\n\
         cause: the token server answered 401 Unauthorized: incorrect username or password (GET http://TOKENS/token)\n\
         hint: check `source.registry.username` and `source.registry.password`"
    );
}

#[tokio::test]
async fn a_token_without_the_right_is_a_matter_of_access_not_of_the_password() {
    let tokens = Liar::start(|_| reply(200, &[], r#"{"access_token":"t"}"#)).await;
    let challenge = format!(
        r#"www-authenticate: Bearer realm="http://{}/token",scope="repository:acme/app:delete",error="insufficient_scope""#,
        tokens.host
    );
    let liar = Liar::start(move |_| reply(401, &[&challenge], "")).await;
    let digest = Digest::of(b"");
    let error = liar.registry_of_alice().delete(&digest).await.expect_err("the token has not the right");
    assert_eq!(
        liar.report(error),
        format!(
            "error: cannot delete HOST/acme/app@{digest}\n\
             cause: the registry answered 401 Unauthorized (DELETE http://HOST/v2/acme/app/manifests/{digest})\n\
             hint: give the account in `source.registry.username` delete access to HOST/acme/app"
        )
    );
    assert_eq!(tokens.lines(), ["GET /token?scope=repository%3Aacme%2Fapp%3Adelete"]);
}

#[tokio::test]
async fn a_denied_push_says_why_and_who_needs_which_access() {
    let denied = r#"{"errors":[{"code":"DENIED","message":"write access refused"}]}"#;
    let liar = Liar::start(move |_| reply(403, &[], denied)).await;
    let error = liar.registry_of_alice().push_blob("x", Bytes::new()).await.expect_err("it is denied");
    assert_eq!(
        liar.report(error),
        format!(
            "error: cannot push blob {} to HOST/acme/app\n\
             cause: the registry answered 403 DENIED: write access refused (POST http://HOST/v2/acme/app/blobs/uploads/)\n\
             hint: give the account in `source.registry.username` write access to HOST/acme/app",
            Digest::of(b"")
        )
    );
}

#[tokio::test]
async fn a_push_of_a_blob_that_fails_half_way_begins_anew() {
    let liar = Liar::start(|heard| {
        let now = heard.last().expect("there is one");
        match now.line.split(' ').next().unwrap_or_default() {
            "HEAD" => reply(404, &[], ""),
            "POST" => reply(202, &["location: /upload"], ""),
            _ if heard.len() == 3 => reply(502, &[], ""),
            _ => reply(201, &[], ""),
        }
    })
    .await;
    let pushed = liar.registry().push_blob("x", Bytes::from_static(b"x")).await.expect("the second try works");
    assert_eq!((pushed.digest, pushed.size), (Digest::of(b"x"), 1));
    let methods: Vec<String> = liar.lines().iter().map(|line| line.split(' ').take(1).collect()).collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT", "HEAD", "POST", "PUT"]);
}

#[tokio::test]
async fn a_registry_that_nobody_serves_is_tried_four_times_and_the_report_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let host = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    let liar = Liar { host, heard: Arc::default() };
    let page = Page::default();
    let error = liar.registry_with(None, &Say::new(page.clone())).resolve(&tag()).await.expect_err("nobody is there");
    assert_eq!(
        liar.report(error),
        "error: cannot read HOST/acme/app:v1\n\
         cause: HEAD http://HOST/v2/acme/app/manifests/v1 failed\n\
         cause: Connection refused (os error 111)\n\
         hint: check the host and port in `source.registry.repository`, and whether a proxy is needed to reach it from here"
    );
    let said = page.text().replace(&liar.host, "HOST");
    assert_eq!(
        said.lines().next(),
        Some(
            "cannot read HOST/acme/app:v1 yet: HEAD http://HOST/v2/acme/app/manifests/v1 failed: \
             Connection refused (os error 111); trying again in 0.0 s (2 of 4)"
        )
    );
    assert_eq!(said.lines().count(), 3);
}

#[tokio::test]
async fn an_image_is_read_through_its_index_and_what_is_no_image_is_told() {
    let config = r#"{"architecture":"amd64","os":"linux","config":{"Labels":{"a":"b"}},"rootfs":{"diff_ids":null}}"#;
    let described = |kind: &str, text: &str, more: &str| {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}{more}}}"#, Digest::of(text.as_bytes()), text.len())
    };
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let config_descriptor = described("application/vnd.oci.image.config.v1+json", config, "");
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config_descriptor},"layers":null}}"#);
    let children = [("arm64", "other"), ("amd64", manifest.as_str())].map(|(architecture, text)| {
        described(kind, text, &format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#))
    });
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","));
    let no_index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children[0]);
    let cache = manifest.replace("oci.image.config.v1+json", "buildkit.cacheconfig.v0");
    // What a tag points to stays the index: tags are moved with all of its platforms.
    let expected = Digest::of(index.as_bytes());
    let liar = Liar::start(move |heard| {
        let line = &heard.last().expect("there is one").line;
        let index_kind = "content-type: application/vnd.oci.image.index.v1+json";
        let image_kind = "content-type: application/vnd.oci.image.manifest.v1+json";
        match line.rsplit('/').next().unwrap_or_default() {
            "index" => reply(200, &[index_kind], &index),
            "foreign" => reply(200, &[index_kind], &no_index),
            "cache" => reply(200, &[image_kind], &cache),
            digest if digest == Digest::of(manifest.as_bytes()).to_string() => reply(200, &[image_kind], &manifest),
            _ => reply(200, &[], config),
        }
    })
    .await;
    let registry = liar.registry();
    let at = |name: &str| name.parse::<Tag>().expect("it is a tag");
    let ours = ImagePlatform::default();
    let image =
        registry.image(At::Tag(&at("index")), Choice::Only(&ours)).await.expect("it is good").expect("it is there");
    assert_eq!((image.manifest.digest, image.label("a")), (expected, Some("b")));
    assert_eq!(liar.lines().len(), 3);

    let error =
        registry.image(At::Tag(&at("foreign")), Choice::Only(&ours)).await.expect_err("it is for another platform");
    assert_eq!(
        liar.report(error),
        "error: HOST/acme/app:foreign has no image for linux/amd64; it has linux/arm64\n\
         hint: build the image for linux/amd64, or say with `source.registry.platform` or `params.platform` of the get which one is wanted"
    );
    let error = registry.image(At::Tag(&at("cache")), Choice::Only(&ours)).await.expect_err("it is a cache");
    assert!(matches!(error, RegistryError::NotAnImage { .. }), "{error:?}");
}

#[tokio::test]
async fn an_index_in_an_index_is_looked_into_and_its_platforms_are_told() {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index_kind = "application/vnd.oci.image.index.v1+json";
    let config = r#"{"architecture":"arm64","os":"linux"}"#;
    let described = |kind: &str, text: &str, platform: Option<&str>| {
        let platform = platform.map(|architecture| {
            let os = if architecture == "unknown" { "unknown" } else { "linux" };
            format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
        });
        let (digest, size) = (Digest::of(text.as_bytes()), text.len());
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}{}}}"#, platform.unwrap_or_default())
    };
    let index_of = |children: &[String]| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","));
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#,
        described("application/vnd.oci.image.config.v1+json", config, None)
    );
    let inner = index_of(&[described(kind, "s390x", Some("s390x")), described(kind, &manifest, Some("arm64"))]);
    let attestation = described(kind, "attestation", Some("unknown"));
    let outer = index_of(&[attestation, described(index_kind, &inner, None), described(kind, "amd64", Some("amd64"))]);
    let digest = Digest::of(outer.as_bytes());
    let liar = Liar::start(move |heard| {
        let line = &heard.last().expect("there is one").line;
        let (index_kind, kind) = (format!("content-type: {index_kind}"), format!("content-type: {kind}"));
        let is = |text: &str| line.ends_with(&Digest::of(text.as_bytes()).to_string());
        match () {
            () if is(&outer) => reply(200, &[&index_kind], &outer),
            () if is(&inner) => reply(200, &[&index_kind], &inner),
            () if is(&manifest) => reply(200, &[&kind], &manifest),
            () => reply(200, &[], config),
        }
    })
    .await;
    let registry = liar.registry();
    let wanted = |architecture: &str| ImagePlatform { architecture: architecture.to_owned(), ..Default::default() };
    let image = registry.image(At::Digest(&digest), Choice::Only(&wanted("arm64"))).await;
    let image = image.expect("it is good").expect("it is there");
    assert_eq!((image.manifest.digest, image.config.architecture.as_str()), (digest, "arm64"));
    let error = registry.image(At::Digest(&digest), Choice::Only(&wanted("riscv64"))).await.expect_err("it has none");
    assert_eq!(
        liar.report(error),
        format!(
            "error: HOST/acme/app@{digest} has no image for linux/riscv64; it has linux/amd64, linux/s390x, linux/arm64\n\
             hint: build the image for linux/riscv64, or say with `source.registry.platform` or `params.platform` of the \
             get which one is wanted"
        )
    );
}

#[tokio::test]
async fn no_error_and_no_line_shows_the_password() {
    let liar = Liar::start(|_| reply(401, &["www-authenticate: Basic realm=\"x\""], "")).await;
    let error = liar.registry_of_alice().tags().await.expect_err("the password is wrong");
    let shown = format!("{error:?}") + &liar.report(error);
    assert!(!shown.contains("secret") && !shown.contains("YWxpY2U6c2VjcmV0"), "{shown}");
}

#[tokio::test]
async fn a_registry_that_denies_basic_credentials_and_wants_a_token_gets_one() {
    let tokens = Liar::start(|_| reply(200, &[], r#"{"token":"t"}"#)).await;
    let challenge = format!(r#"www-authenticate: Bearer realm="http://{}/token""#, tokens.host);
    let liar = Liar::start(move |heard| match heard.last().and_then(|now| now.authorization.as_deref()) {
        Some("Bearer t") => reply(200, &[], TAGS),
        Some(_) => reply(403, &[], r#"{"errors":[{"code":"DENIED","message":"invalid token"}]}"#),
        None => reply(401, &[&challenge], ""),
    })
    .await;
    let registry = liar.registry_of_alice();
    registry.tags().await.expect("the token is good");
    assert_eq!(liar.lines().len(), 3);
    registry.tags().await.expect("the token is good");
    assert_eq!((liar.lines().len(), tokens.lines().len()), (4, 1));
}

#[tokio::test]
async fn a_manifest_with_another_digest_is_refused() {
    let digest = Digest::of(b"other");
    let header = format!("docker-content-digest: {digest}");
    let liar = Liar::start(move |_| reply(200, &[&header], "{}")).await;
    for at in [At::Tag(&tag()), At::Digest(&digest)] {
        let error = liar.registry().manifest(at).await.expect_err("the digest is wrong");
        assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_head_without_a_digest_is_made_up_for_by_a_get() {
    let liar = Liar::start(|_| reply(200, &["content-type: application/vnd.oci.image.index.v1+json"], "{}")).await;
    let found = liar.registry().resolve(&tag()).await.expect("the GET is good").expect("it is there");
    assert_eq!((found.digest, found.size), (Digest::of(b"{}"), 2));
    assert_eq!(found.media_type, "application/vnd.oci.image.index.v1+json");
    assert_eq!(liar.lines(), ["HEAD /v2/acme/app/manifests/v1", "GET /v2/acme/app/manifests/v1"]);
}

#[tokio::test]
async fn only_the_registrys_own_404_means_that_a_tag_is_not_there() {
    let liar = Liar::start(|_| reply(404, &["content-type: application/json"], "")).await;
    assert_eq!(liar.registry().resolve(&tag()).await.expect("it is an answer"), None);
    assert_eq!(liar.lines().len(), 1);

    let liar = Liar::start(|_| reply(404, &["content-type: text/html"], "<html>")).await;
    let error = liar.registry().resolve(&tag()).await.expect_err("this is no registry");
    assert_eq!(
        liar.report(error),
        "error: cannot read HOST/acme/app:v1\n\
         cause: the registry answered 404 Not Found (GET http://HOST/v2/acme/app/manifests/v1)"
    );
}

#[tokio::test]
async fn a_write_is_not_redirected_and_no_read_for_ever() {
    let elsewhere = Liar::start(|_| reply(202, &[], "")).await;
    let location = format!("location: http://{}/", elsewhere.host);
    let liar = Liar::start(move |_| reply(307, &[&location], "")).await;
    let error = liar.registry().delete(&Digest::of(b"")).await.expect_err("a redirect is no answer");
    assert!(matches!(error, RegistryError::Unexpected { .. }), "{error:?}");
    assert!(elsewhere.lines().is_empty());

    let liar = Liar::start(|_| reply(307, &["location: /v2/acme/app/tags/list"], "")).await;
    let error = liar.registry().tags().await.expect_err("it never ends");
    assert!(matches!(error, RegistryError::BadRedirect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_redirect_to_https_on_the_same_host_says_to_drop_insecure() {
    let liar = Liar::start(|_| reply(301, &["location: https://127.0.0.1/v2/acme/app/tags/list"], "")).await;
    let error = liar.registry().tags().await.expect_err("the source says http");
    assert_eq!(
        liar.report(error),
        "error: cannot list the tags of HOST/acme/app: HOST speaks https, not plain http\n\
         hint: take `insecure: true` out of `source.registry`"
    );
}

#[tokio::test]
async fn an_upload_elsewhere_gets_no_credentials() {
    let elsewhere = Liar::start(|_| reply(201, &[], "")).await;
    let location = format!("location: http://{}/upload?state=s", elsewhere.host);
    let liar = Liar::start(move |heard| {
        let now = heard.last().expect("there is one");
        if now.line.starts_with("POST") { reply(202, &[&location], "") } else { reply(404, &[], "") }
    })
    .await;
    liar.registry_of_alice().push_blob("x", Bytes::from_static(b"x")).await.expect("it is taken");
    let heard = elsewhere.heard();
    let digest = Digest::of(b"x").to_string().replace(':', "%3A");
    assert_eq!(heard[0].line, format!("PUT /upload?state=s&digest={digest}"));
    assert_eq!(heard[0].authorization, None);
}

#[tokio::test]
async fn every_page_of_tags_is_read() {
    let liar = Liar::start(|heard| match heard.len() {
        1 => reply(200, &[r#"link: </v2/acme/app/tags/list?n=2&last=b>; rel="next""#], TAGS),
        2 => reply(200, &["link: <?last=opaque>; rel=next"], r#"{"tags":["c","b"]}"#),
        _ => reply(200, &[], r#"{"tags":null}"#),
    })
    .await;
    assert_eq!(liar.registry().tags().await.expect("all pages are good"), ["a", "b", "c"]);
    assert_eq!(liar.lines()[2], "GET /v2/acme/app/tags/list?last=opaque");
}

#[tokio::test]
async fn every_page_of_repositories_is_read_and_an_unknown_list_is_an_error() {
    let liar = Liar::start(|heard| match heard.len() {
        1 => reply(200, &["link: </v2/_catalog?last=b>; rel=next"], r#"{"repositories":["b","acme/a"]}"#),
        _ => reply(200, &[], r#"{"repositories":["c"]}"#),
    })
    .await;
    assert_eq!(liar.registry().repositories().await.expect("all pages are good"), ["acme/a", "b", "c"]);
    assert_eq!(liar.lines(), ["GET /v2/_catalog?n=1000", "GET /v2/_catalog?last=b"]);

    let unknown = r#"{"errors":[{"code":"NOT_FOUND","message":"page not found"}]}"#;
    let liar = Liar::start(move |_| reply(404, &[], unknown)).await;
    assert!(matches!(liar.registry().repositories().await, Err(RegistryError::Unexpected { .. })));
}

#[tokio::test]
async fn a_list_of_tags_that_cannot_be_followed_to_its_end_is_an_error() {
    let rows = [
        (
            "link: </v2/acme/app/tags/list?n=1000>; rel=\"next\"",
            "http://HOST/v2/acme/app/tags/list?n=1000 is not followed: it was read before, so the list has no end",
        ),
        (
            "link: <http://192.0.2.1/v2/acme/app/tags/list?last=x&token=hidden>; rel=\"next\"",
            "http://192.0.2.1/v2/acme/app/tags/list?last=x is not followed: it is on another server",
        ),
    ];
    for (link, message) in rows {
        let liar = Liar::start(move |_| reply(200, &[link], TAGS)).await;
        let error = liar.registry_of_alice().tags().await.expect_err("the link is bad");
        let expected = format!("error: cannot list the tags of HOST/acme/app: the next page {message}");
        assert_eq!(liar.report(error), expected);
        assert_eq!(liar.lines().len(), 1);
    }
}

#[tokio::test]
async fn an_unknown_repository_has_no_tags_and_an_unknown_page_is_an_error() {
    let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
    let liar = Liar::start(move |_| reply(404, &[], unknown)).await;
    assert!(liar.registry().tags().await.expect("it is an answer").is_empty());

    let liar = Liar::start(move |heard| match heard.len() {
        1 => reply(200, &["link: <?last=b>; rel=\"next\""], TAGS),
        _ => reply(404, &[], unknown),
    })
    .await;
    assert!(matches!(liar.registry().tags().await, Err(RegistryError::Unexpected { .. })));
}

#[tokio::test]
async fn a_server_of_tls_is_told_from_a_registry_without() {
    let liar = Liar::start(|_| reply(400, &[], "Client sent an HTTP request to an HTTPS server.\n")).await;
    let error = liar.registry().resolve(&tag()).await.expect_err("it wants TLS");
    assert!(matches!(error, RegistryError::SpeaksHttps { .. }), "{error:?}");

    let liar = Liar::start(|_| "\u{15}\u{3}\u{1}\u{0}\u{2}\u{2}F".to_owned()).await;
    let error = liar.registry().tags().await.expect_err("it wants TLS");
    assert!(matches!(error, RegistryError::SpeaksHttps { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let liar = Liar::start(|_| "HTTP/1.1 200 OK\r\ncontent-length: 4194305\r\n\r\n".to_owned()).await;
    let error = liar.registry().manifest(At::Tag(&tag())).await.expect_err("it is too large");
    assert_eq!(liar.report(error), "error: cannot read HOST/acme/app:v1: it has more than 4194304 bytes");
}

/// A blob of these bytes, and how often it was opened.
fn upload(bytes: &'static [u8]) -> Upload {
    Upload {
        media_type: "application/x".to_owned(),
        known: Some((Digest::of(bytes), bytes.len() as u64)),
        open: Arc::new(move || Ok(Box::new(bytes))),
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_goes_on_where_the_registry_says() {
    let liar = Liar::start(|heard| {
        let now = heard.last().expect("there is one");
        let patches = heard.iter().filter(|request| request.line.starts_with("PATCH")).count();
        match now.line.split(' ').next() {
            Some("HEAD") => reply(404, &[], ""),
            Some("POST") => reply(202, &["location: /up?_state=0"], ""),
            // No answer at all.
            Some("PATCH") if patches == 1 => String::new(),
            Some("GET") => reply(204, &["range: 0-3", "location: /up?_state=4"], ""),
            Some("PATCH") => reply(202, &["location: /up?_state=10"], ""),
            _ => reply(201, &[], ""),
        }
    })
    .await;
    let bytes: &[u8] = b"0123456789";
    let (descriptor, sent) = liar.registry().upload(&upload(bytes)).await.expect("it goes on");
    assert_eq!((descriptor.digest, descriptor.size, sent), (Digest::of(bytes), 10, Sent::All));
    assert_eq!(
        liar.lines(),
        [
            format!("HEAD /v2/acme/app/blobs/{}", Digest::of(bytes)),
            "POST /v2/acme/app/blobs/uploads/".to_owned(),
            "PATCH /up?_state=0".to_owned(),
            "GET /up?_state=0".to_owned(),
            "PATCH /up?_state=4".to_owned(),
            format!("PUT /up?_state=10&digest={}", Digest::of(bytes).to_string().replace(':', "%3A")),
        ]
    );
    let bodies: Vec<String> =
        liar.heard().into_iter().filter(|one| one.line.starts_with("PATCH")).map(|one| one.body).collect();
    assert_eq!(bodies, ["0123456789", "456789"]);
}

#[tokio::test]
async fn an_upload_of_which_the_registry_knows_nothing_begins_anew() {
    let liar = Liar::start(|heard| {
        let now = heard.last().expect("there is one");
        let patches = heard.iter().filter(|request| request.line.starts_with("PATCH")).count();
        match now.line.split(' ').next() {
            Some("HEAD") => reply(404, &[], ""),
            Some("POST") => reply(202, &["location: /up"], ""),
            Some("PATCH") if patches == 1 => reply(503, &[], ""),
            Some("GET") => reply(404, &[], r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#),
            Some("PATCH") => reply(202, &[], ""),
            _ => reply(201, &[], ""),
        }
    })
    .await;
    liar.registry().upload(&upload(b"bytes")).await.expect("the second try succeeds");
    let methods: Vec<String> =
        liar.lines().iter().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    assert_eq!(methods, ["HEAD", "POST", "PATCH", "GET", "HEAD", "POST", "PATCH", "PUT"]);
}

#[tokio::test]
async fn a_stream_elsewhere_gets_no_credentials_and_a_blob_that_is_there_is_not_sent() {
    let elsewhere = Liar::start(|heard| match heard.last().map(|now| now.line.starts_with("PATCH")) {
        Some(true) => reply(202, &[], ""),
        _ => reply(201, &[], ""),
    })
    .await;
    let location = format!("location: http://{}/up?sig=hidden", elsewhere.host);
    let liar = Liar::start(move |heard| match heard.last().map(|now| now.line.starts_with("HEAD")) {
        Some(true) => reply(404, &[], ""),
        _ => reply(202, &[&location], ""),
    })
    .await;
    liar.registry_of_alice().upload(&upload(b"bytes")).await.expect("it is taken");
    assert!(liar.heard().iter().all(|one| one.authorization.is_some()));
    assert_eq!(elsewhere.lines().len(), 2);
    assert!(elsewhere.heard().iter().all(|one| one.authorization.is_none()));

    let liar = Liar::start(|_| reply(200, &[], "")).await;
    let (_, sent) = liar.registry().upload(&upload(b"bytes")).await.expect("it is there");
    assert_eq!((sent, liar.lines().len()), (Sent::WasThere, 1));
}

#[tokio::test]
async fn a_source_that_fails_is_no_fault_of_the_network_and_nothing_is_ended() {
    let liar = Liar::start(|heard| match heard.last().map(|now| now.line.starts_with("HEAD")) {
        Some(true) => reply(404, &[], ""),
        _ => reply(202, &["location: /up"], ""),
    })
    .await;
    let broken = Upload {
        open: Arc::new(|| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the layer has another digest"))),
        ..upload(b"bytes")
    };
    let digest = Digest::of(b"bytes");
    let error = liar.registry().upload(&broken).await.expect_err("it cannot be read");
    assert_eq!(
        liar.report(error),
        format!(
            "error: cannot push blob {digest} to HOST/acme/app: it cannot be read\n\
             cause: the layer has another digest\n\
             hint: what `params.image` names is damaged or was cut off: let the task that made it run again"
        )
    );
    assert!(liar.lines().iter().all(|line| !line.starts_with("PUT")), "{:?}", liar.lines());
}

#[tokio::test]
async fn a_token_that_is_refused_in_the_middle_of_an_upload_is_renewed() {
    let tokens = Liar::start(|heard| reply(200, &[], &format!(r#"{{"token":"token-{}"}}"#, heard.len()))).await;
    let challenge = format!(
        r#"www-authenticate: Bearer realm="http://{}/token",scope="repository:acme/app:pull,push""#,
        tokens.host
    );
    let liar = Liar::start(move |heard| {
        let now = heard.last().expect("there is one");
        let method = now.line.split(' ').next().unwrap_or_default();
        let token = now.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer token-"));
        let good = match method {
            "HEAD" | "POST" => token == Some("1"),
            // The first one has expired.
            "PATCH" => token == Some("2"),
            _ => token == Some("3"),
        };
        match (good, method) {
            (false, _) => reply(401, &[&challenge], ""),
            (true, "HEAD") => reply(404, &[], ""),
            (true, "POST") => reply(202, &["location: /up"], ""),
            (true, "PATCH") => reply(202, &[], ""),
            (true, _) => reply(201, &[], ""),
        }
    })
    .await;
    liar.registry_of_alice().upload(&upload(b"bytes")).await.expect("new tokens are fetched");
    assert_eq!(tokens.lines().len(), 3);
    let bodies: Vec<String> =
        liar.heard().into_iter().filter(|one| one.line.starts_with("PATCH")).map(|one| one.body).collect();
    assert_eq!(bodies, ["bytes", "bytes"], "it is read again");
}
