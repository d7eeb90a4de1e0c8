//! A blob on its way, from servers that break off, stall, lie and lose their memory of us.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::super::liar::{Heard, broken, stall};
use super::*;

const WHOLE: &str = "hello world";

/// Reads a blob to its end or to an error; also that of the first request.
async fn read_stream(registry: &Registry, descriptor: &Descriptor) -> (Vec<u8>, Option<RegistryError>) {
    let mut bytes = Vec::new();
    let mut stream = match registry.stream_blob(descriptor).await {
        Ok(stream) => stream,
        Err(error) => return (bytes, Some(error)),
    };
    while let Some(part) = stream.next().await {
        match part {
            Ok(part) => bytes.extend_from_slice(&part),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

/// Reads [`WHOLE`] from a liar; what was said, and the report of the error.
async fn read(liar: &Liar) -> (String, String, Option<String>) {
    let page = Page::default();
    let registry = liar.registry_with(None, &Say::new(page.clone()));
    read_with(liar, &registry, &page).await
}

async fn read_with(liar: &Liar, registry: &Registry, page: &Page) -> (String, String, Option<String>) {
    let (bytes, error) = read_stream(registry, &blob_of(WHOLE.as_bytes())).await;
    let name = format!("blob {}", Digest::of(WHOLE.as_bytes()));
    let short = |text: String| {
        text.replace(&liar.host, "HOST").replace(&name, "BLOB").replace(&format!("blobs/{}", &name[5..]), "blobs/BLOB")
    };
    (String::from_utf8_lossy(&bytes).into_owned(), short(page.text()), error.map(|error| short(liar.report(error))))
}

/// What is asked for: `None` from the beginning, else from that byte on.
fn ranges(liar: &Liar) -> Vec<Option<String>> {
    liar.heard().into_iter().map(|heard| heard.range).collect()
}

/// The honest answer to a request for the rest.
fn rest(heard: &[Heard]) -> String {
    let range = heard.last().and_then(|now| now.range.as_deref()).unwrap_or("bytes=0-");
    let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("it is a number");
    reply(206, &[&format!("content-range: bytes {from}-{}/{}", WHOLE.len() - 1, WHOLE.len())], &WHOLE[from..])
}

/// The line that is said when a connection breaks.
fn gone_on(arrived: usize) -> String {
    format!(
        "cannot read BLOB of HOST/acme/app yet: GET http://HOST/v2/acme/app/blobs/BLOB failed: \
         end of file before message length reached; going on after {arrived} bytes in 0.0 s (2 of 4)\n"
    )
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_stopped_and_says_so() {
    let liar = Liar::start(|heard| match heard.len() {
        1 => broken(200, &[], WHOLE.len(), "hel"),
        2 => broken(206, &["content-range: bytes 3-10/*"], 8, "lo w"),
        _ => rest(heard),
    })
    .await;
    let (bytes, said, error) = read(&liar).await;
    assert_eq!((bytes.as_str(), error), (WHOLE, None));
    assert_eq!(ranges(&liar), [None, Some("bytes=3-".to_owned()), Some("bytes=7-".to_owned())]);
    assert_eq!(said, gone_on(3) + &gone_on(7));
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_is_read_from_the_beginning_and_what_is_known_is_passed_over() {
    let liar = Liar::start(|heard| match heard.len() {
        1 => broken(200, &[], WHOLE.len(), "hello"),
        // Less than there was before: no headway.
        2 => broken(200, &[], WHOLE.len(), "he"),
        _ => reply(200, &[], WHOLE),
    })
    .await;
    let (bytes, said, error) = read(&liar).await;
    assert_eq!((bytes.as_str(), error), (WHOLE, None));
    assert_eq!(ranges(&liar).len(), 3);
    assert_eq!(said, gone_on(5) + &gone_on(5).replace("(2 of 4)", "(3 of 4)"));
}

#[tokio::test]
async fn a_download_that_makes_no_headway_ends_after_four_tries_and_one_that_crawls_after_a_hundred() {
    let liar = Liar::start(|_| broken(200, &[], WHOLE.len(), "hello")).await;
    let (bytes, _, error) = read(&liar).await;
    assert_eq!((bytes.as_str(), ranges(&liar).len()), ("hello", 4));
    assert_eq!(
        error.as_deref(),
        Some(
            "error: cannot read BLOB of HOST/acme/app\n\
             cause: GET http://HOST/v2/acme/app/blobs/BLOB failed\n\
             cause: end of file before message length reached\n\
             hint: the network, a proxy or the registry ended the transfer: run the step again"
        )
    );

    let long = "x".repeat(1000);
    let blob = blob_of(long.as_bytes());
    let liar = Liar::start(move |heard| {
        let from = heard.len() - 1;
        match from {
            0 => broken(200, &[], 1000, "x"),
            _ => broken(206, &[&format!("content-range: bytes {from}-999/1000")], 1000 - from, "x"),
        }
    })
    .await;
    let (bytes, error) = read_stream(&liar.registry(), &blob).await;
    assert_eq!((bytes.len(), liar.lines().len()), (101, 101));
    assert!(matches!(error, Some(RegistryError::Interrupted { .. })), "{error:?}");
}

#[tokio::test]
async fn a_download_that_stalls_goes_on_too() {
    let liar = Liar::start(|heard| match heard.len() {
        1 => stall(broken(200, &[], WHOLE.len(), "hel")),
        2 => stall(String::new()),
        _ => rest(heard).into(),
    })
    .await;
    let page = Page::default();
    let patient = RegistrySource::DOWNLOAD_TIMEOUT;
    let registry = liar.registry_in_haste(Duration::from_millis(300), patient, &Say::new(page.clone()));
    let (bytes, said, error) = read_with(&liar, &registry, &page).await;
    assert_eq!((bytes.as_str(), error), (WHOLE, None));
    let line = |tried: u32| {
        format!(
            "cannot read BLOB of HOST/acme/app yet: nothing came from \
             http://HOST/v2/acme/app/blobs/BLOB for 0 seconds; going on after 3 bytes in 0.0 s ({tried} of 4)\n"
        )
    };
    assert_eq!(said, line(2) + &line(3));
}

#[tokio::test]
async fn an_image_that_takes_longer_than_the_source_allows_is_an_error_that_names_the_key() {
    let liar = Liar::start(|heard| match heard.len() {
        1 => stall(broken(200, &[], WHOLE.len(), "hel")),
        _ => stall(String::new()),
    })
    .await;
    let page = Page::default();
    let second = "1s".parse().expect("it is a duration");
    let registry = liar.registry_in_haste(Duration::from_secs(60), second, &Say::new(page.clone()));
    let expected = "error: cannot read BLOB of HOST/acme/app: the image has not arrived after 1s\n\
                    hint: if the registry is only slow, allow more in `source.registry.download_timeout`; \
                    the log says what broke off";
    // The second blob has what the first one left of it: nothing.
    for arrived in ["hel", ""] {
        let (bytes, said, error) = read_with(&liar, &registry, &page).await;
        assert_eq!((bytes.as_str(), said.as_str(), error.as_deref()), (arrived, "", Some(expected)));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_rest_is_an_error_that_says_what_it_is() {
    let cases: [(u16, &[&str], &str, &str); 6] = [
        (
            206,
            &["content-range: bytes 0-10/11"],
            WHOLE,
            ": the answer of http://HOST/v2/acme/app/blobs/BLOB is the range \"bytes 0-10/11\", \
             and bytes 5-10/11 were asked for",
        ),
        (
            206,
            &["content-range: bytes 5-10/12"],
            " world",
            ": the answer of http://HOST/v2/acme/app/blobs/BLOB is the range \"bytes 5-10/12\", \
             and bytes 5-10/11 were asked for",
        ),
        (
            206,
            &[],
            " world",
            ": the answer of http://HOST/v2/acme/app/blobs/BLOB is the range \"\", and bytes 5-10/11 were asked for",
        ),
        (
            416,
            &["content-range: bytes */5"],
            "",
            "\ncause: the registry answered 416 Range Not Satisfiable (GET http://HOST/v2/acme/app/blobs/BLOB)",
        ),
        (
            404,
            &[],
            r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#,
            "\ncause: the registry answered 404 BLOB_UNKNOWN: blob unknown to registry \
             (GET http://HOST/v2/acme/app/blobs/BLOB)",
        ),
        (
            206,
            &["content-range: bytes 5-10/11"],
            " WORLD",
            ": its bytes have the digest sha256:0fcbbb7a5cd09b9e5f8a4e1a0c27a1f5a3a9a1b8b1a1c0b7ad7cf0b5a8c1fb63, not \
             sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9\n\
             hint: the image is damaged in the registry or on the way: run the step again, and if it stays, the \
             registry's storage must be repaired",
        ),
    ];
    for (status, headers, body, why) in cases {
        let liar = Liar::start(move |heard| match heard.len() {
            1 => broken(200, &[], WHOLE.len(), "hello"),
            _ => reply(status, headers, body),
        })
        .await;
        let (bytes, said, error) = read(&liar).await;
        let actual = Digest::of(b"hello WORLD").to_string();
        let why = why.replace("sha256:0fcbbb7a5cd09b9e5f8a4e1a0c27a1f5a3a9a1b8b1a1c0b7ad7cf0b5a8c1fb63", &actual);
        assert_eq!(error, Some(format!("error: cannot read BLOB of HOST/acme/app{why}")), "{status} {headers:?}");
        assert_eq!((bytes.as_str(), said), ("hello", gone_on(5)), "{status} {headers:?}");
        assert_eq!(liar.lines().len(), 2, "{status} {headers:?}");
    }
}

#[tokio::test]
async fn a_registry_that_is_busy_in_the_middle_is_waited_for_as_long_as_it_says() {
    let liar = Liar::start(|heard| match heard.len() {
        1 => broken(200, &[], WHOLE.len(), "hello"),
        2 => reply(429, &["retry-after: 1"], r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#),
        3 => reply(503, &["retry-after: 1"], ""),
        _ => rest(heard),
    })
    .await;
    let began = std::time::Instant::now();
    let (bytes, said, error) = read(&liar).await;
    assert_eq!((bytes.as_str(), error), (WHOLE, None));
    assert!(Duration::from_secs(2) <= began.elapsed());
    let line = |answer: &str, tried: u32| {
        format!(
            "cannot read BLOB of HOST/acme/app yet: the registry answered {answer} \
             (GET http://HOST/v2/acme/app/blobs/BLOB); going on after 5 bytes in 1.0 s ({tried} of 4)\n"
        )
    };
    assert_eq!(said, gone_on(5) + &line("429 TOOMANYREQUESTS", 3) + &line("503 Service Unavailable", 4));
}

#[tokio::test]
async fn a_body_without_a_length_that_ends_too_soon_goes_on() {
    let liar = Liar::start(|heard| match heard.len() {
        1 => "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello".to_owned(),
        _ => rest(heard),
    })
    .await;
    let (bytes, said, error) = read(&liar).await;
    assert_eq!((bytes.as_str(), error), (WHOLE, None));
    assert_eq!(
        said,
        "cannot read BLOB of HOST/acme/app yet: the connection ended after 5 of 11 \
         bytes; going on after 5 bytes in 0.0 s (2 of 4)\n"
    );
}

#[tokio::test]
async fn a_blob_that_is_wrong_ends_in_an_error() {
    let whole = WHOLE.as_bytes();
    let rows = [("hello", "short"), ("hello world, and more", "long"), ("HELLO WORLD", "wrong")];
    for (body, row) in rows {
        let liar = Liar::start(move |_| reply(200, &[], body)).await;
        let (bytes, error) = read_stream(&liar.registry(), &blob_of(whole)).await;
        assert!(bytes.len() < whole.len(), "{row}: {bytes:?}");
        let as_it_should = match row {
            "wrong" => matches!(error, Some(RegistryError::DigestMismatch { .. })),
            _ => matches!(error, Some(RegistryError::SizeMismatch { expected: 11, .. })),
        };
        assert!(as_it_should, "{row}: {error:?}");
        assert_eq!(liar.lines().len(), 1, "{row}: what the server means is not asked again");
        assert!(liar.registry().blob(&blob_of(whole)).await.is_err(), "{row}");
    }
}

#[tokio::test]
async fn a_blob_may_be_elsewhere_and_our_credentials_stay_at_home() {
    // It breaks off there too: the registry is asked for the way again.
    let elsewhere = Liar::start(|heard| match heard.len() {
        1 => broken(200, &[], WHOLE.len(), "hello"),
        _ => rest(heard),
    })
    .await;
    let place = format!("http://{}/bucket/x?X-Amz-Signature=hidden", elsewhere.host);
    let liar = Liar::start(move |heard| reply(307, &[&format!("location: {place}-{}", heard.len())], "")).await;
    let (bytes, error) = read_stream(&liar.registry_of_alice(), &blob_of(WHOLE.as_bytes())).await;
    assert_eq!((bytes.as_slice(), error.is_none()), (WHOLE.as_bytes(), true));
    let account = Some("Basic YWxpY2U6c2VjcmV0".to_owned());
    let seen = |liar: &Liar| -> Vec<_> { liar.heard().into_iter().map(|one| (one.authorization, one.range)).collect() };
    let range = Some("bytes=5-".to_owned());
    assert_eq!(seen(&liar), [(account.clone(), None), (account, range.clone())]);
    assert_eq!(seen(&elsewhere), [(None, None), (None, range)]);
    assert_eq!(elsewhere.lines(), ["GET /bucket/x?X-Amz-Signature=hidden-1", "GET /bucket/x?X-Amz-Signature=hidden-2"]);
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_renewed_for_the_rest() {
    let tokens = Liar::start(|heard| reply(200, &[], &format!(r#"{{"token":"token-{}"}}"#, heard.len()))).await;
    let challenge =
        format!(r#"www-authenticate: Bearer realm="http://{}/token",scope="repository:acme/app:pull""#, tokens.host);
    let liar = Liar::start(move |heard| {
        let now = heard.last().expect("there is one");
        match (now.authorization.as_deref(), now.range.is_some()) {
            (Some("Bearer token-1"), false) => broken(200, &[], WHOLE.len(), "hello"),
            (Some("Bearer token-2"), true) => rest(heard),
            _ => reply(401, &[&challenge], ""),
        }
    })
    .await;
    let (bytes, error) = read_stream(&liar.registry_of_alice(), &blob_of(WHOLE.as_bytes())).await;
    assert_eq!((bytes.as_slice(), error.is_none()), (WHOLE.as_bytes(), true));
    assert_eq!((tokens.lines().len(), liar.lines().len()), (2, 4));
}

#[tokio::test]
async fn what_a_mirror_breaks_off_comes_from_the_registry_itself() {
    let mirror = Liar::start(|_| broken(200, &[], WHOLE.len(), "hello")).await;
    let liar = Liar::start(rest).await;
    let page = Page::default();
    let mut registry = liar.registry_with(None, &Say::new(page.clone()));
    registry.mirror = Some(Arc::new(Mirror {
        host: mirror.host.parse().expect("it is a host"),
        http: Arc::clone(&mirror.registry().http),
        is_lost: AtomicBool::new(false),
        registry: "HUB".to_owned(),
        say: Say::new(page.clone()),
    }));
    let (bytes, said, error) = read_with(&liar, &registry, &page).await;
    assert_eq!((bytes.as_str(), error), (WHOLE, None));
    assert_eq!((mirror.lines().len(), ranges(&liar)), (1, vec![Some("bytes=5-".to_owned())]));
    let line = said.replace(&mirror.host, "MIRROR");
    assert_eq!(
        line,
        "mirror: MIRROR fails: GET http://MIRROR/v2/acme/app/blobs/BLOB failed: end of file before message length \
         reached; HUB is asked from here on\n"
    );
}
