//! Installs Debian packages without a question, and without starting or leaving enabled any service that they bring.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::command;

/// Debian's hook that says whether a package may start its service; absent on most machines, which means "yes".
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// 101 means "not allowed" in Debian's policy-rc.d interface.
const POLICY_REFUSES: &str =
    "#!/bin/sh\n# written by Weft's `cargo xtask setup`, removed by it when it ends\nexit 101\n";
/// The packages that bring a service, by the service's name. The tests start their own copies in their own namespaces.
const SERVICES: [(&str, &str); 1] = [("nginx-light", "nginx")];

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
    for (_, service) in SERVICES
        .iter()
        .filter(|(package, _)| packages.iter().any(|installed| installed == package))
    {
        // neither now nor at the next boot
        command::run(command::program("update-rc.d").args([service, "disable"]))?;
    }
    Ok(())
}

/// Whether Debian has a package of this name.
pub fn knows(package: &str) -> bool {
    command::output_of(command::program("apt-cache").args(["show", package])).is_some_and(|text| !text.is_empty())
}

fn apt_get() -> std::process::Command {
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
