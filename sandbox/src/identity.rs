//! Who the compartment is, seen from outside: the id maps of its user namespace, and its place in the
//! kernel's choice of victims (user_namespaces(7), proc_pid_oom_score_adj(5)).

use std::fs::OpenOptions;
use std::io::{self, Write};

use nix::unistd::{getegid, geteuid};

use crate::child::Ids;
use crate::launch::Identity;
use crate::layer::Layer;
use crate::layers_off::is_off;

/// How much sooner than others a compartment is killed when the machine's memory runs out.
pub(crate) const OOM_SCORE: i32 = 500;

impl Ids {
    pub(crate) fn of(identity: Identity) -> Ids {
        match identity {
            Identity::Leased { uid, gid } if !is_off(Layer::Uid) => {
                Ids { uid, gid, change: true, own: true }
            }
            _ => {
                Ids { uid: geteuid().as_raw(), gid: getegid().as_raw(), change: false, own: false }
            }
        }
    }

    /// Maps the uid and the gid, and nothing else, into the user namespace of `pid`, each to itself.
    pub(crate) fn write_maps(self, pid: i32) -> Result<(), (String, io::Error)> {
        if !self.change {
            // The kernel lets the unprivileged map their gid only once groups cannot be dropped: a
            // group may be there to deny something.
            write(pid, "setgroups", "deny")?;
        }
        write(pid, "uid_map", &format!("{0} {0} 1", self.uid))?;
        write(pid, "gid_map", &format!("{0} {0} 1", self.gid))
    }
}

/// Makes `pid` and all that it forks a preferred victim. The launcher may be exempt (systemd's
/// OOMScoreAdjust=), and a task with −1000 would survive its own group's kill.
pub(crate) fn offer_to_oom_killer(pid: i32) -> Result<(), (String, io::Error)> {
    write(pid, "oom_score_adj", &OOM_SCORE.to_string())
}

/// One write, as the kernel wants it for maps.
fn write(pid: i32, file: &str, text: &str) -> Result<(), (String, io::Error)> {
    let path = format!("/proc/{pid}/{file}");
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| (format!("writing {text:?} to {path}"), error))
}
