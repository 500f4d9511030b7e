//! The Gateway API's conformance suite for meshes, on a real cluster: once for pods that are not captured and once for pods that are. What passes
//! without a mesh says nothing about the mesh, so the two columns stand side by side.

mod report;
mod results;
mod run;
mod table;

use std::{fmt, fs, path::PathBuf};

use anyhow::{Context, Result};

/// What is run, and where its results go.
#[derive(Clone, Debug)]
pub struct Options {
    /// The build of `cargo xtask conformance`: the suite's program, and the API's CRDs.
    pub suite: PathBuf,
    /// Archives that every node has: of pause, the suite's pods and the daemon.
    pub images: Vec<PathBuf>,
    /// The folder in which reports and logs stay.
    pub results: PathBuf,
    /// Only this test of the suite.
    pub test: Option<String>,
    /// Only this column.
    pub column: Option<Column>,
}

/// A run of the suite, and so a column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Column {
    /// The daemons run, and the suite's namespaces do not ask for capture: what Kubernetes does by itself
    NotCaptured,
    /// The suite's namespaces have the label
    Captured,
}

impl Column {
    const ALL: [Self; 2] = [Self::NotCaptured, Self::Captured];

    /// How its files begin.
    fn file_name(self) -> &'static str {
        match self {
            Self::NotCaptured => "not-captured",
            Self::Captured => "captured",
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCaptured => "not captured",
            Self::Captured => "captured",
        })
    }
}

/// Makes the columns, each on a cluster of its own, and prints the table. Tests that fail are results and no error.
///
/// # Errors
/// If a cluster does not come up, or the suite comes to no end or gives no report. What was there by then is printed first.
pub fn conform(options: &Options) -> Result<()> {
    let results = &options.results;
    fs::create_dir_all(results).with_context(|| results.display().to_string())?;
    let mut runs = Vec::new();
    let mut fault = None;
    for column in Column::ALL {
        if options.column.is_some_and(|only| only != column) {
            continue;
        }
        match run::run(options, column) {
            Ok(run) => {
                fault = fault.or(run.is_of(column).err());
                runs.push((column, run));
            }
            Err(error) => {
                fault = Some(error.context(format!("the run {column}")));
                break;
            }
        }
    }
    if !runs.is_empty() {
        println!("\n{}", table::table(&runs));
    }
    println!(
        "The suite's reports and logs, and the daemons' logs, are in {}.",
        results.display()
    );
    fault.map_or(Ok(()), Err)
}
