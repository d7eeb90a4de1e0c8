//! TLS with an engine: whom we trust, and what we show.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::error::Cause;
use crate::request::EngineTls;

/// Which of the texts in `source.engine.tls` cannot be used, and why.
pub(super) struct Unusable {
    /// The last part of its key.
    pub key: &'static str,
    /// What is wrong with it.
    pub why: Cause,
}

/// The settings for a connection on which `protocol` is spoken, by its name in ALPN. With `ca`, only that is trusted:
/// an engine's authority is its owner's, and nobody else's certificate is its.
pub(super) fn settings(tls: &EngineTls, protocol: &'static [u8]) -> Result<Arc<ClientConfig>, Unusable> {
    let EngineTls { ca, client } = tls;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let of = |key: &'static str| move |error: rustls::Error| Unusable { key, why: error.into() };
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(of(""))?;
    let builder = match ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("ca", ca)? {
                roots.add(certificate).map_err(of("ca"))?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_platform_verifier().map_err(of("ca"))?,
    };
    let mut settings = match client {
        Some((cert, key)) => {
            let private = PrivateKeyDer::from_pem_slice(key.open().as_bytes());
            // The library's words for a bad key do not have the key, but nothing of it is shown all the same.
            let private = private.map_err(|_| Unusable { key: "key", why: "it is no private key in PEM".into() })?;
            builder.with_client_auth_cert(certificates("cert", cert)?, private).map_err(of("cert"))?
        }
        None => builder.with_no_client_auth(),
    };
    settings.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(settings))
}

fn certificates(key: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect();
    if read.is_empty() {
        return Err(Unusable { key, why: "it has no certificate in PEM".into() });
    }
    Ok(read)
}
