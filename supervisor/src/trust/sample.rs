//! Keys and signatures for tests, made by minisign's own crate.

use std::io::Cursor;

use minisign::KeyPair;

use super::PublicKey;

pub(crate) struct Signing {
    pair: KeyPair,
}

impl Signing {
    pub(crate) fn new() -> Self {
        Self { pair: KeyPair::generate_unencrypted_keypair().unwrap() }
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.pair.pk.to_base64().parse().unwrap()
    }

    /// The text of a detached signature.
    pub(crate) fn sign(&self, content: &[u8]) -> String {
        minisign::sign(None, &self.pair.sk, Cursor::new(content), Some("a test"), None)
            .unwrap()
            .into_string()
    }
}
