//! What git's words mean: the one place that reads them.

use super::error::{GitError, Login};
use crate::clients::process::{ProgramError, Said};
use crate::names::GitRepository;

/// What a text of git means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unreachable,
    Untrusted,
    Refused,
    NoRepository,
    Key,
    HostKey,
    Gone,
    Sha256,
    DiskFull,
    Damaged,
    HungUp,
}

/// Words of git, curl and ssh under `LANG=C`, in lower case, the most telling first: one failure often says several.
///
/// Fact: git 2.39 with libcurl-gnutls 7.88 and OpenSSH 9.2; the OpenSSL texts are curl's own.
const WORDS: &[(Kind, &[&str])] = &[
    (Kind::DiskFull, &["no space left on device", "disk quota exceeded"]),
    (Kind::HostKey, &["host key verification failed", "remote host identification has changed"]),
    (
        Kind::Key,
        &[
            "error in libcrypto",
            "invalid format",
            "incorrect passphrase",
            "bad passphrase",
            "bad permissions",
            "load key ",
        ],
    ),
    (
        Kind::Untrusted,
        &[
            "certificate verification failed",
            "ssl certificate problem",
            "certificate subject name",
            "certificate signer not trusted",
            "problem with the ssl ca cert",
        ],
    ),
    (
        Kind::Refused,
        &[
            "authentication failed",
            "could not read username",
            "could not read password",
            "permission denied",
            "returned error: 401",
            "returned error: 403",
            "access denied",
        ],
    ),
    (
        Kind::NoRepository,
        &[
            "repository not found",
            "does not appear to be a git repository",
            "returned error: 404",
            "' not found",
            "no such project",
        ],
    ),
    (Kind::Sha256, &["mismatched algorithms", "unsupported object format", "unknown object format"]),
    (
        Kind::Gone,
        &[
            "not our ref",
            "unadvertised object",
            "couldn't find remote ref",
            "remote did not send all necessary objects",
        ],
    ),
    (
        Kind::Unreachable,
        &[
            "could not resolve host",
            "failed to connect",
            "couldn't connect",
            "connection refused",
            "connection timed out",
            "timed out",
            "no route to host",
            "network is unreachable",
            "could not resolve proxy",
            "from proxy after connect",
            "proxy connect aborted",
            "connect tunnel failed",
            "returned error: 407",
        ],
    ),
    (
        Kind::HungUp,
        &[
            "hung up unexpectedly",
            "early eof",
            "unexpected disconnect",
            "rpc failed",
            "expected flush after",
            "operation too slow",
            "protocol error",
            "returned error: 5",
            "empty reply from server",
            "connection reset",
            "recv failure",
            "is this a git repository?",
            "could not read from remote repository",
        ],
    ),
    (
        Kind::Damaged,
        &[
            "bad object",
            "bad tree object",
            "is corrupt",
            "is empty",
            "unable to read",
            "could not read",
            "not a tree object",
            "not a git repository",
            "not a valid object name",
            "bad shallow line",
            "shallow file has changed",
            "unable to find",
            "invalid object",
            "hash mismatch",
            "cannot be mapped",
            "missing blob",
            "missing tree",
            "does not match index",
            "bad config",
            "failed to traverse parents",
            "revision walk setup failed",
            "inflate:",
            "file exists",
        ],
    ),
];

fn kind(said: &str) -> Option<Kind> {
    let said = said.to_lowercase();
    WORDS.iter().find(|(_, words)| words.iter().any(|word| said.contains(word))).map(|&(kind, _)| kind)
}

/// Turns a failed git into what the user must know. `login` is what the server was shown; `None` when none was asked.
pub(super) fn classify(error: ProgramError, repository: &GitRepository, login: Option<Login>) -> GitError {
    let ProgramError::Failed { what, said, .. } = error else { return GitError::Program(error) };
    // Without a server, a permission that is denied is one of our own files.
    let is_local = |kind: &Kind| matches!(kind, Kind::DiskFull | Kind::Damaged | Kind::Sha256);
    let kind = kind(&said.0).filter(|kind| login.is_some() || is_local(kind));
    let login = login.unwrap_or(Login::Nobody);
    let said = Said(without_user_info(&telling(&said.0)));
    let repository = repository.clone();
    match kind {
        Some(Kind::Unreachable) => GitError::Unreachable { repository, said },
        Some(Kind::Untrusted) => GitError::Untrusted { repository, said },
        Some(Kind::Refused) => GitError::Refused { repository, login, said },
        Some(Kind::NoRepository) => GitError::NoRepository { repository, login, said },
        Some(Kind::Key) => GitError::Key { repository, said },
        Some(Kind::HostKey) => GitError::HostKey { repository, said },
        Some(Kind::Gone) => GitError::Gone { repository, said },
        Some(Kind::Sha256) => GitError::Sha256 { repository },
        Some(Kind::DiskFull) => GitError::DiskFull { repository, said },
        Some(Kind::Damaged) => GitError::Damaged { repository, said },
        Some(Kind::HungUp) => GitError::HungUp { repository, what, said },
        None => GitError::Other { what, repository, said },
    }
}

/// The lines that say something of this failure: not the box around a warning, not advice about files of ours.
fn telling(said: &str) -> String {
    const GENERAL: [&str; 12] = [
        "@",
        "IT IS POSSIBLE THAT",
        "Someone could be",
        "It is also possible",
        "Please contact your",
        "Please make sure you have the correct access rights",
        "and the repository exists.",
        "fatal: Could not read from remote repository.",
        "Add correct host key in ",
        "Offending ",
        "  remove with:",
        "  ssh-keygen -f ",
    ];
    let is_telling = |line: &&str| !line.trim().is_empty() && !GENERAL.iter().any(|start| line.starts_with(start));
    let mut lines: Vec<&str> = said.lines().filter(is_telling).collect();
    // A damaged pack is complained of once for each object that is looked for.
    lines.dedup();
    lines.drain(..lines.len().saturating_sub(12));
    if lines.is_empty() { said.to_owned() } else { lines.join("\n") }
}

/// The text with user and password taken out of every address in it, such as one that a server redirected to.
fn without_user_info(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c == '\'').unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user) => &after[user + 1..],
            None => after,
        };
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_of_git_has_its_kind() {
        use Kind::{
            Damaged, DiskFull, Gone, HostKey, HungUp, Key, NoRepository, Refused, Sha256, Unreachable, Untrusted,
        };
        for (said, wanted) in [
            (
                "fatal: unable to access 'http://127.0.0.1:1/x/': Failed to connect to 127.0.0.1 port 1 after 0 ms: Couldn't connect to server",
                Unreachable,
            ),
            ("fatal: unable to access 'https://no.example/x/': Could not resolve host: no.example", Unreachable),
            (
                "ssh: Could not resolve hostname no.example: Name or service not known\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.",
                Unreachable,
            ),
            (
                "ssh: connect to host 127.0.0.1 port 1: Connection refused\nfatal: Could not read from remote repository.",
                Unreachable,
            ),
            (
                "fatal: unable to access 'https://127.0.0.1:4443/x/': server certificate verification failed. CAfile: none CRLfile: none",
                Untrusted,
            ),
            ("fatal: unable to access 'https://h/x/': SSL certificate problem: self-signed certificate", Untrusted),
            (
                "fatal: unable to access 'https://h/x/': SSL: certificate subject name (a) does not match target host name 'h'",
                Untrusted,
            ),
            ("fatal: could not read Username for 'http://127.0.0.1:8080': terminal prompts disabled", Refused),
            ("remote: HTTP Basic: Access denied\nfatal: Authentication failed for 'https://h/x.git/'", Refused),
            ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", Refused),
            ("fatal: unable to access 'http://h/x/': The requested URL returned error: 403", Refused),
            ("fatal: repository 'http://127.0.0.1:8080/none.git/' not found", NoRepository),
            ("ERROR: Repository not found.\nfatal: Could not read from remote repository.", NoRepository),
            (
                "fatal: '/none' does not appear to be a git repository\nfatal: Could not read from remote repository.",
                NoRepository,
            ),
            (
                "Load key \"/tmp/k\": error in libcrypto\ngit@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
                Key,
            ),
            (
                "Load key \"/tmp/k\": incorrect passphrase supplied to decrypt private key\ngit@h: Permission denied (publickey).",
                Key,
            ),
            (
                "No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.\nfatal: Could not read from remote repository.",
                HostKey,
            ),
            ("fatal: couldn't find remote ref refs/heads/none", Gone),
            ("fatal: remote error: upload-pack: not our ref 1111111111111111111111111111111111111111", Gone),
            (
                "error: Server does not allow request for unadvertised object 1111111111111111111111111111111111111111",
                Gone,
            ),
            ("fatal: mismatched algorithms: client sha1; server sha256", Sha256),
            (
                "error: RPC failed; HTTP 500 curl 22 The requested URL returned error: 500\nfatal: expected flush after ref listing",
                HungUp,
            ),
            (
                "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
                HungUp,
            ),
            ("fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output", DiskFull),
            ("fatal: bad object HEAD", Damaged),
            (
                "error: object file objects/aa/bb is empty\nfatal: loose object aabb (stored in objects/aa/bb) is corrupt",
                Damaged,
            ),
            ("fatal: not a git repository: '/tmp/x'", Damaged),
            ("fatal: Unable to create '/tmp/x/shallow.lock': File exists.", Damaged),
        ] {
            assert_eq!(kind(said), Some(wanted), "{said}");
        }
        assert_eq!(kind("fatal: something that nobody has seen"), None);
    }

    #[test]
    fn a_permission_that_is_denied_without_a_server_is_not_the_servers_refusal() {
        use std::os::unix::process::ExitStatusExt as _;

        let repository = crate::names::GitUrl::parse("https://h/a").expect("it is an address").0.repository().clone();
        let failed = || ProgramError::Failed {
            program: "git".to_owned(),
            what: "git log".to_owned(),
            status: std::process::ExitStatus::from_raw(128 << 8),
            said: Said("fatal: cannot open 'x': Permission denied".to_owned()),
        };
        assert!(matches!(classify(failed(), &repository, None), GitError::Other { .. }));
        assert!(matches!(classify(failed(), &repository, Some(Login::Nobody)), GitError::Refused { .. }));
    }

    #[test]
    fn words_of_git_that_are_the_same_for_every_failure_are_left_out() {
        let said = "@@@@@\n@  WARNING!  @\nHost key verification failed.\nfatal: Could not read from remote repository.\n\n\
                    Please make sure you have the correct access rights\nand the repository exists.";
        assert_eq!(telling(said), "Host key verification failed.");
        assert_eq!(
            telling("fatal: Could not read from remote repository."),
            "fatal: Could not read from remote repository."
        );
    }

    #[test]
    fn addresses_are_shown_without_user_info() {
        assert_eq!(
            without_user_info("unable to access 'https://me:pa@ss@host/x': see http://host/y and ssh://git@h"),
            "unable to access 'https://host/x': see http://host/y and ssh://h"
        );
    }
}
