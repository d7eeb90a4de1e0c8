//! Which keys there are, of which type each is, and which come later.
//!
//! A request is held against these tables before anything else reads it, so that a misspelt key, a value that
//! YAML turned into a number, or a key of a later release ends with an error that names it.

use serde_json::{Map, Value};

/// A key or a value that has not the shape it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Nobody knows this key.
    #[error("`{key}` is not a key of git-image")]
    UnknownKey {
        /// The key with its blocks.
        key: String,
        /// What may have been meant, with its blocks.
        nearest: Option<String>,
        /// The keys that there are at this place.
        known: Vec<&'static str>,
    },
    /// The key is known, and not supported.
    #[error("`{key}` is not supported by this release")]
    NotYet {
        /// The key with its blocks.
        key: String,
        /// What to use instead.
        instead: &'static str,
    },
    /// The value has another type.
    #[error("`{key}` must be {wanted}, but it is {found}")]
    WrongType {
        /// The key with its blocks.
        key: String,
        /// The type that it must have.
        wanted: &'static str,
        /// The type that it has, with its value where that is short and no secret.
        found: String,
        /// How to write it.
        advice: Advice,
    },
    /// A key without which nothing works.
    #[error("`{key}` is missing")]
    Missing {
        /// The key with its blocks.
        key: String,
        /// What it is.
        example: &'static str,
    },
}

impl ShapeError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::UnknownKey { known, .. } if known.is_empty() => Some("no keys are known here".to_owned()),
            Self::UnknownKey { known, .. } => Some(format!("known here: {}", known.join(", "))),
            Self::NotYet { instead, .. } => Some((*instead).to_owned()),
            Self::WrongType { advice, key, .. } => {
                let last = key.rsplit('.').next().unwrap_or(key);
                // The item of a list has no name of its own.
                let name = if last.ends_with(']') { "-".to_owned() } else { format!("{last}:") };
                Some(match advice {
                    Advice::Quote => format!("YAML made it so; write it in quotes: {name} \"…\""),
                    Advice::Text => format!("write one text: {name} \"…\""),
                    Advice::Flag => format!("write it without quotes: {name} true"),
                    Advice::Count => format!("write a number of 1 or more, without quotes: {name} 1"),
                    Advice::Port => format!("write a number: {name} 8080"),
                    Advice::Texts => format!("write a list, also for one: {name} [\"…\"]"),
                    Advice::TextOrTexts => format!("write one text, or a list: {name} \"…\""),
                    Advice::TextMap => format!("write name and value as a block: {name} {{NAME: \"…\"}}"),
                    Advice::Block { keys } => format!("write a block: {name} {{{}}}", join_keys(keys)),
                    Advice::Blocks { keys } => format!("write a list of blocks: {name} [{{{}}}]", join_keys(keys)),
                })
            }
            Self::Missing { example, .. } => Some(format!("for example {example}")),
        }
    }
}

/// The most keys that a hint shows of a block.
const SHOWN_KEYS: usize = 5;

fn join_keys(keys: &[&str]) -> String {
    let more = (keys.len() > SHOWN_KEYS).then(|| "…".to_owned());
    keys.iter().take(SHOWN_KEYS).map(|key| format!("{key}: …")).chain(more).collect::<Vec<_>>().join(", ")
}

/// How a value must be written that has another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// In quotes: YAML took the text for something else.
    Quote,
    /// As one text.
    Text,
    /// As `true` or `false`.
    Flag,
    /// As a number.
    Count,
    /// As the number of a port.
    Port,
    /// As a list.
    Texts,
    /// As one text or a list.
    TextOrTexts,
    /// As names with values.
    TextMap,
    /// As a block.
    Block {
        /// The keys that it may have.
        keys: Vec<&'static str>,
    },
    /// As a list of blocks.
    Blocks {
        /// The keys that each may have.
        keys: Vec<&'static str>,
    },
}

/// The type of a value.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A text.
    Text,
    /// A text that no message may show.
    Secret,
    /// `true` or `false`.
    Flag,
    /// A whole number, one or more.
    Count,
    /// The number of a port, also in quotes.
    Port,
    /// A list of texts.
    Texts,
    /// A text, or a list of texts.
    TextOrTexts,
    /// Texts by name.
    TextMap,
    /// A list of blocks.
    Blocks(&'static [Key]),
    /// A block.
    Block(&'static [Key]),
    /// A block, or a text that stands for a block with this key alone.
    Short(&'static [Key], &'static str),
    /// Such blocks by name.
    Shorts(&'static [Key], &'static str),
}

/// The longest text that a message shows.
const SHOWN_LENGTH: usize = 60;

/// One key.
pub struct Key {
    name: &'static str,
    takes: Takes,
}

/// Whether a key can be used.
enum Takes {
    Now(Kind),
    /// It comes with a later release; what to do until then.
    Later(&'static str),
}

const fn now(name: &'static str, kind: Kind) -> Key {
    Key { name, takes: Takes::Now(kind) }
}

const fn later(name: &'static str, instead: &'static str) -> Key {
    Key { name, takes: Takes::Later(instead) }
}

const LATER: &str = "it comes with a later release of git-image; leave it out until then";
const CLOUD: &str = "cloud identities come with a later release; use `username` and `password`";
const VERSIONS: &str = "the versions of this resource come from git, not from tags; leave it out";
const IN_BUILD: &str = "say it in `source.build`, so that check, put and get agree on the version";
const ONE_GIT: &str = "this resource follows one branch; use a git resource beside it for that";

/// `version`.
pub static VERSION: &[Key] = &[now("ref", Kind::Text), now("inputs", Kind::Text), now("bases", Kind::Text)];

/// `source`.
pub static SOURCE: &[Key] = &[
    now("git", Kind::Block(GIT)),
    now("registry", Kind::Block(REGISTRY)),
    now("registries", Kind::Blocks(REGISTRIES)),
    now("docker_config_json", Kind::Secret),
    now("build", Kind::Block(BUILD)),
    now("engine", Kind::Block(ENGINE)),
    now("only_built", Kind::Flag),
    now("release_branches", Kind::Texts),
    now("reap", Kind::Block(REAP)),
];

static REAP: &[Key] = &[
    now("grace", Kind::Text),
    now("max_delete", Kind::Count),
    now("delete_untagged", Kind::Flag),
    now("keep_last", Kind::Count),
    now("keep_last_per", Kind::Text),
    now("protected", Kind::Texts),
    now("branch_tags", Kind::Texts),
];

static GIT: &[Key] = &[
    now("uri", Kind::Text),
    now("branch", Kind::Text),
    now("username", Kind::Text),
    now("password", Kind::Secret),
    now("private_key", Kind::Secret),
    now("private_key_user", Kind::Text),
    now("private_key_passphrase", Kind::Secret),
    now("known_hosts", Kind::Text),
    now("skip_ssl_verification", Kind::Flag),
    now("ca_certs", Kind::Texts),
    now("https_tunnel", Kind::Block(HTTPS_TUNNEL)),
    now("git_config", Kind::Blocks(GIT_CONFIG)),
    now("submodule_credentials", Kind::Blocks(SUBMODULE_CREDENTIALS)),
    now("disable_ci_skip", Kind::Flag),
    now("version_depth", Kind::Count),
    now("commit_filter", Kind::Block(COMMIT_FILTER)),
    later("paths", "which files count is said in `source.build.paths`, and read from the Dockerfile without it"),
    later("ignore_paths", "which files do not count is said in `source.build.ignore_paths`"),
    later("sparse_paths", "nothing but what the build reads is fetched anyway; leave it out"),
    later("forward_agent", LATER),
    later("tag_filter", ONE_GIT),
    later("tag_regex", ONE_GIT),
    later("tag_behaviour", ONE_GIT),
    later("fetch_tags", ONE_GIT),
    later("version_type", ONE_GIT),
    later("branch_filters", ONE_GIT),
    later("branch_regex", ONE_GIT),
    later("search_remote_refs", ONE_GIT),
    later("commit_verification_keys", LATER),
    later("commit_verification_key_ids", LATER),
    later("gpg_keyserver", LATER),
    later("git_crypt_key", LATER),
    later("debug", "the log has everything already; leave it out"),
];

static COMMIT_FILTER: &[Key] = &[
    now("include", Kind::Texts),
    now("include_all_match", Kind::Flag),
    now("exclude", Kind::Texts),
    now("exclude_all_match", Kind::Flag),
];

static HTTPS_TUNNEL: &[Key] = &[
    now("proxy_host", Kind::Text),
    now("proxy_port", Kind::Port),
    now("proxy_user", Kind::Text),
    now("proxy_password", Kind::Secret),
];

static SUBMODULE_CREDENTIALS: &[Key] = &[
    now("host", Kind::Text),
    now("username", Kind::Text),
    now("password", Kind::Secret),
    now("url", Kind::Text),
    now("private_key", Kind::Secret),
    now("private_key_passphrase", Kind::Secret),
];

static GIT_CONFIG: &[Key] = &[now("name", Kind::Text), now("value", Kind::Secret)];

static REGISTRY: &[Key] = &[
    now("repository", Kind::Text),
    now("tag_prefix", Kind::Text),
    now("username", Kind::Text),
    now("password", Kind::Secret),
    now("insecure", Kind::Flag),
    now("ca_certs", Kind::Texts),
    now("client_certs", Kind::Blocks(CLIENT_CERTS)),
    now("registry_mirror", Kind::Block(REGISTRY_MIRROR)),
    now("api", Kind::Block(API)),
    now("variant", Kind::Text),
    now("platform", Kind::Block(PLATFORM)),
    now("download_timeout", Kind::Text),
    now("max_unpacked_size", Kind::Text),
    later("debug", "the log has everything already; leave it out"),
    later("tag", "tags are made from the version; further ones are `params.tags` of the put"),
    later("tag_regex", VERSIONS),
    later("created_at_sort", VERSIONS),
    later("semver_constraint", VERSIONS),
    later("pre_releases", VERSIONS),
    later("pre_release_prefixes", VERSIONS),
    later("content_trust", "signatures come with a later release"),
    later("label_regex", LATER),
    later("annotation_regex", LATER),
    later("aws_access_key_id", CLOUD),
    later("aws_secret_access_key", CLOUD),
    later("aws_session_token", CLOUD),
    later("aws_region", CLOUD),
    later("aws_role_arn", CLOUD),
    later("aws_role_arns", CLOUD),
    later("aws_account_id", CLOUD),
    later("azure_acr", CLOUD),
    later("azure_client_id", CLOUD),
    later("azure_tenant_id", CLOUD),
    later("azure_environment", CLOUD),
];

static PLATFORM: &[Key] = &[now("architecture", Kind::Text), now("os", Kind::Text), now("variant", Kind::Text)];

static CLIENT_CERTS: &[Key] = &[now("cert", Kind::Text), now("key", Kind::Secret), now("domain", Kind::Text)];

static REGISTRY_MIRROR: &[Key] = &[now("host", Kind::Text), now("username", Kind::Text), now("password", Kind::Secret)];

static API: &[Key] = &[
    now("product", Kind::Text),
    now("url", Kind::Text),
    now("repository", Kind::Text),
    now("token", Kind::Secret),
    now("aws_access_key_id", Kind::Text),
    now("aws_secret_access_key", Kind::Secret),
    now("aws_session_token", Kind::Secret),
];

static REGISTRIES: &[Key] = &[
    now("host", Kind::Text),
    now("username", Kind::Text),
    now("password", Kind::Secret),
    now("insecure", Kind::Flag),
    now("ca_certs", Kind::Texts),
    later("registry", "its name here is `host`: host[:port] of the registry"),
    later("repository", "credentials are for a whole registry: give its `host`"),
];

static BUILD: &[Key] = &[
    now("context", Kind::Text),
    now("dockerfile", Kind::Text),
    now("paths", Kind::Texts),
    now("ignore_paths", Kind::Texts),
    now("details", Kind::Text),
    now("target", Kind::Text),
    now("args", Kind::TextMap),
    now("args_file", Kind::Text),
    now("labels", Kind::TextMap),
    now("labels_file", Kind::Text),
    now("epoch", Kind::Text),
    now("reuse", Kind::Text),
    now("follow_bases", Kind::Flag),
    now("secrets", Kind::Shorts(BUILD_SECRET, "value")),
    now("ssh", Kind::Shorts(BUILD_SSH, "private_key")),
    now("platforms", Kind::Texts),
    now("contexts", Kind::TextMap),
    now("add_hosts", Kind::TextMap),
    now("network", Kind::Text),
    now("allow", Kind::Texts),
    now("shm_size", Kind::Text),
    now("ulimits", Kind::TextMap),
    now("no_cache", Kind::Flag),
    now("cache", Kind::Flag),
    now("compression", Kind::Short(BUILD_COMPRESSION, "type")),
    now("reproducible", Kind::Flag),
    now("content_times", Kind::Flag),
    later("build_args", "its name here is `source.build.args`"),
    later("target_name", "its name here is `source.build.target`"),
];

static BUILD_SECRET: &[Key] = &[now("value", Kind::Secret), now("file", Kind::Text), now("env", Kind::Text)];

static BUILD_SSH: &[Key] = &[
    now("private_key", Kind::Secret),
    now("private_key_passphrase", Kind::Secret),
    now("file", Kind::Text),
    now("env", Kind::Text),
];

static BUILD_COMPRESSION: &[Key] = &[now("type", Kind::Text), now("level", Kind::Text)];

static ENGINE: &[Key] = &[
    now("host", Kind::TextOrTexts),
    now("platforms", Kind::TextMap),
    now("tls", Kind::Block(ENGINE_TLS)),
    now("private_key", Kind::Secret),
    now("private_key_passphrase", Kind::Secret),
    now("known_hosts", Kind::Text),
];

static ENGINE_TLS: &[Key] = &[now("ca", Kind::Text), now("cert", Kind::Text), now("key", Kind::Secret)];

/// What `in` reads besides `source` and `version`.
pub static GET_PARAMS: &[Key] = &[
    now("format", Kind::Text),
    now("skip_download", Kind::Flag),
    now("source", Kind::Flag),
    now("platform", Kind::Block(PLATFORM)),
];

/// What `out` reads besides `source`.
pub static PUT_PARAMS: &[Key] = &[
    now("source", Kind::Text),
    now("tags", Kind::Texts),
    now("additional_tags", Kind::Text),
    now("rebuild", Kind::Flag),
    now("labels", Kind::TextMap),
    now("version", Kind::Text),
    now("bump_aliases", Kind::Flag),
    now("context", Kind::Text),
    now("contexts", Kind::TextMap),
    now("args", Kind::TextMap),
    now("args_file", Kind::Text),
    now("image", Kind::Text),
    later("tag_prefix", "say it in `source.registry.tag_prefix`"),
    now("test", Kind::Text),
    later("skip_download", "it belongs to the get after the put: write it in `get_params`, or use `no_get: true`"),
    later("build", "its name here is `source.build.context`, and the checkout is `params.source`"),
    later("dockerfile", IN_BUILD),
    later("build_args", IN_BUILD),
    later("target_name", IN_BUILD),
    later("additional_targets", LATER),
];

/// Holds a block against its table, and takes out what is `null`: YAML's empty value means that nothing was given.
///
/// # Errors
///
/// The first key or value, in the order of the alphabet, that the table does not allow.
pub fn check(block: &mut Map<String, Value>, keys: &'static [Key], path: &str) -> Result<(), ShapeError> {
    block.retain(|_, value| !value.is_null());
    for (name, value) in block.iter_mut() {
        let at = join(path, name);
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            return Err(unknown(name, keys, path));
        };
        match key.takes {
            Takes::Later(instead) => return Err(ShapeError::NotYet { key: at, instead }),
            Takes::Now(kind) => check_value(value, kind, &at)?,
        }
    }
    Ok(())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn check_value(value: &mut Value, kind: Kind, at: &str) -> Result<(), ShapeError> {
    match (kind, value) {
        (Kind::Text | Kind::Secret | Kind::TextOrTexts, Value::String(_)) | (Kind::Flag, Value::Bool(_)) => Ok(()),
        (Kind::Port, Value::Number(number)) if number.as_u64().is_some_and(is_port) => Ok(()),
        (Kind::Port, Value::String(text)) if text.parse().is_ok_and(is_port) => Ok(()),
        (Kind::Count, Value::Number(number)) if number.as_u64().is_some_and(|number| number > 0) => Ok(()),
        (Kind::Texts | Kind::TextOrTexts, Value::Array(items)) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, item)| check_value(item, Kind::Text, &format!("{at}[{index}]"))),
        (Kind::TextMap, Value::Object(map)) => {
            map.retain(|_, value| !value.is_null());
            map.iter_mut().try_for_each(|(name, value)| check_value(value, Kind::Text, &join(at, name)))
        }
        (Kind::Block(keys), Value::Object(map)) => check(map, keys, at),
        (Kind::Short(keys, key), value @ (Value::String(_) | Value::Object(_))) => check_short(value, keys, key, at),
        (Kind::Shorts(keys, key), Value::Object(map)) => {
            map.retain(|_, value| !value.is_null());
            map.iter_mut().try_for_each(|(name, value)| check_value(value, Kind::Short(keys, key), &join(at, name)))
        }
        (Kind::Blocks(keys), Value::Array(items)) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, item)| check_value(item, Kind::Block(keys), &format!("{at}[{index}]"))),
        (_, value) => Err(wrong_type(at.to_owned(), kind, value)),
    }
}

/// Writes the short form out, so that nothing after this meets it.
fn check_short(value: &mut Value, keys: &'static [Key], key: &str, at: &str) -> Result<(), ShapeError> {
    if let Value::String(_) = value {
        *value = Value::Object(Map::from_iter([(key.to_owned(), value.take())]));
    }
    match value {
        Value::Object(map) => check(map, keys, at),
        _ => Ok(()),
    }
}

fn is_port(number: u64) -> bool {
    (1..=u64::from(u16::MAX)).contains(&number)
}

/// The error of a value that is not of this type.
pub fn wrong_type(key: String, kind: Kind, value: &Value) -> ShapeError {
    let is_plain = matches!(value, Value::Number(_) | Value::Bool(_));
    let advice = match kind {
        Kind::Text | Kind::Secret if is_plain => Advice::Quote,
        Kind::Text | Kind::Secret => Advice::Text,
        Kind::Flag => Advice::Flag,
        Kind::Count => Advice::Count,
        Kind::Port => Advice::Port,
        Kind::Texts => Advice::Texts,
        Kind::TextOrTexts => Advice::TextOrTexts,
        Kind::TextMap => Advice::TextMap,
        Kind::Blocks(keys) => Advice::Blocks { keys: usable_names(keys).collect() },
        Kind::Block(keys) => Advice::Block { keys: usable_names(keys).collect() },
        Kind::Short(..) if is_plain => Advice::Quote,
        Kind::Short(keys, _) => Advice::Block { keys: usable_names(keys).collect() },
        Kind::Shorts(..) => Advice::TextMap,
    };
    // A text in the place of a block may be an address with a password, or a whole key.
    let show = match kind {
        Kind::Text | Kind::Flag | Kind::Count | Kind::Port | Kind::Texts | Kind::TextOrTexts => true,
        Kind::Secret | Kind::TextMap | Kind::Blocks(_) | Kind::Block(_) | Kind::Short(..) | Kind::Shorts(..) => false,
    };
    ShapeError::WrongType { key, wanted: wanted(kind), found: found(value, show), advice }
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Secret => "a text",
        Kind::Flag => "true or false",
        Kind::Count => "a whole number, 1 or more",
        Kind::Port => "a port, 1 to 65535",
        Kind::Texts => "a list of texts",
        Kind::TextOrTexts => "a text or a list of texts",
        Kind::TextMap => "a block of texts",
        Kind::Blocks(_) => "a list of blocks",
        Kind::Block(_) => "a block",
        Kind::Short(..) => "a text or a block",
        Kind::Shorts(..) => "texts or blocks by name",
    }
}

fn found(value: &Value, show: bool) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(value) if show => format!("the boolean {value}"),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(value) if show => format!("the number {value}"),
        Value::Number(_) => "a number".to_owned(),
        Value::String(value) if show && value.len() <= SHOWN_LENGTH => format!("the text {value:?}"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a block".to_owned(),
    }
}

fn unknown(name: &str, keys: &'static [Key], path: &str) -> ShapeError {
    // Users of the git and registry-image resources write their keys without a block.
    let inside = keys.iter().find_map(|key| match key.takes {
        Takes::Now(Kind::Block(block)) if usable_names(block).any(|inner| inner == name) => Some(join(key.name, name)),
        _ => None,
    });
    let near = || {
        let distance = |known: &&str| strsim::damerau_levenshtein(known, name);
        usable_names(keys).min_by_key(distance).filter(|known| distance(known) <= 1 + name.len() / 4).map(str::to_owned)
    };
    ShapeError::UnknownKey {
        key: join(path, name),
        nearest: inside.or_else(near).map(|known| join(path, &known)),
        known: usable_names(keys).collect(),
    }
}

fn usable_names(keys: &'static [Key]) -> impl Iterator<Item = &'static str> {
    usable(keys).map(|(name, _)| name)
}

/// The names of the keys that can be used, for the test that holds tables and documentation together.
pub fn usable(keys: &'static [Key]) -> impl Iterator<Item = (&'static str, Kind)> {
    keys.iter().filter_map(|key| match key.takes {
        Takes::Now(kind) => Some((key.name, kind)),
        Takes::Later(_) => None,
    })
}
