use std::process::ExitCode;

fn main() -> ExitCode {
    bulkhead_plugin_sdk::run::<appointment_scheduler::Scheduler>()
}
