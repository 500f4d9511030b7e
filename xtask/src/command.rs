//! Runs other programs: says what it runs, and hands them an environment without what `cargo xtask` itself leaves behind.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// What cargo and rustup set for the program that `cargo run` starts. A child that is another cargo would take them for the user's
/// wishes: `RUSTUP_TOOLCHAIN` overrules the toolchain that is asked for, `LD_LIBRARY_PATH` hands one compiler the other's libraries.
const LEFT_BEHIND: [&str; 5] = [
    "CARGO",
    "RUSTUP_TOOLCHAIN",
    "RUST_RECURSION_COUNT",
    "LD_LIBRARY_PATH",
    "OUT_DIR",
];
const LEFT_BEHIND_PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder that cargo builds into.
pub fn target_dir() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(target)
}

/// A program to be run in the workspace's root, in a clean environment.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(workspace());
    for (key, _) in env::vars_os() {
        if key.to_str().is_some_and(is_left_behind) {
            command.env_remove(&key);
        }
    }
    command
}

/// The cargo that runs this xtask.
pub fn cargo() -> Command {
    let mut command = program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // the toolchain that was chosen for the xtask is the one for all that it builds
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        command.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    command
}

fn is_left_behind(key: &str) -> bool {
    LEFT_BEHIND.contains(&key) || LEFT_BEHIND_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Runs the program to its end and says so first.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command
        .status()
        .with_context(|| format!("could not start `{}`", display(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", display(command));
    }
    Ok(())
}

/// As [`run`], and hands every line of its standard output to `seen` while passing it on. Returns whether it succeeded.
///
/// # Errors
/// If it cannot be started or its output not read.
pub fn run_seeing(command: &mut Command, mut seen: impl FnMut(&str)) -> Result<bool> {
    announce(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{}`", display(command)))?;
    let mut output = BufReader::new(child.stdout.take().context("a piped child has no standard output")?);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()?;
        seen(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(child.wait()?.success())
}

/// What the program printed, if it could be started and succeeded.
pub fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Does one named step and says how long it took.
///
/// # Errors
/// What the step fails with.
pub fn step<T>(name: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("== {name}");
    let started = Instant::now();
    let result = body();
    let word = if result.is_ok() { "done" } else { "FAILED" };
    println!("== {name}: {word} in {:.1} s", started.elapsed().as_secs_f64());
    result
}

fn announce(command: &Command) {
    println!("   $ {}", display(command));
    // a failure would be the next write's to report
    let _ = std::io::stdout().flush();
}

/// The command as one would type it, with the variables that were set for it.
fn display(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(key, value)| {
        let key = key.to_str()?;
        (key != "RUSTUP_TOOLCHAIN").then(|| value.map(|value| format!("{key}={}", quoted(value))))?
    });
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    set.chain([quoted(program)])
        .chain(command.get_args().map(quoted))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains(char::is_whitespace) {
        format!("'{word}'")
    } else {
        word.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_run_leaves_behind_is_taken_away() {
        for (key, gone) in [
            ("RUSTUP_TOOLCHAIN", true),
            ("CARGO_PKG_NAME", true),
            ("LD_LIBRARY_PATH", true),
            ("CARGO_HOME", false),
            ("CARGO_NET_OFFLINE", false),
            ("PATH", false),
        ] {
            assert_eq!(is_left_behind(key), gone, "{key}");
        }
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/cargo");
        command
            .args(["test", "two words"])
            .env("KEY", "value")
            .env_remove("GONE");
        assert_eq!(display(&command), "KEY=value cargo test 'two words'");
    }
}
