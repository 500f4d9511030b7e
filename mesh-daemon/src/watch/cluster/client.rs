//! The client of the API server: from a kubeconfig file, or from what Kubernetes mounts into a pod; what is wrong with these is told with its cure.

use std::{cell::Cell, path::Path, rc::Rc, time::Duration};

use hyper::header::{HeaderValue, USER_AGENT};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::{super::Error, patience::SILENT_AFTER};
use crate::telemetry::causes;

/// How long a connection may take to stand, TLS included. Longer than three SYNs are lost, shorter than people wait for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may say nothing. The watches look for silence themselves, and know what it means: this is longer, so that it is always
/// they who say it, and is for whatever else does not look.
pub(super) const READ_TIMEOUT: Duration = SILENT_AFTER.saturating_add(Duration::from_secs(60));
/// How long a request may take to be written: requests are a few hundred bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the client goes, beside the client.
pub(super) struct Server {
    /// The client; cheap to clone.
    pub(super) client: Client,
    /// The server's URL, for messages.
    pub(super) url: Rc<str>,
    /// Whether lists may be asked for as watches that begin with everything (Kubernetes 1.32 and later: no page is held, here or there);
    /// false once it refused.
    pub(super) streams: Cell<bool>,
}

/// Makes the client. Nothing is sent yet.
///
/// # Errors
/// If the kubeconfig, or what a pod is given, cannot be used: one sentence that names the file and the cure.
pub(super) async fn connect(kubeconfig: Option<&Path>) -> Result<Server, Error> {
    let (mut config, from) = match kubeconfig {
        Some(path) => (from_file(path).await?, format!("the kubeconfig {}", path.display())),
        None => (from_pod()?, "the pod's ServiceAccount".to_owned()),
    };
    let url = config.cluster_url.to_string().trim_end_matches('/').into();
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    // the watches and the status writer have their own, with jitter; two would multiply
    config.default_retry = false;
    let agent = concat!("weft-mesh-daemon/", env!("CARGO_PKG_VERSION"));
    config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
    let client = Client::try_from(config).map_err(|error| {
        Error::Client(match (kubeconfig, &error) {
            (Some(path), kube::Error::InferKubeconfig(error)) => describe(path, error),
            _ => format!(
                "{from} cannot be used: {}; correct its certificates, keys and proxy",
                causes(&error)
            ),
        })
    })?;
    Ok(Server {
        client,
        url,
        streams: Cell::new(true),
    })
}

async fn from_file(path: &Path) -> Result<Config, Error> {
    let told = |error: KubeconfigError| Error::Client(describe(path, &error));
    let kubeconfig = Kubeconfig::read_from(path).map_err(told)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(told)
}

fn describe(path: &Path, error: &KubeconfigError) -> String {
    let file = format!("the kubeconfig {}", path.display());
    match error {
        KubeconfigError::ReadConfig(error, _) => {
            format!("cannot read {file}: {error}; name another with --kubeconfig")
        }
        KubeconfigError::Parse(error) => format!("{file} is not YAML as kubectl writes it: {error}; correct it"),
        KubeconfigError::CurrentContextNotSet => {
            format!("{file} has no current-context; choose one with `kubectl config use-context`")
        }
        KubeconfigError::LoadContext(context) => {
            format!("{file} has no context {context:?}, which its current-context names; correct current-context")
        }
        KubeconfigError::LoadClusterOfContext(cluster) => {
            format!("{file} has no cluster {cluster:?}, which its current context names; correct the context")
        }
        KubeconfigError::MissingClusterUrl => {
            format!("the cluster in {file} has no `server`; write its URL there, as in https://10.0.0.1:6443")
        }
        KubeconfigError::ParseClusterUrl(error) => {
            format!("the cluster's `server` in {file} is no URL: {error}; write one as in https://10.0.0.1:6443")
        }
        KubeconfigError::LoadCertificateAuthority(_) => format!(
            "certificate-authority in {file} cannot be used: {}; make it name the API server's CA in PEM",
            causes(error)
        ),
        KubeconfigError::LoadClientCertificate(_) | KubeconfigError::LoadClientKey(_) => format!(
            "client-certificate or client-key in {file} cannot be used: {}; make them name a certificate and its key in PEM",
            causes(error)
        ),
        other => format!("{file} cannot be used: {}; correct it", causes(other)),
    }
}

fn from_pod() -> Result<Config, Error> {
    Config::incluster().map_err(|error| {
        Error::Client(format!(
            "what Kubernetes gives to a pod cannot be used: {}; set automountServiceAccountToken: true for the pod, or name a kubeconfig with \
             --kubeconfig",
            causes(&error)
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                        users: [{name: u, user: {token: t}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n";

    async fn sentence(text: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        match connect(Some(&path)).await {
            Ok(server) => server.url.to_string(),
            Err(error) => error.to_string().replace(&path.display().to_string(), "FILE"),
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_with_its_cure() {
        assert_eq!(sentence(Some(GOOD)).await, "http://127.0.0.1:1");
        for (text, parts) in [
            (None, ["cannot read the kubeconfig FILE", "--kubeconfig"]),
            (Some("{"), ["FILE is not YAML", "correct it"]),
            (
                Some(&*GOOD.replace("current-context: x\n", "")),
                ["FILE has no current-context", "kubectl config use-context"],
            ),
            (
                Some(&GOOD.replace("current-context: x", "current-context: y")),
                ["has no context \"y\"", "correct current-context"],
            ),
            (
                Some(&GOOD.replace("cluster: c,", "cluster: d,")),
                ["has no cluster \"d\"", "correct the context"],
            ),
            (
                Some(&GOOD.replace("server: 'http://127.0.0.1:1'", "")),
                ["FILE has no `server`", "https://"],
            ),
            (
                Some(&GOOD.replace(
                    "'http://127.0.0.1:1'",
                    "'http://127.0.0.1:1', certificate-authority: /missing/ca.crt",
                )),
                ["certificate-authority in the kubeconfig FILE", "/missing/ca.crt"],
            ),
            (
                Some(&GOOD.replace(
                    "{token: t}",
                    "{client-certificate: /missing/c.crt, client-key: /missing/c.key}",
                )),
                ["/missing/c", "PEM"],
            ),
        ] {
            let said = sentence(text).await;
            for part in parts {
                assert!(said.contains(part), "{said:?} lacks {part:?}");
            }
        }
    }
}
