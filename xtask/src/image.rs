//! `cargo xtask image`: container images as OCI archives, made from static programs without any container tool.

mod archive;
mod layer;
mod program;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{build_ebpf, command, conformance::programs::Echo};
use archive::Image;
use layer::Layer;
use program::Platform;

/// What `cargo xtask image` takes.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Also make the images that the cluster's tests and its demo run in pods
    #[arg(long)]
    tests: bool,
    /// With --tests: leave out the daemon's image, whose build takes longest
    #[arg(long, requires = "tests")]
    no_daemon: bool,
}

/// The version of every image of the product: the workspace's.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where images say they come from. No registry has this name: they are loaded into nodes from archives.
const REGISTRY: &str = "weft.mesh";
/// The version of the images for tests: they are never published, and manifests name them.
const TEST_VERSION: &str = "1";
/// Where Debian's package busybox-static puts its program.
const BUSYBOX: &str = "/bin/busybox";
/// What busybox is called as in the image for tests: a shell, and what a person needs who looks around in a pod.
const BUSYBOX_NAMES: [&str; 22] = [
    "cat", "date", "echo", "env", "false", "grep", "head", "hostname", "id", "ip", "kill", "ls", "nc", "netstat",
    "nslookup", "ps", "sh", "sleep", "tail", "test", "true", "wget",
];

/// Makes the daemon's image, and says where it is.
///
/// # Errors
/// If a build fails, or an archive cannot be written.
pub fn run(args: &Args) -> Result<()> {
    if !args.no_daemon {
        daemon()?;
    }
    if args.tests {
        tests()?;
    }
    Ok(())
}

/// Makes the daemon's image, kernel half included, and returns the archive's path.
///
/// # Errors
/// If a build fails, or the archive cannot be written.
pub fn daemon() -> Result<PathBuf> {
    command::step("build-ebpf", || build_ebpf::run(&build_ebpf::Args::default()))?;
    let platform = Platform::of_this_machine()?;
    let program = command::step("build, static", || program::daemon(platform))?;
    let object = build_ebpf::object()?;
    if !contains(&program, &object) {
        bail!(
            "the daemon that was built does not hold the kernel half: `{}` differs from what its build embedded",
            build_ebpf::OBJECT
        );
    }
    let labels = [
        ("title", "mesh-daemon"),
        ("description", "Weft's node daemon, with its BPF programs"),
        ("version", VERSION),
        ("licenses", "Apache-2.0"),
    ];
    write(&Image {
        name: format!("{REGISTRY}/mesh-daemon:{VERSION}"),
        architecture: platform.architecture,
        entrypoint: vec!["/usr/bin/mesh-daemon".into()],
        labels: labels
            .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.into()))
            .into(),
        layer: base().file("/usr/bin/mesh-daemon", 0o755, program),
    })
}

/// Makes the daemon's image, and returns the folder of the program in it: what is measured is what is shipped.
///
/// # Errors
/// As [`daemon`].
pub fn daemon_program_folder() -> Result<PathBuf> {
    daemon()?;
    Ok(program::daemon_folder(Platform::of_this_machine()?))
}

/// Makes the images that tests and the demo run in pods, and returns the archives' paths.
///
/// # Errors
/// If a build fails, busybox is missing, or an archive cannot be written.
pub fn tests() -> Result<Vec<PathBuf>> {
    let platform = Platform::of_this_machine()?;
    let busybox = program::checked_static(Path::new(BUSYBOX))
        .with_context(|| format!("{BUSYBOX} of the package busybox-static: `cargo xtask setup` installs it"))?;
    let [pause, server, client] = command::step("build of what runs in test pods, static", || {
        program::for_tests(platform, ["weft-pause", "weft-server", "weft-client"])
    })?;
    let mut kit = base()
        .file("/usr/bin/weft-server", 0o755, server)
        .file("/usr/bin/weft-client", 0o755, client)
        .file("/bin/busybox", 0o755, busybox);
    for name in BUSYBOX_NAMES {
        kit = kit.link(&format!("/bin/{name}"), "busybox");
    }
    let image = |name: &str, entrypoint: &[&str], layer| Image {
        name: format!("{REGISTRY}/{name}:{TEST_VERSION}"),
        architecture: platform.architecture,
        entrypoint: entrypoint.iter().map(|&word| word.into()).collect(),
        labels: [("org.opencontainers.image.title".into(), name.into())].into(),
        layer,
    };
    let pause = Layer::default().file("/weft-pause", 0o755, pause);
    Ok(vec![
        write(&image("pause", &["/weft-pause"], pause))?,
        write(&image("testkit", &[], kit))?,
    ])
}

/// Makes the image of the pods of the Gateway API's conformance suite, and returns the archive's path.
///
/// # Errors
/// If one of its programs is not static, a file is missing, or the archive cannot be written.
pub fn echo(echo: &Echo) -> Result<PathBuf> {
    let mut layer = base();
    for (name, program) in &echo.programs {
        layer = layer.file(&format!("/usr/bin/{name}"), 0o755, program::checked_static(program)?);
    }
    for (path, file) in &echo.files {
        let bytes = fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
        layer = layer.file(path, 0o644, bytes);
    }
    write(&Image {
        // what manifests that are not ours ask for: no node has another one of this name, and none can be fetched
        name: echo.image.clone(),
        architecture: Platform::of_this_machine()?.architecture,
        entrypoint: vec!["/usr/bin/server".into()],
        labels: [("org.opencontainers.image.title".into(), "echo".into())].into(),
        layer,
    })
}

/// The folder with the archives.
pub fn folder() -> PathBuf {
    command::target_dir().join("image")
}

/// What every program may expect of its root: users with names, and a place for passing files.
fn base() -> Layer {
    let users = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    let groups = "root:x:0:\nnogroup:x:65534:\n";
    Layer::default()
        .directory("/tmp", 0o1777)
        .file("/etc/passwd", 0o644, users.into())
        .file("/etc/group", 0o644, groups.into())
}

/// Writes the archive `NAME.tar` and says so. A reader never sees half of one.
fn write(image: &Image) -> Result<PathBuf> {
    let bytes = image.archive()?;
    let path = folder().join(format!("{}.tar", image.short_name()));
    let unfinished = path.with_extension("tar.unfinished");
    fs::create_dir_all(folder())
        .and_then(|()| fs::write(&unfinished, &bytes))
        .and_then(|()| fs::rename(&unfinished, &path))
        .with_context(|| format!("could not write {}", path.display()))?;
    println!(
        "   {}: {}, {:.1} MiB",
        path.display(),
        image.name,
        bytes.len() as f64 / f64::from(1 << 20)
    );
    Ok(path)
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    // comparing at every place of tens of megabytes is slow in a debug build: the ELF magic at the start finds the few candidates
    let Some((first, rest)) = part.split_first_chunk::<4>() else {
        return false;
    };
    all.windows(first.len())
        .enumerate()
        .any(|(at, window)| window == first && all[at + first.len()..].starts_with(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_only_whole() {
        let all = b"..ELF1.ELF1234..";
        for (part, found) in [
            (&b"ELF1234"[..], true),
            (b"ELF12345", false),
            (b"1234..", true),
            // the stub of a build without a kernel half
            (b"", false),
        ] {
            assert_eq!(contains(all, part), found, "{part:?}");
        }
    }
}
