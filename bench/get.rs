//! How long a get takes and how much memory, beside skopeo with tar, curl with gunzip and tar, and the get of another
//! resource (`PEER`).
//!
//! - `TURNS=5`: how often each row is measured.
//! - `SIZE=1200`: how much of this machine's /usr the large image has, in MB.
//! - `FILES=100000`: how many files the other image has.
//! - `PEER=directory`: the registry-image resource's programs, of its `/opt/resource`.
//! - `BEFORE=directory`: our own programs of another commit.
//! - `DIRECTORY=path`: where images are unpacked, to measure a disk; without it, in memory (tmpfs).
//!
//! The images are the same on every run on one machine. The registry is on this machine too and takes its share of it.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads its environment, and starts what it measures itself with"
)]

mod memory;
#[path = "../tests/support/mod.rs"]
mod support;
#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod table;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::git::file;
use support::program::Program;
use support::{image, servers, temporary};
use table::{Cost, Row};

/// How often each row is measured: they take seconds.
const TURNS: usize = 5;

/// How the large image is divided into layers, in hundredths: a base, and what was installed on it.
const LAYERS: [u64; 6] = [10, 4, 30, 26, 6, 24];

fn main() {
    let directory = temporary();
    let place = std::env::var_os("DIRECTORY").map_or_else(|| directory.path().to_owned(), PathBuf::from);
    let size_mb: u64 = number("SIZE", 1200);
    let image = Image::push("large", large_layers(size_mb * 1_000_000));
    let title = format!("get, {size_mb} MB in {} gzip layers", LAYERS.len());
    Bench { image: &image, place: &place }.print(&title);
    drop(image);
    let files: u64 = number("FILES", 100_000);
    let image = Image::push("small", small_layers(files));
    Bench { image: &image, place: &place }.print(&format!("get, {files} small files"));
}

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, as in {name}={default}")))
}

struct Bench<'a> {
    image: &'a Image,
    place: &'a Path,
}

impl Bench<'_> {
    fn print(&self, title: &str) {
        let mut rows = vec![Row::new("get", || self.ours(Program::path("in")))];
        if let Some(directory) = std::env::var_os("BEFORE") {
            let program = PathBuf::from(directory).join("in");
            rows.push(Row::new("get, of BEFORE", move || self.ours(program.clone())));
        }
        if let Some(directory) = std::env::var_os("PEER") {
            rows.push(Row::new("get of the registry-image resource", move || self.peer(&directory)));
        }
        rows.push(Row::new("skopeo copy, tar", || self.skopeo()));
        rows.push(Row::new("curl | gunzip | tar", || self.curl()));
        rows.push(Row::new("two layers at a time, each inflated into one file", || self.floor()));
        table::print_in(title, TURNS, || {}, rows);
    }

    fn ours(&self, program: PathBuf) -> Cost {
        let Image { source, version, .. } = self.image;
        let request = json!({"source": source, "version": version});
        self.run(|directory| {
            let mut command = Command::new(program);
            command.arg(directory);
            (command, Some(request))
        })
    }

    fn peer(&self, programs: &OsString) -> Cost {
        let source = json!({"repository": self.image.repository(), "insecure": true});
        let request = json!({"source": source, "version": {"tag": "latest", "digest": self.image.digest}});
        self.run(|directory| {
            let mut command = Command::new(Path::new(programs).join("in"));
            command.arg(directory);
            (command, Some(request))
        })
    }

    fn skopeo(&self) -> Cost {
        let script = r#"
            skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$1" "dir:$2/image"
            mkdir "$2/rootfs"
            shift; into=$1; shift
            for layer; do tar -xzf "$into/image/${layer#sha256:}" -C "$into/rootfs" --numeric-owner; done
        "#;
        let reference = format!("{}@{}", self.image.repository(), self.image.digest);
        self.run(|directory| (self.shell(script, &reference, directory), None))
    }

    fn curl(&self) -> Cost {
        let script = r#"
            mkdir "$2/rootfs"
            url=$1; into=$2; shift 2
            for layer; do curl -fsS "$url/$layer" | gunzip | tar -x -C "$into/rootfs" --numeric-owner; done
        "#;
        let url = servers().registry().url(&format!("{}/blobs", self.image.name));
        self.run(|directory| (self.shell(script, &url, directory), None))
    }

    /// A script with something to start from, the directory, and the digests of the layers for its arguments.
    fn shell(&self, script: &str, from: &str, directory: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-euc", script, "sh", from]).arg(directory);
        command.args(self.image.layers.iter().map(|layer| &layer.digest));
        command
    }

    /// Runs a program that fills an empty directory, with this on its stdin.
    fn run(&self, prepare: impl FnOnce(&Path) -> (Command, Option<Value>)) -> Cost {
        let directory = Emptied::new(self.place);
        let (mut command, stdin) = prepare(&directory.0);
        let log = temporary();
        let output = |name: &str| std::fs::File::create(log.path().join(name)).expect("a file can be made");
        command.stdin(Stdio::piped()).stdout(output("out")).stderr(output("err"));
        let begin = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let peak = memory::watch(child.id());
        let stdin = stdin.map(|value| value.to_string()).unwrap_or_default();
        child.stdin.take().expect("it is a pipe").write_all(stdin.as_bytes()).expect("the program reads its request");
        let status = child.wait().expect("a child can be waited for");
        let time = begin.elapsed();
        let peak = peak.join().expect("a peak is only read");
        let said = std::fs::read_to_string(log.path().join("err")).unwrap_or_default();
        assert!(status.success(), "{command:?} failed:\n{said}");
        Cost { time, peak: Some(peak) }
    }

    /// What no get can be much quicker than: the layers are downloaded, verified, inflated and written, and no file
    /// of theirs is made.
    fn floor(&self) -> Cost {
        let directory = Emptied::new(self.place);
        let waiting = Mutex::new(self.image.layers.iter());
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().expect("nobody panics").next();
                        let Some(layer) = next else { break };
                        self.inflate(layer, &directory.0);
                    }
                });
            }
        });
        Cost { time: begin.elapsed(), peak: None }
    }

    fn inflate(&self, layer: &Layer, directory: &Path) {
        let mut connection = TcpStream::connect(servers().registry().host()).expect("the registry runs");
        let path = format!("/v2/{}/blobs/{}", self.image.name, layer.digest);
        write!(connection, "GET {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n").expect("it listens");
        let mut answer = BufReader::with_capacity(256 * 1024, connection);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            answer.read_line(&mut line).expect("an answer has a head");
        }
        let body = BufReader::with_capacity(256 * 1024, Hashing { inner: answer, hash: Sha256::new() });
        let mut inflated = MultiGzDecoder::new(body);
        let mut file = std::fs::File::create(directory.join(layer.digest.replace(':', "-"))).expect("it can be made");
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match inflated.read(&mut buffer).expect("it is gzip") {
                0 => break,
                count => file.write_all(&buffer[..count]).expect("there is room"),
            }
        }
        let hash = inflated.into_inner().into_inner().hash;
        assert_eq!(format!("sha256:{}", hex::encode(hash.finalize())), layer.digest);
    }
}

/// A directory that is removed with all that is in it.
struct Emptied(PathBuf);

impl Emptied {
    fn new(place: &Path) -> Self {
        let path = place.join("get");
        std::fs::create_dir(&path).expect("a directory can be made");
        Self(path)
    }
}

impl Drop for Emptied {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("what was made can be removed");
    }
}

/// An image in the registry, and the version of ours that has it.
struct Image {
    name: &'static str,
    layers: Vec<Layer>,
    digest: String,
    source: Value,
    version: Value,
}

struct Layer {
    digest: String,
    diff_id: String,
    size: usize,
}

impl Image {
    fn push(name: &'static str, archives: Vec<Archive>) -> Self {
        let git = servers().git().repository(name);
        git.commit("master", &[file("Dockerfile", "FROM scratch\n")]);
        let registry = servers().registry();
        let source = json!({
            "git": {"uri": git.uri(), "branch": "master"},
            "registry": {"repository": registry.repository(name), "insecure": true},
        });
        let versions = Program::check().run(&json!({"source": source})).succeeds();
        let version = versions.as_array().and_then(|versions| versions.last()).expect("there is one").clone();
        let layers = in_pairs(archives, |archive| archive.finish(name));
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"git-image.inputs": version["inputs"]}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string();
        let descriptor = |kind: &str, digest: &str, size| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
        let of_layer = |layer: &Layer| descriptor("layer.v1.tar+gzip", &layer.digest, layer.size);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": image::OCI_MANIFEST,
            "config": descriptor("config.v1+json", &registry.put_blob(name, config.as_bytes()), config.len()),
            "layers": layers.iter().map(of_layer).collect::<Vec<_>>(),
        });
        let tag = format!("inputs-{}", version["inputs"].as_str().expect("it is a text"));
        let digest = registry.put_manifest(name, &tag, image::OCI_MANIFEST, manifest.to_string().as_bytes());
        Self { name, layers, digest, source, version }
    }

    fn repository(&self) -> String {
        servers().registry().repository(self.name)
    }
}

/// An archive of a layer that is not made yet.
struct Archive(Box<Make>);

type Make = dyn FnOnce(&mut tar::Builder<LayerWriter>) + Send;

impl Archive {
    fn finish(self, name: &str) -> Layer {
        let writer = LayerWriter { gzip: GzEncoder::new(Vec::new(), Compression::default()), hash: Sha256::new() };
        let mut archive = tar::Builder::new(writer);
        archive.mode(tar::HeaderMode::Deterministic);
        archive.follow_symlinks(false);
        (self.0)(&mut archive);
        let LayerWriter { gzip, hash } = archive.into_inner().expect("memory can be written to");
        let blob = gzip.finish().expect("memory can be written to");
        let diff_id = format!("sha256:{}", hex::encode(hash.finalize()));
        Layer { digest: servers().registry().put_blob(name, &blob), diff_id, size: blob.len() }
    }
}

struct LayerWriter {
    gzip: GzEncoder<Vec<u8>>,
    hash: Sha256,
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hash.update(bytes);
        self.gzip.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.gzip.flush()
    }
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Two at a time, in their order.
fn in_pairs<T: Send, U: Send>(all: Vec<T>, make: impl Fn(T) -> U + Sync) -> Vec<U> {
    let (mut all, mut made) = (all.into_iter(), Vec::new());
    while let Some(one) = all.next() {
        let (one, other) = std::thread::scope(|scope| {
            let other = all.next().map(|other| scope.spawn(|| make(other)));
            (make(one), other.map(|thread| thread.join().expect("a layer can be made")))
        });
        made.extend([Some(one), other].into_iter().flatten());
    }
    made
}

/// The first files of this machine's /usr, in the order of their names, up to so many bytes.
fn large_layers(bytes: u64) -> Vec<Archive> {
    let mut paths = Vec::new();
    let mut taken = 0;
    walk(Path::new("/usr"), &mut |path, size| {
        paths.push((path.to_owned(), taken));
        taken += size;
        taken < bytes
    });
    let mut begin = 0;
    let layers = LAYERS.iter().map(|hundredths| {
        let end = begin + taken * hundredths / 100;
        let of_layer = |&&(_, at): &&(PathBuf, u64)| begin <= at && at < end;
        let paths: Vec<_> = paths.iter().filter(of_layer).map(|(path, _)| path.clone()).collect();
        begin = end;
        Archive(Box::new(move |archive| {
            for path in paths {
                let name = path.strip_prefix("/").expect("it is absolute").to_owned();
                archive.append_path_with_name(&path, name).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            }
        }))
    });
    layers.collect()
}

/// Tells of files, directories and symlinks, sorted, until `tell` does not want more.
fn walk(directory: &Path, tell: &mut impl FnMut(&Path, u64) -> bool) -> bool {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).expect("/usr can be read").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().all(|path| {
        let metadata = path.symlink_metadata().expect("it was just listed");
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        tell(path, size) && (!metadata.is_dir() || walk(path, tell))
    })
}

/// Files of 200 to 4,200 bytes, a hundred in each directory, in two layers.
fn small_layers(count: u64) -> Vec<Archive> {
    let half = |numbers: std::ops::Range<u64>| {
        Archive(Box::new(move |archive| {
            for number in numbers {
                let (directory, size) = (number / 100, 200 + number * 7919 % 4000);
                let line = |at: u64| {
                    format!("line {at} of file {number}, {:x}\n", (at + number).wrapping_mul(0x9e37_79b9_7f4a_7c15))
                };
                let mut text: String = (0..=size / 35).map(line).collect();
                text.truncate(usize::try_from(size).expect("it is small"));
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o644);
                header.set_mtime(1_700_000_000 + number);
                header.set_uid(0);
                header.set_gid(0);
                header.set_size(text.len() as u64);
                let path = format!("files/{}/{directory}/{number}.txt", directory / 100);
                archive.append_data(&mut header, path, text.as_bytes()).expect("memory can be written to");
            }
        }))
    };
    vec![half(0..count / 2), half(count / 2..count)]
}
