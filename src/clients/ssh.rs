//! How ssh is told who we are, and whom we trust: files that only we can read, options, and variables of the one child.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::names::Secret;

/// What ssh asks for a passphrase.
const ASKPASS: &str = "#!/bin/sh\nprintf '%s\\n' \"$GIT_IMAGE_PASSPHRASE\"\n";

/// Who we are for a server, and which servers are trusted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keys<'a> {
    /// The private key.
    pub key: Option<&'a Secret>,
    /// What opens it.
    pub passphrase: Option<&'a Secret>,
    /// The lines of a `known_hosts` file; without them any host is taken, and its key noted.
    pub known_hosts: Option<&'a str>,
    /// The user, before the one in an address.
    pub user: Option<&'a str>,
}

/// ssh, prepared.
pub struct Ssh {
    /// The arguments before the host.
    pub arguments: Vec<String>,
    /// The variables.
    pub variables: Vec<(OsString, OsString)>,
    /// Where ssh notes the key of a host that nobody gave us; `None` when hosts are given.
    pub accepted: Option<PathBuf>,
    /// The private key, when only a passphrase opens it.
    pub locked_key: Option<PathBuf>,
}

impl Ssh {
    /// Writes what ssh reads into `private`, a directory that only we can enter. `further` are more `-o` options.
    ///
    /// # Errors
    ///
    /// A file cannot be written there.
    pub fn prepare(keys: Keys<'_>, private: &Path, further: Vec<String>) -> io::Result<Self> {
        let mut arguments = vec!["-F".to_owned(), "/dev/null".to_owned()];
        let mut option = |text: String| arguments.extend(["-o".to_owned(), text]);
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
        further.into_iter().for_each(&mut option);
        let known_hosts = private.join("known_hosts");
        // Quoted for ssh, too, which takes several files here.
        option(format!("UserKnownHostsFile=\"{}\"", known_hosts.display()));
        let accepted = match keys.known_hosts {
            Some(lines) => {
                write_private(&known_hosts, lines.replace("\r\n", "\n").as_bytes(), 0o600)?;
                option("StrictHostKeyChecking=yes".to_owned());
                None
            }
            None => {
                option("StrictHostKeyChecking=no".to_owned());
                Some(known_hosts)
            }
        };
        // BatchMode would also keep ssh from asking for the passphrase.
        let batch = if keys.passphrase.is_some() { "no" } else { "yes" };
        option(format!("BatchMode={batch}"));
        if let Some(user) = keys.user {
            option(format!("User={user}"));
        }
        let mut locked_key = None;
        if let Some(key) = keys.key {
            let path = private.join("key");
            let key = repaired(key);
            write_private(&path, key.open().as_bytes(), 0o600)?;
            locked_key = is_locked(&key).then(|| path.clone());
            arguments.extend(["-i".to_owned(), path.display().to_string()]);
        }
        let mut variables = Vec::new();
        if let Some(passphrase) = keys.passphrase {
            let path = private.join("askpass");
            write_private(&path, ASKPASS.as_bytes(), 0o700)?;
            variables.push(("SSH_ASKPASS".into(), path.into()));
            variables.push(("SSH_ASKPASS_REQUIRE".into(), "force".into()));
            variables.push(("GIT_IMAGE_PASSPHRASE".into(), passphrase.open().into()));
        }
        Ok(Self { arguments, variables, accepted, locked_key })
    }
}

/// Host and fingerprint of a line of a `known_hosts` file, as ssh writes them; `None` for a line that has none.
pub fn fingerprint(line: &str) -> Option<(&str, String)> {
    let mut words = line.split_whitespace();
    let (host, _, key) = (words.next()?, words.next()?, words.next()?);
    let key = base64::engine::general_purpose::STANDARD.decode(key).ok()?;
    let hash = base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(key));
    Some((host, format!("SHA256:{hash}")))
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

/// Writes a file that nobody else can read, and that was not there before.
///
/// # Errors
///
/// It is there, or cannot be written.
pub fn write_private(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_fingerprint_is_written_as_ssh_writes_it() {
        let line = "[127.0.0.1]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        let expected = ("[127.0.0.1]:2222", "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU".to_owned());
        assert_eq!(fingerprint(line), Some(expected));
    }
}
