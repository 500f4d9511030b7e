//! Objects that are malformed or contradictory, while the daemon runs: they are set aside, all others work.

use anyhow::{Context, Result, ensure};
use mesh_tests::{
    bench::wait_for,
    client::{self, Load, Version},
    daemon::HANG_GUARD,
    manifests::Manifests,
    shop::{NAMESPACE, Shop, WEB4},
};

use crate::{all_answered, captured};

/// Objects that are set aside, by reason.
const SET_ASIDE: &str = "weft_objects_set_aside";

/// A Service and its EndpointSlice with ports that no port can have.
const PORTS_OUT_OF_RANGE: &str = "apiVersion: v1
kind: Service
metadata:
  name: odd
  namespace: shop
spec:
  clusterIP: 10.96.2.1
  clusterIPs: [10.96.2.1]
  ports:
  - {name: a, port: 70000, protocol: TCP, targetPort: 8080}
  - {name: b, port: 0, protocol: TCP, targetPort: 8080}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: odd-1
  namespace: shop
  labels: {kubernetes.io/service-name: odd}
addressType: IPv4
endpoints:
- addresses: [10.244.1.11]
- addresses: [not-an-address]
ports:
- {name: a, port: -1, protocol: TCP}
";

/// Waits until more is set aside than before, and checks that the shop goes on.
fn set_aside_and_the_rest_works(shop: &mut Shop, before: f64) -> Result<()> {
    for node in [0, 1] {
        let daemon = shop.daemon(node)?;
        daemon.wait_metrics("something to be set aside", |metrics| {
            metrics.sum(SET_ASIDE, &[]) > before
        })?;
    }
    all_answered(&shop.send(&Load::fresh(Version::Http1, WEB4), 30)?)?;
    shop.wait_captured(true)
}

#[test]
fn ports_out_of_range_are_set_aside() {
    captured(|shop| {
        let before = shop.daemon(0)?.metrics()?.sum(SET_ASIDE, &[]);
        shop.objects.text("odd.yaml", PORTS_OUT_OF_RANGE)?;
        set_aside_and_the_rest_works(shop, before)?;
        shop.objects.remove("odd.yaml");
        let daemon = shop.daemon(0)?;
        daemon.wait_metrics("nothing more to be set aside", |metrics| {
            metrics.sum(SET_ASIDE, &[]) <= before
        })?;
        Ok(())
    });
}

#[test]
fn a_half_written_file_keeps_its_last_good_state() {
    captured(|shop| {
        let file = "service-shop-web.yaml";
        let path = shop.objects.file(file);
        let whole = std::fs::read_to_string(&path)?;
        let before = shop.daemon(0)?.metrics()?.sum(SET_ASIDE, &[]);
        // an editor in the middle of writing: not valid YAML, and no rename
        let cut = whole.find("clusterIPs").context("the manifest has other fields")? + 4;
        std::fs::write(&path, format!("{}\n  {{[", &whole[..cut]))?;
        set_aside_and_the_rest_works(shop, before)?;
        shop.objects.text(file, &whole)?;
        let daemon = shop.daemon(0)?;
        daemon.wait_metrics("the mended file to be read", |metrics| {
            metrics.sum(SET_ASIDE, &[]) <= before
        })?;
        shop.wait_captured(true)
    });
}

#[test]
fn endpoints_without_pods_are_served() {
    captured(|shop| {
        for name in shop.servers.keys() {
            shop.objects.remove_pod(NAMESPACE, name);
        }
        let load = Load::fresh(Version::Http1, WEB4);
        wait_for("requests to endpoints without a pod", HANG_GUARD, || {
            let before = shop.metrics()?;
            all_answered(&shop.send(&load, 9)?)?;
            let since = shop.counted_since(&before, 9)?;
            let known = since.sum(mesh_tests::daemon::REQUESTS, &[("destination_workload", "web-2")]);
            Ok((known == 0.0).then_some(()))
        })?;
        let tally = shop.send(&load, 90)?;
        all_answered(&tally)?;
        ensure!(tally.by_body.len() == 3, "{tally:?}");
        Ok(())
    });
}

#[test]
fn new_objects_with_an_annotation_of_a_mebibyte_and_unknown_fields_are_no_trouble() {
    captured(|shop| {
        let set_aside = |shop: &Shop| -> Result<f64> { Ok(shop.metrics()?.sum(SET_ASIDE, &[])) };
        let before = set_aside(shop)?;
        let pod = shop.bench.add_pod(0, "large")?;
        let mut service = shop.services["web"].clone();
        service.name = "later".to_owned();
        service.ips = vec!["10.96.4.1".parse()?, "fd96::4:1".parse()?];
        let mut manifest = shop.pod_manifest(&pod);
        manifest
            .annotations
            .push(("example.org/large".to_owned(), "x".repeat(1 << 20)));
        // written aside first: an object that once stood without the trouble would keep its last good state
        let aside = Manifests::in_dir(shop.bench.dir().join("aside"))?;
        aside.pod(&manifest)?;
        aside.service(&service)?;
        for entry in std::fs::read_dir(aside.dir())? {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let text = std::fs::read_to_string(path)?;
            let nested = text.replace("\nmetadata:\n", "\nmetadata:\n  fromTheFuture: {a: [1, {b: c}]}\n");
            ensure!(nested != text, "{name:?} has no metadata");
            let text = format!("{nested}fromTheFuture:\n  a: [1, {{b: c}}]\n");
            shop.objects.text(&name.to_string_lossy(), &text)?;
        }
        for ip in &service.ips {
            let target = (*ip, 80).into();
            wait_for("requests of the new pod to the new service", HANG_GUARD, || {
                let earlier = shop.metrics()?;
                all_answered(&client::send(&pod.netns, &Load::fresh(Version::Http1, target), 9)?)?;
                let since = shop.counted_since(&earlier, 9)?;
                let labels = [("source_workload", "large"), ("destination_service", "later")];
                let counted = since.sum(mesh_tests::daemon::REQUESTS, &labels);
                ensure!(counted > 8.5, "{counted} of 9 were counted");
                Ok(Some(()))
            })?;
        }
        let after = set_aside(shop)?;
        ensure!(after <= before, "{after} objects are set aside, {before} were");
        Ok(())
    });
}

#[test]
fn a_service_that_nobody_knows_is_left_to_kube_proxy() {
    captured(|shop| {
        // known to kube-proxy alone
        let mut unknown = shop.services["web"].clone();
        unknown.name = "unknown".to_owned();
        unknown.ips = vec!["10.96.3.1".parse()?];
        let services = [shop.services["web"].clone(), unknown];
        for node in &shop.bench.nodes {
            mesh_tests::kube_proxy::apply(&node.netns, &services)?;
        }
        let answer = client::once(&shop.client.netns, Version::Http1, "10.96.3.1:80".parse()?, "/")?;
        ensure!(answer.text().starts_with("web-"), "{answer:?}");
        Ok(())
    });
}
