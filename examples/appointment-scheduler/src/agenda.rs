//! A day at a glance.

use std::collections::BTreeSet;

use appointments::fhir::{Appointment, Reference};
use appointments::overlap::sweep;
use jiff::civil::Date;

use crate::api::{AgendaEntry, AgendaReply, Slot};
use crate::clinic::{Clinic, Window};
use crate::slots::free_minutes;

/// When an appointment is.
pub(crate) fn window(appointment: &Appointment) -> Window {
    Window { start: appointment.start.at(), end: appointment.end.at() }
}

/// The agenda of a day, from the appointments that overlap it, in the order of their starts.
pub(crate) fn of_day(clinic: &Clinic, date: Date, appointments: &[Appointment]) -> AgendaReply {
    let hours = clinic.window(date);
    let mut conflicts = 0;
    let mut clashing = BTreeSet::new();
    sweep(appointments, |overlap| {
        conflicts += 1;
        clashing.insert(overlap.first.id);
        clashing.insert(overlap.second.id);
    });
    let shown = |who: &Reference| who.display.clone().or_else(|| who.reference.clone());
    let entry = |one: &Appointment| AgendaEntry {
        id: one.id.clone(),
        start: clinic.local(one.start.at()),
        end: clinic.local(one.end.at()),
        status: one.status,
        patient: one.actors("Patient").find_map(shown),
        practitioner: one.actors("Practitioner").find_map(shown),
        description: one.description.clone(),
        conflict: clashing.contains(&one.id),
        outside_hours: !hours.is_some_and(|hours| hours.contains(&window(one))),
    };
    let busy: Vec<_> = appointments.iter().filter(|one| one.status.is_busy()).map(window).collect();
    AgendaReply {
        date: date.to_string(),
        timezone: clinic.timezone().to_owned(),
        open: hours
            .map(|hours| Slot { start: clinic.local(hours.start), end: clinic.local(hours.end) }),
        appointments: appointments.iter().map(entry).collect(),
        free_minutes: hours.map_or(0, |hours| free_minutes(hours, &busy)),
        conflicts,
    }
}
