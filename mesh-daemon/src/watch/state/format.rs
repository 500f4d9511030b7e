//! The state file's bytes: one line of JSON that says what follows, then the objects as JSON. Pure.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Refused;
use crate::{ids::NodeName, watch::objects::Objects};

/// What the first line begins to say, so that no other file is taken for a state.
const MAGIC: &str = "weft-state";

/// Raise it when what [`Objects`] serialises to changes: a daemon refuses the state of another version, and a list is never far away.
const VERSION: u32 = 2;

/// The first line. The order of its fields is part of the format.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    magic: String,
    version: u32,
    node: NodeName,
    saved_at: u64,
    length: u64,
    /// Hexadecimal, of the body and then this line with this field empty.
    sha256: String,
}

/// As much of the first line as every version has.
#[derive(Deserialize)]
struct AnyHeader {
    magic: String,
    version: u32,
}

/// Whose state it is, and when it was true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::watch) struct Stamp {
    /// The node whose daemon wrote it.
    pub(in crate::watch) node: NodeName,
    /// In seconds since the epoch.
    pub(in crate::watch) saved_at: u64,
}

/// Counts and digests what it is given, and keeps nothing.
struct Measure {
    length: u64,
    digest: Sha256,
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len() as u64;
        self.digest.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a state, and says how many bytes its body has. The objects are serialised twice, so that no copy of the body is held.
pub(super) fn write(out: &mut impl Write, stamp: &Stamp, objects: &Objects) -> io::Result<u64> {
    let Measure { length, mut digest } = measure(objects)?;
    let mut header = Header {
        magic: MAGIC.to_owned(),
        version: VERSION,
        node: stamp.node.clone(),
        saved_at: stamp.saved_at,
        length,
        sha256: String::new(),
    };
    digest.update(&line(&header)?);
    header.sha256 = hex(digest);
    out.write_all(&line(&header)?)?;
    serde_json::to_writer(out, objects)?;
    Ok(length)
}

/// Reads a state whose every byte is as it was written.
pub(super) fn read(bytes: &[u8]) -> Result<(Stamp, Objects), Refused> {
    let damaged = |what: &str| Refused::Damaged(what.to_owned());
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (first, body) = bytes.split_at(end.ok_or_else(|| damaged("it has no first line"))? + 1);
    let any: AnyHeader = serde_json::from_slice(first).map_err(|_| damaged("its first line is no header"))?;
    if any.magic != MAGIC {
        return Err(damaged("it is no state of this daemon"));
    }
    if any.version != VERSION {
        return Err(Refused::Version {
            found: any.version,
            known: VERSION,
        });
    }
    let mut header: Header = serde_json::from_slice(first).map_err(|_| damaged("its first line is no header"))?;
    if header.length != body.len() as u64 {
        return Err(damaged(&format!(
            "it should have {} bytes behind its first line and has {}",
            header.length,
            body.len()
        )));
    }
    let said = std::mem::take(&mut header.sha256);
    let unsigned = line(&header).map_err(|_| damaged("its first line is no header"))?;
    if hex(Sha256::new().chain_update(body).chain_update(unsigned)) != said {
        return Err(damaged("its checksum is another"));
    }
    header.sha256 = said;
    // the same header could be written in other ways, and a state is what this daemon wrote, byte by byte
    if line(&header).ok().as_deref() != Some(first) {
        return Err(damaged("its first line is not as this daemon writes it"));
    }
    let objects = serde_json::from_slice(body).map_err(|error| Refused::Damaged(format!("its objects: {error}")))?;
    let Header { node, saved_at, .. } = header;
    Ok((Stamp { node, saved_at }, objects))
}

fn line(header: &Header) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(header)?;
    line.push(b'\n');
    Ok(line)
}

fn measure(objects: &Objects) -> io::Result<Measure> {
    let measure = Measure {
        length: 0,
        digest: Sha256::new(),
    };
    let mut buffered = io::BufWriter::new(measure);
    serde_json::to_writer(&mut buffered, objects)?;
    buffered.into_inner().map_err(io::IntoInnerError::into_error)
}

fn hex(digest: Sha256) -> String {
    use std::fmt::Write as _;
    digest.finalize().iter().fold(String::new(), |mut hex, byte| {
        // writing to a String does not fail
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
