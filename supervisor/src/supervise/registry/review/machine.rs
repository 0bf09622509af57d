//! What a plugin asks for that this machine cannot give it.

use bulkhead_sandbox::seccomp::{Facts, check_extra};

use crate::manifest::Manifest;

/// What it could not be enabled with here, or would be without.
pub(super) fn warnings(manifest: &Manifest) -> Vec<String> {
    let checked = check_extra(&manifest.sandbox.allow_syscalls, &Facts::WIDEST);
    let told =
        |error| format!("it cannot be enabled on this machine: [sandbox] allow_syscalls: {error}");
    checked.err().map(told).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn told(section: &str) -> Vec<String> {
        let text = format!("id = 'a'\nversion = '1.0.0'\n{section}");
        warnings(&Manifest::parse(text.as_bytes(), Path::new("x")).unwrap())
    }

    #[test]
    fn a_call_that_only_another_architecture_has_is_warned_of() {
        assert_eq!(told("[sandbox]\nallow_syscalls = ['getrusage']"), [""; 0]);
        let told = told("[sandbox]\nallow_syscalls = ['open']");
        assert_eq!(told.len(), usize::from(cfg!(target_arch = "aarch64")), "{told:?}");
    }
}
