//! The verbs that ask the service once and show its answer.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use hyper::Method;
use serde_json::{Value, json};

use super::Ended;
use super::args::{Call, Config, Disable, Enable, Usage};
use super::client::{Ask, Client, Query, encode_segments};
use super::problem::Problem;
use super::render::{self, Plugin, Screen};
use crate::failure::{Code, Failure};
use crate::id::PluginId;

/// Longer input than this is not a configuration or an argument that the service would take.
const MAX_INPUT: u64 = 16 * 1024 * 1024;

pub(super) async fn enable(
    client: &Client,
    screen: &mut Screen,
    arguments: &Enable,
) -> Result<(), Ended> {
    let config = arguments.config.as_deref().map(read_config).transpose()?;
    let reply = enable_with(client, &arguments.id, config).await?;
    answer(screen, &reply, |screen| {
        let took = reply["startedInMs"].as_f64().unwrap_or_default();
        screen.line(&format!("{} is enabled; it was ready after {took:.1} ms", arguments.id))?;
        match &plugin(&reply["plugin"]).enforcement {
            Some(enforcement) => render::brief(screen, enforcement),
            None => Ok(()),
        }
    })
}

pub(super) async fn enable_with(
    client: &Client,
    id: &PluginId,
    config: Option<Value>,
) -> Result<Value, Problem> {
    let mut ask = Ask::new(Method::POST, format!("/v1/plugins/{id}/enable"));
    if let Some(config) = config {
        ask = ask.body(&json!({ "config": config }));
    }
    client.json(ask).await
}

pub(super) async fn disable(
    client: &Client,
    screen: &mut Screen,
    arguments: &Disable,
) -> Result<(), Ended> {
    let mut body = json!({ "saveState": !arguments.no_save_state });
    if let Some(timeout) = arguments.timeout {
        body["timeout"] = json!(timeout.millis());
    }
    let reply = disable_with(client, &arguments.id, &body).await?;
    answer(screen, &reply, |screen| render::stop(screen, &reply))
}

pub(super) async fn disable_with(
    client: &Client,
    id: &PluginId,
    body: &Value,
) -> Result<Value, Problem> {
    client.json(Ask::new(Method::POST, format!("/v1/plugins/{id}/disable")).body(body)).await
}

pub(super) async fn ls(client: &Client, screen: &mut Screen) -> Result<(), Ended> {
    let reply = client.json(Ask::get("/v1/plugins")).await?;
    answer(screen, &reply, |screen| {
        let plugins = reply["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
        let plugins: Vec<Plugin> = plugins.iter().map(plugin).collect();
        render::list(screen, &plugins)
    })
}

pub(super) async fn inspect(
    client: &Client,
    screen: &mut Screen,
    id: &PluginId,
) -> Result<(), Ended> {
    let reply = client.json(Ask::get(format!("/v1/plugins/{id}"))).await?;
    answer(screen, &reply, |screen| plugin(&reply).show(screen))
}

pub(super) async fn state(
    client: &Client,
    screen: &mut Screen,
    id: &PluginId,
) -> Result<(), Ended> {
    let mut reply = json!({ "entries": [] });
    let mut after = None;
    loop {
        let path = Query::of(format!("/v1/plugins/{id}/state")).with_some("after", after);
        let mut part = client.json(Ask::get(path)).await?;
        if let (Some(all), Some(more)) =
            (reply["entries"].as_array_mut(), part["entries"].as_array_mut())
        {
            all.append(more);
        }
        match part["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    answer(screen, &reply, |screen| render::state(screen, &reply))
}

/// What a plugin used in the past.
pub(super) async fn usage(
    client: &Client,
    screen: &mut Screen,
    arguments: &Usage,
) -> Result<(), Ended> {
    let Usage { id, since, step } = arguments;
    let path = format!("/v1/plugins/{id}/usage");
    let reply =
        client.json(Ask::get(Query::of(path).with("since", since).with("step", step))).await?;
    answer(screen, &reply, |screen| {
        let points = reply["points"].as_array().map(Vec::as_slice).unwrap_or_default();
        render::usage(screen, points)
    })
}

/// As they are: the format is a program's already.
pub(super) async fn metrics(client: &Client, screen: &mut Screen) -> Result<(), Ended> {
    screen.raw(&client.bytes(Ask::get("/metrics")).await?)?;
    Ok(screen.flush()?)
}

/// Shows the configuration, or replaces it.
pub(super) async fn config(
    client: &Client,
    screen: &mut Screen,
    arguments: &Config,
) -> Result<(), Ended> {
    let Config { id, set, restart } = arguments;
    let path = format!("/v1/plugins/{id}/config");
    let Some(file) = set else {
        let reply = client.json(Ask::get(path)).await?;
        screen.document(&reply)?;
        return Ok(screen.flush()?);
    };
    let path = Query::of(path).with_some("restart", restart.then_some(true));
    let ask = Ask::new(Method::PUT, path).body(&read_config(file)?);
    let reply = client.json(ask).await?;
    answer(screen, &reply, |screen| {
        screen.line(&match reply["applied"].as_str() {
            Some("now") => format!("{id} has its new configuration"),
            Some("restarted") => format!("{id} was restarted with its new configuration"),
            Some("at-restart") => format!(
                "the configuration is kept; {id} has it once it was restarted: `bulkhead disable \
                 {id}`, `bulkhead enable {id}`, or `--restart`"
            ),
            _ => format!("the configuration is kept; {id} has it when it is enabled"),
        })
    })
}

/// The reply is the plugin's own and is shown as it gave it: indented on a terminal where it is
/// JSON, byte for byte elsewhere.
pub(super) async fn call(
    client: &Client,
    screen: &mut Screen,
    arguments: &Call,
) -> Result<(), Ended> {
    let argument = match arguments.argument.as_deref() {
        None => "null".to_owned(),
        Some("-") => read_text(Path::new("-"))?,
        Some(text) => text.to_owned(),
    };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&argument) {
        return Err(Problem::usage(format!(
            "the argument of {} is not JSON: {error}; quote it for the shell, for example '{{\"a\": 1}}'",
            arguments.method
        ))
        .into());
    }
    let path = format!("/v1/plugins/{}/call/{}", arguments.id, encode_segments(&arguments.method));
    let path = Query::of(path).with("timeout", arguments.timeout.millis());
    let mut ask = Ask::new(Method::POST, path);
    ask.body = Some(argument);
    if let Some(who) = &arguments.on_behalf_of {
        ask.headers.push(("bulkhead-on-behalf-of", who.clone()));
    }
    let reply = client.bytes(ask).await?;
    match serde_json::from_slice::<Value>(&reply) {
        Ok(value) if screen.terminal() => screen.document(&value)?,
        Ok(_) => {
            screen.raw(&reply)?;
            screen.raw(b"\n")?;
        }
        Err(_) => screen.raw(&reply)?,
    }
    Ok(screen.flush()?)
}

pub(super) fn plugin(view: &Value) -> Plugin {
    serde::Deserialize::deserialize(view).unwrap_or_default()
}

/// The reply as JSON where that was asked for, else as `show` has it.
pub(super) fn answer(
    screen: &mut Screen,
    reply: &Value,
    show: impl FnOnce(&mut Screen) -> io::Result<()>,
) -> Result<(), Ended> {
    if screen.json() {
        screen.document(reply)?;
    } else {
        show(screen)?;
    }
    Ok(screen.flush()?)
}

/// A configuration as JSON or, where the name ends in `.toml`, as TOML; `-` is JSON from standard
/// input. Whether it fits is for the plugin's manifest to say.
pub(super) fn read_config(path: &Path) -> Result<Value, Problem> {
    let text = read_text(path)?;
    let parsed = if path.extension() == Some(OsStr::new("toml")) {
        toml::from_str(&text).map_err(|error| error.to_string())
    } else {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    };
    parsed.map_err(|error| {
        let message = format!("the configuration {}: {error}", shown(path).display());
        Failure::new(Code::ConfigInvalid, message).with("path", path).into()
    })
}

pub(super) fn read_text(path: &Path) -> Result<String, Problem> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_INPUT + 1).read_to_string(&mut text))
    };
    let shown = shown(path);
    match read {
        Ok(length) if length as u64 > MAX_INPUT => {
            Err(Problem::usage(format!("{} is longer than {MAX_INPUT} bytes", shown.display())))
        }
        Ok(_) => Ok(text),
        Err(error) => {
            let code = match error.kind() {
                io::ErrorKind::NotFound => Code::NotFound,
                _ => Code::InvalidRequest,
            };
            let message = format!("cannot read {}: {error}", shown.display());
            Err(Failure::new(code, message).with("path", path).into())
        }
    }
}

fn shown(path: &Path) -> PathBuf {
    if path == Path::new("-") { PathBuf::from("standard input") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_json_or_toml_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let json = read_config(&write("c.json", "{\"a\": 1}")).unwrap();
        let toml = read_config(&write("c.toml", "a = 1")).unwrap();
        assert_eq!(json, json!({"a": 1}));
        assert_eq!(json, toml);
        let bad = read_config(&write("bad.json", "{\n\"a\": }")).unwrap_err();
        assert_eq!(bad.code, "CONFIG_INVALID");
        assert!(bad.message.contains("bad.json") && bad.message.contains("line 2"), "{bad:?}");
        let absent = read_config(&directory.path().join("absent")).unwrap_err();
        assert_eq!((absent.code.as_str(), absent.exit_code), ("NOT_FOUND", 3));
    }
}
