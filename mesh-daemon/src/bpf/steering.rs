//! stub
use super::Error;
use crate::config::KernelSettings;
pub async fn remove(_: &KernelSettings) -> Result<(), Error> {
    Ok(())
}
