//! What holds a pod: it takes up the children of others, and ends when it is told to.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use mesh_tests::bench::wait_for;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::bench::HANG;

/// Does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // it may have ended
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_pause_program_reaps_and_ends() {
    // the shell becomes pause, whose own child `cat` then is; it ends with our end of the pipe
    let script = "exec 3<&0; cat <&3 & echo $!; exec 3<&-; exec \"$0\"";
    let pause = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_weft-pause")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pause = Killed(pause);
    let mut child = String::new();
    BufReader::new(pause.0.stdout.take().unwrap())
        .read_line(&mut child)
        .unwrap();
    let name = format!("/proc/{}/comm", pause.0.id());
    wait_for("the pause program", HANG, || {
        Ok(fs::read_to_string(&name)?.starts_with("weft-pause").then_some(()))
    })
    .unwrap();
    // it looks for ended children only once it holds signals back
    drop(pause.0.stdin.take());
    let child = format!("/proc/{}", child.trim());
    wait_for("the end of the child", HANG, || {
        Ok(fs::metadata(&child).is_err().then_some(()))
    })
    .unwrap();
    assert!(pause.0.try_wait().unwrap().is_none(), "it ended by itself");
    kill(Pid::from_raw(i32::try_from(pause.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = wait_for("the end of the pause program", HANG, || Ok(pause.0.try_wait()?)).unwrap();
    assert!(status.success(), "{status}");
}
