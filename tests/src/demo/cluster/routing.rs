//! The real cluster as the world of the chapter on routes and policies.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{GUARD, HANG_GUARD, SHOP, Story, URL, report};
use crate::{
    demo::{
        routing::{File, World},
        row::Row,
    },
    load::Report,
    metrics::Metrics,
};

/// The definition of HTTPRoutes, which clusters have from elsewhere.
const DEFINITIONS: &str = "tests/kubernetes/crds/httproutes.yaml";
/// Where a server hears of its behaviour: in its own pod, past the mesh.
const BEHAVIOUR: &str = "http://127.0.0.1:8080/behaviour";

impl Story<'_> {
    /// Kinds first, so that daemons find them when they start. This one is too long for what kubectl remembers of client-side applies.
    pub(super) fn definitions(self) -> Result<()> {
        self.apply("--server-side --filename", DEFINITIONS)?;
        let established = ["wait", "--for=condition=Established", GUARD, "--filename"];
        let place = super::checkout().join(DEFINITIONS);
        let place = place.display().to_string();
        self.cluster.kubectl(&[&established[..], &[&*place]].concat()).map(drop)
    }

    /// The second version of the server, behind a Service of its own.
    pub(super) fn second_version(self) -> Result<()> {
        self.apply("--filename", "tests/demo/v2.yaml")?;
        let status = ["--namespace", SHOP, "rollout", "status", "deployment/web-v2", GUARD];
        self.cluster.kubectl(&status).map(drop)
    }
}

impl World for Story<'_> {
    const GUARD: Duration = HANG_GUARD;

    /// Its status says that it is accepted, too: one of the daemons writes that.
    fn apply(&self, file: &File) -> Result<()> {
        Story::apply(*self, "--filename", file.path)?;
        let kind = file.kind()?;
        let entries = if kind == "HTTPRoute" { "parents" } else { "ancestors" };
        let accepted =
            format!("--for=jsonpath={{.status.{entries}[0].conditions[?(@.type==\"Accepted\")].status}}=True");
        let object = format!("{}/web", kind.to_lowercase());
        self.cluster
            .kubectl(&["--namespace", SHOP, "wait", &accepted, &object, GUARD])
            .map(drop)
    }

    fn delete(&self, kind: &str, name: &str) -> Result<()> {
        self.kubectl(&["--namespace", SHOP, "delete", &kind.to_lowercase(), name])
            .map(drop)
    }

    fn behave(&self, pod: &str, behaviour: &Value) -> Result<()> {
        let behaviour = behaviour.to_string();
        let command = ["weft-client", BEHAVIOUR, "--put", &behaviour];
        let told = self.kubectl(&[&["--namespace", SHOP, "exec", pod, "--"], &command[..]].concat())?;
        ensure!(report(&told)?.failed == 0, "{pod}: {told}");
        Ok(())
    }

    fn send(&self, header: Option<(&str, &str)>, requests: u64) -> Result<Report> {
        let requests = requests.to_string();
        let header = header.map(|(name, value)| format!("{name}: {value}"));
        let mut command = vec!["weft-client", URL, "--fresh", "--requests", &requests];
        command.extend(header.iter().flat_map(|header| ["--header", header]));
        report(&self.cluster.exec(SHOP, "client", &command)?)
    }

    fn daemons(&self) -> Result<Vec<Metrics>> {
        self.each_metrics()
    }

    fn counted(&self, before: &Metrics, requests: u64) -> Result<Metrics> {
        Story::counted(*self, before, requests)
    }

    fn pods(&self, service: &str) -> Result<Vec<String>> {
        let pods = self.pods_of(&format!("app={service}"))?;
        Ok(pods.into_iter().map(|pod| pod.name).collect())
    }

    fn workers(&self) -> Result<u64> {
        // the image's daemon has one for each CPU
        Ok(thread::available_parallelism()?.get() as u64)
    }

    fn print(&self, row: &Row) -> Result<()> {
        Story::print(*self, row)
    }
}
