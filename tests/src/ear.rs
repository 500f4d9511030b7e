//! What stands in the kernel for a daemon's ear: its program and its map, found by the descriptors that the daemon holds, never by asking it.

mod cost;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
};

use anyhow::{Context, Result};
use aya::{
    maps::{HashMap, Map, MapData, MapError, MapInfo},
    programs::{ProgramInfo, loaded_programs},
};
use mesh_common::{
    addr::Addr,
    names,
    round_trip::{EndpointKey, RoundTrip},
};

use crate::process::Process;
pub use cost::cost;

/// The ear of one daemon.
#[derive(Debug)]
pub struct Ear {
    map: HashMap<MapData, EndpointKey, RoundTrip>,
    program: u32,
}

impl Ear {
    /// The ear of a running daemon.
    ///
    /// # Errors
    /// If it holds none.
    pub fn of(daemon: &Process) -> Result<Self> {
        let own = held(daemon.pid(), "map_id")?;
        let is_ears =
            |id: &u32| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some(names::MAP_ROUND_TRIPS));
        let map = own
            .into_iter()
            .find(is_ears)
            .context("this daemon holds no map of round trips")?;
        Ok(Self {
            map: Map::HashMap(MapData::from_id(map)?).try_into()?,
            program: program_of(daemon)?.id(),
        })
    }

    /// What it holds.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn heard(&self) -> Result<BTreeMap<SocketAddr, RoundTrip>> {
        let mut heard = BTreeMap::new();
        for entry in self.map.iter() {
            let (key, value) = entry?;
            heard.insert(SocketAddr::new(key.addr.into(), u16::try_from(key.port)?), value);
        }
        Ok(heard)
    }

    /// Fills it with endpoints that nobody has, and says how many it took.
    ///
    /// # Errors
    /// If the kernel refuses for another reason than that it is full.
    pub fn fill(&mut self) -> Result<u32> {
        for number in 0.. {
            let key = EndpointKey {
                addr: Addr([0x2020, 0, 0, number]),
                port: 1,
            };
            match self.map.insert(key, RoundTrip::NONE, 0) {
                Ok(()) => {}
                Err(MapError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(nix::errno::Errno::E2BIG as i32) =>
                {
                    return Ok(number);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(u32::MAX)
    }

    /// Whether its program is still in the kernel.
    pub fn is_loaded(&self) -> bool {
        loaded_programs().flatten().any(|program| program.id() == self.program)
    }
}

/// The ear's program of a running daemon, whether it is attached or not.
///
/// # Errors
/// If it holds none.
pub fn program_of(daemon: &Process) -> Result<ProgramInfo> {
    let own = held(daemon.pid(), "prog_id")?;
    loaded_programs()
        .flatten()
        .find(|program| own.contains(&program.id()) && program.name_as_str() == Some(names::PROGRAM_EAR))
        .context("this daemon holds no program of the ear")
}

/// The cgroup2 that a process is in, as proc(5) has it.
///
/// # Errors
/// If it has ended.
pub fn cgroup_of(process: &Process) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", process.pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(line.context("no cgroup2")?.to_owned())
}

/// The ids of the BPF objects of one kind that a process holds descriptors of (`/proc/<pid>/fdinfo`).
fn held(pid: u32, kind: &str) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // a descriptor may be closed meanwhile
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let values = text
            .lines()
            .filter_map(|line| line.strip_prefix(kind)?.strip_prefix(':'));
        ids.extend(values.filter_map(|value| value.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}
