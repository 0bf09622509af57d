//! What the sandbox says when nothing was started, as a [`Failure`] with its code and details.

use std::io;

use bulkhead_sandbox::cgroup::CgroupError;
use bulkhead_sandbox::seccomp::CompileError;
use bulkhead_sandbox::{Layer, SpawnError, Stage};
use nix::errno::Errno;

use super::{Code, Failure};

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Self {
        let text = error.to_string();
        match error {
            SpawnError::SandboxUnavailable { layer, why, remedy } => {
                unavailable(text, layer, &why, &remedy)
            }
            SpawnError::Invalid { field, value, .. } => {
                Failure::new(Code::InvalidRequest, text).with("field", field).with("value", value)
            }
            SpawnError::Floor(_) => Failure::new(Code::InvalidRequest, text),
            SpawnError::Syscall(error) => {
                let (code, call) = match error {
                    CompileError::Never { call, .. } => (Code::PermissionDenied, call),
                    CompileError::Unknown { call, .. } => (Code::InvalidRequest, call),
                    _ => return Failure::new(Code::InvalidRequest, text),
                };
                Failure::new(code, text).with("syscall", call)
            }
            SpawnError::Cgroup(error) => error.into(),
            SpawnError::Parent { action, source } => {
                with_errno(Failure::new(Code::SandboxFailed, text).with("stage", action), &source)
            }
            SpawnError::Stage { stage, subject, source, .. } => {
                // What the kernel says of the file itself, not of the compartment around it.
                let errno = source.raw_os_error().map(Errno::from_raw);
                let of_the_entry = stage == Stage::Exec
                    && matches!(errno, Some(Errno::ENOENT | Errno::EACCES | Errno::ENOEXEC));
                let code = if of_the_entry { Code::EntryInvalid } else { Code::SandboxFailed };
                let failure = Failure::new(code, text).with("stage", stage.name());
                let failure = match subject {
                    Some(subject) => failure.with("path", subject),
                    None => failure,
                };
                with_errno(failure, &source)
            }
            SpawnError::Vanished { after, .. } => {
                Failure::new(Code::SandboxFailed, text).with("stage", after.name())
            }
            _ => Failure::new(Code::SandboxFailed, text),
        }
    }
}

impl From<CgroupError> for Failure {
    fn from(error: CgroupError) -> Self {
        let text = error.to_string();
        match error {
            CgroupError::NotMounted => {
                let remedy = "boot with systemd.unified_cgroup_hierarchy=1";
                unavailable(text, Layer::Cgroup, "no cgroup v2 hierarchy is mounted", remedy)
            }
            CgroupError::NotDelegated { why, remedy, .. } => {
                unavailable(text, Layer::Cgroup, &why, &remedy)
            }
            CgroupError::Io { source, path, .. } => with_errno(
                Failure::new(Code::SandboxFailed, text).with("stage", "cgroup").with("path", path),
                &source,
            ),
            _ => Failure::new(Code::SandboxFailed, text).with("stage", "cgroup"),
        }
    }
}

fn unavailable(text: String, layer: Layer, why: &str, remedy: &str) -> Failure {
    Failure::new(Code::SandboxUnavailable, text)
        .with("layer", layer)
        .with("why", why)
        .with("remedy", remedy)
}

fn with_errno(failure: Failure, source: &io::Error) -> Failure {
    match source.raw_os_error() {
        Some(number) => failure.with("errno", number),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stage: Stage, errno: Errno) -> Failure {
        SpawnError::Stage {
            stage,
            subject: Some("/plugin/bin/a".into()),
            source: errno.into(),
            hint: None,
        }
        .into()
    }

    #[test]
    fn a_missing_layer_is_named() {
        let failure = Failure::from(SpawnError::SandboxUnavailable {
            layer: Layer::LandlockFiles,
            why: "no landlock".into(),
            remedy: "boot a newer kernel".into(),
        });
        assert_eq!(failure.code, Code::SandboxUnavailable);
        assert_eq!(failure.details["layer"], "landlock-files");
        assert_eq!(failure.details["remedy"], "boot a newer kernel");
    }

    #[test]
    fn the_entry_and_the_compartment_fail_differently() {
        assert_eq!(at(Stage::Exec, Errno::EACCES).code, Code::EntryInvalid);
        assert_eq!(at(Stage::Exec, Errno::ENOMEM).code, Code::SandboxFailed);
        let mount = at(Stage::Mount, Errno::EACCES);
        assert_eq!(mount.code, Code::SandboxFailed);
        assert_eq!(mount.details["stage"], "mounting");
        assert_eq!(mount.details["path"], "/plugin/bin/a");
        assert_eq!(mount.details["errno"], Errno::EACCES as i32);
    }

    #[test]
    fn a_call_on_the_never_list_is_denied() {
        let never = CompileError::Never { call: "ptrace".into(), reason: "reads others' memory" };
        let failure = Failure::from(SpawnError::Syscall(never));
        assert_eq!(failure.code, Code::PermissionDenied);
        assert_eq!(failure.details["syscall"], "ptrace");
    }
}
