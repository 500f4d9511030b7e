//! A connection to the kernel's routing tables through rtnetlink, and its errors as error numbers.

use std::io;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::{Error, Handle};

use crate::task;

/// Connects in the network namespace of this thread. The connection ends when the last clone of the handle is gone.
///
/// Dumps are checked strictly: the kernel filters them (one routing table instead of a million routes), as `ip route show table` does.
///
/// # Errors
/// If the kernel refuses the socket.
pub(in crate::bpf) fn connect() -> io::Result<Handle> {
    let (connection, handle, _notifications) = rtnetlink::new_connection_with_strict_check()?;
    task::spawn("rtnetlink", connection);
    Ok(handle)
}

/// Collects a dump. What does not exist (a routing table without routes, an address family without a module) is empty.
///
/// # Errors
/// The kernel's refusal.
pub(in crate::bpf) async fn dump<T>(stream: impl Stream<Item = Result<T, Error>>) -> Result<Vec<T>, io::Error> {
    match stream.try_collect().await {
        Ok(messages) => Ok(messages),
        Err(error) => match errno_of(&error) {
            libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP => Ok(Vec::new()),
            0 => Err(io::Error::other(error)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
    }
}

/// The kernel's error number, positive; 0 if the error is not the kernel's.
pub(in crate::bpf) fn errno_of(error: &Error) -> i32 {
    match error {
        Error::NetlinkError(message) => -message.raw_code(),
        _ => 0,
    }
}
