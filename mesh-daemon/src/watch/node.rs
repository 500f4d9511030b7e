//! v1 Node: the ranges of its pods.

use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::{
    convert::{self, Reason, Refused},
    objects::Object,
};
use crate::model::Node;

pub(super) fn convert(value: Value, parts: &mut Vec<Refused>) -> Result<Object, Refused> {
    let node: v1::Node = convert::typed(value)?;
    let name = convert::name(&node.metadata)?;
    let spec = node.spec.unwrap_or_default();
    let ranges = match spec.pod_cidrs {
        Some(ranges) if !ranges.is_empty() => ranges,
        _ => spec.pod_cidr.filter(|range| !range.is_empty()).into_iter().collect(),
    };
    let mut pod_cidrs = Vec::new();
    for range in ranges {
        match range.parse::<IpNet>() {
            Ok(range) if range.prefix_len() > 0 => pod_cidrs.push(range.trunc()),
            // a range of everything would make every address a pod's
            _ => parts.push(Refused::new(
                Reason::InvalidCidr,
                format!("`spec.podCIDRs`: {range:?} is not a range of addresses as in 10.244.1.0/24"),
            )),
        }
    }
    Ok(Object::Node(name, Node { pod_cidrs }))
}
