//! Where a submodule is, and who asks for it.

use crate::names::{BadName, GitScheme, GitUrl};
use crate::request::{Credentials, GitSource, SubmoduleCredentials};

/// The source of a submodule, whose address was written so in the `.gitmodules` of a repository at `within`.
///
/// Whoever can push to a branch can write any address there. So the user, password and token of the repository go to
/// its own server only; a private key is shown to every ssh server, which learns nothing of it.
///
/// # Errors
///
/// The address is none that git may use here, or leads above the server's root.
pub fn source_of(source: &GitSource, within: &GitUrl, written: &str) -> Result<GitSource, BadName> {
    let (uri, password) = GitUrl::parse(&resolve(within, written)?)?;
    // Over plain http, everybody on the way would see what goes to an https server otherwise.
    let is_same_server = server(uri.as_str()) == server(source.uri.as_str()) && uri.scheme() == source.uri.scheme();
    let mut of_submodule = GitSource {
        branch: None,
        credentials: None,
        private_key: None,
        private_key_user: None,
        private_key_passphrase: None,
        submodule_credentials: Vec::new(),
        ..source.clone()
    };
    if !is_same_server {
        of_submodule.git_config.retain(|setting| !setting.may_be_secret());
    }
    match uri.scheme() {
        GitScheme::Http | GitScheme::Https => {
            let host = server(uri.as_str());
            let given = source.submodule_credentials.iter().find_map(|one| match one {
                SubmoduleCredentials::Http { host: wanted, credentials } => {
                    let without_port = host.rsplit_once(':').map_or(host, |(name, _)| name);
                    let is_meant = [host, without_port].iter().any(|host| host.eq_ignore_ascii_case(wanted));
                    is_meant.then(|| credentials.clone())
                }
                SubmoduleCredentials::Ssh { .. } => None,
            });
            let in_address = match (uri.user(), password) {
                (Some(user), Some(password)) => Some(Credentials { username: user.to_owned(), password }),
                _ => None,
            };
            let own = source.credentials.clone().filter(|_| is_same_server);
            of_submodule.credentials = given.or(in_address).or(own);
        }
        GitScheme::Ssh => {
            let given = source.submodule_credentials.iter().find_map(|one| match one {
                SubmoduleCredentials::Ssh { url, private_key, private_key_passphrase } => {
                    (url == written || url == uri.as_str()).then_some((private_key, private_key_passphrase))
                }
                SubmoduleCredentials::Http { .. } => None,
            });
            match given {
                Some((key, passphrase)) => {
                    of_submodule.private_key = Some(key.clone());
                    of_submodule.private_key_passphrase.clone_from(passphrase);
                }
                None => {
                    of_submodule.private_key.clone_from(&source.private_key);
                    of_submodule.private_key_passphrase.clone_from(&source.private_key_passphrase);
                    of_submodule.private_key_user = source.private_key_user.clone().filter(|_| is_same_server);
                }
            }
        }
    }
    of_submodule.uri = uri;
    Ok(of_submodule)
}

/// The address of a submodule: what `./` and `../` at its beginning mean is seen from the repository's own address.
fn resolve(within: &GitUrl, written: &str) -> Result<String, BadName> {
    if !written.starts_with("./") && !written.starts_with("../") {
        return Ok(written.to_owned());
    }
    let text = within.as_str().trim_end_matches('/');
    let (server, path) = match text.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or(rest);
            text.split_at(scheme.len() + "://".len() + host.len() + 1)
        }
        None => text.split_at(text.find(':').map_or(0, |colon| colon + 1)),
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    let mut rest = written;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            if parts.pop().is_none_or(str::is_empty) {
                let why = format!("leads above the root of the server of {}", within.repository());
                return Err(BadName { what: "git address", text: written.to_owned(), why });
            }
        } else {
            break;
        }
    }
    parts.push(rest);
    Ok(format!("{server}{}", parts.join("/")))
}

/// Host and port of an address.
fn server(address: &str) -> &str {
    let rest = address.split_once("://").map_or_else(|| address.split(':').next().unwrap_or(address), |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Secret;
    use crate::request::{CheckRequest, Request as _};

    fn source(git: &str) -> GitSource {
        let text = format!(r#"{{"source": {{"git": {{{git}}}, "registry": {{"repository": "r.example.com/a"}}}}}}"#);
        CheckRequest::parse(text.as_bytes()).expect("a good source").source.git
    }

    #[test]
    fn a_relative_address_is_seen_from_the_repository() {
        let why = "leads above the root of the server of git.example.com/acme/app";
        for (within, written, expected) in [
            ("https://git.example.com/acme/app.git", "../lib.git", Ok("https://git.example.com/acme/lib.git")),
            ("https://git.example.com/acme/app.git/", "../../other/lib", Ok("https://git.example.com/other/lib")),
            ("https://git.example.com/acme/app", "./lib", Ok("https://git.example.com/acme/app/lib")),
            ("https://git.example.com/acme/app", "./../lib", Ok("https://git.example.com/acme/lib")),
            ("ssh://git@git.example.com:2222/acme/app", "../lib", Ok("ssh://git@git.example.com:2222/acme/lib")),
            ("git@git.example.com:acme/app.git", "../lib.git", Ok("git@git.example.com:acme/lib.git")),
            ("git@git.example.com:/srv/acme/app.git", "../../x/lib.git", Ok("git@git.example.com:/srv/x/lib.git")),
            ("https://git.example.com/acme/app", "https://other.example/x", Ok("https://other.example/x")),
            ("https://git.example.com/acme/app", "../../../lib", Err(why)),
            ("git@git.example.com:acme/app", "../../../lib", Err(why)),
        ] {
            let (within, _) = GitUrl::parse(within).expect("an address");
            let found = resolve(&within, written).map_err(|error| error.why);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{within:?} {written}");
        }
    }

    #[test]
    fn an_address_that_git_may_not_use_here_is_refused() {
        let source = source(r#""uri": "https://git.example.com/acme/app.git""#);
        for written in ["ext::sh -c touch", "file:///etc", "/srv/git/x", "--upload-pack=x", "-oProxyCommand=x:y", ""] {
            assert!(source_of(&source, &source.uri, written).is_err(), "{written}");
        }
    }

    #[test]
    fn what_the_repository_is_asked_with_goes_to_its_own_server_only() {
        let source = source(
            r#""uri": "https://git.example.com:8443/acme/app.git", "username": "ada", "password": "own",
               "git_config": [{"name": "http.extraHeader", "value": "token"}, {"name": "http.version", "value": "HTTP/1.1"}],
               "submodule_credentials": [{"host": "other.example", "username": "bob", "password": "other"}]"#,
        );
        for (written, password, settings) in [
            ("../lib.git", Some("own"), 2),
            ("https://GIT.example.com:8443/x", Some("own"), 2),
            ("http://git.example.com:8443/x", None, 1),
            ("https://git.example.com/x", None, 1),
            ("https://git.example.com.evil.example:8443/x", None, 1),
            ("https://other.example/x", Some("other"), 1),
            ("https://other.example:8443/x", Some("other"), 1),
            ("https://me:pw@third.example/x", Some("pw"), 1),
            ("git@git.example.com:x", None, 1),
        ] {
            let found = source_of(&source, &source.uri, written).expect("an address");
            let shown = found.credentials.as_ref().map(|credentials| credentials.password.open());
            assert_eq!((shown, found.git_config.len()), (password, settings), "{written}");
            assert!(found.submodule_credentials.is_empty());
        }
    }

    #[test]
    fn a_submodule_over_ssh_has_its_own_key_or_that_of_the_repository() {
        let mut source = source(
            r#""uri": "git@git.example.com:acme/app.git", "private_key": "own", "private_key_user": "ada",
               "submodule_credentials": [{"url": "../lib.git", "private_key": "lib"}]"#,
        );
        source.known_hosts = Some("lines".to_owned());
        for (written, key, user) in
            [("../lib.git", "lib", None), ("../other.git", "own", Some("ada")), ("git@other.example:x", "own", None)]
        {
            let found = source_of(&source, &source.uri, written).expect("an address");
            let shown = found.private_key.as_ref().map(Secret::open);
            assert_eq!((shown, found.private_key_user.as_deref()), (Some(key), user), "{written}");
            assert_eq!(found.known_hosts.as_deref(), Some("lines"));
        }
    }
}
