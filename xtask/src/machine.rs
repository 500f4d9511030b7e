//! What the machine must be before anything is installed on it: Linux, root, a kernel and a Rust that are new enough.

use std::{fs, os::unix::fs::MetadataExt};

use anyhow::{Context, Result, bail};

use crate::command;

/// Debian 12's kernel, the oldest on which the kernel half was seen working: `bpf_sk_assign` from TC, ring buffers and BPF links are older.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// The workspace's `rust-version`.
const RUST_MIN: (u32, u32) = (1, 95);

/// How to become root and keep the toolchain: most sudoers files reset PATH even with `-E`.
pub const AS_ROOT: &str = "run it again with `sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask …`";

/// One sentence for the first thing that is not as it must be.
///
/// # Errors
/// If this is not Linux, not root, or the kernel or Rust are too old.
pub fn preflight() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("Weft runs on Linux only; this is {}", std::env::consts::OS);
    }
    if !is_root() {
        bail!("this command makes network namespaces and installs packages, so it needs root; {AS_ROOT}");
    }
    kernel_is_new_enough(&kernel_release()?)?;
    rust_is_new_enough(&rustc_version()?)
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    // the owner of a process's folder is its effective user
    fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

fn kernel_release() -> Result<String> {
    fs::read_to_string("/proc/sys/kernel/osrelease").context("could not read the kernel's version; is /proc mounted?")
}

fn rustc_version() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut query = command::program(rustc);
    if let Some(toolchain) = std::env::var_os("RUSTUP_TOOLCHAIN") {
        query.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    command::output_of(query.arg("--version"))
        .context("rustc does not run; install Rust with rustup (https://rustup.rs)")
}

fn kernel_is_new_enough(release: &str) -> Result<()> {
    let (major, minor) = KERNEL_MIN;
    match leading_version(release.trim()) {
        Some(version) if version >= KERNEL_MIN => Ok(()),
        _ => bail!(
            "Weft needs Linux {major}.{minor} or newer, this is {}; boot a newer kernel",
            release.trim()
        ),
    }
}

fn rust_is_new_enough(version: &str) -> Result<()> {
    let (major, minor) = RUST_MIN;
    match version.split_whitespace().nth(1).and_then(leading_version) {
        Some(found) if found >= RUST_MIN => Ok(()),
        _ => bail!("Weft needs Rust {major}.{minor} or newer, this is {version}; run `rustup update stable`"),
    }
}

/// `6.18.44-fc-v595` → (6, 18)
fn leading_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        for (release, fits) in [
            ("6.18.44-fc-v595\n", true),
            ("6.1.0-18-amd64", true),
            ("6.1", true),
            ("10.0.0", true),
            ("6.0.19", false),
            ("5.15.0-105-generic", false),
            ("nonsense", false),
            ("", false),
        ] {
            let found = kernel_is_new_enough(release);
            assert_eq!(found.is_ok(), fits, "{release}: {found:?}");
        }
    }

    #[test]
    fn compilers() {
        for (version, fits) in [
            ("rustc 1.95.0 (59807616e 2026-04-14)", true),
            ("rustc 1.97.0-nightly (e50aa6fba 2026-05-19)", true),
            ("rustc 2.0.0", true),
            ("rustc 1.94.1 (abc 2026-03-01)", false),
            ("rustc 1.63.0 (Debian)", false),
            ("rustc", false),
        ] {
            let found = rust_is_new_enough(version);
            assert_eq!(found.is_ok(), fits, "{version}: {found:?}");
        }
    }

    #[test]
    fn the_compiler_asked_for_is_the_workspaces() {
        let manifest = fs::read_to_string(command::workspace().join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("rust-version = \"{}.{}\"", RUST_MIN.0, RUST_MIN.1)));
    }
}
