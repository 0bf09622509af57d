//! What a plugin asks for that this machine cannot give it.

use bulkhead_sandbox::Layer;
use bulkhead_sandbox::probe::{Machine, State};
use bulkhead_sandbox::seccomp::{Facts, check_extra};

use crate::manifest::Manifest;

/// What it could not be enabled with here, or would be without.
pub(super) fn warnings(manifest: &Manifest, machine: Option<&Machine>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Err(error) = check_extra(&manifest.sandbox.allow_syscalls, &Facts::WIDEST) {
        warnings.push(format!(
            "it cannot be enabled on this machine: [sandbox] allow_syscalls: {error}"
        ));
    }
    let io = machine.and_then(|machine| machine.layer(Layer::Io));
    if let Some(io) = io.filter(|io| io.state != State::Enforced)
        && manifest.policy(false).limits.disks.is_some()
    {
        let remedy = io.remedy.as_deref().unwrap_or("`bulkhead doctor` has the details");
        warnings.push(format!(
            "its [limits] io_read, io_write, io_read_ops and io_write_ops do not hold on this machine: \
             {}; {remedy}",
            io.detail
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bulkhead_sandbox::probe::Capability;

    use super::*;

    fn told(section: &str, machine: Option<&Machine>) -> Vec<String> {
        let text = format!("id = 'a'\nversion = '1.0.0'\n{section}");
        warnings(&Manifest::parse(text.as_bytes(), Path::new("x")).unwrap(), machine)
    }

    #[test]
    fn a_call_that_only_another_architecture_has_is_warned_of() {
        assert_eq!(told("[sandbox]\nallow_syscalls = ['getrusage']", None), [""; 0]);
        let told = told("[sandbox]\nallow_syscalls = ['open']", None);
        assert_eq!(told.len(), usize::from(cfg!(target_arch = "aarch64")), "{told:?}");
    }

    #[test]
    fn a_bound_on_disks_that_cannot_be_held_is_warned_of() {
        let machine = |state| Machine {
            kernel: "6.1".to_owned(),
            architecture: "x86_64".to_owned(),
            uid: 0,
            landlock_abi: 2,
            layers: vec![Capability {
                layer: Layer::Io,
                state,
                detail: "no controller io".to_owned(),
                remedy: Some("boot with it".to_owned()),
                stood_in_by: None,
            }],
        };
        let (without, with) = (machine(State::Missing), machine(State::Enforced));
        let bound = "[limits]\nio_read = '20M'";
        let warned = told(bound, Some(&without));
        let warning = warned.first().unwrap();
        for part in ["io_read", "no controller io", "boot with it"] {
            assert!(warning.contains(part), "{warning}");
        }
        assert_eq!(told(bound, Some(&with)), [""; 0]);
        assert_eq!(told("", Some(&without)), [""; 0]);
    }
}
