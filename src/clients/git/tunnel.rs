//! A way to an ssh server through an HTTP proxy, as `source.git.https_tunnel` wants it.
//!
//! ssh is told to connect to a port of this process on 127.0.0.1. What comes there is passed on to the proxy, after
//! CONNECT. So no program is needed for it, and the proxy's password is in no argument, no file and no environment.
//! Whoever else is in the container could use the port too; there is nobody else.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::GitError;
use crate::names::{GitRepository, GitUrl};
use crate::request::HttpsTunnel;

/// The most bytes of a proxy's answer to CONNECT.
const HEAD_BYTES: usize = 16 * 1024;
/// How long a proxy may take for that answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const SSH_PORT: u16 = 22;

/// Why a proxy does not let us through.
#[derive(Debug)]
pub enum ProxyFault {
    /// There is no connection to it.
    Unreachable(io::Error),
    /// It answered something else than 200.
    Refused {
        /// The status.
        status: u16,
        /// The words after it.
        reason: String,
        /// Whether we showed an account.
        account: bool,
    },
    /// It answered nothing that is HTTP, or nothing in time.
    Silent,
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => error.fmt(f),
            Self::Refused { status, reason, .. } => write!(f, "it answered {status} {reason} to CONNECT"),
            Self::Silent => f.write_str("it did not answer CONNECT as an HTTP proxy does"),
        }
    }
}

impl std::error::Error for ProxyFault {}

/// A port on 127.0.0.1 that leads through a proxy to one server. It closes when this is dropped.
pub(super) struct Tunnel {
    port: u16,
    host: String,
    server_port: u16,
    route: Arc<Route>,
    _tasks: JoinSet<()>,
}

struct Route {
    proxy: HttpsTunnel,
    target: String,
    fault: Mutex<Option<ProxyFault>>,
}

impl Tunnel {
    /// Opens the port. The proxy is asked when ssh connects.
    pub(super) fn open(uri: &GitUrl, proxy: &HttpsTunnel) -> io::Result<Self> {
        let (host, server_port) = server(uri);
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let listener = TcpListener::from_std(listener)?;
        let target =
            if host.contains(':') { format!("[{host}]:{server_port}") } else { format!("{host}:{server_port}") };
        let route = Arc::new(Route { proxy: proxy.clone(), target, fault: Mutex::default() });
        let mut tasks = JoinSet::new();
        let served = Arc::clone(&route);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(Arc::clone(&served).serve(client));
            }
        });
        Ok(Self { port, host, server_port, route, _tasks: tasks })
    }

    /// What ssh is told: where to connect, and under which name it knows the server's key.
    pub(super) fn ssh_options(&self) -> [String; 4] {
        let Self { host, server_port, .. } = self;
        let name = if *server_port == SSH_PORT { host.clone() } else { format!("[{host}]:{server_port}") };
        [
            "HostName=127.0.0.1".to_owned(),
            format!("Port={}", self.port),
            format!("HostKeyAlias={name}"),
            "CheckHostIP=no".to_owned(),
        ]
    }

    /// The error of a proxy that did not let us through; `None`: it did.
    pub(super) fn fault(&self, repository: &GitRepository) -> Option<GitError> {
        let source = self.route.fault.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let proxy = format!("{}:{}", self.route.proxy.host, self.route.proxy.port);
        Some(GitError::Proxy { proxy, repository: repository.clone(), source })
    }
}

impl Route {
    async fn serve(self: Arc<Self>, mut client: TcpStream) {
        match self.connect().await {
            Ok(mut server) => {
                // Either side may end first; ssh says what that means.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
            Err(fault) => *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault),
        }
    }

    async fn connect(&self) -> Result<TcpStream, ProxyFault> {
        let HttpsTunnel { host, port, credentials } = &self.proxy;
        let mut proxy = TcpStream::connect((host.as_str(), *port)).await.map_err(ProxyFault::Unreachable)?;
        let target = &self.target;
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(login) = credentials {
            let basic = STANDARD.encode(format!("{}:{}", login.username, login.password.open()));
            request.push_str(&format!("Proxy-Authorization: Basic {basic}\r\n"));
        }
        request.push_str("\r\n");
        proxy.write_all(request.as_bytes()).await.map_err(ProxyFault::Unreachable)?;
        let head = tokio::time::timeout(ANSWER_LIMIT, head(&mut proxy)).await;
        let (status, reason) = head.ok().flatten().ok_or(ProxyFault::Silent)?;
        match status {
            200..=299 => Ok(proxy),
            _ => Err(ProxyFault::Refused { status, reason, account: credentials.is_some() }),
        }
    }
}

/// Status and reason of an answer. Not a byte more than its head is read: what follows is for ssh.
async fn head(proxy: &mut TcpStream) -> Option<(u16, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if HEAD_BYTES <= head.len() {
            return None;
        }
        head.push(proxy.read_u8().await.ok()?);
    }
    let line = String::from_utf8_lossy(&head).lines().next()?.to_owned();
    let mut words = line.splitn(3, ' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok()?;
    let reason: String = words.next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect();
    Some((status, reason))
}

/// Host and port of an ssh address.
fn server(uri: &GitUrl) -> (String, u16) {
    let text = uri.as_str();
    if let Ok(url) = url::Url::parse(text)
        && let Some(host) = url.host_str()
    {
        return (host.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(SSH_PORT));
    }
    let host = text.split(':').next().unwrap_or(text);
    (host.rsplit('@').next().unwrap_or(host).to_owned(), SSH_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_an_ssh_address_is_its_host_and_port() {
        for (address, host, port) in [
            ("ssh://git@git.example.com/a/b", "git.example.com", 22),
            ("ssh://git@git.example.com:2222/a/b", "git.example.com", 2222),
            ("ssh://[::1]:2222/a/b", "::1", 2222),
            ("git@git.example.com:a/b", "git.example.com", 22),
            ("git.example.com:/a/b", "git.example.com", 22),
        ] {
            let (uri, _) = GitUrl::parse(address).expect("the address is right");
            assert_eq!(server(&uri), (host.to_owned(), port), "{address}");
        }
    }
}
