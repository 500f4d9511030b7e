//! Runs the machine's own tools (`ip`, `nft`, `tc` …) and makes a sentence of their failures.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs a program and hands back what it printed.
///
/// # Errors
/// If it cannot be started or its exit code is not 0; the text holds the command and what it said.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    output(Command::new(program).args(args), "")
}

/// Runs a prepared command with this text as its standard input.
///
/// # Errors
/// As [`run`].
pub fn output(command: &mut Command, input: &str) -> Result<String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{shown} cannot be started; is the package installed?"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // a program that fails early does not read its input: its own message says more than our broken pipe
        let _ = stdin.write_all(input.as_bytes());
    }
    let done = child
        .wait_with_output()
        .with_context(|| format!("{shown} cannot be waited for"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("{shown} ended with {}: {}{input}", done.status, said.trim_end());
    }
    Ok(text)
}
