//! Definitions of kinds that Kubernetes does not have by itself.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::ControlPlane;

/// HTTPRoute's name as a definition.
const HTTP_ROUTES: &str = "httproutes.gateway.networking.k8s.io";

impl ControlPlane {
    /// Makes HTTPRoutes known, and waits until they can be made.
    ///
    /// # Errors
    /// If the API server does not take their definition.
    pub fn install_http_routes(&self) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/crds/httproutes.yaml");
        self.apply(&fs::read_to_string(&path).with_context(|| path.display().to_string())?)?;
        self.established(HTTP_ROUTES)
    }

    /// Waits until objects of a definition can be made.
    ///
    /// # Errors
    /// If they cannot within a minute.
    pub fn established(&self, name: &str) -> Result<()> {
        let definition = format!("customresourcedefinition/{name}");
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &definition])
            .map(drop)
    }
}
