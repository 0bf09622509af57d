//! The published description of the manifest: `docs/plugin.schema.json`, for editors and for other
//! programs. It is written in the part of JSON Schema that [`super::Schema`] holds, and a test holds
//! it against the parser in both directions.

/// A JSON Schema (2020-12).
pub(crate) const SCHEMA: &str = include_str!("../../../docs/plugin.schema.json");

#[cfg(test)]
mod tests;
