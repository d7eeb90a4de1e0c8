//! What the engine may ask of us while it builds: files of the two declared directories, and credentials of the hosts
//! that the source lists.

use std::sync::Arc;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::filesync::Files;
use super::transport::SessionHeaders;
use crate::request::Credentials;

/// The methods that the session answers; the engine calls no other.
const METHODS: [&str; 3] =
    ["/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.Auth/Credentials", "/grpc.health.v1.Health/Check"];

/// How much of the connection is between engine and session at most, in bytes.
const PIPE_BYTES: usize = 256 * 1024;

/// How large the headers of one request may be: every line of an ignore file is one, and the library allows 16 KiB.
const HEADER_BYTES: u32 = 16 * 1024 * 1024;

/// What the engine is told of a session when it is opened.
pub(super) fn headers(id: &str, shared_key: &str) -> SessionHeaders {
    let mut headers = vec![
        ("X-Docker-Expose-Session-Uuid", id.to_owned()),
        ("X-Docker-Expose-Session-Name", "git-image".to_owned()),
        ("X-Docker-Expose-Session-Sharedkey", shared_key.to_owned()),
    ];
    headers.extend(METHODS.iter().map(|method| ("X-Docker-Expose-Session-Grpc-Method", (*method).to_owned())));
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
    tasks: &mut JoinSet<()>,
) {
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
