//! What commands say to the terminal. Whoever reads may leave before the end, as `head` does: that is no failure of ours.

use std::io::{self, ErrorKind, Write};

/// Writes an answer to stdout.
///
/// # Errors
/// If it cannot be written although somebody reads: a full disk.
pub fn answer(text: &str) -> io::Result<()> {
    write(&mut io::stdout().lock(), text)
}

/// Writes one line to stderr: what is wrong, and what to do. Where nobody reads, there is nobody to tell.
pub fn complaint(line: &str) {
    let _ = write(&mut io::stderr().lock(), &format!("mesh-daemon: {line}\n"));
}

fn write(to: &mut impl Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails in this way.
    struct Fails(ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is() {
        for (kind, is_ok) in [(ErrorKind::BrokenPipe, true), (ErrorKind::StorageFull, false)] {
            assert_eq!(write(&mut Fails(kind), "text").is_ok(), is_ok, "{kind}");
        }
    }
}
