//! A version of a plugin: it signs the state that it finds with its version, and then behaves or fails
//! as the file `mode` of its package says: `<mode> <version>`.

#![allow(clippy::unused_async, reason = "a handler is async, whether it waits or not")]

use std::process::ExitCode;
use std::time::Duration;

use bulkhead_plugin_sdk::{About, Error, Host, Method, Plugin, Result, Router, about};
use serde_json::{Map, Value};

fn main() -> ExitCode {
    bulkhead_plugin_sdk::run::<Revision>()
}

/// `write`: a value under a key of the state.
struct Write;

impl Method for Write {
    const NAME: &'static str = "write";
    type Request = (String, Value);
    type Reply = ();
}

struct Revision {
    host: Host,
    mode: String,
    version: String,
}

impl Plugin for Revision {
    const ABOUT: About = about!();
    type Config = Map<String, Value>;

    fn routes() -> Router<Self> {
        Router::new().on::<Write>(Self::write)
    }

    async fn init(_: Map<String, Value>, host: Host) -> Result<Self> {
        let text = std::fs::read_to_string("/plugin/mode").map_err(|error| {
            Error::new("NO_MODE", format!("/plugin/mode cannot be read: {error}"))
        })?;
        let (mode, version) = text.trim().split_once(' ').unwrap_or((text.trim(), "?"));
        // Before anything fails: what is put back must be what was there before this.
        let mut signed: Vec<String> = host.state().get("signed").await?.unwrap_or_default();
        signed.push(version.to_owned());
        host.state().set("signed", &signed).await?;
        match mode {
            "crash-in-init" => std::process::abort(),
            "hang-in-init" => std::future::pending().await,
            "refuse" => return Err(Error::new("CONFIG_INVALID", "this is not a configuration")),
            "die-soon" => {
                tokio::task::spawn_local(async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    std::process::abort()
                });
            }
            _ => {}
        }
        Ok(Self { host, mode: mode.to_owned(), version: version.to_owned() })
    }

    async fn health(&self) -> Result<()> {
        if self.mode == "unhealthy" {
            return Err(Error::new("UNHEALTHY", "the disk behind this is gone"));
        }
        Ok(())
    }

    async fn save(&self) -> Result<()> {
        self.host.state().set("saved", &self.version).await.map(drop)
    }
}

impl Revision {
    async fn write(&self, (key, value): (String, Value)) -> Result<()> {
        self.host.state().set(&key, &value).await.map(drop)
    }
}
