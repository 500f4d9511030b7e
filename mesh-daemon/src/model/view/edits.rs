//! What a rule or a backend changes in requests and answers, in the words of an HTTPRoute's `filters`.

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::super::{Edits, HeaderEdits, PathChange};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum FilterView {
    /// Changes of the request's headers: set, then add, then remove.
    RequestHeaderModifier {
        /// Replaces.
        set: Vec<HeaderView>,
        /// Appends.
        add: Vec<HeaderView>,
        /// Removes.
        remove: Vec<String>,
    },
    /// The same of the answer's headers.
    ResponseHeaderModifier {
        /// Replaces.
        set: Vec<HeaderView>,
        /// Appends.
        add: Vec<HeaderView>,
        /// Removes.
        remove: Vec<String>,
    },
    /// Changes where the request goes, as its server sees it.
    #[serde(rename = "URLRewrite")]
    UrlRewrite {
        /// The new host.
        hostname: Option<String>,
        /// How the path changes.
        path: Option<PathChangeView>,
    },
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderView {
    /// In lower case.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How a path changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value")]
pub enum PathChangeView {
    /// The whole path.
    ReplaceFullPath(String),
    /// The prefix that matched.
    ReplacePrefixMatch(String),
}

/// All changes; what changes nothing is left out.
pub(super) fn filters(edits: &Edits) -> Vec<FilterView> {
    let Edits {
        request,
        response,
        rewrite,
    } = edits;
    let request = headers(request).map(|(set, add, remove)| FilterView::RequestHeaderModifier { set, add, remove });
    let response = headers(response).map(|(set, add, remove)| FilterView::ResponseHeaderModifier { set, add, remove });
    let rewrite = rewrite.as_ref().map(|rewrite| FilterView::UrlRewrite {
        hostname: rewrite.hostname.clone(),
        path: rewrite.path.as_ref().map(path),
    });
    [request, rewrite, response].into_iter().flatten().collect()
}

/// How a path changes.
pub(super) fn path(change: &PathChange) -> PathChangeView {
    match change {
        PathChange::Full(path) => PathChangeView::ReplaceFullPath(path.clone()),
        PathChange::Prefix(prefix) => PathChangeView::ReplacePrefixMatch(prefix.clone()),
    }
}

type Changes = (Vec<HeaderView>, Vec<HeaderView>, Vec<String>);

fn headers(edits: &HeaderEdits) -> Option<Changes> {
    let HeaderEdits { set, add, remove } = edits;
    let is_empty = set.is_empty() && add.is_empty() && remove.is_empty();
    let removed = remove.iter().map(|name| name.as_str().to_owned());
    (!is_empty).then(|| (list(set), list(add), removed.collect()))
}

fn list(headers: &[(HeaderName, HeaderValue)]) -> Vec<HeaderView> {
    let view = |(name, value): &(HeaderName, HeaderValue)| HeaderView {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    };
    headers.iter().map(view).collect()
}
