//! FHIR bulk data: one JSON resource a line (<https://hl7.org/fhir/uv/bulkdata/>, <https://github.com/ndjson/ndjson-spec>).

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::encounter::Encounter;
use crate::fault::{Fault, code};
use crate::fhir::{Appointment, check_id};
use crate::patient::Patient;

/// The longest line accepted, in bytes: what the service can also give back in one reply.
pub const LONGEST_LINE: usize = 64 * 1024;

/// A resource that this service takes.
#[derive(Clone, Debug)]
pub enum Resource {
    /// Becomes an appointment.
    Encounter(Box<Encounter>),
    /// Kept as it is.
    Appointment(Box<Appointment>),
    /// Kept for its name.
    Patient(Box<Patient>),
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "resourceType")]
    resource_type: String,
}

/// Reads each line of `text`, the first of which has the number `first_line`. Empty lines are skipped; every
/// other line yields a resource or a fault, with its number.
pub fn resources(
    text: &[u8],
    first_line: u64,
) -> impl Iterator<Item = (u64, Result<Resource, Fault>)> {
    text.split(|byte| *byte == b'\n')
        .zip(first_line..)
        .map(|(bytes, line)| (bytes.strip_suffix(b"\r").unwrap_or(bytes), line))
        .filter(|(bytes, _)| !bytes.iter().all(u8::is_ascii_whitespace))
        .map(|(bytes, line)| (line, resource(bytes).map_err(|fault| fault.on_line(line))))
}

fn resource(line: &[u8]) -> Result<Resource, Fault> {
    if line.len() > LONGEST_LINE {
        let message = format!("is longer than {LONGEST_LINE} bytes");
        return Err(Fault::new(
            code::NDJSON_INVALID,
            "",
            format!("{} bytes", line.len()),
            &message,
        ));
    }
    let text = std::str::from_utf8(line).map_err(|err| {
        let message = format!("is not UTF-8 from byte {} on", err.valid_up_to() + 1);
        Fault::new(code::NDJSON_INVALID, "", String::from_utf8_lossy(line), &message)
    })?;
    let kind: Kind = serde_json::from_str(text).map_err(|err| {
        if err.is_data() {
            Fault::new(
                code::FIELD_INVALID,
                "resourceType",
                "",
                &format!("is not a FHIR resource: {err}"),
            )
        } else {
            let message = format!("is not one whole JSON object: {err}");
            Fault::new(code::NDJSON_INVALID, "", text, &message)
        }
    })?;
    match kind.resource_type.as_str() {
        "Encounter" => Ok(Resource::Encounter(typed(text)?)),
        "Appointment" => {
            let appointment: Box<Appointment> = typed(text)?;
            check_id("id", &appointment.id)?;
            appointment.check()?;
            Ok(Resource::Appointment(appointment))
        }
        "Patient" => {
            let patient: Box<Patient> = typed(text)?;
            check_id("id", &patient.id)?;
            Ok(Resource::Patient(patient))
        }
        other => {
            let message = "is not kept here; send Encounter, Appointment or Patient";
            Err(Fault::new(code::RESOURCE_UNSUPPORTED, "resourceType", other, message))
        }
    }
}

/// Decodes with the path of the field that does not fit.
fn typed<T: DeserializeOwned>(text: &str) -> Result<Box<T>, Fault> {
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map(Box::new).map_err(|err| {
        let path = err.path().to_string();
        let value = value_at(text, &path);
        let path = if path == "." { String::new() } else { path };
        Fault::new(code::FIELD_INVALID, &path, value, &format!("does not fit: {}", err.inner()))
    })
}

/// What the input has at `path`, for the message; nothing when it is not a plain value.
fn value_at(text: &str, path: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(text) else {
        return String::new();
    };
    for part in path.split(['.', '[']) {
        let part = part.trim_end_matches(']');
        let next = match part.parse::<usize>() {
            Ok(nth) if value.is_array() => value.get_mut(nth),
            _ => value.get_mut(part),
        };
        match next {
            Some(inner) => value = inner.take(),
            None => return String::new(),
        }
    }
    match value {
        serde_json::Value::String(text) => text,
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => String::new(),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
#[path = "ndjson_tests.rs"]
mod tests;
