//! The control plane, until the one of its own is there.
#![allow(missing_docs, reason = "goes")]
use std::{fs, path::{Path, PathBuf}, time::Duration};
use anyhow::{Context, Result};
use crate::{bench::{Netns, shell, wait_for}, process::Process};

#[derive(Debug)]
pub struct ControlPlane { netns: Netns, dir: PathBuf, kube: PathBuf, processes: Vec<Process> }

impl ControlPlane {
    pub fn start(netns: &Netns, dir: &Path, address: std::net::Ipv4Addr, kube: &Path, services: &str, pods: &str) -> Result<Self> {
        fs::create_dir_all(dir.join("certs"))?;
        let d = dir.display().to_string();
        shell::run("openssl", &["genrsa", "-out", &format!("{d}/sa.key"), "2048"])?;
        fs::write(dir.join("tokens.csv"), "admin-token-0123456789,admin,admin,system:masters\n")?;
        let mut this = Self { netns: netns.clone(), dir: dir.to_owned(), kube: kube.to_owned(), processes: vec![] };
        this.run(&["etcd", &format!("{d}/etcd"), "http://127.0.0.1:2379"])?;
        this.run(&["kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", &format!("--advertise-address={address}"), "--secure-port=6443",
            &format!("--cert-dir={d}/certs"), &format!("--service-cluster-ip-range={services}"), "--authorization-mode=Node,RBAC", &format!("--token-auth-file={d}/tokens.csv"),
            &format!("--service-account-key-file={d}/sa.key"), &format!("--service-account-signing-key-file={d}/sa.key"), "--service-account-issuer=https://kubernetes.default.svc", "--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP"])?;
        let url = format!("https://{address}:6443/readyz");
        wait_for("the API server", Duration::from_secs(60), || netns.run("curl", &["-skf", "-m", "2", &url, "-H", "Authorization: Bearer admin-token-0123456789"]).map(Some))?;
        fs::write(this.kubeconfig(), format!("apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: \"https://{address}:6443\", certificate-authority: \"{d}/certs/apiserver.crt\"}}}}]\nusers: [{{name: u, user: {{token: admin-token-0123456789}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"))?;
        let kc = format!("--kubeconfig={d}/kubeconfig");
        this.run(&["kube-controller-manager", &kc, &format!("--service-account-private-key-file={d}/sa.key"), &format!("--root-ca-file={d}/certs/apiserver.crt"), "--leader-elect=false", "--bind-address=127.0.0.1",
            &format!("--cert-dir={d}/kcm"), &format!("--cluster-cidr={pods}"), "--allocate-node-cidrs=false", &format!("--service-cluster-ip-range={services}")])?;
        this.run(&["kube-scheduler", &kc, "--leader-elect=false", "--bind-address=127.0.0.1", &format!("--cert-dir={d}/sch")])?;
        Ok(this)
    }
    fn run(&mut self, args: &[&str]) -> Result<()> {
        let mut c = self.netns.command(self.kube.as_os_str()); c.args(args);
        self.processes.push(Process::start(c, &self.dir.join(format!("{}.log", args[0])))?);
        Ok(())
    }
    pub fn kubeconfig(&self) -> PathBuf { self.dir.join("kubeconfig") }
    pub fn kubectl(&self, args: &[&str]) -> Result<String> { self.kubectl_with(args, "") }
    pub fn apply(&self, yaml: &str) -> Result<()> { self.kubectl_with(&["apply", "-f", "-"], yaml).map(drop) }
    fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        let mut c = self.netns.command(self.kube.as_os_str());
        c.arg("kubectl").args(args).env("KUBECONFIG", self.kubeconfig()).env("HOME", &self.dir);
        shell::output(&mut c, input).context("kubectl")
    }
    pub fn keep(&mut self) { self.processes.iter_mut().for_each(Process::keep); }
}
