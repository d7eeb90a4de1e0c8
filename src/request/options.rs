//! The keys of `source.build` that say how the engine builds, rather than what.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::RequestError;
use super::read::Block;
use crate::names::{BadName, CommitId, GitPath, GitScheme, GitUrl, Secret};

/// How the engine builds: the rest of `source.build`.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// For which platforms, such as `linux/arm64`. Empty: for one, linux/amd64.
    pub platforms: BTreeSet<String>,
    /// What `RUN --mount=type=secret` may read, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// The keys that `RUN --mount=type=ssh` may use, by id.
    pub ssh: BTreeMap<String, SshKey>,
    /// What `FROM` and `--from` may name besides stages and images, by name.
    pub contexts: BTreeMap<String, ContextSource>,
    /// Further lines of `/etc/hosts` while a RUN runs: addresses by name.
    pub add_hosts: BTreeMap<String, String>,
    /// Which network a RUN has.
    pub network: Network,
    /// What a RUN may be given beyond the ordinary.
    pub allow: BTreeSet<Entitlement>,
    /// The size of `/dev/shm` while a RUN runs, in bytes; `None` is the engine's own.
    pub shm_size_bytes: Option<u64>,
    /// Limits of a RUN, by name: `nofile` with `1024:2048`.
    pub ulimits: BTreeMap<String, String>,
    /// Whether steps that the engine has built before are built again.
    pub steps: Steps,
    /// Whether layers are kept in the registry for engines that have not built before.
    pub cache: RegistryCache,
    /// How layers are compressed; `None` is gzip of level 1 where the engine can be told.
    pub compression: Option<Compression>,
    /// Whether the times in layers are those of the commit.
    pub timestamps: Timestamps,
    /// Which times the files of the context have.
    pub file_times: FileTimes,
}

impl BuildOptions {
    /// What the engine must allow for a RUN: a network of the engine's own is asked for by `network: host` too.
    pub fn entitlements(&self) -> BTreeSet<Entitlement> {
        let network = match self.network {
            Network::Host => Some(Entitlement::NetworkHost),
            Network::Engine | Network::None => None,
        };
        self.allow.iter().copied().chain(network).collect()
    }
}

/// Where a secret of the build comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// The value.
    Value(Secret),
    /// A file of an artifact: `artifact/path`.
    File(String),
    /// A variable in the environment of `out`.
    Variable(String),
}

/// A key for `RUN --mount=type=ssh`.
#[derive(Debug, Clone)]
pub struct SshKey {
    /// The private key.
    pub key: SecretSource,
    /// What opens it.
    pub passphrase: Option<Secret>,
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// `docker-image://reference`.
    Image(String),
    /// `https://host/path.git#commit`.
    Git {
        /// The address, without user info.
        url: String,
        /// The commit.
        commit: CommitId,
    },
    /// A directory of the repository.
    Directory(GitPath),
    /// `oci-layout://directory`: an image in a directory of the repository.
    Layout(GitPath),
}

/// Which network a RUN has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The engine's choice.
    #[default]
    Engine,
    /// `none`.
    None,
    /// `host`: the engine's own.
    Host,
}

/// What a RUN may be given beyond the ordinary: an entry of `source.build.allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `network.host`: `RUN --network=host`.
    NetworkHost,
    /// `security.insecure`: `RUN --security=insecure`.
    SecurityInsecure,
}

impl Entitlement {
    /// Its name, as the user and the engine write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
        }
    }
}

/// Whether steps that the engine has built before are built again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Steps {
    /// They are not.
    #[default]
    FromCache,
    /// `no_cache: true`: they are.
    Again,
}

/// Whether layers are kept in the registry for engines that have not built before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RegistryCache {
    /// When the engine is the one inside the resource, which begins empty every time.
    #[default]
    ForEmptyEngines,
    /// `cache: true`: always.
    Always,
    /// `cache: false`: never.
    Never,
}

/// How layers are compressed, with the level where one is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `gzip`, from 0 to 9.
    Gzip(Option<u8>),
    /// `zstd`, from 0 to 22.
    Zstd(Option<u8>),
}

/// Whether the times in layers are those of the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timestamps {
    /// Files have the times at which they were made.
    #[default]
    AsBuilt,
    /// `reproducible: true`: none is later than the commit's.
    Rewritten,
}

/// Which times the files of the context have for the engine, and in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileTimes {
    /// Times made of the content, so that a new checkout is no change for an engine that has built before.
    #[default]
    OfContent,
    /// `content_times: false`: those of the files as they lie.
    OfFiles,
}

impl BuildOptions {
    /// Every secret in it.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        fn value(source: &SecretSource) -> Option<&Secret> {
            match source {
                SecretSource::Value(value) => Some(value),
                SecretSource::File(_) | SecretSource::Variable(_) => None,
            }
        }
        let keys = self.ssh.values().flat_map(|ssh| [value(&ssh.key), ssh.passphrase.as_ref()]);
        self.secrets.values().map(value).chain(keys).flatten()
    }
}

/// Reads the keys of the block `source.build` that are these.
pub(super) fn read(block: &Block) -> Result<BuildOptions, RequestError> {
    let refuse = |key: &str, what, text: &str, why: &str| RequestError::Value {
        key: block.key(key),
        source: BadName { what, text: text.to_owned(), why: why.to_owned() },
    };
    let one_of = |key: &str, names: &[&str]| -> Result<Option<usize>, RequestError> {
        let Some(text) = block.text(key) else { return Ok(None) };
        let at = names.iter().position(|name| *name == text);
        at.map(Some).ok_or_else(|| refuse(key, "word", &text, &format!("is none of: {}", names.join(", "))))
    };
    let mut options = BuildOptions {
        network: match one_of("network", &["default", "none", "host"])? {
            Some(1) => Network::None,
            Some(2) => Network::Host,
            _ => Network::Engine,
        },
        steps: if block.flag("no_cache") { Steps::Again } else { Steps::FromCache },
        cache: match block.map.get("cache").and_then(Value::as_bool) {
            None => RegistryCache::ForEmptyEngines,
            Some(true) => RegistryCache::Always,
            Some(false) => RegistryCache::Never,
        },
        compression: compression(&block.block("compression"))?,
        file_times: match block.map.get("content_times").and_then(Value::as_bool) {
            Some(false) => FileTimes::OfFiles,
            None | Some(true) => FileTimes::OfContent,
        },
        timestamps: if block.flag("reproducible") { Timestamps::Rewritten } else { Timestamps::AsBuilt },
        ..BuildOptions::default()
    };
    for platform in block.texts("platforms").unwrap_or_default() {
        let parts: Vec<&str> = platform.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(is_word) {
            let why = "is not of the form os/architecture or os/architecture/variant";
            return Err(refuse("platforms", "platform", &platform, why));
        }
        options.platforms.insert(platform);
    }
    for text in block.texts("allow").unwrap_or_default() {
        let known = [Entitlement::NetworkHost, Entitlement::SecurityInsecure];
        let entitlement = known.into_iter().find(|one| one.as_str() == text);
        let why = "is none of: network.host, security.insecure";
        options.allow.insert(entitlement.ok_or_else(|| refuse("allow", "entitlement", &text, why))?);
    }
    for (name, address) in block.text_map("add_hosts") {
        let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '=' || c == ',');
        if !is_name {
            return Err(refuse("add_hosts", "host name", &name, "is empty or has white space, = or ,"));
        }
        if address.parse::<std::net::IpAddr>().is_err() {
            return Err(refuse(&format!("add_hosts.{name}"), "address", &address, "is no IP address"));
        }
        options.add_hosts.insert(name, address);
    }
    for (name, limit) in block.text_map("ulimits") {
        let parts: Vec<&str> = limit.split(':').collect();
        let is_number = |part: &&str| *part == "-1" || part.parse::<u64>().is_ok();
        if parts.len() > 2 || !parts.iter().all(is_number) {
            let why = "is not of the form soft:hard, two numbers, or one for both";
            return Err(refuse(&format!("ulimits.{name}"), "limit", &limit, why));
        }
        options.ulimits.insert(name, limit);
    }
    if let Some(text) = block.text("shm_size") {
        let why = "is no size: a number of bytes, or one with k, m or g behind it";
        options.shm_size_bytes = Some(bytes(&text).ok_or_else(|| refuse("shm_size", "size", &text, why))?);
    }
    for (id, value) in block.entries("secrets") {
        options.secrets.insert(id.clone(), secret(&value, "value")?);
    }
    for (id, value) in block.entries("ssh") {
        let passphrase = value.secret("private_key_passphrase");
        options.ssh.insert(id.clone(), SshKey { key: secret(&value, "private_key")?, passphrase });
    }
    for (name, text) in block.text_map("contexts") {
        let key = format!("contexts.{name}");
        options.contexts.insert(name.clone(), context(&text).map_err(|why| refuse(&key, "context", &text, &why))?);
    }
    Ok(options)
}

fn compression(block: &Block) -> Result<Option<Compression>, RequestError> {
    let refuse = |key: &str, text: &str, why: &str| RequestError::Value {
        key: block.key(key),
        source: BadName { what: "compression", text: text.to_owned(), why: why.to_owned() },
    };
    let Some(name) = block.text("type") else { return Ok(None) };
    let level = block.text("level");
    let read = |highest: u8| match &level {
        None => Ok(None),
        Some(text) => match text.parse::<u8>() {
            Ok(level) if level <= highest => Ok(Some(level)),
            _ => Err(refuse("level", text, &format!("is no number from 0 to {highest}"))),
        },
    };
    match name.as_str() {
        "gzip" => read(9).map(|level| Some(Compression::Gzip(level))),
        "zstd" => read(22).map(|level| Some(Compression::Zstd(level))),
        _ => Err(refuse("type", &name, "is none of: gzip, zstd")),
    }
}

/// A secret by value, file or variable: exactly one of them.
fn secret(block: &Block, value: &str) -> Result<SecretSource, RequestError> {
    let given = [
        block.secret(value).map(SecretSource::Value),
        block.text("file").map(SecretSource::File),
        block.text("env").map(SecretSource::Variable),
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(only), None) => Ok(only),
        (first, _) => Err(RequestError::Contradiction {
            what: format!(
                "`{}` has {}",
                block.path,
                if first.is_some() { "more than one source" } else { "no source" }
            ),
            hint: format!("give one of: {value}, file (artifact/path), env (a variable)"),
        }),
    }
}

pub(super) fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, unit) = match number.chars().last()? {
        'k' => (&number[..number.len() - 1], 1 << 10),
        'm' => (&number[..number.len() - 1], 1 << 20),
        'g' => (&number[..number.len() - 1], 1 << 30),
        _ => (number, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

fn context(text: &str) -> Result<ContextSource, String> {
    if let Some(reference) = text.strip_prefix("docker-image://") {
        // Whether it is a reference is for the engine to say: the library's parser would be a third of each program.
        let is_word = !reference.is_empty() && !reference.contains(|c: char| c.is_whitespace() || c.is_control());
        return if is_word { Ok(ContextSource::Image(reference.to_owned())) } else { Err("names no image".to_owned()) };
    }
    if let Some(directory) = text.strip_prefix("oci-layout://") {
        return directory.parse().map(ContextSource::Layout).map_err(|error: BadName| error.why);
    }
    if text.contains("://") {
        let (url, commit) = text.split_once('#').unwrap_or((text, ""));
        let (url, password) = GitUrl::parse(url).map_err(|error| error.why)?;
        if password.is_some() || url.user().is_some() || url.scheme() == GitScheme::Ssh {
            return Err("must be http or https without a user: the engine fetches it by itself".to_owned());
        }
        let commit = commit.parse().map_err(|_| {
            "names no commit behind #, 40 hexadecimal digits: a branch would move without a new version".to_owned()
        })?;
        return Ok(ContextSource::Git { url: url.as_str().to_owned(), commit });
    }
    text.parse().map(ContextSource::Directory).map_err(|error: BadName| error.why)
}
