//! What each program of the control plane is told: options, command lines, kubeconfig.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::bench::Netns;

/// Where Services get their addresses, IPv4 and IPv6.
pub const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/16", "fd96::/108"];
/// Where pods get their addresses, IPv4 and IPv6.
pub const POD_CIDRS: [&str; 2] = ["10.244.0.0/16", "fd44::/56"];
/// etcd listens on the loopback of the control plane's namespace, where nothing else does.
pub(super) const ETCD_URL: &str = "http://127.0.0.1:2379";

/// How a control plane is set up.
#[derive(Clone, Debug)]
pub struct ControlPlaneOptions {
    /// Where it runs. Its loopback must be up, and its ports free.
    pub netns: Netns,
    /// The directory of its files, which it makes and removes.
    pub dir: PathBuf,
    /// Where the API server is reached: an address that the namespace has.
    pub address: IpAddr,
    /// The API server's port.
    pub port: u16,
    /// Whether Services and pods have addresses of both families; else only that of `address`.
    pub dual_stack: bool,
    /// What runs beside etcd and the API server.
    pub components: Components,
    /// Further arguments.
    pub extra_args: ExtraArgs,
}

/// The programs that may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Components {
    /// Whether the controllers run: EndpointSlices, ReplicaSets, service accounts of new namespaces, garbage collection.
    pub controller_manager: bool,
    /// Whether pods are bound to nodes.
    pub scheduler: bool,
}

/// Arguments after our own; where an argument stands twice, Kubernetes takes the last.
#[derive(Clone, Debug, Default)]
pub struct ExtraArgs {
    /// Of kube-apiserver.
    pub api_server: Vec<String>,
    /// Of kube-controller-manager.
    pub controller_manager: Vec<String>,
    /// Of kube-scheduler.
    pub scheduler: Vec<String>,
}

impl ControlPlaneOptions {
    /// Everything, dual stack, on the usual port.
    pub fn new(netns: &Netns, dir: impl Into<PathBuf>, address: impl Into<IpAddr>) -> Self {
        Self {
            netns: netns.clone(),
            dir: dir.into(),
            address: address.into(),
            port: 6443,
            dual_stack: true,
            components: Components {
                controller_manager: true,
                scheduler: true,
            },
            extra_args: ExtraArgs::default(),
        }
    }

    pub(super) fn api_server_args(&self) -> Vec<String> {
        let dir = self.dir.display();
        let key = self.service_account_key();
        let key = key.display();
        let own = vec![
            format!("--etcd-servers={ETCD_URL}"),
            "--bind-address=::".to_owned(),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            // makes its own certificate there at the first start, and takes it at the next
            format!("--cert-dir={dir}/certs"),
            format!("--service-cluster-ip-range={}", self.ranges(SERVICE_CIDRS)),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--token-auth-file={dir}/tokens.csv"),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ];
        [own, self.extra_args.api_server.clone()].concat()
    }

    pub(super) fn controller_manager_args(&self, kubeconfig: &Path) -> Vec<String> {
        let mut own = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--cert-dir={}/controller-manager", self.dir.display()),
            format!(
                "--service-account-private-key-file={}",
                self.service_account_key().display()
            ),
            format!("--root-ca-file={}", self.certificate().display()),
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={}", self.ranges(POD_CIDRS)),
            format!("--service-cluster-ip-range={}", self.ranges(SERVICE_CIDRS)),
        ];
        if self.dual_stack || self.address.is_ipv6() {
            let flag = if self.dual_stack { "-ipv6" } else { "" };
            own.push(format!("--node-cidr-mask-size{flag}=64"));
        }
        [own, self.extra_args.controller_manager.clone()].concat()
    }

    pub(super) fn scheduler_args(&self, kubeconfig: &Path) -> Vec<String> {
        let own = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--cert-dir={}/scheduler", self.dir.display()),
        ];
        [own, self.extra_args.scheduler.clone()].concat()
    }

    /// The URL of the API server.
    pub(super) fn server(&self) -> String {
        match self.address {
            IpAddr::V4(ip) => format!("https://{ip}:{}", self.port),
            IpAddr::V6(ip) => format!("https://[{ip}]:{}", self.port),
        }
    }

    /// What the API server makes at its first start: its certificate, and the CA that signed it.
    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.join("certs/apiserver.crt")
    }

    pub(super) fn service_account_key(&self) -> PathBuf {
        self.dir.join("service-account.key")
    }

    pub(super) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.kubeconfig"))
    }

    /// A kubeconfig that names this server and this user. JSON is YAML: no value needs quotes of its own kind.
    pub(super) fn kubeconfig_text(&self, server: &str, token: &str) -> String {
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "weft", "cluster": {"server": server, "certificate-authority": self.certificate()}}],
            "users": [{"name": "weft", "user": {"token": token}}],
            "contexts": [{"name": "weft", "context": {"cluster": "weft", "user": "weft"}}],
            "current-context": "weft",
        })
        .to_string()
    }

    /// The ranges of the families in use; that of the API server's own address comes first, as it demands.
    fn ranges(&self, [v4, v6]: [&str; 2]) -> String {
        match (self.dual_stack, self.address.is_ipv4()) {
            (true, true) => format!("{v4},{v6}"),
            (true, false) => format!("{v6},{v4}"),
            (false, true) => v4.to_owned(),
            (false, false) => v6.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(address: &str, dual_stack: bool) -> ControlPlaneOptions {
        ControlPlaneOptions {
            dual_stack,
            ..ControlPlaneOptions::new(
                &Netns::named("nowhere"),
                "/run/plane",
                address.parse::<IpAddr>().unwrap(),
            )
        }
    }

    #[test]
    fn the_servers_own_family_comes_first() {
        for (address, dual_stack, server, ranges) in [
            (
                "198.51.100.2",
                true,
                "https://198.51.100.2:6443",
                "10.96.0.0/16,fd96::/108",
            ),
            ("198.51.100.2", false, "https://198.51.100.2:6443", "10.96.0.0/16"),
            ("fd98::2", true, "https://[fd98::2]:6443", "fd96::/108,10.96.0.0/16"),
            ("fd98::2", false, "https://[fd98::2]:6443", "fd96::/108"),
        ] {
            let options = options(address, dual_stack);
            assert_eq!(options.server(), server);
            let expected = format!("--service-cluster-ip-range={ranges}");
            for args in [
                options.api_server_args(),
                options.controller_manager_args(Path::new("/k")),
            ] {
                assert!(args.contains(&expected), "{args:?}");
            }
        }
    }

    #[test]
    fn extra_arguments_come_last_so_that_they_win() {
        let mut options = options("198.51.100.2", true);
        options.extra_args = ExtraArgs {
            api_server: vec!["--watch-cache=false".into()],
            controller_manager: vec!["--controllers=none".into()],
            scheduler: vec!["--v=2".into()],
        };
        for (args, last) in [
            (options.api_server_args(), "--watch-cache=false"),
            (options.controller_manager_args(Path::new("/k")), "--controllers=none"),
            (options.scheduler_args(Path::new("/k")), "--v=2"),
        ] {
            assert_eq!(args.last().unwrap(), last);
        }
    }
}
