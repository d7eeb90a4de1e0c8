//! One HTTP request at a time, for tests that want to see an answer themselves.

use reqwest::{Client, Method, RequestBuilder};
use tokio::runtime::Builder;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body is not JSON ({error}): {:?}", self.text()))
    }

    /// One header, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends one request, as `build` completes it. Certificates are not verified.
#[track_caller]
pub fn send(method: &str, url: &str, build: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Answer {
    // An error means that another thread installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let method: Method = method.parse().expect("the method is one of HTTP's");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime
        .block_on(async {
            let client = Client::builder().danger_accept_invalid_certs(true).no_proxy().build()?;
            let response = build(client.request(method.clone(), url)).send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok::<_, reqwest::Error>(Answer { status, headers, body: response.bytes().await?.to_vec() })
        })
        .unwrap_or_else(|error| panic!("{method} {url}: {error:?}"))
}

/// GETs an address.
#[track_caller]
pub fn get(url: &str) -> Answer {
    send("GET", url, |request| request)
}
