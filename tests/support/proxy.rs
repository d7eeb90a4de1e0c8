//! A proxy in front of a server, at which a test sees each request before the server does, and may hold it for ever.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::server::free_port;

/// How long a test waits for a request to be held.
const LIMIT: Duration = Duration::from_secs(60);

/// What a connection with TLS begins with.
const TLS_HANDSHAKE: u8 = 0x16;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The server gets it, and its answer goes back.
    Pass,
    /// Nobody gets it, and nobody is answered.
    Hold,
    /// The server gets it, and its answer is lost.
    LoseAnswer,
    /// The server gets it, and this many bytes of the body of its answer go back.
    Cut(usize),
    /// The server does not get it; the client is told that it may not do this, as registries tell it.
    Refuse,
    /// The server does not get it; this is answered.
    Answer(&'static [u8]),
}

type Look = dyn FnMut(&str) -> Then + Send;

/// A running proxy. Its threads end with the process.
pub struct Proxy {
    port: u16,
    held: Receiver<String>,
}

impl Proxy {
    /// Starts one in front of `host:port`. `look` is called with `PUT /v2/acme/app/manifests/x` before each request.
    #[track_caller]
    pub fn start(server: &str, look: impl FnMut(&str) -> Then + Send + 'static) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let (tell, held) = channel();
        let look: Arc<Mutex<Box<Look>>> = Arc::new(Mutex::new(Box::new(look)));
        let server = server.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, look, tell) = (server.clone(), Arc::clone(&look), tell.clone());
                // A client or server that goes away is none of our business.
                std::thread::spawn(move || serve(client, &server, &look, &tell));
            }
        });
        Self { port, held }
    }

    /// Host and port, as they stand in a reference.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits for a request that is held, and returns it.
    #[track_caller]
    pub fn wait_until_held(&self) -> String {
        self.wait_until_held_or(|| false).expect("a request is held")
    }

    /// Waits for a request that is held, or until the other thing is true: then there is none.
    #[track_caller]
    pub fn wait_until_held_or(&self, other: impl Fn() -> bool) -> Option<String> {
        let begin = Instant::now();
        loop {
            match self.held.recv_timeout(Duration::from_millis(5)) {
                Ok(request) => return Some(request),
                Err(_) if other() => return self.held.try_recv().ok(),
                Err(_) => assert!(begin.elapsed() < LIMIT, "no request was held within {LIMIT:?}"),
            }
        }
    }
}

/// One request of one connection: the proxy says that it closes afterwards.
fn serve(mut client: TcpStream, server: &str, look: &Mutex<Box<Look>>, tell: &Sender<String>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    let mut first = String::new();
    // Clients that may do without TLS try it first, and learn from an answer in clear text.
    if reader.fill_buf().ok()?.first() == Some(&TLS_HANDSHAKE) {
        client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").ok()?;
        return Some(());
    }
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim_end().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "connection" => continue,
            _ => {}
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;

    let request = first.rsplit_once(' ')?.0;
    let then = look.lock().ok()?(request);
    if then == Then::Hold {
        tell.send(request.to_owned()).ok()?;
        std::thread::park();
    }
    if then == Then::Refuse {
        let denied = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"write access refused\"}]}";
        let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n";
        client.write_all(format!("{head}Content-Length: {}\r\n\r\n{denied}", denied.len()).as_bytes()).ok()?;
        return Some(());
    }
    if let Then::Answer(answer) = then {
        client.write_all(answer).ok()?;
        return Some(());
    }
    let mut upstream = TcpStream::connect(server).ok()?;
    upstream.write_all(format!("{first}{head}connection: close\r\n\r\n").as_bytes()).ok()?;
    upstream.write_all(&body).ok()?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).ok()?;
    match then {
        Then::Pass => client.write_all(&answer).ok()?,
        Then::Cut(length) => {
            let body = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            client.write_all(answer.get(..body + length).unwrap_or(&answer)).ok()?;
        }
        Then::Hold | Then::LoseAnswer | Then::Refuse | Then::Answer(_) => {}
    }
    Some(())
}
