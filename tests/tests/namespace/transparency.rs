//! Real programs pass through unchanged: Debian's nginx as server, curl, wrk and h2load as clients; bodies from nothing to a gibibyte.

use std::{fs, net::IpAddr, net::SocketAddr, path::Path};

use anyhow::{Result, ensure};
use mesh_tests::{
    bench::shell,
    shop::{HTTP_PORT, Shop, WEB4, WEB6},
    tools,
};

use crate::{captured, counting};

/// Bodies in bytes: nothing, one byte, around a buffer's size, and far more than any buffer.
const SIZES: [u64; 6] = [0, 1, 16_383, 65_537, 10_000_000, 1 << 30];
/// The daemon's peak memory may grow by this much over a gibibyte, in KiB: buffers of a few connections, not the body.
const GROWTH_KIB_MAX: u64 = 48 << 10;

/// Files of all sizes with contents that no compression or repetition hides an error in.
fn files(dir: &Path) -> Result<()> {
    for size in SIZES {
        shell::run(
            "sh",
            &["-c", &format!("head -c {size} /dev/urandom > {}/{size}", dir.display())],
        )?;
    }
    // the index, for wrk
    Ok(fs::write(dir.join("index.html"), "web\n")?)
}

#[test]
fn nginx_and_curl_pass_byte_for_byte_in_flat_memory() {
    captured(|shop| {
        let root = tempfile::tempdir()?;
        files(root.path())?;
        let pod = shop.server("web-2")?.pod.clone();
        shop.kill_server("web-2");
        let _nginx = tools::nginx(&shop.bench, &pod, root.path())?;
        for size in SIZES {
            let expected = tools::file_digest(&root.path().join(size.to_string()))?;
            for ip in pod.ips() {
                let url = format!("http://{}/{size}", SocketAddr::new(ip, HTTP_PORT));
                let before = shop.daemon(0)?.process.status("VmHWM")?;
                let (digest, connections) = counting(shop, || tools::curl_digest(&shop.client, &[&url]))?;
                ensure!(connections == 1, "{url}: {connections} connections were captured");
                ensure!(digest == expected, "{url}: other bytes arrived");
                flat(shop, before, &url)?;
            }
        }
        upload(shop, root.path(), pod.v6.into())
    });
}

fn upload(shop: &mut Shop, root: &Path, ip: IpAddr) -> Result<()> {
    for size in SIZES {
        let file = root.join(size.to_string());
        let url = format!("http://{}/upload/{size}", SocketAddr::new(ip, HTTP_PORT));
        let before = shop.daemon(0)?.process.status("VmHWM")?;
        tools::curl(&shop.client, &["-T", &file.display().to_string(), &url])?;
        let arrived = root.join("upload").join(size.to_string());
        ensure!(
            tools::file_digest(&arrived)? == tools::file_digest(&file)?,
            "{url}: other bytes arrived"
        );
        fs::remove_file(arrived)?;
        flat(shop, before, &url)?;
    }
    Ok(())
}

fn flat(shop: &mut Shop, before: u64, what: &str) -> Result<()> {
    let grown = shop.daemon(0)?.process.status("VmHWM")?.saturating_sub(before);
    ensure!(
        grown <= GROWTH_KIB_MAX,
        "{what}: the daemon's peak memory grew by {grown} KiB"
    );
    Ok(())
}

#[test]
fn curl_over_http2_receives_a_gibibyte_unchanged() {
    captured(|shop| {
        let pod = shop.server("web-3")?.pod.clone();
        let path = "/bytes/1073741824";
        let own = format!("http://{}{path}", SocketAddr::new(pod.v4.into(), HTTP_PORT));
        // what the server itself sends, without a network
        let expected = tools::curl_digest(&pod, &[&own])?;
        let before = shop.daemon(0)?.process.status("VmHWM")?;
        let digest = tools::curl_digest(&shop.client, &["--http2-prior-knowledge", &own])?;
        ensure!(digest == expected, "other bytes arrived");
        flat(shop, before, "HTTP/2")
    });
}

#[test]
fn wrk_and_h2load_see_no_error() {
    captured(|shop| {
        for target in [WEB4, WEB6] {
            let ((), connections) = counting(shop, || tools::wrk(&shop.client, target, 16, 2).map(drop))?;
            ensure!(connections >= 16, "{connections} connections were captured");
            tools::h2load(&shop.client, target, 2000)?;
        }
        Ok(())
    });
}

#[test]
fn nginx_answers_wrk_without_an_error() {
    captured(|shop| {
        let root = tempfile::tempdir()?;
        fs::write(root.path().join("index.html"), "web\n")?;
        let pod = shop.server("web-2")?.pod.clone();
        shop.kill_server("web-2");
        let _nginx = tools::nginx(&shop.bench, &pod, root.path())?;
        let answered = tools::wrk(&shop.client, SocketAddr::new(pod.v4.into(), HTTP_PORT), 16, 2)?;
        ensure!(answered > 100, "{answered} requests were answered");
        Ok(())
    });
}
