//! Folders of the tool folder: made anew, and removed when nothing wants them any longer.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A folder with nothing in it, whatever was there.
///
/// # Errors
/// If it cannot be made.
pub fn empty(dir: &Path) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
    Ok(dir.to_owned())
}

/// Removes what earlier versions of the workspace left: each build is 100 to 200 MB.
pub fn remove_others(tools: &Path, prefix: &str, current: &Path) {
    let Ok(entries) = fs::read_dir(tools) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_ours = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        if is_ours && path != current {
            println!("   removing {}, of other sources", path.display());
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_builds_go_and_everything_else_stays() {
        let tools = std::env::temp_dir().join(format!("weft-xtask-folders-{}", std::process::id()));
        for name in ["kubernetes-1-old", "kubernetes-1-new", "go-1", "bpf-linker"] {
            fs::create_dir_all(tools.join(name)).unwrap();
        }
        remove_others(&tools, "kubernetes-", &tools.join("kubernetes-1-new"));
        let left = ["kubernetes-1-old", "kubernetes-1-new", "go-1", "bpf-linker"].map(|name| tools.join(name).exists());
        fs::remove_dir_all(&tools).unwrap();
        assert_eq!(left, [false, true, true, true]);
    }
}
