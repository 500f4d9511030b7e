//! What the help says, and that it keeps its promises.

use super::*;

#[test]
fn ports_that_the_kernel_chooses_do_not_clash() {
    settings("--manifests /m --metrics-addr 127.0.0.1:0 --health-addr 127.0.0.1:0");
}

#[test]
fn help_and_version_are_not_errors() {
    for (line, part) in [
        ("--help", "EXIT STATUS"),
        ("-h", "--help"),
        ("detach --help", "nftables"),
        ("--version", "0."),
        ("help", "EXIT STATUS"),
        ("help detach", "nftables"),
        ("routes --help", "ruleName"),
        ("endpoints --help", "latencyMs"),
        ("policy --help", "ruleName"),
    ] {
        let Err(Stop::Asked(text)) = parse(words(line), &host()) else {
            panic!("{line}")
        };
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn every_flag_has_the_variable_that_the_help_promises() {
    let root = Cli::command();
    let commands = std::iter::once(&root).chain(root.get_subcommands());
    for arg in commands.flat_map(clap::Command::get_arguments) {
        let Some(long) = arg.get_long().filter(|long| !matches!(*long, "help" | "version")) else {
            continue;
        };
        let expected = format!("WEFT_{}", long.replace('-', "_").to_uppercase());
        assert_eq!(
            arg.get_env().and_then(|name| name.to_str()),
            Some(expected.as_str()),
            "{long}"
        );
    }
}

/// `WEFT_BLESS=1 cargo test -p mesh-daemon` rewrites the file.
#[test]
fn the_help_text_is_as_reviewed() {
    let text = Cli::command().term_width(100).render_long_help().to_string();
    if std::env::var_os("WEFT_BLESS").is_some() {
        std::fs::write(HELP_GOLDEN, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(HELP_GOLDEN).unwrap(),
        text,
        "bless with WEFT_BLESS=1 if this is meant"
    );
    let too_wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(too_wide.is_empty(), "{too_wide:#?}");
}
