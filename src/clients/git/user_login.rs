//! What the user's own git knows of a server: the logins that its credential helpers keep.
//!
//! The git that speaks to the server in a step sees nothing of the user's settings. At a terminal that leaves out what
//! the user gave git long ago, so it is asked for.
//!
//! Fact: git-credential(1): `fill` reads a description, ended by an empty line, and prints it with what it found.

use crate::clients::process::Program;
use crate::concourse::Edge;
use crate::names::{GitScheme, GitUrl, Secret};
use crate::request::Credentials;

/// More than any helper prints.
const MOST_BYTES: usize = 64 * 1024;

/// Asks the helpers that the user has set up for git. `None`: there are none, or none knows the server. What goes wrong
/// with them is not told: nobody has said that they are needed.
pub async fn ask(address: &GitUrl, edge: &Edge) -> Option<Credentials> {
    match address.scheme() {
        GitScheme::Http | GitScheme::Https => {}
        GitScheme::Ssh => return None,
    }
    // Only what is kept: nobody is asked, neither on the terminal nor in a window.
    let program = Program::new("git", "git credential fill", &edge.programs)
        .envs(&edge.variables)
        .envs([("GIT_TERMINAL_PROMPT", "0"), ("GIT_ASKPASS", ""), ("GCM_INTERACTIVE", "never")])
        .args(["credential", "fill"])
        .input(format!("url={}\n\n", address.as_str()))
        .limit(MOST_BYTES);
    read(&program.output().await.ok()?)
}

fn read(printed: &[u8]) -> Option<Credentials> {
    let text = std::str::from_utf8(printed).ok()?;
    let value = |key| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Some(Credentials { username: value("username")?.to_owned(), password: Secret::new(value("password")?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_taken_whole_or_not_at_all() {
        for (printed, login) in [
            ("protocol=https\nhost=h\nusername=ada\npassword=a=b c\n", Some(("ada", "a=b c"))),
            ("protocol=https\nhost=h\nusername=ada\n", None),
            ("", None),
        ] {
            let read = read(printed.as_bytes());
            let read = read.as_ref().map(|login| (login.username.as_str(), login.password.open()));
            assert_eq!(read, login, "{printed:?}");
        }
    }
}
