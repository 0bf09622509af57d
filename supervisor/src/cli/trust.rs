//! `bulkhead trust`: whose signatures count. It changes the trust store itself and asks no service:
//! what can be changed over the admin API, a supervisor that was taken over could change.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueHint};
use serde_json::{Value, json};

use super::args::Global;
use super::problem::Problem;
use super::render::{self, Screen, Tone};
use super::{Ended, finish};
use crate::config::Config;
use crate::failure::{Code, Failure};
use crate::supervise::timestamp;
use crate::trust::{KeyId, PublicKey, Scope, TrustStore, TrustedKey};

/// The longest file of a public key that is looked at: two lines.
const MAX_KEY_FILE: u64 = 4096;

#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Let a key sign certain plugins; a key that is trusted already, these as well
    Add(Add),
    /// List the keys
    #[command(visible_alias = "list")]
    Ls(Place),
    /// Revoke a key: what it has signed is not installed and not started any more
    Rm(Remove),
}

/// Which trust store.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The trust store [default: `trust` of the configuration, else /etc/bulkhead/trust]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    store: Option<PathBuf>,
    /// The configuration that names it [default: /etc/bulkhead/bulkhead.toml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "store")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// A minisign public key, or the file that has it
    #[arg(value_name = "KEY|FILE", value_hint = ValueHint::FilePath)]
    key: String,
    /// The plugins that it may sign: an id, `prefix-*`, or `*` for all
    #[arg(long = "for", value_name = "ID", required = true, num_args = 1..)]
    plugins: Vec<Scope>,
    /// Whose key it is
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The key's id, as `bulkhead trust ls` shows it
    #[arg(value_name = "KEYID")]
    key: KeyId,
    #[command(flatten)]
    place: Place,
}

impl Place {
    fn open(&self) -> Result<TrustStore, Failure> {
        match &self.store {
            Some(store) => Ok(TrustStore::at(store)),
            None => Ok(TrustStore::at(Config::load(self.config.as_deref())?.trust)),
        }
    }
}

pub(super) fn run(verb: &Trust, global: &Global) -> ExitCode {
    let mut screen = Screen::stdout(global.json);
    let done = match verb {
        Trust::Add(arguments) => add(&mut screen, arguments),
        Trust::Ls(place) => list(&mut screen, place),
        Trust::Rm(arguments) => remove(&mut screen, arguments),
    };
    finish(done, global.json)
}

fn add(screen: &mut Screen, arguments: &Add) -> Result<(), Ended> {
    let Add { key, plugins, comment, place } = arguments;
    let key = read_key(key)?;
    let store = place.open().map_err(Problem::from)?;
    let key = store
        .check_writer()
        .and_then(|()| store.add(key, plugins.clone(), comment.clone(), timestamp()))
        .map_err(Problem::from)?;
    if screen.json() {
        screen.document(&shown(&key))?;
    } else {
        let plugins = join(&key.plugins);
        screen.line(&format!("key {} may sign {plugins}", key.id()))?;
    }
    Ok(screen.flush()?)
}

fn remove(screen: &mut Screen, arguments: &Remove) -> Result<(), Ended> {
    let store = arguments.place.open().map_err(Problem::from)?;
    let key = store
        .check_writer()
        .and_then(|()| store.revoke(arguments.key, timestamp()))
        .map_err(Problem::from)?;
    if screen.json() {
        screen.document(&shown(&key))?;
    } else {
        screen.line(&format!(
            "key {} is revoked; what it has signed does not start any more, and what runs goes on \
             until it is disabled",
            key.id()
        ))?;
    }
    Ok(screen.flush()?)
}

fn list(screen: &mut Screen, place: &Place) -> Result<(), Ended> {
    let store = place.open().map_err(Problem::from)?;
    let keys = store.list().map_err(Problem::from)?;
    if screen.json() {
        let keys: Vec<Value> = keys
            .iter()
            .map(|(path, key)| match key {
                Ok(key) => shown(key),
                Err(failure) => json!({ "path": path, "error": failure }),
            })
            .collect();
        screen.document(&json!({ "store": store.path(), "keys": keys }))?;
        return Ok(screen.flush()?);
    }
    let plain = |text: &str| (text.to_owned(), Tone::Plain);
    let rows: Vec<Vec<render::Cell>> = keys
        .iter()
        .map(|(path, key)| match key {
            Ok(key) => {
                let state = match &key.revoked {
                    None => ("trusted".to_owned(), Tone::Good),
                    Some(at) => (format!("revoked {at}"), Tone::Bad),
                };
                let comment = key.comment.as_deref().unwrap_or_default();
                let id = (key.id().to_string(), Tone::Strong);
                vec![id, state, plain(&join(&key.plugins)), plain(&key.added), plain(comment)]
            }
            Err(failure) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                vec![plain(&name), ("broken".to_owned(), Tone::Bad), plain(&failure.message)]
            }
        })
        .collect();
    if rows.is_empty() && screen.terminal() {
        screen
            .line(&format!("{} has no key: no package can be installed", store.path().display()))?;
    } else {
        render::table(screen, &["KEY", "STATE", "PLUGINS", "ADDED", "COMMENT"], &rows)?;
    }
    Ok(screen.flush()?)
}

fn shown(key: &TrustedKey) -> Value {
    json!({
        "id": key.id(),
        "key": key.key,
        "plugins": key.plugins,
        "comment": key.comment,
        "added": key.added,
        "revoked": key.revoked,
    })
}

fn join(plugins: &[Scope]) -> String {
    plugins.iter().map(Scope::to_string).collect::<Vec<_>>().join(", ")
}

/// The key itself, or what is in the file of that name.
fn read_key(text: &str) -> Result<PublicKey, Problem> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = Path::new(text);
    let unreadable = |error: &std::io::Error| {
        let (code, hint) = match error.kind() {
            std::io::ErrorKind::NotFound => {
                (Code::NotFound, "; give a minisign public key, or the file that has it")
            }
            _ => (Code::InvalidRequest, ""),
        };
        let message = format!("cannot read {}: {error}{hint}", path.display());
        Failure::new(code, message).with("path", path)
    };
    let file = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
    let text = std::io::read_to_string(std::io::Read::take(file, MAX_KEY_FILE))
        .map_err(|error| unreadable(&error))?;
    PublicKey::of_file(&text)
        .map_err(|error| Problem::usage(format!("{}: {error}", path.display())))
}
