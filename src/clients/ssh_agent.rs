//! An ssh agent of our own with one key: what `RUN --mount=type=ssh` asks. The key itself never leaves it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::clients::process::{Environment, Program, ProgramError};
use crate::names::Secret;

/// How long the agent may take until it listens.
const START: Duration = Duration::from_secs(10);

/// What ssh-add asks for a passphrase. It asks until one is right, so the second question gets no answer.
const ASKPASS: &str = "#!/bin/sh\nset -C\n: >\"$0.asked\" || exit 1\nprintf '%s\\n' \"$GIT_IMAGE_PASSPHRASE\"\n";

/// Why an agent does not have its key.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It does not start.
    #[error("cannot start an ssh agent for `{key}`")]
    Start {
        /// The key of the source, with its blocks.
        key: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It does not take the key.
    #[error("`{key}` is not usable as an ssh key")]
    Key {
        /// The key of the source, with its blocks.
        key: String,
        /// What ssh-add said.
        #[source]
        source: ProgramError,
    },
}

impl AgentError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Start { .. } => None,
            Self::Key { key, .. } => Some(format!(
                "write the whole private key there, with its BEGIN and END lines; one that is encrypted needs `{key}.private_key_passphrase`"
            )),
        }
    }
}

/// A running agent. It ends with this value.
pub struct Agent {
    socket: PathBuf,
    _running: JoinSet<()>,
}

impl Agent {
    /// Starts an agent with this private key. `name` is the key of the source that gives it; `directory` is empty, and
    /// nobody else may look into it.
    ///
    /// # Errors
    ///
    /// There is no ssh-agent, or it does not take the key.
    pub async fn start(
        name: &str,
        key: &Secret,
        passphrase: Option<&Secret>,
        directory: &Path,
        environment: &Environment,
    ) -> Result<Self, AgentError> {
        let start = |source| AgentError::Start { key: name.to_owned(), source };
        let socket = directory.join("agent");
        let program =
            Program::new("ssh-agent", "ssh-agent", environment).args(["-D", "-a"]).arg(&socket).directory(directory);
        let mut running = JoinSet::new();
        running.spawn(async move {
            // It runs until it is ended; that it did not start is seen by its socket.
            let _ = program.output().await;
        });
        let listens = async {
            while UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let ended = async { running.join_next().await };
        tokio::select! {
            () = listens => {}
            _ = ended => return Err(start(std::io::Error::other("ssh-agent ended at once, or there is none"))),
            () = tokio::time::sleep(START) => {
                return Err(start(std::io::Error::other(format!("it does not listen after {} s", START.as_secs()))));
            }
        }
        let askpass = directory.join("askpass");
        std::fs::write(&askpass, ASKPASS).map_err(start)?;
        std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).map_err(start)?;
        // ssh-add reads a key from a pipe only when its lines end as it wants.
        let text = format!("{}\n", key.open().replace("\r\n", "\n").trim_end());
        let mut add = Program::new("ssh-add", "ssh-add", environment)
            .args(["-q", "-"])
            .env("SSH_AUTH_SOCK", &socket)
            // Never the terminal: without a passphrase the answer is empty, which opens nothing.
            .env("SSH_ASKPASS", &askpass)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .directory(directory)
            .input(text.into_bytes());
        add = add.env("GIT_IMAGE_PASSPHRASE", passphrase.map_or("", Secret::open));
        add.output().await.map_err(|source| AgentError::Key { key: name.to_owned(), source })?;
        Ok(Self { socket, _running: running })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}
