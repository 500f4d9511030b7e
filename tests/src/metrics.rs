//! What `/metrics` said at one moment, in a form that questions can be asked of (Prometheus text format, version 0.0.4).

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// One scrape, or the difference between two.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<Key, f64>,
}

type Key = (String, BTreeMap<String, String>);
/// Label names and the values they must have.
pub type Filter<'a> = &'a [(&'a str, &'a str)];

impl Metrics {
    /// Reads the text format.
    ///
    /// # Errors
    /// If a line is not of that format.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).with_context(|| format!("metric line {line:?}")));
        Ok(Self {
            samples: samples.collect::<Result<_>>()?,
        })
    }

    /// The sum of all series of a name whose labels match.
    pub fn sum(&self, name: &str, filter: Filter<'_>) -> f64 {
        self.matching(name, filter).map(|(_, value)| value).sum()
    }

    /// Whether there is a series of this name.
    pub fn has(&self, name: &str) -> bool {
        self.matching(name, &[]).next().is_some()
    }

    /// Sums by the values of one label.
    pub fn by(&self, name: &str, label: &str, filter: Filter<'_>) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for (labels, value) in self.matching(name, filter) {
            *sums
                .entry(labels.get(label).cloned().unwrap_or_default())
                .or_insert(0.0) += value;
        }
        sums
    }

    /// A quantile of a histogram, interpolated within its bucket as PromQL's `histogram_quantile` does. None without observations.
    pub fn quantile(&self, name: &str, quantile: f64, filter: Filter<'_>) -> Option<f64> {
        let mut buckets: Vec<(f64, f64)> = self
            .by(&format!("{name}_bucket"), "le", filter)
            .into_iter()
            .filter_map(|(le, count)| Some((le.parse().ok()?, count)))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rank = quantile * buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let mut below = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= rank {
                if bound.is_infinite() {
                    return Some(below.0);
                }
                return Some(below.0 + (bound - below.0) * (rank - below.1) / (count - below.1));
            }
            below = (bound, count);
        }
        None
    }

    /// What was added since an earlier scrape.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |key| earlier.samples.get(key).copied().unwrap_or_default();
        Self {
            samples: self
                .samples
                .iter()
                .map(|(key, value)| (key.clone(), value - before(key)))
                .collect(),
        }
    }

    /// Both together: the sum over daemons.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (key, value) in &other.samples {
            *self.samples.entry(key.clone()).or_insert(0.0) += value;
        }
        self
    }

    fn matching<'a>(
        &'a self,
        name: &str,
        filter: Filter<'a>,
    ) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
        let from = (name.to_owned(), BTreeMap::new());
        let name = name.to_owned();
        self.samples
            .range(from..)
            .take_while(move |((own, _), _)| *own == name)
            .filter(|((_, labels), _)| {
                filter
                    .iter()
                    .all(|(key, value)| labels.get(*key).is_some_and(|own| own == value))
            })
            .map(|((_, labels), value)| (labels, *value))
    }
}

fn sample(line: &str) -> Result<(Key, f64)> {
    let (series, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = labels(rest)?;
            ((name.to_owned(), labels), value)
        }
        None => {
            let (name, value) = line.split_once(' ').context("no value")?;
            ((name.to_owned(), BTreeMap::new()), value)
        }
    };
    let value = rest.split_whitespace().next().context("no value")?;
    Ok((series, value.parse()?))
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str)> {
    let mut found = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((found, after));
        }
        let (name, after) = rest.split_once("=\"").context("no label value")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().context("no end of a label value")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next().context("nothing after a backslash")?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        found.insert(name.to_owned(), value);
        rest = &after[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a b\na{x=\"1\",y=\"p\"} 2\na{x=\"2\",y=\"q\\\"}\"} 3\nab 7\n\
        d_bucket{le=\"0.1\"} 5\nd_bucket{le=\"0.2\"} 10\nd_bucket{le=\"+Inf\"} 10\nd_count 10\n";

    #[test]
    fn sums_by_labels() {
        let metrics = Metrics::parse(TEXT).unwrap();
        for (name, filter, expected) in [
            ("a", &[][..], 5.0),
            ("a", &[("x", "1")], 2.0),
            ("a", &[("y", "q\"}")], 3.0),
            ("a", &[("z", "1")], 0.0),
            ("ab", &[], 7.0),
            ("none", &[], 0.0),
        ] {
            assert!((metrics.sum(name, filter) - expected).abs() < 1e-9, "{name} {filter:?}");
        }
        assert_eq!(metrics.by("a", "x", &[]).len(), 2);
        assert!(Metrics::parse("a{x=1} 2").is_err());
        assert!(Metrics::parse("a").is_err());
    }

    #[test]
    fn quantiles_are_interpolated() {
        let metrics = Metrics::parse(TEXT).unwrap();
        for (quantile, expected) in [(0.5, 0.1), (0.75, 0.15), (0.25, 0.05)] {
            let found = metrics.quantile("d", quantile, &[]).unwrap();
            assert!((found - expected).abs() < 1e-9, "{quantile}: {found}");
        }
        assert!(metrics.since(&metrics).quantile("d", 0.5, &[]).is_none());
    }
}
