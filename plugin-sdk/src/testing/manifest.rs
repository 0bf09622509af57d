//! What of `plugin.toml` matters to a plugin under test.

use std::path::Path;

/// The id, and what `[events]` subscribes to. The rest is the host's to judge.
pub(super) fn parse(text: &str) -> Result<(String, Vec<String>), toml::de::Error> {
    let manifest: toml::Table = text.parse()?;
    let id = manifest.get("id").and_then(toml::Value::as_str).unwrap_or_default();
    let topics = manifest.get("events").and_then(|events| events.get("subscribes"));
    let topics = topics.and_then(toml::Value::as_array).into_iter().flatten();
    let topics = topics.filter_map(|topic| Some(topic.as_str()?.to_owned())).collect();
    Ok((id.to_owned(), topics))
}

/// What the manifest of the crate that is tested subscribes to. None where there is no manifest, or it is another
/// plugin's: a test can run several.
pub(super) fn beside_the_crate(name: &str) -> Option<Vec<String>> {
    let directory = std::env::var_os("CARGO_MANIFEST_DIR")?;
    let path = Path::new(&directory).join("plugin.toml");
    let text = std::fs::read_to_string(&path).ok()?;
    let (id, subscribed) =
        parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (id == name).then_some(subscribed)
}
