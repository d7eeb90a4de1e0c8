//! A certificate authority for one test, with a server's and a client's certificate.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority and two certificates of it: a server's, for `localhost`, 127.0.0.1 and [`super::engine::ADDRESS`], and
/// a client's.
pub struct Certificates {
    directory: TempDir,
    /// The authority's certificate, as PEM: what `ca_certs` takes.
    pub authority: String,
    /// The server's certificate as DER.
    pub certificate: Vec<u8>,
    /// The server's P-256 key as PKCS #8.
    pub key: Vec<u8>,
    /// The client's certificate, as PEM.
    pub client_certificate: String,
    /// The client's key, as PEM.
    pub client_key: String,
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

        let client_key = KeyPair::generate().expect("a key can be made");
        let mut client = CertificateParams::new([]).expect("no names are no wrong names");
        client.distinguished_name.push(DnType::CommonName, "git-image test client");
        client.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let client_certificate = client.signed_by(&client_key, &issuer).expect("a key can sign").pem();
        let client_key = client_key.serialize_pem();

        let directory = super::temporary();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("can be written");
        write("authority.pem", &authority);
        write("certificate.pem", &certificate.pem());
        write("key.pem", &key.serialize_pem());
        write("client-certificate.pem", &client_certificate);
        write("client-key.pem", &client_key);
        write("both.pem", &format!("{}{}", key.serialize_pem(), certificate.pem()));
        let (certificate, key) = (certificate.der().to_vec(), key.serialize_der());
        Self { directory, authority, certificate, key, client_certificate, client_key }
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

    /// The client's certificate in a PEM file.
    pub fn client_certificate_file(&self) -> PathBuf {
        self.path().join("client-certificate.pem")
    }

    /// The client's key in a PEM file.
    pub fn client_key_file(&self) -> PathBuf {
        self.path().join("client-key.pem")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}
