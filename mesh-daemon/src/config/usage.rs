//! The command line → an [`Invocation`], or the text and exit status to [`Stop`] with.

use std::{collections::BTreeSet, ffi::OsString, path::Path, process::ExitCode};

use clap::{
    ArgMatches, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use super::{
    ConfigError, KernelSettings, LogSettings, Question, Settings, Source, Subject,
    args::{Cli, DetachArgs, LogArgs, Sub},
    check::{self, About, Host},
};
use crate::{print, telemetry::LogFormat};

/// Exit status for a wrong flag or value, as getopt's users have it; 1 is for failures at run time.
const EXIT_USAGE: u8 = 2;

/// The subcommands that ask about Services.
const QUESTIONS: [&str; 3] = ["routes", "endpoints", "policy"];
const ROUTES: About = About {
    one: Subject::RoutesOf,
    namespace: Subject::RoutesIn,
    all: Subject::Routes,
};
const POLICIES: About = About {
    one: Subject::Policy,
    namespace: Subject::PoliciesIn,
    all: Subject::Policies,
};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What is logged.
    pub log: LogSettings,
    /// What to do.
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the daemon.
    Run(Box<Settings>),
    /// Remove everything from the node's kernel.
    Detach(Box<KernelSettings>),
    /// Ask the running daemon.
    Ask(Box<Question>),
}

/// Nothing to do but to print and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Help or version, for stdout.
    Asked(String),
    /// One line for stderr.
    Wrong(String),
}

impl Stop {
    /// Prints, and says the exit status.
    pub fn print(&self) -> ExitCode {
        match self {
            Self::Asked(text) => match print::answer(text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            },
            Self::Wrong(line) => {
                print::complaint(line);
                ExitCode::from(EXIT_USAGE)
            }
        }
    }
}

/// Every flag, variable and text of the command line, for whoever checks a manifest against it.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Reads this process's command line and environment.
///
/// # Errors
/// If help was asked for, or something is wrong.
pub fn command_line() -> Result<Invocation, Stop> {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    let host_name = nix::sys::utsname::uname().map(|uts| uts.nodename().to_string_lossy().into_owned());
    let host = Host {
        node_name: std::env::var("NODE_NAME").ok(),
        host_name: host_name.unwrap_or_default(),
        cpus,
        rust_log: std::env::var("RUST_LOG").ok(),
        in_cluster: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty()),
        variables: std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect(),
    };
    let invocation = parse(std::env::args_os(), &host)?;
    places(&invocation.command).map_err(|e| Stop::Wrong(e.to_string()))?;
    Ok(invocation)
}

/// Pure but for the variables that clap reads itself.
pub(super) fn parse<I>(words: I, host: &Host) -> Result<Invocation, Stop>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    let read = |words: &[OsString]| {
        let mut matches = Cli::command().try_get_matches_from(words)?;
        Ok((written(&matches), Cli::from_arg_matches_mut(&mut matches)?))
    };
    let (written, cli) = read(&words).map_err(|e| stop(&e, &words, &host.variables))?;
    let one = written.map_or(Ok(()), |(service, flag)| check::one_namespace(&service, &flag));
    one.and_then(|()| invocation(cli, host))
        .map_err(|e| Stop::Wrong(e.to_string()))
}

/// The Service and the namespace of a question, if both stand on the command line.
fn written(matches: &ArgMatches) -> Option<(String, String)> {
    let (_, of_question) = matches.subcommand().filter(|(name, _)| QUESTIONS.contains(name))?;
    let flag = of_question.get_one::<String>("namespace")?;
    let is_written = of_question.value_source("namespace") == Some(ValueSource::CommandLine);
    let service = of_question.get_one::<String>("service").filter(|_| is_written)?;
    Some((service.clone(), flag.clone()))
}

fn invocation(cli: Cli, host: &Host) -> Result<Invocation, ConfigError> {
    let run = match cli.command {
        None => cli.run,
        Some(Sub::Run(run)) => *run,
        Some(Sub::Detach(DetachArgs { kernel, log })) => {
            let command = Command::Detach(Box::new(check::kernel(kernel)?));
            return Ok(Invocation {
                log: check::log(log, host)?,
                command,
            });
        }
        Some(Sub::Routes(args)) => return ask(check::of_services(args, ROUTES)?, host),
        Some(Sub::Endpoints(args)) => return ask(check::endpoints(args)?, host),
        Some(Sub::Policy(args)) => return ask(check::of_services(args, POLICIES)?, host),
    };
    let log = check::log(run.log.clone(), host)?;
    Ok(Invocation {
        log,
        command: Command::Run(Box::new(check::run(run, host)?)),
    })
}

/// A question logs as the daemon does unless told otherwise; it has no flags for that, since it has nothing to log.
fn ask(question: Question, host: &Host) -> Result<Invocation, ConfigError> {
    let log = LogArgs {
        log_level: None,
        log_format: LogFormat::Text,
    };
    Ok(Invocation {
        log: check::log(log, host)?,
        command: Command::Ask(Box::new(question)),
    })
}

/// What only a look at the file system shows. A directory that is not there yet may come, so it is no error here.
fn places(command: &Command) -> Result<(), ConfigError> {
    match command {
        Command::Run(settings) => match &settings.source {
            Source::Manifests(path) if path.is_file() => Err(ConfigError::ManifestsFile(path.clone())),
            Source::Manifests(_) => Ok(()),
            Source::Cluster { state_dir, .. } if state_dir.is_file() => Err(ConfigError::StateFile(state_dir.clone())),
            Source::Cluster { kubeconfig, .. } => kubeconfig.as_deref().map_or(Ok(()), readable),
        },
        Command::Detach(_) | Command::Ask(_) => Ok(()),
    }
}

/// A kubeconfig that is not there is a slip of the hand, and no API server to wait for.
fn readable(kubeconfig: &Path) -> Result<(), ConfigError> {
    if kubeconfig.is_dir() {
        return Err(ConfigError::KubeconfigDirectory(kubeconfig.to_owned()));
    }
    match std::fs::File::open(kubeconfig) {
        Ok(_) => Ok(()),
        Err(error) => Err(ConfigError::Kubeconfig {
            path: kubeconfig.to_owned(),
            what: error.to_string(),
        }),
    }
}

/// clap explains itself in several paragraphs; a log and a pod's termination message want one line. The first paragraph says what is
/// wrong, lines that begin with `tip:` what to do.
fn stop(error: &clap::Error, words: &[OsString], variables: &BTreeSet<String>) -> Stop {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Stop::Asked(error.to_string());
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (what, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut line = what.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(variable) = variable_behind(error, words, variables) {
        line.push_str("; the value comes from the variable ");
        line.push_str(&variable);
    }
    for tip in rest.lines().filter_map(|line| line.trim().strip_prefix("tip: ")) {
        line.push_str("; ");
        line.push_str(tip.trim());
    }
    line.push_str("; see `mesh-daemon --help`");
    Stop::Wrong(line)
}

/// The variable that the wrong value came from: clap names the flag even if nobody wrote it.
fn variable_behind(error: &clap::Error, words: &[OsString], variables: &BTreeSet<String>) -> Option<String> {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    // `--workers <N>`
    let flag = arg.split_whitespace().next()?;
    let with_value = format!("{flag}=");
    let written = words.iter().any(|word| {
        let word = word.to_string_lossy();
        word == flag || word.starts_with(&with_value)
    });
    let name = flag.strip_prefix("--")?.replace('-', "_").to_uppercase();
    let variable = format!("WEFT_{name}");
    (!written && variables.contains(&variable)).then_some(variable)
}

#[cfg(test)]
mod tests;
