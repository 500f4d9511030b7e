//! Where the world of a test is announced to the daemons: files, or a real API server.

use std::{ffi::OsString, net::IpAddr};

use anyhow::Result;

use crate::manifests::{Manifests, PodManifest, Service, object_file};

/// Takes announcements of objects, each as often as it likes: the last one holds.
pub trait Announce {
    /// Announces a Node that is ready.
    ///
    /// # Errors
    /// If it cannot be announced, as for all others.
    fn node(&self, name: &str, ips: &[IpAddr], pod_cidrs: &[String]) -> Result<()>;

    /// Announces a Namespace, with its capture label or without.
    ///
    /// # Errors
    /// As [`Self::node`].
    fn namespace(&self, name: &str, capture: Option<&str>) -> Result<()>;

    /// Announces a Pod and its status.
    ///
    /// # Errors
    /// As [`Self::node`].
    fn pod(&self, pod: &PodManifest) -> Result<()>;

    /// Announces a Service; its endpoints too, unless a controller makes them of the Pods.
    ///
    /// # Errors
    /// As [`Self::node`].
    fn service(&self, service: &Service) -> Result<()>;

    /// Announces objects of any kind, written as YAML with `---` between them.
    ///
    /// # Errors
    /// As [`Self::node`]; an API server's refusal word for word.
    fn apply(&self, yaml: &str) -> Result<()>;

    /// Takes an object away; `kind` as in the manifest.
    ///
    /// # Errors
    /// If it cannot be taken away.
    fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()>;

    /// The arguments that tell the daemon of a node where to look.
    ///
    /// # Errors
    /// If what they name cannot be made.
    fn daemon_args(&self, node: &str) -> Result<Vec<OsString>>;
}

impl Announce for Manifests {
    fn node(&self, name: &str, ips: &[IpAddr], pod_cidrs: &[String]) -> Result<()> {
        self.node(name, ips, pod_cidrs)
    }

    fn namespace(&self, name: &str, capture: Option<&str>) -> Result<()> {
        self.namespace(name, capture)
    }

    fn pod(&self, pod: &PodManifest) -> Result<()> {
        self.pod(pod)
    }

    fn service(&self, service: &Service) -> Result<()> {
        self.service(service)
    }

    fn apply(&self, yaml: &str) -> Result<()> {
        self.objects(yaml)
    }

    fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        self.remove(&object_file(kind, namespace, name));
        Ok(())
    }

    fn daemon_args(&self, _node: &str) -> Result<Vec<OsString>> {
        Ok(vec!["--manifests".into(), self.dir().into()])
    }
}
