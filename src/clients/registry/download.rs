//! A blob on its way, verified while it arrives. What breaks off or stalls goes on where it stopped.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE, TRANSFER_ENCODING};
use reqwest::{Response, StatusCode, Version};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::names::{Digest, Span};
use crate::say::size;

use super::answer::shown;
use super::error::RegistryError;
use super::http::{Ask, Http, Patience};
use super::model::Descriptor;
use super::{Mirror, text};

/// How often a blob goes on at most, however much arrives in between.
const RESUMES: u32 = 100;

/// Until when a download may take, and how long that is in all.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    pub(super) end: Instant,
    pub(super) limit: Span,
}

/// Who is asked for a blob, and how.
pub(super) struct Origin {
    pub(super) http: Arc<Http>,
    pub(super) ask: Ask,
}

/// A blob on its way: what it takes to verify it, and to go on where it broke off.
pub(super) struct Download {
    origin: Origin,
    /// Who is asked when the mirror fails.
    home: Option<(Arc<Mirror>, Origin)>,
    deadline: Deadline,
    patience: Patience,
    resumes: u32,
    /// `None`: it broke off.
    response: Option<Response>,
    expected: Digest,
    /// In bytes.
    size: u64,
    /// In bytes.
    arrived: u64,
    /// How much of the present answer has arrived before, in bytes.
    skip: u64,
    hasher: Sha256,
}

impl Download {
    /// Asks for the blob: the mirror first, when there is one.
    pub(super) async fn open(
        mirror: Option<(Arc<Mirror>, Origin)>,
        home: Origin,
        deadline: Deadline,
        descriptor: &Descriptor,
    ) -> Result<Self, RegistryError> {
        let (origin, home) = match mirror {
            Some((mirror, there)) => (there, Some((mirror, home))),
            None => (home, None),
        };
        let mut download = Self {
            patience: origin.http.patience(),
            origin,
            home,
            deadline,
            resumes: 0,
            response: None,
            expected: descriptor.digest,
            size: descriptor.size,
            arrived: 0,
            skip: 0,
            hasher: Sha256::new(),
        };
        let end = download.deadline.end;
        match tokio::time::timeout_at(end, download.connect()).await {
            Ok(connected) => connected.map(|()| download),
            Err(_) => Err(download.too_late()),
        }
    }

    /// The next bytes; `None` at the end.
    ///
    /// The last bytes are verified before they are given: who reads no further than the end of what is packed in the
    /// blob would not meet an error that comes after them.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        match tokio::time::timeout_at(self.deadline.end, self.part()).await {
            Ok(part) => part,
            Err(_) => Err(self.too_late()),
        }
    }

    async fn part(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let Some(response) = &mut self.response else {
                self.connect().await?;
                continue;
            };
            match self.origin.http.chunk(&self.origin.ask, response).await {
                Ok(Some(mut bytes)) => {
                    let known = self.skip.min(bytes.len() as u64);
                    self.skip -= known;
                    bytes.advance(known as usize);
                    if !bytes.is_empty() {
                        self.patience.renew();
                        return self.take(bytes).map(Some);
                    }
                }
                Ok(None) if self.arrived == self.size => {
                    if self.size == 0 {
                        self.verify()?;
                    }
                    return Ok(None);
                }
                Ok(None) => {
                    let error = if ends_with_connection(response) { self.cut_off() } else { self.wrong_size() };
                    self.recover(error).await?;
                }
                Err(error) => self.recover(error).await?,
            }
        }
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes, RegistryError> {
        self.arrived += bytes.len() as u64;
        if self.arrived > self.size {
            return Err(self.wrong_size());
        }
        self.hasher.update(&bytes);
        if self.arrived == self.size {
            self.verify()?;
        }
        Ok(bytes)
    }

    /// Asks for the blob, or for the rest of it, again while that fails for a reason that passes.
    async fn connect(&mut self) -> Result<(), RegistryError> {
        loop {
            match self.ask().await {
                Ok((response, skip)) => {
                    (self.response, self.skip) = (Some(response), skip);
                    return Ok(());
                }
                Err(error) => self.recover(error).await?,
            }
        }
    }

    /// Asks once. The answer may begin with bytes that have arrived before: so many.
    ///
    /// It is the registry that is asked, also for the rest of what came from where it redirected us: an address of that
    /// kind is good for some minutes only.
    ///
    /// Fact: RFC 9110, sections 14.2 and 15.3.7.
    async fn ask(&mut self) -> Result<(Response, u64), RegistryError> {
        let Origin { http, ask } = &mut self.origin;
        if 0 < self.arrived {
            let rest = HeaderValue::from_str(&format!("bytes={}-", self.arrived)).expect("digits are good in a header");
            ask.headers.insert(RANGE, rest);
        }
        let response = http.response(ask).await?;
        match response.status() {
            StatusCode::OK => Ok((response, self.arrived)),
            StatusCode::PARTIAL_CONTENT if 0 < self.arrived => {
                if is_rest(response.headers(), self.arrived, self.size) {
                    return Ok((response, 0));
                }
                let told = text(response.headers(), &CONTENT_RANGE).unwrap_or_default().to_owned();
                Err(RegistryError::BadAnswer {
                    what: ask.what.clone(),
                    url: shown(response.url()),
                    why: format!(
                        "is the range {told:?}, and bytes {}-{}/{} were asked for",
                        self.arrived,
                        self.size - 1,
                        self.size
                    ),
                })
            }
            _ => Err(http.refused_with(ask, response).await),
        }
    }

    /// Makes ready to ask again after an error: at the registry itself when its mirror failed, else after a pause. An
    /// error that does not pass, or one too many, is given back.
    async fn recover(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.response = None;
        if let Some((mirror, home)) = self.home.take() {
            mirror.lose(&error);
            self.patience = home.http.patience();
            self.origin = home;
            return Ok(());
        }
        if RESUMES <= self.resumes {
            return Err(error);
        }
        self.resumes += 1;
        let then = match self.arrived {
            0 => "trying again".to_owned(),
            arrived => format!("going on after {}", size(arrived)),
        };
        self.patience.wait_and(&self.origin.ask.what, error, &then).await
    }

    fn verify(&self) -> Result<(), RegistryError> {
        let actual = Digest::from_bytes(self.hasher.clone().finalize().into());
        verify(self.origin.ask.what.clone(), self.expected, actual)
    }

    fn wrong_size(&self) -> RegistryError {
        RegistryError::SizeMismatch { what: self.origin.ask.what.clone(), expected: self.size, actual: self.arrived }
    }

    fn cut_off(&self) -> RegistryError {
        RegistryError::CutOff { what: self.origin.ask.what.clone(), expected: self.size, arrived: self.arrived }
    }

    fn too_late(&self) -> RegistryError {
        RegistryError::TooLate { what: self.origin.ask.what.clone(), limit: self.deadline.limit }
    }
}

/// Whether a body is as long as its connection lasts, so that nobody can tell its end from a break.
fn ends_with_connection(response: &Response) -> bool {
    response.content_length().is_none()
        && response.version() < Version::HTTP_2
        && !response.headers().contains_key(TRANSFER_ENCODING)
}

/// Whether a `Content-Range` is from `first` to the end of what has `size` bytes.
fn is_rest(headers: &HeaderMap, first: u64, size: u64) -> bool {
    let told = text(headers, &CONTENT_RANGE).and_then(|told| told.trim().strip_prefix("bytes "));
    let Some((range, whole)) = told.and_then(|told| told.split_once('/')) else { return false };
    let is = |text: &str, number: u64| text.trim().parse() == Ok(number);
    range.split_once('-').is_some_and(|(from, to)| is(from, first) && is(to, size - 1))
        && (whole.trim() == "*" || is(whole, size))
}

/// Refuses bytes with another digest.
pub(super) fn verify(what: String, expected: Digest, actual: Digest) -> Result<(), RegistryError> {
    if expected == actual { Ok(()) } else { Err(RegistryError::DigestMismatch { what, expected, actual }) }
}
