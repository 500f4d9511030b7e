//! A small client for pods: sends HTTP requests to a URL and prints what came of them as one JSON object, or checks that a port echoes.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use hyper::Method;
use mesh_tests::{
    client::{Load, Version},
    load::{self, Amount, Report},
};

/// A connect, read or write that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends HTTP requests and prints what came of them as one JSON object.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    load: Option<LoadArgs>,
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// Where to, as `http://NAME[:PORT]/PATH`; the name is resolved once.
    #[arg(required = true)]
    url: String,
    /// Requests in all; one if neither this nor a duration is given.
    #[arg(long)]
    requests: Option<u64>,
    /// How long, as 500ms, 30s or 2m.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Requests under way at once, each on a connection of its own.
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    #[arg(long)]
    http2: bool,
    /// A new connection for each request.
    #[arg(long)]
    fresh: bool,
    /// A header of each request, as `NAME: VALUE`; may be given more than once.
    #[arg(long, value_parser = header)]
    header: Vec<(String, String)>,
    /// Sends this with PUT, instead of GET and nothing.
    #[arg(long, value_name = "BODY")]
    put: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Sends a line to a port that echoes, and checks that it comes back.
    Connect {
        /// As NAME:PORT.
        target: String,
        /// The line.
        #[arg(long, default_value = "hello")]
        text: String,
    },
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli {
            command: Some(Sub::Connect { target, text }),
            ..
        } => connect(&target, &text),
        Cli { load: Some(args), .. } => send(&args),
        Cli {
            command: None,
            load: None,
        } => anyhow::bail!("a URL is missing; see --help"),
    }
}

fn send(args: &LoadArgs) -> Result<()> {
    let version = if args.http2 { Version::Http2 } else { Version::Http1 };
    let mut load = Load {
        reuse: !args.fresh,
        headers: args.header.clone(),
        ..load::to_url(&args.url, version)?
    };
    if let Some(body) = &args.put {
        load = load.method(Method::PUT).body(body.clone());
    }
    let alone = args.requests.is_none() && args.duration.is_none();
    let amount = Amount {
        requests: if alone { Some(1) } else { args.requests },
        duration: args.duration,
        concurrency: args.concurrency,
    };
    let report = Report::from(&load::run(&load, amount)?);
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn connect(target: &str, text: &str) -> Result<()> {
    let (host, port) = target
        .rsplit_once(':')
        .with_context(|| format!("{target:?} is not NAME:PORT"))?;
    let address = load::resolve(host, port.parse().with_context(|| format!("the port of {target:?}"))?)?;
    let start = Instant::now();
    let mut stream =
        TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let line = format!("{text}\n");
    stream.write_all(line.as_bytes())?;
    let mut back = vec![0; line.len()];
    stream
        .read_exact(&mut back)
        .with_context(|| format!("reading from {address}"))?;
    ensure!(
        back == line.as_bytes(),
        "{address} answered {:?}, sent was {line:?}",
        String::from_utf8_lossy(&back)
    );
    let (peer, own) = (address.to_string(), stream.local_addr()?.to_string());
    println!(
        "{}",
        serde_json::json!({"echoed": text, "peer": peer, "local": own, "took_us": start.elapsed().as_micros()})
    );
    Ok(())
}

/// A header's name and value.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("{text:?} is not NAME: VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// A number with the unit ms, s or m.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a time such as 30s"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err(format!("{text:?} has none of the units ms, s, m")),
    }
}
