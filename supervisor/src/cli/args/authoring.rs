//! The verbs of a plugin's author.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::StrictnessFlags;
use crate::exposure::Score;
use crate::id::PluginId;

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The plugin's id, which is also the name of its program
    pub(crate) name: PluginId,
    /// Where [default: a directory of that name]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// The directory plugin-sdk of Bulkhead's sources [default: the one beside this program]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) sdk: Option<PathBuf>,
}

/// A project, and how it is to be run.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProjectFlags {
    /// The project, with plugin.toml and Cargo.toml; or a directory with plugin.toml and the binary
    #[arg(value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
    /// Configuration, as JSON or TOML: `FILE`, or `ID=FILE` where there are several plugins
    #[arg(long, value_name = "[ID=]FILE")]
    pub(crate) config: Vec<String>,
    /// A plugin that it depends on: a package, or a directory with plugin.toml and the binary;
    /// repeatable
    #[arg(long, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) with: Vec<PathBuf>,
    /// Have cargo build with optimizations
    #[arg(long)]
    pub(crate) release: bool,
    #[command(flatten)]
    pub(crate) strictness: StrictnessFlags,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    #[command(flatten)]
    pub(crate) project: ProjectFlags,
    /// Keep store, plugin data and state here, for the next time; else they last as long as this
    /// command
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    #[command(flatten)]
    pub(crate) project: ProjectFlags,
    /// Fail if what it asks for exposes a machine more than that, 0 to 10
    #[arg(long, value_name = "SCORE")]
    pub(crate) max_exposure: Option<Score>,
}

#[derive(Debug, Args)]
pub(crate) struct Learn {
    #[command(flatten)]
    pub(crate) project: ProjectFlags,
    /// Write it into plugin.toml, whose comments and order stay; else it is only shown
    #[arg(long, conflicts_with = "check")]
    pub(crate) write: bool,
    /// Fail if plugin.toml grants what was not used, or lacks what was
    #[arg(long)]
    pub(crate) check: bool,
    /// Give the plugin whatever files, ports and hosts it tries to reach, without a question. Only a
    /// terminal is asked; elsewhere it is given none beyond plugin.toml
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Run in each run, while the plugin is enabled, with BULKHEAD_SOCKET in its environment
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// A directory with plugin.toml, the programs in bin/, and assets
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "schema")]
    pub(crate) directory: Option<PathBuf>,
    /// The directory for the package, or its name there, which is always ID-VERSION.plugin
    /// [default: the current directory]
    #[arg(short, long, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) output: Option<PathBuf>,
    /// Print the JSON Schema of plugin.toml instead
    #[arg(long, exclusive = true)]
    pub(crate) schema: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The file for the secret key [default: signing.key in the user's configuration]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) secret: Option<PathBuf>,
    /// The file for the public key [default: beside the secret one, ending in .pub]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) public: Option<PathBuf>,
    /// Do not encrypt the secret key: who has the file can sign
    #[arg(long, conflicts_with = "password_file")]
    pub(crate) no_password: bool,
    #[command(flatten)]
    pub(crate) password: PasswordFlag,
    /// Replace keys that are there. What they have signed stays signed by them
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordFlag {
    /// Take the password from the first line of this file; else the terminal is asked
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The package
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The secret key [default: signing.key in the user's configuration]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) secret: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) password: PasswordFlag,
    /// Where to write the signature [default: FILE.minisig]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) signature: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The package
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// By this public key: its file, or the key itself
    #[arg(short, long, value_name = "FILE|KEY", value_hint = ValueHint::FilePath)]
    pub(crate) public: Option<String>,
    /// By the keys that are trusted here [default: this machine's trust store]
    #[arg(long, value_name = "DIR", conflicts_with = "public", value_hint = ValueHint::DirPath)]
    pub(crate) trust: Option<PathBuf>,
    /// The signature [default: FILE.minisig]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) signature: Option<PathBuf>,
}
