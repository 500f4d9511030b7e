//! v1 Pod: who it is, where it runs, which addresses it has.

use std::net::IpAddr;

use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::Value;

use super::{
    convert::{self, Reason, Refused},
    objects::Object,
};
use crate::{
    ids::NodeName,
    model::{Pod, PodPhase, WEIGHT_DEFAULT},
};

/// The annotation that says how much of its Service's traffic a pod takes, beside the others, where the balancer weighs.
const WEIGHT_ANNOTATION: &str = "weft.mesh/weight";
/// Weights that it may have: three orders of magnitude hold every canary, and the sums of thousands of pods are small numbers.
const WEIGHTS: std::ops::RangeInclusive<u16> = 1..=1000;
/// The label that a Deployment gives to the pods of each of its ReplicaSets; the ReplicaSet's name ends in it.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

pub(super) fn convert(value: Value, parts: &mut Vec<Refused>) -> Result<Object, Refused> {
    let pod: v1::Pod = convert::typed(value)?;
    let name = convert::object_ref(&pod.metadata)?;
    let spec = pod.spec.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let ips = addresses(&status, parts);
    let converted = Pod {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        capture_label: convert::capture_label(&pod.metadata),
        workload: workload(&pod.metadata, &name.name),
        node: spec.node_name.filter(|node| !node.is_empty()).map(NodeName),
        service_account: spec.service_account_name,
        weight: weight(&pod.metadata, parts),
        host_network: spec.host_network.unwrap_or(false),
        phase: match status.phase.as_deref() {
            Some("Succeeded" | "Failed") => PodPhase::Finished,
            _ => PodPhase::Active,
        },
        ips,
        start_time: status.start_time.map(|time| time.0.as_second()),
    };
    Ok(Object::Pod(name, converted))
}

/// A weight that is none leaves the pod its place.
fn weight(meta: &ObjectMeta, parts: &mut Vec<Refused>) -> u16 {
    let Some(text) = convert::label(meta.annotations.as_ref(), WEIGHT_ANNOTATION) else {
        return WEIGHT_DEFAULT;
    };
    let read = text.parse().ok().filter(|weight| WEIGHTS.contains(weight));
    read.unwrap_or_else(|| {
        let (from, to) = (WEIGHTS.start(), WEIGHTS.end());
        let detail = format!("`metadata.annotations[{WEIGHT_ANNOTATION}]`: {text:?} is no number from {from} to {to}; {WEIGHT_DEFAULT} is used");
        parts.push(Refused::new(Reason::InvalidWeight, detail));
        WEIGHT_DEFAULT
    })
}

fn addresses(status: &v1::PodStatus, parts: &mut Vec<Refused>) -> Vec<IpAddr> {
    let listed: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    let texts = if listed.is_empty() {
        status.pod_ip.iter().map(String::as_str).collect()
    } else {
        listed
    };
    let mut ips = Vec::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        match convert::address(text, "status.podIPs") {
            Ok(ip) if ips.contains(&ip) => {}
            Ok(ip) => ips.push(ip),
            Err(refused) => parts.push(refused),
        }
    }
    ips
}

/// The controlling owner's name; for a ReplicaSet of a Deployment, the Deployment's.
fn workload(meta: &ObjectMeta, pod: &str) -> String {
    let mut owners = meta.owner_references.iter().flatten();
    let Some(owner) = owners.find(|owner| owner.controller == Some(true)) else {
        return pod.to_owned();
    };
    // the name becomes a metric label: one that Kubernetes would refuse is not trusted
    let Ok(name) = convert::checked_name(&owner.name, "metadata.ownerReferences") else {
        return pod.to_owned();
    };
    if owner.kind != "ReplicaSet" {
        return name;
    }
    let hash = convert::label(meta.labels.as_ref(), TEMPLATE_HASH_LABEL);
    let deployment = hash
        .filter(|hash| !hash.is_empty())
        .and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-').map(str::to_owned));
    deployment.filter(|name| !name.is_empty()).unwrap_or(name)
}
