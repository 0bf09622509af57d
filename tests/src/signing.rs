//! Keys of a test's own, and packages that they have signed.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use minisign::KeyPair;

use crate::service::Service;

/// A key pair.
pub struct Signer {
    pair: KeyPair,
}

impl Default for Signer {
    fn default() -> Self {
        Self { pair: KeyPair::generate_unencrypted_keypair().unwrap() }
    }
}

impl Signer {
    pub fn new() -> Self {
        Self::default()
    }

    /// One whose key may sign these plugins at a service.
    pub fn trusted(service: &Service, plugins: &[&str]) -> Self {
        let signer = Self::new();
        signer.trust(service, plugins);
        signer
    }

    /// Has a service trust it; the key's id.
    pub fn trust(&self, service: &Service, plugins: &[&str]) -> String {
        let public = self.public();
        let verb = ["trust", "add", &public, "--for"];
        let config = service.config();
        let verb = verb.into_iter().chain(plugins.iter().copied()).chain(["--config"]);
        let added = service.json(verb.map(Path::new).chain([config.as_path()]));
        added["id"].as_str().unwrap().to_owned()
    }

    /// The public key, as minisign writes it.
    pub fn public(&self) -> String {
        self.pair.pk.to_base64()
    }

    /// The text of a signature.
    pub fn signature(&self, content: &[u8]) -> String {
        let signature =
            minisign::sign(None, &self.pair.sk, Cursor::new(content), Some("a test"), None);
        signature.unwrap().into_string()
    }

    /// Writes the signature of a file beside it.
    pub fn sign(&self, file: &Path) {
        let content = std::fs::read(file).unwrap();
        std::fs::write(beside(file), self.signature(&content)).unwrap();
    }

    /// Writes a package of that content and its signature.
    pub fn package(&self, directory: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::write(beside(&path), self.signature(content)).unwrap();
        path
    }
}

/// Where the signature of a package is.
pub fn beside(package: &Path) -> PathBuf {
    let mut name = package.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}
