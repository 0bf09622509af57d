//! Paths that a manifest may name: the entry inside the tree, and places of the host.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A file inside the plugin's tree, `bin/scheduler`: relative, without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct EntryPath(String);

/// A place of the host, `/usr/share/zoneinfo`: absolute, without `.` and `..`, not the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct HostPath(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPath {
    #[error(
        "{0:?} is not a path inside the package: write for example bin/my-plugin, without a leading '/', '.' or '..'"
    )]
    Entry(String),
    #[error(
        "{0:?} is not a place of the host: write an absolute path below '/', without '.' or '..'"
    )]
    Host(String),
}

impl EntryPath {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl HostPath {
    pub(crate) fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

/// The path as it was given, if it is made of plain names only. `Path` drops inner `.` and doubled
/// slashes; what differs from its own components is refused rather than repaired.
fn is_plain(path: &Path, text: &str) -> bool {
    let rebuilt: PathBuf = path.components().collect();
    text.len() <= 4000
        && !text.contains(|c: char| c.is_control())
        && rebuilt.as_os_str() == text
        && path.components().all(|part| matches!(part, Component::Normal(_) | Component::RootDir))
}

impl TryFrom<String> for EntryPath {
    type Error = BadPath;

    fn try_from(text: String) -> Result<Self, BadPath> {
        let path = Path::new(&text);
        if path.is_relative() && !text.is_empty() && is_plain(path, &text) {
            Ok(Self(text))
        } else {
            Err(BadPath::Entry(text))
        }
    }
}

impl TryFrom<String> for HostPath {
    type Error = BadPath;

    fn try_from(text: String) -> Result<Self, BadPath> {
        let path = Path::new(&text);
        if path.is_absolute() && text != "/" && is_plain(path, &text) {
            Ok(Self(text))
        } else {
            Err(BadPath::Host(text))
        }
    }
}

impl From<EntryPath> for String {
    fn from(path: EntryPath) -> String {
        path.0
    }
}

impl From<HostPath> for String {
    fn from(path: HostPath) -> String {
        path.0
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_inside() {
        for good in ["bin/a", "a", "bin/x86_64/a", "bin/..a"] {
            assert_eq!(EntryPath::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in ["", "/bin/sh", "../x", "bin/../../x", "./a", "bin//a", "bin/a/", "a\0", "a\nb"]
        {
            assert_eq!(EntryPath::try_from(bad.to_owned()), Err(BadPath::Entry(bad.into())));
        }
    }

    #[test]
    fn a_place_is_absolute() {
        for good in ["/usr/share/zoneinfo", "/srv"] {
            assert_eq!(HostPath::try_from(good.to_owned()).unwrap().as_path(), Path::new(good));
        }
        for bad in ["", "/", "//", "srv", "/srv/../etc", "/srv/.", "/srv/", "/a\u{1b}b"] {
            assert_eq!(HostPath::try_from(bad.to_owned()), Err(BadPath::Host(bad.into())));
        }
    }
}
