//! The name of an archive, which is that of its file.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::id::PluginId;

const ENDING: &str = ".tar.zst";
/// Of a file's name (NAME_MAX).
const MAX_LENGTH: usize = 255;

/// `<id>-<version>-<time>.tar.zst`: letters, digits, `-`, `+` and `.`, never hidden.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ArchiveName(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of an archive, which is <id>-<version>-<time>.tar.zst")]
pub(crate) struct BadArchiveName(String);

impl ArchiveName {
    /// For an archive that is made at `time`, RFC 3339 in UTC. A version that is longer than a
    /// file's name may be is cut off: the archive itself has it whole.
    pub(crate) fn new(id: &PluginId, version: &Version, time: &str) -> Self {
        let time: String =
            time.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
        let mut version = version.to_string();
        version.truncate(MAX_LENGTH - ENDING.len() - time.len() - id.as_str().len() - 2);
        Self(format!("{id}-{version}-{time}{ENDING}"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ArchiveName {
    type Err = BadArchiveName;

    fn from_str(text: &str) -> Result<Self, BadArchiveName> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-+.".contains(&c);
        let good = text.len() <= MAX_LENGTH
            && text.len() > ENDING.len()
            && text.ends_with(ENDING)
            && text.bytes().all(plain)
            && !text.starts_with('.');
        if good { Ok(Self(text.to_owned())) } else { Err(BadArchiveName(text.to_owned())) }
    }
}

impl TryFrom<String> for ArchiveName {
    type Error = BadArchiveName;

    fn try_from(text: String) -> Result<Self, BadArchiveName> {
        text.parse()
    }
}

impl From<ArchiveName> for String {
    fn from(name: ArchiveName) -> String {
        name.0
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
