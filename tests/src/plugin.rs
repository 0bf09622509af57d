//! Directories of plugins to install: manifests of the tests' own around the built programs.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::program;

/// `crates/…` of this workspace, from the sources.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The directory of an example, as an author would have it: its own manifest and its binary.
pub fn example(below: &Path, name: &str) -> PathBuf {
    let manifest = workspace().join("examples").join(name).join("plugin.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    write(below, name, &manifest, name)
}

/// The misbehaving plugin under the id `hostile`, in `mode`, with more lines of manifest.
pub fn hostile(below: &Path, mode: &str, lines: &str) -> PathBuf {
    let manifest = format!("id = \"hostile\"\nversion = \"1.0.0\"\n{lines}\n");
    let directory = write(below, "hostile", &manifest, "hostile");
    std::fs::write(directory.join("mode"), mode).unwrap();
    directory
}

/// `below/id` with that manifest and the built `program` as its entry.
pub fn write(below: &Path, id: &str, manifest: &str, program: &str) -> PathBuf {
    let directory = below.join(id);
    std::fs::create_dir_all(directory.join("bin")).unwrap();
    std::fs::write(directory.join("plugin.toml"), manifest).unwrap();
    let entry = directory.join("bin").join(id);
    std::fs::copy(program::path(program), &entry).unwrap();
    std::fs::set_permissions(&entry, Permissions::from_mode(0o755)).unwrap();
    directory
}
