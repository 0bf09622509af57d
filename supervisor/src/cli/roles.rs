//! The two halves of the service: `serve`, which a person or systemd starts, and `supervise`, which
//! only `serve` starts.

use std::process::ExitCode;

use bulkhead_sandbox::cgroup::{CgroupError, Tree};
use bulkhead_sandbox::unprivileged;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::args::{Global, Serve};
use super::exec::delegation;
use super::problem::Problem;
use crate::config::Config;
use crate::failure::{Code, Failure};
use crate::{launcher, logging, supervise};

/// The launcher: with the configuration, where `--socket` overrides the one in the file.
pub(super) fn serve(arguments: &Serve, global: &Global) -> ExitCode {
    let mut config = match Config::load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(failure) => return super::finish(Err(Problem::from(failure).into()), global.json),
    };
    if let Some(socket) = &global.socket {
        match std::path::absolute(socket) {
            Ok(socket) => config.socket = Some(socket),
            Err(error) => {
                let text = format!("--socket {}: {error}", socket.display());
                let failure = Failure::new(Code::InvalidRequest, text);
                return super::finish(Err(Problem::from(failure).into()), global.json);
            }
        }
    }
    if let Some(parent) = arguments.parent
        && let Err(problem) = end_with(parent)
    {
        return super::finish(Err(problem.into()), global.json);
    }
    if !is_main_process_of_a_unit()
        && matches!(Tree::discover(), Err(CgroupError::NotDelegated { .. }))
    {
        // Comes back only where that is no way out; the launcher then says what is missing.
        delegation::run_again_in_a_scope();
    }
    launcher::serve(&config, arguments.learn.clone())
}

/// Whether systemd waits for this very process (systemd.exec(5), `SYSTEMD_EXEC_PID`). It would lose
/// sight of it in a scope; such a unit needs `Delegate=yes`.
fn is_main_process_of_a_unit() -> bool {
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()))
}

/// Has the kernel send SIGTERM to this process when `parent` ends, however it ends.
fn end_with(parent: i32) -> Result<(), Problem> {
    let failed =
        |why: String| Failure::new(Code::InvalidRequest, format!("--parent {parent}: {why}"));
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(|errno| failed(errno.to_string()))?;
    // It may have ended before.
    if getppid().as_raw() == parent {
        Ok(())
    } else {
        Err(failed("that is not our parent, or it has ended".to_owned()).into())
    }
}

/// The supervisor, on the link that the launcher left at descriptor 3.
pub(super) fn supervise(global: &Global) -> ExitCode {
    match unprivileged::given() {
        Ok(link) => {
            logging::init();
            supervise::run(link)
        }
        Err(error) => {
            let failure = Failure::new(
                Code::InvalidRequest,
                format!(
                    "supervise is half of the service and is started by the other half \
                     (descriptor 3: {error}); start `bulkhead serve`"
                ),
            );
            super::finish(Err(Problem::from(failure).into()), global.json)
        }
    }
}
