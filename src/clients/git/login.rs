//! Who we are for the server: passwords, keys, certificates and settings, as variables of the one child that needs them.
//!
//! Passwords and tokens are in the environment of our own child only: never in an argument, an address or a
//! configuration. The helper that hands them out is bound to scheme, host and port of the address, so a server that
//! redirects elsewhere does not get them there. Keys are in files that only we can read, in a directory that goes
//! with the step.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use super::error::Login as Kind;
use super::tunnel::Tunnel;
use super::{GitError, failed_to, settings};
use crate::clients::process::Said;
use crate::names::{GitRepository, GitScheme, Secret};
use crate::request::{GitConfig, GitSource, HttpsTunnel, Verify};
use crate::say::Say;

/// Where systems keep the certificates that they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// The helper that answers git's question for a password. Only a shell's own words: nothing is started.
const HELPER: &str = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$GIT_IMAGE_USERNAME" "$GIT_IMAGE_PASSWORD"; }; f"#;

/// The same for the proxy.
const PROXY_HELPER: &str = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$GIT_IMAGE_PROXY_USERNAME" "$GIT_IMAGE_PROXY_PASSWORD"; }; f"#;

/// What ssh asks for a passphrase.
const ASKPASS: &str = "#!/bin/sh\nprintf '%s\\n' \"$GIT_IMAGE_PASSPHRASE\"\n";

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
        for (host, fingerprint) in text.lines().filter_map(fingerprint) {
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
        let mut words = vec!["ssh".to_owned(), "-F".to_owned(), "/dev/null".to_owned()];
        let mut option = |text: String| words.extend(["-o".to_owned(), text]);
        for text in [
            "IdentitiesOnly=yes",
            "PasswordAuthentication=no",
            "KbdInteractiveAuthentication=no",
            "NumberOfPasswordPrompts=1",
            "ConnectTimeout=30",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
            "ForwardAgent=no",
            "ControlMaster=no",
            "HashKnownHosts=no",
            "LogLevel=ERROR",
            "GlobalKnownHostsFile=/dev/null",
        ] {
            option(text.to_owned());
        }
        if let Some(proxy) = &source.https_tunnel {
            let tunnel = Tunnel::open(&source.uri, proxy).map_err(failed_to("open a port for", private))?;
            tunnel.ssh_options().into_iter().for_each(&mut option);
            self.tunnel = Some(tunnel);
        }
        let known_hosts = private.join("known_hosts");
        // Quoted for ssh, too, which takes several files here.
        option(format!("UserKnownHostsFile=\"{}\"", known_hosts.display()));
        if let Some(lines) = &source.known_hosts {
            write_private(&known_hosts, lines.replace("\r\n", "\n").as_bytes(), 0o600)?;
            option("StrictHostKeyChecking=yes".to_owned());
        } else {
            option("StrictHostKeyChecking=no".to_owned());
            self.accepted = Mutex::new(Some(known_hosts));
        }
        // BatchMode would also keep ssh from asking for the passphrase.
        let batch = if source.private_key_passphrase.is_some() { "no" } else { "yes" };
        option(format!("BatchMode={batch}"));
        if let Some(user) = &source.private_key_user {
            option(format!("User={user}"));
        }
        if let Some(key) = &source.private_key {
            self.kind = Kind::Key;
            let path = private.join("key");
            let key = repaired(key);
            write_private(&path, key.open().as_bytes(), 0o600)?;
            if is_locked(&key) {
                if source.private_key_passphrase.is_none() {
                    let said = Said("it is encrypted, and there is no `source.git.private_key_passphrase`".to_owned());
                    return Err(GitError::Key { repository: source.uri.repository().clone(), said });
                }
                self.locked_key = Some(path.clone());
            }
            words.extend(["-i".to_owned(), path.display().to_string()]);
        }
        if let Some(passphrase) = &source.private_key_passphrase {
            let path = private.join("askpass");
            write_private(&path, ASKPASS.as_bytes(), 0o700)?;
            self.set("SSH_ASKPASS", path);
            self.set("SSH_ASKPASS_REQUIRE", "force");
            self.set("GIT_IMAGE_PASSPHRASE", passphrase.open());
        }
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

/// A private key as ssh reads it: lines end in a line feed, the last one too.
fn repaired(key: &Secret) -> Secret {
    let lines: Vec<&str> = key.open().trim().lines().map(str::trim_end).collect();
    Secret::new(lines.join("\n") + "\n")
}

/// Whether only a passphrase opens a private key.
fn is_locked(key: &Secret) -> bool {
    // OpenSSH's own form names the cipher after this word and a length; OpenSSL's forms say it in their text.
    const MAGIC: &[u8] = b"openssh-key-v1\0\0\0\0\x04none";
    let body: String = key.open().lines().filter(|line| !line.starts_with("-----")).collect();
    if key.open().contains("BEGIN OPENSSH PRIVATE KEY") {
        let body = base64::engine::general_purpose::STANDARD.decode(body);
        body.is_ok_and(|body| body.starts_with(&MAGIC[..15]) && !body.starts_with(MAGIC))
    } else {
        key.open().contains("ENCRYPTED")
    }
}

/// Host and fingerprint of a line of a `known_hosts` file.
fn fingerprint(line: &str) -> Option<(&str, String)> {
    let mut words = line.split_whitespace();
    let (host, _, key) = (words.next()?, words.next()?, words.next()?);
    let key = base64::engine::general_purpose::STANDARD.decode(key).ok()?;
    let hash = base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(key));
    Some((host, format!("SHA256:{hash}")))
}

/// A word for the shell that git starts ssh with.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn write_private(path: &Path, bytes: &[u8], mode: u32) -> Result<(), GitError> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(failed_to("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_key_without_its_last_line_end_or_with_windows_line_ends_is_repaired() {
        let key = Secret::new("\n-----BEGIN X-----\r\nabc\r\n-----END X-----");
        assert_eq!(repaired(&key).open(), "-----BEGIN X-----\nabc\n-----END X-----\n");
    }

    #[test]
    fn a_key_with_a_passphrase_is_told_from_one_without() {
        let openssh = |content: &[u8]| {
            let body = base64::engine::general_purpose::STANDARD.encode(content);
            Secret::new(format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"))
        };
        assert!(!is_locked(&openssh(b"openssh-key-v1\0\0\0\0\x04none\0\0\0\x04none")));
        assert!(is_locked(&openssh(b"openssh-key-v1\0\0\0\0\x0aaes256-ctr\0\0\0\x06bcrypt")));
        assert!(is_locked(&Secret::new("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n")));
        assert!(!is_locked(&Secret::new("-----BEGIN RSA PRIVATE KEY-----\nabc\n")));
    }

    #[test]
    fn words_for_the_shell_keep_their_quotes() {
        assert_eq!(quoted("a'b c"), r"'a'\''b c'");
    }

    #[test]
    fn a_fingerprint_is_written_as_ssh_writes_it() {
        let line = "[127.0.0.1]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        let expected = ("[127.0.0.1]:2222", "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU".to_owned());
        assert_eq!(fingerprint(line), Some(expected));
    }
}
