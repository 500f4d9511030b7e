//! Where the image archives are that `cargo xtask image` makes.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The folder with the archives, if not this checkout's; `cargo xtask` sets it.
const DIR_VARIABLE: &str = "WEFT_IMAGE_DIR";

/// The archive of this name, as `pause`, `testkit` or `mesh-daemon`.
///
/// # Errors
/// If it was not made; the text says how.
pub fn archive(name: &str) -> Result<PathBuf> {
    let dir = std::env::var_os(DIR_VARIABLE).map_or_else(default_dir, PathBuf::from);
    let path = dir.join(format!("{name}.tar"));
    if !path.is_file() {
        bail!(
            "the image archive {} is missing; `cargo xtask image --tests` makes it",
            path.display()
        );
    }
    Ok(path)
}

fn default_dir() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join("target/image")
}
