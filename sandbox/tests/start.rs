//! Programs of every kind start, end as they do outside, and are measured.

mod lane;
mod run;

use bulkhead_sandbox::{Cause, Status};
use run::{Command, program};

#[test]
fn a_program_starts_and_its_output_arrives() {
    let finished = Command::new(program(), "/bin/echo", &["hello"]).run();
    assert_eq!(finished.stdout, "hello\n", "stderr: {}", finished.stderr);
    assert_eq!(finished.exit.status, Status::Exited(0));
    println!("{:#?}", finished.enforcement);
}

#[test]
fn exit_codes_come_through() {
    for code in [0, 1, 7, 126, 255] {
        let finished = Command::shell(program(), &format!("exit {code}")).run();
        assert_eq!(finished.exit.status, Status::Exited(code));
        assert_eq!(finished.exit.cause, Cause::Code(code));
    }
}
