//! `bulkhead new`: a plugin's project, which builds and has a test.
//!
//! What it writes is `examples/hello`, a member of the workspace, with another name: so that what
//! authors begin with is built and tested as everything else here is.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Ended;
use super::args::New;
use super::problem::Problem;
use super::render::Screen;
use super::verbs::answer;
use crate::failure::{Code, Failure};
use crate::id::PluginId;

/// The example's own name, where it is a name.
const NAME: &str = "hello";
const MANIFEST: &str = include_str!("../../../examples/hello/plugin.toml");
const PROGRAM: &str = include_str!("../../../examples/hello/src/main.rs");
const README: &str = include_str!("../../../examples/hello/README.md");
const IGNORED: &str = "/target\n/package\n*.plugin\n*.minisig\n";

pub(super) fn new(screen: &mut Screen, arguments: &New) -> Result<(), Ended> {
    let directory = match &arguments.dir {
        Some(directory) => directory.clone(),
        None => PathBuf::from(arguments.name.to_string()),
    };
    let sdk = sdk(arguments.sdk.as_deref()).map_err(Problem::from)?;
    write(&arguments.name, &directory, &sdk).map_err(Problem::from)?;
    let reply = json!({ "directory": directory, "sdk": sdk });
    answer(screen, &reply, |screen| {
        let shown = directory.display();
        screen.line(&format!(
            "{shown} is a plugin that greets; `cargo test` there is the first step"
        ))?;
        screen.line(&format!("{shown}/README.md has the others"))
    })
}

/// The directory of the SDK: the one that was named, or that of the sources which this program was
/// built in.
fn sdk(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let is_sdk =
        |path: &Path| path.join("Cargo.toml").is_file() && path.join("src/lib.rs").is_file();
    if let Some(given) = given {
        return match given.canonicalize() {
            Ok(path) if is_sdk(&path) => Ok(path),
            _ => {
                let message = format!(
                    "{} is not the directory of the SDK; give plugin-sdk of Bulkhead's sources",
                    given.display()
                );
                Err(Failure::new(Code::NotFound, message).with("what", "sdk").with("name", given))
            }
        };
    }
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.ancestors().map(|parent| parent.join("plugin-sdk"));
    beside.into_iter().find(|path| is_sdk(path)).ok_or_else(|| {
        let message = "the SDK was not found near this program; name plugin-sdk of Bulkhead's sources with --sdk";
        Failure::new(Code::NotFound, message).with("what", "sdk")
    })
}

/// Writes the project. It appears whole, or not at all.
fn write(id: &PluginId, directory: &Path, sdk: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let message = format!("cannot make {}: {error}", directory.display());
        Failure::new(Code::StorageFailed, message).with("path", directory)
    };
    if id.as_str().starts_with(|c: char| c.is_ascii_digit()) {
        let message = format!("{id} begins with a digit, which Cargo refuses; choose another name");
        return Err(Failure::new(Code::InvalidRequest, message));
    }
    if directory.symlink_metadata().is_ok() {
        let message = format!("{} exists already; name another with --dir", directory.display());
        return Err(Failure::new(Code::AlreadyExists, message)
            .with("what", "directory")
            .with("name", directory));
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let hidden = tempfile::Builder::new().prefix(".new-").tempdir_in(parent).map_err(failed)?;
    let project = hidden.path().join("project");
    std::fs::create_dir_all(project.join("src")).map_err(failed)?;
    for (name, text) in [
        ("Cargo.toml", cargo_manifest(id, sdk)),
        ("plugin.toml", named(MANIFEST, id)),
        ("README.md", named(README, id)),
        ("src/main.rs", PROGRAM.to_owned()),
        (".gitignore", IGNORED.to_owned()),
    ] {
        std::fs::write(project.join(name), text).map_err(failed)?;
    }
    std::fs::rename(&project, directory).map_err(failed)
}

/// The example's text where its name is the plugin's.
fn named(text: &str, id: &PluginId) -> String {
    text.replace(NAME, id.as_str())
}

fn cargo_manifest(id: &PluginId, sdk: &Path) -> String {
    // A path is written as TOML writes a text, whatever is in it.
    let sdk = toml::Value::String(sdk.display().to_string());
    format!(
        r#"[package]
name = "{id}"
version = "0.1.0"
edition = "2024"

[dependencies]
bulkhead-plugin-sdk = {{ path = {sdk} }}

[dev-dependencies]
bulkhead-plugin-sdk = {{ path = {sdk}, features = ["testing"] }}

# A project of its own, even inside of another.
[workspace]
"#
    )
}

#[cfg(test)]
mod tests;
