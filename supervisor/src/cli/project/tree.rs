//! Copying and comparing what belongs to a plugin.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Copies a directory with the regular files in it. Links and the like do not go into a package.
pub(in crate::cli) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let to = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Equal for two trees with the same files, modes and contents.
pub(super) fn fingerprint(directory: &Path) -> io::Result<[u8; 32]> {
    let mut files = Vec::new();
    list(directory, &mut files)?;
    files.sort();
    let mut all = Sha256::new();
    for path in files {
        let shown = path.strip_prefix(directory).unwrap_or(&path).as_os_str().as_encoded_bytes();
        let mut file = File::open(&path)?;
        let metadata = file.metadata()?;
        all.update((shown.len() as u64).to_le_bytes());
        all.update(shown);
        all.update(metadata.permissions().mode().to_le_bytes());
        let mut content = Sha256::new();
        io::copy(&mut file, &mut Hashing(&mut content))?;
        all.update(content.finalize());
    }
    Ok(all.finalize().into())
}

struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_equal_until_a_file_a_mode_or_a_name_changes() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::write(from.join("deep/file"), "one").unwrap();
        copy(&from, &to).unwrap();
        let same = fingerprint(&from).unwrap();
        assert_eq!(fingerprint(&to).unwrap(), same);
        fs::write(to.join("deep/file"), "two").unwrap();
        assert_ne!(fingerprint(&to).unwrap(), same);
        fs::write(to.join("deep/file"), "one").unwrap();
        assert_eq!(fingerprint(&to).unwrap(), same);
        fs::set_permissions(to.join("deep/file"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_ne!(fingerprint(&to).unwrap(), same);
        fs::rename(from.join("deep/file"), from.join("deep/fil")).unwrap();
        assert_ne!(fingerprint(&from).unwrap(), same);
    }
}
