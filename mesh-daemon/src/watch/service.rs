//! v1 Service: cluster addresses and TCP ports.

use k8s_openapi::{api::core::v1, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::Value;

use super::{
    convert::{self, Reason, Refused},
    objects::Object,
};
use crate::model::{Service, ServiceKind, ServicePort, TargetPort};

/// In the place of an address of a Service that has none (Kubernetes: headless Services).
const HEADLESS: &str = "None";

pub(super) fn convert(mut value: Value, parts: &mut Vec<Refused>) -> Result<Object, Refused> {
    let ports = convert::take_list(&mut value, &["spec", "ports"])?;
    let service: v1::Service = convert::typed(value)?;
    let name = convert::object_ref(&service.metadata)?;
    let Some(spec) = service.spec else {
        // what is cut off here may be anything: not the same as a Service without addresses
        return Err(Refused::new(Reason::Malformed, "`spec` is missing"));
    };
    let mut converted = Service {
        kind: kind(&spec),
        ..Service::default()
    };
    for text in addresses(&spec) {
        match convert::address(&text, "spec.clusterIPs") {
            Ok(ip) => converted.cluster_ips.push(ip),
            Err(refused) => parts.push(refused),
        }
    }
    if let Some(detail) = left_to_kube_proxy(&spec) {
        converted.cluster_ips.clear();
        parts.push(Refused::new(Reason::LeftToKubeProxy, detail));
    }
    for port in ports {
        match convert_port(port, parts) {
            Ok(Some(port)) if converted.ports.iter().any(|known| known.port == port.port) => parts.push(Refused::new(
                Reason::Duplicate,
                format!("`spec.ports`: port {} stands there twice; the first is used", port.port),
            )),
            Ok(port) => converted.ports.extend(port),
            Err(refused) => parts.push(refused),
        }
    }
    Ok(Object::Service(name, converted))
}

/// What routes may do with it.
fn kind(spec: &v1::ServiceSpec) -> ServiceKind {
    let is_headless = spec.cluster_ip.as_deref() == Some(HEADLESS)
        || spec.cluster_ips.iter().flatten().any(|address| address == HEADLESS);
    if spec.type_.as_deref() == Some("ExternalName") {
        ServiceKind::ExternalName
    } else if is_headless {
        ServiceKind::Headless
    } else if left_to_kube_proxy(spec).is_some() {
        ServiceKind::LeftToKubeProxy
    } else {
        ServiceKind::ClusterIp
    }
}

/// What only kube-proxy knows how to keep: capturing such a Service would change what it does.
fn left_to_kube_proxy(spec: &v1::ServiceSpec) -> Option<&'static str> {
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        Some(
            "`sessionAffinity: ClientIP` is not supported yet: its connections are not captured, kube-proxy serves them",
        )
    } else if spec.internal_traffic_policy.as_deref() == Some("Local") {
        Some(
            "`internalTrafficPolicy: Local` is not supported yet: its connections are not captured, kube-proxy serves them",
        )
    } else {
        None
    }
}

fn addresses(spec: &v1::ServiceSpec) -> Vec<String> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let listed = spec.cluster_ips.clone().unwrap_or_default();
    let texts = if listed.is_empty() {
        spec.cluster_ip.iter().cloned().collect()
    } else {
        listed
    };
    texts
        .into_iter()
        .filter(|text| !text.is_empty() && text != HEADLESS)
        .collect()
}

/// None for a port that is not TCP.
fn convert_port(value: Value, parts: &mut Vec<Refused>) -> Result<Option<ServicePort>, Refused> {
    let port: v1::ServicePort =
        convert::typed(value).map_err(|refused| Refused::new(Reason::InvalidPort, refused.detail))?;
    if !convert::is_tcp(port.protocol.as_deref()) {
        return Ok(None);
    }
    let target = match port.target_port {
        None => None,
        Some(IntOrString::String(name)) => Some(TargetPort::Name(name)),
        Some(IntOrString::Int(number)) => match convert::port(number, "spec.ports.targetPort") {
            Ok(number) => Some(TargetPort::Number(number)),
            // slices say where connections go: the port serves on without it
            Err(refused) => {
                parts.push(refused);
                None
            }
        },
    };
    Ok(Some(ServicePort {
        name: port.name.unwrap_or_default(),
        port: convert::port(port.port, "spec.ports.port")?,
        target,
        app_protocol: convert::app_protocol(port.app_protocol.as_deref()),
    }))
}
