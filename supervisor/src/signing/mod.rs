//! An author's side of signatures: making keys, signing, and verifying by hand.
//!
//! Keys and signatures are minisign's own formats, so its program and this one can be mixed at will.
//! Signatures are prehashed. Nothing of this runs in the service, which only verifies, by the keys
//! of the [`trust`](crate::trust) store.

mod key_pair;
mod secret_key;
mod signature;
mod verification;

pub(crate) use key_pair::{KeyPaths, check_free, make};
pub(crate) use secret_key::load;
pub(crate) use signature::{path_of, sign};
pub(crate) use verification::{By, verify};

#[cfg(test)]
mod tests;
