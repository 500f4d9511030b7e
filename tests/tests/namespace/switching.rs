//! A server that switches connections to another protocol (RFC 9110, 7.8), for tests of what becomes of upgraded ones.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use anyhow::Result;
use mesh_tests::bench::Netns;

/// A server that switches so many connections, one after the other, to a protocol that echoes, whatever it is asked.
pub(crate) fn switching_server(pod: &Netns, port: u16, connections: usize) -> Result<JoinHandle<std::io::Result<()>>> {
    let listener = pod.inside(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))??;
    Ok(thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept()?;
            head(&mut stream)?;
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")?;
            std::io::copy(&mut stream.try_clone()?, &mut stream)?;
        }
        Ok(())
    }))
}

/// What comes up to the empty line.
pub(crate) fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
