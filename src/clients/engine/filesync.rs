//! The files of a session: the Dockerfile with its ignore file, and the counted entries of the context.
//!
//! The engine says which entries it wants; it gets what each of them is, in order, and then asks for the bytes of those
//! that it does not have yet. What git describes is sent as git describes it, with times that are made of the content,
//! so that a fresh checkout is no change for an engine that has built before.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSync;
use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::EngineError;
use super::select::Wanted;
use crate::clients::context::{Context, ContextEntry, ContextKind, Share};
use crate::names::{GitPath, ObjectId};
use crate::request::FileTimes;

/// The bytes of a file go in packets of at most this size: well under the 4 MiB that a gRPC message may have.
const CHUNK_BYTES: usize = 128 * 1024;

/// How many packets wait for the engine at most.
const WAITING_PACKETS: usize = 8;

/// Go's `os.FileMode` bits, which the protocol uses.
const MODE_DIRECTORY: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;

/// The earliest time that an entry has: 2001-09-09T01:46:40Z. Directories have just this one.
const FIRST_SECOND: i64 = 1_000_000_000;

/// The engine's name for the directory of the Dockerfile.
const DOCKERFILE: &str = "dockerfile";

type Packets = mpsc::Sender<Result<Packet, Status>>;

/// What a session serves, and what became of it.
pub(super) struct Files {
    /// By the names that the engine has for them; `context` is the main one.
    contexts: BTreeMap<String, Arc<Context>>,
    dockerfile: Vec<(GitPath, Bytes)>,
    times: FileTimes,
    sent_bytes: Arc<AtomicU64>,
    fault: Arc<Mutex<Option<EngineError>>>,
}

impl Files {
    /// Serves `context`, and the Dockerfile under its name.
    ///
    /// The ignore file goes beside the Dockerfile as `<Dockerfile>.dockerignore`, wherever it was: the engine prefers
    /// that one, so it judges by the very bytes that the inputs were judged by.
    pub(super) fn new(
        context: Arc<Context>,
        times: FileTimes,
        name: &str,
        dockerfile: &[u8],
        dockerignore: Option<&[u8]>,
    ) -> Self {
        let mut files = vec![(GitPath::new(name), Bytes::copy_from_slice(dockerfile))];
        if let Some(rules) = dockerignore {
            // The engine takes an empty file for none, and would go by the one in the context.
            let rules: &[u8] = if rules.is_empty() { b"#\n" } else { rules };
            files.push((GitPath::new(format!("{name}.dockerignore")), Bytes::copy_from_slice(rules)));
        }
        let contexts = BTreeMap::from([("context".to_owned(), context)]);
        Self { contexts, dockerfile: files, times, sent_bytes: Arc::default(), fault: Arc::default() }
    }

    /// Serves one more context, under its name.
    pub(super) fn add(&mut self, name: &str, context: Arc<Context>) {
        self.contexts.insert(name.to_owned(), context);
    }

    /// How many bytes of the context's files were sent so far.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Why the files could not be served, if so. The engine's own words say less.
    pub(super) fn take_fault(&self) -> Option<EngineError> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What goes to the engine for a request, in order, with the directories above.
    fn items(&self, name: &str, metadata: &MetadataMap) -> Result<Vec<Item>, EngineError> {
        let wanted = Wanted {
            followed: values(metadata, "followpaths"),
            included: values(metadata, "include-patterns"),
            excluded: values(metadata, "exclude-patterns"),
        };
        if name == DOCKERFILE {
            // Two small files of one directory: the engine takes what it needs.
            let mut files: Vec<_> = self.dockerfile.iter().collect();
            files.sort();
            return with_directories(files.into_iter().map(|(path, bytes)| Ok(memory_item(path, bytes))));
        }
        let Some(context) = self.contexts.get(name) else { return Ok(Vec::new()) };
        let mut entries = wanted.of(context);
        // The engine always looks for the ignore file here too, and drops it for the one beside the Dockerfile. That is no
        // use of it: a COPY of it asks once more, by the inputs' rules.
        if wanted.followed == [b".dockerignore"] {
            entries.retain(|entry| match entry.share {
                Share::Counted => true,
                Share::Beyond => false,
            });
        }
        let beyond: Vec<GitPath> = entries
            .iter()
            .filter(|entry| match entry.share {
                Share::Beyond => true,
                Share::Counted => false,
            })
            .map(|entry| entry.path.clone())
            .collect();
        if let Some(first) = beyond.first() {
            return Err(EngineError::BeyondInputs { path: first.clone(), more: beyond.len() - 1 });
        }
        with_directories(entries.into_iter().map(|entry| item(entry, self.times)))
    }
}

#[tonic::async_trait]
impl FileSync for Files {
    type DiffCopyStream = ReceiverStream<Result<Packet, Status>>;
    type TarStreamStream = ReceiverStream<Result<Packet, Status>>;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Self::DiffCopyStream>, Status> {
        let name = values(request.metadata(), "dir-name").pop().unwrap_or_default();
        let name = String::from_utf8_lossy(&name).into_owned();
        if name != DOCKERFILE && !self.contexts.contains_key(&name) {
            return Err(Status::not_found(format!("no directory {name:?} is shared with this build")));
        }
        let items = self.items(&name, request.metadata()).map_err(|error| refuse(&self.fault, error))?;
        let (packets, answer) = mpsc::channel(WAITING_PACKETS);
        let sync = Sync { items, packets, sent_bytes: self.sent_bytes.clone(), fault: self.fault.clone() };
        // Ends by itself when the connection does: either end of the stream then fails.
        tokio::spawn(sync.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("files are sent by DiffCopy"))
    }
}

/// Keeps why the files cannot be served; the engine is told in short.
fn refuse(fault: &Mutex<Option<EngineError>>, error: EngineError) -> Status {
    let status = Status::failed_precondition(error.to_string());
    fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    status
}

/// The values of one key. Newer engines escape them all when one is not ASCII, and say so in another key.
fn values(metadata: &MetadataMap, key: &str) -> Vec<Vec<u8>> {
    let escaped = metadata.contains_key(format!("{key}-encoded").as_str());
    let read = |value: &[u8]| match url::form_urlencoded::parse(value).next() {
        Some((text, _)) if escaped => text.into_owned().into_bytes(),
        _ => value.to_vec(),
    };
    metadata.get_all(key).iter().map(|value| read(value.as_encoded_bytes())).collect()
}

/// One entry as the engine gets it.
#[derive(Debug, Clone, PartialEq)]
struct Item {
    path: GitPath,
    stat: Stat,
    body: Body,
}

/// Where the bytes of an entry are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Body {
    None,
    Memory(Bytes),
    Disk(PathBuf),
}

fn item(entry: &ContextEntry, times: FileTimes) -> Result<Item, EngineError> {
    let (mode, size, linkname, body) = match &entry.kind {
        ContextKind::File { executable, size } => {
            (if *executable { 0o755 } else { 0o644 }, *size, String::new(), Body::Disk(entry.on_disk.clone()))
        }
        ContextKind::Symlink { target } => (
            MODE_SYMLINK | 0o777,
            target.len() as u64,
            std::str::from_utf8(target).map_err(|_| EngineError::NotText { path: entry.path.clone() })?.to_owned(),
            Body::None,
        ),
    };
    let mod_time = match times {
        FileTimes::OfContent => time_of(&entry.id),
        FileTimes::OfFiles => time_on_disk(entry)?,
    };
    let stat = Stat { mode, size: size.cast_signed(), linkname, mod_time, ..Stat::default() };
    Ok(Item { path: entry.path.clone(), stat, body })
}

/// The time at which a file or link was changed last, in nanoseconds.
fn time_on_disk(entry: &ContextEntry) -> Result<i64, EngineError> {
    use std::os::unix::fs::MetadataExt as _;
    let found = entry.on_disk.symlink_metadata();
    let found = found.map_err(|source| EngineError::ContextChanged { path: entry.path.clone(), source })?;
    Ok(found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()))
}

fn memory_item(path: &GitPath, bytes: &Bytes) -> Item {
    let id = ObjectId::from_bytes(Sha1::digest(bytes).into());
    let stat = Stat { mode: 0o644, size: bytes.len() as i64, mod_time: time_of(&id), ..Stat::default() };
    Item { path: path.clone(), stat, body: Body::Memory(bytes.clone()) }
}

/// The time of an entry with this content, in nanoseconds: another content has another time, but for one case in 2^58.
///
/// Seconds take part too, because layers keep only those. All times lie within ten years from the first second on.
fn time_of(id: &ObjectId) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.as_bytes()[..8]);
    FIRST_SECOND * 1_000_000_000 + (u64::from_be_bytes(first) >> 6).cast_signed()
}

/// Puts the directories above each entry before it, each once, and writes the paths.
fn with_directories(items: impl Iterator<Item = Result<Item, EngineError>>) -> Result<Vec<Item>, EngineError> {
    let mut all: Vec<Item> = Vec::new();
    let mut open: Vec<GitPath> = Vec::new();
    for item in items {
        let item = item?;
        open.retain(|directory| item.path.is_within(directory));
        let parts = item.path.parts().count();
        while open.len() + 1 < parts {
            let above = open.last().cloned().unwrap_or_else(|| GitPath::new(""));
            let next = item.path.parts().nth(open.len()).unwrap_or_default();
            let path = above.join(next);
            let mod_time = FIRST_SECOND * 1_000_000_000;
            let stat = Stat { mode: MODE_DIRECTORY | 0o755, mod_time, ..Stat::default() };
            all.push(Item { path: path.clone(), stat, body: Body::None });
            open.push(path);
        }
        all.push(item);
    }
    for item in &mut all {
        let text = std::str::from_utf8(item.path.as_bytes());
        item.stat.path = text.map_err(|_| EngineError::NotText { path: item.path.clone() })?.to_owned();
    }
    Ok(all)
}

fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

/// One run of the protocol.
struct Sync {
    items: Vec<Item>,
    packets: Packets,
    sent_bytes: Arc<AtomicU64>,
    fault: Arc<Mutex<Option<EngineError>>>,
}

impl Sync {
    async fn run(self, mut requests: Streaming<Packet>) {
        let (wishes, mut wished) = mpsc::unbounded_channel();
        let read = async move {
            // A broken stream ends the wishes as its end does.
            while let Ok(Some(packet)) = requests.message().await {
                let wish = match packet.r#type() {
                    PacketType::PacketReq => Some(packet.id),
                    PacketType::PacketFin => None,
                    PacketType::PacketErr => return,
                    PacketType::PacketStat | PacketType::PacketData => continue,
                };
                if wishes.send(wish).is_err() || wish.is_none() {
                    return;
                }
            }
        };
        let write = async move {
            for stat in self.items.iter().map(|item| Some(item.stat.clone())).chain([None]) {
                self.send(Packet { stat, ..packet(PacketType::PacketStat) }).await?;
            }
            while let Some(wish) = wished.recv().await {
                match wish {
                    Some(id) => self.send_file(id).await?,
                    None => self.send(packet(PacketType::PacketFin)).await?,
                }
            }
            Some(())
        };
        tokio::pin!(read, write);
        // Nothing more is read for an engine that takes no more answers.
        tokio::select! {
            _ = &mut write => {}
            () = &mut read => { let _ = write.await; }
        }
    }

    async fn send(&self, packet: Packet) -> Option<()> {
        self.packets.send(Ok(packet)).await.ok()
    }

    /// Sends the bytes of one entry, and the empty packet that ends them.
    async fn send_file(&self, id: u32) -> Option<()> {
        let Some(item) = self.items.get(id as usize) else {
            let _ = self.packets.send(Err(Status::invalid_argument(format!("there is no entry {id}")))).await;
            return None;
        };
        match &item.body {
            Body::None => {}
            Body::Memory(bytes) => {
                for chunk in bytes.chunks(CHUNK_BYTES) {
                    self.send(Packet { id, data: chunk.to_vec(), ..packet(PacketType::PacketData) }).await?;
                }
            }
            Body::Disk(on_disk) => {
                let (on_disk, size, packets) = (on_disk.clone(), item.stat.size.cast_unsigned(), self.packets.clone());
                let sent =
                    tokio::task::spawn_blocking(move || send_from_disk(&on_disk, size, id, &packets)).await.ok()?;
                match sent {
                    Ok(sent) => sent?,
                    Err(source) => {
                        let error = EngineError::ContextChanged { path: item.path.clone(), source };
                        let _ = self.packets.send(Err(refuse(&self.fault, error))).await;
                        return None;
                    }
                }
                self.sent_bytes.fetch_add(size, Ordering::Relaxed);
            }
        }
        self.send(Packet { id, ..packet(PacketType::PacketData) }).await
    }
}

/// Sends a file that must have `size` bytes. `None` when nobody takes them any more.
fn send_from_disk(path: &std::path::Path, size: u64, id: u32, packets: &Packets) -> std::io::Result<Option<()>> {
    let other = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
    // It was a file when it was looked at; a link that stands there now could lead out of the checkout. A pipe must not block.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(other("it is no file any more"));
    }
    let mut file = file.take(size + 1);
    let mut sent = 0;
    loop {
        let mut data = vec![0; CHUNK_BYTES.min(usize::try_from(size - sent + 1).unwrap_or(CHUNK_BYTES))];
        let read = file.read(&mut data)?;
        data.truncate(read);
        sent += read as u64;
        match (read, sent.cmp(&size)) {
            (_, std::cmp::Ordering::Greater) => return Err(other(&format!("it has more than its {size} bytes"))),
            (0, std::cmp::Ordering::Less) => return Err(other(&format!("it has {sent} bytes instead of {size}"))),
            (0, std::cmp::Ordering::Equal) => return Ok(Some(())),
            _ => {}
        }
        let message = Packet { id, data, ..packet(PacketType::PacketData) };
        if packets.blocking_send(Ok(message)).is_err() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: ContextKind, id: u8) -> ContextEntry {
        let id = ObjectId::from_bytes([id; 20]);
        ContextEntry { path: GitPath::new(path), kind, id, share: Share::Counted, on_disk: path.into() }
    }

    fn file(executable: bool) -> ContextKind {
        ContextKind::File { executable, size: 3 }
    }

    #[test]
    fn entries_are_sent_in_order_below_their_directories_as_git_describes_them() {
        let link = ContextKind::Symlink { target: b"../x".to_vec() };
        let context = Context::new(vec![
            entry("a.txt", file(false), 1),
            entry("a/b/c", file(true), 2),
            entry("a/b/d", link, 3),
            entry("a-b", file(false), 0xff),
            entry(".git/config", file(false), 4),
        ]);
        let files = Files::new(Arc::new(context), FileTimes::OfContent, "Dockerfile", b"", None);
        let items = files.items("context", &MetadataMap::new()).expect("all is counted");
        let shown: Vec<_> = items
            .iter()
            .map(|item| {
                let Stat { path, mode, linkname, uid, gid, .. } = &item.stat;
                format!("{path} {:o} {uid}:{gid}{linkname}", mode & !(MODE_DIRECTORY | MODE_SYMLINK))
            })
            .collect();
        assert_eq!(
            shown,
            ["a 755 0:0", "a/b 755 0:0", "a/b/c 755 0:0", "a/b/d 777 0:0../x", "a-b 644 0:0", "a.txt 644 0:0"]
        );
        let ten_years = 10 * 365 * 86_400 * 1_000_000_000_i64;
        for item in &items {
            let after = item.stat.mod_time - FIRST_SECOND * 1_000_000_000;
            assert!((0..=ten_years).contains(&after), "{}: {after}", item.stat.path);
        }
    }

    #[test]
    fn times_are_made_of_the_content_alone() {
        let one = time_of(&ObjectId::from_bytes([1; 20]));
        assert_eq!(one, time_of(&ObjectId::from_bytes([1; 20])));
        let other = time_of(&ObjectId::from_bytes([2; 20]));
        assert_ne!(one / 1_000_000_000, other / 1_000_000_000, "layers keep only seconds");
    }

    #[test]
    fn an_entry_beyond_the_inputs_ends_the_build_and_is_named() {
        let mut secret = entry("notes/todo", file(false), 1);
        secret.share = Share::Beyond;
        let context = Arc::new(Context::new(vec![entry("src/a", file(false), 2), secret]));
        let files = Files::new(context, FileTimes::OfContent, "Dockerfile", b"", None);
        let mut metadata = MetadataMap::new();
        metadata.append("followpaths", "src".parse().expect("a header value"));
        assert_eq!(files.items("context", &metadata).expect("only src").len(), 2);
        metadata.append("followpaths", "notes".parse().expect("a header value"));
        match files.items("context", &metadata) {
            Err(EngineError::BeyondInputs { path, more: 0 }) => assert_eq!(path, GitPath::new("notes/todo")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn escaped_values_are_read() {
        let mut metadata = MetadataMap::new();
        metadata.append("followpaths", "a+b%C3%A9".parse().expect("a header value"));
        assert_eq!(values(&metadata, "followpaths"), [b"a+b%C3%A9".to_vec()]);
        metadata.append("followpaths-encoded", "1".parse().expect("a header value"));
        assert_eq!(values(&metadata, "followpaths"), ["a bé".as_bytes().to_vec()]);
    }
}
