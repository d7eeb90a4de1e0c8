//! For tests: a server that answers what a script says.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Registry, RegistryError};
use crate::error::{Error, Report};
use crate::names::{Repository, Secret};
use crate::request::{Credentials, RegistrySource, RegistryTransport, RepositorySetting};
use crate::say::Say;

/// One request, as the liar heard it.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// Method and target: `GET /v2/…`.
    pub(super) line: String,
    pub(super) authorization: Option<String>,
    pub(super) body: String,
}

/// A server that answers what its script says. The script is given every request so far; the last is the one to answer.
pub(super) struct Liar {
    pub(super) host: String,
    pub(super) heard: Arc<Mutex<Vec<Heard>>>,
}

impl Liar {
    pub(super) async fn start(script: impl Fn(&[Heard]) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let host = listener.local_addr().expect("it is bound").to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &hears, &script).await;
            }
        });
        Self { host, heard }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.heard().into_iter().map(|heard| heard.line).collect()
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no holder panics").clone()
    }

    pub(super) fn registry(&self) -> Registry {
        self.registry_with(None, &Say::new(std::io::sink()))
    }

    pub(super) fn registry_of_alice(&self) -> Registry {
        let credentials = Credentials { username: "alice".to_owned(), password: Secret::new("secret") };
        self.registry_with(Some(credentials), &Say::new(std::io::sink()))
    }

    pub(super) fn registry_with(&self, credentials: Option<Credentials>, say: &Say) -> Registry {
        let repository: Repository = format!("{}/acme/app", self.host).parse().expect("it is a repository");
        let source = RegistrySource {
            repository: RepositorySetting::Whole(repository.clone()),
            tag_prefix: String::new(),
            credentials,
            transport: RegistryTransport::Http,
            ca_certs: Vec::new(),
            client_certs: Vec::new(),
            mirror: None,
            platform: None,
            variant: None,
        };
        let mut registry = Registry::new(&repository, &source, say).expect("the source is good");
        Arc::get_mut(&mut registry.http).expect("nobody shares it yet").without_patience();
        registry
    }

    /// The report of an error, with the port taken out.
    pub(super) fn report(&self, error: RegistryError) -> String {
        Report(&Error::from(error)).to_string().replace(&self.host, "HOST")
    }
}

async fn serve(mut stream: TcpStream, hears: &Mutex<Vec<Heard>>, script: &impl Fn(&[Heard]) -> String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let length = header("content-length").and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let authorization = header("authorization").map(|(_, value)| value.to_owned());
    let reply = {
        let mut heard = hears.lock().expect("no holder panics");
        let body = String::from_utf8_lossy(&body).into_owned();
        heard.push(Heard { line, authorization, body });
        script(&heard)
    };
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// An answer after which the connection is closed.
pub(super) fn reply(status: u16, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// What was said.
#[derive(Clone, Default)]
pub(super) struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    pub(super) fn text(&self) -> String {
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
