//! etcd, API server, controller manager and scheduler in a network namespace, with one administrator and a kubeconfig.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{
    binaries::Binaries,
    parts::{ControlPlaneOptions, ETCD_URL},
};
use crate::{
    bench::{self, shell, wait_for},
    process::Process,
};

/// The administrator's kubeconfig.
const ADMIN: &str = "admin";
/// Bytes of the administrator's token, before they become hex digits.
const TOKEN_BYTES: usize = 16;
/// How long tokens of service accounts are good for; no test runs that long.
const TOKEN_DURATION: &str = "24h";
/// A guard against hangs only: seconds on an idle machine, a quarter of a minute was seen on a very busy one.
const START_GUARD: Duration = Duration::from_secs(120);
/// Pause between two questions whether it is ready: each is work for the API server, which has much to do at its start.
const READY_PAUSE: Duration = Duration::from_millis(20);
/// Lines of a program's log that say why it did not come up.
const LAST_LINES: usize = 20;

/// A running control plane. Dropping it ends its processes and removes its files.
#[derive(Debug)]
pub struct ControlPlane {
    // in the order in which they are ended: those that depend on others first
    scheduler: Option<Process>,
    controller_manager: Option<Process>,
    api_server: Option<Process>,
    etcd: Process,
    kubeconfig: PathBuf,
    ready_in: Duration,
    binaries: Binaries,
    files: Files,
    options: ControlPlaneOptions,
}

impl ControlPlane {
    /// Starts everything and waits until the API server is ready and, if the controllers run, pods can be made in the default namespace.
    ///
    /// # Errors
    /// If Kubernetes was not built, its directory exists already, or a program does not come up; then with what it said.
    pub fn start(options: ControlPlaneOptions) -> Result<Self> {
        let started = Instant::now();
        let binaries = Binaries::find()?;
        let files = Files::make(&options.dir)?;
        write_secret(
            &options.dir.join("tokens.csv"),
            &format!("{},{ADMIN},{ADMIN},system:masters\n", random_token()?),
        )?;
        let key = options.service_account_key();
        shell::output(Command::new(binaries.kube()).arg("service-account-key").arg(key), "")?;
        let data = options.dir.join("etcd");
        let etcd = start(
            &options,
            &binaries,
            "etcd",
            &[data.display().to_string(), ETCD_URL.to_owned()],
        )?;
        let mut plane = Self {
            scheduler: None,
            controller_manager: None,
            api_server: None,
            etcd,
            kubeconfig: options.kubeconfig(ADMIN),
            ready_in: Duration::ZERO,
            binaries,
            files,
            options,
        };
        let token = plane.admin_token()?;
        plane.kubeconfig_for(ADMIN, None, &token)?;
        plane.start_api_server()?;
        plane.start_components()?;
        plane.ready_in = started.elapsed();
        Ok(plane)
    }

    /// How long [`Self::start`] took.
    pub fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// The administrator's kubeconfig; its server is at the address of the options.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The programs that it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// How it was set up.
    pub fn options(&self) -> &ControlPlaneOptions {
        &self.options
    }

    /// The API server's certificate and its CA, as clients and pods need it.
    pub fn certificate(&self) -> PathBuf {
        self.options.certificate()
    }

    /// Writes a kubeconfig with this token, for the API server or for another URL of it, and hands back its path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn kubeconfig_for(&self, name: &str, server: Option<&str>, token: &str) -> Result<PathBuf> {
        let path = self.options.kubeconfig(name);
        let own = self.options.server();
        write_secret(&path, &self.options.kubeconfig_text(server.unwrap_or(&own), token))?;
        Ok(path)
    }

    /// The administrator's token.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn admin_token(&self) -> Result<String> {
        let text = fs::read_to_string(self.options.dir.join("tokens.csv"))?;
        Ok(text.split(',').next().unwrap_or_default().to_owned())
    }

    /// A new token of a service account, which must exist.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn token(&self, namespace: &str, service_account: &str) -> Result<String> {
        let duration = format!("--duration={TOKEN_DURATION}");
        let said = self.kubectl(&["create", "token", "--namespace", namespace, service_account, &duration])?;
        Ok(said.trim().to_owned())
    }

    /// Runs kubectl as the administrator, in the control plane's namespace, and hands back what it printed.
    ///
    /// # Errors
    /// If it fails; the text holds what it said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        shell::output(self.kubectl_command().args(args), "")
    }

    /// Creates or changes the objects of a YAML text.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let args = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
        shell::output(self.kubectl_command().args(args), yaml).map(drop)
    }

    /// kubectl as the administrator, ready for its arguments.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.options.netns.command(self.binaries.kube());
        command
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            // its caches and settings, or they would be in the home of whoever runs the tests
            .env("HOME", &self.options.dir);
        command
    }

    /// Runs a future with the administrator's client, on a thread in the control plane's namespace with a runtime of its own.
    ///
    /// # Errors
    /// What the future fails with, or if no client can be made.
    pub fn with_client<T, F>(&self, work: impl FnOnce(Client) -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>>,
    {
        self.options.netns.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let file = Kubeconfig::read_from(&self.kubeconfig)?;
                let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
                work(Client::try_from(config)?).await
            })
        })?
    }

    /// Kills the API server, as a crash would; everything else keeps running. Fine if it is stopped.
    pub fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts the API server and waits until it is ready; certificate, keys and tokens are those of before. Fine if it runs.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn start_api_server(&mut self) -> Result<()> {
        if self.api_server.is_some() {
            return Ok(());
        }
        let args = self.options.api_server_args();
        let mut process = start(&self.options, &self.binaries, "kube-apiserver", &args)?;
        let ready = wait_for("the API server's /readyz", START_GUARD, || {
            if let Some(status) = process.exited()? {
                return Ok(Some(Err(status)));
            }
            self.with_client(until_ready).map(|()| Some(Ok(())))
        });
        match ready {
            Ok(Ok(())) => {
                self.api_server = Some(process);
                Ok(())
            }
            Ok(Err(status)) => bail!("the API server ended with {status}: {}", last_lines(&process)),
            Err(error) => Err(error.context(last_lines(&process))),
        }
    }

    /// Forgets etcd's history up to now, so that lists and watches from an older resourceVersion are answered 410 Gone. The API server's
    /// watch cache remembers recent events by itself: stop and start it too, or run it with `--watch-cache=false`.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub fn compact_history(&self) -> Result<()> {
        let mut command = self.options.netns.command(self.binaries.kube());
        shell::output(command.args(["etcd-compact", ETCD_URL]), "").map(drop)
    }

    /// Pids of the programs that run.
    pub fn pids(&self) -> Vec<u32> {
        let others = [&self.scheduler, &self.controller_manager, &self.api_server];
        let others = others.into_iter().flatten();
        others.chain([&self.etcd]).map(Process::pid).collect()
    }

    /// Lets everything live on after this process; the namespace's removal ends the programs, the directory is its owner's to remove.
    pub fn keep(mut self) {
        let others = [&mut self.scheduler, &mut self.controller_manager, &mut self.api_server];
        others
            .into_iter()
            .flatten()
            .chain([&mut self.etcd])
            .for_each(Process::keep);
        self.files.kept = true;
    }

    fn start_components(&mut self) -> Result<()> {
        let Self { options, binaries, .. } = self;
        if options.components.scheduler {
            let args = options.scheduler_args(&self.kubeconfig);
            self.scheduler = Some(start(options, binaries, "kube-scheduler", &args)?);
        }
        if options.components.controller_manager {
            let args = options.controller_manager_args(&self.kubeconfig);
            self.controller_manager = Some(start(options, binaries, "kube-controller-manager", &args)?);
            // a pod is refused as long as its namespace has no service account
            self.with_client(until_service_account)
                .context("the default namespace has no service account: the controllers do not work")?;
        }
        Ok(())
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            bench::show_logs_in(&self.options.dir);
        }
    }
}

/// The directory of a control plane, as long as it lives.
#[derive(Debug)]
struct Files {
    dir: PathBuf,
    kept: bool,
}

impl Files {
    fn make(dir: &Path) -> Result<Self> {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        // one that exists is another's, with a store and keys that are not ours
        fs::create_dir(dir).with_context(|| format!("making {} for a control plane", dir.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            kept: false,
        })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn start(options: &ControlPlaneOptions, binaries: &Binaries, part: &str, args: &[String]) -> Result<Process> {
    let mut command = options.netns.command(binaries.kube());
    command.arg(part).args(args).env("HOME", &options.dir);
    Process::start(command, &options.dir.join(format!("{part}.log")))
}

async fn until_ready(client: Client) -> Result<()> {
    until_found(&client, "/readyz").await
}

async fn until_service_account(client: Client) -> Result<()> {
    until_found(&client, "/api/v1/namespaces/default/serviceaccounts/default").await
}

/// Asks, over one connection, until the API server answers with a success.
async fn until_found(client: &Client, path: &str) -> Result<()> {
    let mut pause = tokio::time::interval(READY_PAUSE);
    let asking = async {
        loop {
            pause.tick().await;
            match client.request_text(hyper::Request::get(path).body(Vec::new())?).await {
                Ok(_) => return Ok(()),
                // an answer, only not yet the right one
                Err(kube::Error::Api(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    };
    let answered = tokio::time::timeout(START_GUARD, asking).await;
    answered.with_context(|| format!("{path}: no success within {START_GUARD:?}"))?
}

fn last_lines(process: &Process) -> String {
    let output = process.output();
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Writes a file that only its owner reads.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn random_token() -> Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
