//! Who we are for the server: passwords, keys, certificates and settings, as variables of the one child that needs them.
//!
//! Passwords and tokens are in the environment of our own child only: never in an argument, an address or a
//! configuration. The helper that hands them out is bound to scheme, host and port of the address, so a server that
//! redirects elsewhere does not get them there. Keys are in files that only we can read, in a directory that goes
//! with the step.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::error::Login as Kind;
use super::tunnel::Tunnel;
use super::{GitError, failed_to, settings};
use crate::clients::process::Said;
use crate::clients::ssh::{self, Keys, Ssh};
use crate::names::{GitRepository, GitScheme};
use crate::request::{GitConfig, GitSource, HttpsTunnel, Verify};
use crate::say::Say;

/// Where systems keep the certificates that they trust.
pub(super) const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// The helper that answers git's question for a password. Only a shell's own words: nothing is started.
const HELPER: &str = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$GIT_IMAGE_USERNAME" "$GIT_IMAGE_PASSWORD"; }; f"#;

/// The same for the proxy.
const PROXY_HELPER: &str = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$GIT_IMAGE_PROXY_USERNAME" "$GIT_IMAGE_PROXY_PASSWORD"; }; f"#;

/// Variables for the commands that speak to the server.
pub(super) struct Login {
    variables: Vec<(OsString, OsString)>,
    kind: Kind,
    /// Where ssh notes the key of a host that nobody gave us; `None` once it was said, or when hosts are given.
    accepted: Mutex<Option<PathBuf>>,
    /// The private key, when only a passphrase opens it.
    locked_key: Option<PathBuf>,
    tunnel: Option<Tunnel>,
}

impl Login {
    /// Writes key and certificates below `private`, and makes the variables.
    pub(super) fn prepare(source: &GitSource, private: &Path) -> Result<Self, GitError> {
        let mut pairs = vec![
            // Given here and not in the file: reading commands have no promisor, so they never fetch.
            ("remote.origin.promisor".to_owned(), "true".to_owned()),
            ("remote.origin.partialCloneFilter".to_owned(), "blob:none".to_owned()),
        ];
        for setting in &source.git_config {
            refuse_programs(setting)?;
            pairs.push((setting.name.clone(), setting.value.open().to_owned()));
        }
        let mut login = Self {
            variables: Vec::new(),
            kind: Kind::Nobody,
            accepted: Mutex::new(None),
            locked_key: None,
            tunnel: None,
        };
        match source.uri.scheme() {
            GitScheme::Http | GitScheme::Https => login.prepare_http(source, private, &mut pairs)?,
            GitScheme::Ssh => login.prepare_ssh(source, private)?,
        }
        login.variables.extend(settings(pairs));
        Ok(login)
    }

    /// The variables for a command that speaks to the server.
    pub(super) fn variables(&self) -> impl Iterator<Item = &(OsString, OsString)> {
        self.variables.iter()
    }

    /// What is shown to the server.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The private key, when only a passphrase opens it.
    pub(super) fn locked_key(&self) -> Option<&Path> {
        self.locked_key.as_deref()
    }

    /// The error of the proxy of `https_tunnel`, when that is why a command failed.
    pub(super) fn proxy_fault(&self, repository: &GitRepository) -> Option<GitError> {
        self.tunnel.as_ref()?.fault(repository)
    }

    /// Says once which key a host has that nobody gave us.
    pub(super) fn say_accepted(&self, say: &Say) {
        let Ok(mut accepted) = self.accepted.lock() else { return };
        let Some(text) = accepted.as_ref().and_then(|path| fs::read_to_string(path).ok()) else { return };
        for (host, fingerprint) in text.lines().filter_map(ssh::fingerprint) {
            say.line(format_args!(
                "ssh: the host key of {host} is {fingerprint}, accepted because source.git.known_hosts is not given"
            ));
            *accepted = None;
        }
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.push((name.into(), value.into()));
    }

    fn prepare_http(
        &mut self,
        source: &GitSource,
        private: &Path,
        pairs: &mut Vec<(String, String)>,
    ) -> Result<(), GitError> {
        self.set("GIT_ALLOW_PROTOCOL", "http:https");
        if let Some(credentials) = &source.credentials {
            self.kind = Kind::Password;
            let origin = url::Url::parse(source.uri.as_str()).map(|url| url.origin().ascii_serialization());
            let origin = origin.unwrap_or_else(|_| source.uri.as_str().to_owned());
            pairs.push((format!("credential.{origin}.helper"), HELPER.to_owned()));
            self.set("GIT_IMAGE_USERNAME", &credentials.username);
            self.set("GIT_IMAGE_PASSWORD", credentials.password.open());
        }
        if let Some(HttpsTunnel { host, port, credentials }) = &source.https_tunnel {
            let user = credentials.as_ref().map_or_else(String::new, |login| {
                format!("{}@", url::form_urlencoded::byte_serialize(login.username.as_bytes()).collect::<String>())
            });
            pairs.push(("http.proxy".to_owned(), format!("http://{user}{host}:{port}")));
            if let Some(login) = credentials {
                pairs.push((format!("credential.http://{host}:{port}.helper"), PROXY_HELPER.to_owned()));
                self.set("GIT_IMAGE_PROXY_USERNAME", &login.username);
                self.set("GIT_IMAGE_PROXY_PASSWORD", login.password.open());
            }
        }
        if source.verify == Verify::Nothing {
            self.set("GIT_SSL_NO_VERIFY", "true");
        } else if !source.ca_certs.is_empty() {
            let bundle = private.join("ca.pem");
            let mut text = BUNDLES.iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
            for certificate in &source.ca_certs {
                text.push(b'\n');
                text.extend_from_slice(certificate.trim().as_bytes());
            }
            text.push(b'\n');
            write_private(&bundle, &text, 0o600)?;
            self.set("GIT_SSL_CAINFO", bundle);
        }
        Ok(())
    }

    fn prepare_ssh(&mut self, source: &GitSource, private: &Path) -> Result<(), GitError> {
        self.set("GIT_ALLOW_PROTOCOL", "ssh");
        // Said, so that git does not start ssh a second time to find out.
        self.set("GIT_SSH_VARIANT", "ssh");
        let mut further = Vec::new();
        if let Some(proxy) = &source.https_tunnel {
            let tunnel = Tunnel::open(&source.uri, proxy).map_err(failed_to("open a port for", private))?;
            further.extend(tunnel.ssh_options());
            self.tunnel = Some(tunnel);
        }
        let keys = Keys {
            key: source.private_key.as_ref(),
            passphrase: source.private_key_passphrase.as_ref(),
            known_hosts: source.known_hosts.as_deref(),
            user: source.private_key_user.as_deref(),
        };
        let Ssh { arguments, variables, accepted, locked_key } =
            Ssh::prepare(keys, private, further).map_err(failed_to("write a key into", private))?;
        if locked_key.is_some() && source.private_key_passphrase.is_none() {
            let said = Said("it is encrypted, and there is no `source.git.private_key_passphrase`".to_owned());
            return Err(GitError::Key { repository: source.uri.repository().clone(), said });
        }
        if source.private_key.is_some() {
            self.kind = Kind::Key;
        }
        (self.accepted, self.locked_key) = (Mutex::new(accepted), locked_key);
        self.variables.extend(variables);
        let words: Vec<String> = std::iter::once("ssh".to_owned()).chain(arguments).collect();
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        self.set("GIT_SSH_COMMAND", words.join(" "));
        Ok(())
    }
}

/// Refuses settings that run a program, read further files, or widen what git may do here.
///
/// The pipeline's author is trusted, so this is not a wall against him: it keeps a setting that is meant for his own
/// machine from making git run what this resource promises never to run.
fn refuse_programs(setting: &GitConfig) -> Result<(), GitError> {
    let refuse = |why: &str| Err(GitError::Setting { name: setting.name.clone(), said: Said(why.to_owned()) });
    let name = setting.name.to_ascii_lowercase();
    let (Some((section, _)), Some((_, key))) = (name.split_once('.'), name.rsplit_once('.')) else {
        return refuse("a setting's name has a section and a key, such as http.extraHeader");
    };
    if name.chars().any(char::is_control) || name.starts_with('-') {
        return refuse("its name is not one that git has");
    }
    match section {
        "alias" | "filter" | "diff" | "difftool" | "merge" | "mergetool" | "pager" | "sequence" | "gpg" | "trailer"
        | "man" | "browser" | "interactive" | "guitool" | "sendemail" | "uploadpack" | "receive" => {
            refuse("settings of this section run programs")
        }
        "include" | "includeif" => refuse("settings in further files are not read"),
        "protocol" if key == "allow" => refuse("which protocols are allowed follows from `source.git.uri`"),
        "extensions" | "safe" | "remote" | "submodule" => refuse("settings of this section belong to this resource"),
        "core" => match key {
            "sshcommand"
            | "gitproxy"
            | "askpass"
            | "editor"
            | "pager"
            | "fsmonitor"
            | "hookspath"
            | "alternaterefscommand" => refuse("its value is a program that git runs"),
            "repositoryformatversion" | "bare" | "worktree" | "attributesfile" | "excludesfile" => {
                refuse("it belongs to this resource")
            }
            _ => Ok(()),
        },
        // Even git's own: `cache` starts a program that outlives the step.
        "credential" if key == "helper" => refuse("the user and password come from `source.git`"),
        _ => Ok(()),
    }
}

/// A word for the shell that git starts ssh with.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn write_private(path: &Path, bytes: &[u8], mode: u32) -> Result<(), GitError> {
    ssh::write_private(path, bytes, mode).map_err(failed_to("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Secret;

    #[test]
    fn settings_that_run_programs_are_refused_and_others_are_not() {
        for (name, value, allowed) in [
            ("http.extraHeader", "X-A: b", true),
            ("http.https://h/.proxy", "http://p", true),
            ("url.https://h/.insteadOf", "https://g/", true),
            ("user.name", "me", true),
            ("credential.useHttpPath", "true", true),
            ("core.compression", "0", true),
            ("credential.helper", "cache", false),
            ("credential.helper", "!echo", false),
            ("credential.https://h.helper", "/bin/x", false),
            ("core.sshCommand", "x", false),
            ("CORE.FSMonitor", "x", false),
            ("core.hooksPath", "x", false),
            ("core.gitProxy", "x", false),
            ("filter.lfs.smudge", "x", false),
            ("alias.fetch", "!x", false),
            ("include.path", "x", false),
            ("includeIf.gitdir:/.path", "x", false),
            ("protocol.file.allow", "always", false),
            ("remote.origin.uploadpack", "x", false),
            ("nothing", "x", false),
        ] {
            let setting = GitConfig { name: name.to_owned(), value: Secret::new(value) };
            assert_eq!(refuse_programs(&setting).is_ok(), allowed, "{name}={value}");
        }
    }

    #[test]
    fn words_for_the_shell_keep_their_quotes() {
        assert_eq!(quoted("a'b c"), r"'a'\''b c'");
    }
}
