//! One regular expression of a match: anchored at both ends, and compiled to an automaton that reads each byte once. What an automaton would be too large
//! for is refused: an engine that falls back to simulating one takes seconds for a long value.

use std::fmt;

use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson::{self, NFA, WhichCaptures},
    util::start,
};
use regex_syntax::{
    ast::{self, Ast, Flag},
    hir::{Hir, translate},
};

/// Longest pattern in bytes: what the HTTPRoute's CRD allows for a header's value, the longest of its patterns.
const PATTERN_BYTES_MAX: usize = 4096;
/// Largest automaton in bytes. A UUID's has 1.3 KiB, an IPv4 address's 2, semver's 2.5, a DNS label's `[a-z]([-a-z0-9]{0,251}[a-z0-9])?` 38, an
/// alternation of 50 words 51 (with `(?i)` and `.*` around it 102), of 200 words 93, `(?u)\w+` 176. Being in a core's own cache it takes 2 to 10 ns for each
/// byte of a value: 4 ms at most for the 400 KiB of a whole head.
pub(super) const COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Most memory in bytes of what stands between pattern and automaton. All of the above need less, and it takes 20 ms at most to find that a pattern
/// needs more.
const INTERMEDIATE_BYTES_MAX: usize = 64 * 1024;

/// A compiled pattern of a whole path or value. It matches bytes, as HTTP carries them: `\w`, `\d`, `\s` are ASCII's, as in RE2, and `(?u)` makes them
/// Unicode's. Two are equal if their texts are.
pub(super) struct Pattern {
    text: String,
    automaton: dense::DFA<Vec<u32>>,
}

/// What is wrong with a pattern.
pub(super) struct Refused {
    /// As the end of a sentence.
    pub(super) why: String,
    /// Whether that was found only after as much work as the largest pattern takes.
    pub(super) too_large: bool,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compile(text: &str) -> Result<Self, Refused> {
        if text.len() > PATTERN_BYTES_MAX {
            let length = text.len();
            let why = format!("the pattern has {length} bytes, more than the {PATTERN_BYTES_MAX} that are supported");
            return Err(Refused { why, too_large: false });
        }
        let automaton = parse(text).map_err(|why| (why, false)).and_then(|hir| determine(&hir));
        match automaton {
            Ok(automaton) => Ok(Self {
                text: text.to_owned(),
                automaton,
            }),
            Err((why, too_large)) => Err(Refused {
                why: format!("`{text}` is not supported: {why}"),
                too_large,
            }),
        }
    }

    /// The pattern, without the anchors.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Memory in bytes that its automaton takes.
    pub(super) fn compiled_bytes(&self) -> usize {
        self.automaton.memory_usage()
    }

    /// Whether it matches the whole of a path or value, and how many bytes of that it took to know.
    pub(super) fn matches(&self, value: &[u8]) -> (bool, usize) {
        let automaton = &self.automaton;
        let Ok(mut state) = automaton.start_state(&start::Config::new().anchored(Anchored::Yes)) else {
            return (false, 0);
        };
        for (read, byte) in (1..).zip(value) {
            state = automaton.next_state(state, *byte);
            if automaton.is_dead_state(state) {
                return (false, read);
            }
        }
        (automaton.is_match_state(automaton.next_eoi_state(state)), value.len())
    }
}

/// What a pattern says. Unicode's letters in either case are refused: their tables take a millisecond for each class of a pattern.
fn parse(text: &str) -> Result<Hir, String> {
    let ast = ast::parse::Parser::new().parse(text).map_err(|error| reason(&error))?;
    if ast::visit(&ast, Flags::default()).is_err() {
        return Err("the flags `i` and `u` are not supported together".to_owned());
    }
    let mut translator = translate::TranslatorBuilder::new().unicode(false).utf8(false).build();
    translator.translate(text, &ast).map_err(|error| reason(&error))
}

/// The automaton, or what is wrong and whether it is the size.
fn determine(hir: &Hir) -> Result<dense::DFA<Vec<u32>>, (String, bool)> {
    let too_large = || {
        let why = format!("compiled it takes more than the {COMPILED_BYTES_MAX} bytes that are supported");
        (why, true)
    };
    let nfa = simulated(hir).ok_or_else(too_large)?;
    let automaton = dense::Builder::new()
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Anchored)
                // the longest match is the whole value or none is
                .match_kind(MatchKind::All)
                .accelerate(false)
                .dfa_size_limit(Some(COMPILED_BYTES_MAX))
                .determinize_size_limit(Some(INTERMEDIATE_BYTES_MAX)),
        )
        .build_from_nfa(&nfa);
    automaton.map_err(|error| {
        if error.is_size_limit_exceeded() {
            too_large()
        } else {
            (reason(&error), false)
        }
    })
}

/// What the automaton is made from; none if it is too large, which is all that can be wrong with a pattern that was parsed and has no captures.
fn simulated(hir: &Hir) -> Option<NFA> {
    thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .utf8(false)
                .which_captures(WhichCaptures::None)
                .nfa_size_limit(Some(INTERMEDIATE_BYTES_MAX)),
        )
        .build_from_hir(hir)
        .ok()
}

/// The sentence of an error that is told in several lines, the pattern and a pointer into it among them.
fn reason(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Which flags a pattern sets anywhere.
#[derive(Default)]
struct Flags {
    folds: bool,
    unicode: bool,
}

impl ast::Visitor for Flags {
    type Output = ();
    /// That it sets both.
    type Err = ();

    fn finish(self) -> Result<(), ()> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), ()> {
        let flags = match ast {
            Ast::Flags(set) => Some(&set.flags),
            Ast::Group(group) => group.flags(),
            _ => None,
        };
        let sets = |flag| flags.and_then(|flags| flags.flag_state(flag)) == Some(true);
        self.folds |= sets(Flag::CaseInsensitive);
        self.unicode |= sets(Flag::Unicode);
        if self.folds && self.unicode { Err(()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LARGE: &str = "compiled it takes more than the 262144 bytes that are supported";

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
            (r".*\badmin\b.*", "an admin's", true),
            (r".*\badmin\b.*", "administrator", false),
            ("(?:a?){20}a{20}", "aaaaaaaaaaaaaaaaaaaaaaaaa", true),
        ] {
            let found = Pattern::compile(pattern).ok().unwrap().matches(value.as_bytes()).0;
            assert_eq!(found, expected, "{pattern:?} and {value:?}");
        }
        assert!(
            Pattern::compile("(?s-u).").ok().unwrap().matches(b"\xff").0,
            "bytes that are no text"
        );
    }

    #[test]
    fn what_does_not_compile_says_why() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        for (pattern, expected) in [
            ("a(b", "`a(b` is not supported: unclosed group"),
            ("a)|(?:b", "`a)|(?:b` is not supported: unopened group"),
            ("(?:(?:a{1000}){1000}){1000}", TOO_LARGE),
            ("(?:(?:[ab]{1,40}){1,40})*c", TOO_LARGE),
            (".*error.{0,50}timeout.*", TOO_LARGE),
            (r"(?i)a(?x)( ?u:\D)", "the flags `i` and `u` are not supported together"),
            ("(a)\\1", "backreferences are not supported"),
            (
                long.as_str(),
                "the pattern has 4097 bytes, more than the 4096 that are supported",
            ),
        ] {
            let error = Pattern::compile(pattern).unwrap_err().why;
            assert!(error.ends_with(expected), "{error}");
        }
        let alternatives: Vec<String> = (0..200).map(|number| format!("word-{number}")).collect();
        for pattern in [r"(?u)\w+", "[a-z]([-a-z0-9]{0,251}[a-z0-9])?", &alternatives.join("|")] {
            assert!(Pattern::compile(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn a_value_is_read_once_and_only_until_it_is_known() {
        let pattern = Pattern::compile("/[a-z]+").ok().unwrap();
        assert_eq!(pattern.matches(b"/shop"), (true, 5));
        assert_eq!(pattern.matches(b"/1234567"), (false, 2));
        assert!(pattern.compiled_bytes() < 1024);
    }
}
