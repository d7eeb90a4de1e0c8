//! For tests: a registry of each product, in memory. It answers OCI's API as far as the reaper asks, and the product's own as
//! its documentation says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::clients::registry::Registry;
use crate::clients::registry::liar::{Heard, Liar, reply};
use crate::names::{Digest, Secret};
use crate::request::{ApiSource, AwsKey, Credentials, Product, ProductSetting};
use crate::say::Say;

/// The name of the repository that it has.
pub(crate) const NAME: &str = "acme/app/ci";

/// What it holds, and how it answers.
pub(crate) struct State {
    pub(crate) product: Product,
    pub(crate) tags: BTreeMap<String, String>,
    manifests: BTreeMap<String, (String, String)>,
    blobs: BTreeMap<String, String>,
    /// When tags and images were pulled, in seconds after a time; it tells that a while later.
    pulled: BTreeMap<String, u32>,
    /// What it does not tell yet.
    untold: BTreeMap<String, u32>,
    pulls: u32,
    /// What Nexus finds: a tag that was pushed is not found at first.
    indexed: BTreeMap<String, u32>,
    /// The tasks of Nexus: type, name, how often it is still to be seen running, when it ran last, and with what result.
    pub(crate) tasks: Vec<SimulatedTask>,
    /// Answers that come in the place of the next ones of the API.
    pub(crate) odd: Vec<String>,
    host: String,
}

/// A task of Nexus.
pub(crate) struct SimulatedTask {
    pub(crate) kind: &'static str,
    pub(crate) name: &'static str,
    /// What its next run ends with.
    pub(crate) result: &'static str,
    /// How often it is still seen running.
    pub(crate) running: u32,
    /// How often it ran.
    pub(crate) ran: u32,
}

/// A registry of one product.
pub(crate) struct Simulated {
    pub(crate) liar: Liar,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Simulated {
    pub(crate) async fn start(product: Product) -> Self {
        let state = State {
            product,
            tags: BTreeMap::new(),
            manifests: BTreeMap::new(),
            blobs: BTreeMap::new(),
            pulled: BTreeMap::new(),
            untold: BTreeMap::new(),
            pulls: 0,
            indexed: BTreeMap::new(),
            tasks: Vec::new(),
            odd: Vec::new(),
            host: String::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let inside = Arc::clone(&state);
        let liar = Liar::start(move |heard| {
            let request = heard.last().expect("a request is to be answered");
            inside.lock().expect("no holder panics").answer(request)
        })
        .await;
        state.lock().expect("no holder panics").host.clone_from(&liar.host);
        Self { liar, state }
    }

    /// Its repository, asked by alice.
    pub(crate) fn registry(&self, say: &Say) -> Registry {
        self.registry_told(ApiSource::default(), say)
    }

    /// The same, where something is said of its API.
    pub(crate) fn registry_told(&self, mut api: ApiSource, say: &Say) -> Registry {
        let product = self.state.lock().expect("no holder panics").product;
        if api.product == ProductSetting::Recognised && !is_recognised(product) {
            api.product = ProductSetting::Is(product);
            api.url = Some(format!("http://{}/", self.liar.host).parse().expect("it is a URL"));
        }
        match product {
            Product::Gar if api.token.is_none() => api.token = Some(Secret::new("secret")),
            Product::Ecr if api.aws_key.is_none() => {
                let (id, secret) = ("AKIDEXAMPLE".to_owned(), Secret::new("hunter2"));
                api.aws_key = Some(AwsKey { id, secret, session_token: Some(Secret::new("for-a-while")) });
            }
            _ => {}
        }
        let credentials = Credentials { username: "alice".to_owned(), password: Secret::new("secret") };
        self.liar.registry_of(NAME, Some(credentials), api, say)
    }

    /// Puts an image with these labels at each of the tags.
    pub(crate) fn push(&self, labels: &Value, tags: &[&str]) -> Digest {
        let config = json!({"config": {"Labels": labels}}).to_string();
        let digest = Digest::of(config.as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest.to_string(),
                "size": config.len(),
            },
            "layers": [],
        })
        .to_string();
        let mut state = self.state.lock().expect("no holder panics");
        state.blobs.insert(digest.to_string(), config);
        for tag in tags {
            state.put(tag, "application/vnd.oci.image.manifest.v1+json", &manifest);
        }
        Digest::of(manifest.as_bytes())
    }

    /// Somebody pulls an image, by tag or digest.
    pub(crate) fn pull(&self, at: &str) {
        self.state.lock().expect("no holder panics").pull(at);
    }

    /// The tags that there are.
    pub(crate) fn tags(&self) -> Vec<String> {
        self.state.lock().expect("no holder panics").tags.keys().cloned().collect()
    }

    /// The next answers of the API.
    pub(crate) fn answers(&self, odd: impl IntoIterator<Item = String>) {
        self.state.lock().expect("no holder panics").odd.extend(odd);
    }
}

/// Whether a product is told by its answers, and not by its host.
fn is_recognised(product: Product) -> bool {
    match product {
        Product::Harbor | Product::GitLab | Product::Nexus => true,
        Product::DockerHub | Product::GitHub | Product::Ecr | Product::Acr | Product::Gar => false,
    }
}

fn unknown() -> String {
    reply(404, &["content-type: application/json"], r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#)
}

fn unsupported(status: u16) -> String {
    reply(status, &[], r#"{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}"#)
}

impl State {
    fn put(&mut self, tag: &str, media_type: &str, manifest: &str) {
        let digest = Digest::of(manifest.as_bytes()).to_string();
        self.manifests.insert(digest.clone(), (media_type.to_owned(), manifest.to_owned()));
        if !tag.contains(':') {
            self.tags.insert(tag.to_owned(), digest);
            self.indexed.insert(tag.to_owned(), 1);
        }
    }

    fn pull(&mut self, at: &str) {
        self.pulls += 1;
        let digest = self.tags.get(at).map_or(at, String::as_str).to_owned();
        self.untold.extend([(at.to_owned(), self.pulls), (digest, self.pulls)]);
    }

    /// When a tag or an image was pulled, or `never`.
    fn told_pull(&self, at: &str, never: Value) -> Value {
        self.pulled
            .get(at)
            .map_or(never, |second| json!(format!("2026-12-01T10:{:02}:{:02}Z", second / 60, second % 60)))
    }

    fn answer(&mut self, request: &Heard) -> String {
        let (method, target) = request.line.split_once(' ').expect("a line has a target");
        let path = target.split('?').next().expect("there is a first part").to_owned();
        let repository = format!("/v2/{NAME}/");
        match path.strip_prefix(&repository) {
            _ if path == "/v2/" => self.version(),
            Some(rest) => self.plain(method, rest, target, request),
            None if !self.odd.is_empty() => self.odd.remove(0),
            None => self.api(method, target, request),
        }
    }

    /// What `GET /v2/` says to whom has no credentials.
    fn version(&self) -> String {
        let challenge = match self.product {
            Product::Harbor => {
                format!(r#"Bearer realm="http://{}/service/token",service="harbor-registry""#, self.host)
            }
            Product::GitLab => format!(r#"Bearer realm="http://{}/jwt/auth",service="container_registry""#, self.host),
            Product::Nexus => r#"BASIC realm="Sonatype Nexus Repository Manager""#.to_owned(),
            Product::DockerHub | Product::GitHub | Product::Ecr | Product::Acr | Product::Gar => {
                r#"Basic realm="somewhere""#.to_owned()
            }
        };
        reply(401, &[&format!("www-authenticate: {challenge}")], "")
    }

    /// OCI's API.
    fn plain(&mut self, method: &str, rest: &str, target: &str, request: &Heard) -> String {
        match (method, rest.split_once('/').unwrap_or((rest, ""))) {
            ("GET", ("tags", "list")) => {
                let tags: Vec<&String> = self.tags.keys().collect();
                let mut list = json!({"name": NAME, "tags": tags});
                if self.product == Product::Gar {
                    let uploaded = |(digest, day): (&String, u32)| {
                        let time: jiff::Timestamp = pushed(day).parse().expect("it is a time");
                        (digest.clone(), json!({"mediaType": "", "timeUploadedMs": time.as_millisecond().to_string()}))
                    };
                    let manifest: serde_json::Map<String, Value> =
                        self.manifests.keys().zip(10..).map(uploaded).collect();
                    list["manifest"] = manifest.into();
                }
                reply(200, &[], &list.to_string())
            }
            ("GET" | "HEAD", ("manifests", at)) => {
                let digest = self.tags.get(at).map_or(at, String::as_str).to_owned();
                if method == "GET" {
                    self.pull(at);
                }
                let Some((media_type, manifest)) = self.manifests.get(&digest) else { return unknown() };
                let headers = [format!("content-type: {media_type}"), format!("docker-content-digest: {digest}")];
                let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
                let whole = reply(200, &headers, manifest);
                let head = whole.split_once("\r\n\r\n").map(|(head, _)| format!("{head}\r\n\r\n"));
                if method == "HEAD" { head.expect("an answer has a head") } else { whole }
            }
            ("PUT", ("manifests", at)) => {
                let media_type = request.header("content-type").unwrap_or_default().to_owned();
                self.put(at, &media_type, &request.body);
                reply(201, &[], "")
            }
            ("DELETE", ("manifests", at)) => self.delete_plain(at),
            ("HEAD" | "GET", ("blobs", digest)) => match self.blobs.get(digest) {
                Some(blob) if method == "GET" => reply(200, &[], blob),
                Some(_) => reply(200, &[], ""),
                None => reply(404, &[], ""),
            },
            ("POST", ("blobs", _)) => reply(202, &[&format!("location: /v2/{NAME}/blobs/uploads/1")], ""),
            ("PUT", ("blobs", _)) => {
                let digest = target.split_once("digest=").expect("a PUT says the digest").1.replace("%3A", ":");
                self.blobs.insert(digest, request.body.clone());
                reply(201, &[], "")
            }
            _ => reply(404, &[], ""),
        }
    }

    /// What the product makes of OCI's DELETE: facts/registry-deletion, the table.
    fn delete_plain(&mut self, at: &str) -> String {
        let by_tag = !at.contains(':');
        match self.product {
            Product::Harbor | Product::Acr if by_tag => unsupported(400),
            // A GitLab that is older than 16.4, or does not allow it.
            Product::GitLab | Product::DockerHub | Product::GitHub | Product::Ecr => unsupported(405),
            Product::Nexus if by_tag => unknown(),
            Product::Gar if by_tag => match self.tags.remove(at) {
                Some(_) => reply(202, &[], ""),
                None => unknown(),
            },
            Product::Gar if self.tags.values().any(|digest| digest == at) => {
                reply(400, &[], r#"{"errors":[{"code":"GOOGLE_MANIFEST_DANGLING_TAG","message":"tagged"}]}"#)
            }
            Product::Harbor | Product::Nexus | Product::Acr | Product::Gar => {
                if self.manifests.remove(at).is_none() {
                    return unknown();
                }
                // Nexus leaves the tags, which then point to nothing.
                if self.product != Product::Nexus {
                    self.tags.retain(|_, digest| digest != at);
                }
                reply(202, &[], "")
            }
        }
    }

    /// The API of the product.
    fn api(&mut self, method: &str, target: &str, request: &Heard) -> String {
        match self.product {
            Product::Harbor => self.harbor(method, target, request),
            Product::GitLab => self.gitlab(method, target, request),
            Product::Nexus => self.nexus(method, target, request),
            Product::DockerHub => self.docker_hub(method, target, request),
            Product::GitHub => self.github(method, target, request),
            Product::Ecr => self.ecr(method, target, request),
            Product::Acr => self.acr(method, target, request),
            Product::Gar => self.gar(method, target, request),
        }
    }

    fn untag(&mut self, tag: &str, good: u16) -> String {
        match self.tags.remove(tag) {
            Some(_) => reply(good, &[], ""),
            None => reply(404, &["content-type: application/json"], r#"{"message":"404 Tag Not Found"}"#),
        }
    }

    fn harbor(&mut self, method: &str, target: &str, request: &Heard) -> String {
        if request.authorization.as_deref() != Some(BASIC) {
            return reply(401, &[], r#"{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized"}]}"#);
        }
        let artifacts = "/api/v2.0/projects/acme/repositories/app%252Fci/artifacts/";
        if target.starts_with(artifacts.trim_end_matches('/')) && method == "GET" {
            let never = || json!("0001-01-01T00:00:00.000Z");
            // The first page is full.
            if target.ends_with("?page=1&page_size=100") {
                let others = (0..100).map(|number: u8| Digest::of(&[number]).to_string());
                let others = others.map(
                    |digest| json!({"digest": digest, "push_time": pushed(9), "pull_time": never(), "tags": null}),
                );
                return reply(200, &[], &json!(others.collect::<Vec<Value>>()).to_string());
            }
            let shown = self.manifests.keys().zip(10..).map(|(digest, day)| {
                let tags = self.tags.iter().filter(|(_, at)| *at == digest);
                let tags = tags.map(|(tag, _)| json!({"name": tag, "pull_time": self.told_pull(tag, never())}));
                let tags: Vec<Value> = tags.collect();
                json!({"digest": digest, "push_time": pushed(day), "pull_time": self.told_pull(digest, never()), "tags": tags})
            });
            let answer = reply(200, &[], &json!(shown.collect::<Vec<Value>>()).to_string());
            self.pulled.append(&mut self.untold);
            return answer;
        }
        let Some((digest, tag)) = target.strip_prefix(artifacts).and_then(|rest| rest.split_once("/tags/")) else {
            return reply(404, &[], "no such route");
        };
        assert_eq!(method, "DELETE");
        if self.tags.get(tag).is_none_or(|there| there != digest) {
            return reply(404, &[], r#"{"errors":[{"code":"NOT_FOUND","message":"tag not found on the artifact"}]}"#);
        }
        self.untag(tag, 200)
    }

    fn gitlab(&mut self, method: &str, target: &str, request: &Heard) -> String {
        if request.header("private-token") != Some("secret") {
            return reply(401, &[], r#"{"message":"401 Unauthorized"}"#);
        }
        // The project is acme/app, and its 101st repository is ours.
        let repositories = "/api/v4/projects/acme%2Fapp/registry/repositories";
        let Some(rest) = target.strip_prefix(repositories) else {
            return reply(404, &["content-type: application/json"], r#"{"message":"404 Project Not Found"}"#);
        };
        match (method, rest) {
            ("GET", "?per_page=100&page=1") => {
                let others: Vec<Value> =
                    (1..=100).map(|id| json!({"id": id, "path": format!("acme/app/other{id}")})).collect();
                reply(200, &["x-next-page: 2"], &json!(others).to_string())
            }
            ("GET", "?per_page=100&page=2") => {
                reply(200, &["x-next-page: "], &json!([{"id": 4711, "path": NAME}]).to_string())
            }
            ("DELETE", rest) => match rest.strip_prefix("/4711/tags/") {
                Some(tag) => self.untag(tag, 200),
                None => reply(404, &[], r#"{"message":"404 Not found"}"#),
            },
            _ => reply(404, &[], ""),
        }
    }

    fn nexus(&mut self, method: &str, target: &str, request: &Heard) -> String {
        if request.authorization.as_deref() != Some(BASIC) {
            return reply(401, &[], "");
        }
        if let Some(id) = target.strip_prefix("/service/rest/v1/components/") {
            assert_eq!(method, "DELETE");
            return match id.strip_prefix("id-of-") {
                Some(tag) => self.untag(tag, 204),
                None => reply(422, &[], "Malformed ID"),
            };
        }
        if let Some(rest) = target.strip_prefix("/service/rest/v1/tasks") {
            return self.nexus_task(method, rest);
        }
        let Some(query) = target.strip_prefix("/service/rest/v1/search?") else { return reply(404, &[], "") };
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect::<BTreeMap<_, _>>();
        let page = |items: Value, token: Option<&str>| {
            reply(200, &[], &json!({"items": items, "continuationToken": token}).to_string())
        };
        let name = &query["name"];
        let Some(tag) = query.get("version") else {
            // Of all tags, two to a page.
            let days: BTreeMap<&String, u32> = self.manifests.keys().zip(10..).collect();
            let shown: Vec<Value> = self
                .tags
                .iter()
                .map(|(tag, digest)| {
                    let mut one = component(name, tag);
                    let sha256 = digest.trim_start_matches("sha256:");
                    one["assets"] = json!([{"checksum": {"sha256": sha256}, "lastModified": pushed(days[digest])}]);
                    one
                })
                .collect();
            let (first, rest) = shown.split_at(shown.len().min(2));
            return match query.contains_key("continuationToken") {
                false => page(json!(first), Some("rest")),
                true => page(json!(rest), None),
            };
        };
        if query.contains_key("continuationToken") {
            let there = name == NAME && self.tags.contains_key(tag);
            let late = self.indexed.get_mut(tag).filter(|late| **late > 0);
            return match late {
                Some(late) => {
                    *late -= 1;
                    page(json!([]), None)
                }
                None if there => page(json!([component(name, tag)]), None),
                None => page(json!([]), None),
            };
        }
        // The first page has what is only like it.
        page(json!([component(name, &format!("{tag}-debug"))]), Some("next"))
    }
}

impl State {
    fn docker_hub(&mut self, method: &str, target: &str, request: &Heard) -> String {
        if (method, target) == ("POST", "/v2/auth/token") {
            assert_eq!(request.body, r#"{"identifier":"alice","secret":"secret"}"#);
            return reply(200, &[], r#"{"access_token":"a.b.c"}"#);
        }
        if request.authorization.as_deref() != Some("Bearer a.b.c") {
            return reply(401, &[], r#"{"message":"unauthorized"}"#);
        }
        if method == "GET" {
            let days: BTreeMap<&String, u32> = self.manifests.keys().zip(10..).collect();
            let one = |(tag, digest): (&String, &String)| {
                // A pull by digest is one of each of its tags.
                let pulled = self.told_pull(digest, Value::Null);
                json!({"name": tag, "digest": digest, "tag_last_pushed": pushed(days[digest]), "tag_last_pulled": pulled})
            };
            let all: Vec<Value> = self.tags.iter().map(one).collect();
            let (first, rest) = all.split_at(1);
            let (results, next) = match target.ends_with("?page=1&page_size=100") {
                true => (first, Some("https://hub.docker.com/v2/…")),
                false => (rest, None),
            };
            let answer = reply(200, &[], &json!({"count": all.len(), "next": next, "results": results}).to_string());
            if next.is_none() {
                self.pulled.append(&mut self.untold);
            }
            return answer;
        }
        assert_eq!(method, "DELETE");
        let tag = target.strip_prefix("/v2/repositories/acme/app/ci/tags/").and_then(|rest| rest.strip_suffix('/'));
        self.untag(tag.expect("it is a tag's address"), 204)
    }

    fn github(&mut self, method: &str, target: &str, request: &Heard) -> String {
        if request.authorization.as_deref() != Some("Bearer secret") {
            return reply(401, &[], r#"{"message":"Requires authentication"}"#);
        }
        // The owner is a person.
        let versions = "/users/acme/packages/container/app%2Fci/versions";
        let Some(rest) = target.strip_prefix(versions) else {
            return reply(404, &[], r#"{"message":"Not Found"}"#);
        };
        let ours: Vec<String> = self.manifests.keys().cloned().collect();
        match (method, rest) {
            ("GET", "?per_page=100&page=1") => {
                let other = |id| json!({"id": id, "name": Digest::of(&[id]).to_string(), "created_at": pushed(9)});
                let others: Vec<Value> = (1..=100).map(other).collect();
                reply(200, &[], &json!(others).to_string())
            }
            ("GET", "?per_page=100&page=2") => {
                let one =
                    |(name, number)| json!({"id": 1000 + number, "name": name, "created_at": pushed(10 + number)});
                let listed: Vec<Value> = ours.iter().zip(0_u32..).map(one).collect();
                reply(200, &[], &json!(listed).to_string())
            }
            ("DELETE", rest) => {
                let id: usize = rest.trim_start_matches('/').parse().expect("it is a number");
                let digest = ours.get(id - 1000).expect("it is one of ours").clone();
                self.manifests.remove(&digest);
                self.tags.retain(|_, at| *at != digest);
                reply(204, &[], "")
            }
            _ => reply(404, &[], ""),
        }
    }

    fn ecr(&mut self, method: &str, target: &str, request: &Heard) -> String {
        assert_eq!(target, "/");
        if method == "GET" {
            return reply(404, &["date: Sat, 21 Nov 2026 10:00:00 GMT"], "");
        }
        let authorization = request.authorization.clone().unwrap_or_default();
        let signed = "Credential=AKIDEXAMPLE/20261121/us-east-1/ecr/aws4_request, \
                      SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=";
        assert!(authorization.starts_with(&format!("AWS4-HMAC-SHA256 {signed}")), "{authorization}");
        assert_eq!(request.header("x-amz-security-token"), Some("for-a-while"));
        assert!(request.header("x-amz-date").is_some_and(|date| date.starts_with("20261121T1000")));
        let asked: Value = serde_json::from_str(&request.body).expect("it is JSON");
        assert_eq!(asked["repositoryName"], NAME);
        if request.header("x-amz-target").is_some_and(|target| target.ends_with(".DescribeImages")) {
            let shown = self.manifests.keys().zip(10..).map(|(digest, day)| {
                let time: jiff::Timestamp = pushed(day).parse().expect("it is a time");
                #[expect(clippy::cast_precision_loss, reason = "it is a number of this century")]
                let seconds = time.as_second() as f64 + 0.5;
                json!({"imageDigest": digest, "imagePushedAt": seconds})
            });
            // Two to a page.
            let (skip, next) = if asked["nextToken"] == "rest" { (2, None) } else { (0, Some("rest")) };
            let page: Vec<Value> = shown.skip(skip).take(if next.is_some() { 2 } else { usize::MAX }).collect();
            return reply(200, &[], &json!({"imageDetails": page, "nextToken": next}).to_string());
        }
        let id = &asked["imageIds"][0];
        let tag = id["imageTag"].as_str().expect("there is a tag");
        let code = match self.tags.get(tag) {
            Some(digest) if id["imageDigest"] == digest.as_str() => {
                self.tags.remove(tag);
                return reply(200, &[], &json!({"imageIds": [id], "failures": []}).to_string());
            }
            Some(_) => "ImageTagDoesNotMatchDigest",
            None => "ImageNotFound",
        };
        let failure = json!({"imageId": id, "failureCode": code, "failureReason": "no"});
        reply(200, &[], &json!({"imageIds": [], "failures": [failure]}).to_string())
    }

    fn acr(&mut self, method: &str, target: &str, request: &Heard) -> String {
        if target.starts_with("/oauth2/token") {
            return reply(200, &[], r#"{"access_token":"for-it"}"#);
        }
        if request.authorization.as_deref() != Some("Bearer for-it") {
            let host = &self.host;
            let challenge = format!(
                r#"Bearer realm="http://{host}/oauth2/token",service="{host}",scope="repository:{NAME}:delete""#
            );
            return reply(401, &[&format!("www-authenticate: {challenge}")], "");
        }
        if let Some(query) = target.strip_prefix("/acr/v1/acme/app/ci/_manifests?n=100") {
            let last = query.strip_prefix("&last=").map(|digest| digest.replace("%3A", ":"));
            let left =
                self.manifests.keys().zip(10..).filter(|(digest, _)| last.as_ref().is_none_or(|last| last < *digest));
            let time = |day| pushed(day).replace(".000Z", ".1234567Z");
            // Two to a page.
            let page: Vec<Value> =
                left.take(2).map(|(digest, day)| json!({"digest": digest, "createdTime": time(day)})).collect();
            let page = if page.is_empty() { Value::Null } else { page.into() };
            return reply(200, &[], &json!({"registry": self.host, "imageName": NAME, "manifests": page}).to_string());
        }
        assert_eq!(method, "DELETE");
        let tag = target.strip_prefix("/acr/v1/acme/app/ci/_tags/").expect("it is a tag's address");
        self.untag(tag, 202)
    }

    fn gar(&mut self, method: &str, target: &str, request: &Heard) -> String {
        if request.authorization.as_deref() != Some("Bearer secret") {
            return reply(401, &[], r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#);
        }
        assert_eq!(method, "DELETE");
        let packages = format!("/v1/projects/acme/locations/{}/repositories/app/packages/ci/tags/", self.host);
        self.untag(target.strip_prefix(&packages).expect("it is a tag's address"), 200)
    }

    fn nexus_task(&mut self, method: &str, rest: &str) -> String {
        if let Some(kind) = rest.strip_prefix("?type=") {
            let tasks = self.tasks.iter().filter(|task| task.kind == kind);
            let items: Vec<Value> = tasks.map(SimulatedTask::shown).collect();
            return reply(200, &[], &json!({"items": items, "continuationToken": null}).to_string());
        }
        let (name, run) = rest[1..].split_once('/').map_or((&rest[1..], false), |(name, _)| (name, true));
        let Some(task) = self.tasks.iter_mut().find(|task| format!("id-{}", task.kind) == name) else {
            return reply(404, &[], "");
        };
        match (method, run) {
            ("POST", true) if task.result == "DISABLED" => reply(405, &[], ""),
            ("POST", true) => {
                (task.running, task.ran) = (2, task.ran + 1);
                reply(204, &[], "")
            }
            ("GET", false) => {
                let shown = task.shown();
                task.running = task.running.saturating_sub(1);
                reply(200, &[], &shown.to_string())
            }
            _ => reply(404, &[], ""),
        }
    }
}

impl SimulatedTask {
    fn shown(&self) -> Value {
        // While it runs, what is told of the last run is that of the one before.
        let told = if self.running > 0 { self.ran.saturating_sub(1) } else { self.ran };
        json!({
            "id": format!("id-{}", self.kind), "name": self.name, "type": self.kind, "message": null, "nextRun": null,
            "currentState": if self.running > 0 { "RUNNING" } else { "WAITING" },
            "lastRunResult": (told > 0).then_some(self.result),
            "lastRun": (told > 0).then(|| format!("2026-11-21T10:0{told}:00.000+00:00")),
        })
    }
}

/// When what is there was pushed: each image a day after the one before, in the order of their digests.
pub(crate) fn pushed(day: u32) -> String {
    format!("2026-11-{day:02}T10:00:00.000Z")
}

fn component(name: &str, tag: &str) -> Value {
    json!({"id": format!("id-of-{tag}"), "repository": "docker-hosted", "format": "docker", "group": null, "name": name,
           "version": tag, "assets": []})
}

/// alice's user and password.
const BASIC: &str = "Basic YWxpY2U6c2VjcmV0";
