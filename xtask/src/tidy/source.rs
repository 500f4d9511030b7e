//! One source file as tidy sees it: the paths that it names, its functions, and which lines are tests.

use std::{collections::BTreeMap, ops::RangeInclusive};

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::{
    Attribute, ImplItemFn, Item, ItemFn, Meta, TraitItemFn,
    visit::{self, Visit},
};

/// One file.
pub(super) struct Source {
    /// From the workspace's root.
    pub(super) path: String,
    /// Its lines' number.
    pub(super) lines: usize,
    /// Its first line.
    pub(super) first_line: String,
    /// Every path of at least two segments, and every imported one; the file's own imports are resolved.
    pub(super) names: Vec<Name>,
    /// Every function with a body.
    pub(super) functions: Vec<Function>,
    /// `mod x;` lines, in order.
    pub(super) modules: Vec<(String, usize)>,
}

/// A path such as `std::fs::read`, where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// Inside test code.
    pub(super) in_test: bool,
}

/// A function and how many lines it takes, signature and braces included.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// Methods that spawn whatever they are called on; named as the path `.` `spawn_local`.
const SPAWNING_METHODS: [&str; 2] = ["spawn_local", "spawn_blocking"];

impl Source {
    /// Reads what the rules ask about.
    ///
    /// # Errors
    /// If it is not Rust.
    pub(super) fn parse(path: String, text: &str) -> Result<Self> {
        let file = syn::parse_file(text).map_err(|error| anyhow!("{path}: {error}"))?;
        let stream: TokenStream = text.parse().map_err(|error| anyhow!("{path}: {error}"))?;
        let mut items = Items::default();
        items.visit_file(&file);
        let all_test = file.attrs.iter().any(is_test) || is_test_path(&path);
        let in_test = |line: usize| all_test || items.tests.iter().any(|lines| lines.contains(&line));
        let mut scanner = Scanner::default();
        scanner.scan(stream);
        let names = scanner
            .resolved()
            .map(|(segments, line)| Name {
                segments,
                line,
                in_test: in_test(line),
            })
            .collect();
        Ok(Self {
            names,
            lines: text.lines().count(),
            first_line: text.lines().next().unwrap_or_default().to_owned(),
            functions: items.functions,
            modules: items.modules,
            path,
        })
    }

    /// The room of mesh-daemon that this file belongs to: its first folder or its own name; none for other crates and `lib.rs`.
    pub(super) fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("mesh-daemon/src/")?;
        let room = inside.split('/').next()?;
        let room = room.strip_suffix(".rs").unwrap_or(room);
        (room != "lib").then_some(room)
    }

    /// How many modules deep this file's items are: 1 for `bpf/mod.rs`, 2 for `bpf/pins.rs`.
    pub(super) fn depth(&self) -> usize {
        let inside = self.path.split_once("/src/").map_or("", |(_, inside)| inside);
        let folders = inside.matches('/').count();
        if inside.ends_with("mod.rs") || inside == "lib.rs" || inside == "main.rs" {
            folders
        } else {
            folders + 1
        }
    }
}

/// A sibling file of tests, as `#[cfg(test)] mod tests;` names it.
fn is_test_path(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

#[derive(Default)]
struct Items {
    functions: Vec<Function>,
    modules: Vec<(String, usize)>,
    tests: Vec<RangeInclusive<usize>>,
}

impl Items {
    fn function(&mut self, attributes: &[Attribute], signature: &syn::Signature, block: &syn::Block) {
        let line = signature.fn_token.span.start().line;
        let end = block.brace_token.span.close().end().line;
        self.functions.push(Function {
            name: signature.ident.to_string(),
            line,
            lines: end + 1 - line,
        });
        self.test_lines(attributes, line, end);
    }

    fn test_lines(&mut self, attributes: &[Attribute], start: usize, end: usize) {
        if attributes.iter().any(is_test) {
            self.tests.push(start..=end);
        }
    }
}

impl<'ast> Visit<'ast> for Items {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) => {
                let line = module.mod_token.span.start().line;
                match &module.content {
                    Some((brace, _)) => self.test_lines(&module.attrs, line, brace.span.close().end().line),
                    None if !module.attrs.iter().any(is_test) => self.modules.push((module.ident.to_string(), line)),
                    None => {}
                }
            }
            Item::Impl(block) => {
                let line = block.impl_token.span.start().line;
                self.test_lines(&block.attrs, line, block.brace_token.span.close().end().line);
            }
            Item::Use(line) => {
                let (start, end) = (line.use_token.span.start().line, line.semi_token.span.end().line);
                self.test_lines(&line.attrs, start, end);
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.attrs, &item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.attrs, &item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.attrs, &item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`; not `any(test, …)`, which is built without tests, too.
fn is_test(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let words = list.tokens.to_string().replace(' ', "");
            words == "test" || words.starts_with("all(test,") || words.starts_with("all(test)")
        }
        meta => meta.path().segments.last().is_some_and(|last| last.ident == "test"),
    }
}

/// Finds paths in the tokens, so that those inside macros are seen as well.
#[derive(Default)]
struct Scanner {
    found: Vec<(Vec<String>, usize)>,
    /// What an import calls something → its full path.
    imports: BTreeMap<String, Vec<String>>,
}

impl Scanner {
    fn scan(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => {
                    self.scan(group.stream());
                    at += 1;
                }
                TokenTree::Ident(word) if word == "use" => at = self.path(&tokens, at + 1, &[], true),
                TokenTree::Ident(word) if at > 0 && is_punct(&tokens, at - 1, '.') => {
                    if SPAWNING_METHODS.iter().any(|method| word == method) {
                        self.found
                            .push((vec![".".into(), word.to_string()], word.span().start().line));
                    }
                    at += 1;
                }
                TokenTree::Ident(_) => at = self.path(&tokens, at, &[], false),
                _ => at += 1,
            }
        }
    }

    /// Reads one path from `at` on, and returns where it ends.
    fn path(&mut self, tokens: &[TokenTree], mut at: usize, prefix: &[String], import: bool) -> usize {
        let mut segments = prefix.to_vec();
        let mut line = None;
        if is_separator(tokens, at) {
            at += 2;
        }
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(word)) => {
                    line.get_or_insert(word.span().start().line);
                    segments.push(word.to_string());
                }
                Some(TokenTree::Punct(star)) if star.as_char() == '*' && import => {
                    line.get_or_insert(star.span().start().line);
                    segments.push("*".into());
                }
                Some(TokenTree::Group(group))
                    if group.delimiter() == Delimiter::Brace && (import || segments.len() > prefix.len()) =>
                {
                    self.group(group, &segments);
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
            if !is_separator(tokens, at) {
                break;
            }
            at += 2;
        }
        self.end(tokens, at, segments, line, import)
    }

    /// Notes a path that ends before `at`; an import may give it another name there.
    fn end(
        &mut self,
        tokens: &[TokenTree],
        at: usize,
        mut segments: Vec<String>,
        line: Option<usize>,
        import: bool,
    ) -> usize {
        let Some(line) = line else { return at };
        if import && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let renamed = match (tokens.get(at), tokens.get(at + 1)) {
            (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name))) if import && word == "as" => {
                Some(name.to_string())
            }
            _ => None,
        };
        let end = if renamed.is_some() { at + 2 } else { at };
        if import && let Some(name) = renamed.or_else(|| segments.last().cloned()) {
            self.imports.insert(name, segments.clone());
        }
        if import || segments.len() > 1 {
            self.found.push((segments, line));
        }
        end
    }

    /// The branches of `use prefix::{…}`.
    fn group(&mut self, group: &Group, prefix: &[String]) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = if is_punct(&tokens, at, ',') {
                at + 1
            } else {
                self.path(&tokens, at, prefix, true).max(at + 1)
            };
        }
    }

    /// The paths with the file's own imports put in for their first segment.
    fn resolved(&self) -> impl Iterator<Item = (Vec<String>, usize)> {
        self.found.iter().map(|(segments, line)| {
            let full = match self.imports.get(&segments[0]) {
                Some(import) if import != segments => import.iter().chain(&segments[1..]).cloned().collect(),
                _ => segments.clone(),
            };
            (full, *line)
        })
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, wanted: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let source = Source::parse("mesh-daemon/src/x.rs".into(), text).unwrap();
        source.names.iter().map(|name| name.segments.join("::")).collect()
    }

    #[test]
    fn paths_are_found_wherever_they_stand() {
        for (text, expected) in [
            ("use std::fs;", vec!["std::fs"]),
            (
                "use std::{env, io::{self, Read}};",
                vec!["std::env", "std::io", "std::io::Read"],
            ),
            ("use crate::{addr::Addr, *};", vec!["crate::addr::Addr", "crate::*"]),
            (
                "use tokio::task as jobs; fn f() { jobs::spawn(x) }",
                vec!["tokio::task", "tokio::task::spawn"],
            ),
            (
                "fn f() { println!(\"{}\", std::env::args().count()); }",
                vec!["std::env::args"],
            ),
            ("fn f() { set.spawn_local(x) }", vec![".::spawn_local"]),
            ("fn f() -> Vec<u8> { x.iter().collect::<Vec<_>>() }", vec![]),
            ("type T = ::std::fs::File;", vec!["std::fs::File"]),
            ("use {std::fs, std::env};", vec!["std::fs", "std::env"]),
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn test_code_is_known() {
        for (text, expected) in [
            ("#[cfg(test)]\nmod tests {\n use std::fs;\n}", true),
            ("#[cfg(all(test, unix))]\nmod tests {\n use std::fs;\n}", true),
            ("#[test]\nfn f() { std::fs::read(x); }", true),
            ("#[cfg(test)]\nuse std::fs;", true),
            ("#[cfg(any(test, unix))]\nmod m {\n use std::fs;\n}", false),
            ("#[cfg(not(test))]\nfn f() { std::fs::read(x); }", false),
            ("mod tests {\n use std::fs;\n}", false),
        ] {
            let source = Source::parse("mesh-daemon/src/x.rs".into(), text).unwrap();
            assert_eq!(source.names[0].in_test, expected, "{text}");
        }
    }

    #[test]
    fn rooms_and_depths() {
        for (path, room, depth) in [
            ("mesh-daemon/src/bpf/mod.rs", Some("bpf"), 1),
            ("mesh-daemon/src/bpf/pins.rs", Some("bpf"), 2),
            ("mesh-daemon/src/drain.rs", Some("drain"), 1),
            ("mesh-daemon/src/main.rs", Some("main"), 0),
            ("mesh-daemon/src/lib.rs", None, 0),
            ("mesh-common/src/addr.rs", None, 1),
        ] {
            let source = Source::parse(path.into(), "").unwrap();
            assert_eq!((source.room(), source.depth()), (room, depth), "{path}");
        }
    }
}
