//! Whom we trust: the authorities of the system and those of `source.registry.ca_certs`. And who we are, for a registry
//! that wants to see a certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::error::RegistryError;
use crate::request::ClientCert;

/// The certificates in the texts that the user gave; each text may hold several.
pub(super) fn authorities(pems: &[String]) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let mut all = Vec::new();
    for (pem, position) in pems.iter().zip(1..) {
        let these: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect();
        let usable = |certificate: &CertificateDer<'_>| RootCertStore::empty().add(certificate.clone().into_owned());
        if these.is_empty() || these.iter().any(|certificate| usable(certificate).is_err()) {
            return Err(RegistryError::BadCaCert { position });
        }
        all.extend(these);
    }
    Ok(all)
}

/// A certificate that we show, and its key.
#[derive(Debug)]
pub(super) struct Identity(Arc<CertifiedKey>);

/// Reads a certificate and its key.
pub(super) fn identity(given: &ClientCert) -> Result<Identity, RegistryError> {
    let bad = |why| RegistryError::BadClientCert { position: given.position, why };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(given.cert.as_bytes()).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err(bad("`cert` is not a certificate in PEM form"));
    }
    // The causes are dropped: what they could add is a part of the key.
    let key = PrivateKeyDer::from_pem_slice(given.key.open().as_bytes());
    let key = key.map_err(|_| bad("`key` is not a private key in PEM form without a passphrase"))?;
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(both) => Ok(Identity(Arc::new(both))),
        Err(Error::InconsistentKeys(_)) => Err(bad("`key` is not the key of `cert`")),
        Err(_) => Err(bad("`key` is of a kind that is not supported: RSA, P-256, P-384 and Ed25519 are")),
    }
}

/// Whether a server asked for a certificate when there was none to show. Shared by all connections of a client.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// Whether one did.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// The settings of TLS. Reads the certificates of the system.
pub(super) fn settings(
    authorities: &[CertificateDer<'static>],
    identity: Option<&Identity>,
    asked: &Asked,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(authorities.iter().cloned(), Arc::clone(&provider))?;
    let trust = Trust { verifier, authorities: authorities.to_vec() };
    let settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust));
    let mut settings = match identity {
        Some(Identity(both)) => settings.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(both.clone()))),
        None => settings.with_client_cert_resolver(Arc::new(asked.clone())),
    };
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(settings)
}

/// The verifier of the platform, and one case more: a server whose own certificate the user gave.
///
/// `openssl req -x509`, with which most self-signed registries are set up, makes the certificate of an authority. Docker
/// and every client in Go take it as a server's too; webpki refuses that.
#[derive(Debug)]
struct Trust {
    verifier: Verifier,
    authorities: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        match verified {
            Err(error) if is_an_authoritys(&error) => {
                if !self.authorities.contains(certificate) {
                    return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
                }
                // webpki looks at the dates first, so they are good; that leaves the name.
                rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            Ok(_) | Err(_) => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Whether a certificate was refused only because it is an authority's.
fn is_an_authoritys(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    /// A certificate of an authority for registry.example, signed by itself.
    fn self_signed(change: impl Fn(&mut CertificateParams)) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec!["registry.example".to_owned()]).expect("the name is good");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        params.self_signed(&KeyPair::generate().expect("keys can be made")).expect("it can be signed")
    }

    fn verify(server: &rcgen::Certificate, trusted: &rcgen::Certificate, name: &str) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = authorities(&[trusted.pem()]).expect("it is a certificate");
        let verifier = Verifier::new_with_extra_roots(authorities.clone(), provider)?;
        let name = ServerName::try_from(name).expect("it is a name");
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
        Trust { verifier, authorities }.verify_server_cert(server.der(), &[], &name, &[], now).map(drop)
    }

    #[test]
    fn a_self_signed_server_is_trusted_when_its_very_certificate_was_given() {
        let given = self_signed(|_| {});
        assert_eq!(verify(&given, &given, "registry.example"), Ok(()));
        let same_name = self_signed(|_| {});
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(verify(&same_name, &given, "registry.example"), Err(unknown));
    }

    #[test]
    fn a_self_signed_server_needs_the_right_name_and_the_right_time() {
        let given = self_signed(|_| {});
        assert!(verify(&given, &given, "other.example").is_err());
        let expired = self_signed(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert!(matches!(
            verify(&expired, &expired, "registry.example"),
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { .. }))
        ));
    }

    #[test]
    fn a_text_without_a_certificate_is_refused_with_its_position() {
        let good = self_signed(|_| {}).pem();
        assert_eq!(authorities(&[format!("{good}{good}")]).expect("they are certificates").len(), 2);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "no PEM", broken, "-----BEGIN CERTIFICATE-----\nAAAA"] {
            let error = authorities(&[good.clone(), text.to_owned()]).expect_err("it is no certificate");
            assert_eq!(
                error.to_string(),
                "entry 2 of `source.registry.ca_certs` is not a certificate in PEM form",
                "{text}"
            );
        }
    }

    #[test]
    fn a_certificate_to_show_needs_its_own_key() {
        let made = || {
            let key = KeyPair::generate().expect("keys can be made");
            let params = CertificateParams::new(Vec::new()).expect("no names are good names");
            (params.self_signed(&key).expect("it can be signed").pem(), key.serialize_pem())
        };
        let ((cert, key), (_, other)) = (made(), made());
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (cert, key, why) in [
            (cert.as_str(), key.as_str(), None),
            ("hunter2", &key, Some("`cert` is not a certificate in PEM form")),
            (&cert, "hunter2", Some("`key` is not a private key in PEM form without a passphrase")),
            (&cert, encrypted, Some("`key` is not a private key in PEM form without a passphrase")),
            (&cert, &other, Some("`key` is not the key of `cert`")),
        ] {
            let host = "r.example".parse().expect("it is a host");
            let given = ClientCert { host, position: 2, cert: cert.to_owned(), key: crate::names::Secret::new(key) };
            let found = identity(&given).err().map(|error| error.to_string());
            let expected = why.map(|why| format!("entry 2 of `source.registry.client_certs` is not usable: {why}"));
            assert_eq!(found, expected);
        }
    }
}
