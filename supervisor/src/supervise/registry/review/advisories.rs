//! Known faults of crates, from a local copy of the RustSec advisory database.
//!
//! `crates/<name>/RUSTSEC-<year>-<number>.md`: a block of TOML between fences, then the text, whose
//! first heading is the title (<https://github.com/rustsec/advisory-db>). The administrator keeps the
//! copy; nothing is fetched. Only the directories of the crates in question are read.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::crates::Crate;

/// The longest advisory that is read; the longest there is has a tenth of that.
const MAX_BYTES: u64 = 256 * 1024;
/// A crate's advisories that are read at the most.
const MAX_FILES: usize = 256;

/// An advisory that is about a crate of the plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Finding {
    /// `RUSTSEC-2021-0003`.
    pub(crate) id: String,
    #[serde(rename = "crate")]
    pub(crate) name: String,
    /// The version that the plugin has.
    #[schema(value_type = String)]
    pub(crate) version: Version,
    pub(crate) title: String,
    /// The versions in which it is mended, as requirements.
    pub(crate) patched: Vec<String>,
    /// What it informs of where it is no vulnerability: `unmaintained`, `unsound`, `notice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) informational: Option<String>,
}

/// Why the database cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error("the advisory database {path} cannot be read: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} is no advisory database: it has no directory crates; clone \
         https://github.com/rustsec/advisory-db there"
    )]
    NoDatabase { path: PathBuf },
    #[error("the advisory {path} is not as RustSec writes them: {why}")]
    Advisory { path: PathBuf, why: String },
}

/// The front block of an advisory, as far as it is needed.
#[derive(Deserialize)]
struct Front {
    advisory: About,
    #[serde(default)]
    versions: Versions,
}

#[derive(Deserialize)]
struct About {
    id: String,
    package: String,
    withdrawn: Option<toml::Value>,
    informational: Option<String>,
    /// The registry, where it is not crates.io.
    source: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Versions {
    patched: Vec<VersionReq>,
    unaffected: Vec<VersionReq>,
}

/// What the database at `path` has against the crates, by advisory.
pub(super) fn find(path: &Path, crates: &[Crate]) -> Result<Vec<Finding>, DatabaseError> {
    let all = path.join("crates");
    if !all.is_dir() {
        return Err(DatabaseError::NoDatabase { path: path.to_owned() });
    }
    let mut found = Vec::new();
    for one in crates.iter().filter(|one| one.public && is_crate_name(&one.name)) {
        for file in advisories(&all.join(&one.name))? {
            found.extend(against(&file, one)?);
        }
    }
    found.sort_by(|a, b| (&a.id, &a.version).cmp(&(&b.id, &b.version)));
    Ok(found)
}

/// The name is part of a path.
fn is_crate_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
}

/// The advisories of one crate; most have none.
fn advisories(directory: &Path) -> Result<Vec<PathBuf>, DatabaseError> {
    let failed = |source| DatabaseError::Io { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries.take(MAX_FILES) {
        let path = entry.map_err(failed)?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("RUSTSEC-") && path.extension().is_some_and(|ending| ending == "md") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The finding, if the advisory is about this version.
fn against(path: &Path, one: &Crate) -> Result<Option<Finding>, DatabaseError> {
    let text = read(path).map_err(|source| DatabaseError::Io { path: path.to_owned(), source })?;
    let unlike = |why: String| DatabaseError::Advisory { path: path.to_owned(), why };
    let (front, rest) =
        front(&text).ok_or_else(|| unlike("it has no block of toml at its begin".to_owned()))?;
    let Front { advisory, versions } =
        toml::from_str(front).map_err(|error| unlike(error.message().to_owned()))?;
    let covers = |all: &[VersionReq]| all.iter().any(|required| required.matches(&one.version));
    if advisory.withdrawn.is_some()
        || advisory.source.is_some()
        || advisory.package != one.name
        || covers(&versions.patched)
        || covers(&versions.unaffected)
    {
        return Ok(None);
    }
    let title = rest.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default();
    Ok(Some(Finding {
        id: advisory.id,
        name: one.name.clone(),
        version: one.version.clone(),
        title: title.trim().to_owned(),
        patched: versions.patched.iter().map(VersionReq::to_string).collect(),
        informational: advisory.informational,
    }))
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// The block between the fences, and what follows it.
fn front(text: &str) -> Option<(&str, &str)> {
    text.trim_start().strip_prefix("```toml")?.split_once("\n```")
}

#[cfg(test)]
#[path = "advisories_tests.rs"]
mod tests;
