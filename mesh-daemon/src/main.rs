//! The node daemon: reads its command line, starts logging, and does what was asked. A failure is one line on stderr.

use std::process::ExitCode;

use mesh_daemon::{app, config, telemetry};

fn main() -> ExitCode {
    let invocation = match config::command_line() {
        Ok(invocation) => invocation,
        Err(stop) => return stop.print(),
    };
    telemetry::init(&invocation.log.filter, invocation.log.format);
    match app::main(invocation.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// The causes behind an error stand in the same line: what, because of what.
#[expect(
    clippy::print_stderr,
    reason = "the last word goes to the terminal, whatever is logged"
)]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("mesh-daemon: {error:#}");
    ExitCode::FAILURE
}
