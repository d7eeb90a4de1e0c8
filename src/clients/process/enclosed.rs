//! A child that runs beside us and takes everything that it started with it, however it or we end.

use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::UnshareFlags;
use tokio::sync::watch;

use super::{Program, ProgramError, Said, keep_end};

/// A child that is process 1 of a PID namespace of its own.
///
/// When process 1 ends, the kernel ends every process of its namespace, and of the namespaces within, before anyone can
/// wait for it: who has waited for this child has waited for all that it started. The child reads a pipe whose only
/// other end is ours, so it must end when that is closed: then nothing survives us either, SIGKILL included, at any
/// moment. (A parent-death signal would not do: it is set by the child itself, which is too late when we ended before,
/// and it is bound to one of our threads.)
///
/// Dropping this closes the pipe, waits, and sends SIGKILL to a child that does not end by itself.
pub struct Enclosed {
    stdin: Option<ChildStdin>,
    process: OwnedFd,
    said: Arc<Mutex<Vec<u8>>>,
    ended: watch::Receiver<Option<Arc<Ended>>>,
    thread: Option<JoinHandle<()>>,
    grace: Duration,
}

/// How an enclosed child ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// What it printed on stdout.
    pub printed: Vec<u8>,
}

impl Program {
    /// Starts it as process 1 of a PID namespace; `grace` is how long it may take to end once its stdin is closed.
    ///
    /// # Errors
    ///
    /// It cannot be started. `PermissionDenied` means that this process may not make namespaces.
    pub fn enclose(self, grace: Duration) -> Result<Enclosed, ProgramError> {
        let Self { program, what, command, .. } = self;
        let io = |source| ProgramError::Io { program, what, source };
        let mut command = command.into_std();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (sender, ended) = watch::channel(None);
        let (started, start) = mpsc::sync_channel(1);
        let tail = said.clone();
        // The new namespace is one for the children of the thread that makes it, so this thread starts no other child.
        let thread = std::thread::Builder::new().name("enclosed".to_owned()).spawn(move || {
            // Who started this thread waits for the answer, so it is always received.
            let child = spawn(&mut command).map(|(child, stdin, process)| {
                let _ = started.send(Ok((stdin, process)));
                child
            });
            match child.map(|child| follow(child, &tail)) {
                Ok(Ok(end)) => drop(sender.send_replace(Some(Arc::new(end)))),
                Ok(Err(_)) => {}
                Err(error) => drop(started.send(Err(error))),
            }
        });
        let started = thread.and_then(|thread| Ok((thread, start.recv().map_err(io::Error::other)??)));
        let (thread, (stdin, process)) = started.map_err(io)?;
        Ok(Enclosed { stdin: Some(stdin), process, said, ended, thread: Some(thread), grace })
    }
}

impl Enclosed {
    /// Writes to its stdin, which stays open. A child that has ended already says elsewhere why.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub async fn ended(&self) -> Result<Arc<Ended>, io::Error> {
        let mut ended = self.ended.clone();
        let ended = ended.wait_for(Option::is_some).await.map_err(io::Error::other)?;
        ended.clone().ok_or_else(|| io::Error::other("it has not ended"))
    }

    /// The end of what it, and all that it started, said on descriptor 2 so far.
    pub fn said(&self) -> Said {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        Said(String::from_utf8_lossy(&said).trim().to_owned())
    }

    fn has_ended_within(&self, limit: Duration) -> bool {
        let since = Instant::now();
        let has_ended = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        while !has_ended() && since.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        has_ended()
    }
}

impl Drop for Enclosed {
    /// Blocks: what drops this is ending its step, and must not leave before the child has.
    fn drop(&mut self) {
        drop(self.stdin.take());
        if !self.has_ended_within(self.grace) {
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
            self.has_ended_within(self.grace);
        }
    }
}

/// Starts the child, the first and only one of this thread.
fn spawn(command: &mut std::process::Command) -> io::Result<(Child, ChildStdin, OwnedFd)> {
    #[expect(deprecated, reason = "its danger is with the flag FILES, which is not used")]
    rustix::thread::unshare(UnshareFlags::NEWPID)?;
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().ok_or_else(|| io::Error::other("it has no stdin"))?;
    // Held before anybody waits for the child, so it can never mean another process.
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    Ok((child, stdin, process))
}

/// Reads what it says and prints, and waits for its end.
fn follow(mut child: Child, said: &Mutex<Vec<u8>>) -> io::Result<Ended> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    if let Some(mut stderr) = stderr {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut buffer) {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.extend_from_slice(&buffer[..count]);
            keep_end(&mut said);
        }
    }
    // It prints one line when it ends, which a pipe holds.
    let mut printed = Vec::new();
    stdout.map(|mut stdout| stdout.read_to_end(&mut printed)).transpose()?;
    Ok(Ended { status: child.wait()?, printed })
}
