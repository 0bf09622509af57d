//! `main` of a plugin.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_ipc_protocol::PROTOCOL_VERSION;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::bootstrap::{self, Bootstrap};
use crate::host::{Arrivals, LogSink, Registry};
use crate::plugin::Plugin;
use crate::serve::{Ending, Given, Patience, serve};

/// The environment variable with the resume time in seconds: how long a plugin lives without a session.
pub const RESUME_SECS: &str = "BULKHEAD_RESUME_SECS";

/// The environment variable with the topics that the manifest subscribes to, with commas between them.
const SUBSCRIBES: &str = "BULKHEAD_SUBSCRIBES";

/// The whole of a plugin's `main`: `fn main() -> ExitCode { bulkhead_plugin_sdk::run::<MyPlugin>() }`.
///
/// Started by Bulkhead it serves until it is asked to stop. Started by hand it explains itself; with `--describe` it
/// prints what it is as JSON, with `--version` its version.
///
/// Exit codes: 0 after an orderly end; 1 when saving or shutting down failed, or did not end in time; 2 when started
/// by hand.
pub fn run<P: Plugin>() -> ExitCode {
    let argument = std::env::args().nth(1);
    match argument.as_deref() {
        Some("--describe") => return print(&describe::<P>(), ExitCode::SUCCESS),
        Some("--version" | "-V") => {
            let version = format!("{} {}", P::ABOUT.name, P::ABOUT.version);
            return print(&version, ExitCode::SUCCESS);
        }
        Some("--help" | "-h") => return print(&help::<P>(), ExitCode::SUCCESS),
        _ => {}
    }
    let Some(socket) = bootstrap::take() else {
        eprint!("{}", help::<P>());
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let ending = runtime.and_then(|runtime| {
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async {
            let mut terminate = signal(SignalKind::terminate())?;
            // Control-C on a terminal goes to every process there; the supervisor decides what it means for us.
            let _interrupt = signal(SignalKind::interrupt())?;
            let terminated = async move {
                terminate.recv().await;
            };
            let given = Given {
                connections: Arrivals::default(),
                log_sink: LogSink::standard_error(),
                metrics: Registry::default(),
                subscribed: subscribed(),
                patience: patience(),
            };
            let sessions = Bootstrap::new(socket, given.connections.clone())?;
            Ok(serve::<P, _>(sessions, terminated, given).await)
        })
    });
    match ending {
        Ok(Ending { faults }) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(Ending { faults }) => {
            for fault in faults {
                eprintln!("while stopping: {fault}");
            }
            ExitCode::FAILURE
        }
        Err(err) => {
            eprintln!("cannot start: {err}");
            ExitCode::FAILURE
        }
    }
}

/// What the manifest subscribes to. A host of before does not say.
fn subscribed() -> Option<Vec<String>> {
    let text = std::env::var(SUBSCRIBES).ok()?;
    Some(text.split(',').filter(|topic| !topic.is_empty()).map(str::to_owned).collect())
}

fn patience() -> Patience {
    let mut patience = Patience::default();
    match std::env::var(RESUME_SECS).map(|text| (text.parse::<u32>(), text)) {
        Ok((Ok(seconds), _)) => patience.resume = Duration::from_secs(seconds.into()),
        Ok((Err(_), text)) => {
            eprintln!(
                "{RESUME_SECS}: \"{text}\" is not a number of seconds; using {}",
                patience.resume.as_secs()
            );
        }
        Err(_) => {}
    }
    patience
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    // A closed pipe, as with `| head`, is no failure of ours.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    code
}

/// What the plugin is, for tools.
fn describe<P: Plugin>() -> String {
    let about = P::ABOUT;
    let routes = P::routes();
    let description = json!({
        "name": about.name,
        "version": about.version,
        "description": about.description,
        "sdk": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL_VERSION.to_string(),
        "methods": routes.methods().collect::<Vec<_>>(),
        "events": routes.topics().collect::<Vec<_>>(),
    });
    format!("{description:#}")
}

fn help<P: Plugin>() -> String {
    let about = P::ABOUT;
    let routes = P::routes();
    let methods = listed(routes.methods());
    let events = listed(routes.topics());
    let dash = if about.description.is_empty() { "" } else { ": " };
    format!(
        "\
{name} {version}{dash}{description}

This is a plugin for Bulkhead. It is not run by hand, but by a supervisor:
    bulkhead run DIRECTORY       with the plugin.toml and the binary, to try it out
    bulkhead enable {name}       once it is installed

Methods: {methods}
Hears:   {events}

Options:
    --describe   what it is, as JSON
    --version    its version
    --help       this text
",
        name = about.name,
        version = about.version,
        description = about.description,
    )
}

fn listed(names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
