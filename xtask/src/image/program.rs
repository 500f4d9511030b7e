//! Static programs for images: built for the machine's own platform, and looked at before they are packed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::command;

/// A processor, as compilers and as images name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The compiler's target.
    target: &'static str,
    /// The name in images.
    pub architecture: &'static str,
}

/// Keeps these builds apart: their flags would make every other build start anew, and theirs after it.
const FOLDER: &str = "static";
/// The daemon's package and program.
const DAEMON: &str = "mesh-daemon";
/// The whole of libc goes into the program, getaddrinfo included.
const STATIC: &str = "-C target-feature=+crt-static";

impl Platform {
    /// The platform that this program runs on.
    ///
    /// # Errors
    /// If no image can be made for it.
    pub fn of_this_machine() -> Result<Self> {
        let (target, architecture) = match env::consts::ARCH {
            "x86_64" => ("x86_64-unknown-linux-gnu", "amd64"),
            "aarch64" => ("aarch64-unknown-linux-gnu", "arm64"),
            other => bail!("images are made for x86_64 and aarch64 only, and this machine is {other}"),
        };
        Ok(Self { target, architecture })
    }
}

/// The daemon, optimised.
///
/// # Errors
/// If it cannot be built, or is not static.
pub fn daemon(platform: Platform) -> Result<Vec<u8>> {
    let mut cargo = cargo(platform);
    cargo.args(["--release", "--package", DAEMON, "--bin", DAEMON]);
    // half of the size, and a backtrace still names the functions
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    command::run(&mut cargo)?;
    checked_static(&built(platform, "release", DAEMON))
}

/// The folder of the optimised daemon, once [`daemon`] has built it.
pub fn daemon_folder(platform: Platform) -> PathBuf {
    folder().join(platform.target).join("release")
}

/// Programs of the crate mesh-tests, built the quick way, in the order of their names.
///
/// # Errors
/// If they cannot be built, or one is not static.
pub fn for_tests<const N: usize>(platform: Platform, names: [&str; N]) -> Result<[Vec<u8>; N]> {
    let mut cargo = cargo(platform);
    cargo.args(["--package", "mesh-tests"]);
    for name in names {
        cargo.args(["--bin", name]);
    }
    cargo.env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
    command::run(&mut cargo)?;
    let mut programs = names.map(|_| Vec::new());
    for (program, name) in programs.iter_mut().zip(names) {
        *program = checked_static(&built(platform, "debug", name))?;
    }
    Ok(programs)
}

/// A program that needs nothing of the image that it is put into.
///
/// # Errors
/// If it cannot be read, is not a program, or wants a loader and shared libraries.
pub fn checked_static(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    match wants_loader(&bytes) {
        Some(false) => Ok(bytes),
        Some(true) => bail!(
            "{} is linked dynamically: an image needs a static program",
            path.display()
        ),
        None => bail!("{} is not a 64-bit program for Linux", path.display()),
    }
}

fn cargo(platform: Platform) -> Command {
    let mut cargo = command::cargo();
    // naming the target, even the host's own, keeps the flags away from build scripts and proc macros
    cargo
        .args(["build", "--locked", "--target", platform.target])
        .env("RUSTFLAGS", STATIC)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env("CARGO_TARGET_DIR", folder());
    cargo
}

fn folder() -> PathBuf {
    command::target_dir().join(FOLDER)
}

fn built(platform: Platform, profile: &str, name: &str) -> PathBuf {
    folder().join(platform.target).join(profile).join(name)
}

/// Whether an ELF program of 64 bits, little-endian, names a loader (a program header PT_INTERP). None if it is no such program.
fn wants_loader(elf: &[u8]) -> Option<bool> {
    const MAGIC_64_LITTLE: &[u8] = b"\x7fELF\x02\x01";
    const PT_INTERP: u32 = 3;
    if !elf.starts_with(MAGIC_64_LITTLE) {
        return None;
    }
    let u16_at = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let table = usize::try_from(u64::from_le_bytes(elf.get(32..40)?.try_into().ok()?)).ok()?;
    let (entry, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
    let mut headers = (0..count).map(|number| {
        let at = table.checked_add(number * entry)?;
        Some(u32::from_le_bytes(elf.get(at..at.checked_add(4)?)?.try_into().ok()?))
    });
    headers.try_fold(false, |found, kind| Some(found || kind? == PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header and program headers of these kinds, and nothing that they point to.
    fn elf(kinds: &[u32]) -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            let mut header = [0; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            elf.extend(header);
        }
        elf
    }

    #[test]
    fn a_program_that_wants_a_loader_is_told_apart() {
        let cut = elf(&[1, 3])[..80].to_vec();
        for (bytes, expected) in [
            (elf(&[6, 1, 2]), Some(false)),
            (elf(&[6, 3, 1]), Some(true)),
            (cut, None),
            (b"#!/bin/sh\n".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(wants_loader(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn this_test_itself_is_linked_dynamically() {
        let own = env::current_exe().unwrap();
        let said = checked_static(&own).unwrap_err().to_string();
        assert!(said.contains("linked dynamically"), "{said}");
    }
}
