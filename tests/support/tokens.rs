//! A token server as registries have it: basic authentication in, a signed bearer token out.
//!
//! Fact: distribution, `docs/spec/auth/token.md` and `jwt.md`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use super::certificates::Certificates;
use super::registry::Account;
use super::server::free_port;

const ISSUER: &str = "git-image test";
const SERVICE: &str = "test-registry";

/// How long a token is good, in seconds.
const LIFETIME: u64 = 300;

/// A running token server. Its thread ends with the process.
pub struct TokenServer {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    certificates: Certificates,
    signer: EcdsaKeyPair,
    authorization: String,
    requests: Mutex<Vec<String>>,
}

impl TokenServer {
    /// Starts one on a free port. Who gives no password gets tokens that allow to pull; a wrong one gets 401.
    #[track_caller]
    pub fn start(account: Account<'_>) -> Self {
        let certificates = Certificates::new();
        let random = SystemRandom::new();
        let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &certificates.key, &random)
            .expect("the key is a P-256 key");
        let password = STANDARD.encode(format!("{}:{}", account.username, account.password));
        let shared = Arc::new(Shared {
            certificates,
            signer,
            authorization: format!("Basic {password}"),
            requests: Mutex::default(),
        });
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        Self { shared, port }
    }

    /// Its address, which the registry tells its clients.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    /// The scopes of each token asked for so far, in order: `repository:acme/api:pull,push`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().expect("no thread panics with it").clone()
    }

    /// What `auth.token` is in a registry's configuration.
    pub fn registry_config(&self) -> Value {
        json!({
            "realm": self.url(),
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": self.shared.certificates.authority_file(),
        })
    }
}

impl Shared {
    /// Answers one request and closes. A client that goes away is none of our business.
    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut request = String::new();
        reader.read_line(&mut request).ok()?;
        let mut authorization = None;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("authorization") {
                authorization = Some(value.to_owned());
            }
        }
        let (status, body) = self.decide(&request, authorization.as_deref());
        let body = body.to_string();
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .ok()
    }

    fn decide(&self, request: &str, authorization: Option<&str>) -> (&'static str, Value) {
        let mut words = request.split(' ');
        // Clients that know the OAuth 2 way try POST first, and take 405 for "use GET".
        if words.next() != Some("GET") {
            return ("405 Method Not Allowed", json!({}));
        }
        let Some(url) = words.next().and_then(|path| url::Url::parse("http://token").ok()?.join(path).ok()) else {
            return ("400 Bad Request", json!({}));
        };
        let scopes: Vec<String> = url
            .query_pairs()
            .filter(|(key, _)| key == "scope")
            .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        self.requests.lock().expect("no thread panics with it").push(scopes.join(" "));
        let allowed: &[&str] = match authorization {
            None => &["pull"],
            Some(given) if given == self.authorization => &["pull", "push", "delete", "*"],
            Some(_) => {
                let error = json!({"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]});
                return ("401 Unauthorized", error);
            }
        };
        let token = self.token(&scopes, allowed);
        ("200 OK", json!({"token": token, "access_token": token, "expires_in": LIFETIME}))
    }

    /// A token for those of the asked actions that are allowed.
    fn token(&self, scopes: &[String], allowed: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificates.certificate)]});
        let claims = json!({
            "iss": ISSUER, "sub": "test", "aud": SERVICE, "jti": "1",
            "nbf": now - 10, "iat": now, "exp": now + LIFETIME,
            "access": grants(scopes, allowed),
        });
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.signer.sign(&SystemRandom::new(), signed.as_bytes()).expect("the key can sign");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What is granted of each scope `type:name:action,action`; the name may have colons itself.
fn grants(scopes: &[String], allowed: &[&str]) -> Vec<Value> {
    let mut granted: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
    for scope in scopes {
        if let Some((resource, actions)) = scope.rsplit_once(':')
            && let Some(resource) = resource.split_once(':')
        {
            granted.entry(resource).or_default().extend(actions.split(',').filter(|action| allowed.contains(action)));
        }
    }
    granted.into_iter().map(|((kind, name), actions)| json!({"type": kind, "name": name, "actions": actions})).collect()
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
