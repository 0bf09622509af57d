//! Values to payloads and back, in whichever encoding the call has.

use bulkhead_ipc_protocol::{Encoding, Payload, codec};
use serde::Serialize;
use serde::de::value::BorrowedBytesDeserializer;
use serde::de::{Deserialize, DeserializeOwned};
use serde_json::json;

use crate::error::{Error, Result};

/// Reads a value. An error has the code `code` and, where the encoding knows it, the path of the field.
///
/// Raw bytes are offered to the type as bytes, so that one which implements `visit_bytes` takes them as they are.
/// An empty body, or `null`, means "no arguments": whatever `null` or `{}` is to the type.
pub(crate) fn decode<T: DeserializeOwned>(code: &'static str, payload: &Payload) -> Result<T> {
    match payload.encoding {
        Encoding::Bincode => {
            codec::decode(&payload.body).map_err(|err| Error::new(code, err.to_string()))
        }
        _ if payload.body.is_empty() => no_arguments(code),
        // What a caller sends who was given nothing to send.
        Encoding::Json if payload.body.trim_ascii() == b"null" => no_arguments(code),
        Encoding::Json => from_json(code, &payload.body),
        Encoding::Raw => {
            let bytes = BorrowedBytesDeserializer::<serde::de::value::Error>::new(&payload.body);
            T::deserialize(bytes).map_err(|err| {
                Error::new(
                    code,
                    format!(
                        "raw bytes do not fit: {err}; send JSON (content type application/json)"
                    ),
                )
            })
        }
    }
}

fn no_arguments<T: DeserializeOwned>(code: &'static str) -> Result<T> {
    from_json(code, b"null").or_else(|_| from_json(code, b"{}"))
}

/// Reads JSON, with the path of what does not fit.
pub(crate) fn from_json<'a, T: Deserialize<'a>>(code: &'static str, text: &'a [u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let path = err.path().to_string();
        let inner = err.into_inner();
        if path == "." {
            Error::new(code, inner.to_string()).with_details(&json!({ "path": "" }))
        } else {
            Error::new(code, format!("{path}: {inner}")).with_details(&json!({ "path": path }))
        }
    })?;
    json.end().map_err(|err| Error::new(code, format!("after the value: {err}")))?;
    Ok(value)
}

/// Reads a configuration. Where there is none, `{}`, it may also be a type that takes nothing, such as `()`.
pub(crate) fn config<T: DeserializeOwned>(text: &str) -> Result<T> {
    let code = crate::error::code::CONFIG_INVALID;
    let text = if text.trim().is_empty() { "{}" } else { text };
    from_json(code, text.as_bytes()).or_else(|err| {
        if text.trim() == "{}" { from_json(code, b"null").map_err(|_| err) } else { Err(err) }
    })
}

/// Writes a value.
pub(crate) fn encode<T: Serialize + ?Sized>(encoding: Encoding, value: &T) -> Result<Payload> {
    match encoding {
        Encoding::Bincode => Payload::bincode(value).map_err(Error::internal),
        Encoding::Json | Encoding::Raw => Ok(Payload::json_bytes(serde_json::to_vec(value)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Slot {
        at: Vec<u8>,
    }

    #[test]
    fn an_error_has_the_path() {
        let payload = Payload::json_bytes(r#"{"at": [1, 2, "three"]}"#);
        let error = decode::<Slot>("BAD", &payload).unwrap_err();
        assert_eq!((error.code(), error.details().unwrap()), ("BAD", &json!({"path": "at[2]"})));
        assert!(error.message().starts_with("at[2]: invalid type: string \"three\""), "{error}");
        let error = decode::<Slot>("BAD", &Payload::json_bytes("{} x")).unwrap_err();
        assert!(error.message().contains("missing field `at`"), "{error}");
        let error = decode::<u8>("BAD", &Payload::json_bytes("1 2")).unwrap_err();
        assert!(error.message().contains("trailing characters"), "{error}");
    }

    #[test]
    fn no_body_is_no_arguments() {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        decode::<()>("BAD", &Payload::empty()).unwrap();
        decode::<Option<u8>>("BAD", &Payload::json_bytes("")).unwrap();
        let Nothing {} = decode("BAD", &Payload::empty()).unwrap();
        let Nothing {} = decode("BAD", &Payload::json_bytes(" null\n")).unwrap();
        assert_eq!(decode::<Option<u8>>("BAD", &Payload::json_bytes("null")).unwrap(), None);
        decode::<Slot>("BAD", &Payload::empty()).unwrap_err();
    }

    #[test]
    fn an_absent_configuration_fits_a_type_that_takes_none() {
        config::<()>("{}").unwrap();
        config::<()>("").unwrap();
        let error = config::<Slot>("{}").unwrap_err();
        assert!(error.message().contains("missing field `at`"), "{error}");
        config::<()>(r#"{"stray": 1}"#).unwrap_err();
    }

    #[test]
    fn raw_bytes_need_a_type_that_takes_them() {
        let error = decode::<Slot>("BAD", &Payload::raw("x")).unwrap_err();
        assert!(error.message().contains("content type"), "{error}");
    }
}
