//! `[lifecycle]`: how long each stage may take, and what happens after a crash.

use serde::{Deserialize, Serialize};

use super::units::TimeSpan;

/// Nothing else can be done to the plugin meanwhile.
const MAX_PROBATION: TimeSpan = TimeSpan::from_secs(600);

/// The longest budget of a stop, whoever gives it: a guarantee that is further away is none.
pub(crate) const MAX_STOP: TimeSpan = TimeSpan::from_secs(3600);

/// Deadlines, health and restarts. Every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Lifecycle {
    /// From the start of the process to the end of `init`, handshake included.
    pub(crate) init_timeout: TimeSpan,
    /// The whole budget of a stop. None: the service's default.
    pub(crate) stop_timeout: Option<TimeSpan>,
    /// The part of that budget in which calls in flight are finished and state is saved, before
    /// SIGTERM. None: most of it.
    pub(crate) drain_timeout: Option<TimeSpan>,
    /// The deadline of a call where the caller gave none.
    pub(crate) call_timeout: TimeSpan,
    /// Between two health checks; `0s`: none after the start.
    pub(crate) health_interval: TimeSpan,
    /// The deadline of one health check.
    pub(crate) health_timeout: TimeSpan,
    /// This many failed checks in a row count as a hang.
    pub(crate) health_failures: u32,
    /// How long a new version has to stay up before an upgrade is committed; `0s`: it only has to
    /// come up.
    pub(crate) probation: TimeSpan,
    pub(crate) restart: Restart,
    pub(crate) circuit: Circuit,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            init_timeout: TimeSpan::from_secs(10),
            stop_timeout: None,
            drain_timeout: None,
            call_timeout: TimeSpan::from_secs(30),
            health_interval: TimeSpan::from_secs(10),
            health_timeout: TimeSpan::from_secs(5),
            health_failures: 3,
            probation: TimeSpan::from_secs(0),
            restart: Restart::default(),
            circuit: Circuit::default(),
        }
    }
}

/// `[lifecycle.restart]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Restart {
    pub(crate) policy: RestartPolicy,
    /// Before the first restart; it doubles with each that follows.
    pub(crate) backoff: TimeSpan,
    pub(crate) backoff_max: TimeSpan,
    /// With more deaths than this within `window` the circuit opens: the plugin is `tripped`.
    pub(crate) limit: u32,
    pub(crate) window: TimeSpan,
    /// How long a tripped plugin stays so before one start is tried.
    pub(crate) cool_down: TimeSpan,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::OnFailure,
            backoff: TimeSpan::from_secs(1),
            backoff_max: TimeSpan::from_secs(30),
            limit: 5,
            window: TimeSpan::from_secs(60),
            cool_down: TimeSpan::from_secs(60),
        }
    }
}

/// `[lifecycle.circuit]`: when other plugins' calls are kept from one that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Circuit {
    /// So many calls in a row that it did not answer, or died of, open the circuit.
    pub(crate) failures: u32,
    /// How long calls are refused at once before one tries again.
    pub(crate) cool_down: TimeSpan,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { failures: 5, cool_down: TimeSpan::from_secs(10) }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RestartPolicy {
    Never,
    /// After a crash, a hang or a limit; not after it said goodbye and exited 0.
    #[default]
    OnFailure,
    Always,
}

impl Lifecycle {
    /// What two fields say together. The field at fault, relative to the section, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if let (Some(drain), Some(stop)) = (self.drain_timeout, self.stop_timeout)
            && drain > stop
        {
            return Err((
                "drain_timeout",
                format!("{drain} is more than the stop_timeout of {stop}, of which it is a part"),
            ));
        }
        if self.health_failures == 0 {
            return Err((
                "health_failures",
                "must be at least 1; to have no health checks, set health_interval to \"0s\""
                    .into(),
            ));
        }
        if self.circuit.failures == 0 {
            return Err(("circuit.failures", "must be at least 1".into()));
        }
        for (name, span) in [
            ("init_timeout", Some(self.init_timeout)),
            ("stop_timeout", self.stop_timeout),
            ("call_timeout", Some(self.call_timeout)),
            ("health_timeout", Some(self.health_timeout)),
            ("restart.window", Some(self.restart.window)),
            ("circuit.cool_down", Some(self.circuit.cool_down)),
        ] {
            if span.is_some_and(|span| span.millis() == 0) {
                return Err((name, "must be longer than zero".into()));
            }
        }
        if let Some(stop) = self.stop_timeout.filter(|stop| *stop > MAX_STOP) {
            return Err(("stop_timeout", format!("{stop} is more than {MAX_STOP}")));
        }
        if self.probation > MAX_PROBATION {
            let probation = self.probation;
            return Err(("probation", format!("{probation} is more than {MAX_PROBATION}")));
        }
        if self.restart.backoff > self.restart.backoff_max {
            let (backoff, max) = (self.restart.backoff, self.restart.backoff_max);
            return Err(("restart.backoff", format!("{backoff} is more than backoff_max, {max}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<&'static str> {
        toml::from_str::<Lifecycle>(text).unwrap().check().err().map(|(field, _)| field)
    }

    #[test]
    fn the_defaults_hold_together() {
        assert_eq!(toml::from_str::<Lifecycle>("").unwrap(), Lifecycle::default());
        assert_eq!(fault(""), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(fault("stop_timeout = '5s'\ndrain_timeout = '5s'"), None);
        assert_eq!(fault("stop_timeout = '5s'\ndrain_timeout = '6s'"), Some("drain_timeout"));
        assert_eq!(fault("stop_timeout = '1h'"), None);
        assert_eq!(fault("stop_timeout = '61m'"), Some("stop_timeout"));
        assert_eq!(fault("health_failures = 0"), Some("health_failures"));
        assert_eq!(fault("init_timeout = '0s'"), Some("init_timeout"));
        assert_eq!(fault("health_interval = '0s'"), None);
        assert_eq!(fault("probation = '10m'"), None);
        assert_eq!(fault("probation = '601s'"), Some("probation"));
        assert_eq!(fault("[restart]\nbackoff = '1m'"), Some("restart.backoff"));
        assert_eq!(fault("[circuit]\nfailures = 0"), Some("circuit.failures"));
        assert_eq!(fault("[circuit]\ncool_down = '0s'"), Some("circuit.cool_down"));
    }
}
