//! The controllers at work: a Deployment and its Service become EndpointSlices as pods report in.

use anyhow::ensure;
use mesh_tests::{bench::wait_for, daemon::HANG_GUARD};

use crate::usual;

/// A node nobody runs, ready for pods; and two pods behind a Service of both families.
const OBJECTS: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
"#;
const NODE_READY: &str = r#"{"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    "allocatable": {"pods": "10", "cpu": "1", "memory": "1Gi"}}}"#;
const SLICES: &str =
    "--output=jsonpath={range .items[*].endpoints[*]}{.addresses[0]} {.conditions.ready} {.nodeName}\n{end}";

#[test]
fn a_deployment_and_its_service_become_endpoint_slices() {
    usual(|world| {
        let plane = &world.plane;
        plane.apply(OBJECTS)?;
        plane.kubectl(&["patch", "node", "n1", "--subresource=status", "--patch", NODE_READY])?;
        let bound = wait_for("both pods on the node", HANG_GUARD, || {
            let format = "--output=jsonpath={range .items[?(@.spec.nodeName=='n1')]}{.metadata.name}\n{end}";
            let names = plane.kubectl(&["--namespace=shop", "get", "pods", format])?;
            let names: Vec<String> = names.lines().map(str::to_owned).collect();
            Ok((names.len() == 2).then_some(names))
        })?;
        for (number, name) in (10..).zip(&bound) {
            let status = format!(
                r#"{{"status": {{"phase": "Running", "conditions": [{{"type": "Ready", "status": "True"}}],
                "podIP": "10.244.1.{number}", "podIPs": [{{"ip": "10.244.1.{number}"}}, {{"ip": "fd44:1::{number}"}}]}}}}"#
            );
            plane.kubectl(&[
                "--namespace=shop",
                "patch",
                "pod",
                name,
                "--subresource=status",
                "--patch",
                &status,
            ])?;
        }
        let lines = wait_for("two endpoints of each family", HANG_GUARD, || {
            let text = plane.kubectl(&["--namespace=shop", "get", "endpointslices", SLICES])?;
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            Ok((lines.len() == 4).then_some(lines))
        })?;
        let expected = [
            "10.244.1.10 true n1",
            "10.244.1.11 true n1",
            "fd44:1::10 true n1",
            "fd44:1::11 true n1",
        ];
        ensure!(lines == expected, "{lines:?}");
        Ok(())
    });
}
