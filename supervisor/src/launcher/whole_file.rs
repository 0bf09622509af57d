//! A file that is there whole or not at all, also after a power cut.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes `path` by way of `draft`, beside it, which a failure removes and a death leaves to the next write. Who
/// must not lose it to a power cut syncs the directory as well.
///
/// # Errors
/// Those of the file system; what `path` was before, it then still is.
pub(super) fn write(path: &Path, draft: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let write = || {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(mode).open(draft)?;
        file.write_all(bytes)?;
        // Before it has its name: some file systems would leave it empty.
        file.sync_all()?;
        fs::rename(draft, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(draft);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_replaced_or_stays_and_no_draft_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let (path, draft) = (directory.path().join("it"), directory.path().join("it.draft"));
        // What a death in the midst left is longer.
        fs::write(&draft, "half of something").unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
        write(&path, &draft, 0o600, b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        write(&path, &draft, 0o600, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        write(&taken, &draft, 0o600, b"three").unwrap_err();
        assert!(taken.is_dir() && !draft.exists());
    }
}
