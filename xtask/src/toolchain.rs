//! Which compiler builds the kernel half: Debian's with its prebuilt BPF core if it is there, else a nightly that can build core itself.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::command;

/// The target of the kernel half: BPF, little endian.
pub const TARGET: &str = "bpfel-unknown-none";
/// Debian's compiler, from the package rustc-web. Other packages' `/usr/bin/rustc` lack the BPF core and are not taken.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can build the kernel half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Debian's rustc with the prebuilt `core` of libstd-rust-web-dev-bpf.
    Debian,
    /// rustup's nightly, which builds `core` from the component rust-src.
    Nightly,
}

/// What decides: which of the two can do it.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The sysroot of Debian's rustc holds `lib/rustlib/bpfel-unknown-none`.
    pub debian_has_bpf_core: bool,
    /// The nightly's sysroot holds `lib/rustlib/src/rust/library`; a nightly without it is common.
    pub nightly_has_rust_src: bool,
}

/// Debian's compiler first: it needs no build of `core`, and it is what CI has.
pub fn select(facts: Facts) -> Option<Compiler> {
    if facts.debian_has_bpf_core {
        Some(Compiler::Debian)
    } else if facts.nightly_has_rust_src {
        Some(Compiler::Nightly)
    } else {
        None
    }
}

/// The compiler of this machine, if it has one.
pub fn find() -> Option<Compiler> {
    select(Facts {
        debian_has_bpf_core: sysroot_holds(Compiler::Debian, &format!("lib/rustlib/{TARGET}")),
        nightly_has_rust_src: sysroot_holds(Compiler::Nightly, "lib/rustlib/src/rust/library"),
    })
}

impl Compiler {
    /// The folder of this compiler's output: two compilers must not share one.
    pub fn folder(self) -> &'static str {
        match self {
            Compiler::Debian => "debian",
            Compiler::Nightly => "nightly",
        }
    }

    /// Its major LLVM version, which bpf-linker must share.
    ///
    /// # Errors
    /// If the compiler does not run or does not say.
    pub fn llvm_major(self) -> Result<u32> {
        let version = command::output_of(self.rustc().arg("-vV")).with_context(|| format!("{self} does not run"))?;
        llvm_major(&version).with_context(|| format!("{self} does not name its LLVM version in `rustc -vV`"))
    }

    fn rustc(self) -> Command {
        match self {
            Compiler::Debian => command::program(DEBIAN_RUSTC),
            Compiler::Nightly => {
                let mut rustup = command::program("rustup");
                // only asked what there is: nothing may be downloaded by the question
                rustup.args(["run", "nightly", "rustc"]).env("RUSTUP_AUTO_INSTALL", "0");
                rustup
            }
        }
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compiler::Debian => "Debian's rustc (rustc-web, prebuilt core)",
            Compiler::Nightly => "rustup's nightly (rust-src, -Z build-std=core)",
        })
    }
}

/// The dynamic library that bpf-linker of this LLVM version links to, if it is installed.
pub fn lib_llvm(major: u32) -> Option<PathBuf> {
    let folder = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let files = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<_> = files.filter(|path| is_lib_llvm(path, major)).collect();
    found.sort();
    found.pop()
}

fn is_lib_llvm(path: &Path, major: u32) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        name.starts_with(&format!("libLLVM.so.{major}.")) || name == format!("libLLVM-{major}.so.1")
    })
}

fn sysroot_holds(compiler: Compiler, what: &str) -> bool {
    command::output_of(compiler.rustc().args(["--print", "sysroot"]))
        .is_some_and(|sysroot| Path::new(&sysroot).join(what).exists())
}

fn llvm_major(version: &str) -> Option<u32> {
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection() {
        for (debian_has_bpf_core, nightly_has_rust_src, expected) in [
            (true, true, Some(Compiler::Debian)),
            (true, false, Some(Compiler::Debian)),
            (false, true, Some(Compiler::Nightly)),
            (false, false, None),
        ] {
            let facts = Facts {
                debian_has_bpf_core,
                nightly_has_rust_src,
            };
            assert_eq!(select(facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn llvm_versions() {
        for (version, expected) in [
            (
                "rustc 1.96.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.8\n",
                Some(22),
            ),
            ("LLVM version: 23.0.0-rust", Some(23)),
            ("LLVM version: 9\n", Some(9)),
            ("rustc 1.96.0\nhost: x86_64\n", None),
            ("LLVM version: unknown", None),
        ] {
            assert_eq!(llvm_major(version), expected, "{version}");
        }
    }

    #[test]
    fn llvm_libraries() {
        for (name, fits) in [
            ("libLLVM.so.22.1", true),
            ("libLLVM-22.so.1", true),
            ("libLLVM.so.221.1", false),
            ("libLLVM.so.21.1", false),
            ("libLLVM-22.so", false),
        ] {
            assert_eq!(is_lib_llvm(Path::new(name), 22), fits, "{name}");
        }
    }
}
