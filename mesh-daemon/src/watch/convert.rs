//! What every kind's conversion needs: names, addresses and ports that are checked, and the words for what is refused.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ids::ObjectRef, model::AppProtocol};

/// The label that asks for capture, of Namespaces and Pods.
const CAPTURE_LABEL: &str = "weft.mesh/capture";
/// What kubectl assumes where a manifest names no namespace.
pub(super) const DEFAULT_NAMESPACE: &str = "default";
/// Longest name of an object, in bytes (RFC 1123 subdomain, as Kubernetes checks it).
const NAME_BYTES_MAX: usize = 253;
/// Longest text of a duration, in pieces of a number and a unit (GEP-2257).
const DURATION_PIECES_MAX: usize = 4;
/// Most digits of such a number.
const DURATION_DIGITS_MAX: usize = 5;

/// Why something is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The file is not YAML or JSON (yet).
    Unparsable,
    /// The file cannot be read.
    Unreadable,
    /// The file is larger than the bound.
    TooLarge,
    /// More files than the bound.
    TooManyFiles,
    /// The file became empty: somebody is writing it, most likely.
    Empty,
    /// The whole directory is away.
    DirectoryGone,
    /// Not a Kubernetes object: no mapping, or no `kind`.
    NotAnObject,
    /// Fields of another type than Kubernetes gives them, or missing ones.
    Malformed,
    /// No name, or one that Kubernetes does not allow.
    InvalidName,
    /// An address that is none, or that no pod or Service can have.
    InvalidAddress,
    /// A port outside 1 to 65535.
    InvalidPort,
    /// A range that is none.
    InvalidCidr,
    /// An EndpointSlice of DNS names.
    UnsupportedAddressType,
    /// The same object stands in an earlier place.
    Duplicate,
    /// Asks for something that only kube-proxy keeps so far.
    LeftToKubeProxy,
    /// A TrafficPolicy whose spec does not hold.
    InvalidPolicy,
    /// A weight that is none.
    InvalidWeight,
    /// A parent of a route that can only be meant for us, and is written so that it names nothing.
    InvalidParent,
}

/// Something refused, before it is known of which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl Refused {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// A manifest's value as Kubernetes' own type.
pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Refused> {
    serde_json::from_value(value).map_err(|error| Refused::new(Reason::Malformed, error.to_string()))
}

/// Takes a list out of a manifest, so that one bad item does not lose the others.
pub(super) fn take_list(value: &mut Value, path: &[&str]) -> Result<Vec<Value>, Refused> {
    let Some((last, parents)) = path.split_last() else {
        return Ok(Vec::new());
    };
    let parent = parents.iter().try_fold(value, |value, key| value.get_mut(*key));
    match parent.and_then(Value::as_object_mut).and_then(|map| map.remove(*last)) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(Refused::new(
            Reason::Malformed,
            format!("`{}` is not a list", path.join(".")),
        )),
    }
}

/// The object's checked name, for kinds without a namespace.
pub(super) fn name(meta: &ObjectMeta) -> Result<String, Refused> {
    checked_name(meta.name.as_deref().unwrap_or_default(), "metadata.name")
}

/// The object's checked namespace and name.
pub(super) fn object_ref(meta: &ObjectMeta) -> Result<ObjectRef, Refused> {
    let namespace = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let namespace = checked_name(namespace.unwrap_or(DEFAULT_NAMESPACE), "metadata.namespace")?;
    Ok(ObjectRef::new(namespace, name(meta)?))
}

/// The name under which a manifest is reported, also where it does not convert.
pub(super) fn reported_name(value: &Value, namespaced: bool) -> String {
    let field = |key| value.pointer(key).and_then(Value::as_str);
    let name: String = field("/metadata/name")
        .unwrap_or("(no name)")
        .chars()
        .take(NAME_BYTES_MAX)
        .collect();
    if !namespaced {
        return name;
    }
    let namespace: String = field("/metadata/namespace")
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(DEFAULT_NAMESPACE)
        .chars()
        .take(NAME_BYTES_MAX)
        .collect();
    format!("{namespace}/{name}")
}

/// What the capture label says, if it is there.
pub(super) fn capture_label(meta: &ObjectMeta) -> Option<String> {
    label(meta.labels.as_ref(), CAPTURE_LABEL)
}

/// A label's value.
pub(super) fn label(labels: Option<&BTreeMap<String, String>>, key: &str) -> Option<String> {
    labels.and_then(|labels| labels.get(key)).cloned()
}

/// A name as Kubernetes allows it (RFC 1123 subdomain): it goes into logs and metric labels.
pub(super) fn checked_name(name: &str, field: &str) -> Result<String, Refused> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    if name.is_empty() {
        return Err(Refused::new(Reason::InvalidName, format!("`{field}` is missing")));
    }
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(Refused::new(
            Reason::InvalidName,
            format!("`{field}` is not a name of at most {NAME_BYTES_MAX} lower-case letters, digits, `-` and `.`"),
        ));
    }
    Ok(name.to_owned())
}

/// An address that a pod or a Service can have.
pub(super) fn address(text: &str, field: &str) -> Result<IpAddr, Refused> {
    let refused = |why| Refused::new(Reason::InvalidAddress, format!("`{field}`: {text:?} {why}"));
    let address: IpAddr = text.parse().map_err(|_| refused("is not an IP address"))?;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    if link_local || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(refused("is not an address that can be reached from other pods"));
    }
    Ok(address)
}

/// A port, 1 to 65535.
pub(super) fn port(number: i32, field: &str) -> Result<u16, Refused> {
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| {
        Refused::new(
            Reason::InvalidPort,
            format!("`{field}`: {number} is not a port from 1 to 65535"),
        )
    })
}

/// Whether a port's `protocol` is TCP, which is the default.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

/// A duration as the Gateway API writes it (GEP-2257): `1h30m`, `10s`, `250ms`; what is wrong, after the field's name, if it is none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is no duration such as 250ms, 10s or 1h30m");
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..DURATION_PIECES_MAX {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let units = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(units);
        let number: u64 = number.parse().map_err(|_| refused())?;
        let piece = match unit {
            _ if digits > DURATION_DIGITS_MAX => return Err(refused()),
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return Err(refused()),
        };
        total += piece;
        rest = after;
        if rest.is_empty() {
            return Ok(total);
        }
    }
    Err(refused())
}

/// What an `appProtocol` says. Unknown names are looked at like none: Kubernetes leaves them to implementations.
pub(super) fn app_protocol(name: Option<&str>) -> AppProtocol {
    match name.unwrap_or_default().to_ascii_lowercase().as_str() {
        "http" | "kubernetes.io/ws" => AppProtocol::Http,
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => AppProtocol::Http2,
        "tcp" | "tls" | "ssl" | "https" | "kubernetes.io/wss" | "grpcs" | "mysql" | "postgres" | "postgresql"
        | "redis" | "mongo" | "mongodb" | "amqp" | "kafka" | "ldap" | "smtp" | "ssh" | "ftp" => AppProtocol::Opaque,
        _ => AppProtocol::Detect,
    }
}

impl Reason {
    /// The metric label, in snake case.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unparsable => "unparsable",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
            Self::TooManyFiles => "too_many_files",
            Self::Empty => "empty",
            Self::DirectoryGone => "directory_gone",
            Self::NotAnObject => "not_an_object",
            Self::Malformed => "malformed",
            Self::InvalidName => "invalid_name",
            Self::InvalidAddress => "invalid_address",
            Self::InvalidPort => "invalid_port",
            Self::InvalidCidr => "invalid_cidr",
            Self::UnsupportedAddressType => "unsupported_address_type",
            Self::Duplicate => "duplicate",
            Self::LeftToKubeProxy => "left_to_kube_proxy",
            Self::InvalidPolicy => "invalid_policy",
            Self::InvalidWeight => "invalid_weight",
            Self::InvalidParent => "invalid_parent",
        }
    }
}
