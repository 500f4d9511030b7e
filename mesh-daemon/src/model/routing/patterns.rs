//! The regular expressions of all routes: each compiled once, kept from build to build, and not more of them than all routes, or one, may take.

use std::{collections::BTreeMap, sync::Arc};

use super::pattern::{COMPILED_BYTES_MAX, Pattern};

/// Most that the patterns of one route may cost, see [`Known::cost`]: a thousand small ones, 128 of 14 KiB (an HTTPRoute has at most 128 matches), forty
/// with 50 words each. An HTTPRoute can ask for 4,224 patterns, 33 in each match: at this bound the worst of them take 0.2 s and 3 MB on a busy node.
const ROUTE_COST_MAX: usize = 2 * 1024 * 1024;
/// Most that the patterns of all routes together may cost, each text counted once: fifteen thousand small ones, or sixteen routes that each take all they
/// may. The worst of them take 3 s, once, and 34 MB.
const COST_MAX: usize = 32 * 1024 * 1024;
/// What a byte of a pattern's text counts: parsing it takes as long as compiling to so many bytes.
const COST_PER_TEXT_BYTE: usize = 16;

/// The patterns of all routes by their text, also those that do not compile: the next build compiles only what is new.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Patterns(BTreeMap<String, Known>);

/// A pattern that was compiled, or what is wrong with it as the end of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    pattern: Result<Arc<Pattern>, String>,
    /// Memory that it takes, and time in the same measure, in bytes. It follows from the text alone.
    cost: usize,
}

impl Known {
    fn of(text: &str) -> Self {
        let pattern = Pattern::compile(text);
        let compiled = match &pattern {
            Ok(pattern) => pattern.compiled_bytes(),
            Err(refused) if refused.too_large => COMPILED_BYTES_MAX,
            Err(_) => 0,
        };
        Self {
            pattern: pattern.map(Arc::new).map_err(|refused| refused.why),
            cost: compiled + text.len() * COST_PER_TEXT_BYTE + size_of::<(String, Self, Pattern)>(),
        }
    }
}

/// Gathers the patterns of one build. Who comes first has the room: the caller goes from the oldest route to the youngest, so that a new one never takes it
/// from those that are there.
pub(super) struct Compiler<'a> {
    earlier: Option<&'a Patterns>,
    now: Patterns,
    cost_left: usize,
}

impl<'a> Compiler<'a> {
    /// One that takes from an earlier build what is there.
    pub(super) fn after(earlier: Option<&'a Patterns>) -> Self {
        Self {
            earlier,
            now: Patterns::default(),
            cost_left: COST_MAX,
        }
    }

    /// For the patterns of one route.
    pub(super) fn route(&mut self) -> RouteCompiler<'_, 'a> {
        RouteCompiler {
            all: self,
            now: Patterns::default(),
            cost_left: ROUTE_COST_MAX,
        }
    }

    /// What is known of a pattern, compiled at most once; none if there is no room left for it.
    fn known(&mut self, text: &str) -> Option<Known> {
        if let Some(known) = self.now.0.get(text) {
            return Some(known.clone());
        }
        if self.cost_left == 0 {
            return None;
        }
        let earlier = self.earlier.and_then(|earlier| earlier.0.get(text));
        let known = earlier.cloned().unwrap_or_else(|| Known::of(text));
        self.cost_left = self.cost_left.saturating_sub(known.cost);
        self.now.0.insert(text.to_owned(), known.clone());
        Some(known)
    }

    /// What this build used.
    pub(super) fn into_patterns(self) -> Patterns {
        self.now
    }
}

/// Gathers the patterns of one route.
pub(super) struct RouteCompiler<'c, 'a> {
    all: &'c mut Compiler<'a>,
    now: Patterns,
    cost_left: usize,
}

impl RouteCompiler<'_, '_> {
    /// The pattern. The one that passes a bound is the last that is there, so that it costs no time to refuse the others.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(super) fn pattern(&mut self, text: &str) -> Result<Arc<Pattern>, String> {
        if let Some(known) = self.now.0.get(text) {
            return known.pattern.clone();
        }
        if self.cost_left == 0 {
            return Err(over("this route", ROUTE_COST_MAX));
        }
        let known = self.all.known(text).ok_or_else(|| over("all routes", COST_MAX))?;
        self.cost_left = self.cost_left.saturating_sub(known.cost);
        self.now.0.insert(text.to_owned(), known.clone());
        known.pattern
    }
}

fn over(whose: &str, bytes: usize) -> String {
    format!("the regular expressions of {whose} take more than the {bytes} bytes that are supported")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_compiled_once_also_if_it_does_not_compile() {
        let mut first = Compiler::after(None);
        let pattern = first.route().pattern("a+").unwrap();
        let again = first.route().pattern("a+").unwrap();
        assert!(Arc::ptr_eq(&pattern, &again), "within a build");
        assert!(first.route().pattern("(").is_err());
        let first = first.into_patterns();
        let mut second = Compiler::after(Some(&first));
        assert!(
            Arc::ptr_eq(&pattern, &second.route().pattern("a+").unwrap()),
            "from build to build"
        );
        assert!(second.route().pattern("(").is_err());
        assert_eq!(second.into_patterns(), first);
        assert_eq!(
            Compiler::after(Some(&first)).into_patterns(),
            Patterns::default(),
            "what is not used goes"
        );
    }

    /// Patterns of some 50 KiB each.
    fn large(number: usize) -> String {
        let words: Vec<String> = (0..100).map(|word| format!("{number}-{word}-[a-z]+")).collect();
        words.join("|")
    }

    /// How many large patterns are there, and what is said of the next.
    fn until_refused(mut pattern: impl FnMut(&str) -> Result<Arc<Pattern>, String>) -> (usize, String) {
        let mut results = (0..).map(|number| (number, pattern(&large(number))));
        results
            .find_map(|(number, result)| Some((number, result.err()?)))
            .unwrap()
    }

    #[test]
    fn a_route_has_no_more_patterns_than_it_may() {
        let mut compiler = Compiler::after(None);
        let mut route = compiler.route();
        let (number, error) = until_refused(|text| route.pattern(text));
        assert!((8..100).contains(&number), "{number}");
        assert_eq!(
            error,
            "the regular expressions of this route take more than the 2097152 bytes that are supported"
        );
        assert!(route.pattern("a").is_err(), "however small");
        assert!(route.pattern(&large(0)).is_ok(), "what is there serves again");
        assert!(compiler.route().pattern("a").is_ok(), "others have their own room");
    }

    #[test]
    fn patterns_that_are_refused_for_their_size_cost_as_much_as_the_largest() {
        let mut compiler = Compiler::after(None);
        let mut route = compiler.route();
        let errors: Vec<String> = (0..20)
            .map(|number| route.pattern(&format!("{number}.*a.{{30}}")).unwrap_err())
            .collect();
        let refused_unseen = errors.iter().filter(|error| error.contains("this route")).count();
        assert_eq!(refused_unseen, 12, "{errors:?}");
    }

    #[test]
    fn all_routes_have_no_more_than_they_may_whatever_was_there_before() {
        let mut first = Compiler::after(None);
        first.cost_left = 8 * COMPILED_BYTES_MAX;
        let (number, error) = until_refused(|text| first.route().pattern(text));
        assert_eq!(
            error,
            "the regular expressions of all routes take more than the 33554432 bytes that are supported"
        );
        assert!(
            first.route().pattern(&large(0)).is_ok(),
            "what is there serves others too"
        );
        let first = first.into_patterns();
        let mut second = Compiler::after(Some(&first));
        second.cost_left = 8 * COMPILED_BYTES_MAX;
        assert_eq!(until_refused(|text| second.route().pattern(text)).0, number);
        assert_eq!(second.into_patterns(), first);
    }
}
