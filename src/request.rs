//! `source` and `params` as the user wrote them, checked.
//!
//! Every key has a row in [`shape`]: a key without one is refused with the nearest known key, a key that a
//! later release brings is refused by name, and a value of another type is refused with what to write instead.

pub mod docker_config;
mod options;
pub mod product;
mod read;
mod reap;
mod registries;
pub mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use crate::concourse::Version;
use crate::decide::reap::{Grace, Keep};
use crate::decide::tags::Release;
use crate::names::{BadName, Branch, GitPath, GitUrl, ImagePlatform, RegistryHost, Repository, Secret, Span};

pub use docker_config::DockerConfigError;
pub use options::{
    BuildOptions, Compression, ContextSource, Entitlement, FileTimes, Network, RegistryCache, SecretSource, SshKey,
    Steps, Timestamps,
};
pub use product::{ApiSource, AwsKey, Product, ProductSetting};
pub use shape::ShapeError;

/// Why the JSON on stdin is not a request that we can serve.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// stdin could not be read.
    #[error("cannot read the request from stdin")]
    Unreadable(#[source] std::io::Error),
    /// stdin holds no JSON object.
    #[error("the request on stdin is not a JSON object with \"source\"")]
    NotJson(#[source] Option<serde_json::Error>),
    /// A key or a value has not the shape that it must have.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A value has the right type and is not allowed all the same.
    #[error("`{key}` is not usable")]
    Value {
        /// The key as the user wrote it, with its blocks.
        key: String,
        /// Why.
        #[source]
        source: BadName,
    },
    /// `source.docker_config_json` gives no credentials.
    #[error("`source.docker_config_json` is not usable")]
    DockerConfig(#[source] DockerConfigError),
    /// Two keys that cannot be given together, or one that needs another.
    #[error("{what}")]
    Contradiction {
        /// Which keys, and what is wrong with them.
        what: String,
        /// What to write instead.
        hint: String,
    },
    /// The program was started without the directory that Concourse gives it.
    #[error("no directory was given as the first argument")]
    NoDirectory,
}

impl RequestError {
    /// The error of a stdin that cannot be read.
    pub fn unreadable(error: std::io::Error) -> crate::error::Error {
        Self::Unreadable(error).into()
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable(_) | Self::NotJson(_) => {
                Some("Concourse runs this program; by hand, give it {\"source\": {…}} on stdin".to_owned())
            }
            Self::Shape(error) => error.hint(),
            Self::Value { .. } => None,
            Self::DockerConfig(error) => Some(error.hint().to_owned()),
            Self::Contradiction { hint, .. } => Some(hint.clone()),
            Self::NoDirectory => Some(
                "Concourse gives `in` the directory to fill and `out` the one with the artifacts; do the same by hand"
                    .to_owned(),
            ),
        }
    }
}

/// What a step reads from stdin.
pub trait Request: Sized {
    /// Reads the request.
    ///
    /// # Errors
    ///
    /// It is no JSON, or its keys and values are not those that [`shape`] lists.
    fn parse(text: &[u8]) -> Result<Self, RequestError>;

    /// Every secret in it, so that no line shows one.
    fn secrets(&self) -> Vec<&Secret>;
}

/// What `check` reads.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// The resource.
    pub source: Source,
    /// The newest version that Concourse knows; `None` at the first check.
    pub version: Option<Version>,
}

/// What `in` reads.
#[derive(Debug, Clone)]
pub struct GetRequest {
    /// The resource.
    pub source: Source,
    /// The version to fetch.
    pub version: Version,
    /// The step's params.
    pub params: GetParams,
}

/// What `out` reads.
#[derive(Debug, Clone)]
pub struct PutRequest {
    /// The resource.
    pub source: Source,
    /// The step's params.
    pub params: PutParams,
}

/// The resource: one image of one git branch.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where the code is.
    pub git: GitSource,
    /// Where the image goes.
    pub registry: RegistrySource,
    /// Further registries, for `FROM` and `COPY --from`: those of `registries`, and those of `docker_config_json`.
    pub registries: Vec<FurtherRegistry>,
    /// How the image is made.
    pub build: BuildSource,
    /// Who builds it.
    pub engine: EngineSource,
    /// Whether check announces a version only when its image is in the registry.
    pub announce: Announce,
    /// Branches of which versions are released besides the default branch; `*` stands for any characters.
    pub release_branches: Vec<String>,
    /// What `git-image reap` keeps and removes.
    pub reap: ReapSource,
    /// How many bytes the layers of an image may have, inflated, for get to unpack it; `None`: any number.
    pub max_unpacked_bytes: Option<NonZeroU64>,
}

/// What the reaper keeps and removes: `source.reap`. The steps of the resource do not look at it.
#[derive(Debug, Clone, Default)]
pub struct ReapSource {
    /// How long a dead tag stays; the command line is asked first.
    pub grace: Option<Grace>,
    /// How many tags one run may remove; the command line is asked first.
    pub max_delete: Option<usize>,
    /// Whether the images that earlier runs left without a tag are deleted; so does the flag of the command line.
    pub delete_untagged: bool,
    /// What is kept besides.
    pub keep: Keep,
}

/// Which versions check announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// Every version that git has, built or not.
    All,
    /// `only_built: true`: only versions whose content tag is in the registry.
    OnlyBuilt,
}

/// Where the code is: `source.git`.
#[derive(Debug, Clone)]
pub struct GitSource {
    /// The address, without user info.
    pub uri: GitUrl,
    /// The branch; `None` is the remote's default branch.
    pub branch: Option<Branch>,
    /// Who asks, over http and https.
    pub credentials: Option<Credentials>,
    /// The key for ssh.
    pub private_key: Option<Secret>,
    /// The user for ssh, before the one in the address.
    pub private_key_user: Option<String>,
    /// What opens the private key.
    pub private_key_passphrase: Option<Secret>,
    /// The lines of a `known_hosts` file; given, the host's key must be one of them.
    pub known_hosts: Option<String>,
    /// Whether the server's certificate is verified.
    pub verify: Verify,
    /// Certificates (PEM) that are trusted besides the system's.
    pub ca_certs: Vec<String>,
    /// The proxy through which the server is reached.
    pub https_tunnel: Option<HttpsTunnel>,
    /// Settings for git, in order.
    pub git_config: Vec<GitConfig>,
    /// Who asks for submodules of other servers, or with other keys.
    pub submodule_credentials: Vec<SubmoduleCredentials>,
    /// Whether `[ci skip]` in a message hides a commit from check.
    pub ci_skip: CiSkip,
    /// Which messages hide a commit from check besides.
    pub commit_filter: CommitFilter,
    /// How many versions the first check answers.
    pub version_depth: NonZeroUsize,
}

/// An HTTP proxy that lets through what is behind it: `source.git.https_tunnel`.
#[derive(Debug, Clone)]
pub struct HttpsTunnel {
    /// Its host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who asks.
    pub credentials: Option<Credentials>,
}

/// Who asks for some submodules: an item of `source.git.submodule_credentials`, as the git resource takes it.
#[derive(Debug, Clone)]
pub enum SubmoduleCredentials {
    /// For those of one server, over http and https.
    Http {
        /// The server: its name, with or without a port.
        host: String,
        /// Who asks.
        credentials: Credentials,
    },
    /// For one of them, over ssh.
    Ssh {
        /// The address, as `.gitmodules` has it or in full.
        url: String,
        /// The key.
        private_key: Secret,
        /// What opens it.
        private_key_passphrase: Option<Secret>,
    },
}

/// A user and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: Secret,
}

/// Whether certificates are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// They are.
    Certificates,
    /// `skip_ssl_verification: true`: they are not.
    Nothing,
}

/// One setting of git, as the git resource takes it.
#[derive(Debug, Clone)]
pub struct GitConfig {
    /// The key, such as `http.extraHeader`.
    pub name: String,
    /// The value. It may be a token, so it is treated as a secret.
    pub value: Secret,
}

/// What `[ci skip]` and `[skip ci]` in a commit's message do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CiSkip {
    /// Check does not see such a commit at the end of the branch.
    Honour,
    /// `disable_ci_skip: true`: they do nothing.
    Ignore,
}

/// Which commits check sees at the end of the branch, by their messages: `source.git.commit_filter`, as the git resource
/// takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitFilter {
    /// What a message must match.
    pub include: Patterns,
    /// What a message may not match.
    pub exclude: Patterns,
}

/// Patterns of `git log --grep`: basic regular expressions, each looked for in any line of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    /// The patterns; none for no condition.
    pub any_or_all: Vec<String>,
    /// Whether all of them must match, and not just one.
    pub all_match: bool,
}

/// Where the image goes: `source.registry`.
#[derive(Debug, Clone)]
pub struct RegistrySource {
    /// The repository, or its beginning.
    pub repository: RepositorySetting,
    /// What stands before every tag; empty for nothing.
    pub tag_prefix: String,
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// How it is reached.
    pub transport: RegistryTransport,
    /// Certificates (PEM) that are trusted besides the system's.
    pub ca_certs: Vec<String>,
    /// The certificates that we show, at most one to each registry.
    pub client_certs: Vec<ClientCert>,
    /// Which image of an index get takes; `None`: that for linux/amd64.
    pub platform: Option<ImagePlatform>,
    /// What stands behind a version in the tags of releases.
    pub variant: Option<String>,
    /// Where images of Docker Hub are read first.
    pub mirror: Option<Mirror>,
    /// How long the blobs of one image may take to arrive, all together.
    pub download_timeout: Span,
    /// What is said of the registry's product and its own API.
    pub api: ApiSource,
}

impl RegistrySource {
    /// How long an image may take to arrive when the user does not say.
    pub const DOWNLOAD_TIMEOUT: Span = Span::hours(1);
}

/// A certificate that we show to a registry.
#[derive(Debug, Clone)]
pub struct ClientCert {
    /// The registry that it is for.
    pub host: RegistryHost,
    /// Which entry of `source.registry.client_certs` it is; the first is 1.
    pub position: usize,
    /// The certificate (PEM), and those that vouch for it.
    pub cert: String,
    /// Its key (PEM).
    pub key: Secret,
}

/// A mirror of Docker Hub. How it is reached is said by `insecure` and `ca_certs` of the block.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Where it is.
    pub host: RegistryHost,
    /// Who asks.
    pub credentials: Option<Credentials>,
}

/// A registry besides the image's own.
#[derive(Debug, Clone)]
pub struct FurtherRegistry {
    /// The registry.
    pub host: RegistryHost,
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// How it is reached. An engine that runs elsewhere has its own settings for that.
    pub transport: RegistryTransport,
    /// Certificates (PEM) that are trusted besides the system's.
    pub ca_certs: Vec<String>,
}

/// The repository as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositorySetting {
    /// A whole repository.
    Whole(Repository),
    /// It ends in `/`: `NAME` of `image.details` is its last part. Without the slash here.
    Beginning(String),
}

impl RepositorySetting {
    /// The registry of the repository.
    pub fn host(&self) -> RegistryHost {
        let host = match self {
            Self::Whole(repository) => repository.registry().parse(),
            Self::Beginning(beginning) => {
                format!("{beginning}/name").parse::<Repository>().and_then(|repository| repository.registry().parse())
            }
        };
        host.expect("it was checked when the request was read")
    }
}

/// How a registry is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryTransport {
    /// https.
    Https,
    /// `insecure: true`: plain http.
    Http,
}

/// How the image is made: `source.build`.
#[derive(Debug, Clone)]
pub struct BuildSource {
    /// The directory that COPY sees; the root of the repository when empty.
    pub context: GitPath,
    /// The Dockerfile; `None` is `Dockerfile` in the context.
    pub dockerfile: Option<GitPath>,
    /// Which files count; `None`: those that the Dockerfile reads.
    pub paths: Option<Vec<String>>,
    /// Which files do not count.
    pub ignore_paths: Vec<String>,
    /// The file with NAME, VERSION and labels.
    pub details: Option<GitPath>,
    /// The stage that is built; `None` is the last one.
    pub target: Option<String>,
    /// Build args.
    pub args: BTreeMap<String, String>,
    /// A file of the repository with further build args.
    pub args_file: Option<GitPath>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// A file of the repository with further labels.
    pub labels_file: Option<GitPath>,
    /// Any text: another text is another image.
    pub epoch: Option<String>,
    /// Whose images are used.
    pub reuse: Reuse,
    /// What makes a new version.
    pub follow: Follow,
    /// How the engine builds.
    pub options: BuildOptions,
}

/// Whose images a branch uses in place of building its own: `source.build.reuse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reuse {
    /// `repository`: those of every branch, as long as they are made of the same.
    #[default]
    Repository,
    /// `branch`: its own only. The branch is part of `inputs`.
    Branch,
}

/// What makes a new version: `source.build.follow_bases`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Follow {
    /// Commits that change what the image is made of.
    #[default]
    Git,
    /// `true`: these, and images that it is built on when their tags move.
    GitAndBases,
}

impl BuildSource {
    /// The path of the Dockerfile in the repository.
    pub fn dockerfile(&self) -> GitPath {
        self.dockerfile.clone().unwrap_or_else(|| self.context.join(b"Dockerfile"))
    }
}

/// Who builds the image: `source.engine`.
#[derive(Debug, Clone, Default)]
pub struct EngineSource {
    /// Where engines listen. Empty: a socket of the machine is looked for.
    pub hosts: Vec<EngineHost>,
    /// Engines of their own for some platforms, such as `linux/arm64`.
    pub platforms: BTreeMap<String, EngineHost>,
    /// How those at `tcp://` are known, and how they know us; `None`: without TLS.
    pub tls: Option<EngineTls>,
    /// Who we are for those at `ssh://`.
    pub ssh: EngineSsh,
}

/// Who we are for the hosts of engines at `ssh://`, and which of them are trusted.
#[derive(Debug, Clone, Default)]
pub struct EngineSsh {
    /// The private key.
    pub private_key: Option<Secret>,
    /// What opens it.
    pub passphrase: Option<Secret>,
    /// The lines of a `known_hosts` file; given, the host's key must be one of them.
    pub known_hosts: Option<String>,
}

/// The certificates for engines at `tcp://`: `source.engine.tls`. Each is PEM.
#[derive(Debug, Clone, Default)]
pub struct EngineTls {
    /// The authorities of the engines' certificates; `None`: those that the system trusts.
    pub ca: Option<String>,
    /// The certificate that we show, with the key of it.
    pub client: Option<(String, Secret)>,
}

/// Where an engine listens: `source.engine.host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineHost {
    /// `unix:///path`.
    Unix(PathBuf),
    /// `tcp://host:port`, without TLS.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `ssh://user@host:port/path`.
    Ssh(SshHost),
}

/// A socket on another host, reached by ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost {
    /// The user; `None` is ssh's default.
    pub user: Option<String>,
    /// Host name or address.
    pub host: String,
    /// Port; `None` is ssh's own.
    pub port: Option<u16>,
    /// The engine's socket there.
    pub socket: PathBuf,
}

/// Params of `in`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GetParams {
    /// In which form the image is written.
    pub format: Format,
    /// Whether it is.
    pub download: Download,
    /// Whether `source/` gets a checkout of the version's commit.
    pub source: GetSource,
    /// Which image of an index is taken; `None`: as the source says.
    pub platform: Option<ImagePlatform>,
}

/// In which form `in` writes the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `rootfs`: unpacked to `rootfs/`.
    #[default]
    Rootfs,
    /// `oci`: a docker-archive, `image.tar`.
    DockerArchive,
    /// `oci-layout`: an OCI layout in `oci/`, of the whole index unless a platform is chosen.
    Layout,
}

/// Whether `in` writes the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Download {
    /// It does.
    #[default]
    Fetch,
    /// `skip_download: true`: it writes only the small files; an image that is not there yet is no error.
    Skip,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rootfs => "rootfs",
            Self::DockerArchive => "oci",
            Self::Layout => "oci-layout",
        })
    }
}

impl FromStr for Format {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let all = [Self::Rootfs, Self::DockerArchive, Self::Layout];
        all.into_iter().find(|format| format.to_string() == text).ok_or_else(|| BadName {
            what: "format",
            text: text.to_owned(),
            why: "is none of: rootfs, oci, oci-layout".to_owned(),
        })
    }
}

/// Whether `in` makes a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GetSource {
    /// It does not.
    #[default]
    Leave,
    /// `source: true`: to `source/`.
    Checkout,
}

/// Params of `out`.
#[derive(Debug, Clone, Default)]
pub struct PutParams {
    /// The artifact with the checkout, relative to the directory that Concourse gives; `None`: the branch's tip is fetched.
    pub source: Option<String>,
    /// A finished image that is pushed in place of building one, relative to the same directory.
    pub image: Option<String>,
    /// Further tags, with `{ref}`, `{commit}`, `{short}`, `{branch}`, `{version}` and `$BUILD_*`.
    pub tags: Vec<String>,
    /// A file with further tags, separated by white space.
    pub additional_tags: Option<String>,
    /// A stage that must build before anything is pushed.
    pub test: Option<String>,
    /// Whether the image is built although its content tag exists.
    pub rebuild: Rebuild,
    /// The version that is released.
    pub version: Option<Release>,
    /// Whether the aliases of the version move.
    pub aliases: Aliases,
    /// Labels that say who built it, with `$BUILD_*`; not part of `inputs`.
    pub labels: BTreeMap<String, String>,
    /// A directory that an earlier task made (`artifact/path`), in place of the context in git. Only with `only_built` and `source`.
    pub context: Option<String>,
    /// Further build args. Only with `only_built` and `source`.
    pub args: BTreeMap<String, String>,
    /// Images that earlier steps made (`artifact/path`), by the names that the Dockerfile has for them. Only with
    /// `only_built` and `source`.
    pub contexts: BTreeMap<String, String>,
    /// A file (`artifact/path`) with further build args. Only with `only_built` and `source`.
    pub args_file: Option<String>,
}

/// Whether `X.Y`, `X` and `latest` follow a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aliases {
    /// They stay.
    #[default]
    Leave,
    /// `bump_aliases: true`: each moves, if the version is the newest of its line.
    Bump,
}

/// Whether an image that exists is built again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rebuild {
    /// It is reused.
    #[default]
    No,
    /// `rebuild: true`: it is built again, and the content tag is moved.
    Yes,
}
