//! The golden cases' tables in the kernel's own maps: every case's are reached from its neighbours', and read back through the pins.

use std::{
    collections::BTreeMap,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, LpmTrie, Map, MapData};
use mesh_common::{addr::Addr, capture::Iface, layout, names};
use mesh_daemon::{
    bpf::{Kernel, Metrics},
    config::{AttachMode, KernelSettings},
    model::{Tables, dump_tables},
    task,
};
use mesh_tests::golden::{self, Case};

#[test]
fn golden_tables_are_what_the_kernels_maps_hold() {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        let bpffs = Bpffs::mount()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        tokio::task::LocalSet::new().block_on(&runtime, there_and_back(&golden::cases()?, &bpffs.path()))
    });
    match thread.join() {
        Ok(outcome) => outcome.unwrap(),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Applies every case's tables forwards and backwards to the same maps, then once more from maps whose contents are not known.
async fn there_and_back(cases: &[Case], pin_dir: &Path) -> Result<()> {
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    task::spawn("netlink", connection);
    let settings = KernelSettings {
        pin_dir: pin_dir.to_owned(),
        attach: AttachMode::Auto,
        marks: mesh_common::settings::Settings::DEFAULT_MARKS,
        route_table: 100,
        rule_preference: 8,
    };
    let metrics = Metrics::new(&prometheus::Registry::new());
    let mut kernel = Kernel::load(&settings, netlink.clone(), metrics.clone())?;
    for case in cases.iter().chain(cases.iter().rev()) {
        reach(&mut kernel, case, pin_dir).await?;
    }
    for case in cases {
        kernel.distrust();
        reach(&mut kernel, case, pin_dir).await?;
    }
    // a successor takes the maps over with what they hold
    drop(kernel);
    let mut successor = Kernel::load(&settings, netlink, metrics)?;
    let first = cases.first().context("there are cases")?;
    reach(&mut successor, first, pin_dir).await
}

async fn reach(kernel: &mut Kernel, case: &Case, pin_dir: &Path) -> Result<()> {
    // the cases' interfaces do not exist here
    let tables = Tables {
        attachments: BTreeMap::new(),
        ..case.content.tables.clone()
    };
    let applied = kernel.attach(&tables).await?;
    kernel.capture(&tables, &applied)?;
    ensure!(
        applied.failed.is_empty() && !applied.held_back,
        "{}: {applied:?}",
        case.name
    );
    let expected: String = std::fs::read_to_string(case.directory.join("maps.txt"))?
        .lines()
        .filter(|line| !line.starts_with("attach "))
        .map(|line| format!("{line}\n"))
        .collect();
    let actual = dump_tables(&read_back(pin_dir).with_context(|| case.name.clone())?);
    ensure!(
        actual == expected,
        "{}: expected\n{expected}\nthe maps hold\n{actual}",
        case.name
    );
    Ok(())
}

/// What stands in the pinned maps, read without the daemon's own code.
pub(crate) fn read_back(pin_dir: &Path) -> Result<Tables> {
    let maps = pin_dir.join(format!("maps-v{}", layout::VERSION));
    let pinned = |name: &str| MapData::from_pin(maps.join(name)).with_context(|| name.to_owned());
    let ifaces: HashMap<_, u32, Iface> = Map::HashMap(pinned(names::MAP_IFACES)?).try_into()?;
    let services: HashMap<_, _, _> = Map::HashMap(pinned(names::MAP_SERVICES)?).try_into()?;
    let node_addrs: HashMap<_, Addr, u32> = Map::HashMap(pinned(names::MAP_NODE_ADDRS)?).try_into()?;
    let pod_ranges: LpmTrie<_, Addr, u32> = Map::LpmTrie(pinned(names::MAP_POD_RANGES)?).try_into()?;
    Ok(Tables {
        ifaces: ifaces.iter().collect::<Result<_, _>>()?,
        services: services.iter().collect::<Result<_, _>>()?,
        pod_ranges: pod_ranges
            .iter()
            .map(|entry| entry.map(|(key, _)| (key.prefix_len(), key.data())))
            .collect::<Result<_, _>>()?,
        node_addrs: node_addrs.keys().collect::<Result<_, _>>()?,
        attachments: BTreeMap::new(),
    })
}

/// A BPF file system of the test's own, unmounted with everything pinned in it when the test ends, however it ends.
struct Bpffs(tempfile::TempDir);

impl Bpffs {
    fn mount() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("bpf"), directory.path(), Some("bpf"), flags, None::<&str>)
            .context("mounting a bpffs")?;
        Ok(Self(directory))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("weft")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // nothing is left to be done about a mount that does not go
        let _ = nix::mount::umount2(self.0.path().as_os_str().as_bytes(), nix::mount::MntFlags::MNT_DETACH);
    }
}
