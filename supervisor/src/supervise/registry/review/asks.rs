//! What a plugin asks for, as an operator reads it: permissions, network, and what of the machine its
//! compartment is to have beyond the default.

use std::collections::BTreeSet;

use bulkhead_sandbox::seccomp::Profile;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::manifest::{HostPath, Manifest, Network, Permission};

/// What a plugin asks for. Limits are not in it: they take from the plugin and give it nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asks {
    pub(crate) permissions: Vec<PermissionAsk>,
    pub(crate) network: NetworkAsk,
    pub(crate) sandbox: SandboxAsk,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PermissionAsk {
    #[schema(value_type = String, example = "write:appointments")]
    pub(crate) name: Permission,
    /// The methods that it opens, of the plugins that it depends on and that are installed, as their
    /// manifests describe them.
    pub(crate) opens: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct NetworkAsk {
    /// TCP ports of any address that it may connect to.
    pub(crate) connect: Vec<u16>,
    /// TCP ports that it may listen on.
    pub(crate) bind: Vec<u16>,
    /// `host:port` pairs that it may be connected with.
    pub(crate) hosts: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SandboxAsk {
    /// A list of system calls that is longer than a plugin's.
    pub(crate) profile: Option<String>,
    /// System calls by name.
    pub(crate) allow_syscalls: Vec<String>,
    pub(crate) proc: bool,
    /// Places of this machine that it may read.
    pub(crate) read: Vec<String>,
    /// Places of this machine that it may write.
    pub(crate) write: Vec<String>,
}

impl SandboxAsk {
    /// The places of the machine, each once.
    pub(super) fn places(&self) -> Vec<HostPath> {
        let all: BTreeSet<&String> = self.read.iter().chain(&self.write).collect();
        all.into_iter().filter_map(|place| place.parse().ok()).collect()
    }
}

impl Asks {
    /// `opens` says which methods need a permission.
    pub(super) fn new(manifest: &Manifest, opens: impl Fn(&Permission) -> Vec<String>) -> Self {
        let sandbox = &manifest.sandbox;
        let permissions = manifest
            .permissions
            .iter()
            .map(|name| PermissionAsk { name: name.clone(), opens: opens(name) });
        let paths = |all: &[HostPath]| {
            all.iter().map(|path| path.as_path().display().to_string()).collect()
        };
        Self {
            permissions: permissions.collect(),
            network: match &manifest.network {
                Network::None => NetworkAsk::default(),
                Network::Ports { connect, bind } => {
                    NetworkAsk { connect: connect.clone(), bind: bind.clone(), hosts: Vec::new() }
                }
                Network::Hosts(hosts) => NetworkAsk {
                    hosts: hosts.iter().map(ToString::to_string).collect(),
                    ..NetworkAsk::default()
                },
            },
            sandbox: SandboxAsk {
                // `compute` is shorter: that takes nobody's leave.
                profile: (sandbox.profile == Profile::Program).then(|| "program".to_owned()),
                allow_syscalls: sandbox.allow_syscalls.clone(),
                proc: sandbox.proc,
                read: paths(&sandbox.read),
                write: paths(&sandbox.write),
            },
        }
    }

    /// Each thing that it asks for, as one line; what two versions ask for is compared by these.
    pub(super) fn lines(&self) -> BTreeSet<String> {
        let Self { network, sandbox, .. } = self;
        let mut lines = self.lines_of_permissions();
        let mut add = |what: &str, each: &[String]| {
            lines.extend(each.iter().map(|one| format!("{what} {one}")));
        };
        let ports = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>();
        add("connect to port", &ports(&network.connect));
        add("listen on port", &ports(&network.bind));
        add("connect to", &network.hosts);
        add("call", &sandbox.allow_syscalls);
        add("read", &sandbox.read);
        add("write", &sandbox.write);
        lines.extend(sandbox.profile.iter().map(|profile| format!("profile {profile}")));
        lines.extend(sandbox.proc.then(|| "/proc".to_owned()));
        lines
    }

    /// Those of the lines that are permissions.
    pub(super) fn lines_of_permissions(&self) -> BTreeSet<String> {
        self.permissions.iter().map(|one| line_of(&one.name)).collect()
    }
}

pub(super) fn line_of(permission: &Permission) -> String {
    format!("permission {permission}")
}
