//! Its stop, from the request to its end.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::last_lines::last_lines;
use super::super::machine::{Input, Origin, State};
use super::super::process::Process;
use super::super::stop::{self, DisableRequest, StopOptions, StopReport, Stopping};
use super::{Actor, News};
use crate::failure::Failure;
use crate::link::Exited;
use crate::supervise::usage;

impl Actor {
    /// What runs is told to go before anything is stored, as a disk can take any time. A death in
    /// between leaves it wanted: the next supervisor lets it go, and starts it again.
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

    /// A start that came to nothing, with what it had come to.
    pub(super) fn taken_back(&self, ended: Option<&Arc<Exited>>) -> StopReport {
        match ended {
            Some(exited) => stop::report(&self.how_to_stop(), vec![], false, exited),
            None => self.nothing_ran(),
        }
    }

    pub(super) fn begin_stop(&mut self) {
        let Some(process) = self.process.clone() else {
            let _ = self.news.send(News::Stopped(Ok(self.nothing_ran())));
            return;
        };
        let (stop, news) = (self.stop(process), self.news.clone());
        tokio::task::spawn_local(async move {
            let _ = news.send(News::Stopped(stop.await));
        });
    }

    fn stop(
        &mut self,
        process: Rc<Process>,
    ) -> impl Future<Output = Result<StopReport, Failure>> + use<> {
        self.sampled =
            process.cgroup.as_deref().map(|path| (process.generation, usage::read(path)));
        let (launcher, id) = (self.context.launcher.clone(), self.row.id.clone());
        let stopping = self.how_to_stop();
        async move { stop::stop(&launcher, &id, &process, &stopping).await }
    }

    /// What was taken over does not do what it should. It may have something to save all the same.
    pub(super) fn unfit(&mut self, process: Rc<Process>, failure: Failure) {
        // Whoever disables it meanwhile may have less patience.
        self.process = Some(Rc::clone(&process));
        let (context, manifest) = (self.context.clone(), Arc::clone(&self.manifest));
        let (stop, news) = (self.stop(Rc::clone(&process)), self.news.clone());
        tokio::task::spawn_local(async move {
            let stopped = stop.await;
            let (key, lines) = last_lines(&context, &manifest, process.generation).await;
            let _ = news.send(News::PutDown(Box::new(failure.with(key, lines)), stopped));
        });
    }

    pub(super) async fn put_down(
        &mut self,
        failure: Failure,
        stopped: Result<StopReport, Failure>,
    ) {
        if let Err(failure) = &stopped {
            tracing::error!(plugin = %self.row.id, %failure, "what was taken over is not gone");
        }
        self.start_failed(failure, stopped).await;
    }

    /// A start came to nothing, and what it had started was stopped. Whoever disables it meanwhile has that;
    /// and where a dead supervisor had begun to, the stop that it had begun is finished.
    pub(super) async fn start_failed(
        &mut self,
        failure: Failure,
        stopped: Result<StopReport, Failure>,
    ) {
        self.last_failure = Some(failure);
        let taken_over = self.machine.state() == State::Enabling(Origin::Adoption);
        if taken_over && !self.row.enabled {
            self.step(Input::Disable).await;
        }
        if self.machine.state() == State::Disabling {
            self.stopped(stopped).await;
            return;
        }
        self.process = None;
        self.step(Input::StartFailed).await;
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
