//! The API's OpenAPI document, held against what the service really answers.
//!
//! A JSON Schema validator for the keywords that the document uses. One that it does not know is an
//! error, so nothing that the document says goes unchecked.

use std::sync::OnceLock;

use serde_json::{Map, Value};

/// The published copy; a test of the supervisor holds it against the program.
const DOCUMENT: &str = include_str!("../../docs/openapi.json");

/// The document.
pub fn document() -> &'static Value {
    static PARSED: OnceLock<Value> = OnceLock::new();
    PARSED.get_or_init(|| serde_json::from_str(DOCUMENT).unwrap())
}

/// All operations, as `GET /v1/plugins/{id}`.
pub fn operations() -> impl Iterator<Item = String> {
    document()["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    })
}

/// The operation that a request asks for, if there is one.
pub fn operation(method: &str, target: &str) -> Option<String> {
    let path = target.split('?').next().unwrap();
    operations().find(|operation| {
        operation
            .strip_prefix(method)
            .and_then(|rest| rest.strip_prefix(' '))
            .is_some_and(|template| fits(template, path))
    })
}

/// Holds an answer against the document.
///
/// # Panics
/// Where the document does not have the operation, the status or the media type, or the body is not
/// of its schema.
pub fn check(method: &str, target: &str, status: u16, media_type: &str, body: &[u8]) {
    let shown = format!("{method} {target}: {status}");
    let path = target.split('?').next().unwrap();
    let paths = document()["paths"].as_object().unwrap();
    let operations: Vec<&Value> =
        paths.iter().filter(|(template, _)| fits(template, path)).map(|(_, item)| item).collect();
    let method = method.to_lowercase();
    let Some(operation) = operations.iter().find_map(|item| item.get(&method)) else {
        // What is asked for in vain has no description; the refusal has.
        assert!(matches!(status, 400 | 404), "{shown}: not described");
        return problem(&shown, body);
    };
    let response = operation["responses"].get(status.to_string());
    let response = response.unwrap_or_else(|| panic!("{shown}: this status is not described"));
    let media_type = media_type.split(';').next().unwrap().trim();
    let content = response["content"].get(media_type);
    let content = content.unwrap_or_else(|| panic!("{shown}: {media_type} is not described"));
    if media_type.ends_with("json") && !media_type.contains("ndjson") {
        let body = serde_json::from_slice(body).unwrap_or_else(|_| panic!("{shown}: not JSON"));
        if let Err(fault) = validate(&body, &content["schema"], "") {
            panic!("{shown}: {fault}: {body}");
        }
    }
}

fn problem(shown: &str, body: &[u8]) {
    let body = serde_json::from_slice(body).unwrap_or_else(|_| panic!("{shown}: not JSON"));
    let schema = &document()["components"]["schemas"]["Problem"];
    validate(&body, schema, "").unwrap_or_else(|fault| panic!("{shown}: {fault}: {body}"));
}

/// Whether `path` is one of those that the template stands for. A last parameter takes the rest.
fn fits(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.split('/').peekable(), path.split('/'));
    while let Some(part) = template.next() {
        let Some(found) = path.next() else { return false };
        let parameter = part.starts_with('{');
        if parameter && template.peek().is_none() && part == "{method}" {
            return true;
        }
        if !parameter && part != found {
            return false;
        }
    }
    path.next().is_none()
}

/// Whether a value is what a schema says; else where it is not, and why.
pub fn validate(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    let Some(schema) = schema.as_object() else { return Ok(()) };
    for (keyword, said) in schema {
        keyword_holds(value, schema, keyword, said, at)?;
    }
    Ok(())
}

fn keyword_holds(
    value: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    said: &Value,
    at: &str,
) -> Result<(), String> {
    let wrong = |why: String| Err(format!("{}: {why}", if at.is_empty() { "/" } else { at }));
    match keyword {
        "$ref" => {
            let pointer = said.as_str().unwrap().trim_start_matches('#');
            let target = document().pointer(pointer);
            validate(value, target.unwrap_or_else(|| panic!("{pointer} leads nowhere")), at)
        }
        "type" => {
            let said_types: Vec<&str> = match said {
                Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
                one => one.as_str().into_iter().collect(),
            };
            if said_types.iter().any(|name| is(value, name)) {
                Ok(())
            } else {
                wrong(format!("not {said}"))
            }
        }
        "enum" => {
            if said.as_array().unwrap().contains(value) {
                Ok(())
            } else {
                wrong(format!("not one of {said}"))
            }
        }
        "required" => {
            let Some(object) = value.as_object() else { return Ok(()) };
            let mut keys = said.as_array().unwrap().iter().filter_map(Value::as_str);
            match keys.find(|key| !object.contains_key(*key)) {
                None => Ok(()),
                Some(key) => wrong(format!("no {key}")),
            }
        }
        "properties" => {
            let Some(object) = value.as_object() else { return Ok(()) };
            let said = said.as_object().unwrap().iter();
            said.filter_map(|(key, schema)| Some((key, object.get(key)?, schema))).try_for_each(
                |(key, value, schema)| validate(value, schema, &format!("{at}/{key}")),
            )
        }
        "additionalProperties" => {
            let Some(object) = value.as_object() else { return Ok(()) };
            let named = schema.get("properties").and_then(Value::as_object);
            let mut more = object
                .iter()
                .filter(|(key, _)| named.is_none_or(|named| !named.contains_key(*key)));
            if *said == Value::Bool(false) {
                return match more.next() {
                    None => Ok(()),
                    Some((key, _)) => wrong(format!("{key} is not described")),
                };
            }
            more.try_for_each(|(key, value)| validate(value, said, &format!("{at}/{key}")))
        }
        "items" => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let mut items = items.iter().enumerate();
            items.try_for_each(|(index, item)| validate(item, said, &format!("{at}/{index}")))
        }
        "allOf" => said.as_array().unwrap().iter().try_for_each(|one| validate(value, one, at)),
        "oneOf" | "anyOf" => {
            let all = said.as_array().unwrap().iter();
            let faults: Vec<String> =
                all.clone().filter_map(|one| validate(value, one, at).err()).collect();
            match all.len() - faults.len() {
                1 => Ok(()),
                0 => wrong(format!("none of: {}", faults.join("; "))),
                _ if keyword == "anyOf" => Ok(()),
                several => wrong(format!("{several} of the alternatives")),
            }
        }
        "minimum" | "maximum" => {
            let (Some(value), Some(said)) = (value.as_f64(), said.as_f64()) else { return Ok(()) };
            let holds = if keyword == "minimum" { value >= said } else { value <= said };
            if holds { Ok(()) } else { wrong(format!("{value} against a {keyword} of {said}")) }
        }
        // For people; and the keys of maps, whose values are under `additionalProperties`.
        "description" | "example" | "examples" | "title" | "format" | "default"
        | "propertyNames" => Ok(()),
        unknown => panic!("{at}: this validator does not know `{unknown}`: {said}"),
    }
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("no type is called {unknown}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_held_against_a_value() {
        let schema = json!({
            "type": "object",
            "required": ["a"],
            "properties": {
                "a": { "type": ["integer", "null"], "minimum": 0 },
                "b": { "type": "array", "items": { "enum": ["x", "y"] } },
                "c": { "oneOf": [{ "type": "null" }, { "type": "string" }] },
            },
            "additionalProperties": false,
        });
        for good in [
            json!({ "a": 1 }),
            json!({ "a": null, "b": ["x", "y", "x"], "c": "" }),
            json!({ "a": 0, "b": [], "c": null }),
        ] {
            assert_eq!(validate(&good, &schema, ""), Ok(()));
        }
        for (bad, place) in [
            (json!([]), "/:"),
            (json!({}), "/: no a"),
            (json!({ "a": -1 }), "/a:"),
            (json!({ "a": "1" }), "/a:"),
            (json!({ "a": 1, "b": ["x", "z"] }), "/b/1:"),
            (json!({ "a": 1, "c": 7 }), "/c:"),
            (json!({ "a": 1, "d": 7 }), "/: d"),
        ] {
            let fault = validate(&bad, &schema, "").unwrap_err();
            assert!(fault.starts_with(place), "{bad}: {fault}");
        }
    }

    #[test]
    fn a_path_fits_its_template() {
        assert!(fits("/v1/plugins/{id}", "/v1/plugins/victim"));
        assert!(!fits("/v1/plugins/{id}", "/v1/plugins/victim/config"));
        assert!(!fits("/v1/plugins/{id}/config", "/v1/plugins/victim"));
        assert!(fits("/v1/plugins/{id}/call/{method}", "/v1/plugins/victim/call/a/b"));
    }

    #[test]
    #[should_panic(expected = "does not know `pattern`")]
    fn what_it_does_not_know_is_no_pass() {
        let _ = validate(&json!("a"), &json!({ "pattern": "b" }), "");
    }
}
