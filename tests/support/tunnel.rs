//! A forward proxy as companies have them: CONNECT, and plain http by whole addresses, for those who know the password.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::registry::Account;
use super::server::free_port;

/// A running proxy. Its threads end with the process.
pub struct Tunnel {
    port: u16,
    state: Arc<State>,
}

struct State {
    authorization: Option<String>,
    requests: Mutex<Vec<String>>,
}

impl Tunnel {
    /// Starts one on a free port; with an account, who does not give it gets 407.
    #[track_caller]
    pub fn start(account: Option<Account<'_>>) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let basic = |account: Account<'_>| STANDARD.encode(format!("{}:{}", account.username, account.password));
        let authorization = account.map(|account| format!("Basic {}", basic(account)));
        let state = Arc::new(State { authorization, requests: Mutex::default() });
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&served);
                // A client or server that goes away is none of our business.
                std::thread::spawn(move || state.serve(client));
            }
        });
        Self { port, state }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The requests so far, with the status of each: `CONNECT 127.0.0.1:22 200`.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().expect("no thread panics with it").clone()
    }
}

impl State {
    fn serve(&self, mut client: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(client.try_clone().ok()?);
        let mut first = String::new();
        reader.read_line(&mut first).ok()?;
        let (mut head, mut given) = (String::new(), None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "proxy-authorization" => given = Some(value.to_owned()),
                "connection" | "proxy-connection" => {}
                _ => head.push_str(&line),
            }
        }
        let mut words = first.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let allowed = self.authorization.is_none() || self.authorization == given;
        let address = match (method, target.strip_prefix("http://")) {
            (_, Some(rest)) => rest.split('/').next()?,
            (_, None) => target,
        };
        let server = TcpStream::connect(address).ok();
        let status = match (allowed, &server) {
            (false, _) => "407 Proxy Authentication Required",
            (true, None) => "502 Bad Gateway",
            (true, Some(_)) => "200 OK",
        };
        let line = format!("{method} {target} {}", &status[..3]);
        self.requests.lock().expect("no thread panics with it").push(line);
        let Some(mut server) = server.filter(|_| allowed) else {
            let challenge = "proxy-authenticate: Basic realm=\"test\"";
            let refusal = format!("HTTP/1.1 {status}\r\n{challenge}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return client.write_all(refusal.as_bytes()).ok();
        };
        match target.strip_prefix("http://") {
            None => client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?,
            Some(rest) => {
                let path = rest.find('/').map_or("/", |at| &rest[at..]);
                let request = format!("{method} {path} HTTP/1.1\r\n{head}connection: close\r\n\r\n");
                server.write_all(request.as_bytes()).ok()?;
            }
        }
        let (mut from, mut to) = (server.try_clone().ok()?, client.try_clone().ok()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        // The reader may hold what came after the head already.
        let _ = std::io::copy(&mut reader, &mut server);
        server.shutdown(std::net::Shutdown::Write).ok()
    }
}
