//! The kernel half's object file, embedded when the daemon is built.

use super::Error;

/// The ELF file, aligned as its parser needs it; empty where the daemon was built without BPF tools.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weft.o"));

/// The object's bytes.
///
/// # Errors
/// [`Error::NoObject`] if the daemon was built without it.
pub fn bytes() -> Result<&'static [u8], Error> {
    if OBJECT.is_empty() {
        Err(Error::NoObject)
    } else {
        Ok(OBJECT)
    }
}
