//! Installs Debian packages without a question, and without starting or leaving enabled any service that they bring.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::command;

/// Debian's hook that says whether a package may start its service; absent on most machines, which means "yes".
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// 101 means "not allowed" in Debian's policy-rc.d interface.
const POLICY_REFUSES: &str =
    "#!/bin/sh\n# written by Weft's `cargo xtask setup`, removed by it when it ends\nexit 101\n";
/// A package that brings a service. The tests start their own copies in their own namespaces.
struct Service {
    /// The package that is asked for; it may bring the service by another one that it needs.
    package: &'static str,
    /// Its unit, without `.service`.
    unit: &'static str,
    /// Whether it has an init script, too.
    init_script: bool,
}

const SERVICES: [Service; 2] = [
    Service {
        package: "nginx-light",
        unit: "nginx",
        init_script: true,
    },
    Service {
        package: "containerd",
        unit: "containerd",
        init_script: false,
    },
];

/// Installs these packages; does nothing if there are none.
///
/// # Errors
/// If this is not a Debian, or apt-get fails.
pub fn install(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "only Debian's apt-get is known here; install by hand what these packages bring: {}",
            packages.join(" ")
        );
    }
    command::run(apt_get().arg("update"))?;
    let _quiet = NoServices::begin(Path::new(POLICY))?;
    command::run(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )?;
    for mut command in brought_services(packages).flat_map(not_at_boot) {
        command::run(&mut command)?;
    }
    Ok(())
}

/// Whether Debian has a package of this name.
pub fn knows(package: &str) -> bool {
    command::output_of(command::program("apt-cache").args(["show", package])).is_some_and(|text| !text.is_empty())
}

/// The services that these packages bring.
fn brought_services(packages: &[String]) -> impl Iterator<Item = &'static Service> {
    SERVICES
        .iter()
        .filter(|service| packages.iter().any(|installed| installed == service.package))
}

/// What keeps a service from starting at the next boot, whichever init that has.
fn not_at_boot(service: &Service) -> Vec<Command> {
    let mut unit = command::program("deb-systemd-helper");
    unit.args(["disable", &format!("{}.service", service.unit)])
        // it works for packages only, and wants to know which
        .env("DPKG_MAINTSCRIPT_PACKAGE", service.unit);
    let mut commands = vec![unit];
    if service.init_script {
        let mut script = command::program("update-rc.d");
        script.args([service.unit, "disable"]);
        commands.push(script);
    }
    commands
}

fn apt_get() -> Command {
    let mut apt_get = command::program("apt-get");
    apt_get
        .arg("--quiet")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null());
    apt_get
}

/// As long as it lives, packages do not start their services. A policy that the machine has of its own stays as it is.
struct NoServices {
    written: Option<PathBuf>,
}

impl NoServices {
    fn begin(policy: &Path) -> Result<Self> {
        let left_behind = fs::read_to_string(policy).is_ok_and(|text| text == POLICY_REFUSES);
        if policy.exists() && !left_behind {
            return Ok(Self { written: None });
        }
        fs::write(policy, POLICY_REFUSES).with_context(|| format!("could not write {}", policy.display()))?;
        let guard = Self {
            written: Some(policy.to_path_buf()),
        };
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("could not make {} executable", policy.display()))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.written
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!(
                "warning: could not remove {}: {error}; remove it by hand",
                policy.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own for each test, gone when the test ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("weft-xtask-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_a_package_would_start_at_boot_is_disabled() {
        for (package, units) in [
            ("curl", vec![]),
            ("containerd", vec!["containerd.service"]),
            ("nginx-light", vec!["nginx.service", "nginx"]),
        ] {
            let packages = [package.to_owned()];
            let commands = brought_services(&packages).flat_map(not_at_boot);
            let disabled: Vec<String> = commands
                .map(|command| {
                    command
                        .get_args()
                        .map(|arg| arg.to_string_lossy().into_owned())
                        .collect::<Vec<_>>()
                })
                .map(|args| args.into_iter().filter(|arg| arg != "disable").collect())
                .collect();
            assert_eq!(disabled, units, "{package}");
        }
    }

    #[test]
    fn the_policy_is_there_while_packages_install_and_gone_after() {
        let folder = Folder::new("policy");
        let policy = folder.0.join("policy-rc.d");
        let guard = NoServices::begin(&policy).unwrap();
        assert_eq!(fs::metadata(&policy).unwrap().permissions().mode() & 0o777, 0o755);
        drop(guard);
        assert!(!policy.exists());
    }

    #[test]
    fn a_policy_that_was_there_stays() {
        let folder = Folder::new("kept-policy");
        let policy = folder.0.join("policy-rc.d");
        fs::write(&policy, "exit 0").unwrap();
        drop(NoServices::begin(&policy).unwrap());
        assert_eq!(fs::read_to_string(&policy).unwrap(), "exit 0");
    }

    #[test]
    fn a_policy_that_a_killed_setup_left_is_taken_away() {
        let folder = Folder::new("stale-policy");
        let policy = folder.0.join("policy-rc.d");
        fs::write(&policy, POLICY_REFUSES).unwrap();
        drop(NoServices::begin(&policy).unwrap());
        assert!(!policy.exists());
    }
}
