//! Makes the checked types of [`super`] out of JSON that was held against the tables of [`super::shape`].

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;

use serde_json::{Map, Value};

use super::shape::{self, Key, Kind, ShapeError};
use super::{
    Aliases, Announce, BuildSource, CheckRequest, CiSkip, ClientCert, CommitFilter, Credentials, Download, EngineHost,
    EngineSource, EngineSsh, EngineTls, Follow, GetParams, GetRequest, GetSource, GitConfig, GitSource, HttpsTunnel,
    Mirror, Patterns, PutParams, PutRequest, Rebuild, RegistrySource, RegistryTransport, RepositorySetting, Request,
    RequestError, Reuse, Source, SshHost, SubmoduleCredentials, Verify,
};
use super::{options, product, reap, registries};
use crate::concourse::Version;
use crate::decide::inputs::has_build_variable;
use crate::decide::tags::check_prefix;
use crate::names::{BadName, GitPath, GitScheme, GitUrl, ImagePlatform, RegistryHost, Repository, Secret, Span, Tag};

impl Request for CheckRequest {
    fn parse(text: &[u8]) -> Result<Self, RequestError> {
        let mut request = Body::parse(text)?;
        Ok(Self { source: request.source()?, version: request.version()? })
    }

    fn secrets(&self) -> Vec<&Secret> {
        self.source.secrets()
    }
}

impl Request for GetRequest {
    fn parse(text: &[u8]) -> Result<Self, RequestError> {
        let mut request = Body::parse(text)?;
        let source = request.source()?;
        let version = request.version()?.ok_or(ShapeError::Missing {
            key: "version".to_owned(),
            example: "{\"ref\": \"<40 hex>\", \"inputs\": \"<64 hex>\"}, as check answers it",
        })?;
        Ok(Self { source, version, params: get_params(&request.block("params", shape::GET_PARAMS)?)? })
    }

    fn secrets(&self) -> Vec<&Secret> {
        self.source.secrets()
    }
}

impl Request for PutRequest {
    fn parse(text: &[u8]) -> Result<Self, RequestError> {
        let mut request = Body::parse(text)?;
        let source = request.source()?;
        let params = put_params(&request.block("params", shape::PUT_PARAMS)?, &source)?;
        Ok(Self { source, params })
    }

    fn secrets(&self) -> Vec<&Secret> {
        self.source.secrets()
    }
}

impl Source {
    /// Reads the block `source` of a resource, as the command line takes it: a JSON object.
    ///
    /// # Errors
    ///
    /// As for [`Request::parse`].
    pub fn parse(text: &[u8]) -> Result<Self, RequestError> {
        Self::from_value(serde_json::from_slice(text).map_err(|error| RequestError::NotJson(Some(error)))?)
    }

    /// The same, of a value that was read already.
    ///
    /// # Errors
    ///
    /// As for [`Request::parse`].
    pub fn from_value(source: Value) -> Result<Self, RequestError> {
        Body(Map::from_iter([("source".to_owned(), source)])).source()
    }

    /// Every login for a registry, by its host: at most one for each.
    pub fn logins(&self) -> Vec<(String, Credentials)> {
        let own = (self.registry.repository.host(), self.registry.credentials.clone());
        let mirror = self.registry.mirror.iter().map(|mirror| (mirror.host.clone(), mirror.credentials.clone()));
        let further = self.registries.iter().map(|one| (one.host.clone(), one.credentials.clone()));
        let all = std::iter::once(own).chain(mirror).chain(further);
        let given = all.filter_map(|(host, credentials)| Some((host.to_string(), credentials?)));
        let mut logins: Vec<(String, Credentials)> = Vec::new();
        for login in given {
            if !logins.contains(&login) {
                logins.push(login);
            }
        }
        logins
    }

    /// Every secret in it.
    pub fn secrets(&self) -> Vec<&Secret> {
        let passwords = [&self.git.credentials, &self.registry.credentials];
        let passwords = passwords.into_iter().flatten().map(|credentials| &credentials.password);
        let keys = [&self.git.private_key, &self.git.private_key_passphrase].into_iter().flatten();
        let engine = self.engine.tls.iter().filter_map(|tls| Some(&tls.client.as_ref()?.1));
        passwords
            .chain(self.registries.iter().filter_map(|one| one.credentials.as_ref().map(|login| &login.password)))
            .chain(self.git.https_tunnel.iter().filter_map(|proxy| Some(&proxy.credentials.as_ref()?.password)))
            .chain(self.registry.mirror.iter().filter_map(|mirror| Some(&mirror.credentials.as_ref()?.password)))
            .chain(self.registry.api.secrets())
            .chain(self.registry.client_certs.iter().map(|certificate| &certificate.key))
            .chain(keys)
            .chain(engine)
            .chain([&self.engine.ssh.private_key, &self.engine.ssh.passphrase].into_iter().flatten())
            .chain(self.build.options.secrets())
            .chain(
                self.git
                    .submodule_credentials
                    .iter()
                    .flat_map(|one| match one {
                        SubmoduleCredentials::Http { credentials, .. } => [Some(&credentials.password), None],
                        SubmoduleCredentials::Ssh { private_key, private_key_passphrase, .. } => {
                            [Some(private_key), private_key_passphrase.as_ref()]
                        }
                    })
                    .flatten(),
            )
            .chain(self.git.git_config.iter().filter(|one| one.may_be_secret()).map(|one| &one.value))
            .collect()
    }
}

impl GitConfig {
    /// Whether the value may be a token: most settings are words such as `true`, which no log could do without.
    pub(crate) fn may_be_secret(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        ["header", "password", "token", "cookie", "credential"].iter().any(|part| name.contains(part))
    }
}

/// The whole request, block by block.
struct Body(Map<String, Value>);

impl Body {
    fn parse(text: &[u8]) -> Result<Self, RequestError> {
        match serde_json::from_slice(text) {
            Ok(Value::Object(request)) => Ok(Self(request)),
            Ok(_) => Err(RequestError::NotJson(None)),
            Err(error) => Err(RequestError::NotJson(Some(error))),
        }
    }

    /// A block of the request, held against its table; an absent one is empty.
    fn block(&mut self, name: &str, keys: &'static [Key]) -> Result<Block, RequestError> {
        let value = match self.0.remove(name) {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(value) => value,
        };
        let Value::Object(mut map) = value else {
            return Err(shape::wrong_type(name.to_owned(), Kind::Block(keys), &value).into());
        };
        shape::check(&mut map, keys, name)?;
        Ok(Block { path: name.to_owned(), map })
    }

    fn source(&mut self) -> Result<Source, RequestError> {
        let source = self.block("source", shape::SOURCE)?;
        let git = git(&source.required_block("git", "git: {uri: https://git.example.com/acme/app.git}")?)?;
        let build = build(&source.block("build"))?;
        if build.reuse == Reuse::Branch && git.branch.is_none() {
            return Err(RequestError::Contradiction {
                what: "`source.build.reuse: branch` is given without `source.git.branch`".to_owned(),
                hint: "name the branch: its name becomes part of what the image is made of".to_owned(),
            });
        }
        let mut registry =
            registry(&source.required_block("registry", "registry: {repository: registry.example.com/acme/app-ci}")?)?;
        let registries = registries::read(&source, &mut registry)?;
        Ok(Source {
            git,
            registry,
            registries,
            build,
            engine: engine(&source.block("engine"))?,
            release_branches: source.texts("release_branches").unwrap_or_default(),
            reap: reap::read(&source.block("reap"))?,
            max_unpacked_bytes: max_unpacked_bytes(&source.block("registry"))?,
            announce: if source.flag("only_built") { Announce::OnlyBuilt } else { Announce::All },
        })
    }

    fn version(&mut self) -> Result<Option<Version>, RequestError> {
        let version = self.block("version", shape::VERSION)?;
        if version.map.is_empty() {
            return Ok(None);
        }
        let missing = |name| ShapeError::Missing { key: version.key(name), example: "a version as check answers it" };
        Ok(Some(Version {
            commit: version.parsed("ref")?.ok_or_else(|| missing("ref"))?,
            inputs: version.parsed("inputs")?.ok_or_else(|| missing("inputs"))?,
            bases: version.parsed("bases")?,
        }))
    }
}

/// A block whose keys and types are right.
pub(super) struct Block {
    pub(super) path: String,
    pub(super) map: Map<String, Value>,
}

impl Block {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.map.get(name)?.as_str().map(str::to_owned)
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    pub(super) fn required_text(&self, name: &str, example: &'static str) -> Result<String, RequestError> {
        self.text(name).ok_or_else(|| ShapeError::Missing { key: self.key(name), example }.into())
    }

    pub(super) fn parsed<T: FromStr<Err = BadName>>(&self, name: &str) -> Result<Option<T>, RequestError> {
        self.text(name).map(|text| text.parse().map_err(|source| self.refuse(name, source))).transpose()
    }

    pub(super) fn refuse(&self, name: &str, source: BadName) -> RequestError {
        RequestError::Value { key: self.key(name), source }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.map.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(super) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let items = self.map.get(name)?.as_array()?;
        Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    pub(super) fn text_map(&self, name: &str) -> BTreeMap<String, String> {
        let Some(map) = self.map.get(name).and_then(Value::as_object) else { return BTreeMap::new() };
        map.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// An inner block; an absent one is empty.
    pub(super) fn block(&self, name: &str) -> Block {
        let map = self.map.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        Block { path: self.key(name), map }
    }

    /// The blocks of a list; an absent one is empty.
    pub(super) fn blocks(&self, name: &str) -> Vec<Block> {
        let items = self.map.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        let block = |(index, item): (usize, &Value)| Block {
            path: format!("{}[{index}]", self.key(name)),
            map: item.as_object().cloned().unwrap_or_default(),
        };
        items.map(block).collect()
    }

    /// The blocks in a block, by their names.
    pub(super) fn entries(&self, name: &str) -> Vec<(String, Block)> {
        let entry = |(entry, value): (&String, &Value)| {
            let path = format!("{}.{entry}", self.key(name));
            (entry.clone(), Block { path, map: value.as_object().cloned().unwrap_or_default() })
        };
        self.map.get(name).and_then(Value::as_object).into_iter().flatten().map(entry).collect()
    }

    fn required_block(&self, name: &str, example: &'static str) -> Result<Block, RequestError> {
        if !self.map.contains_key(name) {
            return Err(ShapeError::Missing { key: self.key(name), example }.into());
        }
        Ok(self.block(name))
    }

    pub(super) fn credentials(&self) -> Result<Option<Credentials>, RequestError> {
        self.login("username", "password")
    }

    /// A user and its password, by the names of the two keys.
    fn login(&self, user: &str, password_key: &str) -> Result<Option<Credentials>, RequestError> {
        match (self.text(user), self.secret(password_key)) {
            (None, None) => Ok(None),
            // What a credential manager gives for "none" is an empty text.
            (Some(username), None | Some(_)) if username.is_empty() => Ok(None),
            (Some(username), Some(password)) => Ok(Some(Credentials { username, password })),
            (Some(_), None) => Err(self.half(user, password_key)),
            (None, Some(_)) => Err(self.half(password_key, user)),
        }
    }

    fn half(&self, given: &str, missing: &str) -> RequestError {
        RequestError::Contradiction {
            what: format!("`{}` is given without `{}`", self.key(given), self.key(missing)),
            hint: "give both, or neither".to_owned(),
        }
    }
}

fn git(block: &Block) -> Result<GitSource, RequestError> {
    let uri = block.required_text("uri", "uri: https://git.example.com/acme/app.git")?;
    let (uri, password) = GitUrl::parse(&uri).map_err(|source| block.refuse("uri", source))?;
    let ssh = uri.scheme() == GitScheme::Ssh;
    for (name, only_for_ssh) in [
        ("username", false),
        ("password", false),
        ("private_key", true),
        ("private_key_user", true),
        ("private_key_passphrase", true),
    ] {
        if block.map.contains_key(name) && ssh != only_for_ssh {
            return Err(RequestError::Contradiction {
                what: format!(
                    "`{}` does not go with `{}`, which is {}",
                    block.key(name),
                    block.key("uri"),
                    if ssh { "ssh" } else { "http(s)" }
                ),
                hint: if ssh {
                    "give `source.git.private_key` for ssh, or an https address".to_owned()
                } else {
                    "give `source.git.username` and `source.git.password` for https, or an ssh address".to_owned()
                },
            });
        }
    }
    if block.map.contains_key("private_key_passphrase") && !block.map.contains_key("private_key") {
        return Err(block.half("private_key_passphrase", "private_key"));
    }
    let in_uri = match (ssh, uri.user(), password) {
        (true, _, Some(_)) => {
            return Err(RequestError::Contradiction {
                what: format!("`{}` has a password, which ssh does not take from there", block.key("uri")),
                hint: "take the password out of the address, and give `source.git.private_key`".to_owned(),
            });
        }
        (false, Some(user), Some(password)) => Some(Credentials { username: user.to_owned(), password }),
        // A token alone, as hosting services allow it: `https://TOKEN@host/…`.
        (false, Some(token), None) if !token.is_empty() => {
            Some(Credentials { username: String::new(), password: Secret::new(token) })
        }
        _ => None,
    };
    let credentials = match (block.credentials()?, in_uri) {
        (Some(_), Some(_)) => {
            return Err(RequestError::Contradiction {
                what: format!("`{}` holds a user, and `{}` another one", block.key("uri"), block.key("username")),
                hint: "take the user out of the address".to_owned(),
            });
        }
        (given, in_uri) => given.or(in_uri),
    };
    let git_config = block.blocks("git_config").into_iter().map(|item| {
        Ok(GitConfig {
            name: item.required_text("name", "name: http.version")?,
            value: Secret::new(item.required_text("value", "value: HTTP/1.1")?),
        })
    });
    Ok(GitSource {
        branch: block.parsed("branch")?,
        credentials,
        private_key: block.secret("private_key"),
        private_key_user: block.text("private_key_user"),
        private_key_passphrase: block.secret("private_key_passphrase"),
        known_hosts: block.text("known_hosts"),
        verify: if block.flag("skip_ssl_verification") { Verify::Nothing } else { Verify::Certificates },
        ca_certs: block.texts("ca_certs").unwrap_or_default(),
        https_tunnel: https_tunnel(&block.block("https_tunnel"))?,
        git_config: git_config.collect::<Result<_, RequestError>>()?,
        submodule_credentials: block
            .blocks("submodule_credentials")
            .iter()
            .map(submodule_credentials)
            .collect::<Result<_, RequestError>>()?,
        ci_skip: if block.flag("disable_ci_skip") { CiSkip::Ignore } else { CiSkip::Honour },
        commit_filter: commit_filter(&block.block("commit_filter"))?,
        version_depth: version_depth(block),
        uri,
    })
}

fn commit_filter(block: &Block) -> Result<CommitFilter, RequestError> {
    let patterns = |key: &str, all_match: &str| {
        let any_or_all = block.texts(key).unwrap_or_default();
        if let Some(text) = any_or_all.iter().find(|text| text.is_empty() || text.contains('\0')) {
            let why = "matches every message or none".to_owned();
            return Err(block.refuse(key, BadName { what: "pattern", text: text.clone(), why }));
        }
        Ok(Patterns { any_or_all, all_match: block.flag(all_match) })
    };
    Ok(CommitFilter {
        include: patterns("include", "include_all_match")?,
        exclude: patterns("exclude", "exclude_all_match")?,
    })
}

fn https_tunnel(block: &Block) -> Result<Option<HttpsTunnel>, RequestError> {
    if block.map.is_empty() {
        return Ok(None);
    }
    let host = block.required_text("proxy_host", "proxy_host: proxy.example.com")?;
    if host.contains(['/', '@', '\r', '\n', ' ']) {
        let shown = host.rsplit('@').next().unwrap_or_default().to_owned();
        let why = "is not a host alone; the port is `proxy_port`".to_owned();
        return Err(block.refuse("proxy_host", BadName { what: "host", text: shown, why }));
    }
    let port = match block.map.get("proxy_port") {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64().and_then(|port| u16::try_from(port).ok()),
        None => None,
    };
    let port = port.ok_or_else(|| ShapeError::Missing { key: block.key("proxy_port"), example: "proxy_port: 8080" })?;
    Ok(Some(HttpsTunnel { host, port, credentials: block.login("proxy_user", "proxy_password")? }))
}

fn submodule_credentials(block: &Block) -> Result<SubmoduleCredentials, RequestError> {
    let refuse = |what: String| {
        Err(RequestError::Contradiction {
            what,
            hint:
                "give host, username and password for http(s); or url, private_key and private_key_passphrase for ssh"
                    .to_owned(),
        })
    };
    match (block.text("host"), block.text("url")) {
        (Some(host), None) => {
            if let Some(name) =
                ["private_key", "private_key_passphrase"].into_iter().find(|name| block.map.contains_key(*name))
            {
                return refuse(format!("`{}` does not go with `{}`", block.key(name), block.key("host")));
            }
            match block.credentials()? {
                Some(credentials) => Ok(SubmoduleCredentials::Http { host, credentials }),
                None => refuse(format!("`{}` is given without `{}`", block.key("host"), block.key("username"))),
            }
        }
        (None, Some(url)) => {
            if let Some(name) = ["username", "password"].into_iter().find(|name| block.map.contains_key(*name)) {
                return refuse(format!("`{}` does not go with `{}`", block.key(name), block.key("url")));
            }
            match block.secret("private_key") {
                Some(private_key) => Ok(SubmoduleCredentials::Ssh {
                    url,
                    private_key,
                    private_key_passphrase: block.secret("private_key_passphrase"),
                }),
                None => refuse(format!("`{}` is given without `{}`", block.key("url"), block.key("private_key"))),
            }
        }
        (Some(_), Some(_)) => refuse(format!("`{}` and `{}` are both given", block.key("host"), block.key("url"))),
        (None, None) => refuse(format!("`{}` has neither `host` nor `url`", block.path)),
    }
}

fn version_depth(block: &Block) -> NonZeroUsize {
    let depth = block.map.get("version_depth").and_then(Value::as_u64).and_then(|depth| usize::try_from(depth).ok());
    depth.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

/// No image that people use is nearly as large: 100 GiB.
const MAX_UNPACKED_BYTES: u64 = 100 << 30;

fn registry(block: &Block) -> Result<RegistrySource, RequestError> {
    let repository = block.required_text("repository", "repository: registry.example.com/acme/app-ci")?;
    let refuse = |source| block.refuse("repository", source);
    let repository = match repository.strip_suffix('/') {
        Some(beginning) => {
            // Whatever NAME will be, the beginning must do.
            format!("{beginning}/name").parse::<Repository>().map_err(refuse)?;
            RepositorySetting::Beginning(beginning.to_owned())
        }
        None => RepositorySetting::Whole(repository.parse().map_err(refuse)?),
    };
    let tag_prefix = block.text("tag_prefix").unwrap_or_default();
    check_prefix(&tag_prefix).map_err(|source| block.refuse("tag_prefix", source))?;
    let client_certs = client_certs(block, &repository.host())?;
    let mirror = block.block("registry_mirror");
    let mirror = if mirror.map.is_empty() {
        None
    } else {
        let host = mirror.required_text("host", "host: mirror.example.com")?;
        let host = host.parse().map_err(|source| mirror.refuse("host", source))?;
        Some(Mirror { host, credentials: mirror.credentials()? })
    };
    Ok(RegistrySource {
        client_certs,
        mirror,
        api: product::read(&block.block("api"))?,
        platform: platform(block),
        variant: variant(block)?,
        repository,
        tag_prefix,
        credentials: block.credentials()?,
        transport: if block.flag("insecure") { RegistryTransport::Http } else { RegistryTransport::Https },
        ca_certs: block.texts("ca_certs").unwrap_or_default(),
        download_timeout: download_timeout(block)?,
    })
}

fn download_timeout(block: &Block) -> Result<Span, RequestError> {
    let Some(timeout) = block.parsed::<Span>("download_timeout")? else { return Ok(RegistrySource::DOWNLOAD_TIMEOUT) };
    if timeout.duration().is_zero() {
        let text = block.text("download_timeout").unwrap_or_default();
        let why = "leaves no time for anything".to_owned();
        return Err(block.refuse("download_timeout", BadName { what: "duration", text, why }));
    }
    Ok(timeout)
}

/// `0` is no limit.
fn max_unpacked_bytes(block: &Block) -> Result<Option<NonZeroU64>, RequestError> {
    let Some(text) = block.text("max_unpacked_size") else { return Ok(NonZeroU64::new(MAX_UNPACKED_BYTES)) };
    if text.trim() == "0" {
        return Ok(None);
    }
    let bytes = options::bytes(&text).and_then(NonZeroU64::new).ok_or_else(|| {
        let why = "is no size: a number of bytes, or one with k, m or g behind it, or 0 for no limit".to_owned();
        block.refuse("max_unpacked_size", BadName { what: "size", text, why })
    })?;
    Ok(Some(bytes))
}

/// What is left out is as in linux/amd64.
fn platform(block: &Block) -> Option<ImagePlatform> {
    let block = block.block("platform");
    let default = ImagePlatform::default();
    (!block.map.is_empty()).then(|| ImagePlatform {
        os: block.text("os").unwrap_or(default.os),
        architecture: block.text("architecture").unwrap_or(default.architecture),
        variant: block.text("variant"),
    })
}

fn variant(block: &Block) -> Result<Option<String>, RequestError> {
    let Some(variant) = block.text("variant").filter(|variant| !variant.is_empty()) else { return Ok(None) };
    // It is a tag by itself: the alias of the newest release.
    let tag: Tag = variant.parse().map_err(|error: BadName| {
        let error = BadName { what: "variant", ..error };
        block.refuse("variant", error)
    })?;
    Ok(Some(tag.to_string()))
}

fn client_certs(block: &Block, own: &RegistryHost) -> Result<Vec<ClientCert>, RequestError> {
    let mut all: Vec<ClientCert> = Vec::new();
    for (entry, position) in block.blocks("client_certs").iter().zip(1..) {
        let certificate = ClientCert {
            host: entry.parsed("domain")?.unwrap_or_else(|| own.clone()),
            position,
            cert: entry.required_text("cert", "cert: ((registry.client_certificate))")?,
            key: Secret::new(entry.required_text("key", "key: ((registry.client_key))")?),
        };
        if let Some(other) = all.iter().find(|other| other.host == certificate.host) {
            return Err(RequestError::Contradiction {
                what: format!(
                    "`{}` is a second certificate for {}, after `{}[{}]`",
                    entry.path,
                    certificate.host,
                    block.key("client_certs"),
                    other.position - 1
                ),
                hint: "give one for each registry; `domain` says for which it is".to_owned(),
            });
        }
        all.push(certificate);
    }
    Ok(all)
}

fn build(block: &Block) -> Result<BuildSource, RequestError> {
    let dockerfile: Option<GitPath> = block.parsed("dockerfile")?;
    if dockerfile.as_ref().is_some_and(|path| path.as_bytes().is_empty()) {
        let why = "names no file".to_owned();
        let text = block.text("dockerfile").unwrap_or_default();
        return Err(block.refuse("dockerfile", BadName { what: "path", text, why }));
    }
    for name in ["args", "labels"] {
        refuse_build_variables(block, name)?;
    }
    Ok(BuildSource {
        context: block.parsed("context")?.unwrap_or_else(|| GitPath::new("")),
        dockerfile,
        paths: block.texts("paths"),
        ignore_paths: block.texts("ignore_paths").unwrap_or_default(),
        details: block.parsed("details")?,
        target: block.text("target").filter(|target| !target.is_empty()),
        args: block.text_map("args"),
        args_file: block.parsed("args_file")?,
        labels: block.text_map("labels"),
        labels_file: block.parsed("labels_file")?,
        epoch: block.text("epoch"),
        reuse: reuse(block)?,
        follow: if block.flag("follow_bases") { Follow::GitAndBases } else { Follow::Git },
        options: options::read(block)?,
    })
}

fn reuse(block: &Block) -> Result<Reuse, RequestError> {
    match block.text("reuse").as_deref() {
        None | Some("repository") => Ok(Reuse::Repository),
        Some("branch") => Ok(Reuse::Branch),
        Some(other) => {
            let why = "is neither `repository` nor `branch`".to_owned();
            Err(block.refuse("reuse", BadName { what: "setting", text: other.to_owned(), why }))
        }
    }
}

/// A build number in what the image is made of would make every put another image; check would not even know it.
fn refuse_build_variables(block: &Block, name: &str) -> Result<(), RequestError> {
    for (variable, text) in block.text_map(name) {
        if has_build_variable(&text) {
            return Err(RequestError::Contradiction {
                what: format!(
                    "`{}.{variable}` has a `$BUILD_…` variable: every build would make another image",
                    block.key(name)
                ),
                hint: "say which build it was in `params.labels` or `params.tags` of the put".to_owned(),
            });
        }
    }
    Ok(())
}

fn engine(block: &Block) -> Result<EngineSource, RequestError> {
    let hosts = match block.map.get("host") {
        Some(Value::Array(_)) => {
            let texts = block.texts("host").unwrap_or_default();
            let host = |(index, text): (usize, &String)| engine_host(&format!("{}[{index}]", block.key("host")), text);
            texts.iter().enumerate().map(host).collect::<Result<Vec<_>, _>>()?
        }
        _ => block.text("host").map(|host| engine_host(&block.key("host"), &host)).transpose()?.into_iter().collect(),
    };
    let tls = block.map.contains_key("tls").then(|| block.block("tls")).map(|tls| {
        let client = match (tls.text("cert"), tls.secret("key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(tls.half("cert", "key")),
            (None, Some(_)) => return Err(tls.half("key", "cert")),
        };
        Ok(EngineTls { ca: tls.text("ca"), client })
    });
    let tls = tls.transpose()?;
    let platform = |(platform, text): (String, String)| {
        let host = engine_host(&format!("{}.{platform}", block.key("platforms")), &text)?;
        Ok::<_, RequestError>((platform, host))
    };
    let platforms = block.text_map("platforms").into_iter().map(platform).collect::<Result<BTreeMap<_, _>, _>>()?;
    let all = || hosts.iter().chain(platforms.values());
    if tls.is_some() && !all().any(|host| matches!(host, EngineHost::Tcp { .. })) {
        return Err(RequestError::Contradiction {
            what: format!("`{}` is given, and no `{}` is tcp://", block.key("tls"), block.key("host")),
            hint: "TLS is for engines at tcp://host:port; leave it out for a socket".to_owned(),
        });
    }
    let is_ssh = all().any(|host| matches!(host, EngineHost::Ssh(_)));
    for name in ["private_key", "private_key_passphrase", "known_hosts"] {
        if block.map.contains_key(name) && !is_ssh {
            return Err(RequestError::Contradiction {
                what: format!("`{}` is given, and no `{}` is ssh://", block.key(name), block.key("host")),
                hint: "keys are for engines at ssh://user@host; leave it out for others".to_owned(),
            });
        }
    }
    if block.map.contains_key("private_key_passphrase") && !block.map.contains_key("private_key") {
        return Err(block.half("private_key_passphrase", "private_key"));
    }
    let ssh = EngineSsh {
        private_key: block.secret("private_key"),
        passphrase: block.secret("private_key_passphrase"),
        known_hosts: block.text("known_hosts"),
    };
    Ok(EngineSource { hosts, platforms, tls, ssh })
}

fn engine_host(key: &str, text: &str) -> Result<EngineHost, RequestError> {
    let refuse = |why: &str| {
        Err(RequestError::Value {
            key: key.to_owned(),
            source: BadName { what: "address", text: text.to_owned(), why: why.to_owned() },
        })
    };
    if let Some(path) = text.strip_prefix("unix://") {
        return if path.starts_with('/') {
            Ok(EngineHost::Unix(path.into()))
        } else {
            refuse("has no absolute path behind unix://")
        };
    }
    if text.starts_with("ssh://") {
        return ssh_host(key, text).map(EngineHost::Ssh);
    }
    let Some(rest) = text.strip_prefix("tcp://") else {
        return refuse("is none of: unix:///path, tcp://host:port, ssh://user@host");
    };
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').unwrap_or((rest, ""));
    match port.parse() {
        Ok(port) if !host.is_empty() => Ok(EngineHost::Tcp { host: host.to_owned(), port }),
        _ => refuse("has no host and port behind tcp://"),
    }
}

fn ssh_host(key: &str, text: &str) -> Result<SshHost, RequestError> {
    let refuse = |why: &str| RequestError::Value {
        key: key.to_owned(),
        source: BadName { what: "address", text: text.to_owned(), why: why.to_owned() },
    };
    let url = url::Url::parse(text).map_err(|_| refuse("is not of the form ssh://user@host:port/path"))?;
    if url.password().is_some() {
        // It is not shown again.
        return Err(RequestError::Contradiction {
            what: format!("`{key}` has a password, which ssh does not take from there"),
            hint: "take the password out of the address, and give `source.engine.private_key`".to_owned(),
        });
    }
    let host = url.host_str().filter(|host| !host.is_empty() && !host.starts_with('-'));
    let host = host.ok_or_else(|| refuse("has no host behind ssh://"))?.trim_matches(['[', ']']).to_owned();
    let socket = match url.path() {
        "" | "/" => "/var/run/docker.sock",
        path => path,
    };
    let user = Some(url.username()).filter(|user| !user.is_empty()).map(str::to_owned);
    Ok(SshHost { user, host, port: url.port(), socket: socket.into() })
}

fn get_params(block: &Block) -> Result<GetParams, RequestError> {
    Ok(GetParams {
        format: block.parsed("format")?.unwrap_or_default(),
        download: if block.flag("skip_download") { Download::Skip } else { Download::Fetch },
        source: if block.flag("source") { GetSource::Checkout } else { GetSource::Leave },
        platform: platform(block),
    })
}

fn put_params(block: &Block, source: &Source) -> Result<PutParams, RequestError> {
    refuse_build_variables(block, "args")?;
    let params = PutParams {
        source: block.text("source"),
        image: block.text("image"),
        tags: block.texts("tags").unwrap_or_default(),
        additional_tags: block.text("additional_tags"),
        test: block.text("test").filter(|stage| !stage.is_empty()),
        rebuild: if block.flag("rebuild") { Rebuild::Yes } else { Rebuild::No },
        labels: block.text_map("labels"),
        version: block.parsed("version")?,
        aliases: if block.flag("bump_aliases") { Aliases::Bump } else { Aliases::Leave },
        context: block.text("context"),
        contexts: block.text_map("contexts"),
        args: block.text_map("args"),
        args_file: block.text("args_file"),
    };
    if params.image.is_some() {
        for (name, is_given) in [
            ("context", params.context.is_some()),
            ("contexts", !params.contexts.is_empty()),
            ("args", !params.args.is_empty()),
            ("args_file", params.args_file.is_some()),
            ("test", params.test.is_some()),
        ] {
            if is_given {
                return Err(RequestError::Contradiction {
                    what: format!(
                        "`{}` does not go with `{}`, which builds nothing",
                        block.key(name),
                        block.key("image")
                    ),
                    hint: "the task that makes the image builds and tests it".to_owned(),
                });
            }
        }
    }
    for (name, is_given) in [
        ("image", params.image.is_some()),
        ("context", params.context.is_some()),
        ("contexts", !params.contexts.is_empty()),
        ("args", !params.args.is_empty()),
        ("args_file", params.args_file.is_some()),
    ] {
        if is_given {
            beyond_git(&block.key(name), &params, source)?;
        }
    }
    if let Some((name, _)) =
        params.args.iter().find(|(name, value)| source.build.args.get(*name).is_some_and(|given| given != *value))
    {
        return Err(RequestError::Contradiction {
            what: format!("`{}.{name}` has another value than `source.build.args.{name}`", block.key("args")),
            hint: "give it in one of the two".to_owned(),
        });
    }
    if let Some(name) = params.contexts.keys().find(|name| source.build.options.contexts.contains_key(*name)) {
        return Err(RequestError::Contradiction {
            what: format!("`{}.{name}` is `source.build.contexts.{name}` too", block.key("contexts")),
            hint: "give it in one of the two".to_owned(),
        });
    }
    Ok(params)
}

/// What makes an image that git alone does not describe.
fn beyond_git(key: &str, params: &PutParams, source: &Source) -> Result<(), RequestError> {
    match (source.announce, &params.source) {
        (Announce::All, _) => Err(RequestError::Contradiction {
            what: format!(
                "`{key}` makes an image that git alone does not describe, whose version check cannot compute"
            ),
            hint:
                "let check announce what was put: write the line `only_built: true` into the `source` of the resource"
                    .to_owned(),
        }),
        (Announce::OnlyBuilt, None) => Err(RequestError::Contradiction {
            what: format!("`{key}` is given without `params.source`"),
            hint: "name the artifact with the checkout, whose commit becomes the `ref` of the version".to_owned(),
        }),
        (Announce::OnlyBuilt, Some(_)) => Ok(()),
    }
}
