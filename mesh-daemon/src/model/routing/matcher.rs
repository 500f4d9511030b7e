//! Whether a request meets one match of a rule. Paths are matched as they are sent, without decoding or normalising: that is what the backend gets.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
    cmp::Reverse,
    fmt,
    sync::Arc,
};

use http::{
    HeaderMap, HeaderName, Method, Uri,
    header::{COOKIE, HOST},
};

use super::pattern::Pattern;

/// Most bytes that all patterns together read for one request: a worker decides it without a pause, and its other connections wait for 2 to 10 ms at this
/// many. A thousand patterns that each read a path of 1 KB to its end, or two that read a whole head of 400 KiB. More than that only a request that is made
/// for it needs; it meets no rule by chance, see [`Holds::Undecided`].
const READ_BYTES_MAX: usize = 1024 * 1024;

/// One match, ready to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matcher {
    pub(super) path: PathMatcher,
    pub(super) method: Option<String>,
    pub(super) headers: Vec<(HeaderName, ValueMatcher)>,
    pub(super) query: Vec<(String, ValueMatcher)>,
}

/// What the path must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathMatcher {
    Exact(String),
    Regex(Arc<Pattern>),
    /// Without a trailing `/`; of whole segments.
    Prefix(String),
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueMatcher {
    Exact(String),
    Regex(Arc<Pattern>),
}

/// How early a match is tried, as far as it says itself; less is earlier.
pub(super) type Precedence = (Kind, Reverse<usize>, Reverse<bool>, Reverse<usize>, Reverse<usize>);

/// The kinds of path matches in the order of their precedence. The standard leaves the place of regular expressions open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Exact,
    Regex,
    Prefix,
}

/// Whether a match holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    /// All else holds, and a pattern was not tried any more. Taken for a no, a long path would lead a request past the rule that is there to catch it.
    Undecided,
}

impl Matcher {
    /// Kind, length of path or pattern in bytes, method, number of headers, number of query parameters (HTTPRoute, `rules[].matches`).
    pub(super) fn precedence(&self) -> Precedence {
        let (kind, length) = match &self.path {
            PathMatcher::Exact(path) => (Kind::Exact, path.len()),
            PathMatcher::Regex(pattern) => (Kind::Regex, pattern.text().len()),
            PathMatcher::Prefix(path) => (Kind::Prefix, path.len()),
        };
        let (headers, query) = (self.headers.len(), self.query.len());
        let method = self.method.is_some();
        (kind, Reverse(length), Reverse(method), Reverse(headers), Reverse(query))
    }

    /// Whether all but an exact path or a prefix hold: the table has looked those up already.
    pub(super) fn holds(&self, request: &Request<'_>) -> Holds {
        request.untried.set(false);
        match (self.may_hold(request), request.untried.get()) {
            (false, _) => Holds::No,
            (true, false) => Holds::Yes,
            (true, true) => Holds::Undecided,
        }
    }

    /// As if patterns that are not tried any more held.
    fn may_hold(&self, request: &Request<'_>) -> bool {
        let path = match &self.path {
            PathMatcher::Exact(_) | PathMatcher::Prefix(_) => true,
            PathMatcher::Regex(pattern) => request.may_meet(pattern, request.path().as_bytes()),
        };
        path && self
            .method
            .as_ref()
            .is_none_or(|method| method == request.method.as_str())
            && self.headers.iter().all(|(name, value)| {
                let header = request.header(name);
                header.is_some_and(|header| value.may_match(request, &header))
            })
            && self.query.iter().all(|(name, value)| {
                let parameter = request.parameter(name.as_bytes());
                parameter.is_some_and(|parameter| value.may_match(request, parameter))
            })
    }

    /// Whether it has a pattern.
    pub(super) fn has_pattern(&self) -> bool {
        let values = self.headers.iter().map(|(_, value)| value);
        let mut values = values.chain(self.query.iter().map(|(_, value)| value));
        matches!(self.path, PathMatcher::Regex(_)) || values.any(|value| matches!(value, ValueMatcher::Regex(_)))
    }

    /// The prefix that it matched, if it matches by one.
    pub(super) fn prefix(&self) -> Option<&str> {
        match &self.path {
            PathMatcher::Prefix(prefix) => Some(prefix),
            PathMatcher::Exact(_) | PathMatcher::Regex(_) => None,
        }
    }
}

impl ValueMatcher {
    fn may_match(&self, request: &Request<'_>, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Regex(pattern) => request.may_meet(pattern, value),
        }
    }
}

/// What matches look at of a request.
pub(super) struct Request<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    /// Decoded when the first match asks for one.
    query: OnceCell<Vec<Parameter<'a>>>,
    /// What patterns may still read.
    read_bytes_left: Cell<usize>,
    /// Whether a pattern was not tried since this was reset.
    untried: Cell<bool>,
}

/// Name and value of a query parameter, decoded.
type Parameter<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

impl<'a> Request<'a> {
    pub(super) fn new(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        Self {
            method,
            uri,
            headers,
            query: OnceCell::new(),
            read_bytes_left: Cell::new(READ_BYTES_MAX),
            untried: Cell::new(false),
        }
    }

    /// Whether a pattern matches a value, or may: when the patterns have read enough, it is not tried.
    fn may_meet(&self, pattern: &Pattern, value: &[u8]) -> bool {
        let left = self.read_bytes_left.get();
        if left == 0 {
            self.untried.set(true);
            return true;
        }
        let (matches, read_bytes) = pattern.matches(value);
        self.read_bytes_left.set(left.saturating_sub(read_bytes));
        matches
    }

    /// As sent; empty or `*` for requests without one.
    pub(super) fn path(&self) -> &'a str {
        self.uri.path()
    }

    /// The value of a header. Several fields of one name are one value, joined by commas, as Envoy matches them and RFC 9110, 5.2 reads them; `Cookie` is
    /// joined as HTTP/2 splits it (RFC 9113, 8.2.3). `Host` is the authority that the request names: HTTP/2 has no such field, and an
    /// absolute URL overrides it (RFC 9112, 3.2.2).
    fn header(&self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        if *name == HOST
            && let Some(authority) = self.uri.authority()
        {
            return Some(Cow::Borrowed(without_userinfo(authority.as_str()).as_bytes()));
        }
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?.as_bytes();
        let Some(second) = values.next() else {
            return Some(Cow::Borrowed(first));
        };
        let separator: &[u8] = if *name == COOKIE { b"; " } else { b"," };
        let mut joined = first.to_vec();
        for value in std::iter::once(second).chain(values) {
            joined.extend_from_slice(separator);
            joined.extend_from_slice(value.as_bytes());
        }
        Some(Cow::Owned(joined))
    }

    /// The value of a query parameter; of several with one name the first counts, as the standard recommends.
    fn parameter(&self, name: &[u8]) -> Option<&[u8]> {
        let parameters = self
            .query
            .get_or_init(|| parameters(self.uri.query().unwrap_or_default()));
        let found = parameters.iter().find(|(known, _)| known.as_ref() == name);
        found.map(|(_, value)| value.as_ref())
    }
}

fn without_userinfo(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Parameters as servers read them (URL Standard, "application/x-www-form-urlencoded parsing"): percent-decoded, `+` is a space, and one without `=` has an
/// empty value. A match that read them otherwise than the backend could be got around by writing them in another way.
fn parameters(query: &str) -> Vec<Parameter<'_>> {
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| piece.split_once('=').unwrap_or((piece, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

/// A `%` that no two hexadecimal digits follow stays as it is.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match hex_pair(*high, *low) {
                Some(byte) => {
                    rest = after;
                    byte
                }
                None => b'%',
            },
            (other, _) => *other,
        });
    }
    Cow::Owned(decoded)
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            method,
            headers,
            query,
        } = self;
        match path {
            PathMatcher::Exact(path) => write!(f, "exact {path}")?,
            PathMatcher::Regex(pattern) => write!(f, "regex {}", pattern.text())?,
            PathMatcher::Prefix(path) if path.is_empty() => write!(f, "prefix /")?,
            PathMatcher::Prefix(path) => write!(f, "prefix {path}")?,
        }
        if let Some(method) = method {
            write!(f, " method={method}")?;
        }
        for (name, value) in headers {
            write!(f, " header {name}{value}")?;
        }
        for (name, value) in query {
            write!(f, " query {name}{value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ValueMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => write!(f, "={value}"),
            Self::Regex(pattern) => write!(f, "~{}", pattern.text()),
        }
    }
}
