//! A TCP proxy that a test can make slow, or silent.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::server::free_port;

/// What a proxy does with the answers of its server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Passes them on.
    Full,
    /// Passes on about 100 kB in a second.
    Slow,
    /// Accepts connections, and says nothing.
    Silent,
    /// Ends a connection after 300 kB of answers.
    Breaking,
}

/// A running proxy. Its threads end with the process.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

struct State {
    to: String,
    pace: AtomicU8,
    connections: AtomicUsize,
    bytes: AtomicUsize,
}

impl Proxy {
    /// Starts one in front of a server, given as `host:port`.
    #[track_caller]
    pub fn start(to: &str, pace: Pace) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let state = Arc::new(State {
            to: to.to_owned(),
            pace: AtomicU8::new(pace as u8),
            connections: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        });
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&served);
                std::thread::spawn(move || state.serve(client));
            }
        });
        Self { port, state }
    }

    /// `host:port` of the proxy.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Another pace, from now on.
    pub fn set(&self, pace: Pace) {
        self.state.pace.store(pace as u8, Ordering::SeqCst);
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of answers were passed on.
    pub fn bytes(&self) -> usize {
        self.state.bytes.load(Ordering::SeqCst)
    }
}

impl State {
    fn has(&self, pace: Pace) -> bool {
        self.pace.load(Ordering::SeqCst) == pace as u8
    }

    /// Serves one connection. Whoever goes away ends it.
    fn serve(&self, client: TcpStream) -> Option<()> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let server = TcpStream::connect(&self.to).ok()?;
        let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        let (mut server, mut client) = (server, client);
        let mut buffer = [0; 1024];
        let mut passed = 0;
        loop {
            let count = server.read(&mut buffer).ok().filter(|count| *count > 0)?;
            if self.has(Pace::Slow) {
                std::thread::sleep(Duration::from_millis(10));
            }
            while self.has(Pace::Silent) {
                std::thread::sleep(Duration::from_millis(10));
            }
            if self.has(Pace::Breaking) && 300_000 < passed {
                // The thread for requests has it too: it would stay open.
                client.shutdown(std::net::Shutdown::Both).ok()?;
                return None;
            }
            passed += count;
            client.write_all(&buffer[..count]).ok()?;
            self.bytes.fetch_add(count, Ordering::SeqCst);
        }
    }
}
