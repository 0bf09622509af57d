//! The plugin: routes, and what each of them does.

#![allow(clippy::unused_async)] // A handler is async, whether it waits or not.

use std::time::Duration;

use appointments::api::{Changed, Get, GetRequest, ListRequest};
use appointments::fhir::{Appointment, id_of};
use appointments::overlap::{Overlap, sweep};
use bulkhead_plugin_sdk::{About, Cache, CacheLimits, Error, Host, Plugin, Result, Router, about};

use crate::agenda;
use crate::api::{
    Agenda, AgendaReply, AgendaRequest, Book, BookRequest, Cancel, Conflicts, ConflictsReply,
    ConflictsRequest, Reschedule, RescheduleRequest, Slot, Slots, SlotsReply, SlotsRequest,
};
use crate::booking::{self, check_duration};
use crate::clinic::{Clinic, Config, Window};
use crate::fault::{Fault, code, refused};
use crate::moment;
use crate::provider::Provider;
use crate::slots;

/// How many slots or conflicts a reply has if the request does not say, and at most.
const USUAL: u32 = 50;
const MOST: u32 = 500;

/// Free slots that the error of a conflict proposes, and the days in which it looks for them.
const PROPOSED: usize = 3;
const PROPOSED_WITHIN: i32 = 7;

/// Agendas that are remembered: each screen at a front desk asks for the same few days again and again. News of a
/// change empties the cache; should one be lost, an agenda is wrong for no longer than this.
const AGENDAS: CacheLimits =
    CacheLimits { entries: 200, bytes: 4 << 20, age: Duration::from_secs(30) };

/// Books appointments within a clinic's working hours.
#[derive(Debug)]
pub struct Scheduler {
    clinic: Clinic,
    provider: Provider,
    agendas: Cache<AgendaRequest, AgendaReply>,
}

impl Plugin for Scheduler {
    const ABOUT: About = about!();
    type Config = Config;

    fn routes() -> Router<Self> {
        Router::new()
            .on::<Book>(Self::book)
            .on::<Reschedule>(Self::reschedule)
            .on::<Cancel>(Self::cancel)
            .on::<Slots>(Self::slots)
            .on::<Conflicts>(Self::conflicts)
            .on::<Agenda>(Self::agenda)
            .on_event::<Changed>(Self::changed)
    }

    async fn init(config: Config, host: Host) -> Result<Self> {
        let clinic = Clinic::new(&config).map_err(refused)?;
        host.log().with("hours", clinic.hours()).info("ready");
        let agendas = host.cache_with(AGENDAS);
        Ok(Self { clinic, provider: Provider::new(host), agendas })
    }
}

impl Scheduler {
    // What changes an appointment forgets the agendas itself, whether it succeeds or not: whoever has the reply sees
    // the change at once, before the news of it is here.
    async fn book(&self, request: BookRequest) -> Result<Appointment> {
        let clinic = &self.clinic;
        let duration = request.duration.unwrap_or(clinic.default_duration());
        let at = booking::time(clinic, &request.start, duration, request.outside_hours)
            .map_err(refused)?;
        let appointment = booking::appointment(clinic, &request, at).map_err(refused)?;
        let booked = self.provider.create(appointment, request.allow_conflicts).await;
        self.agendas.clear();
        match booked {
            Err(taken) if taken.code() == code::CONFLICT => {
                let who = (request.practitioner.as_deref(), Some(request.patient.as_str()));
                Err(self.propose(taken, who, at, duration).await)
            }
            other => other,
        }
    }

    async fn reschedule(&self, request: RescheduleRequest) -> Result<Appointment> {
        let present = self.provider.call::<Get>(&GetRequest { id: request.id.clone() }).await?;
        let clinic = &self.clinic;
        // Without a duration the length stays, be it of odd seconds; a part of a minute counts as one here.
        let length = present.end.at().duration_since(present.start.at());
        let minutes = u32::try_from((length.as_secs() + 59) / 60).unwrap_or(u32::MAX);
        let duration = request.duration.unwrap_or(minutes);
        let at = booking::time(clinic, &request.start, duration, request.outside_hours)
            .map_err(refused)?;
        let move_to = appointments::api::RescheduleRequest {
            id: request.id,
            start: clinic.local(at.start),
            end: request.duration.map(|_| clinic.local(at.end)),
            allow_conflicts: request.allow_conflicts,
        };
        let moved = self.provider.call::<appointments::api::Reschedule>(&move_to).await;
        self.agendas.clear();
        match moved {
            Err(taken) if taken.code() == code::CONFLICT => {
                let who =
                    (present.participant_id("Practitioner"), present.participant_id("Patient"));
                Err(self.propose(taken, who, at, duration).await)
            }
            other => other,
        }
    }

    async fn cancel(&self, request: appointments::api::CancelRequest) -> Result<Appointment> {
        let cancelled = self.provider.call::<appointments::api::Cancel>(&request).await;
        self.agendas.clear();
        cancelled
    }

    async fn slots(&self, request: SlotsRequest) -> Result<SlotsReply> {
        let clinic = &self.clinic;
        let duration = request.duration.unwrap_or(clinic.default_duration());
        let step = request.step.unwrap_or(duration);
        let range =
            moment::range(clinic, &request.from, request.to.as_deref(), 7).map_err(refused)?;
        check_duration("duration", duration).map_err(refused)?;
        check_duration("step", step).map_err(refused)?;
        let limit = limit(request.limit)?;
        let who = (request.practitioner.as_deref(), request.patient.as_deref());
        let busy = self.busy(range, who).await?;
        let (found, truncated) = slots::free(clinic, range, duration, step, &busy, limit);
        let slots = found.into_iter().map(|slot| self.slot(slot)).collect();
        Ok(SlotsReply { timezone: clinic.timezone().to_owned(), duration, slots, truncated })
    }

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictsReply> {
        let limit = limit(request.limit)?;
        let (from, to) = self.open_range(&request)?;
        let look_for = ListRequest {
            from: from.map(|at| self.clinic.local(at)),
            to: to.map(|at| self.clinic.local(at)),
            ..ListRequest::default()
        };
        let appointments = self.provider.list(look_for).await?;
        let mut reply =
            ConflictsReply { total: 0, appointments: appointments.len(), conflicts: Vec::new() };
        let concerns = |overlap: &Overlap, kind: &str, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| {
                overlap.shared.iter().any(|who| who.kind == kind && who.id == id_of(wanted))
            })
        };
        sweep(&appointments, |overlap| {
            let inside = from.is_none_or(|from| overlap.end.at() > from)
                && to.is_none_or(|to| overlap.start.at() < to);
            if inside
                && concerns(&overlap, "Patient", &request.patient)
                && concerns(&overlap, "Practitioner", &request.practitioner)
            {
                reply.total += 1;
                if reply.conflicts.len() < limit {
                    reply.conflicts.push(overlap);
                }
            }
        });
        Ok(reply)
    }

    /// The provider says that appointments have changed, by whomever.
    async fn changed(&self, _: Changed) -> Result<()> {
        self.agendas.clear();
        Ok(())
    }

    async fn agenda(&self, request: AgendaRequest) -> Result<AgendaReply> {
        let key = request.clone();
        self.agendas.get_or(key, async || self.agenda_anew(request).await).await
    }

    async fn agenda_anew(&self, request: AgendaRequest) -> Result<AgendaReply> {
        let date = moment::day("date", &request.date).map_err(refused)?;
        let beyond = || {
            refused(Fault::new(code::TIME_INVALID, "date", &request.date, "is beyond the calendar"))
        };
        let day = self.clinic.day(date).ok_or_else(beyond)?;
        let look_for = ListRequest {
            from: Some(self.clinic.local(day.start)),
            to: Some(self.clinic.local(day.end)),
            practitioner: request.practitioner,
            ..ListRequest::default()
        };
        let appointments = self.provider.list(look_for).await?;
        Ok(agenda::of_day(&self.clinic, date, &appointments))
    }

    /// The ends of a range that may be open.
    fn open_range(
        &self,
        request: &ConflictsRequest,
    ) -> Result<(Option<jiff::Timestamp>, Option<jiff::Timestamp>)> {
        let clinic = &self.clinic;
        let edge = |path: &str, text: &Option<String>, day_end: bool| {
            let Some(text) = text else { return Ok(None) };
            match moment::day(path, text).ok().and_then(|date| clinic.day(date)) {
                Some(day) => Ok(Some(if day_end { day.end } else { day.start })),
                None => moment::moment(clinic, path, text).map(Some).map_err(refused),
            }
        };
        let from = edge("from", &request.from, false)?;
        let to = edge("to", &request.to, true)?;
        if let (Some(from), Some(to)) = (from, to)
            && to <= from
        {
            let text = request.to.as_deref().unwrap_or_default();
            let fault = Fault::new(code::RANGE_INVALID, "to", text, "is not after `from`");
            return Err(refused(fault));
        }
        Ok((from, to))
    }

    /// When, within `range`, the practitioner or the patient has no time; anyone, if neither is given.
    async fn busy(
        &self,
        range: Window,
        (practitioner, patient): (Option<&str>, Option<&str>),
    ) -> Result<Vec<Window>> {
        let all = ListRequest {
            from: Some(self.clinic.local(range.start)),
            to: Some(self.clinic.local(range.end)),
            ..ListRequest::default()
        };
        let mut look_for = Vec::new();
        if let Some(practitioner) = practitioner {
            look_for
                .push(ListRequest { practitioner: Some(practitioner.to_owned()), ..all.clone() });
        }
        if let Some(patient) = patient {
            look_for.push(ListRequest { patient: Some(patient.to_owned()), ..all.clone() });
        }
        if look_for.is_empty() {
            look_for.push(all);
        }
        let mut busy = Vec::new();
        for request in look_for {
            let found = self.provider.list(request).await?;
            busy.extend(found.iter().filter(|one| one.status.is_busy()).map(agenda::window));
        }
        Ok(busy)
    }

    /// The error of a conflict, with the next free slots for the same people.
    async fn propose(
        &self,
        taken: Error,
        who: (Option<&str>, Option<&str>),
        at: Window,
        duration: u32,
    ) -> Error {
        let clinic = &self.clinic;
        let days = jiff::SignedDuration::from_hours(24 * i64::from(PROPOSED_WITHIN));
        let Ok(end) = at.start.checked_add(days) else { return taken };
        let range = Window { start: at.start, end };
        // Proposals are a courtesy: if they cannot be had, the conflict is still the answer.
        let Ok(busy) = self.busy(range, who).await else { return taken };
        let (free, _) = slots::free(clinic, range, duration, duration, &busy, PROPOSED);
        let Some(first) = free.first() else { return taken };
        let message =
            format!("{}; the next free slot is at {}", taken.message(), clinic.local(first.start));
        let mut details = taken.details().cloned().unwrap_or_default();
        if let Some(details) = details.as_object_mut() {
            let slots: Vec<_> = free.iter().map(|slot| self.slot(*slot)).collect();
            details.insert("proposals".to_owned(), serde_json::json!(slots));
        }
        Error::new(code::CONFLICT, message).with_details(&details)
    }

    fn slot(&self, window: Window) -> Slot {
        Slot { start: self.clinic.local(window.start), end: self.clinic.local(window.end) }
    }
}

fn limit(asked: Option<u32>) -> Result<usize> {
    let limit = asked.unwrap_or(USUAL);
    if (1..=MOST).contains(&limit) {
        return Ok(limit as usize);
    }
    let message = format!("is not 1 to {MOST}");
    Err(refused(Fault::new(code::FIELD_INVALID, "limit", limit, &message)))
}
