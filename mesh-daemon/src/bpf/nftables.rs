//! stub
use super::Error;
pub fn remove() -> Result<(), Error> {
    Ok(())
}
