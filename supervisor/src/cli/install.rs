//! `bulkhead install`: a package with its signature, or a directory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use hyper::Method;
use serde_json::{Value, json};

use super::Ended;
use super::args::Install;
use super::client::{Ask, Client, Form};
use super::problem::Problem;
use super::progress::Progress;
use super::render::Screen;
use super::verbs::{answer, plugin};
use crate::failure::{Code, Failure};
use crate::trust::{MAX_PACKAGE, MAX_SIGNATURE, Refusal, too_large};

pub(super) async fn install(
    client: &Client,
    screen: &mut Screen,
    arguments: &Install,
) -> Result<(), Ended> {
    let Install { path, signature } = arguments;
    let reply = if path.is_dir() {
        if signature.is_some() {
            let message = "--signature goes with a package, and this is a directory";
            return Err(Problem::usage(message).into());
        }
        directory(client, path).await?
    } else {
        package(client, path, signature.as_deref(), screen.json()).await?
    };
    answer(screen, &reply, |screen| {
        let plugin = plugin(&reply);
        screen
            .line(&format!("{} is installed; `bulkhead enable {}` starts it", plugin.id, plugin.id))
    })
}

/// Installs from a directory, which may be relative; gives the plugin.
pub(super) async fn directory(client: &Client, directory: &Path) -> Result<Value, Problem> {
    let path = directory.canonicalize().map_err(|error| cannot(directory, &error))?;
    // The service reads the directory itself, so faults of the manifest come from there.
    let body = json!({ "directory": path });
    client.json(Ask::new(Method::POST, "/v1/plugins").body(&body)).await
}

async fn package(
    client: &Client,
    path: &Path,
    signature: Option<&Path>,
    quiet: bool,
) -> Result<Value, Problem> {
    let form = form(path, signature)?;
    let size = form.size;
    let mut progress = Progress::new(quiet);
    let mut sent = 0;
    let shown = move |piece: usize| {
        sent += piece as u64;
        progress.show(if sent < size {
            format!("uploading: {} %", sent * 100 / size.max(1))
        } else {
            "verifying the signature, unpacking …".to_owned()
        });
    };
    client.upload("/v1/plugins", form.form, shown).await
}

struct Package {
    form: Form,
    size: u64,
}

/// A package as the service takes it. What it would refuse anyway is not even sent.
fn form(path: &Path, signature: Option<&Path>) -> Result<Package, Problem> {
    let file = File::open(path).map_err(|error| cannot(path, &error))?;
    let metadata = file.metadata().map_err(|error| cannot(path, &error))?;
    if !metadata.is_file() {
        let message = format!("{} is neither a package nor a directory", path.display());
        return Err(Failure::new(Code::InvalidRequest, message).with("path", path).into());
    }
    if metadata.len() > MAX_PACKAGE {
        return Err(too_large(metadata.len()).into());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let signature = match signature {
        Some(signature) => signature.to_owned(),
        None => signature_of(path),
    };
    let text = read_signature(&signature)?;
    let form = Form::new().text("signature", "text/plain", &text).file("package", &name, file);
    Ok(Package { form, size: metadata.len() })
}

/// Where the signature of a package is if nobody says: beside it.
pub(super) fn signature_of(package: &Path) -> PathBuf {
    let mut name = package.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// The text of a signature.
pub(super) fn read_signature(path: &Path) -> Result<String, Problem> {
    let unreadable = |error: &io::Error| -> Problem {
        if error.kind() != io::ErrorKind::NotFound {
            return cannot(path, error);
        }
        let mut failure = Refusal::Unsigned.of_package();
        failure.message = format!("{}; there is no {}", failure.message, path.display());
        failure.with("path", path).into()
    };
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut text = Vec::new();
    file.take(MAX_SIGNATURE as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| unreadable(&error))?;
    match String::from_utf8(text) {
        Ok(text) if text.len() <= MAX_SIGNATURE => Ok(text),
        _ => Err(Refusal::Malformed.of_package().with("path", path).into()),
    }
}

fn cannot(path: &Path, error: &io::Error) -> Problem {
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        _ => Code::InvalidRequest,
    };
    let message = format!("cannot install {}: {error}", path.display());
    Failure::new(code, message).with("path", path).into()
}
