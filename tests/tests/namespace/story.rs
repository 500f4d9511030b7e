//! The demo itself: what a new user sees first must work to its last row, and leave nothing.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use mesh_tests::process;

const ROWS: [&str; 11] = [
    "not captured",
    "captured",
    "scaled to five",
    "one server killed",
    "90/10 split",
    "header to v2",
    "slow server avoided",
    "breaker opened",
    "breaker closed",
    "opened, with retry",
    "label removed",
];

fn demo(args: &[&str]) -> Result<(bool, String)> {
    let output = Command::new(process::binary("weft-demo")?)
        .args(args)
        .output()
        .context("weft-demo")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(said)?))
}

fn told(story: impl FnOnce() -> Result<()>) {
    if let Err(error) = story() {
        panic!("{error:#}");
    }
}

/// A demo that this machine's user keeps is his: it is not taken down for a test.
fn nobody_elses() -> Result<()> {
    ensure!(
        !Path::new("/run/weft-demo").exists(),
        "a demo is kept or being told on this machine: remove it with `cargo xtask demo --down`, or wait for its end, and start the test again"
    );
    Ok(())
}

/// Takes the test's own demo down, however the test ends.
struct TakenDown;

impl Drop for TakenDown {
    fn drop(&mut self) {
        // a test that got to its end did it already, which is fine
        let _ = demo(&["--down"]);
    }
}

fn nothing_left() -> Result<()> {
    ensure!(!Path::new("/run/weft-demo").exists(), "/run/weft-demo is still there");
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    ensure!(!mounts.contains("weft-demo"), "a mount is left: {mounts}");
    for entry in fs::read_dir("/run/netns").into_iter().flatten() {
        let name = entry?.file_name();
        ensure!(
            !name.to_string_lossy().starts_with("weft-demo"),
            "{} is left",
            name.display()
        );
    }
    Ok(())
}

#[test]
fn the_demo_shows_every_row_and_leaves_nothing() {
    told(|| {
        nobody_elses()?;
        let (worked, said) = demo(&[])?;
        ensure!(worked, "it failed: {said}");
        let rows: Vec<_> = said
            .lines()
            .filter_map(|line| ROWS.iter().find(|row| line.starts_with(**row)))
            .collect();
        // a row's name may begin another's: compare the order only
        ensure!(rows.len() == ROWS.len(), "{rows:?} of {said}");
        ensure!(rows.into_iter().eq(&ROWS), "the rows are in another order: {said}");
        for words in ["not a benchmark", "--keep"] {
            ensure!(said.contains(words), "it does not say {words}: {said}");
        }
        nothing_left()
    });
}

#[test]
fn a_kept_demo_is_there_until_it_is_taken_down() {
    told(|| {
        nobody_elses()?;
        let _down = TakenDown;
        let (kept, said) = demo(&["--keep"])?;
        ensure!(kept, "it failed: {said}");
        for hint in [
            "curl",
            "/metrics",
            "/snapshot",
            "weft.mesh/capture",
            "split.yaml",
            "--down",
        ] {
            ensure!(said.contains(hint), "it does not say {hint}: {said}");
        }
        let (second, said) = demo(&[])?;
        ensure!(!second, "a second demo started beside the kept one");
        ensure!(
            said.contains("--down") && said.contains("pid"),
            "it does not say what to do: {said}"
        );
        let (down, said) = demo(&["--down"])?;
        ensure!(down, "it failed: {said}");
        nothing_left()
    });
}
