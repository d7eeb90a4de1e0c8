//! What the engine may ask of us while it builds: files and images of the declared contexts, credentials of the hosts
//! that the source lists, and the secrets and ssh keys that it gives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::{Ssh, SshServer};
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::Given;
use super::content::{self, Content};
use super::filesync::Files;
use super::transport::SessionHeaders;
use crate::names::Secret;
use crate::request::Credentials;

/// The methods that every session answers; the engine calls no other.
const METHODS: [&str; 3] =
    ["/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.Auth/Credentials", "/grpc.health.v1.Health/Check"];

/// The method of a session with secrets.
const SECRETS: [&str; 1] = ["/moby.buildkit.secrets.v1.Secrets/GetSecret"];

/// The methods of a session with ssh keys.
const SSH: [&str; 2] = ["/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"];

/// The id of a `RUN --mount=type=ssh` that has none.
const DEFAULT_AGENT: &str = "default";

/// How much of an agent's answer goes at once.
const AGENT_BYTES: usize = 32 * 1024;

/// How much of the connection is between engine and session at most, in bytes.
const PIPE_BYTES: usize = 256 * 1024;

/// How large the headers of one request may be: every line of an ignore file is one, and the library allows 16 KiB.
const HEADER_BYTES: u32 = 16 * 1024 * 1024;

/// What the engine is told of a session when it is opened.
pub(super) fn headers(id: &str, shared_key: &str, given: &Given) -> SessionHeaders {
    let mut headers = vec![
        ("X-Docker-Expose-Session-Uuid", id.to_owned()),
        ("X-Docker-Expose-Session-Name", "git-image".to_owned()),
        ("X-Docker-Expose-Session-Sharedkey", shared_key.to_owned()),
    ];
    let secrets = if given.secrets.is_empty() { &[][..] } else { &SECRETS };
    let ssh = if given.agents.is_empty() { &[][..] } else { &SSH };
    let images = if Content::of(&given.contexts).is_empty() { &[][..] } else { &content::METHODS };
    let methods = METHODS.iter().chain(secrets).chain(ssh).chain(images);
    headers.extend(methods.map(|method| ("X-Docker-Expose-Session-Grpc-Method", (*method).to_owned())));
    headers
}

/// Serves a session on a connection until `tasks` is dropped.
///
/// The server is not given the connection itself but a pipe to it: it lives on in tasks of its own, and the pipe is
/// what ends them.
pub(super) fn serve(
    mut connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    files: Arc<Files>,
    logins: Vec<(String, Credentials)>,
    given: &Given,
    tasks: &mut JoinSet<()>,
) {
    let (secrets, agents) = (given.secrets.clone(), given.agents.clone());
    let content = Content::of(&given.contexts);
    let (mut ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    tasks.spawn(async move {
        // Either side may end first; the build itself says what that means.
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut connection, &mut ours, PIPE_BYTES, PIPE_BYTES).await;
    });
    tasks.spawn(async move {
        let served = Server::builder()
            .http2_max_header_list_size(Some(HEADER_BYTES))
            .add_service(HealthServer::new(Alive))
            .add_service(AuthServer::new(Logins(logins)))
            .add_service(FileSyncServer::from_arc(files))
            .add_service(SecretsServer::new(Hidden(secrets)))
            .add_service(SshServer::new(Agents(agents)))
            .add_service(content)
            .serve_with_incoming(tokio_stream::once(Ok::<_, std::io::Error>(theirs)));
        let _ = served.await;
    });
}

struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("the session has one service state"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("the session has one service state"))
    }
}

/// Credentials by registry host.
struct Logins(Vec<(String, Credentials)>);

/// Whether a host of the source is the one that the engine names. Docker Hub has several names.
fn same_host(listed: &str, asked: &str) -> bool {
    const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    listed == asked || (HUB.contains(&listed) && HUB.contains(&asked))
}

/// The credentials for a host, when the source lists some.
pub(super) fn credentials_for<'a>(logins: &'a [(String, Credentials)], host: &str) -> Option<&'a Credentials> {
    logins.iter().find(|(listed, _)| same_host(listed, host)).map(|(_, credentials)| credentials)
}

#[tonic::async_trait]
impl Auth for Logins {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        // A host that is not listed is asked without credentials, as if nobody had logged in.
        let answer = match credentials_for(&self.0, &request.get_ref().host) {
            Some(Credentials { username, password }) => {
                CredentialsResponse { username: username.clone(), secret: password.open().to_owned() }
            }
            None => CredentialsResponse::default(),
        };
        Ok(Response::new(answer))
    }

    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("the engine fetches tokens itself"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("the engine fetches tokens itself"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("the engine fetches tokens itself"))
    }
}

/// Secrets by id.
struct Hidden(BTreeMap<String, Secret>);

#[tonic::async_trait]
impl Secrets for Hidden {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = &request.get_ref().id;
        let secret = self.0.get(id).ok_or_else(|| Status::not_found(format!("there is no secret {id}")))?;
        Ok(Response::new(GetSecretResponse { data: secret.open().as_bytes().to_vec() }))
    }
}

/// The sockets of ssh agents by id. Only bytes are passed on: the keys stay in the agent.
struct Agents(BTreeMap<String, PathBuf>);

impl Agents {
    fn socket(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { DEFAULT_AGENT } else { id };
        self.0.get(id).ok_or_else(|| Status::not_found(format!("there is no ssh key {id}")))
    }
}

#[tonic::async_trait]
impl Ssh for Agents {
    type ForwardAgentStream = ReceiverStream<Result<BytesMessage, Status>>;

    async fn check_agent(&self, request: Request<CheckAgentRequest>) -> Result<Response<CheckAgentResponse>, Status> {
        self.socket(&request.get_ref().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get("buildkit.ssh.id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let agent = UnixStream::connect(self.socket(id)?).await?;
        let (mut answers, mut questions) = agent.into_split();
        let mut asked = request.into_inner();
        let (answered, answer) = mpsc::channel(1);
        // Both end with their connection: that to the engine, or that to the agent.
        tokio::spawn(async move {
            while let Ok(Some(message)) = asked.message().await {
                if questions.write_all(&message.data).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let mut bytes = vec![0; AGENT_BYTES];
            while let Ok(read @ 1..) = answers.read(&mut bytes).await {
                if answered.send(Ok(BytesMessage { data: bytes[..read].to_vec() })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Secret;

    #[test]
    fn only_the_listed_hosts_get_credentials() {
        let login = |user: &str| Credentials { username: user.to_owned(), password: Secret::new("p") };
        let logins = [("docker.io".to_owned(), login("hub")), ("r.example:5000".to_owned(), login("r"))];
        for (host, user) in [
            ("registry-1.docker.io", Some("hub")),
            ("r.example:5000", Some("r")),
            ("r.example", None),
            ("evil.example", None),
        ] {
            let found = credentials_for(&logins, host).map(|credentials| credentials.username.as_str());
            assert_eq!(found, user, "{host}");
        }
    }
}
