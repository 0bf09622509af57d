//! From what was read back to an [`Enforcement`].
//!
//! One function per group of layers; each compares what was asked with what was found and never
//! assumes the one from the other.

use crate::cgroup::{Controller, Written};
use crate::child::Ids;
use crate::cover;
use crate::enforcement::{Enforcement, Measured, Missing};
use crate::exit::bytes;
use crate::identity::OOM_SCORE;
use crate::layer::Layer;
use crate::policy::Policy;
use crate::report::{LandlockStatus, Told};
use crate::seccomp::Facts;
use crate::status::{ProcessStatus, soft_limit};

/// What to do about an identity that is shared.
pub(crate) const LEASE: &str = "run the service as root, which leases each plugin a uid";
/// In the place of an identity of one's own.
pub(crate) const PRIVATE_ROOT_STANDS_IN: &str =
    "a root and process ids of its own, with nothing of the user's but what was granted";

/// All that was read back of one start.
#[derive(Debug)]
pub(crate) struct Readings<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) ids: Ids,
    /// Why there are no namespaces, and what to do; `None`: there are.
    pub(crate) no_namespaces: Option<&'a (String, String)>,
    /// Each namespace, and whether the child's differs from ours.
    pub(crate) namespaces: &'a [(Layer, bool)],
    pub(crate) told: Told,
    pub(crate) landlock_abi: u32,
    pub(crate) rules: usize,
    /// /proc/PID/status of the program.
    pub(crate) status: Option<ProcessStatus>,
    /// /proc/PID/limits of the program.
    pub(crate) limits: Option<String>,
    /// /proc/PID/oom_score_adj of the program.
    pub(crate) oom_score: Option<i32>,
    /// The cgroup's directory; or why there is none.
    pub(crate) cgroup: Result<String, (String, String)>,
    /// The controllers that exist in it.
    pub(crate) controllers: &'a [Controller],
    pub(crate) written: &'a [Written],
    /// What stands in for a controller.
    pub(crate) stand_ins: &'a [StandIn],
    /// The filter asks instead of refusing.
    pub(crate) learns: bool,
}

/// An rlimit in the place of a controller.
#[derive(Clone, Debug)]
pub(crate) struct StandIn {
    pub(crate) layer: Layer,
    pub(crate) text: String,
}

pub(crate) struct Found {
    asked: String,
    measured: String,
    enforced: bool,
    why: String,
    remedy: String,
    stood_in_by: Option<String>,
}

impl Found {
    pub(crate) fn new(
        asked: impl Into<String>,
        measured: impl Into<String>,
        enforced: bool,
    ) -> Found {
        Found {
            asked: asked.into(),
            measured: measured.into(),
            enforced,
            why: String::new(),
            remedy: String::new(),
            stood_in_by: None,
        }
    }

    pub(crate) fn because(mut self, why: impl Into<String>, remedy: impl Into<String>) -> Found {
        self.why = why.into();
        self.remedy = remedy.into();
        self
    }

    pub(crate) fn at(self, layer: Layer) -> Measured {
        let missing = (!self.enforced).then(|| Missing {
            layer,
            why: if self.why.is_empty() {
                format!("measured: {}", self.measured)
            } else {
                self.why
            },
            remedy: if self.remedy.is_empty() {
                "run `bulkhead doctor` to see what this machine lacks".to_owned()
            } else {
                self.remedy
            },
            stood_in_by: self.stood_in_by,
        });
        Measured {
            layer,
            asked: self.asked,
            measured: self.measured,
            enforced: self.enforced,
            missing,
        }
    }
}

impl Readings<'_> {
    pub(crate) fn enforcement(&self) -> Enforcement {
        let mut layers = self.identity();
        layers.extend(self.namespaces());
        layers.extend(self.cgroup());
        layers.extend(self.resources());
        layers.extend(self.privileges());
        layers.extend(self.landlock());
        layers.push(self.seccomp());
        layers.sort_by_key(|measured| measured.layer);
        Enforcement { layers }
    }

    fn identity(&self) -> Vec<Measured> {
        let mut layers = Vec::new();
        let expected = [self.ids.uid; 4];
        let uids = self.status.as_ref().map(|status| status.uids);
        let uid = match uids {
            Some(uids) if uids == expected => {
                let measured = format!("uid {}", self.ids.uid);
                if self.ids.own {
                    Found::new(measured.clone(), measured, true)
                } else if self.ids.uid == 0 {
                    Found::new("a uid of its own", "uid 0, without capabilities", false).because(
                        "it runs as the superuser's uid, which owns the machine's files",
                        "lease it a uid of its own",
                    )
                } else {
                    let measured = format!("{measured}, the invoking user's");
                    self.shared(Found::new("a uid of its own", measured, false).because(
                        "it runs as the invoking user, whose files and processes other layers alone keep from it",
                        LEASE,
                    ))
                }
            }
            other => Found::new(format!("uid {}", self.ids.uid), format!("{other:?}"), false),
        };
        layers.push(uid.at(Layer::Uid));
        let groups = self.status.as_ref().map(|status| &status.groups);
        let none = groups.is_some_and(|groups| groups.iter().all(|&group| group == self.ids.gid));
        let measured = groups.map_or("unknown".to_owned(), |groups| match groups.len() {
            0 => "none".to_owned(),
            _ => groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
        });
        let groups = Found::new("none", measured, none)
            .because("supplementary groups cannot be dropped without privilege", LEASE);
        layers.push(self.shared(groups).at(Layer::Groups));
        layers
    }

    /// What it shares with the invoking user is of less use to it in a root of its own.
    fn shared(&self, mut found: Found) -> Found {
        if !self.ids.own && self.no_namespaces.is_none() {
            found.stood_in_by = Some(PRIVATE_ROOT_STANDS_IN.to_owned());
        }
        found
    }

    fn namespaces(&self) -> Vec<Measured> {
        let mut layers = Vec::new();
        let (why, remedy) = self.no_namespaces.cloned().unwrap_or_default();
        for layer in Layer::NAMESPACES {
            if !self.policy.involves(layer) {
                continue;
            }
            let own = self.namespaces.iter().any(|&(found, own)| found == layer && own);
            layers.push(
                Found::new("own", if own { "own" } else { "the machine's" }, own)
                    .because(&why, &remedy)
                    .at(layer),
            );
        }
        let root = self.no_namespaces.is_none();
        layers.push(
            Found::new("own", if root { "own" } else { "the machine's" }, root)
                .because(&why, &remedy)
                .at(Layer::PrivateRoot),
        );
        if self.policy.filesystem.proc {
            let found = match (root, self.told.no_proc) {
                (true, None) => Found::new("own", "own", true),
                (true, Some(errno)) => Found::new("own", "none", false).because(
                    format!("mounting it was refused: {}", errno.desc()),
                    "the kernel allows it only where nothing is mounted over parts of the machine's /proc: drop ProtectKernelTunables= and the like",
                ),
                (false, _) => Found::new("own", "the machine's", false).because(&why, &remedy),
            };
            layers.push(found.at(Layer::Proc));
        }
        layers
    }

    fn cgroup(&self) -> Vec<Measured> {
        let mut layers = Vec::new();
        layers.push(match &self.cgroup {
            Ok(path) => Found::new("own", path.clone(), true).at(Layer::Cgroup),
            Err((why, remedy)) => {
                Found::new("own", "none", false).because(why, remedy).at(Layer::Cgroup)
            }
        });
        let limits = &self.policy.limits;
        let cpu = limits.cpu.map(|cpu| {
            format!("{} % of one CPU", cpu.quota_us.saturating_mul(100) / cpu.period_us.max(1))
        });
        let io = limits.bound_io().then(|| match (limits.disks, limits.io.len()) {
            (Some(_), _) => "each disk limited".to_owned(),
            (None, count) => format!("{count} devices limited"),
        });
        let asked = [
            (Layer::Memory, Controller::Memory, limits.memory.map(bytes)),
            (Layer::Pids, Controller::Pids, limits.pids.map(|pids| pids.to_string())),
            (Layer::Cpu, Controller::Cpu, cpu),
            (Layer::Io, Controller::Io, io),
        ];
        for (layer, controller, asked) in asked {
            let Some(asked) = asked else { continue };
            let written = self.written.iter().find(|written| written.controller == controller);
            let measured = written.map_or("no controller", |written| &written.value);
            let mut found = Found::new(asked, measured, written.is_some());
            if self.cgroup.is_err() {
                found = found.because("there is no cgroup", "see the layer `cgroup`");
            } else if !self.controllers.contains(&controller) {
                found = found.because(
                    format!("the cgroup v2 controller `{controller}` is not available here"),
                    "boot with systemd.unified_cgroup_hierarchy=1, and have it delegated (Delegate=yes)",
                );
            }
            found.stood_in_by = self
                .stand_ins
                .iter()
                .find(|stand_in| stand_in.layer == layer)
                .map(|stand_in| stand_in.text.clone());
            layers.push(found.at(layer));
        }
        layers
    }

    fn resources(&self) -> Vec<Measured> {
        let mut layers = Vec::new();
        let limits = self.limits.as_deref();
        let read = |name| limits.and_then(|text| soft_limit(text, name));
        let show =
            |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
        let nofile = read("Max open files");
        let asked = self.policy.limits.nofile;
        // Lower than asked, where the machine's own hard limit is: stricter is no lack.
        let enforced = nofile.is_some_and(|found| found <= asked);
        layers.push(Found::new(asked.to_string(), show(nofile), enforced).at(Layer::OpenFiles));
        if let Some(asked) = self.policy.limits.file_size {
            let found = read("Max file size");
            let enforced = found.is_some_and(|found| found <= asked);
            layers.push(
                Found::new(bytes(asked), found.map_or("unlimited".to_owned(), bytes), enforced)
                    .at(Layer::FileSize),
            );
        }
        let score = self.oom_score;
        let measured = score.map_or("unknown".to_owned(), |score| score.to_string());
        let enforced = score.is_some_and(|score| score >= OOM_SCORE);
        layers.push(
            Found::new(format!("{OOM_SCORE} or more"), measured, enforced).at(Layer::OomScore),
        );
        layers
    }

    fn privileges(&self) -> Vec<Measured> {
        let status = self.status.as_ref();
        // Without CAP_SETPCAP the bounding set cannot be emptied.
        let bounded = self.no_namespaces.is_none();
        vec![
            capabilities(status, bounded).at(Layer::Capabilities),
            no_new_privs(status).at(Layer::NoNewPrivs),
        ]
    }

    /// Of the compartment as it was found, which may have less than was asked for.
    fn facts(&self) -> Facts {
        let own = |layer| self.namespaces.contains(&(layer, true));
        let asked =
            self.policy.facts(self.no_namespaces.is_none(), self.ids.own, self.landlock_abi);
        Facts {
            pid_namespace: own(Layer::PidNamespace),
            net_namespace: own(Layer::NetNamespace),
            ..asked
        }
    }

    fn landlock(&self) -> Vec<Measured> {
        let abi = self.landlock_abi;
        let facts = self.facts();
        let mut layers = Vec::new();
        let asked = |layer| match layer {
            Layer::LandlockFiles => format!("{} rules", self.rules),
            Layer::LandlockNetwork => "ports".to_owned(),
            _ => "signals, abstract sockets".to_owned(),
        };
        for layer in [Layer::LandlockFiles, Layer::LandlockNetwork, Layer::LandlockScopes] {
            if !self.policy.involves(layer) {
                continue;
            }
            let uncovered = cover::uncovered(layer, self.policy, &facts);
            let found = if abi == 0 {
                Found::new(asked(layer), "none", false)
            } else if self.told.landlock == LandlockStatus::None || !self.told.canary_denied {
                let found = Found::new(asked(layer), "not in force", false).because(
                    "a file that must not open did",
                    "report this: the kernel says otherwise",
                );
                layers.push(found.at(layer));
                continue;
            } else {
                let lacks = cover::lacks(layer, self.policy, &facts);
                let words = |lack: &cover::Lack| match lack.covered_by {
                    Some(cover) => format!("without {} (covered: {cover})", lack.what),
                    None => format!("without {}", lack.what),
                };
                let mut text = vec![format!("in force (ABI {abi})")];
                if layer == Layer::LandlockFiles {
                    text.push("a probe was denied".to_owned());
                }
                text.extend(lacks.iter().map(words));
                Found::new(asked(layer), text.join("; "), uncovered.is_none())
            };
            let found = match uncovered {
                Some((why, remedy)) => found.because(why, remedy),
                None => found,
            };
            layers.push(found.at(layer));
        }
        layers
    }

    fn seccomp(&self) -> Measured {
        let asked = format!("profile {}", self.policy.profile);
        if self.learns {
            return Found::new(asked, "calls are watched, not refused", false)
                .because(
                    "its calls are watched, not refused: `bulkhead learn` runs it to see them",
                    "install it, or `bulkhead run` it: both enforce the profile",
                )
                .at(Layer::Seccomp);
        }
        seccomp(asked, self.status.as_ref()).at(Layer::Seccomp)
    }
}

/// `bounded`: the bounding set must be empty too; else no_new_privs is what keeps it from mattering.
pub(crate) fn capabilities(status: Option<&ProcessStatus>, bounded: bool) -> Found {
    let none = status.is_some_and(|status| {
        let [inheritable, permitted, effective, bounding, ambient] = status.capabilities;
        let held = inheritable | permitted | effective | ambient;
        held == 0 && (bounding == 0 || !bounded && status.no_new_privs)
    });
    let measured = status.map_or("unknown".to_owned(), |status| match status.capabilities {
        [0, 0, 0, 0, 0] => "none, none to be gained".to_owned(),
        held => ["inheritable", "permitted", "effective", "bounding", "ambient"]
            .iter()
            .zip(held)
            .map(|(set, held)| format!("{set} {held:x}"))
            .collect::<Vec<_>>()
            .join(", "),
    });
    Found::new("none", measured, none)
}

pub(crate) fn no_new_privs(status: Option<&ProcessStatus>) -> Found {
    let set = status.is_some_and(|status| status.no_new_privs);
    Found::new("set", if set { "set" } else { "not set" }, set)
}

pub(crate) fn seccomp(asked: String, status: Option<&ProcessStatus>) -> Found {
    let mode = status.map(|status| status.seccomp);
    let measured = match mode {
        Some(2) => "filter in force".to_owned(),
        Some(mode) => format!("mode {mode}"),
        None => "unknown".to_owned(),
    };
    Found::new(asked, measured, mode == Some(2))
}
