//! The link between launcher and supervisor: a SOCK_SEQPACKET pair.
//!
//! Theory of operation. The supervisor asks ([`Request`]) and the launcher answers each request
//! once, by its number, in any order ([`Message::Reply`]); in between the launcher tells what
//! happened by itself ([`Message::Exited`], [`Message::Shutdown`]). One packet is one value, encoded
//! by the protocol's codec with its limits; descriptors ride on the packet that speaks of them.
//! Nothing here trusts the other side: the launcher treats each request as if a compromised
//! supervisor had written it.
//!
//! A supervisor that starts, for the first time or again, gets [`Message::Welcome`] first, then one
//! [`Message::Adopt`] for each plugin that runs and one [`Message::Exited`] for each exit that no
//! supervisor has acknowledged, then [`Message::Current`]. So start and restart are one path.

use std::time::Duration;

use crate::manifest::MAX_STOP;

mod message;
mod socket;

pub(crate) use message::{
    Admission, Adopted, Advisories, Exited, Hidden, Json, Lease, Message, Numbered, Reply, Request,
    RequestNumber, Settings, Signer, Spawn, Spawned, Stage, StageName, StorageUsage,
};
pub(crate) use socket::{LinkError, Received, decode, encode};

/// A packet is at most this long; a longer one is refused by the sender.
pub(crate) const MAX_PACKET: usize = 128 * 1024;
/// Installations, starts, removals and counts under way at once; more are refused, for want of [`JOBS`].
pub(crate) const MAX_JOBS: usize = 64;
/// What the launcher has no room for, as a refusal names it: any job, or one more count of a storage.
pub(crate) const JOBS: &str = "jobs";
pub(crate) const MEASURES: &str = "measures";
/// Leases in one reply: with ids of the longest it fills half of a packet.
pub(crate) const LEASES: usize = 512;
/// How far away the end of a stop can be: what a manifest or an operator can give it at most, and what comes
/// before. What is asked for beyond is this.
pub(crate) const LONGEST_STOP: Duration =
    MAX_STOP.duration().saturating_add(Duration::from_secs(60));
/// Where a test holds an operation: the launcher passes it on. Debug builds only.
#[cfg(debug_assertions)]
pub(crate) const PAUSE_VARIABLE: &str = "BULKHEAD_PAUSE_AT";
/// The clock of the schedules, for a test: `<RFC 3339>` or `<RFC 3339>*<how many times as fast>`.
#[cfg(debug_assertions)]
pub(crate) const CLOCK_VARIABLE: &str = "BULKHEAD_SCHEDULE_CLOCK";
/// The most descriptors on one packet: session, standard output, standard error.
pub(crate) const MAX_DESCRIPTORS: usize = 3;
