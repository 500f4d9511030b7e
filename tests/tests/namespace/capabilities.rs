//! What the DaemonSet's container may do is enough: a daemon with exactly these capabilities captures and carries.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::Options,
    client::{Load, Version},
    daemon::DaemonOptions,
    shop::{Shop, WEB4, WEB6},
};

use crate::{all_answered, tell};

/// `securityContext.capabilities.add` of the manifest, as setpriv names them.
fn granted() -> Result<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/daemonset/daemonset.yaml");
    let daemon_set: serde_json::Value = serde_yaml_ng::from_str(&fs::read_to_string(manifest)?)?;
    let security = &daemon_set["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    let added = security["capabilities"]["add"]
        .as_array()
        .context("the manifest adds no capability")?;
    let names = added.iter().filter_map(|name| name.as_str());
    Ok(names.map(|name| format!(",+{}", name.to_lowercase())).collect())
}

#[test]
fn a_daemon_with_the_manifests_capabilities_captures() {
    let shop = granted().and_then(|granted| {
        let set = format!("-all{granted}");
        let words = ["setpriv", "--no-new-privs", "--bounding-set", &set, "--inh-caps", &set];
        let daemon = DaemonOptions {
            wrapper: words.map(str::to_owned).to_vec(),
            ..DaemonOptions::default()
        };
        Shop::captured_with(Options::default(), &daemon)
    });
    tell(shop, |shop| {
        let hears = shop.daemon(0)?.metrics()?.sum("weft_kernel_rtt_available", &[]);
        ensure!(hears > 0.5, "the kernel's ear does not stand");
        for target in [WEB4, WEB6] {
            for version in [Version::Http1, Version::Http2] {
                all_answered(&shop.send(&Load::fresh(version, target), 20)?)?;
            }
        }
        Ok(())
    });
}
