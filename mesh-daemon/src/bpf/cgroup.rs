//! The daemon's own cgroup, as a directory of cgroup2: found in the kernel's own tables, since distributions and containers mount it in
//! different places (cgroups(7), proc_pid_mountinfo(5)).

use std::{
    fs,
    io::{self, Read as _},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// What is mounted where, as this process sees it.
const MOUNTS: &str = "/proc/self/mountinfo";
/// The cgroup of this process in each hierarchy, as its cgroup namespace shows it.
const CGROUPS: &str = "/proc/self/cgroup";
/// How the line of cgroup2 begins: hierarchy 0, no controllers.
const UNIFIED: &str = "0::";
/// Most bytes that are read of either: a node with thousands of pods has some hundred KiB of mounts, an endless file must end somewhere.
const TABLE_BYTES_MAX: u64 = 16 << 20;

/// The directory of this process's cgroup, opened.
///
/// # Errors
/// If cgroup2 is not mounted where this process's cgroup could be seen, or the kernel's tables cannot be read.
pub fn own() -> io::Result<(PathBuf, fs::File)> {
    let directory = directory(&read(MOUNTS)?, &read(CGROUPS)?).ok_or_else(|| {
        io::Error::other(format!(
            "no cgroup2 file system is mounted that shows this process's cgroup ({MOUNTS}, {CGROUPS}): mount one at /sys/fs/cgroup"
        ))
    })?;
    let opened = fs::File::open(&directory)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))?;
    Ok((directory, opened))
}

fn read(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(TABLE_BYTES_MAX).read_to_end(&mut bytes)?;
    // a mount point may be of any bytes; one that is no text is not the one that we look for
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first mount of cgroup2 that shows the process's cgroup, and where in it. A mount may begin below the hierarchy's root.
fn directory(mounts: &str, cgroups: &str) -> Option<PathBuf> {
    let own = Path::new(cgroups.lines().find_map(|line| line.strip_prefix(UNIFIED))?);
    mounts.lines().filter_map(unified_mount).find_map(|(root, point)| {
        let below = own.strip_prefix(&root).ok()?;
        // outside of this cgroup namespace: ".." would lead into somebody else's
        let inside = below
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        inside.then(|| point.join(below))
    })
}

/// The root of the mount within its hierarchy and the mount point, if the line is of cgroup2.
fn unified_mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some((unescaped(fields.next()?), unescaped(fields.next()?)))
}

/// Blanks, tabs, line feeds and backslashes stand as three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let code = octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_the_mount_point_and_what_lies_below_its_root() {
        let systemd = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let below = "50 1 0:26 /kubepods/pod1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let odd = "50 1 0:26 / /mnt/my\\040cgroup\\134x ro - cgroup2 none rw\n";
        for (mounts, cgroups, expected) in [
            (
                systemd,
                "0::/system.slice/weft.service\n",
                Some("/sys/fs/cgroup/system.slice/weft.service"),
            ),
            // a container with a cgroup namespace of its own
            (systemd, "0::/\n", Some("/sys/fs/cgroup")),
            (hybrid, "8:pids:/\n1:cpu:/x\n0::/\n", Some("/sys/fs/cgroup/unified")),
            (hybrid, "0::/a/b\n", Some("/sys/fs/cgroup/unified/a/b")),
            (below, "0::/kubepods/pod1/c2\n", Some("/sys/fs/cgroup/c2")),
            // a name that only begins alike
            (below, "0::/kubepods/pod10\n", None),
            (
                &format!("{below}{systemd}"),
                "0::/kubepods/pod10\n",
                Some("/sys/fs/cgroup/kubepods/pod10"),
            ),
            (odd, "0::/a\n", Some("/mnt/my cgroup\\x/a")),
            // outside of the cgroup namespace
            (systemd, "0::/../other\n", None),
            // cgroup v1 alone
            (
                "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
                "0::/\n",
                None,
            ),
            (systemd, "1:cpu:/x\n", None),
            ("nonsense\n", "0::/\n", None),
            ("", "", None),
        ] {
            assert_eq!(
                directory(mounts, cgroups),
                expected.map(PathBuf::from),
                "{mounts}{cgroups}"
            );
        }
    }
}
