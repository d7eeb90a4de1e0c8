//! Checked value types: text becomes one of these once, at the edge.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// A text that is not what its type allows. Says which type, shows the text, and says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} {why}")]
pub struct BadName {
    /// The kind of name that was wanted, in the words of the user.
    pub what: &'static str,
    /// The text as it was given.
    pub text: String,
    /// Why it is refused, as the end of a sentence.
    pub why: String,
}

fn bad<T>(what: &'static str, text: &str, why: impl Into<String>) -> Result<T, BadName> {
    Err(BadName { what, text: text.to_owned(), why: why.into() })
}

/// A text that no output may show: a password, a token, a private key.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Opens the secret: only where a header or a password file is made.
    pub fn open(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

macro_rules! hex_name {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The name of these bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                let mut bytes = [0; $bytes];
                if text.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(text, &mut bytes).is_err() {
                    return bad($what, text, format!("is not {} hexadecimal digits in lower case", 2 * $bytes));
                }
                Ok(Self(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_name! {
    /// The name of a git object (commit, tree, blob) in a repository that uses SHA-1: 40 hexadecimal digits.
    ObjectId, 20, "object id"
}

hex_name! {
    /// The name of a git commit: 40 hexadecimal digits.
    CommitId, 20, "commit"
}

hex_name! {
    /// The digest of everything that an image is made of: the `inputs` of a version, 64 hexadecimal digits.
    InputsId, 32, "inputs"
}

hex_name! {
    /// The digest of the images that an image is built on: the `bases` of a version, 64 hexadecimal digits.
    BasesId, 32, "bases"
}

impl CommitId {
    /// The commit that this object is, as the tree of a repository with a submodule says.
    pub const fn of(object: ObjectId) -> Self {
        Self(object.0)
    }

    /// The first seven digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..7].to_owned()
    }

    /// The commit as an object.
    pub const fn object(self) -> ObjectId {
        ObjectId::from_bytes(self.0)
    }
}

impl InputsId {
    /// The first seven digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..7].to_owned()
    }
}

/// The digest of a manifest or blob: `sha256:` and 64 hexadecimal digits.
///
/// Other algorithms are refused: no registry that we know uses one by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest with these 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 64 hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let mut bytes = [0; 32];
        match text.strip_prefix("sha256:") {
            Some(digits) if hex::decode_to_slice(digits, &mut bytes).is_ok() => Ok(Self(bytes)),
            _ => bad("digest", text, "is not sha256: and 64 hexadecimal digits"),
        }
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A tag of a registry: 1 to 128 ASCII characters, the first a letter, a digit or `_`.
///
/// Fact: distribution-spec 1.1, "Pulling manifests".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The most characters that a tag may have.
    pub const MAX_LENGTH: usize = 128;

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.is_empty() {
            return bad("tag", text, "is empty");
        }
        let allowed = |(position, c): (usize, char)| {
            c.is_ascii_alphanumeric() || c == '_' || (position > 0 && (c == '.' || c == '-'))
        };
        if let Some((position, c)) = text.chars().enumerate().find(|&at| !allowed(at)) {
            return bad("tag", text, format!("has {c:?} at position {position}, which is not allowed there"));
        }
        if text.len() > Self::MAX_LENGTH {
            return bad("tag", text, format!("has {} characters, more than {}", text.len(), Self::MAX_LENGTH));
        }
        Ok(Self(text.to_owned()))
    }
}

impl serde::Serialize for Tag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The name of a git branch, without `refs/heads/`.
///
/// What `git check-ref-format --branch` allows, so that it can be neither an option nor a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch(String);

impl Branch {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full name of the ref: `refs/heads/` and the name.
    pub fn full_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Branch {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let refuse = |why: &str| bad("branch", text, why);
        if text.is_empty() {
            return refuse("is empty");
        }
        if text.starts_with('-') {
            return refuse("begins with '-'");
        }
        if let Some(c) = text.chars().find(|&c| c.is_control() || " ~^:?*[\\".contains(c)) {
            return bad("branch", text, format!("has {c:?}, which git does not allow in a branch"));
        }
        if text.starts_with("refs/") {
            return refuse("is a full ref; give the name of the branch alone, without refs/heads/");
        }
        let odd_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
        if text.split('/').any(odd_part)
            || text.contains("..")
            || text.contains("@{")
            || text.ends_with('.')
            || text == "@"
        {
            return refuse("is not a name that git allows for a branch");
        }
        Ok(Self(text.to_owned()))
    }
}

impl serde::Serialize for Branch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A path inside a git tree, as git has it: bytes, parts divided by `/`, never absolute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitPath(Vec<u8>);

impl GitPath {
    /// A path from the bytes that git gave.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The parts between the slashes. The path of the root, which is empty, has none.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// Whether this path is `ancestor` or lies below it. Everything lies below the root, which is empty.
    pub fn is_within(&self, ancestor: &GitPath) -> bool {
        ancestor.0.is_empty()
            || self.0.strip_prefix(ancestor.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// This path as seen from `ancestor`; `None` when it does not lie within it.
    pub fn relative_to(&self, ancestor: &GitPath) -> Option<GitPath> {
        if !self.is_within(ancestor) {
            return None;
        }
        let rest = &self.0[ancestor.0.len()..];
        Some(GitPath(rest.strip_prefix(b"/").unwrap_or(rest).to_vec()))
    }

    /// This path with another one below it.
    pub fn join(&self, below: &[u8]) -> GitPath {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() && !below.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(below);
        GitPath(bytes)
    }

    /// The directory that holds this path; the root, which is empty, for a path of one part.
    pub fn parent(&self) -> GitPath {
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => GitPath(self.0[..slash].to_vec()),
            None => GitPath(Vec::new()),
        }
    }

    /// The path for the file system, relative to where the tree is laid out.
    pub fn to_os_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt as _;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl fmt::Display for GitPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.escape_ascii().to_string())
    }
}

impl fmt::Debug for GitPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl FromStr for GitPath {
    type Err = BadName;

    /// Reads a path that a user wrote: `.` and empty parts are dropped, `..` and a leading `/` are refused.
    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.starts_with('/') {
            return bad("path", text, "begins with '/'; paths are relative to the root of the repository");
        }
        if text.contains('\0') {
            return bad("path", text, "has a NUL byte");
        }
        if text.split('/').any(|part| part == "..") {
            return bad("path", text, "has '..'; paths stay inside the repository");
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        Ok(Self(parts.join("/").into_bytes()))
    }
}

/// Where a git repository is reached, without user info.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitUrl {
    scheme: GitScheme,
    user: Option<String>,
    /// What git is given: never with a password; with a user only for ssh.
    text: String,
    canonical: GitRepository,
}

/// How a git repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitScheme {
    /// Smart HTTP without TLS.
    Http,
    /// Smart HTTP with TLS.
    Https,
    /// ssh, as a URL or in scp form.
    Ssh,
}

/// The canonical name of a git repository: host and path, without scheme, user, port and `.git`.
///
/// It is part of `inputs` and the value of the label `git-image.repository`: two addresses of one
/// repository have one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitRepository(String);

impl GitRepository {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GitRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl GitUrl {
    /// How the repository is reached.
    pub fn scheme(&self) -> GitScheme {
        self.scheme
    }

    /// The address for git: without a password, and with a user only for ssh.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The canonical name of the repository.
    pub fn repository(&self) -> &GitRepository {
        &self.canonical
    }

    /// Where people read the repository: the address of git over http or https without `.git`, else its name over https.
    pub fn page(&self) -> String {
        let canonical = format!("https://{}", self.canonical);
        match (self.scheme, url::Url::parse(&self.text)) {
            (GitScheme::Http | GitScheme::Https, Ok(mut url)) => {
                // It may hold a token.
                url.set_query(None);
                url.set_fragment(None);
                let page = url.as_str().trim_end_matches('/');
                page.strip_suffix(".git").unwrap_or(page).to_owned()
            }
            (GitScheme::Ssh, _) | (GitScheme::Http | GitScheme::Https, Err(_)) => canonical,
        }
    }

    /// The user that the address named. For http and https it is no longer part of [`Self::as_str`].
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Reads an address and takes the user info out: the address, and the password it held.
    ///
    /// Known are `https://`, `http://`, `ssh://` and the scp form `user@host:path`.
    ///
    /// # Errors
    ///
    /// Another scheme, no host, no path, or a text that begins with `-`.
    pub fn parse(text: &str) -> Result<(Self, Option<Secret>), BadName> {
        // The text may hold a password, so a refusal shows it without what stands before the last '@'.
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        let refuse = |why: &str| bad("git address", shown, why);
        if text.starts_with('-') {
            return refuse("begins with '-'");
        }
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return refuse("has a space or a control character");
        }
        if !text.contains("://") {
            return Self::parse_scp(text).map(|url| (url, None));
        }
        let Ok(mut url) = url::Url::parse(text) else { return refuse("is not a URL") };
        let scheme = match url.scheme() {
            "http" => GitScheme::Http,
            "https" => GitScheme::Https,
            "ssh" => GitScheme::Ssh,
            _ => return refuse("has a scheme other than https, http and ssh"),
        };
        let Some(host) = url.host_str().filter(|host| !host.is_empty() && !host.starts_with('-')) else {
            return refuse("has no host");
        };
        let canonical = canonical(host, url.path());
        if canonical.0.ends_with('/') {
            return refuse("has no path");
        }
        let decode = |text: &str| {
            url::form_urlencoded::parse(text.replace('+', "%2B").as_bytes()).next().map(|(name, _)| name.into_owned())
        };
        let user = decode(url.username());
        let password = url.password().and_then(decode).map(Secret);
        // Cannot fail: the URL has a host.
        let _ = url.set_password(None);
        if scheme != GitScheme::Ssh {
            let _ = url.set_username("");
        }
        url.set_fragment(None);
        Ok((Self { scheme, user, text: url.into(), canonical }, password))
    }

    fn parse_scp(text: &str) -> Result<Self, BadName> {
        let refuse = |why: &str| bad("git address", text, why);
        let Some((host, path)) = text.split_once(':') else {
            return refuse("is neither a URL (https://…, ssh://…) nor user@host:path");
        };
        let (user, host) = match host.split_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, host),
        };
        if host.is_empty() || host.starts_with('-') || host.contains('/') {
            return refuse("has no host");
        }
        if path.is_empty() || path.starts_with('-') {
            return refuse("has no path");
        }
        Ok(Self { scheme: GitScheme::Ssh, user, canonical: canonical(host, path), text: text.to_owned() })
    }
}

fn canonical(host: &str, path: &str) -> GitRepository {
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    GitRepository(format!("{}/{path}", host.to_ascii_lowercase()))
}

/// A repository of a registry: the registry's host (with its port), and the name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    name: String,
}

impl Repository {
    /// A repository that a registry lists by this name.
    ///
    /// # Errors
    ///
    /// No repository can have the name.
    pub fn listed(host: &RegistryHost, name: &str) -> Result<Self, BadName> {
        if !name.split('/').all(is_name_part) || name.len() > MAX_REPOSITORY_LENGTH {
            return bad("repository", name, "is none; a name has lower-case letters, digits and . _ - / between them");
        }
        Ok(Self { registry: host.as_str().to_owned(), name: name.to_owned() })
    }

    /// What stands in the place of a repository when a registry is asked which ones it has.
    pub fn catalog(host: &RegistryHost) -> Self {
        Self { registry: host.as_str().to_owned(), name: "_catalog".to_owned() }
    }

    /// Host and, when one was given, port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name inside the registry, such as `acme/app-ci`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The reference of one tag in this repository.
    pub fn with_tag(&self, tag: &Tag) -> oci_distribution::Reference {
        oci_distribution::Reference::with_tag(self.registry.clone(), self.name.clone(), tag.as_str().to_owned())
    }

    /// The reference of one digest in this repository.
    pub fn with_digest(&self, digest: &Digest) -> oci_distribution::Reference {
        oci_distribution::Reference::with_digest(self.registry.clone(), self.name.clone(), digest.to_string())
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

impl FromStr for Repository {
    type Err = BadName;

    /// Reads `host[:port]/name`; without a host it is a repository of Docker Hub, as everywhere in the field.
    ///
    /// The rules are those of `oci_distribution::Reference`, which a property test holds this against. They are written
    /// out because the library compiles a regular expression for them, which takes longer than a whole check.
    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.contains("://") {
            return bad(
                "repository",
                text,
                "is a URL; give host and name alone, such as registry.example.com/acme/app",
            );
        }
        let last = text.rsplit('/').next().unwrap_or(text);
        if text.contains('@') || last.contains(':') {
            // What stands before '@' may be a user with a password.
            let shown = text.rsplit('@').next().unwrap_or_default();
            return bad("repository", shown, "comes with a user, a tag or a digest; give the repository alone");
        }
        // A first part is a host only if nothing else could be meant.
        let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let (host, name) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (DOCKER_HUB, text),
        };
        let host = if host == "index.docker.io" { DOCKER_HUB } else { host };
        if name.chars().any(|c| c.is_ascii_uppercase()) {
            return bad("repository", text, "has upper-case letters, which a repository may not have");
        }
        // The library reads the whole as a name at first, and a name's part may have a `_`, where a host may not.
        let is_readable = is_host_and_port(host) || is_name_part(host);
        if !is_readable || !name.split('/').all(is_name_part) || name.len() > MAX_REPOSITORY_LENGTH {
            return bad(
                "repository",
                text,
                "is not host[:port]/name; a name has lower-case letters, digits and . _ - / between them",
            );
        }
        let official = host == DOCKER_HUB && !name.contains('/');
        let name = if official { format!("library/{name}") } else { name.to_owned() };
        Ok(Self { registry: host.to_owned(), name })
    }
}

/// The reference of an image, as `FROM` names it: `debian`, `registry.example.com/acme/app:1`, `debian:12@sha256:…`.
///
/// Without tag and digest the tag is `latest`. It is shown whole: `docker.io/library/debian:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageReference {
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag; `None`: there is a digest only.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest; `None`: there is a tag only.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same name with this digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The name alone, without the digest.
    pub fn name(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.repository),
            None => self.repository.to_string(),
        }
    }

    /// As short as it can be written: without what goes without saying. A frontend looks for a named context by it.
    pub fn familiar(&self) -> String {
        let whole = self.to_string();
        let name = if self.digest.is_none() { whole.strip_suffix(":latest").unwrap_or(&whole) } else { &whole };
        let of_hub = name.strip_prefix(DOCKER_HUB).and_then(|name| name.strip_prefix('/'));
        of_hub.map_or(name, |name| name.strip_prefix("library/").unwrap_or(name)).to_owned()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ImageReference {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let refuse = |error: BadName| BadName { what: "image", text: text.to_owned(), why: error.why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(refuse)?)),
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].split_once(':') {
            Some((name, tag)) => (&rest[..last + name.len()], Some(tag.parse::<Tag>().map_err(refuse)?)),
            None => (rest, None),
        };
        let repository = name.parse::<Repository>().map_err(refuse)?;
        let latest = || "latest".parse::<Tag>().expect("`latest` is a tag");
        let tag = if digest.is_none() { tag.or_else(|| Some(latest())) } else { tag };
        Ok(Self { repository, tag, digest })
    }
}

impl serde::Serialize for ImageReference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ImageReference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A registry, as it stands before the name of a repository: `registry.example.com` or `registry.example.com:5000`.
///
/// Docker Hub has several hosts and one name: `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryHost(String);

impl RegistryHost {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is Docker Hub.
    pub fn is_docker_hub(&self) -> bool {
        self.0 == DOCKER_HUB
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RegistryHost {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        // What stands before '@' may be a user with a password.
        let shown = text.rsplit('@').next().unwrap_or_default();
        if text.contains("://") {
            return bad("registry", shown, "is a URL; give host[:port] alone, such as registry.example.com");
        }
        if text.contains('/') {
            return bad("registry", shown, "has a path; give host[:port] alone, such as registry.example.com");
        }
        if !is_host_and_port(text) {
            return bad("registry", shown, "is not host[:port]");
        }
        let hub = matches!(text, "index.docker.io" | "registry-1.docker.io");
        Ok(Self(if hub { DOCKER_HUB } else { text }.to_owned()))
    }
}

/// A length of time as users write it: a whole number and `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    /// The units, the longest first, and how many seconds they have.
    const UNITS: [(char, u64); 4] = [('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];

    /// So many hours.
    pub const fn hours(count: u64) -> Self {
        Self(Duration::from_secs(count * 3600))
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let read = Self::UNITS.iter().find_map(|&(unit, seconds)| {
            let number = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
            number.parse::<u64>().ok()?.checked_mul(seconds)
        });
        match read {
            Some(seconds) => Ok(Self(Duration::from_secs(seconds))),
            None => bad("duration", text, "is not a whole number and s, m, h or d, such as 24h"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        // Hours are clear up to a week, so days are read and not written.
        let fits = Self::UNITS[1..].iter().find(|(_, length)| seconds != 0 && seconds.is_multiple_of(*length));
        let (unit, length) = *fits.unwrap_or(&('s', 1));
        write!(f, "{}{unit}", seconds / length)
    }
}

/// What an image runs on: `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlatform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `arm64`.
    pub architecture: String,
    /// Such as `v7`; `None`: any.
    pub variant: Option<String>,
}

impl Default for ImagePlatform {
    /// `linux/amd64`.
    fn default() -> Self {
        Self { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
    }
}

impl fmt::Display for ImagePlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// The registry of names without a host.
const DOCKER_HUB: &str = "docker.io";

/// The longest name of a repository. Fact: distribution's reference grammar, `RepositoryNameTotalLengthMax`.
const MAX_REPOSITORY_LENGTH: usize = 255;

fn is_host_and_port(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(is_label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case letters and digits, with one `.`, one or two `_`, or any number of `-` between them.
fn is_name_part(part: &str) -> bool {
    let is_word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators = part.as_bytes().split(is_word).filter(|separator| !separator.is_empty());
    let allowed = |separator: &[u8]| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-');
    let ends = part.as_bytes().first().is_some_and(is_word) && part.as_bytes().last().is_some_and(is_word);
    ends && separators.into_iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reference_is_read_as_dockerfiles_write_it() {
        const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        // The text, the whole, and as short as it can be written.
        for (text, whole, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("docker.io/acme/app:1", "docker.io/acme/app:1", "acme/app:1"),
            ("registry.example:5000/app", "registry.example:5000/app:latest", "registry.example:5000/app"),
            ("registry.example:5000/a/b:v1", "registry.example:5000/a/b:v1", "registry.example:5000/a/b:v1"),
            ("debian@DIGEST", "docker.io/library/debian@DIGEST", "debian@DIGEST"),
            ("debian:latest@DIGEST", "docker.io/library/debian:latest@DIGEST", "debian:latest@DIGEST"),
        ] {
            let with_digest = |text: &str| text.replace("DIGEST", DIGEST);
            let read: ImageReference = with_digest(text).parse().expect("it is a reference");
            assert_eq!((read.to_string(), read.familiar()), (with_digest(whole), with_digest(familiar)));
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
        for (text, message) in [
            ("Not An Image", "image \"Not An Image\" has upper-case letters, which a repository may not have"),
            ("debian:-", "image \"debian:-\" has '-' at position 0, which is not allowed there"),
            ("debian@sha256:1", "image \"debian@sha256:1\" is not sha256: and 64 hexadecimal digits"),
        ] {
            assert_eq!(text.parse::<ImageReference>().map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn a_repository_is_read_as_the_library_reads_a_reference(text in "[a-zA-Z0-9._:/-]{1,24}|(localhost|docker\\.io|index[._]docker\\.io|[a-z_-]{1,4}\\.[a-z]{1,2}|h\\.example:50)/[a-z0-9._/-]{1,12}") {
            // A tag is refused here, and taken there.
            if text.rsplit('/').next().is_some_and(|last| last.contains(':')) {
                return Ok(());
            }
            let ours = text.parse::<Repository>().ok().map(|ours| (ours.registry, ours.name));
            let theirs = oci_distribution::Reference::try_from(text.as_str()).ok();
            let theirs = theirs.map(|theirs| (theirs.registry().to_owned(), theirs.repository().to_owned()))
                // It takes a first part with capitals for a host at first, and for a name in the end.
                .filter(|(_, name)| !name.contains(|c: char| c.is_ascii_uppercase()));
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn the_page_of_a_repository_is_where_a_browser_finds_it() {
        for (address, page) in [
            ("https://git.example/acme/app.git", "https://git.example/acme/app"),
            ("http://ada:secret@git.example:8080/acme/app.git/?token=secret#x", "http://git.example:8080/acme/app"),
            ("git@git.example:acme/app.git", "https://git.example/acme/app"),
            ("ssh://git@git.example:2222/acme/app", "https://git.example/acme/app"),
        ] {
            assert_eq!(GitUrl::parse(address).expect("it is an address").0.page(), page, "{address}");
        }
    }
}
