//! An engine behind ssh: a socket of ours that leads to the engine's socket on its host.
//!
//! ssh itself forwards the socket, so the host needs no program of Docker or BuildKit for it, as `docker system
//! dial-stdio` would be, and any number of connections go over one login.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::error::Cause;
use super::words::innermost;
use crate::clients::process::{Environment, Program, ProgramError};
use crate::clients::ssh::{Keys, Ssh, fingerprint};
use crate::request::{EngineSsh, SshHost};
use crate::say::Say;

/// How long the login may take.
const LOGIN: Duration = Duration::from_secs(40);

/// A running forward. It ends with this value.
pub(super) struct Forward {
    socket: PathBuf,
    _running: JoinSet<Result<Vec<u8>, ProgramError>>,
    _directory: TempDir,
}

impl Forward {
    /// Logs in, and waits until the socket is there.
    pub(super) async fn open(
        host: &SshHost,
        access: &EngineSsh,
        environment: &Environment,
        say: &Say,
    ) -> Result<Self, Cause> {
        let directory = tempfile::Builder::new().prefix("git-image-ssh-").tempdir_in(&environment.temporary)?;
        let socket = directory.path().join("engine");
        let keys = Keys {
            key: access.private_key.as_ref(),
            passphrase: access.passphrase.as_ref(),
            known_hosts: access.known_hosts.as_deref(),
            user: host.user.as_deref(),
        };
        let further = vec!["ExitOnForwardFailure=yes".to_owned(), "StreamLocalBindMask=0177".to_owned()];
        let ssh = Ssh::prepare(keys, directory.path(), further)?;
        let mut program = Program::new("ssh", "ssh", environment)
            .args(&ssh.arguments)
            .args(["-N", "-T"])
            .args(host.port.map(|port| format!("-p{port}")))
            .arg("-L")
            .arg(format!("{}:{}", socket.display(), host.socket.display()))
            .directory(directory.path());
        program = program.envs(ssh.variables).args(["--", host.host.as_str()]);
        let mut running = JoinSet::new();
        running.spawn(program.output());
        let listens = async {
            while UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = listens => {}
            ended = running.join_next() => return Err(why(ended)),
            () = tokio::time::sleep(LOGIN) => {
                return Err(format!("ssh has not logged in after {} s", LOGIN.as_secs()).into());
            }
        }
        let accepted = ssh.accepted.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        for (host, fingerprint) in accepted.lines().filter_map(fingerprint) {
            say.line(format_args!(
                "ssh: the host key of {host} is {fingerprint}, accepted because source.engine.known_hosts is not given"
            ));
        }
        Ok(Self { socket, _running: running, _directory: directory })
    }

    /// The socket that leads to the engine.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Why ssh ended: its own words, where it has some.
fn why(ended: Option<Result<Result<Vec<u8>, ProgramError>, tokio::task::JoinError>>) -> Cause {
    match ended {
        Some(Ok(Err(ProgramError::Failed { said, .. }))) => said.0.into(),
        Some(Ok(Err(error))) => innermost(&error),
        Some(Ok(Ok(_)) | Err(_)) | None => "ssh ended before it had logged in".into(),
    }
}
