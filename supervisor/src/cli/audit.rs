//! The verb `audit`.

use serde_json::{Value, json};

use super::Ended;
use super::args::{Audit, AuditCheck};
use super::client::{Ask, Client, Query};
use super::render::{self, Screen};
use crate::audit_chain::Head;

/// How many rows are asked for at a time.
const PAGE: usize = 1000;

pub(super) async fn run(
    client: &Client,
    screen: &mut Screen,
    arguments: &Audit,
) -> Result<(), Ended> {
    match &arguments.check {
        Some(AuditCheck::Verify { head }) => verify(client, screen, head.as_ref()).await,
        None => list(client, screen, arguments).await,
    }
}

/// Every row that is kept, one a line.
async fn list(client: &Client, screen: &mut Screen, arguments: &Audit) -> Result<(), Ended> {
    let mut since = arguments.since;
    loop {
        let path = Query::of("/v1/audit")
            .with("since", since)
            .with("limit", PAGE)
            .with_some("plugin", arguments.plugin.as_ref());
        let page = client.json(Ask::get(path)).await?;
        for row in page["rows"].as_array().into_iter().flatten() {
            if screen.json() {
                screen.line(&row.to_string())?;
            } else {
                render::audit(screen, row)?;
            }
        }
        screen.flush()?;
        match page["next"].as_u64() {
            Some(next) => since = next,
            None => return Ok(()),
        }
    }
}

async fn verify(client: &Client, screen: &mut Screen, head: Option<&Head>) -> Result<(), Ended> {
    let path = Query::of("/v1/audit/verify").with_some("head", head);
    let mut reply = client.json(Ask::get(path)).await?;
    // As `--head` takes it.
    let place = format!("{}:{}", reply["head"]["sequence"], text(&reply["head"]["hash"]));
    reply["place"] = json!(place);
    if screen.json() {
        screen.document(&reply)?;
        return Ok(screen.flush()?);
    }
    screen.line(&format!(
        "{} rows from {} on, none changed, missing or moved; {} were emptied with their plugins",
        reply["rows"], reply["first"], reply["removed"]
    ))?;
    match reply["anchored"]["sequence"].as_u64() {
        Some(sequence) => screen.line(&format!("the launcher vouches for all up to {sequence}"))?,
        None => screen.line("the launcher has kept no place of it yet")?,
    }
    screen.line(&format!("to check later that nothing was cut off: --head {place}"))?;
    Ok(screen.flush()?)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
