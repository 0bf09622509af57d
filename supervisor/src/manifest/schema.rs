//! `[config.schema]`: the part of JSON Schema (2020-12) that a configuration needs, compiled once.
//!
//! A keyword that is not known here is refused when the manifest is read, rather than ignored when a
//! configuration is checked: nothing is promised that is not held. Known are `type`, `enum`, `const`,
//! `properties`, `propertyNames`, `required`, `additionalProperties`, `items`, `minItems`, `maxItems`, `uniqueItems`,
//! `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `minLength`, `maxLength`, `pattern`,
//! `secret` (see [`super::secrets`]), and the annotations `title`, `description`, `default`,
//! `examples`, `format`, `$schema`, `$comment`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::secrets::{REDACTED, credential};

/// How deep schemas may nest.
const MAX_DEPTH: usize = 32;

const ANNOTATIONS: &[&str] =
    &["title", "description", "default", "examples", "format", "$schema", "$comment"];

/// A schema, and the text that it was made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub(crate) struct Schema {
    source: Value,
    pub(super) root: Node,
}

/// A fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", if path.is_empty() { "the configuration" } else { path })]
pub(crate) struct SchemaFault {
    /// `workingHours.start`, `days[1]`; empty for the whole.
    pub(crate) path: String,
    pub(crate) why: String,
}

/// A schema that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema{path}: {why}")]
pub(crate) struct BadSchema {
    path: String,
    why: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Its value is shown to nobody but the plugin.
    pub(super) secret: bool,
    /// Empty: any.
    types: BTreeSet<Type>,
    options: Option<Vec<Value>>,
    properties: BTreeMap<String, Node>,
    names: Option<Box<Node>>,
    required: Vec<String>,
    additional: Additional,
    pub(super) items: Option<Box<Node>>,
    item_count: Range<u64>,
    unique_items: bool,
    number: Range<f64>,
    exclusive: Range<f64>,
    length: Range<u64>,
    pattern: Option<Regex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

#[derive(Clone, Debug, Default)]
enum Additional {
    #[default]
    Any,
    None,
    Like(Box<Node>),
}

#[derive(Clone, Copy, Debug)]
struct Range<T> {
    least: Option<T>,
    most: Option<T>,
}

impl<T> Default for Range<T> {
    fn default() -> Self {
        Self { least: None, most: None }
    }
}

impl Schema {
    /// Whether `value` fits; the first fault that is found.
    pub(crate) fn check(&self, value: &Value) -> Result<(), SchemaFault> {
        self.root.check(value, "", true)
    }

    /// The same for values that others will be laid over: nothing is required yet.
    pub(super) fn check_defaults(&self, value: &Value) -> Result<(), SchemaFault> {
        self.root.check(value, "", false)
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl TryFrom<Value> for Schema {
    type Error = BadSchema;

    fn try_from(source: Value) -> Result<Self, BadSchema> {
        let root = Node::compile(&source, "", 0)?;
        Ok(Self { source, root })
    }
}

impl From<Schema> for Value {
    fn from(schema: Schema) -> Value {
        schema.source
    }
}

impl Node {
    fn compile(source: &Value, path: &str, depth: usize) -> Result<Self, BadSchema> {
        let bad = |keyword: &str, why: &str| BadSchema {
            path: format!("{path}.{keyword}"),
            why: why.to_owned(),
        };
        let Value::Object(source) = source else {
            return Err(BadSchema { path: path.to_owned(), why: "must be a table".to_owned() });
        };
        if depth > MAX_DEPTH {
            return Err(BadSchema {
                path: path.to_owned(),
                why: format!("nests deeper than {MAX_DEPTH}"),
            });
        }
        let mut node = Self::default();
        for (keyword, value) in source {
            let bad = |why: &str| bad(keyword, why);
            let inner = |value: &Value, part: &str| {
                Self::compile(value, &format!("{path}.{keyword}{part}"), depth + 1)
            };
            match keyword.as_str() {
                "type" => node.types = types(value).ok_or_else(|| bad("must be one of null, boolean, integer, number, string, array, object, or a list of them"))?,
                "enum" => {
                    let options = value.as_array().filter(|options| !options.is_empty());
                    node.options = Some(options.ok_or_else(|| bad("must be a list of values"))?.clone());
                }
                "const" => node.options = Some(vec![value.clone()]),
                "properties" => {
                    let properties = value.as_object().ok_or_else(|| bad("must be a table"))?;
                    for (name, value) in properties {
                        node.properties.insert(name.clone(), inner(value, &format!(".{name}"))?);
                    }
                }
                "propertyNames" => node.names = Some(Box::new(inner(value, "")?)),
                "required" => {
                    node.required = serde_json::from_value(value.clone())
                        .map_err(|_| bad("must be a list of names"))?;
                }
                "additionalProperties" => {
                    node.additional = match value {
                        Value::Bool(true) => Additional::Any,
                        Value::Bool(false) => Additional::None,
                        schema => Additional::Like(Box::new(inner(schema, "")?)),
                    };
                }
                "items" => node.items = Some(Box::new(inner(value, "")?)),
                "uniqueItems" => {
                    node.unique_items = value.as_bool().ok_or_else(|| bad("must be true or false"))?;
                }
                "minItems" => node.item_count.least = Some(count(value).ok_or_else(|| bad(COUNT))?),
                "maxItems" => node.item_count.most = Some(count(value).ok_or_else(|| bad(COUNT))?),
                "minLength" => node.length.least = Some(count(value).ok_or_else(|| bad(COUNT))?),
                "maxLength" => node.length.most = Some(count(value).ok_or_else(|| bad(COUNT))?),
                "minimum" => node.number.least = Some(number(value).ok_or_else(|| bad(NUMBER))?),
                "maximum" => node.number.most = Some(number(value).ok_or_else(|| bad(NUMBER))?),
                "exclusiveMinimum" => {
                    node.exclusive.least = Some(number(value).ok_or_else(|| bad(NUMBER))?);
                }
                "exclusiveMaximum" => {
                    node.exclusive.most = Some(number(value).ok_or_else(|| bad(NUMBER))?);
                }
                "pattern" => {
                    let text = value.as_str().ok_or_else(|| bad("must be a regular expression"))?;
                    node.pattern = Some(Regex::new(text).map_err(|error| bad(&error.to_string()))?);
                }
                "secret" => {
                    node.secret = value.as_bool().ok_or_else(|| bad("must be true or false"))?;
                }
                annotation if ANNOTATIONS.contains(&annotation) => {}
                _ => return Err(bad("this keyword is not supported; docs/manifest.md lists those that are")),
            }
        }
        Ok(node)
    }

    fn check(&self, value: &Value, path: &str, complete: bool) -> Result<(), SchemaFault> {
        if !self.secret {
            return self.check_value(value, path, complete);
        }
        if credential(value).is_some() {
            return Ok(());
        }
        self.check_value(value, path, complete).map_err(|_| SchemaFault {
            path: path.to_owned(),
            why: "does not fit the schema; it is a secret, so it is not shown".to_owned(),
        })
    }

    /// The schema of a property of that name.
    pub(super) fn property(&self, name: &str) -> Option<&Self> {
        match (self.properties.get(name), &self.additional) {
            (Some(node), _) => Some(node),
            (None, Additional::Like(node)) => Some(node),
            (None, Additional::Any | Additional::None) => None,
        }
    }

    /// Whether a value that fits can have a secret in it.
    pub(super) fn has_secrets(&self) -> bool {
        let additional = match &self.additional {
            Additional::Like(node) => Some(node.as_ref()),
            Additional::Any | Additional::None => None,
        };
        let mut below = self.properties.values().chain(self.items.as_deref()).chain(additional);
        self.secret || below.any(Self::has_secrets)
    }

    /// A value in a message: never one that could have secrets in it.
    fn shown(value: &Value) -> String {
        // In the wrong place the schema cannot say which part of it is secret.
        match value {
            Value::Object(_) => return "an object".to_owned(),
            Value::Array(_) => return "a list".to_owned(),
            _ => {}
        }
        shown(value)
    }

    fn check_value(&self, value: &Value, path: &str, complete: bool) -> Result<(), SchemaFault> {
        let fault = |why: String| Err(SchemaFault { path: path.to_owned(), why });
        if !self.types.is_empty() && !self.types.iter().any(|one| one.is(value)) {
            let wanted: Vec<String> = self.types.iter().map(ToString::to_string).collect();
            return fault(format!("{} is not of type {}", Self::shown(value), wanted.join(" or ")));
        }
        if let Some(options) = &self.options
            && !options.contains(value)
        {
            let options: Vec<String> = options.iter().map(shown).collect();
            return fault(format!("{} is not one of {}", Self::shown(value), options.join(", ")));
        }
        match value {
            Value::Object(object) => self.check_object(object, path, complete),
            Value::Array(items) => self.check_items(items, path, complete),
            Value::String(text) => self.check_text(text).or_else(fault),
            Value::Number(_) => self.check_number(value).or_else(fault),
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }

    fn check_object(
        &self,
        object: &Map<String, Value>,
        path: &str,
        complete: bool,
    ) -> Result<(), SchemaFault> {
        let below = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        for (name, value) in object {
            if let Some(names) = &self.names {
                names.check(&Value::String(name.clone()), &below(name), complete)?;
            }
            match (self.properties.get(name), &self.additional) {
                (Some(node), _) => node.check(value, &below(name), complete)?,
                (None, Additional::Any) => {}
                (None, Additional::Like(node)) => node.check(value, &below(name), complete)?,
                (None, Additional::None) => {
                    let known: Vec<&str> = self.properties.keys().map(String::as_str).collect();
                    let why = format!("there is no such setting; there are {}", known.join(", "));
                    return Err(SchemaFault { path: below(name), why });
                }
            }
        }
        let mut required = self.required.iter().filter(|_| complete);
        match required.find(|name| !object.contains_key(*name)) {
            Some(name) => {
                Err(SchemaFault { path: below(name), why: "is required and not given".to_owned() })
            }
            None => Ok(()),
        }
    }

    fn check_items(&self, items: &[Value], path: &str, complete: bool) -> Result<(), SchemaFault> {
        let fault = |why: String| Err(SchemaFault { path: path.to_owned(), why });
        if let Some(why) = self.item_count.misses(items.len() as u64, "items") {
            return fault(why);
        }
        for (index, item) in items.iter().enumerate() {
            if let Some(node) = &self.items {
                node.check(item, &format!("{path}[{index}]"), complete)?;
            }
            if self.unique_items && items[..index].contains(item) {
                let secret = self.items.as_ref().is_some_and(|node| node.secret);
                let shown = if secret { REDACTED.to_owned() } else { Self::shown(item) };
                return fault(format!("{shown} is there twice"));
            }
        }
        Ok(())
    }

    fn check_text(&self, text: &str) -> Result<(), String> {
        if let Some(why) = self.length.misses(text.chars().count() as u64, "characters") {
            return Err(why);
        }
        match &self.pattern {
            Some(pattern) if !pattern.is_match(text) => {
                Err(format!("{text:?} does not match {}", pattern.as_str()))
            }
            _ => Ok(()),
        }
    }

    fn check_number(&self, value: &Value) -> Result<(), String> {
        let Some(number) = value.as_f64() else { return Ok(()) };
        let Range { least, most } = self.number;
        if let Some(least) = least.filter(|least| number < *least) {
            return Err(format!("{value} is less than {least}"));
        }
        if let Some(most) = most.filter(|most| number > *most) {
            return Err(format!("{value} is more than {most}"));
        }
        let Range { least, most } = self.exclusive;
        if let Some(least) = least.filter(|least| number <= *least) {
            return Err(format!("{value} is not more than {least}"));
        }
        match most.filter(|most| number >= *most) {
            Some(most) => Err(format!("{value} is not less than {most}")),
            None => Ok(()),
        }
    }
}

const COUNT: &str = "must be a whole number, not negative";
const NUMBER: &str = "must be a number";

fn count(value: &Value) -> Option<u64> {
    value.as_u64()
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn types(value: &Value) -> Option<BTreeSet<Type>> {
    match value {
        Value::Array(list) if !list.is_empty() => serde_json::from_value(value.clone()).ok(),
        Value::String(_) => {
            serde_json::from_value(value.clone()).ok().map(|one| BTreeSet::from([one]))
        }
        _ => None,
    }
}

impl Type {
    fn is(self, value: &Value) -> bool {
        match self {
            Type::Null => value.is_null(),
            Type::Boolean => value.is_boolean(),
            Type::Integer => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
            }
            Type::Number => value.is_number(),
            Type::String => value.is_string(),
            Type::Array => value.is_array(),
            Type::Object => value.is_object(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Null => "null",
            Type::Boolean => "boolean",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::String => "string",
            Type::Array => "array",
            Type::Object => "object",
        })
    }
}

impl Range<u64> {
    fn misses(self, found: u64, what: &str) -> Option<String> {
        if let Some(least) = self.least.filter(|least| found < *least) {
            return Some(format!("{found} {what} are fewer than {least}"));
        }
        let most = self.most.filter(|most| found > *most)?;
        Some(format!("{found} {what} are more than {most}"))
    }
}

/// A value in a message: not the whole of a long one.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
