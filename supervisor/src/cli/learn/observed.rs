//! What the runs have shown, in no order.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_sandbox::learning::{Doing, Seen, Subject};
use bulkhead_sandbox::seccomp::learning::{Decision, Decisions};
use bulkhead_sandbox::seccomp::{CompileError, Facts, Profile, SocketGrant, calls};

use super::places::{Ground, Need, needs};
use crate::manifest::HostPort;

/// So much of a kind is kept of a run: a plugin may try as much as it likes.
pub(super) const MOST: usize = 10_000;

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
    /// What it named, for whoever wants to know, and whether there was more than is kept.
    pub(super) subjects: BTreeSet<Subject>,
    pub(super) truncated: bool,
    /// What it needs for that, and whether there was more than is kept.
    pub(super) needs: BTreeSet<Need>,
    pub(super) overflowed: bool,
    /// Whether it executes programs.
    pub(super) executes: bool,
    /// Ports, of which 0 is any that is free.
    pub(super) connect: BTreeSet<u16>,
    pub(super) bind: BTreeSet<u16>,
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
    /// Takes down what a call names, before it goes on: afterwards something else may be there.
    pub(super) fn look(&mut self, subject: &Subject, ground: &Ground) {
        match subject {
            Subject::Path(path, doing) => {
                self.executes |=
                    *doing == Doing::Execute && (path.starts_with("/plugin") || path.is_file());
                for need in needs(path, *doing, ground) {
                    self.overflowed |= !keep(&mut self.needs, &need);
                }
            }
            Subject::Connect(address) => drop(self.connect.insert(address.port())),
            Subject::Bind(address) => drop(self.bind.insert(address.port())),
        }
        self.truncated |= !keep(&mut self.subjects, subject);
    }

    pub(super) fn add(&mut self, seen: &Seen, profiles: &Profiles) {
        let Some(call) = calls::name(seen.number) else { return };
        match seen.decision {
            Decision::Allow => {
                let standings = profiles.on(seen);
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
    }

    pub(super) fn join(&mut self, other: Self) {
        for (call, standings) in other.calls {
            self.calls.entry(call).or_default().extend(standings);
        }
        self.subjects.extend(other.subjects);
        self.truncated |= other.truncated;
        self.needs.extend(other.needs);
        self.overflowed |= other.overflowed;
        self.executes |= other.executes;
        self.connect.extend(other.connect);
        self.bind.extend(other.bind);
        self.impossible.extend(other.impossible);
        self.refused.extend(other.refused);
        self.hosts.extend(other.hosts);
        self.has_unkept |= other.has_unkept;
    }
}

/// Keeps one more, if there is room; tells whether it is kept.
fn keep<T: Clone + Ord>(set: &mut BTreeSet<T>, one: &T) -> bool {
    let has = set.contains(one);
    if !has && set.len() < MOST {
        set.insert(one.clone());
        return true;
    }
    has
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut observed = Observed::default();
        let ground = Ground { read: vec!["/srv/data".parse().unwrap()], ..Ground::default() };
        let subject = |number| Subject::Path(format!("/srv/data/{number}").into(), Doing::Read);
        for number in 0..MOST {
            observed.look(&subject(number), &ground);
        }
        observed.look(&subject(0), &ground);
        assert!(!observed.truncated);
        observed.look(&subject(MOST), &ground);
        assert!(observed.truncated);
        assert_eq!(observed.subjects.len(), MOST);
        // Of all of that it needs one place.
        assert_eq!((observed.needs.len(), observed.overflowed), (1, false));
    }

    #[test]
    fn what_is_needed_is_what_was_there_when_it_was_named() {
        let root = tempfile::Builder::new().prefix("learn-").tempdir_in("/var/tmp").unwrap();
        let root = root.path().canonicalize().unwrap();
        let mut observed = Observed::default();
        observed.look(&Subject::Path(root.join("new"), Doing::Write), &Ground::default());
        std::fs::write(root.join("new"), "x").unwrap();
        let directory = root.to_str().unwrap().parse().unwrap();
        assert_eq!(observed.needs, [Need::Write(directory)].into());
    }
}
