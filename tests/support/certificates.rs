//! A certificate authority for one test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority and one certificate of it, for `localhost`, 127.0.0.1 and the address of the engine's bridge.
pub struct Certificates {
    directory: TempDir,
    /// The authority's certificate, as PEM: what `ca_certs` takes.
    pub authority: String,
    /// The server's certificate as DER.
    pub certificate: Vec<u8>,
    /// The server's P-256 key as PKCS #8.
    pub key: Vec<u8>,
}

impl Certificates {
    /// Makes keys and certificates anew.
    pub fn new() -> Self {
        let authority_key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new([]).expect("no names are no wrong names");
        params.distinguished_name.push(DnType::CommonName, "git-image test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).expect("a key can sign").pem();
        let issuer = Issuer::new(params, authority_key);

        let key = KeyPair::generate().expect("a key can be made");
        let names = ["localhost", "127.0.0.1", super::engine::ADDRESS].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("the names are valid");
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let certificate = params.signed_by(&key, &issuer).expect("a key can sign");

        let directory = super::temporary();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("can be written");
        write("authority.pem", &authority);
        write("certificate.pem", &certificate.pem());
        write("key.pem", &key.serialize_pem());
        write("both.pem", &format!("{}{}", key.serialize_pem(), certificate.pem()));
        Self { directory, authority, certificate: certificate.der().to_vec(), key: key.serialize_der() }
    }

    /// The authority's certificate in a PEM file.
    pub fn authority_file(&self) -> PathBuf {
        self.path().join("authority.pem")
    }

    /// The server's certificate in a PEM file.
    pub fn certificate_file(&self) -> PathBuf {
        self.path().join("certificate.pem")
    }

    /// The server's key in a PEM file.
    pub fn key_file(&self) -> PathBuf {
        self.path().join("key.pem")
    }

    /// The server's key and certificate in one PEM file.
    pub fn both_file(&self) -> PathBuf {
        self.path().join("both.pem")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}
