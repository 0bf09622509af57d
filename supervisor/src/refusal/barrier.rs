//! What stood in the way, where it is known without naming an access: a limit, or a grant.

use bulkhead_sandbox::kernel_audit::Refusal;
use bulkhead_sandbox::{Cause, Exit, Layer};
use serde_json::{Value, json};

use super::{Refused, Settings};
use crate::failure::Failure;
use crate::manifest::ByteSize;

/// A layer, and the setting that would let more pass. Of a limit that is a line with twice as much: how much
/// would do nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Barrier {
    /// The name of a [`Layer`], or one of the two below.
    pub(crate) layer: &'static str,
    /// None: no setting does.
    pub(crate) remedy: Option<String>,
}

impl Barrier {
    /// What a plugin may ask the service for.
    pub(crate) const GRANT: &'static str = "grant";
    /// What a plugin may keep on disk: counted, or bounded by the file system.
    pub(crate) const QUOTA: &'static str = "quota";

    fn of(layer: Layer, remedy: Option<String>) -> Self {
        Self { layer: layer.name(), remedy }
    }

    /// `memory.max`, in bytes.
    pub(crate) fn memory(limit: u64) -> Self {
        Self::of(Layer::Memory, more_bytes("memory", limit))
    }

    /// `pids.max`: one more than the manifest's, for the compartment's init.
    pub(crate) fn pids(limit: u64) -> Self {
        let twice = limit.saturating_sub(1).max(1).saturating_mul(2);
        let line = u32::try_from(twice).ok().map(|pids| format!("[limits] pids = {pids}"));
        Self::of(Layer::Pids, line)
    }

    /// What a plugin keeps in all, in bytes, by its manifest.
    pub(crate) fn storage(limit: u64) -> Self {
        Self { layer: Self::QUOTA, remedy: more_bytes("storage", limit) }
    }

    /// What the file system lets it keep: root's own setting, the same for all plugins.
    pub(crate) fn hard_quota(resource: &str, limit: u64) -> Self {
        let twice = limit.saturating_mul(2);
        let option = match resource {
            "storage" => format!("--limit {}", ByteSize::new(twice)),
            _ => format!("--files {twice}"),
        };
        Self {
            layer: Self::QUOTA,
            remedy: Some(format!("`bulkhead quota-init {option}`, as root")),
        }
    }

    /// Why a process ended, where a layer ended it.
    pub(crate) fn of_death(exit: &Exit) -> Option<Self> {
        match &exit.cause {
            Cause::Seccomp => {
                let refused = exit.denied_call.as_ref().map(|call| {
                    Refused::new(&Refusal::Seccomp { call: call.clone() }, Settings::Manifest)
                });
                Some(Self::of(Layer::Seccomp, refused.and_then(|refused| refused.remedy)))
            }
            // Without a limit it was the machine's own memory.
            Cause::OutOfMemory { limit, .. } => limit.map(Self::memory),
            Cause::FileSize { limit } => {
                let line = limit.and_then(|limit| more_bytes("storage", limit));
                Some(Self::of(Layer::FileSize, line))
            }
            Cause::Code(_) | Cause::Killed | Cause::Signal(_) | Cause::Unknown => None,
        }
    }

    /// Adds it to the details of a failure.
    pub(crate) fn explain(self, failure: Failure) -> Failure {
        failure.with("layer", self.layer).with("remedy", self.remedy)
    }

    /// Adds what brought a death about to its failure.
    pub(crate) fn explain_death(exit: &Exit, failure: Failure) -> Failure {
        match Self::of_death(exit) {
            Some(barrier) => barrier.explain(failure),
            None => failure,
        }
    }

    /// Adds it to the body of an event.
    pub(crate) fn tell(self, body: &mut Value) {
        body["layer"] = json!(self.layer);
        body["remedy"] = json!(self.remedy);
    }
}

fn more_bytes(key: &str, limit: u64) -> Option<String> {
    let twice = limit.checked_mul(2)?;
    let size = ByteSize::new(twice).to_string().parse::<ByteSize>().ok()?;
    Some(format!("[limits] {key} = \"{size}\""))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bulkhead_sandbox::{Status, Usage};

    use super::*;
    use crate::manifest::Manifest;

    fn exit(cause: Cause, call: Option<&str>) -> Exit {
        Exit {
            status: Status::Unknown,
            usage: Usage::default(),
            cause,
            denied_call: call.map(str::to_owned),
            denied_accesses: Vec::new(),
        }
    }

    #[test]
    fn the_line_of_a_limit_is_one_of_the_manifest_and_raises_it() {
        for (barrier, layer, line) in [
            (Barrier::memory(64 << 20), "memory", "[limits] memory = \"128M\""),
            (Barrier::pids(65), "pids", "[limits] pids = 128"),
            (Barrier::storage(3 << 20), "quota", "[limits] storage = \"6M\""),
        ] {
            assert_eq!((barrier.layer, barrier.remedy.as_deref()), (layer, Some(line)));
            let text = format!("id = 'a'\nversion = '1.0.0'\n{}", line.replace("] ", "]\n"));
            Manifest::parse(text.as_bytes(), Path::new("x")).unwrap();
        }
    }

    #[test]
    fn a_limit_beyond_which_none_can_be_written_has_no_line() {
        for barrier in
            [Barrier::memory(u64::MAX / 2), Barrier::pids(u64::MAX), Barrier::storage(u64::MAX)]
        {
            assert_eq!(barrier.remedy, None, "{}", barrier.layer);
        }
    }

    #[test]
    fn a_death_has_the_layer_that_brought_it_about() {
        let of = |cause, call| Barrier::of_death(&exit(cause, call));
        let told = |cause, call| of(cause, call).map(|it| (it.layer, it.remedy));
        let some = |layer, line: &str| Some((layer, Some(line.to_owned())));
        let memory = Cause::OutOfMemory { limit: Some(1 << 20), peak: None };
        assert_eq!(told(memory, None), some("memory", "[limits] memory = \"2M\""));
        let file = Cause::FileSize { limit: Some(1 << 20) };
        assert_eq!(told(file, None), some("file-size", "[limits] storage = \"2M\""));
        let line = "[sandbox] allow_syscalls = [\"getrusage\"]";
        assert_eq!(told(Cause::Seccomp, Some("getrusage")), some("seccomp", line));
        for without in [Some("ptrace"), None] {
            assert_eq!(told(Cause::Seccomp, without), Some(("seccomp", None)));
        }
        let of_the_machine = Cause::OutOfMemory { limit: None, peak: None };
        for other in [of_the_machine, Cause::Code(1), Cause::Signal(11), Cause::Killed] {
            assert_eq!(told(other, None), None, "{other:?}");
        }
    }
}
