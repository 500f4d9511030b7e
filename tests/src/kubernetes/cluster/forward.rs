//! The way from the machine's loopback to the API server inside the first node's namespace: one port, and nothing else of the machine's
//! network is touched. With it every client works from an ordinary shell, `kubectl port-forward` included.

use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener as Listener, TcpStream},
    sync::Semaphore,
};

/// A person's tools have a handful of connections each; more wait.
const CONNECTIONS_MAX: usize = 256;

/// Listens on a free port of the machine's loopback, prints the port, and passes every connection on to `to` inside the network namespace.
///
/// # Errors
/// If the caller is not root, or the namespace does not exist.
pub fn serve(netns: &Path, to: SocketAddr) -> Result<()> {
    // a socket stays in the namespace it was made in: this one in the machine's, the next ones in the node's
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening on the loopback")?;
    listener.set_nonblocking(true)?;
    let file = File::open(netns).with_context(|| netns.display().to_string())?;
    setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", netns.display()))?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = Listener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned().await?;
            let (mut client, _) = listener.accept().await?;
            tokio::spawn(async move {
                let _place = place;
                // a connection that cannot be made, or breaks, is the client's to report: it sees it closed
                if let Ok(mut server) = TcpStream::connect(to).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    })
}
