//! discovery.k8s.io/v1 EndpointSlice: where a Service's connections may go.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1;
use serde_json::Value;

use super::{
    convert::{self, Reason, Refused},
    objects::Object,
};
use crate::model::{Endpoint, EndpointSlice, SlicePort};

/// The label that names the Service, in the slice's own namespace.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

pub(super) fn convert(mut value: Value, parts: &mut Vec<Refused>) -> Result<Option<Object>, Refused> {
    let ports = convert::take_list(&mut value, &["ports"])?;
    let endpoints = convert::take_list(&mut value, &["endpoints"])?;
    let slice: v1::EndpointSlice = convert::typed(value)?;
    let name = convert::object_ref(&slice.metadata)?;
    // a slice without the label belongs to no Service (Kubernetes: EndpointSlices, "Ownership"): nothing is wrong with it
    let Some(service) = convert::label(slice.metadata.labels.as_ref(), SERVICE_LABEL).filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let service = convert::checked_name(&service, "metadata.labels[kubernetes.io/service-name]")?;
    let family = family(&slice.address_type)?;
    let mut converted = EndpointSlice {
        service,
        ports: Vec::new(),
        endpoints: Vec::new(),
    };
    for port in ports {
        match convert_port(port) {
            Ok(port) => converted.ports.extend(port),
            Err(refused) => parts.push(refused),
        }
    }
    for endpoint in endpoints {
        match convert_endpoint(endpoint, family) {
            Ok(endpoint) => converted.endpoints.push(endpoint),
            Err(refused) => parts.push(refused),
        }
    }
    Ok(Some(Object::EndpointSlice(name, converted)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

fn family(address_type: &str) -> Result<Family, Refused> {
    match address_type {
        "IPv4" => Ok(Family::V4),
        "IPv6" => Ok(Family::V6),
        "" => Err(Refused::new(Reason::Malformed, "`addressType` is missing")),
        other => Err(Refused::new(
            Reason::UnsupportedAddressType,
            format!("`addressType`: {other:?} is neither IPv4 nor IPv6"),
        )),
    }
}

/// None for a port that is not TCP.
fn convert_port(value: Value) -> Result<Option<SlicePort>, Refused> {
    let port: v1::EndpointPort =
        convert::typed(value).map_err(|refused| Refused::new(Reason::InvalidPort, refused.detail))?;
    if !convert::is_tcp(port.protocol.as_deref()) {
        return Ok(None);
    }
    let Some(number) = port.port else {
        return Err(Refused::new(
            Reason::InvalidPort,
            "`ports.port` is missing: any port is not supported",
        ));
    };
    Ok(Some(SlicePort {
        name: port.name.unwrap_or_default(),
        port: convert::port(number, "ports.port")?,
        app_protocol: convert::app_protocol(port.app_protocol.as_deref()),
    }))
}

fn convert_endpoint(value: Value, family: Family) -> Result<Endpoint, Refused> {
    let endpoint: v1::Endpoint = convert::typed(value)?;
    let Some(text) = endpoint.addresses.first() else {
        return Err(Refused::new(
            Reason::InvalidAddress,
            "`endpoints.addresses` has no address",
        ));
    };
    let address = convert::address(text, "endpoints.addresses")?;
    let found = match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    if found != family {
        return Err(Refused::new(
            Reason::InvalidAddress,
            format!("`endpoints.addresses`: {address} is not of the slice's `addressType`"),
        ));
    }
    let conditions = endpoint.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    Ok(Endpoint {
        address,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
    })
}
