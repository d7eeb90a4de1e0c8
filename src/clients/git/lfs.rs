//! Where a repository over ssh has its LFS files.

use super::{Git, GitError, words};
use crate::clients::process::Program;

impl Git {
    /// What `git-lfs-authenticate` on the ssh server prints: where its LFS server is, and who may ask.
    ///
    /// Fact: git-lfs, docs/api/server-discovery.md, "SSH".
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or does not know the command.
    pub(in crate::clients) async fn lfs_authenticate(&self) -> Result<Vec<u8>, GitError> {
        let (mut arguments, path) = ssh_words(self.uri.as_str());
        arguments.push(format!("git-lfs-authenticate {} download", super::login::quoted(&path)));
        // The words for ssh are quoted for a shell, since git hands them to one.
        let program = Program::new("sh", "ssh git-lfs-authenticate", &self.environment)
            .directory(&self.directory)
            .env("HOME", self.private.path().join("home"))
            .envs(self.login.variables().map(|(name, value)| (name, value)))
            .args(["-c", r#"eval "exec $GIT_SSH_COMMAND \"\$@\"""#, "sh"])
            .args(arguments)
            .limit(1024 * 1024);
        let result = program.output().await;
        result.map_err(|error| words::classify(error, self.repository(), Some(self.login.kind())))
    }
}

/// The words that name an ssh server, and the path on it.
fn ssh_words(address: &str) -> (Vec<String>, String) {
    let Some(rest) = address.strip_prefix("ssh://") else {
        let (host, path) = address.split_once(':').unwrap_or((address, ""));
        return (vec!["--".to_owned(), host.to_owned()], path.to_owned());
    };
    let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
    // An IPv6 address has colons in its brackets.
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (server, None),
    };
    let mut words = Vec::new();
    if let Some(port) = port {
        words.extend(["-p".to_owned(), port.to_owned()]);
    }
    words.extend(["--".to_owned(), host.replace(['[', ']'], "")]);
    (words, format!("/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssh_server_is_named_as_ssh_wants_it() {
        for (address, words, path) in [
            ("git@git.example.com:acme/app.git", "-- git@git.example.com", "acme/app.git"),
            ("git.example.com:/srv/app", "-- git.example.com", "/srv/app"),
            ("ssh://git@git.example.com/acme/app.git", "-- git@git.example.com", "/acme/app.git"),
            ("ssh://git@git.example.com:2222/acme/app.git", "-p 2222 -- git@git.example.com", "/acme/app.git"),
            ("ssh://git@[::1]:22/app", "-p 22 -- git@::1", "/app"),
        ] {
            let (found, at) = ssh_words(address);
            assert_eq!((found.join(" ").as_str(), at.as_str()), (words, path), "{address}");
        }
    }
}
