//! The verbs that change what is installed, what runs, and with what.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::super::permissions::Grantable;
use crate::exposure::Score;
use crate::id::PluginId;
use crate::manifest::{Permission, TimeSpan};

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// A package, `<id>-<version>.plugin`; or a directory with plugin.toml and the binary, which
    /// nobody has signed
    #[arg(value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// The package's minisign signature [default: FILE.minisig]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) signature: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) word: Word,
    /// Take up again the state, the configuration and the data of an archive, see `archives`
    #[arg(long, value_name = "ARCHIVE", conflicts_with = "dry_run")]
    pub(crate) restore: Option<String>,
    /// Only look: show what it needs and what it asks for, and install nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// A package, `<id>-<version>.plugin`; or a directory with plugin.toml and the binary, which
    /// nobody has signed
    #[arg(value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// The package's minisign signature [default: FILE.minisig]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) signature: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) word: Word,
    /// Only look at it, and say what was found
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// An older version will do, or the same one with another content
    #[arg(long)]
    pub(crate) allow_downgrade: bool,
}

/// The operator's word on what a plugin asks for.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Word {
    /// Consent to all that it asks for, without a question
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Grant only this of the permissions that it asks for; repeatable
    #[arg(long, value_name = "PERMISSION")]
    pub(crate) grant: Vec<Permission>,
    /// Refuse it if this machine would be more exposed to it than that, 0 to 10
    #[arg(long, value_name = "SCORE")]
    pub(crate) max_exposure: Option<Score>,
}

#[derive(Debug, Args)]
pub(crate) struct Enable {
    pub(crate) id: PluginId,
    /// The configuration, as JSON or TOML; `-` reads JSON from standard input. Without it the
    /// plugin keeps the configuration that it has
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    pub(crate) id: PluginId,
    /// The new configuration, as JSON or TOML; `-` reads JSON from standard input. A plugin that
    /// runs is asked to take it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) set: Option<PathBuf>,
    /// Restart a plugin that runs and does not take a configuration while it does
    #[arg(long, requires = "set")]
    pub(crate) restart: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Permit {
    pub(crate) id: PluginId,
    /// For example `read:appointments`, or a place of this machine such as `/srv/scans`
    #[arg(required = true, value_name = "PERMISSION|PATH")]
    pub(crate) what: Vec<Grantable>,
}

#[derive(Debug, Args)]
pub(crate) struct Disable {
    pub(crate) id: PluginId,
    /// The whole budget: at its end nothing of the plugin runs [default: the plugin's, or 5s]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<TimeSpan>,
    /// Do not ask it to save its state
    #[arg(long)]
    pub(crate) no_save_state: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    pub(crate) id: PluginId,
    /// Keep its state, data, logs and configuration in an archive; without it they are deleted
    #[arg(long)]
    pub(crate) preserve_data: bool,
    /// Delete what it has without a question. Only a terminal is asked
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Go on past a plugin that will not stop, or that others need
    #[arg(long)]
    pub(crate) force: bool,
}
