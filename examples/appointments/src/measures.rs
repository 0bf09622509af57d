//! What Prometheus is shown of the appointments, as `bulkhead_plugin_appointments_…`.

use bulkhead_plugin_sdk::{Counter, Gauge, Histogram, Host};

use crate::fhir::Appointment;

/// Bounds of the length of an appointment, in minutes.
const MINUTES: [f64; 6] = [15.0, 30.0, 45.0, 60.0, 120.0, 240.0];

#[derive(Debug)]
pub(crate) struct Measures {
    host: Host,
    kept: Gauge,
    conflicts: Counter,
    lengths: Histogram,
}

impl Measures {
    pub(crate) fn new(host: &Host) -> Self {
        let metrics = host.metrics();
        Self {
            kept: metrics.gauge("appointments_kept", "Appointments on record", &[]),
            conflicts: metrics.counter(
                "appointments_conflicts_total",
                "Refused, as the time was taken",
                &[],
            ),
            lengths: metrics.histogram(
                "appointments_length_minutes",
                "How long what is booked takes",
                &[],
                &MINUTES,
            ),
            host: host.clone(),
        }
    }

    /// So many are on record now.
    pub(crate) fn keep(&self, count: usize) {
        self.kept.set(count as f64);
    }

    /// Some were `created`, `cancelled`, `rescheduled` or `imported`.
    pub(crate) fn change(&self, change: &str, count: usize) {
        let help = "Appointments that were created, cancelled, rescheduled or imported";
        let labels = [("change", change)];
        let changes = self.host.metrics().counter("appointments_changes_total", help, &labels);
        changes.add(count as u64);
    }

    /// One was refused, as the time was taken.
    pub(crate) fn conflict(&self) {
        self.conflicts.increment();
    }

    /// One is booked.
    pub(crate) fn book(&self, appointment: &Appointment) {
        if let Some(minutes) = appointment.whole_minutes() {
            self.lengths.observe(f64::from(minutes));
        }
    }
}
