//! The blobs of images on disk that a build may name: containerd's content service, as far as engines read from it.
//!
//! The library has no code for it: of its dozen methods an engine that builds calls these two. Fact: BuildKit 0.33.1,
//! `source/containerimage/ocilayout.go`; the messages are those of containerd's `services/content/v1/content.proto`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::Read as _;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::NamedContext;
use crate::clients::finished::Blobs;
use crate::names::Digest;

/// The methods that are served.
pub(super) const METHODS: [&str; 2] = [INFO, READ];

const INFO: &str = "/containerd.services.content.v1.Content/Info";
const READ: &str = "/containerd.services.content.v1.Content/Read";

/// The name of our store for the engine. There is one for all images: a digest says enough.
pub(super) const STORE: &str = "git-image";

/// The bytes of a blob go in messages of at most this size: well under the 4 MiB that one may have.
const CHUNK_BYTES: usize = 256 * 1024;

/// How many messages wait for the engine at most.
const WAITING: usize = 2;

/// Serves the blobs of images.
#[derive(Clone)]
pub(super) struct Content(Arc<[Arc<Blobs>]>);

impl Content {
    /// The images among these contexts.
    pub(super) fn of(contexts: &BTreeMap<String, NamedContext>) -> Self {
        let images = contexts.values().filter_map(|context| match context {
            NamedContext::Image(blobs) => Some(blobs.clone()),
            NamedContext::Fetched(_) | NamedContext::Files(_) => None,
        });
        Self(images.collect())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The image that has this blob, and the size of that in bytes.
    fn find(&self, digest: &str) -> Result<(&Arc<Blobs>, Digest, u64), Status> {
        let parsed: Digest = digest.parse().map_err(|_| Status::invalid_argument(format!("{digest} is no digest")))?;
        for blobs in self.0.iter() {
            if let Some(size) = blobs.size(&parsed)? {
                return Ok((blobs, parsed, size));
            }
        }
        Err(Status::not_found(format!("no image of this build has the blob {digest}")))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct InfoRequest {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    info: Option<Info>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Info {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadContentRequest {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    offset: i64,
    /// 0: to the end.
    #[prost(int64, tag = "3")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadContentResponse {
    #[prost(int64, tag = "1")]
    offset: i64,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

impl UnaryService<InfoRequest> for Content {
    type Response = InfoResponse;
    type Future = Ready<Result<Response<InfoResponse>, Status>>;

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let found = self.find(&request.get_ref().digest);
        ready(found.map(|(_, digest, size)| {
            let info = Info { digest: digest.to_string(), size: i64::try_from(size).unwrap_or(i64::MAX) };
            Response::new(InfoResponse { info: Some(info) })
        }))
    }
}

impl ServerStreamingService<ReadContentRequest> for Content {
    type Response = ReadContentResponse;
    type ResponseStream = ReceiverStream<Result<ReadContentResponse, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<ReadContentRequest>) -> Self::Future {
        ready(self.send(request.get_ref()).map(Response::new))
    }
}

impl Content {
    fn send(
        &self,
        request: &ReadContentRequest,
    ) -> Result<ReceiverStream<Result<ReadContentResponse, Status>>, Status> {
        let (blobs, digest, size) = self.find(&request.digest)?;
        let number = |number: i64| u64::try_from(number).map_err(|_| Status::out_of_range("a range begins before 0"));
        let (offset, wanted) = (number(request.offset)?, number(request.size)?);
        let rest = size.saturating_sub(offset);
        let count = if wanted == 0 { rest } else { wanted.min(rest) };
        let blobs = blobs.clone();
        let (sender, answer) = mpsc::channel(WAITING);
        // Ends with the blob, or when the engine hears no more.
        tokio::task::spawn_blocking(move || {
            let mut sent = 0;
            let mut pass = || -> std::io::Result<()> {
                let mut bytes = blobs.read(&digest, offset)?.take(count);
                while sent < count {
                    let mut data = Vec::new();
                    bytes.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut data)?;
                    if data.is_empty() {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                    let at = i64::try_from(offset + sent).unwrap_or(i64::MAX);
                    sent += data.len() as u64;
                    if sender.blocking_send(Ok(ReadContentResponse { offset: at, data })).is_err() {
                        return Ok(());
                    }
                }
                Ok(())
            };
            if let Err(error) = pass() {
                // The engine may be gone; then nobody asks.
                let _ = sender.blocking_send(Err(Status::from(error)));
            }
        });
        Ok(ReceiverStream::new(answer))
    }
}

impl NamedService for Content {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

impl tower::Service<hyper::Request<Body>> for Content {
    type Response = hyper::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        let content = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                INFO => Grpc::new(ProstCodec::default()).unary(content, request).await,
                READ => Grpc::new(ProstCodec::default()).server_streaming(content, request).await,
                other => Status::unimplemented(format!("{other} is not served")).into_http(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    /// The image of a layout with one layer of these bytes.
    fn content(directory: &std::path::Path, layer: &[u8]) -> Content {
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a directory can be made");
        let put = |bytes: &[u8], media_type: &str| {
            let digest = Digest::of(bytes);
            let name = digest.to_string();
            std::fs::write(blobs.join(name.trim_start_matches("sha256:")), bytes).expect("a file can be written");
            serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let layer = put(layer, "application/vnd.oci.image.layer.v1.tar+gzip");
        let config = serde_json::json!({"rootfs": {"diff_ids": [Digest::of(b"unpacked")]}}).to_string();
        let config = put(config.as_bytes(), "application/vnd.oci.image.config.v1+json");
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
        let manifest = put(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json");
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        std::fs::write(directory.join("index.json"), index).expect("a file can be written");
        let blobs = Blobs::open(directory).expect("it is a layout");
        Content::of(&BTreeMap::from([("base".to_owned(), NamedContext::Image(Arc::new(blobs)))]))
    }

    #[tokio::test]
    async fn any_range_of_a_blob_is_sent_and_other_blobs_are_not_there() {
        let layer: Vec<u8> = (0..3 * CHUNK_BYTES + 5).map(|at| (at % 251) as u8).collect();
        let directory = tempfile::tempdir().expect("a directory can be made");
        let content = content(directory.path(), &layer);
        let digest = Digest::of(&layer).to_string();
        let whole = layer.len();
        for (offset, size) in [(0, 0), (0, 1), (7, CHUNK_BYTES), (whole - 3, 100), (whole, 1), (whole + 9, 0)] {
            let request = ReadContentRequest { digest: digest.clone(), offset: offset as i64, size: size as i64 };
            let answers: Vec<_> = content.send(&request).expect("it is there").collect().await;
            let mut sent = Vec::new();
            for answer in answers {
                let answer = answer.expect("the file can be read");
                assert_eq!(answer.offset, (offset + sent.len()) as i64);
                sent.extend(answer.data);
            }
            let end = if size == 0 { whole } else { whole.min(offset + size) };
            assert_eq!(sent, layer[offset.min(whole)..end.max(offset.min(whole))], "{offset}+{size}");
        }
        for (digest, code) in [
            (Digest::of(b"other").to_string(), tonic::Code::NotFound),
            ("sha256:../x".to_owned(), tonic::Code::InvalidArgument),
        ] {
            assert_eq!(content.find(&digest).map(drop).expect_err("it is not there").code(), code, "{digest}");
        }
    }
}
