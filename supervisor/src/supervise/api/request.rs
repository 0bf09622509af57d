//! What requests have in common: the id in the path, a body, headers.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::registry::Registry;

/// What every handler asks.
pub(super) type Server = State<Arc<Registry>>;

pub(super) fn id(text: &str) -> Result<PluginId, Failure> {
    text.parse().map_err(|error: crate::id::BadPluginId| {
        Failure::new(Code::InvalidRequest, error.to_string()).with("id", text)
    })
}

/// A body that is JSON of that shape; an empty one is the shape's default.
pub(super) fn body<T: DeserializeOwned + Default>(bytes: &Bytes) -> Result<T, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    json(bytes, "the request's body")
}

/// JSON of that shape; `what` it is, for the error.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(Code::InvalidRequest, format!("{what}: {error}"))
            .with("line", error.line())
            .with("column", error.column())
    })
}

/// The parameter `limit`: how much of a list is asked for at once.
pub(super) fn at_most(limit: usize, most: usize) -> Result<usize, Failure> {
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    let message = format!("limit: {limit} must be from 1 to {most}");
    Err(Failure::new(Code::InvalidRequest, message).with("limit", most).with("used", limit))
}

pub(super) fn text_header<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> Result<Option<&'a str>, Failure> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| {
        Failure::new(
            Code::InvalidRequest,
            format!("the header {name} is not visible ASCII; send it as that"),
        )
        .with("header", name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Body {
        save_state: Option<bool>,
    }

    #[test]
    fn an_empty_body_is_the_default_and_an_unknown_key_is_refused() {
        let body_of = |text: &'static str| body::<Body>(&Bytes::from_static(text.as_bytes()));
        assert_eq!(body_of(" \n").unwrap().save_state, None);
        assert_eq!(body_of("{\"saveState\":false}").unwrap().save_state, Some(false));
        let failure = body_of("{\"save_state\":false}").err().unwrap();
        assert_eq!(failure.code, Code::InvalidRequest);
        assert!(failure.message.contains("save_state"), "{failure}");
    }
}
