//! Importing: what a batch of lines would change, decided before anything is written.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::calendar::Calendar;
use crate::fault::Fault;
use crate::fhir::{Appointment, id_of};
use crate::ndjson::{self, Resource};
use crate::patient::Patient;

/// How many faults a report lists; it counts all.
pub const FAULTS_LISTED: usize = 100;

/// A batch of lines. As raw bytes it is the NDJSON itself, with no option set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportRequest {
    /// FHIR resources, one a line: Encounter, Appointment, Patient. Whole lines, at most 1 MiB with everything.
    pub ndjson: String,
    /// Number of its first line in the whole input, for error messages.
    pub first_line: u64,
    /// Minutes that an encounter of zero length takes; the plugin's configuration if not given.
    pub default_duration: Option<u32>,
    /// Import the good lines when others are refused. Otherwise one bad line refuses the batch.
    pub skip_invalid: bool,
    /// Overwrite appointments that are here already and differ, which undoes changes made since.
    pub replace: bool,
}

/// Mirrors [`ImportRequest`] for the formats that have fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    ndjson: String,
    #[serde(default = "one")]
    first_line: u64,
    #[serde(default)]
    default_duration: Option<u32>,
    #[serde(default)]
    skip_invalid: bool,
    #[serde(default)]
    replace: bool,
}

fn one() -> u64 {
    1
}

impl From<Fields> for ImportRequest {
    fn from(fields: Fields) -> Self {
        let Fields { ndjson, first_line, default_duration, skip_invalid, replace } = fields;
        Self { ndjson, first_line, default_duration, skip_invalid, replace }
    }
}

impl<'de> Deserialize<'de> for ImportRequest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ImportRequest;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object with the field `ndjson`, or NDJSON as a raw body")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Fields::deserialize(SeqAccessDeserializer::new(seq)).map(Into::into)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                let ndjson = std::str::from_utf8(bytes).map_err(|err| {
                    E::custom(format_args!(
                        "the NDJSON is not UTF-8 from byte {} on",
                        err.valid_up_to() + 1
                    ))
                })?;
                Ok(ImportRequest {
                    ndjson: ndjson.to_owned(),
                    first_line: 1,
                    ..ImportRequest::default()
                })
            }
        }

        const FIELDS: &[&str] =
            &["ndjson", "firstLine", "defaultDuration", "skipInvalid", "replace"];
        from.deserialize_struct("ImportRequest", FIELDS, Either)
    }
}

/// What an import did. Every line that is not blank is counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportReport {
    /// Lines that are not blank.
    pub lines: usize,
    /// Appointments that are new.
    pub created: usize,
    /// Appointments that were here already, just so.
    pub unchanged: usize,
    /// Appointments that were here, differed, and were overwritten because `replace` was set.
    pub replaced: usize,
    /// Appointments that were here, differ, and were left as they are.
    pub kept: usize,
    /// Patients that are new or have new data.
    pub patients: usize,
    /// Patients that were here already, just so.
    pub patients_unchanged: usize,
    /// Lines that were refused.
    pub refused: usize,
    /// The first of the refused, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Encounters of zero length, which got the default duration.
    pub defaulted: usize,
    /// Appointments of this batch whose patient is not on record.
    pub patients_unknown: usize,
    /// Pairs of appointments, one of them of this batch, that claim the same person at the same time.
    pub overlaps: usize,
}

impl ImportReport {
    /// Counts another batch in.
    pub fn add(&mut self, batch: Self) {
        self.lines += batch.lines;
        self.created += batch.created;
        self.unchanged += batch.unchanged;
        self.replaced += batch.replaced;
        self.kept += batch.kept;
        self.patients += batch.patients;
        self.patients_unchanged += batch.patients_unchanged;
        self.refused += batch.refused;
        self.defaulted += batch.defaulted;
        self.patients_unknown += batch.patients_unknown;
        self.overlaps += batch.overlaps;
        let room = FAULTS_LISTED - self.faults.len();
        self.faults.extend(batch.faults.into_iter().take(room));
    }
}

/// What an import would write.
#[derive(Debug, Default)]
pub struct Plan {
    /// Appointments to write.
    pub appointments: Vec<Rc<Appointment>>,
    /// Patients to write.
    pub patients: Vec<Rc<Patient>>,
    /// What it will have done, without `overlaps`.
    pub report: ImportReport,
}

/// Decides what importing `request` into what is here would write.
pub fn plan(
    request: &ImportRequest,
    default_duration: u32,
    calendar: &Calendar,
    known: &BTreeMap<String, Rc<Patient>>,
) -> Plan {
    let mut report = ImportReport::default();
    // Later lines of the same id are compared with earlier ones, as if each were imported by itself.
    let mut appointments: Vec<Rc<Appointment>> = Vec::new();
    let mut appointment_of: HashMap<String, usize> = HashMap::new();
    let mut patients: BTreeMap<String, Rc<Patient>> = BTreeMap::new();
    for (line, resource) in ndjson::resources(request.ndjson.as_bytes(), request.first_line) {
        report.lines += 1;
        let appointment = match resource {
            Ok(Resource::Encounter(encounter)) => {
                match encounter.into_appointment(default_duration) {
                    Ok(converted) => {
                        report.defaulted += usize::from(converted.defaulted);
                        converted.appointment
                    }
                    Err(fault) => {
                        refuse(&mut report, fault.on_line(line));
                        continue;
                    }
                }
            }
            Ok(Resource::Appointment(appointment)) => *appointment,
            Ok(Resource::Patient(patient)) => {
                if patients
                    .get(&patient.id)
                    .or_else(|| known.get(&patient.id))
                    .is_some_and(|old| **old == *patient)
                {
                    report.patients_unchanged += 1;
                } else {
                    report.patients += 1;
                    patients.insert(patient.id.clone(), Rc::new(*patient));
                }
                continue;
            }
            Err(fault) => {
                refuse(&mut report, fault);
                continue;
            }
        };
        let earlier = appointment_of.get(&appointment.id).copied();
        let present =
            earlier.map(|nth| &appointments[nth]).or_else(|| calendar.get(&appointment.id));
        match present {
            Some(present) if **present == appointment => report.unchanged += 1,
            Some(_) if !request.replace => report.kept += 1,
            present => {
                if present.is_some() {
                    report.replaced += 1;
                } else {
                    report.created += 1;
                }
                if let Some(nth) = earlier {
                    appointments[nth] = Rc::new(appointment);
                } else {
                    appointment_of.insert(appointment.id.clone(), appointments.len());
                    appointments.push(Rc::new(appointment));
                }
            }
        }
    }
    let on_record = |appointment: &&Rc<Appointment>| {
        appointment
            .participant_id("Patient")
            .is_none_or(|id| known.contains_key(id_of(id)) || patients.contains_key(id_of(id)))
    };
    report.patients_unknown = appointments.len() - appointments.iter().filter(on_record).count();
    Plan { appointments, patients: patients.into_values().collect(), report }
}

fn refuse(report: &mut ImportReport, fault: Fault) {
    report.refused += 1;
    if report.faults.len() < FAULTS_LISTED {
        report.faults.push(fault);
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
