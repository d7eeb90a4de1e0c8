//! How an engine is reached: the BuildKit API behind the upgrades `/grpc` and `/session` of a Docker engine.

use std::fmt;
use std::io;

use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};

use crate::request::EngineHost;

/// An address, shown as the user writes it in `source.engine.host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(pub(super) EngineHost);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            EngineHost::Unix(path) => write!(f, "unix://{}", path.display()),
            EngineHost::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            EngineHost::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

/// The method by which the engine reaches into a session, and its value: one header for each.
pub(super) type SessionHeaders = Vec<(&'static str, String)>;

impl Address {
    /// Finds out why nothing can be reached here, if so.
    pub(super) async fn probe(&self) -> io::Result<()> {
        match &self.0 {
            EngineHost::Unix(socket) => UnixStream::connect(socket).await.map(drop),
            EngineHost::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).await.map(drop),
        }
    }

    /// A channel for the engine's own services (Solve, Status).
    pub(super) async fn control(&self) -> Result<Channel, tonic::transport::Error> {
        let address = self.clone();
        let connector = tower::service_fn(move |_| {
            let address = address.clone();
            async move { address.upgrade("/grpc", &Vec::new()).await }
        });
        // The name is never resolved: the connector ignores it.
        Endpoint::from_static("http://engine").connect_with_connector(connector).await
    }

    /// A connection on which the engine calls the services of a session.
    pub(super) async fn session(&self, headers: &SessionHeaders) -> io::Result<TokioIo<Upgraded>> {
        Ok(TokioIo::new(self.upgrade("/session", headers).await?))
    }

    async fn upgrade(&self, path: &str, headers: &SessionHeaders) -> io::Result<Upgraded> {
        match &self.0 {
            EngineHost::Unix(socket) => upgrade(UnixStream::connect(socket).await?, path, headers).await,
            EngineHost::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                upgrade(stream, path, headers).await
            }
        }
    }
}

async fn upgrade<S>(stream: S, path: &str, headers: &SessionHeaders) -> io::Result<Upgraded>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // It ends with the answer, or with the upgrade, which takes the stream over.
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, "docker")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "h2c");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = answer.status();
        return Err(io::Error::other(format!("POST {path} was answered with {status} instead of an upgrade")));
    }
    hyper::upgrade::on(answer).await.map_err(io::Error::other)
}
