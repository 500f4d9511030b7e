//! Real clients and servers of the distribution inside pods: curl, wrk, h2load, nginx.

use std::{fs, net::SocketAddr, path::Path, process::Stdio};

use anyhow::{Context, Result, bail};

use crate::{
    bench::{Bench, Pod, wait_for},
    daemon::HANG_GUARD,
    process::Process,
    tcp,
};

/// Runs curl in a pod and hands back what it received.
///
/// # Errors
/// If curl fails.
pub fn curl(pod: &Pod, args: &[&str]) -> Result<String> {
    let base = [
        "--silent",
        "--show-error",
        "--fail",
        "--globoff",
        "--noproxy",
        "*",
        "--max-time",
        "300",
    ];
    pod.netns.run("curl", &[&base[..], args].concat())
}

/// What a body is, without keeping it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// SHA-256 in hex.
    pub sha256: String,
}

/// The digest of what curl receives in a pod.
///
/// # Errors
/// If curl fails.
pub fn curl_digest(pod: &Pod, args: &[&str]) -> Result<Digest> {
    let mut curl = pod.netns.command("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--globoff",
        "--noproxy",
        "*",
        "--max-time",
        "300",
    ])
    .args(args);
    let mut curl = curl
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("curl; is it installed?")?;
    let body = curl.stdout.take().context("curl's output")?;
    let sum = std::process::Command::new("sha256sum")
        .stdin(body)
        .output()
        .context("sha256sum")?;
    let status = curl.wait()?;
    if !status.success() {
        bail!("curl {args:?} ended with {status}");
    }
    digest(&String::from_utf8_lossy(&sum.stdout))
}

/// The digest of a file.
///
/// # Errors
/// If it cannot be read.
pub fn file_digest(path: &Path) -> Result<Digest> {
    digest(&crate::bench::shell::run("sha256sum", &[&path.display().to_string()])?)
}

fn digest(line: &str) -> Result<Digest> {
    let sha256 = line.split_whitespace().next().context("no digest")?.to_owned();
    Ok(Digest { sha256 })
}

/// Runs wrk in a pod and hands back how many requests were answered.
///
/// # Errors
/// If wrk fails, or reports errors of sockets or statuses.
pub fn wrk(pod: &Pod, target: SocketAddr, connections: u32, seconds: u32) -> Result<u64> {
    let (connections, duration) = (format!("-c{connections}"), format!("-d{seconds}s"));
    let said = pod
        .netns
        .run("wrk", &["-t1", &connections, &duration, &format!("http://{target}/")])?;
    if said.contains("Socket errors") || said.contains("Non-2xx") {
        bail!("wrk saw errors: {said}");
    }
    let line = said
        .lines()
        .find(|line| line.contains(" requests in "))
        .context("wrk's summary")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

/// Runs h2load (HTTP/2 with prior knowledge) in a pod.
///
/// # Errors
/// If it fails, or if not all requests succeed.
pub fn h2load(pod: &Pod, target: SocketAddr, requests: u32) -> Result<()> {
    let said = pod.netns.run(
        "h2load",
        &["-n", &requests.to_string(), "-c4", "-m10", &format!("http://{target}/")],
    )?;
    if said.contains(&format!("{requests} succeeded, 0 failed, 0 errored")) {
        return Ok(());
    }
    bail!("h2load: {said}")
}

/// Starts Debian's nginx in a pod, serving a directory on port 8080 of both families.
///
/// # Errors
/// If it is not installed or does not listen.
pub fn nginx(bench: &Bench, pod: &Pod, root: &Path) -> Result<Process> {
    let dir = bench.dir().join(format!("nginx-{}", pod.name));
    fs::create_dir_all(&dir)?;
    let at = dir.display();
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {at}/pid; error_log stderr;\nevents {{ worker_connections 512; }}\n\
         http {{ access_log off; client_max_body_size 0; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
         fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi; sendfile on;\n\
         server {{ listen 8080; listen [::]:8080; root {root};\n\
         location /upload/ {{ dav_methods PUT; create_full_put_path on; }} }} }}\n",
        root = root.display()
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = pod.netns.command("nginx");
    command.arg("-e").arg("stderr").arg("-c").arg(&file);
    let process = Process::start(command, &bench.dir().join(format!("{}.log", pod.name)))?;
    wait_for("nginx", HANG_GUARD, || {
        tcp::connect(&pod.netns, SocketAddr::new(pod.v4.into(), 8080)).map(Some)
    })?;
    Ok(process)
}
