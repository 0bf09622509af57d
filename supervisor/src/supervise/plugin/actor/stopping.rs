//! Its stop, from the request to its end.

use tokio::sync::oneshot;

use super::super::machine::{Input, State};
use super::super::stop::{self, DisableRequest, StopOptions, StopReport, Stopping};
use super::{Actor, News};
use crate::failure::Failure;
use crate::supervise::usage;

impl Actor {
    /// What runs is told to go before anything is stored, as a disk can take any time; a death in
    /// between ends with the plugin as it was, or with the next request.
    pub(super) async fn disable(
        &mut self,
        stopping: Stopping,
        stays: bool,
        answer: oneshot::Sender<Result<StopReport, Failure>>,
    ) {
        if self.stopping.as_ref().is_none_or(|held| stopping.due() < held.due()) {
            self.stopping = Some(stopping);
        }
        self.waiting_for_stop.push(answer);
        let runs = !matches!(
            self.machine.state(),
            State::Disabled | State::Restarting { .. } | State::Tripped { .. }
        );
        if runs {
            self.step(Input::Disable).await;
        }
        if stays {
            self.want_disabled().await;
        }
        // Where nothing runs it is over with this step, and answered.
        if !runs {
            self.step(Input::Disable).await;
        }
    }

    /// How it is stopped: as it was asked for, or as at any other time where nobody has asked.
    pub(super) fn how_to_stop(&self) -> Stopping {
        self.stopping.clone().unwrap_or_else(|| {
            let request = DisableRequest::orderly("disable");
            let options = StopOptions::of(&self.context.settings, &self.manifest, &request);
            Stopping::now(options)
        })
    }

    pub(super) fn nothing_ran(&self) -> StopReport {
        StopReport::nothing_ran(self.how_to_stop().options.budget)
    }

    pub(super) fn begin_stop(&mut self) {
        let Some(process) = self.process.clone() else {
            let _ = self.news.send(News::Stopped(Ok(self.nothing_ran())));
            return;
        };
        self.sampled =
            process.cgroup.as_deref().map(|path| (process.generation, usage::read(path)));
        let (launcher, id) = (self.context.launcher.clone(), self.row.id.clone());
        let (stopping, news) = (self.how_to_stop(), self.news.clone());
        tokio::task::spawn_local(async move {
            let stopped = stop::stop(&launcher, &id, &process, &stopping).await;
            let _ = news.send(News::Stopped(stopped));
        });
    }

    /// A stop is under way, and another was asked for.
    pub(super) async fn hasten_stop(&mut self) {
        let (Some(process), Some(stopping)) = (&self.process, &self.stopping) else { return };
        stopping.arm(&self.context.launcher, &self.row.id, process.generation).await;
    }

    pub(super) async fn stopped(&mut self, result: Result<StopReport, Failure>) {
        if let Err(failure) = &result {
            self.last_failure = Some(failure.clone());
        }
        self.process = None;
        self.last_stop = Some(result);
        self.store_disabled().await;
        self.step(Input::Stopped).await;
    }
}
