//! How an engine is reached: gRPC on its socket, or behind the upgrades `/grpc` and `/session` of a Docker engine.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{BytesMessage, ListWorkersRequest, ListWorkersResponse};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;
use tokio_util::io::ReaderStream;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use super::error::EngineError;
use super::forward::Forward;
use super::tls::{self, Unusable};
use crate::clients::process::Environment;
use crate::request::{EngineHost, EngineSource, EngineTls, SshHost};
use crate::say::Say;

/// How long a connection may take until it stands.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an engine may take to say what it is.
const INTRODUCTION: Duration = Duration::from_secs(20);

/// How much of a session's bytes is between us and its server at most; one message has no more.
const PIPE_BYTES: usize = 256 * 1024;

/// After so long without an answer, the system asks whether the other side is still there; a builder may be silent for an hour.
const IDLE: Duration = Duration::from_secs(15);

/// How often it asks, and how many answers may be missing.
const PROBE: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// An address, shown as the user writes it in `source.engine.host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(pub(super) EngineHost);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            EngineHost::Unix(path) => write!(f, "unix://{}", path.display()),
            EngineHost::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            EngineHost::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            EngineHost::Ssh(SshHost { user, host, port, socket }) => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "ssh://{user}{host}{port}{}", socket.display())
            }
        }
    }
}

/// The method by which the engine reaches into a session, and its value: one header for each.
pub(super) type SessionHeaders = Vec<(&'static str, String)>;

/// Bytes to and from an engine.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection of whatever kind.
pub(super) type Connection = Box<dyn Stream>;

/// Makes connections to one engine.
pub(super) struct Dialer {
    address: Address,
    way: Way,
}

/// Where a connection is made to.
enum Way {
    Socket(PathBuf),
    Port { host: String, port: u16, tls: Option<Tls> },
    Forward(Forward),
}

/// How TLS is spoken, by what is spoken in it.
struct Tls {
    grpc: TlsConnector,
    http: TlsConnector,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// gRPC from the first byte.
    Grpc,
    /// HTTP/1.1.
    Http,
}

impl Dialer {
    /// For an engine at this address. Only for one behind ssh anything is connected yet: the login.
    ///
    /// # Errors
    ///
    /// A certificate or key cannot be used, or ssh cannot log in.
    pub(super) async fn new(
        address: Address,
        source: &EngineSource,
        environment: &Environment,
        say: &Say,
    ) -> Result<Self, EngineError> {
        let way = match &address.0 {
            EngineHost::Unix(socket) => Way::Socket(socket.clone()),
            EngineHost::Tcp { host, port } => {
                let settings = |protocol| move |tls: &EngineTls| tls::settings(tls, protocol);
                let unusable = |Unusable { key, why }| EngineError::Certificate {
                    key: format!("source.engine.tls.{key}"),
                    source: why,
                };
                // An engine may choose what it speaks by what it is offered, so it is offered one.
                let grpc = source.tls.as_ref().map(settings(b"h2")).transpose().map_err(unusable)?;
                let http = source.tls.as_ref().map(settings(b"http/1.1")).transpose().map_err(unusable)?;
                let tls = grpc.zip(http).map(|(grpc, http)| Tls { grpc: grpc.into(), http: http.into() });
                Way::Port { host: host.clone(), port: *port, tls }
            }
            EngineHost::Ssh(host) => {
                let unreachable = |source| EngineError::Login { address: address.to_string(), source };
                Way::Forward(Forward::open(host, &source.ssh, environment, say).await.map_err(unreachable)?)
            }
        };
        Ok(Self { address, way })
    }

    /// Where the engine is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Finds out why nothing can be reached here, if so.
    pub(super) async fn probe(&self) -> io::Result<()> {
        in_time(async {
            match &self.way {
                Way::Socket(socket) => UnixStream::connect(socket).await.map(drop),
                Way::Port { host, port, tls: _ } => tcp(host, *port).await.map(drop),
                Way::Forward(forward) => UnixStream::connect(forward.socket()).await.map(drop),
            }
        })
        .await
    }

    async fn dial(&self, speaks: Speaks) -> io::Result<Connection> {
        in_time(async {
            Ok::<Connection, io::Error>(match &self.way {
                Way::Socket(socket) => Box::new(UnixStream::connect(socket).await?),
                Way::Port { host, port, tls: None } => Box::new(tcp(host, *port).await?),
                Way::Port { host, port, tls: Some(tls) } => {
                    let connector = match speaks {
                        Speaks::Grpc => &tls.grpc,
                        Speaks::Http => &tls.http,
                    };
                    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                    Box::new(connector.connect(name, tcp(host, *port).await?).await?)
                }
                Way::Forward(forward) => Box::new(UnixStream::connect(forward.socket()).await?),
            })
        })
        .await
    }

    /// Sends one request of the engine's own API, on a connection of its own.
    pub(super) async fn request<B>(&self, mut request: Request<B>) -> io::Result<Response<hyper::body::Incoming>>
    where
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.dial(Speaks::Http).await?)).await.map_err(io::Error::other)?;
        // It ends with the answer, or with the upgrade, which takes the stream over.
        tokio::spawn(connection.with_upgrades());
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>().map_err(io::Error::other)?;
        request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
        sender.send_request(request).await.map_err(io::Error::other)
    }

    async fn upgrade(&self, path: &str, headers: &SessionHeaders) -> io::Result<Connection> {
        let mut request =
            Request::builder().method(Method::POST).uri(path).header(CONNECTION, "Upgrade").header(UPGRADE, "h2c");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).map_err(io::Error::other)?;
        let answer = self.request(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = answer.status();
            return Err(io::Error::other(format!("POST {path} was answered with {status} instead of an upgrade")));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(io::Error::other)?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

async fn in_time<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", CONNECT.as_secs()));
    tokio::time::timeout(CONNECT, connecting).await.map_err(late)?
}

/// A connection by TCP that notices when the other side is gone.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, PROBE)?;
    sockopt::set_tcp_keepcnt(&stream, PROBES)?;
    Ok(stream)
}

/// In which way an engine speaks the BuildKit API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// gRPC from the first byte: a BuildKit daemon, and Docker engines from 29 on.
    Native,
    /// Behind upgrades of HTTP/1.1: a Docker engine.
    Upgrades,
}

/// A way to the BuildKit API of one engine.
#[derive(Clone)]
pub(super) struct Transport {
    dialer: Arc<Dialer>,
    wire: Wire,
}

impl Transport {
    /// A way that was found out before.
    pub(super) fn new(dialer: Arc<Dialer>, wire: Wire) -> Self {
        Self { dialer, wire }
    }

    /// Where the engine is.
    pub(super) fn address(&self) -> &Address {
        self.dialer.address()
    }

    /// A channel for the engine's own services (Solve, Status). It has one connection, which ends with its last clone.
    pub(super) async fn control(&self) -> Result<Channel, tonic::transport::Error> {
        let Self { dialer, wire } = self.clone();
        let connector = tower::service_fn(move |_| {
            let dialer = dialer.clone();
            async move {
                let connection = match wire {
                    Wire::Native => dialer.dial(Speaks::Grpc).await,
                    Wire::Upgrades => dialer.upgrade("/grpc", &Vec::new()).await,
                };
                connection.map(TokioIo::new)
            }
        });
        // The name is never resolved: the connector ignores it.
        Endpoint::from_static("http://engine").connect_with_connector(connector).await
    }

    /// What builds there. Also the question by which the two ways are told apart.
    pub(super) async fn workers(&self) -> Result<ListWorkersResponse, tonic::Status> {
        let asked = async {
            let channel = self.control().await.map_err(|error| tonic::Status::from_error(error.into()))?;
            Ok(ControlClient::new(channel).list_workers(ListWorkersRequest::default()).await?.into_inner())
        };
        let late = |_| tonic::Status::deadline_exceeded(format!("no answer within {} s", INTRODUCTION.as_secs()));
        tokio::time::timeout(INTRODUCTION, asked).await.map_err(late)?
    }

    /// A connection on which the engine calls the services of a session. `channel` is one of [`Self::control`];
    /// what carries the bytes joins `tasks`.
    pub(super) async fn session(
        &self,
        channel: &Channel,
        headers: &SessionHeaders,
        tasks: &mut JoinSet<()>,
    ) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
        match self.wire {
            Wire::Upgrades => Ok(self.dialer.upgrade("/session", headers).await?),
            Wire::Native => Ok(Box::new(session_in_messages(channel.clone(), headers, tasks).await?)),
        }
    }
}

/// Opens a session whose bytes go in the messages of `Control.Session`.
async fn session_in_messages(
    channel: Channel,
    headers: &SessionHeaders,
    tasks: &mut JoinSet<()>,
) -> Result<DuplexStream, tonic::Status> {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let (from_session, mut to_session) = tokio::io::split(ours);
    // A pipe that breaks ends the messages as its end does.
    let outgoing = ReaderStream::with_capacity(from_session, PIPE_BYTES)
        .map_while(Result::ok)
        .map(|bytes| BytesMessage { data: bytes.into() });
    let mut request = tonic::Request::new(outgoing);
    for (name, value) in headers {
        let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(unusable)?;
        request.metadata_mut().append(key, MetadataValue::try_from(value).map_err(unusable)?);
    }
    let mut incoming = ControlClient::new(channel).session(request).await?.into_inner();
    tasks.spawn(async move {
        while let Ok(Some(message)) = incoming.message().await {
            if to_session.write_all(&message.data).await.is_err() {
                return;
            }
        }
    });
    Ok(theirs)
}

fn unusable(error: impl std::error::Error) -> tonic::Status {
    tonic::Status::internal(format!("a word of the session cannot be sent: {error}"))
}
