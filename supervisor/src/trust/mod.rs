//! Whose code runs here: the keys that root trusts, and what a signature is worth by them.
//!
//! Theory of operation. The trust store is a directory that only root can write, one readable file
//! per key ([`key_file`]). It is changed by `bulkhead trust` itself and by nothing else: no request
//! of a supervisor or of a client leads here, so that one that was taken over cannot add a key. It is
//! read anew for each question, so that a revocation counts from the next start on, without a reload.
//!
//! A signature is minisign's, prehashed. What is parsed of a stranger's bytes is two lines of base64
//! of known lengths; the content itself is only hashed ([`verification`]).

mod change;
mod key_file;
mod key_id;
mod refusal;
#[cfg(test)]
pub(crate) mod sample;
mod scope;
mod stepwise;
mod store;
mod verification;

#[cfg(test)]
pub(crate) use change::ChangeKind;
pub(crate) use change::{Change, Snapshot, Standing};
pub(crate) use key_file::TrustedKey;
pub(crate) use key_id::{KeyId, PublicKey};
pub(crate) use refusal::Refusal;
pub(crate) use scope::Scope;
pub(crate) use stepwise::Stepwise;
pub(crate) use store::TrustStore;
pub(crate) use verification::{Claim, MAX_PACKAGE, MAX_SIGNATURE, too_large};
