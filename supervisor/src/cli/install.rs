//! `bulkhead install`: a package with its signature, or a directory; and the operator's word on what
//! the plugin asks for.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::Ended;
use super::args::{Install, Word};
use super::client::{Ask, Client, Form};
use super::consent::{Answered, warnings, with_word};
use super::problem::Problem;
use super::progress::Progress;
use super::render::{self, Screen};
use super::verbs::{answer, plugin};
use crate::failure::{Code, Failure};
use crate::signing::path_of;
use crate::trust::{MAX_PACKAGE, MAX_SIGNATURE, Refusal, too_large};

/// Where plugins are installed.
pub(super) const PLUGINS: &str = "/v1/plugins";

pub(super) async fn install(
    client: &Client,
    screen: &mut Screen,
    arguments: &Install,
) -> Result<(), Ended> {
    let Install { path, signature, word, dry_run, restore } = arguments;
    let bringing = Bringing { path, signature: signature.as_deref(), word, dry_run: *dry_run };
    let mut options = Map::new();
    if let Some(archive) = restore {
        options.insert("restore".to_owned(), json!(archive));
    }
    let answered = bringing.send(client, PLUGINS, options, screen.json()).await?;
    let reply = &answered.reply;
    answer(screen, reply, |screen| {
        if *dry_run {
            render::review(screen, reply)?;
            return warnings(screen, reply);
        }
        let plugin = plugin(reply);
        screen.line(&format!(
            "{} is installed; `bulkhead enable {}` starts it",
            plugin.id, plugin.id
        ))?;
        answered.warnings(screen)
    })
}

/// What to bring to the service, and the operator's word on it.
pub(super) struct Bringing<'a> {
    pub(super) path: &'a Path,
    pub(super) signature: Option<&'a Path>,
    pub(super) word: &'a Word,
    pub(super) dry_run: bool,
}

impl Bringing<'_> {
    /// Sends the package or the directory to where the API takes it, and asks for the operator's
    /// word where that is needed.
    pub(super) async fn send(
        &self,
        client: &Client,
        to: &str,
        mut options: Map<String, Value>,
        quiet: bool,
    ) -> Result<Answered, Problem> {
        let Self { path, signature, word, dry_run } = *self;
        options.extend(word.options());
        if dry_run {
            options.insert("dryRun".to_owned(), json!(true));
        }
        if !path.is_dir() {
            let send = |options| package(client, to, path, signature, options, quiet);
            return with_word(options, quiet, send).await;
        }
        if signature.is_some() {
            let message = "--signature goes with a package, and this is a directory";
            return Err(Problem::usage(message));
        }
        with_word(options, quiet, |options| directory(client, to, path, options)).await
    }
}

/// Brings a directory, which may be relative; gives the plugin.
pub(super) async fn directory(
    client: &Client,
    to: &str,
    directory: &Path,
    mut options: Map<String, Value>,
) -> Result<Value, Problem> {
    let path = directory.canonicalize().map_err(|error| cannot(directory, &error))?;
    // The service reads the directory itself, so faults of the manifest come from there.
    options.insert("directory".to_owned(), json!(path));
    client.json(Ask::new(Method::POST, to).body(&Value::Object(options))).await
}

/// The word of somebody who runs a plugin of his own in the foreground: all that it asks for.
pub(super) fn own_word() -> Map<String, Value> {
    Map::from_iter([("consent".to_owned(), json!("all"))])
}

async fn package(
    client: &Client,
    to: &str,
    path: &Path,
    signature: Option<&Path>,
    options: Map<String, Value>,
    quiet: bool,
) -> Result<Value, Problem> {
    let form = form(path, signature, options)?;
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
    client.upload(to, form.form, shown).await
}

struct Package {
    form: Form,
    size: u64,
}

/// A package as the service takes it. What it would refuse anyway is not even sent.
fn form(
    path: &Path,
    signature: Option<&Path>,
    options: Map<String, Value>,
) -> Result<Package, Problem> {
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
        None => path_of(path),
    };
    let text = read_signature(&signature)?;
    let mut form = Form::new().text("signature", "text/plain", &text);
    if !options.is_empty() {
        let options = Value::Object(options).to_string();
        form = form.text("options", "application/json", &options);
    }
    let form = form.file("package", &name, file);
    Ok(Package { form, size: metadata.len() })
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
