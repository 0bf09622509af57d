//! What a manifest has to ask for: decided from what was observed, and held against what it asks for now.

use std::collections::BTreeSet;

use bulkhead_sandbox::seccomp::{Profile, never_allowed};
use serde_json::{Value, json};

use super::homes::Homes;
use super::observed::{MOST, Observed, Standing, Standings};
use super::places::{Need, covers, gathered, is_delicate};
use crate::manifest::{HostPath, HostPort, Manifest, Network};
use crate::refusal::KEPT;

/// `[sandbox]` and `[network]`, as far as it is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) profile: Profile,
    pub(super) allow_syscalls: Vec<String>,
    pub(super) proc: bool,
    pub(super) read: Vec<HostPath>,
    pub(super) write: Vec<HostPath>,
    pub(super) network: Network,
}

/// What was decided.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) asked: Asked,
    /// What no manifest can say, or none unasked.
    pub(super) notes: Vec<String>,
}

impl Asked {
    /// What a manifest asks for that says nothing.
    #[cfg(test)]
    pub(super) fn nothing() -> Self {
        Self {
            profile: Profile::Plugin,
            allow_syscalls: Vec::new(),
            proc: false,
            read: Vec::new(),
            write: Vec::new(),
            network: Network::None,
        }
    }

    pub(super) fn of(manifest: &Manifest) -> Self {
        let sandbox = &manifest.sandbox;
        Self {
            profile: sandbox.profile,
            allow_syscalls: sandbox.allow_syscalls.clone(),
            proc: sandbox.proc,
            read: sandbox.read.clone(),
            write: sandbox.write.clone(),
            network: manifest.network.clone(),
        }
    }

    /// What the next run is given: all that is asked for now, and all that is needed. Hosts are those that
    /// were asked for only, as it is the refusal of a connection that is seen.
    pub(super) fn with(&self, needed: &Self) -> Self {
        let network = match (&self.network, &needed.network) {
            (Network::Ports { connect, bind }, Network::Ports { connect: more, bind: others }) => {
                Network::Ports { connect: joined(connect, more), bind: joined(bind, others) }
            }
            (Network::Ports { .. }, Network::None) => self.network.clone(),
            (_, needed) => needed.clone(),
        };
        let broader = rank(needed.profile) > rank(self.profile);
        Self {
            profile: if broader { needed.profile } else { self.profile },
            allow_syscalls: joined(&self.allow_syscalls, &needed.allow_syscalls),
            proc: self.proc || needed.proc,
            read: joined(&self.read, &needed.read),
            write: joined(&self.write, &needed.write),
            network,
        }
    }

    /// What is asked for here and not there, as lines of a manifest.
    pub(super) fn beyond(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        // That of programs is among what opens more.
        if self.profile != Profile::Program && rank(self.profile) > rank(other.profile) {
            lines.push(format!("[sandbox] profile = {:?}", self.profile.name()));
        }
        if self.proc && !other.proc {
            lines.push("[sandbox] proc = true".to_owned());
        }
        lines.extend(lacking(
            "[sandbox] allow_syscalls",
            &self.allow_syscalls,
            &other.allow_syscalls,
        ));
        lines.extend(self.reach_beyond(other));
        lines
    }

    /// Of that, what opens more of the machine: files, ports and hosts, and the profile that reads all of
    /// /etc and executes what it reads.
    pub(super) fn reach_beyond(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.profile == Profile::Program && other.profile != Profile::Program {
            lines.push(format!("[sandbox] profile = {:?}", self.profile.name()));
        }
        lines.extend(lacking("[sandbox] read", &self.read, &other.read));
        lines.extend(lacking("[sandbox] write", &self.write, &other.write));
        let (ours, theirs) = (Reached::of(&self.network), Reached::of(&other.network));
        for (key, ours, theirs) in
            [("connect", ours.connect, theirs.connect), ("bind", ours.bind, theirs.bind)]
        {
            let lacking = ours.iter().filter(|port| !theirs.contains(port));
            lines.extend(lacking.map(|port| format!("[network] {key} = [{port}]")));
        }
        lines.extend(lacking("[network] hosts", ours.hosts, theirs.hosts));
        lines
    }

    /// Places where secrets are often kept.
    pub(super) fn delicate(&self) -> Vec<&HostPath> {
        self.read.iter().chain(&self.write).filter(|place| is_delicate(place.as_path())).collect()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "sandbox": {
                "profile": self.profile,
                "allow_syscalls": self.allow_syscalls,
                "proc": self.proc,
                "read": self.read,
                "write": self.write,
            },
            "network": self.network,
        })
    }
}

/// A line for each of ours that is none of theirs.
fn lacking<T: PartialEq + ToString>(key: &str, ours: &[T], theirs: &[T]) -> Vec<String> {
    let lacking = ours.iter().filter(|one| !theirs.contains(one));
    lacking.map(|one| format!("{key} = [{}]", toml::Value::String(one.to_string()))).collect()
}

fn rank(profile: Profile) -> usize {
    Profile::ALL.iter().position(|one| *one == profile).unwrap_or_default()
}

/// Both, each once, in their order.
fn joined<T: Clone + PartialEq>(first: &[T], second: &[T]) -> Vec<T> {
    let mut all = first.to_vec();
    all.extend(second.iter().filter(|one| !first.contains(one)).cloned());
    all
}

/// A network, whichever it is.
pub(super) struct Reached<'a> {
    pub(super) connect: &'a [u16],
    pub(super) bind: &'a [u16],
    pub(super) hosts: &'a [HostPort],
}

impl<'a> Reached<'a> {
    pub(super) fn of(network: &'a Network) -> Self {
        match network {
            Network::None => Self { connect: &[], bind: &[], hosts: &[] },
            Network::Ports { connect, bind } => Self { connect, bind, hosts: &[] },
            Network::Hosts(hosts) => Self { connect: &[], bind: &[], hosts },
        }
    }
}

/// The smallest that has all that was observed. What is asked for already keeps its order.
pub(super) fn propose(observed: &Observed, present: &Asked, homes: &Homes) -> Proposal {
    let mut notes = BTreeSet::new();
    let (profile, calls) = calls(observed);
    if observed.overflowed {
        notes.insert(format!("it tried more than {MOST} places in a run; the rest was not kept"));
    }
    for call in &observed.impossible {
        let why = never_allowed(call).unwrap_or("no manifest allows it with these arguments");
        notes.insert(format!("it died of the call {call}, which no manifest can have: {why}"));
    }
    let mut allow_syscalls = present.allow_syscalls.clone();
    allow_syscalls.retain(|call| calls.contains(call.as_str()));
    allow_syscalls =
        joined(&allow_syscalls, &calls.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let (mut read, mut write, mut proc) = (BTreeSet::new(), BTreeSet::new(), false);
    for need in &observed.needs {
        match need {
            Need::Nothing => {}
            Need::Proc => proc = true,
            // That profile reads all of it.
            Need::Read(place)
                if profile == Profile::Program && place.as_path().starts_with("/etc") => {}
            Need::Read(place) => drop(read.insert(place.clone())),
            Need::Write(place) => drop(write.insert(place.clone())),
            Need::Not(why) => drop(notes.insert(why.clone())),
        }
    }
    let write = kept(&present.write, write, &[], homes);
    let read = kept(&present.read, read, &write, homes);
    let network = network(observed, present, &mut notes);
    let asked = Asked { profile, allow_syscalls, proc, read, write, network };
    Proposal { asked, notes: notes.into_iter().collect() }
}

/// The profile, and the calls besides. Only what executes programs needs the broadest: it is made for
/// programs that nobody here wrote.
fn calls(observed: &Observed) -> (Profile, BTreeSet<&'static str>) {
    let lacks = |profile: Profile| {
        let at = rank(profile);
        let refused = |standings: &Standings| standings[at] == Standing::Refused;
        let calls = observed.calls.iter();
        calls
            .filter(move |(_, used)| used.iter().any(refused))
            .map(|(call, _)| *call)
            .collect::<BTreeSet<_>>()
    };
    let profile = if observed.executes {
        Profile::Program
    } else if lacks(Profile::Compute).len() > lacks(Profile::Plugin).len() {
        Profile::Plugin
    } else {
        Profile::Compute
    };
    (profile, lacks(profile))
}

/// Places that are asked for already and were used, and those that are needed besides.
fn kept(
    present: &[HostPath],
    needed: BTreeSet<HostPath>,
    elsewhere: &[HostPath],
    homes: &Homes,
) -> Vec<HostPath> {
    let is_used =
        |place: &HostPath| needed.iter().any(|one| one.as_path().starts_with(place.as_path()));
    let kept: Vec<HostPath> = present
        .iter()
        .filter(|place| is_used(place) && !covers(elsewhere, place.as_path()))
        .cloned()
        .collect();
    let new = needed
        .iter()
        .filter(|one| !covers(&kept, one.as_path()) && !covers(elsewhere, one.as_path()))
        .cloned()
        .collect();
    joined(&kept, &gathered(new, homes).into_iter().collect::<Vec<_>>())
}

fn network(observed: &Observed, present: &Asked, notes: &mut BTreeSet<String>) -> Network {
    let (mut connect, mut bind) = (observed.connect.clone(), observed.bind.clone());
    connect.remove(&0);
    if bind.remove(&0) {
        notes.insert(
            "it listens at any port that is free, which cannot be granted; have it take one from its configuration"
                .to_owned(),
        );
    }
    if observed.has_unkept {
        notes.insert(format!(
            "the host refused it more than the {KEPT} different things that are kept, so hosts may be lacking; learn again when these are granted"
        ));
    }
    let by_itself = !connect.is_empty() || !bind.is_empty();
    let reached = Reached::of(&present.network);
    if observed.hosts.is_empty() {
        let ordered = |present: &[u16], needed: &BTreeSet<u16>| {
            let kept: Vec<u16> =
                present.iter().filter(|port| needed.contains(port)).copied().collect();
            joined(&kept, &needed.iter().copied().collect::<Vec<_>>())
        };
        if !by_itself {
            return Network::None;
        }
        return Network::Ports {
            connect: ordered(reached.connect, &connect),
            bind: ordered(reached.bind, &bind),
        };
    }
    if by_itself {
        let ports: Vec<String> = connect.union(&bind).map(ToString::to_string).collect();
        notes.insert(format!(
            "it connects through the host and by itself (ports {}), which cannot be granted together; have the host connect",
            ports.join(", ")
        ));
    }
    let kept: Vec<HostPort> =
        reached.hosts.iter().filter(|pair| observed.hosts.contains(pair)).cloned().collect();
    Network::Hosts(joined(&kept, &observed.hosts.iter().cloned().collect::<Vec<_>>()))
}

#[cfg(test)]
#[path = "proposal_tests.rs"]
mod tests;
