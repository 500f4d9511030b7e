//! Network namespaces as the world of the chapter on routes and policies.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::print;
use crate::{
    announce::Announce as _,
    client::{Load, Version},
    daemon::{HANG_GUARD, WORKERS},
    demo::{
        Clock,
        routing::{File, World},
        row::Row,
    },
    load::Report,
    manifests::{Port, Service},
    metrics::Metrics,
    shop::{HTTP_PORT, NAMESPACE, SERVICE_PORTS, Shop, WEB4},
};

/// The second version's Service and pod.
const SERVICE: &str = "web-v2";
const POD: &str = "web-v2-1";

/// The shop of the story.
pub(super) struct Namespaces<'a> {
    pub(super) shop: &'a Shop,
    pub(super) clock: &'a Clock,
}

/// A second version of the server beside the others, behind a Service of its own: what `tests/demo/v2.yaml` says where Deployments are.
///
/// # Errors
/// If its server does not start.
pub(super) fn second_version(shop: &mut Shop) -> Result<()> {
    let pod = shop.bench.add_pod(1, POD)?;
    let mut manifest = shop.pod_manifest(&pod);
    SERVICE.clone_into(&mut manifest.app);
    shop.objects.pod(&manifest)?;
    let service = Service {
        namespace: NAMESPACE.to_owned(),
        name: SERVICE.to_owned(),
        ips: vec![[10, 96, 0, 11].into(), [0xfd96, 0, 0, 0, 0, 0, 0, 0x11].into()],
        ports: vec![Port::new("http", SERVICE_PORTS[0], HTTP_PORT)],
        endpoints: pod.ips().into(),
    };
    shop.services.insert(SERVICE.to_owned(), service);
    shop.servers
        .insert(POD.to_owned(), crate::shop::Server { pod, process: None });
    shop.start_server(POD)?;
    shop.publish()
}

impl World for Namespaces<'_> {
    const GUARD: Duration = HANG_GUARD;

    fn apply(&self, file: &File) -> Result<()> {
        println!("+ {}", file.path);
        self.shop.objects.apply(file.yaml)
    }

    fn delete(&self, kind: &str, name: &str) -> Result<()> {
        println!("- {kind} {name}");
        self.shop.objects.delete(kind, NAMESPACE, name)
    }

    fn behave(&self, pod: &str, behaviour: &Value) -> Result<()> {
        println!("  {pod} is told to answer with {behaviour}");
        self.shop.behave(pod, behaviour)
    }

    fn send(&self, header: Option<(&str, &str)>, requests: u64) -> Result<Report> {
        let load = Load::fresh(Version::Http1, WEB4);
        let load = match header {
            Some((name, value)) => load.header(name, value),
            None => load,
        };
        Ok(Report::from(&self.shop.send(&load, requests)?))
    }

    fn daemons(&self) -> Result<Vec<Metrics>> {
        let daemons = self.shop.daemons.iter().flatten();
        daemons.map(crate::daemon::Daemon::metrics).collect()
    }

    fn counted(&self, before: &Metrics, requests: u64) -> Result<Metrics> {
        self.shop.counted_since(before, requests)
    }

    fn pods(&self, service: &str) -> Result<Vec<String>> {
        let is_new = |name: &str| name.starts_with(SERVICE);
        let pods = self.shop.servers.keys().cloned();
        Ok(pods.filter(|pod| is_new(pod) == (service == SERVICE)).collect())
    }

    fn workers(&self) -> Result<u64> {
        Ok(WORKERS.into())
    }

    fn print(&self, row: &Row) -> Result<()> {
        print(self.shop, self.clock, row);
        Ok(())
    }
}
