//! Every appointment in memory, by id and by time. What is on disk is the host's state; this is its index.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};

use crate::fhir::{Appointment, Status, id_of};
use crate::overlap::{self, Overlap};

type Position = (Timestamp, Rc<str>);

/// An index of appointments.
#[derive(Debug, Default)]
pub struct Calendar {
    by_id: HashMap<Rc<str>, Rc<Appointment>>,
    by_start: BTreeMap<Position, Rc<Appointment>>,
    /// The length of the longest appointment that was ever in it: how far before a range its first one may start.
    longest: SignedDuration,
}

/// What to look for. Each criterion that is given must hold; an appointment is in a range when it overlaps it.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Ends after this moment.
    pub from: Option<Timestamp>,
    /// Starts before this moment.
    pub to: Option<Timestamp>,
    /// A patient's id, or a reference to one.
    pub patient: Option<String>,
    /// A practitioner's id, or a reference to one.
    pub practitioner: Option<String>,
    /// Has one of these statuses; none named means any.
    pub status: Vec<Status>,
}

impl Filter {
    fn admits(&self, appointment: &Appointment) -> bool {
        let takes_part = |kind: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| {
                appointment.actors(kind).filter_map(|who| who.id()).any(|id| id == id_of(wanted))
            })
        };
        self.from.is_none_or(|from| appointment.end.at() > from)
            && self.to.is_none_or(|to| appointment.start.at() < to)
            && (self.status.is_empty() || self.status.contains(&appointment.status))
            && takes_part("Patient", self.patient.as_deref())
            && takes_part("Practitioner", self.practitioner.as_deref())
    }
}

impl Calendar {
    /// Puts an appointment in, and returns the one that it replaces.
    pub fn insert(&mut self, appointment: Rc<Appointment>) -> Option<Rc<Appointment>> {
        let before = self.remove(&appointment.id);
        let length = appointment.end.at().duration_since(appointment.start.at());
        self.longest = self.longest.max(length);
        let id: Rc<str> = appointment.id.as_str().into();
        self.by_start.insert((appointment.start.at(), id.clone()), appointment.clone());
        self.by_id.insert(id, appointment);
        before
    }

    /// Takes an appointment out.
    pub fn remove(&mut self, id: &str) -> Option<Rc<Appointment>> {
        let appointment = self.by_id.remove(id)?;
        self.by_start.remove(&(appointment.start.at(), appointment.id.as_str().into()));
        Some(appointment)
    }

    /// The appointment with this id.
    pub fn get(&self, id: &str) -> Option<&Rc<Appointment>> {
        self.by_id.get(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them in the order of their starts (and of their ids, at the same moment).
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Appointment>> {
        self.by_start.values()
    }

    /// The one that starts last.
    pub fn last(&self) -> Option<&Rc<Appointment>> {
        self.by_start.values().next_back()
    }

    /// Those that `filter` admits and that come after `after`, in the order of [`Calendar::iter`].
    pub fn find<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<(Timestamp, &str)>,
    ) -> impl Iterator<Item = &'a Rc<Appointment>> {
        let earliest = filter
            .from
            .and_then(|from| from.checked_sub(self.longest).ok())
            .unwrap_or(Timestamp::MIN);
        let first = match after {
            Some((start, id)) if start >= earliest => {
                std::ops::Bound::Excluded((start, Rc::from(id)))
            }
            _ => std::ops::Bound::Included((earliest, Rc::from(""))),
        };
        self.by_start
            .range((first, std::ops::Bound::Unbounded))
            .take_while(|((start, _), _)| filter.to.is_none_or(|to| *start < to))
            .map(|(_, appointment)| appointment)
            .filter(|appointment| filter.admits(appointment))
    }

    /// The appointments, other than itself, with which `wanted` would conflict.
    pub fn conflicts(&self, wanted: &Appointment) -> Vec<Overlap> {
        let filter = Filter {
            from: Some(wanted.start.at()),
            to: Some(wanted.end.at()),
            ..Filter::default()
        };
        self.find(&filter, None)
            .filter(|other| other.id != wanted.id)
            .filter_map(|other| overlap::between(other, wanted))
            .collect()
    }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
