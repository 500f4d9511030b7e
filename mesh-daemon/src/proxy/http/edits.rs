//! What a route's filters change in heads (`HTTPHeaderFilter`, `HTTPURLRewriteFilter` of the Gateway API), without breaking HTTP between the hops.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::path::{self, Unfit};
use crate::model::{HeaderEdits, PathChange, Rewrite};

/// Headers that no filter touches. `Content-Length` and `Transfer-Encoding` say where the message ends: a wrong one lets the next hop read the
/// body as another request. The others belong to one hop, and hyper and `headers.rs` write them for it (RFC 9110, 7.6.1).
const OF_THE_HOP: [HeaderName; 8] = [
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    CONNECTION,
    TE,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Makes the changes of a request, before [`rewrite`]: `Host` in `set` is the request's new host, as in Istio, in whatever form the request's
/// version has it; adding a second one or removing it would make the request invalid (RFC 9112, 3.2) and is ignored, as in Envoy.
///
/// # Errors
/// If the `Host` that is set is none.
pub(super) fn request(edits: &HeaderEdits, parts: &mut request::Parts) -> Result<(), Unfit> {
    apply_headers(edits, &mut parts.headers);
    let host = edits.set.iter().rfind(|(name, _)| *name == HOST);
    host.map_or(Ok(()), |(_, host)| set_host(host, parts))
}

/// Makes the changes of a head: set, then add, then remove. [`OF_THE_HOP`] and `Host` stay as they are.
pub(super) fn apply_headers(edits: &HeaderEdits, headers: &mut HeaderMap) {
    let HeaderEdits { set, add, remove } = edits;
    for (name, value) in set.iter().filter(|(name, _)| is_open(name)) {
        headers.insert(name, value.clone());
    }
    for (name, value) in add.iter().filter(|(name, _)| is_open(name)) {
        headers.append(name, value.clone());
    }
    for name in remove.iter().filter(|name| is_open(name)) {
        headers.remove(name);
    }
}

/// Whether filters may change it.
fn is_open(name: &HeaderName) -> bool {
    *name != HOST && !OF_THE_HOP.contains(name)
}

/// Rewrites host and path. `prefix` is the path prefix that matched, without a trailing `/`. The target of CONNECT is a tunnel's end, not a URL,
/// and stays.
///
/// # Errors
/// If the result cannot be sent; the request is then half changed and must not be.
pub(super) fn rewrite(rewrite: &Rewrite, prefix: Option<&str>, parts: &mut request::Parts) -> Result<(), Unfit> {
    let Rewrite { hostname, path } = rewrite;
    if parts.method == Method::CONNECT {
        return Ok(());
    }
    if let Some(hostname) = hostname {
        let host = HeaderValue::try_from(hostname).map_err(|_| Unfit("host"))?;
        set_host(&host, parts)?;
    }
    path.as_ref().map_or(Ok(()), |path| set_path(path, prefix, parts))
}

/// Puts the host wherever the next hop may read it: into the URI of HTTP/2 (`:authority`; RFC 9113, 8.3.1) and of an absolute-form target, and
/// into `Host` for HTTP/1 and where there is one, since the two must not differ (RFC 9112, 3.2.2).
fn set_host(host: &HeaderValue, parts: &mut request::Parts) -> Result<(), Unfit> {
    if parts.method == Method::CONNECT {
        return Ok(());
    }
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| Unfit("host"))?;
    let http2 = parts.version == Version::HTTP_2;
    if http2 || parts.uri.authority().is_some() {
        let mut uri = parts.uri.clone().into_parts();
        uri.authority = Some(authority);
        // an URI with an authority needs these two; a request without `:authority` had them, and the URI could not hold them
        uri.scheme.get_or_insert(Scheme::HTTP);
        uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        parts.uri = Uri::from_parts(uri).map_err(|_| Unfit("host"))?;
    }
    if !http2 || parts.headers.contains_key(HOST) {
        parts.headers.insert(HOST, host.clone());
    }
    Ok(())
}

fn set_path(change: &PathChange, prefix: Option<&str>, parts: &mut request::Parts) -> Result<(), Unfit> {
    let Some(path) = parts.uri.path_and_query() else {
        return Ok(());
    };
    let path = path::changed(change, prefix, path)?;
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(path);
    parts.uri = Uri::from_parts(uri).map_err(|_| Unfit("path"))?;
    Ok(())
}

#[cfg(test)]
mod tests;
