//! Figures of repeated measurements, for a table and for people.

use std::time::Duration;

/// A quantile by the nearest rank; zero of nothing.
pub fn quantile(figures: &[f64], percent: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

/// `name  min … median … max unit (n runs)`.
pub fn line(name: &str, unit: &str, figures: &[f64]) -> String {
    format!(
        "{name:34} min {:9.2}  median {:9.2}  max {:9.2} {unit}  ({} runs)",
        quantile(figures, 0),
        quantile(figures, 50),
        quantile(figures, 100),
        figures.len()
    )
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let figures: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (percent, expected) in [(0, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)] {
            assert_eq!(quantile(&figures, percent), expected, "{percent}");
        }
        assert_eq!((quantile(&[7.0], 99), quantile(&[], 50)), (7.0, 0.0));
    }
}
