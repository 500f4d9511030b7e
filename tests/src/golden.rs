//! Golden cases: Kubernetes manifests and facts about a node in, the snapshot and the kernel's tables out, as text. They are the model's
//! specification, and run against plain maps here and against the kernel's own in the namespace ring.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mesh_daemon::{
    bpf::{self, table::Table},
    ids::NodeName,
    model::{self, Content, Facts, Inputs, Link, LinkKind},
    watch::{self, manifest},
};
use serde::Deserialize;

/// One directory of `tests/golden/`.
#[derive(Debug)]
pub struct Case {
    /// The directory's name.
    pub name: String,
    /// The directory.
    pub directory: PathBuf,
    /// What its manifests and facts say.
    pub inputs: Inputs,
    /// What the model makes of it.
    pub content: Content,
}

/// Every case, by name.
///
/// # Errors
/// If one cannot be read.
pub fn cases() -> Result<Vec<Case>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut directories = fs::read_dir(&root)
        .with_context(|| format!("reading {}", root.display()))?
        .map(|entry| Ok(entry?.path()))
        .filter(|path| path.as_ref().map_or(true, |path| path.is_dir()))
        .collect::<Result<Vec<_>>>()?;
    directories.sort();
    directories.into_iter().map(Case::read).collect()
}

impl Case {
    /// What the case's facts and the manifests of another directory say.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn with_manifests(&self, manifests: &Path) -> Result<Inputs> {
        inputs(&self.directory.join("facts.yaml"), manifests)
    }

    /// The case's own manifests.
    pub fn manifests(&self) -> PathBuf {
        self.directory.join("manifests")
    }

    /// The snapshot as text; files are named as seen from the case.
    pub fn snapshot(&self) -> String {
        model::dump(&self.content).replace(&format!("{}/", self.directory.display()), "")
    }

    /// The kernel's tables as text.
    pub fn maps(&self) -> String {
        model::dump_tables(&self.content.tables)
    }

    fn read(directory: PathBuf) -> Result<Self> {
        let name = directory.file_name().context("a directory has a name")?;
        let name = name.to_string_lossy().into_owned();
        let inputs = inputs(&directory.join("facts.yaml"), &directory.join("manifests"))
            .with_context(|| format!("golden case {name}"))?;
        Ok(Self {
            name,
            directory,
            content: model::build(&inputs),
            inputs,
        })
    }
}

/// Compares with the file, line by line; with `bless` writes it instead.
///
/// # Errors
/// If it differs, naming the lines, or is missing.
pub fn compare(file: &Path, actual: &str, bless: bool) -> Result<()> {
    if bless {
        return fs::write(file, actual).with_context(|| format!("writing {}", file.display()));
    }
    let expected = fs::read_to_string(file)
        .with_context(|| format!("{} is missing: run with WEFT_BLESS=1, then read it", file.display()))?;
    ensure!(
        expected == actual,
        "{} differs (- expected, + actual; WEFT_BLESS=1 accepts):\n{}",
        file.display(),
        differences(&expected, actual)
    );
    Ok(())
}

/// A map without a kernel.
#[derive(Debug, Default)]
pub struct FakeTable<K, V>(pub BTreeMap<K, V>);

impl<K: Ord + Clone, V: Clone> Table<K, V> for FakeTable<K, V> {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn capacity(&self) -> u32 {
        u32::MAX
    }

    fn read(&self) -> Result<BTreeMap<K, V>, bpf::Error> {
        Ok(self.0.clone())
    }

    fn upsert(&mut self, key: &K, value: &V) -> Result<(), bpf::Error> {
        self.0.insert(key.clone(), value.clone());
        Ok(())
    }

    fn delete(&mut self, key: &K) -> Result<(), bpf::Error> {
        self.0.remove(key);
        Ok(())
    }
}

/// `facts.yaml`: the node's name, settings, and what its kernel says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FactsFile {
    node: String,
    #[serde(default)]
    pod_cidrs: Vec<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    links: Vec<LinkEntry>,
    #[serde(default)]
    on_link: BTreeMap<IpAddr, u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkEntry {
    index: u32,
    name: String,
    kind: KindEntry,
    #[serde(default)]
    master: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindEntry {
    Loopback,
    Bridge,
    Ethernet,
    NoLinkLayer,
}

fn inputs(facts: &Path, manifests: &Path) -> Result<Inputs> {
    let file: FactsFile =
        serde_yaml_ng::from_str(&fs::read_to_string(facts).with_context(|| format!("reading {}", facts.display()))?)?;
    let options = watch::Options {
        node: NodeName(file.node.clone()),
        pod_cidrs: file
            .pod_cidrs
            .iter()
            .map(|range| range.parse())
            .collect::<Result<_, _>>()?,
        debounce_after: Duration::ZERO,
        debounce_max: Duration::ZERO,
    };
    Ok(manifest::read_dir(manifests)?.inputs(&options, &file.facts()))
}

impl FactsFile {
    fn facts(self) -> Facts {
        let links = self.links.into_iter().map(|link| {
            let kind = match link.kind {
                KindEntry::Loopback => LinkKind::Loopback,
                KindEntry::Bridge => LinkKind::Bridge,
                KindEntry::Ethernet => LinkKind::Ethernet,
                KindEntry::NoLinkLayer => LinkKind::NoLinkLayer,
            };
            let (name, master) = (link.name, link.master);
            (link.index, Link { name, kind, master })
        });
        Facts {
            node_addresses: self.addresses.into_iter().collect(),
            links: links.collect(),
            on_link: self.on_link,
        }
    }
}

/// Lines of one text that the other has not, in order. Dumps are sorted, so this reads like a diff.
fn differences(expected: &str, actual: &str) -> String {
    let only = |sign: char, of: &str, other: &str| -> String {
        of.lines()
            .filter(|line| !other.lines().any(|known| known == *line))
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    let lines = only('-', expected, actual) + &only('+', actual, expected);
    if lines.is_empty() {
        format!("the same lines, in another order or number:\n{actual}")
    } else {
        lines
    }
}
