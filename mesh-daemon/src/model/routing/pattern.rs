//! Regular expressions of matches: bounded, anchored at both ends, compiled once and kept from build to build.

use std::{collections::BTreeMap, sync::Arc};

use regex::bytes::{Regex, RegexBuilder};

/// Longest pattern in bytes: what the HTTPRoute's CRD allows for a header's value, the longest of its patterns.
const PATTERN_BYTES_MAX: usize = 4096;
/// Most memory in bytes that one compiled pattern may take, and the same again for the states that it finds while it matches: a UUID's pattern
/// takes a hundredth of it. Counted repetitions can be nested so that a short pattern takes gigabytes.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// A compiled pattern of a whole path or value. It matches bytes, as HTTP carries them: `\w`, `\d`, `\s` are ASCII's, as in RE2, and `(?u)` makes them
/// Unicode's. Two are equal if their texts are.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    fn compile(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!(
                "the pattern has {} bytes, more than the {PATTERN_BYTES_MAX} that are supported",
                text.len()
            ));
        }
        // by itself first: `a)|(?:b` is no pattern, but becomes one, that matches too much, between the anchors' parentheses
        let regex = bounded(text).and_then(|_| bounded(&format!("^(?:{text})$")));
        match regex {
            Ok(regex) => Ok(Self {
                text: text.to_owned(),
                regex,
            }),
            Err(error) => Err(format!("`{text}` is not supported: {}", reason(&error))),
        }
    }

    /// The pattern, without the anchors.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of a path or value.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        self.regex.is_match(value)
    }
}

fn bounded(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
}

/// The sentence of an error that is told in several lines, the pattern and a pointer into it among them.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(max) => format!("compiled it takes more than {max} bytes"),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

/// The patterns of all routes by their text, also those that do not compile: the next build compiles only what is new.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Patterns(BTreeMap<String, Result<Arc<Pattern>, String>>);

/// Gathers the patterns of one build.
pub(super) struct Compiler<'a> {
    earlier: Option<&'a Patterns>,
    now: Patterns,
}

impl<'a> Compiler<'a> {
    /// One that takes from an earlier build what is there.
    pub(super) fn after(earlier: Option<&'a Patterns>) -> Self {
        Self {
            earlier,
            now: Patterns::default(),
        }
    }

    /// The pattern, compiled at most once.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(super) fn pattern(&mut self, text: &str) -> Result<Arc<Pattern>, String> {
        if let Some(known) = self.now.0.get(text) {
            return known.clone();
        }
        let known = self.earlier.and_then(|earlier| earlier.0.get(text));
        let pattern = known.cloned().unwrap_or_else(|| Pattern::compile(text).map(Arc::new));
        self.now.0.insert(text.to_owned(), pattern.clone());
        pattern
    }

    /// What this build used.
    pub(super) fn into_patterns(self) -> Patterns {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_of_the_whole_value() {
        for (pattern, value, expected) in [
            ("a|ab", "ab", true),
            ("a|ab", "abc", false),
            ("b", "abc", false),
            ("", "", true),
            ("", "a", false),
            ("/[a-z]+/[0-9]+", "/shop/12", true),
            ("/[a-z]+/[0-9]+", "/shop/12/", false),
            ("a", "a\n", false),
            ("(?m)a", "a\nb", false),
            ("(?m)^a$", "b\na", false),
            ("(?i)abc", "aBc", true),
            ("abc", "aBc", false),
            (r"\d+", "\u{664}", false),
            (r"(?u)\d+", "\u{664}", true),
        ] {
            let found = Pattern::compile(pattern).unwrap().matches(value.as_bytes());
            assert_eq!(found, expected, "{pattern:?} and {value:?}");
        }
        assert!(
            Pattern::compile("(?s-u).").unwrap().matches(b"\xff"),
            "bytes that are no text"
        );
    }

    #[test]
    fn what_does_not_compile_says_why() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        for (pattern, expected) in [
            ("a(b", "`a(b` is not supported: unclosed group"),
            ("a)|(?:b", "`a)|(?:b` is not supported: unopened group"),
            (
                "(?:(?:a{1000}){1000}){1000}",
                "compiled it takes more than 262144 bytes",
            ),
            ("(a)\\1", "backreferences are not supported"),
            (
                long.as_str(),
                "the pattern has 4097 bytes, more than the 4096 that are supported",
            ),
        ] {
            let error = Pattern::compile(pattern).unwrap_err();
            assert!(error.ends_with(expected), "{error}");
        }
        assert!(Pattern::compile(&"a".repeat(PATTERN_BYTES_MAX)).is_ok());
    }

    #[test]
    fn a_pattern_is_compiled_once_also_if_it_does_not_compile() {
        let mut first = Compiler::after(None);
        let pattern = first.pattern("a+").unwrap();
        assert!(Arc::ptr_eq(&pattern, &first.pattern("a+").unwrap()), "within a build");
        assert!(first.pattern("(").is_err());
        let first = first.into_patterns();
        let mut second = Compiler::after(Some(&first));
        assert!(
            Arc::ptr_eq(&pattern, &second.pattern("a+").unwrap()),
            "from build to build"
        );
        assert!(second.pattern("(").is_err());
        assert_eq!(second.into_patterns(), first);
        assert_eq!(
            Compiler::after(Some(&first)).into_patterns(),
            Patterns::default(),
            "what is not used goes"
        );
    }
}
