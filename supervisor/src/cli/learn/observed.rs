//! What the runs have shown, in no order.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_sandbox::learning::{Seen, Subject};
use bulkhead_sandbox::seccomp::learning::{Decision, Decisions};
use bulkhead_sandbox::seccomp::{CompileError, Facts, Profile, SocketGrant, calls};

use crate::manifest::HostPort;

/// What each profile would make of a call, from the narrowest to the broadest.
pub(super) type Standings = [Standing; Profile::ALL.len()];

/// What a profile makes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Allowed,
    /// As on a kernel without it: whoever makes it has another way.
    Absent,
    Refused,
}

/// The decisions of the profiles, where TCP is granted: whether it is, the ports say.
pub(super) struct Profiles([Decisions; Profile::ALL.len()]);

impl Profiles {
    pub(super) fn of(facts: Facts) -> Result<Self, CompileError> {
        let facts = Facts { sockets: SocketGrant { tcp: true, udp: false }, ..facts };
        let [narrowest, middle, broadest] = Profile::ALL;
        let of = |profile| Decisions::of(profile, &[], &facts);
        Ok(Self([of(narrowest)?, of(middle)?, of(broadest)?]))
    }

    fn on(&self, seen: &Seen) -> Standings {
        self.0.each_ref().map(|profile| match profile.on(seen.number, &seen.arguments) {
            Decision::Allow => Standing::Allowed,
            Decision::Refuse(errno) if errno.name == "ENOSYS" => Standing::Absent,
            Decision::Refuse(_) | Decision::Kill => Standing::Refused,
        })
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// Calls that went on, and that the narrowest profile does not allow.
    pub(super) calls: BTreeMap<&'static str, BTreeSet<Standings>>,
    pub(super) subjects: BTreeSet<Subject>,
    /// Calls that no manifest can have, of which the plugin died.
    pub(super) impossible: BTreeSet<&'static str>,
    /// Calls that were refused by an error, and which.
    pub(super) refused: BTreeSet<(&'static str, &'static str)>,
    /// What the host was asked to connect to.
    pub(super) hosts: BTreeSet<HostPort>,
    /// It was refused more than the service keeps.
    pub(super) has_unkept: bool,
}

impl Observed {
    pub(super) fn add(&mut self, seen: Seen, profiles: &Profiles) {
        let Some(call) = calls::name(seen.number) else { return };
        match seen.decision {
            Decision::Allow => {
                let standings = profiles.on(&seen);
                if standings[0] != Standing::Allowed {
                    self.calls.entry(call).or_default().insert(standings);
                }
            }
            Decision::Refuse(errno) => {
                self.refused.insert((call, errno.name));
            }
            Decision::Kill => {
                self.impossible.insert(call);
            }
        }
        self.subjects.extend(seen.subjects);
    }

    pub(super) fn join(&mut self, other: Self) {
        for (call, standings) in other.calls {
            self.calls.entry(call).or_default().extend(standings);
        }
        self.subjects.extend(other.subjects);
        self.impossible.extend(other.impossible);
        self.refused.extend(other.refused);
        self.hosts.extend(other.hosts);
        self.has_unkept |= other.has_unkept;
    }
}
