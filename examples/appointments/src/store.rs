//! Appointments and patients: written to the host's state, then known in memory.
//!
//! Each is one key (`appointment/<id>`, `patient/<id>`), so that a change writes little and a crash between two writes
//! leaves each of them whole. Nothing else is saved: the index is made anew from the keys at each start.
//!
//! A change enters the index before it is written and is taken back out if writing fails. In between, another
//! request already sees its time as taken: two that want the same hour can not both find it free.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bulkhead_plugin_sdk::{Error, Host, Result};
use jiff::Timestamp;

use crate::api::{
    CancelRequest, Changed, ConflictDetails, CreateRequest, ImportDetails, ListReply, ListRequest,
    RescheduleRequest, StatsReply,
};
use crate::calendar::{Calendar, Filter};
use crate::fault::{Fault, code};
use crate::fhir::{Appointment, CodeableConcept, Status};
use crate::import::{self, ImportReport, ImportRequest};
use crate::instant::Instant;
use crate::measures::Measures;
use crate::ndjson::LONGEST_LINE;
use crate::overlap::sweep;
use crate::page;
use crate::patient::Patient;

const APPOINTMENT: &str = "appointment/";
const PATIENT: &str = "patient/";

/// Why what was never agreed upon is cancelled.
const EXPIRED: &str = "its time is over and it was never agreed upon";

/// Conflicts that an error lists.
const CONFLICTS_LISTED: usize = 20;

/// Everything that the plugin keeps.
#[derive(Debug)]
pub struct Store {
    host: Host,
    default_duration: u32,
    calendar: RefCell<Calendar>,
    patients: RefCell<BTreeMap<String, Rc<Patient>>>,
    /// Ids whose change is on its way to the state.
    changing: RefCell<BTreeSet<String>>,
    measures: Measures,
}

impl Store {
    /// Reads what was saved.
    ///
    /// # Errors
    /// What the host's state fails with, or an entry that is no appointment or patient.
    pub async fn load(host: Host, default_duration: u32) -> Result<Self> {
        let mut calendar = Calendar::default();
        for (_, entry) in host.state().load::<Appointment>(APPOINTMENT).await? {
            calendar.insert(Rc::new(entry.value));
        }
        let mut patients = BTreeMap::new();
        for (_, entry) in host.state().load::<Patient>(PATIENT).await? {
            patients.insert(entry.value.id.clone(), Rc::new(entry.value));
        }
        let measures = Measures::new(&host);
        measures.keep(calendar.len());
        Ok(Self {
            measures,
            host,
            default_duration,
            calendar: RefCell::new(calendar),
            patients: RefCell::new(patients),
            changing: RefCell::default(),
        })
    }

    /// The appointments.
    pub fn calendar(&self) -> Ref<'_, Calendar> {
        self.calendar.borrow()
    }

    /// Imports a batch: all of it, or on a bad line nothing, unless the request says otherwise.
    ///
    /// # Errors
    /// [`code::IMPORT_INVALID`] with the faults; what the host's state fails with, after which importing the same
    /// again completes it.
    pub async fn import(&self, request: &ImportRequest) -> Result<ImportReport> {
        let duration = request.default_duration.unwrap_or(self.default_duration);
        if duration == 0 {
            let message = "must be at least 1 minute";
            return Err(refused(&Fault::new(code::FIELD_INVALID, "defaultDuration", 0, message)));
        }
        let plan =
            import::plan(request, duration, &self.calendar.borrow(), &self.patients.borrow());
        let mut report = plan.report;
        if report.refused > 0 && !request.skip_invalid {
            let first = report.faults.first().map(ToString::to_string).unwrap_or_default();
            let message = format!(
                "{} of {} lines are refused and nothing was imported; the first: {first}. Correct them, or set skipInvalid to import the others",
                report.refused, report.lines
            );
            let details = ImportDetails { refused: report.refused, faults: report.faults };
            return Err(Error::new(code::IMPORT_INVALID, message).with_details(&details));
        }
        let patients = plan.patients.iter().map(|one| (format!("{PATIENT}{}", one.id), &**one));
        self.host.state().store(patients).await?;
        let appointments =
            plan.appointments.iter().map(|one| (format!("{APPOINTMENT}{}", one.id), &**one));
        self.host.state().store(appointments).await?;

        let imported: BTreeSet<&str> =
            plan.appointments.iter().map(|one| one.id.as_str()).collect();
        for patient in &plan.patients {
            self.patients.borrow_mut().insert(patient.id.clone(), patient.clone());
        }
        for appointment in &plan.appointments {
            self.calendar.borrow_mut().insert(appointment.clone());
        }
        sweep(self.calendar.borrow().iter().map(Rc::as_ref), |overlap| {
            let ours = |id: &str| imported.contains(id);
            report.overlaps += usize::from(ours(&overlap.first.id) || ours(&overlap.second.id));
        });
        self.log_import(&report);
        if !imported.is_empty() {
            self.publish("imported", None, imported.len());
        }
        Ok(report)
    }

    fn log_import(&self, report: &ImportReport) {
        self.host
            .log()
            .with("lines", report.lines)
            .with("created", report.created)
            .with("patients", report.patients)
            .with("refused", report.refused)
            .with("overlaps", report.overlaps)
            .info("imported");
    }

    /// A page of the appointments that are looked for.
    ///
    /// # Errors
    /// [`code::FIELD_INVALID`] for a limit or a page mark that cannot be, or a range that ends before it begins.
    pub fn list(&self, request: ListRequest) -> Result<ListReply> {
        if let (Some(from), Some(to)) = (&request.from, &request.to)
            && to < from
        {
            let message = format!("is before `from`, {from}");
            return Err(refused(&Fault::new(code::FIELD_INVALID, "to", to, &message)));
        }
        let filter = Filter {
            from: request.from.as_ref().map(Instant::at),
            to: request.to.as_ref().map(Instant::at),
            patient: request.patient,
            practitioner: request.practitioner,
            status: request.status,
        };
        page::cut(&self.calendar.borrow(), &filter, request.after.as_deref(), request.limit)
            .map_err(|fault| refused(&fault))
    }

    /// The appointment with this id.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`].
    pub fn get(&self, id: &str) -> Result<Rc<Appointment>> {
        self.calendar.borrow().get(id).cloned().ok_or_else(|| {
            let message = format!("no appointment has the id \"{id}\"");
            Error::new(code::NOT_FOUND, message)
                .with_details(&serde_json::json!({ "path": "id", "value": id }))
        })
    }

    /// Books an appointment.
    ///
    /// # Errors
    /// A fault of the appointment; [`code::CONFLICT`]; [`code::ALREADY_EXISTS`].
    pub async fn create(&self, request: CreateRequest) -> Result<Appointment> {
        let CreateRequest { mut appointment, allow_conflicts } = request;
        if appointment.id.is_empty() {
            appointment.id =
                crate::id::fresh(&appointment, |id| self.calendar.borrow().get(id).is_some());
        }
        self.name_patients(&mut appointment);
        appointment.check().map_err(|fault| within("appointment", fault))?;
        let length = serde_json::to_vec(&appointment)?.len();
        if length > LONGEST_LINE {
            let message = format!("is longer than {LONGEST_LINE} bytes");
            let fault =
                Fault::new(code::FIELD_INVALID, "appointment", format!("{length} bytes"), &message);
            return Err(refused(&fault));
        }
        if let Some(present) = self.calendar.borrow().get(&appointment.id) {
            if **present == appointment {
                return Ok(appointment);
            }
            let message =
                format!("there is an appointment \"{}\" already, and it differs", appointment.id);
            return Err(Error::new(code::ALREADY_EXISTS, message));
        }
        if !allow_conflicts {
            self.check_free(&appointment)?;
        }
        let created = self.change("created", appointment).await?;
        self.measures.book(&created);
        Ok(created)
    }

    /// Cancels an appointment. One that is cancelled already stays as it is.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`]; [`code::STATUS_INVALID`] when it has taken place.
    pub async fn cancel(&self, request: CancelRequest) -> Result<Appointment> {
        let present = self.get(&request.id)?;
        if present.status == Status::Cancelled {
            return Ok((*present).clone());
        }
        let mut appointment = open(&present, "cancelled")?;
        appointment.status = Status::Cancelled;
        appointment.cancelation_reason = request.reason.as_deref().map(CodeableConcept::text);
        self.change("cancelled", appointment).await
    }

    /// Moves an appointment.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`]; [`code::STATUS_INVALID`] when it has taken place or was cancelled; [`code::CONFLICT`];
    /// [`code::PERIOD_INVALID`].
    pub async fn reschedule(&self, request: RescheduleRequest) -> Result<Appointment> {
        let present = self.get(&request.id)?;
        let mut appointment = open(&present, "moved")?;
        let end = match request.end {
            Some(end) => end,
            None => same_length(&present, &request.start)?,
        };
        (appointment.start, appointment.end) = (request.start, end);
        appointment.minutes_duration = appointment.whole_minutes();
        appointment.check().map_err(|fault| refused(&fault))?;
        if appointment == *present {
            return Ok(appointment);
        }
        if !request.allow_conflicts {
            self.check_free(&appointment)?;
        }
        self.change("rescheduled", appointment).await
    }

    /// Cancels what was still waiting for somebody's word when its time was over; how many. What another request is
    /// changing at this moment is left for the next time.
    ///
    /// # Errors
    /// What the host's state fails with; what was cancelled before stays so.
    pub async fn expire(&self, now: Timestamp) -> Result<usize> {
        let over = |one: &Rc<Appointment>| one.status.is_tentative() && one.end.at() < now;
        let ids: Vec<String> = self
            .calendar
            .borrow()
            .iter()
            .filter(|one| over(one))
            .map(|one| one.id.clone())
            .collect();
        let mut expired = 0;
        for id in ids {
            if self.changing.borrow().contains(&id) || !self.get(&id).is_ok_and(|one| over(&one)) {
                continue;
            }
            self.cancel(CancelRequest { id, reason: Some(EXPIRED.to_owned()) }).await?;
            expired += 1;
        }
        self.host.log().with("expired", expired).info("looked for what is over");
        Ok(expired)
    }

    /// How much there is.
    pub fn stats(&self) -> StatsReply {
        let calendar = self.calendar.borrow();
        let mut by_status = BTreeMap::new();
        let mut practitioners = BTreeSet::new();
        for appointment in calendar.iter() {
            *by_status.entry(appointment.status.as_str().to_owned()).or_default() += 1;
            practitioners.extend(appointment.actors("Practitioner").filter_map(|who| who.id()));
        }
        let mut overlaps = 0;
        sweep(calendar.iter().map(Rc::as_ref), |_| overlaps += 1);
        StatsReply {
            appointments: calendar.len(),
            by_status,
            patients: self.patients.borrow().len(),
            practitioners: practitioners.len(),
            overlaps,
            first_start: calendar.iter().next().map(|one| one.start.clone()),
            last_start: calendar.last().map(|one| one.start.clone()),
        }
    }

    /// Gives patients on record their names, where the appointment has none.
    fn name_patients(&self, appointment: &mut Appointment) {
        let patients = self.patients.borrow();
        for one in &mut appointment.participant {
            if one.actor.kind() == Some("Patient") && one.actor.display.is_none() {
                let known = one.actor.id().and_then(|id| patients.get(id));
                one.actor.display = known.and_then(|patient| patient.display());
            }
        }
    }

    fn check_free(&self, wanted: &Appointment) -> Result<()> {
        let mut conflicts = self.calendar.borrow().conflicts(wanted);
        let Some(first) = conflicts.first() else { return Ok(()) };
        let other = if first.first.id == wanted.id { &first.second } else { &first.first };
        let whom: Vec<_> =
            first.shared.iter().map(|who| format!("{} {}", who.kind, who.id)).collect();
        let message = format!(
            "{} is taken from {} to {} by the appointment {}{}; choose another time, or set allowConflicts",
            whom.join(" and "),
            other.start,
            other.end,
            other.id,
            match conflicts.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            },
        );
        self.measures.conflict();
        conflicts.truncate(CONFLICTS_LISTED);
        Err(Error::new(code::CONFLICT, message).with_details(&ConflictDetails { conflicts }))
    }

    /// Makes a change known, writes it, and takes it back if it could not be written.
    async fn change(&self, change: &str, appointment: Appointment) -> Result<Appointment> {
        let id = appointment.id.clone();
        if !self.changing.borrow_mut().insert(id.clone()) {
            let message =
                format!("the appointment \"{id}\" is being changed by another request; try again");
            return Err(Error::new(code::CONFLICT, message));
        }
        let appointment = Rc::new(appointment);
        let before = self.calendar.borrow_mut().insert(appointment.clone());
        let key = format!("{APPOINTMENT}{id}");
        let written = self.host.state().set(&key, &*appointment).await;
        self.changing.borrow_mut().remove(&id);
        if let Err(error) = written {
            let mut calendar = self.calendar.borrow_mut();
            match before {
                Some(before) => drop(calendar.insert(before)),
                None => drop(calendar.remove(&id)),
            }
            return Err(error.context(format_args!("the appointment was not {change}")));
        }
        self.host.log().with("id", &id).info(format_args!("appointment {change}"));
        self.publish(change, Some(&id), 1);
        Ok((*appointment).clone())
    }

    fn publish(&self, change: &str, id: Option<&str>, count: usize) {
        self.measures.change(change, count);
        self.measures.keep(self.calendar.borrow().len());
        let news = Changed { change: change.to_owned(), id: id.map(str::to_owned), count };
        if let Err(error) = self.host.events().publish_on::<Changed>(&news) {
            // The change itself is saved; those who listen will see it when they next look.
            self.host
                .log()
                .with("change", change)
                .warn(format_args!("event not published: {error}"));
        }
    }
}

/// The error of a fault, for the wire.
fn refused(fault: &Fault) -> Error {
    Error::new(fault.code.clone(), fault.to_string()).with_details(fault)
}

fn within(part: &str, mut fault: Fault) -> Error {
    fault.path = format!("{part}.{}", fault.path);
    refused(&fault)
}

fn open(appointment: &Appointment, change: &str) -> Result<Appointment> {
    if appointment.status.is_open() {
        return Ok(appointment.clone());
    }
    let status = appointment.status.as_str();
    let message = format!("an appointment that is {status} can not be {change}");
    Err(refused(&Fault::new(code::STATUS_INVALID, "status", status, &message)))
}

fn same_length(present: &Appointment, start: &Instant) -> Result<Instant> {
    let length = present.end.at().duration_since(present.start.at());
    start.plus(length).map_err(|fault| refused(&fault))
}
