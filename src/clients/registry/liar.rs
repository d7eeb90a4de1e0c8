//! For tests: a server that answers what a script says.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Registry, RegistryError};
use crate::error::{Error, Report};
use crate::names::{Repository, Secret, Span};
use crate::request::{ApiSource, Credentials, RegistrySource, RegistryTransport, RepositorySetting};
use crate::say::Say;

/// One request, as the liar heard it.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// Method and target: `GET /v2/…`.
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    /// Everything before the body.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Heard {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// What the liar answers, and what it does then.
pub(crate) struct Reply {
    text: String,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Closes the connection.
    Close,
    /// Says nothing more, and does not close it.
    Stall,
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self { text, then: Then::Close }
    }
}

/// The beginning of an answer, after which nothing more comes.
pub(crate) fn stall(text: String) -> Reply {
    Reply { text, then: Then::Stall }
}

/// A server that answers what its script says. The script is given every request so far; the last is the one to answer.
pub(crate) struct Liar {
    pub(crate) host: String,
    pub(crate) heard: Arc<Mutex<Vec<Heard>>>,
}

impl Liar {
    pub(crate) async fn start<R: Into<Reply>>(script: impl Fn(&[Heard]) -> R + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let host = listener.local_addr().expect("it is bound").to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if serve(&mut stream, &hears, &|heard| script(heard).into()).await == Then::Stall {
                    held.push(stream);
                }
            }
        });
        Self { host, heard }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.heard().into_iter().map(|heard| heard.line).collect()
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no holder panics").clone()
    }

    pub(crate) fn registry(&self) -> Registry {
        self.registry_with(None, &Say::new(std::io::sink()))
    }

    pub(crate) fn registry_of_alice(&self) -> Registry {
        let credentials = Credentials { username: "alice".to_owned(), password: Secret::new("secret") };
        self.registry_with(Some(credentials), &Say::new(std::io::sink()))
    }

    pub(crate) fn registry_with(&self, credentials: Option<Credentials>, say: &Say) -> Registry {
        self.registry_of("acme/app", credentials, ApiSource::default(), say)
    }

    /// A repository of it, of which this is told.
    pub(crate) fn registry_of(
        &self,
        name: &str,
        credentials: Option<Credentials>,
        api: ApiSource,
        say: &Say,
    ) -> Registry {
        let repository: Repository = format!("{}/{name}", self.host).parse().expect("it is a repository");
        let source = RegistrySource {
            repository: RepositorySetting::Whole(repository.clone()),
            tag_prefix: String::new(),
            credentials,
            transport: RegistryTransport::Http,
            ca_certs: Vec::new(),
            client_certs: Vec::new(),
            mirror: None,
            api,
            platform: None,
            variant: None,
            download_timeout: RegistrySource::DOWNLOAD_TIMEOUT,
        };
        let mut registry = Registry::new(&repository, &source, say).expect("the source is good");
        Arc::get_mut(&mut registry.http).expect("nobody shares it yet").without_patience();
        registry
    }

    /// A registry with little time: for a silence, and for an image.
    pub(super) fn registry_in_haste(&self, stall: Duration, timeout: Span, say: &Say) -> Registry {
        let mut registry = self.registry_with(None, say);
        registry.download_timeout = timeout;
        Arc::get_mut(&mut registry.http).expect("nobody shares it yet").stalled_after(stall);
        registry
    }

    /// The report of an error, with the port taken out.
    pub(crate) fn report(&self, error: RegistryError) -> String {
        Report(&Error::from(error)).to_string().replace(&self.host, "HOST")
    }
}

async fn serve(stream: &mut TcpStream, hears: &Mutex<Vec<Heard>>, script: &impl Fn(&[Heard]) -> Reply) -> Then {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return Then::Close,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let length = header("content-length").and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return Then::Close;
    }
    let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let authorization = header("authorization").map(|(_, value)| value.to_owned());
    let range = header("range").map(|(_, value)| value.to_owned());
    let Reply { text, then } = {
        let mut heard = hears.lock().expect("no holder panics");
        let body = String::from_utf8_lossy(&body).into_owned();
        let head = head.clone();
        heard.push(Heard { line, authorization, range, head, body });
        script(&heard)
    };
    let _ = stream.write_all(text.as_bytes()).await;
    if then == Then::Close {
        let _ = stream.shutdown().await;
    }
    then
}

/// An answer whose connection breaks after this part of its body.
pub(crate) fn broken(status: u16, headers: &[&str], length: usize, part: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{part}")
}

/// An answer after which the connection is closed.
pub(crate) fn reply(status: u16, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// What was said.
#[derive(Clone, Default)]
pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no holder panics")).into_owned()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no holder panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
