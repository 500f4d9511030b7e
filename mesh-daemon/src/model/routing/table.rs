//! The rules of one service address and port, in the order of their precedence, and which of them a request meets.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use http::{HeaderMap, Method, Uri};

use super::{
    super::plain::plain,
    Action, Rule, RuleFailure,
    matcher::{Holds, Matcher, PathMatcher, Request},
};

/// Rules in the order of their precedence. Exact paths and prefixes are looked up by hash, so the cost of a request does not grow with their number;
/// regular expressions, and matches of one and the same path, are tried one by one.
#[derive(Clone, Debug, Eq, Default)]
pub struct RouteTable {
    /// The rules that have a match, for people, each where its first match stands.
    pub rules: Vec<Arc<Rule>>,
    entries: Vec<Entry>,
    index: Index,
    /// What stands for a rule with patterns, by its place in `rules`, when it cannot be known whether it matches: the same, but failing.
    undecided: HashMap<usize, Arc<Rule>>,
}

/// One match of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    matcher: Arc<Matcher>,
    /// Which of `rules`.
    rule: usize,
}

/// Which entries a path can meet; all lists are in the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Index {
    exact: HashMap<String, Vec<usize>>,
    regexes: Vec<usize>,
    prefixes: HashMap<String, Vec<usize>>,
    /// The lengths in bytes that the prefixes have, longest first: only these are looked up, however many segments a path has.
    prefix_lengths: Vec<usize>,
}

/// A match of a rule on its way into a table.
pub(super) struct Candidate {
    pub(super) matcher: Arc<Matcher>,
    pub(super) rule: Arc<Rule>,
    /// `metadata.creationTimestamp` of its route.
    pub(super) created: Option<i64>,
}

/// The rule that a request meets.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'a> {
    /// The rule.
    pub rule: &'a Arc<Rule>,
    /// The path prefix that matched, without a trailing `/`; none if it was matched otherwise.
    pub prefix: Option<&'a str>,
}

impl PartialEq for RouteTable {
    fn eq(&self, other: &Self) -> bool {
        // the others follow from these two
        let Self {
            rules,
            entries,
            index: _,
            undecided: _,
        } = self;
        *rules == other.rules && *entries == other.entries
    }
}

impl RouteTable {
    /// Of all matches of the routes of one group. Those of one rule keep their order.
    pub(super) fn new(mut candidates: Vec<Candidate>) -> Self {
        candidates.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut table = Self::default();
        let mut places: HashMap<*const Rule, usize> = HashMap::new();
        for Candidate { matcher, rule, .. } in candidates {
            let place = *places.entry(Arc::as_ptr(&rule)).or_insert_with(|| {
                table.rules.push(rule);
                table.rules.len() - 1
            });
            table.index.add(&matcher.path, table.entries.len());
            if matcher.has_pattern()
                && let Some(rule) = table.rules.get(place)
            {
                table.undecided.entry(place).or_insert_with(|| failing(rule));
            }
            table.entries.push(Entry { matcher, rule: place });
        }
        table.index.measure();
        table
    }

    /// The rule of the highest precedence that matches; failing, if patterns would have to read too much of the request to know.
    pub fn find(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Matched<'_>> {
        let request = Request::new(method, uri, headers);
        let path = request.path();
        let exact = self.index.exact.get(path).into_iter();
        let candidates = exact.chain([&self.index.regexes]).chain(self.index.prefixes(path));
        let entries = candidates.flatten().filter_map(|at| self.entries.get(*at));
        let mut tried = entries.map(|entry| (entry, entry.matcher.holds(&request)));
        let (entry, holds) = tried.find(|(_, holds)| *holds != Holds::No)?;
        let rule = match holds {
            Holds::Undecided => self.undecided.get(&entry.rule),
            Holds::Yes | Holds::No => self.rules.get(entry.rule),
        };
        Some(Matched {
            rule: rule?,
            prefix: entry.matcher.prefix(),
        })
    }

    /// Every match in one line of words, in the order of precedence, with its rule.
    pub fn matches(&self) -> impl Iterator<Item = (String, &Arc<Rule>)> {
        let entries = self.entries.iter();
        entries.filter_map(|entry| Some((plain(&entry.matcher.to_string()), self.rules.get(entry.rule)?)))
    }
}

fn failing(rule: &Rule) -> Arc<Rule> {
    Arc::new(Rule {
        action: Action::Fail(RuleFailure::Unsupported),
        ..rule.clone()
    })
}

/// What the match says itself, then the oldest route (one without a time is the youngest), then by name, then the order of the rules. All routes of a table
/// are of one namespace, so the order of names is that of `namespace/name`.
fn order(candidate: &Candidate) -> impl Ord + '_ {
    let Candidate { matcher, rule, created } = candidate;
    let oldest = (created.is_none(), *created);
    (matcher.precedence(), oldest, &rule.route, rule.index)
}

impl Index {
    fn add(&mut self, path: &PathMatcher, entry: usize) {
        match path {
            PathMatcher::Exact(path) => self.exact.entry(path.clone()).or_default().push(entry),
            PathMatcher::Regex(_) => self.regexes.push(entry),
            PathMatcher::Prefix(path) => self.prefixes.entry(path.clone()).or_default().push(entry),
        }
    }

    fn measure(&mut self) {
        let lengths: HashSet<usize> = self.prefixes.keys().map(String::len).collect();
        self.prefix_lengths = lengths.into_iter().collect();
        self.prefix_lengths.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Entries of the prefixes of a path, longest first.
    fn prefixes(&self, path: &str) -> impl Iterator<Item = &Vec<usize>> {
        let lengths = self.prefix_lengths.iter().copied();
        lengths.filter_map(move |length| self.prefixes.get(segments(path, length)?))
    }
}

/// The first bytes of a path, if they end where a segment does.
fn segments(path: &str, length: usize) -> Option<&str> {
    let ends = matches!(path.as_bytes().get(length), None | Some(b'/'));
    // the empty prefix is that of every request, also of one whose target is no path
    (length == 0 || ends).then(|| path.get(..length)).flatten()
}
