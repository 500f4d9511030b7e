//! The manifests of `deploy/daemonset`, read as `kubectl apply -k` reads them: complete, known to Kubernetes, with no right too many, and
//! in step with the daemon's own flags and version.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test, helpers included")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Container, Namespace, PodSpec, Probe, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::util::intstr::IntOrString,
    serde::{Serialize, de::DeserializeOwned},
};
use mesh_daemon::config;
use serde::Deserialize;
use serde_json::Value;

/// Group, resource, verb: all that the daemon may do.
const RIGHTS: [(&str, &str, &str); 25] = [
    ("", "namespaces", "get"),
    ("", "namespaces", "list"),
    ("", "namespaces", "watch"),
    ("", "nodes", "get"),
    ("", "nodes", "list"),
    ("", "nodes", "watch"),
    ("", "pods", "get"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("", "pods/status", "patch"),
    ("", "services", "get"),
    ("", "services", "list"),
    ("", "services", "watch"),
    ("discovery.k8s.io", "endpointslices", "get"),
    ("discovery.k8s.io", "endpointslices", "list"),
    ("discovery.k8s.io", "endpointslices", "watch"),
    ("events.k8s.io", "events", "create"),
    ("gateway.networking.k8s.io", "httproutes", "get"),
    ("gateway.networking.k8s.io", "httproutes", "list"),
    ("gateway.networking.k8s.io", "httproutes", "watch"),
    ("gateway.networking.k8s.io", "httproutes/status", "patch"),
    ("weft.mesh", "trafficpolicies", "get"),
    ("weft.mesh", "trafficpolicies", "list"),
    ("weft.mesh", "trafficpolicies", "watch"),
    ("weft.mesh", "trafficpolicies/status", "patch"),
];
/// The same in its own namespace, for one lease; only making one cannot be a right to a name.
const RIGHTS_AT_HOME: [(&str, &str, &str); 3] = [
    ("coordination.k8s.io", "leases", "create"),
    ("coordination.k8s.io", "leases weft-status", "get"),
    ("coordination.k8s.io", "leases weft-status", "update"),
];
const NAMESPACE: &str = "weft-system";
const ACCOUNT: &str = "mesh-daemon";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/daemonset")
}

/// Every object that the kustomization lists, in order.
fn objects() -> Vec<Value> {
    let kustomization: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(directory().join("kustomization.yaml")).unwrap()).unwrap();
    let listed: Vec<String> = serde_json::from_value(kustomization["resources"].clone()).unwrap();
    let files = listed
        .iter()
        .map(|file| fs::read_to_string(directory().join(file)).unwrap());
    files
        .flat_map(|text| {
            let documents = serde_yaml_ng::Deserializer::from_str(&text);
            documents
                .map(|document| Value::deserialize(document).unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The only object of a kind, as Kubernetes' own type; a field that the type does not know is a failure.
fn only<T: DeserializeOwned + Serialize>(kind: &str) -> T {
    let found: Vec<Value> = objects().into_iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "objects of the kind {kind}");
    let typed: T = serde_json::from_value(found[0].clone()).unwrap();
    let mut back = serde_json::to_value(&typed).unwrap();
    // fields that the type always writes, empty as they are
    strip_empty(&mut back);
    let mut given = found[0].clone();
    strip_empty(&mut given);
    assert_eq!(back, given, "a field of {kind} is not Kubernetes'");
    typed
}

fn strip_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(strip_empty);
            fields.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty()));
        }
        Value::Array(values) => values.iter_mut().for_each(strip_empty),
        _ => {}
    }
}

fn pod() -> PodSpec {
    only::<DaemonSet>("DaemonSet").spec.unwrap().template.spec.unwrap()
}

fn container() -> Container {
    let mut containers = pod().containers;
    assert_eq!(containers.len(), 1);
    containers.remove(0)
}

#[test]
fn the_kustomization_lists_every_file_and_nothing_else_is_applied() {
    let kustomization = fs::read_to_string(directory().join("kustomization.yaml")).unwrap();
    for entry in fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let listed = kustomization.lines().any(|line| line.trim() == format!("- {name}"));
        assert_eq!(listed, name != "kustomization.yaml", "{name}");
    }
    let kinds: Vec<_> = objects()
        .iter()
        .map(|object| object["kind"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "Namespace",
        "CustomResourceDefinition",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "DaemonSet",
    ];
    assert_eq!(kinds, expected);
}

/// Group, resource with its name if the right is to one, verb.
fn rights(rules: Option<Vec<PolicyRule>>) -> BTreeSet<(String, String, String)> {
    let mut rights = BTreeSet::new();
    for rule in rules.unwrap() {
        assert!(rule.non_resource_urls.is_none());
        let names = rule.resource_names.unwrap_or_default();
        for group in rule.api_groups.as_ref().unwrap() {
            for resource in rule.resources.as_ref().unwrap() {
                for verb in &rule.verbs {
                    let named = names.iter().map(|name| format!("{resource} {name}"));
                    let resources = if names.is_empty() {
                        vec![resource.clone()]
                    } else {
                        named.collect()
                    };
                    rights.extend(
                        resources
                            .into_iter()
                            .map(|resource| (group.clone(), resource, verb.clone())),
                    );
                }
            }
        }
    }
    let text = format!("{rights:?}");
    assert!(!text.contains('*') && !text.contains("secrets"), "{text}");
    rights
}

#[test]
fn the_rights_are_those_of_the_tables() {
    let words = |(group, resource, verb): (&str, &str, &str)| (group.to_owned(), resource.to_owned(), verb.to_owned());
    assert_eq!(
        rights(only::<ClusterRole>("ClusterRole").rules),
        RIGHTS.map(words).into()
    );
    let role: Role = only("Role");
    assert_eq!(role.metadata.namespace.as_deref(), Some(NAMESPACE));
    assert_eq!(rights(role.rules), RIGHTS_AT_HOME.map(words).into());
}

/// Checks that a binding gives that role to the account and to nobody else.
fn is_the_accounts(role: &RoleRef, subjects: Option<Vec<Subject>>, kind: &str, name: Option<&String>) {
    assert_eq!((role.kind.as_str(), Some(&role.name)), (kind, name));
    let subjects = subjects.unwrap();
    assert_eq!(subjects.len(), 1);
    assert_eq!(
        (subjects[0].kind.as_str(), subjects[0].name.as_str()),
        ("ServiceAccount", ACCOUNT)
    );
    assert_eq!(subjects[0].namespace.as_deref(), Some(NAMESPACE));
}

#[test]
fn the_rights_are_the_accounts_and_the_account_is_the_pods() {
    let binding: ClusterRoleBinding = only("ClusterRoleBinding");
    let role = only::<ClusterRole>("ClusterRole").metadata.name;
    is_the_accounts(&binding.role_ref, binding.subjects, "ClusterRole", role.as_ref());
    let binding: RoleBinding = only("RoleBinding");
    let role = only::<Role>("Role").metadata.name;
    is_the_accounts(&binding.role_ref, binding.subjects, "Role", role.as_ref());
    assert_eq!(binding.metadata.namespace.as_deref(), Some(NAMESPACE));
    let account: ServiceAccount = only("ServiceAccount");
    assert_eq!(account.metadata.name.as_deref(), Some(ACCOUNT));
    let namespace: Namespace = only("Namespace");
    assert_eq!(namespace.metadata.name.as_deref(), Some(NAMESPACE));
    for metadata in [account.metadata, only::<DaemonSet>("DaemonSet").metadata] {
        assert_eq!(metadata.namespace.as_deref(), Some(NAMESPACE));
    }
    assert_eq!(pod().service_account_name.as_deref(), Some(ACCOUNT));
}

#[test]
fn the_image_is_the_one_that_is_made_of_this_version() {
    let expected = format!("weft.mesh/mesh-daemon:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container().image, Some(expected));
    // a node that has it asks no registry
    assert_eq!(container().image_pull_policy.as_deref(), Some("IfNotPresent"));
}

#[test]
fn probes_ask_where_the_daemon_answers() {
    let container = container();
    let default = default_of("health_addr");
    let (host, port) = default.rsplit_once(':').unwrap();
    let ask = |probe: Option<Probe>| {
        let get = probe.unwrap().http_get.unwrap();
        assert_eq!(get.host.as_deref(), Some(host));
        assert_eq!(get.port, IntOrString::Int(port.parse().unwrap()));
        get.path.unwrap()
    };
    assert_eq!(ask(container.startup_probe), "/healthz");
    assert_eq!(ask(container.liveness_probe), "/healthz");
    assert_eq!(ask(container.readiness_probe), "/readyz");
}

#[test]
fn every_flag_and_variable_is_one_that_the_daemon_reads() {
    let container = container();
    let mut command = config::definition();
    let (flags, variables): (BTreeSet<_>, BTreeSet<_>) = command
        .get_arguments()
        .map(|argument| {
            let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            (argument.get_long().map(|name| format!("--{name}")), variable)
        })
        .unzip();
    for argument in container.args.unwrap_or_default() {
        let name = argument.split('=').next().unwrap().to_owned();
        assert!(flags.contains(&Some(name)), "{argument}: the daemon has no such flag");
    }
    let manual = command.render_long_help().to_string();
    for variable in container.env.unwrap() {
        let name = variable.name;
        let known = variables.contains(&Some(name.clone())) || manual.contains(&format!("${name}"));
        assert!(known, "{name}: the daemon reads no such variable");
    }
    assert_eq!(container.command, None, "the image's own entrypoint");
}

#[test]
fn the_daemon_has_the_nodes_network_and_time_to_drain() {
    let pod = pod();
    assert_eq!(pod.host_network, Some(true));
    assert_eq!(pod.dns_policy.as_deref(), Some("Default"));
    assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"));
    let tolerations = pod.tolerations.unwrap();
    assert!(tolerations[0].key.is_none() && tolerations[0].effect.is_none());
    assert_eq!(tolerations[0].operator.as_deref(), Some("Exists"));
    let drain = default_of("drain_timeout");
    let drain: i64 = drain.trim_end_matches('s').parse().unwrap();
    assert!(pod.termination_grace_period_seconds.unwrap() > drain);
}

#[test]
fn what_the_daemon_writes_is_writable_and_outlives_it() {
    let volumes = pod().volumes.unwrap().into_iter();
    let paths: BTreeMap<_, _> = volumes
        .map(|volume| (volume.name, volume.host_path.unwrap().path))
        .collect();
    let mounts = container().volume_mounts.unwrap();
    for mount in &mounts {
        let on_node = paths.get(&mount.name);
        assert_eq!(on_node, Some(&mount.mount_path), "the same path inside as on the node");
    }
    assert_eq!(mounts.len(), paths.len(), "volumes without a mount: {paths:?}");
    // the root file system is read-only
    let is_kept = |path: &str| {
        let mut writable = mounts.iter().filter(|mount| mount.read_only != Some(true));
        writable.any(|mount| Path::new(path).starts_with(&mount.mount_path))
    };
    for argument in ["bpffs_dir", "admin_socket", "state_dir"] {
        let path = default_of(argument);
        assert!(
            is_kept(&path),
            "{argument}: {path} is under no writable mount of {paths:?}"
        );
    }
}

#[test]
fn the_container_can_do_what_is_needed_and_no_more() {
    let security = container().security_context.unwrap();
    let capabilities = security.capabilities.unwrap();
    assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
    assert_eq!(capabilities.add.unwrap(), ["NET_ADMIN", "BPF", "PERFMON"]);
    assert_eq!(security.privileged, None);
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(security.run_as_user, Some(0));
    assert!(container().resources.unwrap().requests.unwrap().contains_key("memory"));
}

/// The default value of a flag, by its name in the source.
fn default_of(argument: &str) -> String {
    let command = config::definition();
    let argument = command
        .get_arguments()
        .find(|known| known.get_id() == argument)
        .unwrap();
    argument.get_default_values()[0].to_string_lossy().into_owned()
}
