//! A plugin's directory that a test changes before it installs it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::plugin;

/// `plugin.toml`, `bin/<id>`, and whatever a test adds.
pub struct Package {
    id: String,
    directory: PathBuf,
    _below: TempDir,
}

impl Package {
    /// The plugin that misbehaves as `mode` says, with more lines of manifest.
    pub fn hostile(id: &str, mode: &str, lines: &str) -> Self {
        let below = tempfile::tempdir().unwrap();
        let manifest = format!("id = \"{id}\"\nversion = \"1.0.0\"\n{lines}\n");
        let directory = plugin::write(below.path(), id, &manifest, "hostile");
        let package = Self { id: id.to_owned(), directory, _below: below };
        package.write("mode", mode);
        package
    }

    /// The plugin that behaves and tells what it saw, with more lines of manifest.
    pub fn witness(id: &str, lines: &str) -> Self {
        let below = tempfile::tempdir().unwrap();
        let manifest = format!("id = \"{id}\"\nversion = \"1.0.0\"\n{lines}\n");
        let directory = plugin::write(below.path(), id, &manifest, "witness");
        Self { id: id.to_owned(), directory, _below: below }
    }

    /// A version of the plugin that signs its state and then fails as `mode` says.
    pub fn revision(id: &str, version: &str, mode: &str, lines: &str) -> Self {
        let below = tempfile::tempdir().unwrap();
        let manifest = format!("id = \"{id}\"\nversion = \"{version}\"\n{lines}\n");
        let directory = plugin::write(below.path(), id, &manifest, "revision");
        let package = Self { id: id.to_owned(), directory, _below: below };
        package.write("mode", &format!("{mode} {version}"));
        package
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }

    pub fn entry(&self) -> PathBuf {
        self.directory.join("bin").join(&self.id)
    }

    /// Writes a file of the tree.
    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.directory.join(name), content).unwrap();
    }

    /// Sets the mode of the binary.
    pub fn permit(&self, mode: u32) {
        std::fs::set_permissions(self.entry(), Permissions::from_mode(mode)).unwrap();
    }
}
