//! A server of Git LFS, in front of a git server: the batch API for what it has, and everything else passed on.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::registry::Account;

/// A running server. Its threads end with the process.
pub struct LfsServer {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    /// Where git is.
    git: String,
    authorization: Option<String>,
    port: u16,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    requests: Mutex<Vec<String>>,
}

impl LfsServer {
    /// Starts one before the git server at this host and port. With an account, only that may ask.
    #[track_caller]
    pub fn start(git: &str, account: Option<Account<'_>>) -> Self {
        let authorization = account.map(|Account { username, password }| {
            let both = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
            format!("Basic {both}")
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            git: git.to_owned(),
            authorization,
            port,
            files: Mutex::default(),
            requests: Mutex::default(),
        });
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = served.clone();
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        Self { shared, port }
    }

    /// The address of a repository of the git server, by way of this one.
    pub fn uri(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}.git", self.port)
    }

    /// Keeps a file; the text of its pointer.
    pub fn keep(&self, content: &[u8]) -> String {
        let oid = hex::encode(Sha256::digest(content));
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {}\n", content.len());
        self.shared.files.lock().expect("no thread panics with it").insert(oid, content.to_vec());
        text
    }

    /// Gives other bytes for a file that it keeps.
    pub fn spoil(&self, content: &[u8], other: &[u8]) {
        let oid = hex::encode(Sha256::digest(content));
        self.shared.files.lock().expect("no thread panics with it").insert(oid, other.to_vec());
    }

    /// The requests for LFS so far: method and path.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().expect("no thread panics with it").clone()
    }
}

impl Shared {
    /// Answers one request of LFS and closes, or passes the whole connection on. A client that goes away is none of our business.
    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut head = String::new();
        reader.read_line(&mut head).ok()?;
        let mut words = head.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (mut length, mut authorization) = (0, None);
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 2 {
            if let Some((name, value)) = line.trim_end().split_once(": ") {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.parse().ok()?,
                    "authorization" => authorization = Some(value.to_owned()),
                    _ => {}
                }
            }
            head.push_str(&line);
            line.clear();
        }
        if !path.contains("/info/lfs/") && !path.starts_with("/lfs-files/") {
            head.push_str("\r\n");
            return self.pass(&stream, reader, &head);
        }
        self.requests.lock().ok()?.push(format!("{method} {path}"));
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (status, body) = if self.authorization.is_some() && self.authorization != authorization {
            ("401 Unauthorized", json!({"message": "who are you?"}).to_string().into_bytes())
        } else if let Some(oid) = path.strip_prefix("/lfs-files/") {
            ("200 OK", self.files.lock().ok()?.get(oid).cloned().unwrap_or_default())
        } else {
            ("200 OK", self.batch(&serde_json::from_slice(&body).ok()?).to_string().into_bytes())
        };
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n").ok()?;
        stream.write_all(&body).ok()
    }

    fn batch(&self, request: &Value) -> Value {
        assert_eq!((&request["operation"], &request["transfers"]), (&json!("download"), &json!(["basic"])));
        let files = self.files.lock().expect("no thread panics with it");
        let object = |wanted: &Value| {
            let oid = wanted["oid"].as_str().unwrap_or_default();
            match files.contains_key(oid) {
                true => json!({"oid": oid, "size": wanted["size"], "actions": {"download": {
                    "href": format!("http://127.0.0.1:{}/lfs-files/{oid}", self.port), "header": {"x-more": "1"},
                }}}),
                false => {
                    json!({"oid": oid, "size": wanted["size"], "error": {"code": 404, "message": "no such object"}})
                }
            }
        };
        let wanted = request["objects"].as_array().expect("a batch has objects");
        json!({"transfer": "basic", "objects": wanted.iter().map(object).collect::<Vec<_>>()})
    }

    fn pass(&self, stream: &TcpStream, mut reader: BufReader<TcpStream>, head: &str) -> Option<()> {
        let mut git = TcpStream::connect(&self.git).ok()?;
        git.write_all(head.as_bytes()).ok()?;
        let (mut answers, mut back) = (git.try_clone().ok()?, stream.try_clone().ok()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        std::io::copy(&mut reader, &mut git).ok()?;
        git.shutdown(Shutdown::Write).ok()
    }
}
