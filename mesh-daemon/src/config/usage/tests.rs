//! Command lines in, settings or one sentence out; and the help text against the file beside this one.

mod help;

mod questions;

use std::{num::NonZeroU32, time::Duration};

use clap::CommandFactory;

use super::*;
use crate::{config::AttachMode, telemetry::LogFormat};

const HELP_GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/usage/help.txt");

fn host() -> Host {
    Host {
        node_name: None,
        host_name: "Node-A.example".to_owned(),
        cpus: 3,
        rust_log: None,
        in_cluster: false,
        variables: BTreeSet::new(),
    }
}

fn words(line: &str) -> Vec<String> {
    std::iter::once("mesh-daemon")
        .chain(line.split_whitespace())
        .map(str::to_owned)
        .collect()
}

fn settings(line: &str) -> Settings {
    match parse(words(line), &host()).unwrap().command {
        Command::Run(settings) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn wrong(line: &str, host: &Host) -> String {
    match parse(words(line), host) {
        Err(Stop::Wrong(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_default_is_to_run() {
    let defaults = settings("--manifests /m");
    assert_eq!(defaults, settings("run --manifests /m"));
    assert_eq!(
        defaults,
        Settings {
            node: crate::ids::NodeName("node-a.example".to_owned()),
            source: Source::Manifests("/m".into()),
            debounce_after: Duration::from_millis(10),
            debounce_max: Duration::from_millis(100),
            pod_cidrs: Vec::new(),
            workers: NonZeroU32::new(3).unwrap(),
            metrics_addr: "127.0.0.1:9490".parse().unwrap(),
            health_addr: "127.0.0.1:9491".parse().unwrap(),
            admin_socket: "/run/weft/admin.sock".into(),
            access_log: false,
            drain_timeout: Duration::from_secs(25),
            kernel: KernelSettings {
                pin_dir: "/sys/fs/bpf/weft".into(),
                attach: AttachMode::Auto,
                marks: mesh_common::settings::Settings::DEFAULT_MARKS,
                route_table: 100,
                rule_preference: 8,
            },
        }
    );
}

#[test]
fn every_flag_reaches_its_setting() {
    let all = settings(
        "--manifests /m --debounce-after 20ms --debounce-max 1s --node-name n1 --pod-cidr 10.1.0.0/16,fd00::/48 --pod-cidr 10.2.0.0/16 --workers 2 \
         --metrics-addr 0.0.0.0:1 --health-addr [::1]:2 --admin-socket /a --access-log --drain-timeout 2m --attach clsact --bpffs-dir /b \
         --mark-mask 0x700000 --mark-steer 0x100000 --mark-transparent 0x200000 --mark-own 0x300000 --route-table 7 \
         --rule-preference 32763",
    );
    let expected = Settings {
        node: crate::ids::NodeName("n1".to_owned()),
        source: Source::Manifests("/m".into()),
        debounce_after: Duration::from_millis(20),
        debounce_max: Duration::from_secs(1),
        pod_cidrs: ["10.1.0.0/16", "fd00::/48", "10.2.0.0/16"]
            .map(|cidr| cidr.parse().unwrap())
            .to_vec(),
        workers: NonZeroU32::new(2).unwrap(),
        metrics_addr: "0.0.0.0:1".parse().unwrap(),
        health_addr: "[::1]:2".parse().unwrap(),
        admin_socket: "/a".into(),
        access_log: true,
        drain_timeout: Duration::from_secs(120),
        kernel: KernelSettings {
            pin_dir: "/b".into(),
            attach: AttachMode::Clsact,
            marks: mesh_common::settings::Settings {
                mark_mask: 0x70_0000,
                mark_steer: 0x10_0000,
                mark_transparent: 0x20_0000,
                mark_own: 0x30_0000,
                workers: 0,
            },
            route_table: 7,
            rule_preference: 32763,
        },
    };
    assert_eq!(all, expected);
}

fn source(line: &str, host: &Host) -> Source {
    match parse(words(line), host).unwrap().command {
        Command::Run(settings) => settings.source,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn where_objects_come_from() {
    let pod = Host {
        in_cluster: true,
        ..host()
    };
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let cluster = |kubeconfig: Option<&str>, state_dir: &str, state_age_max| Source::Cluster {
        kubeconfig: kubeconfig.map(Into::into),
        state_dir: state_dir.into(),
        state_age_max,
    };
    for (line, host, expected) in [
        ("", &pod, cluster(None, "/var/lib/weft", hours(24))),
        ("run", &pod, cluster(None, "/var/lib/weft", hours(24))),
        ("--kubeconfig /k", &pod, cluster(Some("/k"), "/var/lib/weft", hours(24))),
        (
            "--kubeconfig k",
            &host(),
            cluster(Some("k"), "/var/lib/weft", hours(24)),
        ),
        ("--manifests /m", &pod, Source::Manifests("/m".into())),
        (
            "--state-dir /s --state-age-max 7d --kubeconfig /k",
            &host(),
            cluster(Some("/k"), "/s", hours(7 * 24)),
        ),
        ("--state-age-max 0s", &pod, cluster(None, "/var/lib/weft", hours(0))),
        ("--state-age-max 30d", &pod, cluster(None, "/var/lib/weft", hours(720))),
        // not used, and no reason to refuse
        ("--manifests /m --state-dir /s", &host(), Source::Manifests("/m".into())),
    ] {
        assert_eq!(source(line, host), expected, "{line}");
    }
}

#[test]
fn detach_takes_the_kernels_flags_only() {
    let Ok(Invocation {
        log,
        command: Command::Detach(kernel),
    }) = parse(
        words("detach --attach tcx --route-table 9 --log-level debug --log-format json"),
        &host(),
    )
    else {
        panic!("not detach");
    };
    assert_eq!((kernel.attach, kernel.route_table), (AttachMode::Tcx, 9));
    assert_eq!(
        (log.filter.to_string().as_str(), log.format),
        ("debug", LogFormat::Json)
    );
    assert!(wrong("detach --manifests /m", &host()).contains("--manifests"));
    assert!(wrong("detach --kubeconfig /k", &host()).contains("--kubeconfig"));
}

#[test]
fn where_the_node_name_and_the_log_level_come_from() {
    let variables = Host {
        node_name: Some("from-variable".into()),
        rust_log: Some("warn".into()),
        ..host()
    };
    let empty = Host {
        node_name: Some(String::new()),
        rust_log: Some(String::new()),
        ..host()
    };
    for (line, host, node, level) in [
        ("--manifests /m", &host(), "node-a.example", "info"),
        ("--manifests /m", &empty, "node-a.example", "info"),
        ("--manifests /m", &variables, "from-variable", "warn"),
        (
            "--manifests /m --node-name flag --log-level trace",
            &variables,
            "flag",
            "trace",
        ),
    ] {
        let invocation = parse(words(line), host).unwrap();
        let Command::Run(settings) = invocation.command else {
            panic!("{line}")
        };
        assert_eq!(
            (settings.node.0.as_str(), invocation.log.filter.to_string().as_str()),
            (node, level),
            "{line}"
        );
    }
}

#[test]
fn workers_default_to_the_cpus_within_the_bounds() {
    for (cpus, expected) in [(0, 1), (1, 1), (64, 64), (1000, 64)] {
        let Command::Run(settings) = parse(words("--manifests /m"), &Host { cpus, ..host() })
            .unwrap()
            .command
        else {
            panic!("not run");
        };
        assert_eq!(settings.workers.get(), expected, "{cpus}");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let long = format!("--manifests /m --admin-socket /{}", "x".repeat(107));
    let name = format!("--manifests /m --node-name {}", "a".repeat(64));
    for (line, parts) in [
        (
            "",
            &[
                "no source of Kubernetes objects",
                "--kubeconfig FILE",
                "--manifests DIR",
            ][..],
        ),
        (
            "--manifests /m --kubeconfig /k",
            &["--manifests /m and --kubeconfig /k", "leave one of them out"],
        ),
        ("--kubeconfig", &["--kubeconfig <FILE>"]),
        ("--kubeconfig /k --state-dir weft", &["--state-dir", "absolute"]),
        (
            "--kubeconfig /k --state-age-max 31d",
            &["'31d'", "--state-age-max", "up to 30d"],
        ),
        (
            "--kubeconfig /k --state-age-max 24",
            &["'24'", "--state-age-max", "24h"],
        ),
        (
            "--manifests /m --debounce-after 10",
            &["'10'", "--debounce-after", "ms"],
        ),
        ("--manifests /m --debounce-max x", &["'x'", "--debounce-max", "ms"]),
        (
            "--manifests /m --debounce-after 200ms",
            &["--debounce-max 100ms", "--debounce-after 200ms", "raise"],
        ),
        ("run", &["no source of Kubernetes objects"]),
        ("fly", &["fly", "--help"]),
        ("--manifest /m", &["--manifest'", "--manifests"]),
        ("--manifests", &["--manifests <DIR>"]),
        ("--manifests /m --node-name Node_A", &["\"Node_A\"", "--node-name"]),
        (
            "--manifests /m --node-name Node-A.x",
            &["\"Node-A.x\"", "upper-case", "use node-a.x"],
        ),
        ("--manifests /m --node-name a..b", &["\"a..b\"", "--node-name"]),
        ("--manifests /m --node-name a-", &["\"a-\""]),
        (&name, &["--node-name"]),
        (
            "--manifests /m --pod-cidr 10.0.0.1/8",
            &["10.0.0.1/8", "--pod-cidr", "use 10.0.0.0/8"],
        ),
        ("--manifests /m --workers 0", &["'0'", "--workers", "1 to 64"]),
        ("--manifests /m --workers 65", &["'65'", "--workers", "1 to 64"]),
        (
            "--manifests /m --metrics-addr localhost",
            &["localhost", "--metrics-addr", "IP address and a port"],
        ),
        (
            "--manifests /m --metrics-addr 127.0.0.1:9491",
            &["--metrics-addr 127.0.0.1:9491", "--health-addr", "change one"],
        ),
        (
            "--manifests /m --metrics-addr 0.0.0.0:9491",
            &["--metrics-addr", "--health-addr", "change one"],
        ),
        (&long, &["--admin-socket", "108 bytes", "107"]),
        (
            "--manifests /m --admin-socket admin.sock",
            &["--admin-socket", "absolute"],
        ),
        ("--manifests /m --drain-timeout 25", &["'25'", "--drain-timeout", "25s"]),
        (
            "--manifests /m --attach xdp",
            &["'xdp'", "--attach", "auto, tcx, clsact"],
        ),
        ("--manifests /m --bpffs-dir weft", &["--bpffs-dir", "absolute"]),
        (
            "--manifests /m --mark-steer 0x4000",
            &["--mark-steer 0x4000", "--mark-mask 0x3000"],
        ),
        ("--manifests /m --mark-own 0", &["--mark-own 0x0", "--mark-mask"]),
        (
            "--manifests /m --mark-own 0x1000",
            &["--mark-steer and --mark-own", "0x1000"],
        ),
        (
            "--manifests /m --mark-mask 0x7000",
            &["--mark-mask 0x7000", "kube-proxy"],
        ),
        ("--manifests /m --mark-mask ff", &["'ff'", "--mark-mask", "0x1000"]),
        ("--manifests /m --route-table 254", &["--route-table 254", "100"]),
        (
            "--manifests /m --route-table main",
            &["'main'", "--route-table", "whole number"],
        ),
        ("--manifests /m --route-table 0", &["--route-table 0"]),
        (
            "--manifests /m --rule-preference 0",
            &["--rule-preference 0", "1 to 32763"],
        ),
        (
            "--manifests /m --rule-preference 32764",
            &["--rule-preference 32764", "1 to 32763"],
        ),
        ("--manifests /m --log-level loud", &["'loud'", "--log-level", "debug"]),
        (
            "--manifests /m --log-format xml",
            &["'xml'", "--log-format", "text, json"],
        ),
        ("detach --route-table 255", &["--route-table 255"]),
    ] {
        let text = wrong(line, &host());
        assert!(!text.contains('\n'), "{line}: {text}");
        for part in parts {
            assert!(text.contains(part), "{line}: {text:?} lacks {part:?}");
        }
    }
    let bad_log = Host {
        rust_log: Some("loud".into()),
        ..host()
    };
    assert!(wrong("--manifests /m", &bad_log).contains("RUST_LOG"));
}

#[test]
fn a_value_of_a_variable_names_the_variable() {
    let variables = ["WEFT_WORKERS", "WEFT_METRICS_ADDR", "WEFT_OTHER"];
    let variables = variables.map(str::to_owned).into_iter().collect();
    for (flag, value, line, named) in [
        ("--workers <N>", "x", "", Some("WEFT_WORKERS")),
        ("--metrics-addr <IP:PORT>", "x", "run", Some("WEFT_METRICS_ADDR")),
        ("--workers <N>", "x", "--workers x", None),
        ("--workers <N>", "x", "--workers=x", None),
        ("--health-addr <IP:PORT>", "x", "", None),
    ] {
        // clap reads the process's variables itself, which tests must not set: the error is made by hand
        let mut error = clap::Error::new(ErrorKind::ValueValidation);
        error.insert(ContextKind::InvalidArg, ContextValue::String(flag.to_owned()));
        error.insert(ContextKind::InvalidValue, ContextValue::String(value.to_owned()));
        let words: Vec<OsString> = words(line).into_iter().map(Into::into).collect();
        let Stop::Wrong(text) = stop(&error, &words, &variables) else {
            panic!("{flag} {line}: help");
        };
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(
            text.contains("comes from the variable"),
            named.is_some(),
            "{flag} {line}: {text}"
        );
        assert!(named.is_none_or(|named| text.contains(named)), "{flag} {line}: {text}");
    }
}

#[test]
fn manifests_are_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.yaml");
    std::fs::write(&file, "").unwrap();
    for (path, good) in [
        (dir.path().to_owned(), true),
        (dir.path().join("absent"), true),
        (file, false),
    ] {
        let found = places(&Command::Run(Box::new(Settings {
            source: Source::Manifests(path.clone()),
            ..settings("--manifests /m")
        })));
        assert_eq!(found.is_ok(), good, "{}: {found:?}", path.display());
        if let Err(error) = found {
            let text = error.to_string();
            assert!(
                text.contains("is a file") && text.ends_with(&dir.path().display().to_string()),
                "{text}"
            );
        }
    }
}

#[test]
fn a_kubeconfig_is_a_file_and_the_state_has_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubeconfig");
    std::fs::write(&file, "").unwrap();
    let absent = dir.path().join("absent");
    let directory = dir.path().to_owned();
    for (kubeconfig, state_dir, part) in [
        (None, &directory, None),
        (None, &absent, None),
        (Some(&file), &directory, None),
        (Some(&absent), &directory, Some("absent: No such file")),
        (
            Some(&directory),
            &directory,
            Some("is a directory: name the file in it"),
        ),
        (Some(&file), &file, Some("kubeconfig is a file: name a directory")),
    ] {
        let found = places(&Command::Run(Box::new(Settings {
            source: Source::Cluster {
                kubeconfig: kubeconfig.cloned(),
                state_dir: state_dir.clone(),
                state_age_max: Duration::ZERO,
            },
            ..settings("--manifests /m")
        })));
        let text = found.err().map(|error| error.to_string());
        assert_eq!(text.is_some(), part.is_some(), "{kubeconfig:?} {state_dir:?}: {text:?}");
        assert!(
            part.is_none_or(|part| text.as_ref().is_some_and(|text| text.contains(part))),
            "{text:?}"
        );
    }
}
