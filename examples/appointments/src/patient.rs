//! FHIR R4 Patient, as far as a schedule needs it: an id, and a name to show.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A patient. Fields that are not named here are kept as they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Patient {
    /// Always `Patient`.
    pub resource_type: PatientType,
    /// FHIR id.
    pub id: String,
    /// Names, the official one not necessarily first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name: Vec<HumanName>,
    /// Every other field, kept as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The only value of `Patient.resourceType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PatientType {
    /// `Patient`.
    Patient,
}

/// A person's name (<https://hl7.org/fhir/R4/datatypes.html#HumanName>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HumanName {
    /// `official`, `usual`, `maiden`, …
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// The whole name as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Family name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Given names in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<String>,
    /// Every other field, kept as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Patient {
    /// The name to show: the official one, or the first; its `text` where there is one, since only the person
    /// who wrote it knew the order of its parts. Never trimmed, folded or normalised.
    pub fn display(&self) -> Option<String> {
        let official = |name: &&HumanName| name.usage.as_deref() == Some("official");
        let name = self.name.iter().find(official).or_else(|| self.name.first())?;
        if let Some(text) = &name.text {
            return Some(text.clone());
        }
        let parts: Vec<&str> = name.given.iter().chain(&name.family).map(String::as_str).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn display(names: &Value) -> Option<String> {
        let patient =
            json!({"resourceType": "Patient", "id": "p", "name": names, "gender": "female"});
        let parsed: Patient = serde_json::from_value(patient.clone()).unwrap();
        assert_eq!(serde_json::to_value(&parsed).unwrap(), patient);
        parsed.display()
    }

    #[test]
    fn shows_the_official_name_as_written() {
        let maiden = json!({"use": "maiden", "family": "Sierra", "given": ["Soledad"]});
        let official = json!({"use": "official", "family": "Beltrán", "given": ["Soledad"], "prefix": ["Ms."]});
        assert_eq!(display(&json!([maiden, official])).unwrap(), "Soledad Beltrán");
        assert_eq!(display(&json!([maiden])).unwrap(), "Soledad Sierra");
        assert_eq!(
            display(&json!([{"text": "山田 太郎", "family": "山田", "given": ["太郎"]}])).unwrap(),
            "山田 太郎"
        );
        // The same name in two Unicode forms stays in the form it came in.
        assert_eq!(display(&json!([{"given": ["Mari\u{301}a"]}])).unwrap(), "Mari\u{301}a");
        assert_eq!(display(&json!([{"use": "official"}])), None);
    }
}
