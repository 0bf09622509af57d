//! From what a manifest asks for to the policy of its compartment.

use bulkhead_sandbox::{CpuMax, Filesystem, Limits, Mount, Network, Policy, Strictness};

use super::Manifest;
use super::network;

impl Manifest {
    /// The policy that this manifest asks for. The mounts of the plugin's own tree and data are not
    /// in it: the launcher adds those itself, and checks the rest against its floors.
    pub(crate) fn policy(&self, strict: bool) -> Policy {
        let asked = &self.sandbox;
        let read = asked.read.iter().map(|path| Mount::read_only(path.as_path(), path.as_path()));
        let write =
            asked.write.iter().map(|path| Mount::read_write(path.as_path(), path.as_path()));
        let mounts: Vec<Mount> = read.chain(write).collect();
        Policy {
            profile: asked.profile,
            limits: Limits {
                memory: Some(self.limits.memory.bytes()),
                pids: Some(self.limits.pids),
                cpu: Some(CpuMax {
                    quota_us: self.limits.cpu.quota_us(),
                    period_us: super::CpuShare::PERIOD_US,
                }),
                disks: self.limits.disks(),
                io: Vec::new(),
                nofile: self.limits.open_files,
                file_size: Some(self.limits.storage.bytes()),
            },
            filesystem: Filesystem {
                system: true,
                places: !mounts.is_empty(),
                mounts,
                tmp_bytes: asked.tmp.bytes(),
                proc: asked.proc,
            },
            network: match &self.network {
                // Brokered: the supervisor connects and hands the socket over.
                network::Network::None | network::Network::Hosts(_) => Network::None,
                network::Network::Ports { connect, bind } => {
                    Network::Ports { connect: connect.clone(), bind: bind.clone() }
                }
            },
            allow_syscalls: asked.allow_syscalls.clone(),
            strictness: if strict { Strictness::Strict } else { Strictness::BestEffort },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bulkhead_sandbox::{Access, DiskMax};

    use super::*;

    fn policy(section: &str) -> Policy {
        let text = format!("id = 'a'\nversion = '1.0.0'\n{section}");
        Manifest::parse(text.as_bytes(), Path::new("x")).unwrap().policy(true)
    }

    #[test]
    fn every_limit_reaches_the_policy() {
        let policy = policy(
            "[limits]\nmemory = '32M'\ncpu = '20%'\npids = 9\nstorage = '1M'\nopen_files = 77\n\
             io_read = '20M'\nio_write_ops = 100\n\
             [sandbox]\nprofile = 'compute'\ntmp = '2M'\nproc = true\nallow_syscalls = ['getrusage']\n\
             read = ['/usr/share/zoneinfo']\nwrite = ['/srv/x']",
        );
        assert_eq!(policy.limits.memory, Some(32 << 20));
        assert_eq!(policy.limits.cpu, Some(CpuMax::percent(20)));
        assert_eq!(policy.limits.pids, Some(9));
        assert_eq!(policy.limits.file_size, Some(1 << 20));
        assert_eq!(policy.limits.nofile, 77);
        let disks = DiskMax { rbps: Some(20 << 20), wiops: Some(100), ..DiskMax::default() };
        assert_eq!(policy.limits.disks, Some(disks));
        assert_eq!(policy.filesystem.tmp_bytes, 2 << 20);
        assert!(policy.filesystem.proc);
        assert_eq!(policy.allow_syscalls, ["getrusage"]);
        let access: Vec<_> = policy.filesystem.mounts.iter().map(|mount| mount.access).collect();
        assert_eq!(access, [Access::ReadOnly, Access::ReadWrite]);
        assert!(policy.filesystem.places);
        assert_eq!(policy.strictness, Strictness::Strict);
    }

    #[test]
    fn hosts_are_brokered_so_the_compartment_itself_has_no_network() {
        assert_eq!(policy("").network, Network::None);
        assert_eq!(policy("").limits.disks, None);
        assert_eq!(policy("[network]\nhosts = ['a:1']").network, Network::None);
        assert_eq!(
            policy("[network]\nconnect = [5432]").network,
            Network::Ports { connect: vec![5432], bind: vec![] }
        );
    }
}
