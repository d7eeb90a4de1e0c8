//! What goes wrong with a registry.

use std::error::Error as _;
use std::time::Duration;

use reqwest::Method;

use crate::names::{Digest, ImagePlatform, Span};

use super::answer::{Answer, RootCause, Silence};
use super::http::Access;

/// Why a registry did not do what it was asked for.
///
/// `what` is what was wanted, and of which repository: `read registry.example/acme/app:v1`. It is the whole message; why
/// is the source: the [`Answer`] of a server, or its [`Silence`].
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// An entry of `source.registry.ca_certs` is no certificate.
    #[error("entry {position} of `source.registry.ca_certs` is not a certificate in PEM form")]
    BadCaCert {
        /// Which entry; the first is 1.
        position: usize,
    },
    /// An entry of `source.registry.client_certs` is no certificate with its key.
    #[error("entry {position} of `source.registry.client_certs` is not usable: {why}")]
    BadClientCert {
        /// Which entry; the first is 1.
        position: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The registry wants to see a certificate of ours.
    #[error("cannot {what}: {host} lets in only whom it knows by certificate")]
    WantsClientCert {
        /// What was wanted.
        what: String,
        /// The server.
        host: String,
        /// Which request, and what the server says.
        #[source]
        source: Silence,
    },
    /// What is to be sent cannot be read, or is not what it says.
    #[error("cannot {what}: it cannot be read")]
    Source {
        /// What was wanted.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The repository's host cannot be part of an address.
    #[error("the registry {registry:?} is not a host that can be reached over http")]
    BadHost {
        /// The host as it was given.
        registry: String,
        /// Why.
        #[source]
        source: url::ParseError,
    },
    /// The certificates of the system cannot be read.
    #[error("cannot {what}: there is nothing to verify the registry's certificate with")]
    NoTrust {
        /// What was wanted.
        what: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot {what}: the HTTP client cannot be set up")]
    NoClient {
        /// What was wanted.
        what: String,
        /// Why.
        #[source]
        source: RootCause,
    },
    /// No connection came about.
    #[error("cannot {what}")]
    Unreachable {
        /// What was wanted.
        what: String,
        /// Which request, and why there was no answer.
        #[source]
        source: Silence,
    },
    /// The connection broke before the answer was whole.
    #[error("cannot {what}")]
    Interrupted {
        /// What was wanted.
        what: String,
        /// Which request, and what broke.
        #[source]
        source: Silence,
    },
    /// Nothing came for too long.
    #[error("cannot {what}: nothing came from {url} for {} seconds", waited.as_secs())]
    Stalled {
        /// What was wanted.
        what: String,
        /// The method.
        method: Method,
        /// The address.
        url: String,
        /// For how long.
        waited: Duration,
    },
    /// The connection ended before the answer was whole, where only its end tells the answer's.
    #[error("cannot {what}: the connection ended after {arrived} of {expected} bytes")]
    CutOff {
        /// What was wanted.
        what: String,
        /// How many bytes there should be.
        expected: u64,
        /// How many arrived.
        arrived: u64,
    },
    /// An image took too long to arrive.
    #[error("cannot {what}: the image has not arrived after {limit}")]
    TooLate {
        /// What was wanted.
        what: String,
        /// `source.registry.download_timeout`.
        limit: Span,
    },
    /// Nobody whom we trust vouches for the server's certificate.
    #[error("cannot {what}")]
    TlsUntrusted {
        /// What was wanted.
        what: String,
        /// Which request, and what the verifier says.
        #[source]
        source: Silence,
    },
    /// The server's certificate or its TLS is not acceptable for another reason: expired, another name.
    #[error("cannot {what}")]
    TlsRefused {
        /// What was wanted.
        what: String,
        /// Which request, and what the verifier says.
        #[source]
        source: Silence,
    },
    /// We spoke https, and the server answered in plain http.
    #[error("cannot {what}: {host} speaks plain http, not https")]
    SpeaksHttp {
        /// What was wanted.
        what: String,
        /// The server.
        host: String,
    },
    /// We spoke plain http, and the server wants https.
    #[error("cannot {what}: {host} speaks https, not plain http")]
    SpeaksHttps {
        /// What was wanted.
        what: String,
        /// The server.
        host: String,
    },
    /// 401: the credentials are wrong, or there were none.
    #[error("cannot {what}")]
    Unauthorized {
        /// What was wanted.
        what: String,
        /// Whether the source has credentials.
        credentials: Given,
        /// What the registry said.
        #[source]
        answer: Box<Answer>,
    },
    /// 403, or a token without the right that is needed: the account is known and may not do this.
    #[error("cannot {what}")]
    Denied {
        /// What was wanted.
        what: String,
        /// The right that it takes.
        access: Access,
        /// The repository.
        repository: String,
        /// Whether the source has credentials.
        credentials: Given,
        /// What the registry said.
        #[source]
        answer: Box<Answer>,
    },
    /// The token server to which the registry sent us gave no token.
    #[error("cannot {what}: no token was given for it")]
    TokenRefused {
        /// What was wanted.
        what: String,
        /// Whether the source has credentials.
        credentials: Given,
        /// What the token server said.
        #[source]
        answer: Box<Answer>,
    },
    /// The registry wants us to identify ourselves in a way that we cannot, or must not, follow.
    #[error("cannot {what}: the registry asks for credentials in a way that is not followed: {why}")]
    BadChallenge {
        /// What was wanted.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// 429, until our patience ended.
    #[error("cannot {what}")]
    TooManyRequests {
        /// What was wanted.
        what: String,
        /// How long the registry wants us to wait.
        retry_after: Option<Duration>,
        /// What the registry said.
        #[source]
        answer: Box<Answer>,
    },
    /// 408, 425, 500, 502, 503 or 504, until our patience ended.
    #[error("cannot {what}")]
    Server {
        /// What was wanted.
        what: String,
        /// How long the registry wants us to wait.
        retry_after: Option<Duration>,
        /// What the registry said.
        #[source]
        answer: Box<Answer>,
    },
    /// Any other answer that is not the one that was asked for.
    #[error("cannot {what}")]
    Unexpected {
        /// What was wanted.
        what: String,
        /// What the registry said.
        #[source]
        answer: Box<Answer>,
    },
    /// A read was redirected to where it is not followed, or too often.
    #[error("cannot {what}: the redirect from {url} is not followed: {why}")]
    BadRedirect {
        /// What was wanted.
        what: String,
        /// Who redirected.
        url: String,
        /// Why it is not followed.
        why: &'static str,
    },
    /// An answer with a good status that lacks what it must have.
    #[error("cannot {what}: the answer of {url} {why}")]
    BadAnswer {
        /// What was wanted.
        what: String,
        /// The address.
        url: String,
        /// What is wrong with it, as the end of a sentence.
        why: String,
    },
    /// The list of tags has a next page that is not followed.
    #[error("cannot {what}: the next page {link} is not followed: {why}")]
    BadPage {
        /// What was wanted.
        what: String,
        /// Where the next page should be.
        link: String,
        /// Why it is not followed.
        why: &'static str,
    },
    /// The bytes are not those that were asked for.
    #[error("cannot {what}: its bytes have the digest {actual}, not {expected}")]
    DigestMismatch {
        /// What was wanted.
        what: String,
        /// The digest that it should have.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// There are more or fewer bytes than the descriptor says.
    #[error("cannot {what}: it has {expected} bytes, and {actual} came")]
    SizeMismatch {
        /// What was wanted.
        what: String,
        /// How many there should be.
        expected: u64,
        /// How many came before we stopped reading.
        actual: u64,
    },
    /// It is larger than anything sensible.
    #[error("cannot {what}: it has more than {limit} bytes")]
    TooLarge {
        /// What was wanted.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// It is there, and it is something else.
    #[error("cannot use {what} as an image: it is {media_type}")]
    NotAnImage {
        /// Which manifest.
        what: String,
        /// What it is.
        media_type: String,
    },
    /// It is an index without an image for our platform.
    #[error("{what} has no image for {wanted}; it has {}", platforms.join(", "))]
    NoPlatform {
        /// Which index.
        what: String,
        /// The platform.
        wanted: ImagePlatform,
        /// What it has.
        platforms: Vec<String>,
    },
    /// An index names a manifest that the registry does not have.
    #[error("cannot read {what}: an index names it, and the registry does not have it")]
    Incomplete {
        /// The manifest that is missing.
        what: String,
    },
    /// The API of a registry's product does not know what the registry knows.
    #[error("cannot {what}: {why}")]
    Product {
        /// What was wanted.
        what: String,
        /// Why that cannot be.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// The JSON of a manifest or config cannot be read.
    #[error("cannot understand {what}")]
    BadManifest {
        /// Which manifest or config.
        what: String,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
}

/// Whether the source has credentials for the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// `username` and `password` are given.
    Yes,
    /// They are not.
    No,
}

impl RegistryError {
    /// Whether the registry did not take a login, or wants one that may do more.
    pub fn is_of_login(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Denied { .. } | Self::TokenRefused { .. })
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let check_credentials = |given: &Given| match given {
            Given::Yes => "check `source.registry.username` and `source.registry.password`",
            Given::No => "give `source.registry.username` and `source.registry.password`",
        };
        Some(match self {
            Self::BadCaCert { .. } => {
                "each entry is the text of a PEM file, with its BEGIN CERTIFICATE and END CERTIFICATE lines".to_owned()
            }
            Self::BadClientCert { .. } => {
                "`cert` and `key` are the texts of two PEM files, with their BEGIN and END lines".to_owned()
            }
            Self::WantsClientCert { .. } => {
                "give a certificate that it accepts, with its key, in `source.registry.client_certs`".to_owned()
            }
            Self::Source { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => {
                "what `params.image` names is damaged or was cut off: let the task that made it run again".to_owned()
            }
            Self::BadHost { .. } => {
                "`source.registry.repository` is host[:port]/name, such as registry.example.com/acme/app".to_owned()
            }
            Self::NoTrust { .. } => {
                "this machine has no certificates of authorities (/etc/ssl/certs); give the registry's in `source.registry.ca_certs`"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "check the host and port in `source.registry.repository`, and whether a proxy is needed to reach it from here"
                    .to_owned()
            }
            Self::TlsUntrusted { .. } => {
                "put the certificate of the authority that signed the registry's certificate into `source.registry.ca_certs`"
                    .to_owned()
            }
            Self::SpeaksHttp { .. } => {
                "if it is meant to have no TLS, set `source.registry.insecure: true`".to_owned()
            }
            Self::SpeaksHttps { .. } => "take `insecure: true` out of `source.registry`".to_owned(),
            Self::Unauthorized { credentials, .. } | Self::TokenRefused { credentials, .. } => {
                check_credentials(credentials).to_owned()
            }
            Self::Denied { credentials: Given::No, .. } => check_credentials(&Given::No).to_owned(),
            Self::Denied { credentials: Given::Yes, access, repository, .. } => {
                format!("give the account in `source.registry.username` {access} access to {repository}")
            }
            Self::TooManyRequests { .. } => {
                "wait, or use an account with a higher limit in `source.registry.username`".to_owned()
            }
            Self::NoPlatform { wanted, .. } => format!(
                "build the image for {wanted}, or say with `source.registry.platform` or `params.platform` of the get which one is wanted"
            ),
            Self::TooLate { .. } => {
                "if the registry is only slow, allow more in `source.registry.download_timeout`; the log says what broke off".to_owned()
            }
            Self::Interrupted { .. } | Self::Stalled { .. } | Self::CutOff { .. } => {
                "the network, a proxy or the registry ended the transfer: run the step again".to_owned()
            }
            Self::TlsRefused { .. } => {
                "the registry's certificate must be valid today, and name the host as `source.registry.repository` does"
                    .to_owned()
            }
            Self::Server { .. } => "the registry has a fault, which its log explains; run the step again later".to_owned(),
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } | Self::Incomplete { .. } | Self::BadManifest { .. } => {
                "the image is damaged in the registry or on the way: run the step again, and if it stays, the registry's storage must be repaired"
                    .to_owned()
            }
            Self::Product { hint, .. } => (*hint).to_owned(),
            Self::NoClient { .. }
            | Self::BadChallenge { .. }
            | Self::Unexpected { .. }
            | Self::BadRedirect { .. }
            | Self::BadAnswer { .. }
            | Self::BadPage { .. }
            | Self::TooLarge { .. }
            | Self::Source { .. }
            | Self::NotAnImage { .. } => return None,
        })
    }

    /// The causes in one line; without any, the error itself.
    pub fn why(&self) -> String {
        let causes = std::iter::successors(self.source(), |error| (*error).source()).map(ToString::to_string);
        let line = causes.collect::<Vec<_>>().join(": ");
        if line.is_empty() { self.to_string() } else { line }
    }

    /// What the server answered, if it did.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Unauthorized { answer, .. }
            | Self::Denied { answer, .. }
            | Self::TokenRefused { answer, .. }
            | Self::TooManyRequests { answer, .. }
            | Self::Server { answer, .. }
            | Self::Unexpected { answer, .. } => Some(answer),
            Self::BadCaCert { .. }
            | Self::BadClientCert { .. }
            | Self::WantsClientCert { .. }
            | Self::Source { .. }
            | Self::BadHost { .. }
            | Self::NoTrust { .. }
            | Self::NoClient { .. }
            | Self::Unreachable { .. }
            | Self::Interrupted { .. }
            | Self::Stalled { .. }
            | Self::CutOff { .. }
            | Self::TooLate { .. }
            | Self::TlsUntrusted { .. }
            | Self::TlsRefused { .. }
            | Self::SpeaksHttp { .. }
            | Self::SpeaksHttps { .. }
            | Self::BadChallenge { .. }
            | Self::BadRedirect { .. }
            | Self::BadAnswer { .. }
            | Self::BadPage { .. }
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::NotAnImage { .. }
            | Self::NoPlatform { .. }
            | Self::Incomplete { .. }
            | Self::Product { .. }
            | Self::BadManifest { .. } => None,
        }
    }

    /// Whether the same request may do better in a moment: it was no refusal.
    pub fn is_passing(&self) -> bool {
        match self.passing() {
            Passing::Soon | Passing::After(_) => true,
            Passing::Not => false,
        }
    }

    /// When the same request may do better.
    pub(super) fn passing(&self) -> Passing {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::Stalled { .. } | Self::CutOff { .. } => {
                Passing::Soon
            }
            Self::TooManyRequests { retry_after, .. } | Self::Server { retry_after, .. } => match retry_after {
                Some(wait) => Passing::After(*wait),
                None => Passing::Soon,
            },
            Self::BadCaCert { .. }
            | Self::BadClientCert { .. }
            | Self::WantsClientCert { .. }
            | Self::Source { .. }
            | Self::BadHost { .. }
            | Self::NoTrust { .. }
            | Self::NoClient { .. }
            | Self::TooLate { .. }
            | Self::TlsUntrusted { .. }
            | Self::TlsRefused { .. }
            | Self::SpeaksHttp { .. }
            | Self::SpeaksHttps { .. }
            | Self::Unauthorized { .. }
            | Self::Denied { .. }
            | Self::TokenRefused { .. }
            | Self::BadChallenge { .. }
            | Self::Unexpected { .. }
            | Self::BadRedirect { .. }
            | Self::BadAnswer { .. }
            | Self::BadPage { .. }
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::NotAnImage { .. }
            | Self::NoPlatform { .. }
            | Self::Incomplete { .. }
            | Self::Product { .. }
            | Self::BadManifest { .. } => Passing::Not,
        }
    }
}

/// Whether an error may be gone when the same is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    /// It will be the same.
    Not,
    /// In a moment.
    Soon,
    /// When the server says.
    After(Duration),
}
