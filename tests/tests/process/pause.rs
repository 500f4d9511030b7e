//! What holds a pod: it takes up the children of others, and ends when it is told to.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use mesh_tests::bench::wait_for;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::bench::HANG;

#[test]
fn the_pause_program_reaps_and_ends() {
    // the shell's child is pause's own as soon as the shell has become pause, and ended long before
    let script = "(exit 0) & echo $!; exec \"$0\"";
    let mut pause = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_weft-pause")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = String::new();
    BufReader::new(pause.stdout.take().unwrap())
        .read_line(&mut child)
        .unwrap();
    let child = format!("/proc/{}", child.trim());
    wait_for("the end of the orphan", HANG, || {
        Ok(fs::metadata(&child).is_err().then_some(()))
    })
    .unwrap();
    let name = format!("/proc/{}/comm", pause.id());
    wait_for("the pause program", HANG, || {
        Ok(fs::read_to_string(&name)?.starts_with("weft-pause").then_some(()))
    })
    .unwrap();
    assert!(pause.try_wait().unwrap().is_none(), "it ended by itself");
    kill(Pid::from_raw(i32::try_from(pause.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = wait_for("the end of the pause program", HANG, || Ok(pause.try_wait()?)).unwrap();
    assert!(status.success(), "{status}");
}
