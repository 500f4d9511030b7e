//! The node daemon: reads its command line, starts logging, and does what was asked. A failure is one line on stderr.

use std::process::ExitCode;

use mesh_daemon::{app, config, print, telemetry};

fn main() -> ExitCode {
    let invocation = match config::command_line() {
        Ok(invocation) => invocation,
        Err(stop) => return stop.print(),
    };
    telemetry::init(&invocation.log.filter, invocation.log.format);
    match app::main(invocation.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::complaint(&one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes as one line; a cause that the sentence before already quotes is not told twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once_and_in_one_line() {
        let error = anyhow::anyhow!("no\nroom")
            .context("cannot write (no room)")
            .context("cannot start");
        assert_eq!(one_line(&error), "cannot start: cannot write (no room)");
        let error = anyhow::anyhow!("no room").context("cannot write");
        assert_eq!(one_line(&error), "cannot write: no room");
    }
}
