//! What remains of the demo after its last row: everything, with words what to try, or nothing.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{
    bench::Run,
    daemon::{HEALTH_ADDR, METRICS_ADDR},
    manifests::CAPTURE_LABEL,
    shop::{NAMESPACE, SERVICE_V4, SERVICE_V6, Shop},
};

/// Where the demo keeps its files.
const DIR: &str = "/run/weft-demo";
/// Exists in that directory while a demo is kept.
const KEPT: &str = "kept";
/// The pid of a demo that is being told.
const OWNER: &str = "owner";

/// The run of the demo: its name does not change, so that people can type it.
pub(super) fn run() -> Run {
    Run::named("demo", DIR)
}

/// Removes everything that a demo left, and says so.
pub fn down() {
    let run = run();
    let existed = run.exists();
    run.remove();
    if existed {
        println!("The demo is gone: its processes, network namespaces, bpffs and {DIR}.");
    } else {
        println!("No demo is running; nothing to remove.");
    }
}

/// Refuses a start beside another demo; what a crashed one left is removed.
///
/// # Errors
/// If a demo is kept or being told.
pub(super) fn refuse_second() -> Result<()> {
    let dir = Path::new(DIR);
    if dir.join(KEPT).exists() {
        bail!("a demo is kept running in {DIR}: use it, or remove it with `cargo xtask demo --down` and start again");
    }
    let owner = std::fs::read_to_string(dir.join(OWNER)).unwrap_or_default();
    if !owner.is_empty() && Path::new("/proc").join(owner.trim()).exists() {
        bail!("another demo (pid {owner}) is running: wait for its end, or stop it with Ctrl-C");
    }
    run().remove();
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join(OWNER), std::process::id().to_string())?;
    Ok(())
}

/// Leaves everything running and prints what to try.
///
/// # Errors
/// If the state cannot be written.
pub(super) fn leave(shop: Shop) -> Result<()> {
    std::fs::write(Path::new(DIR).join(KEPT), "")?;
    let file = shop.manifests.namespace_file(NAMESPACE);
    let (file, client, node) = (
        file.display(),
        shop.client.netns.path(),
        shop.bench.nodes[0].netns.path(),
    );
    let (client, node) = (client.display(), node.display());
    println!(
        "
Everything is left running, not captured at the moment. Try:
  a request from the client, over IPv4 and IPv6:
    nsenter --net={client} curl -s http://{SERVICE_V4}/
    nsenter --net={client} curl -s 'http://[{SERVICE_V6}]/'
  capture the namespace (edit {file}, or):
    sed -i 's|^\\( *\\)kubernetes.io/metadata.name: {NAMESPACE}$|&\\n\\1{CAPTURE_LABEL}: enabled|' {file}
  what the client's daemon counts, and whether it is ready:
    nsenter --net={node} curl -s http://{METRICS_ADDR}/metrics | grep ^weft_requests_total
    nsenter --net={node} curl -s http://{HEALTH_ADDR}/readyz
  let the namespace go again:
    sed -i '\\|{CAPTURE_LABEL}|d' {file}
  logs and manifests: {DIR}
Remove it all with `cargo xtask demo --down`."
    );
    shop.keep();
    Ok(())
}
