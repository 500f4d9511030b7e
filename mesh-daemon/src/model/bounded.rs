//! What fits into a kernel map, and what does not.

use std::collections::BTreeSet;

use super::SetAside;

/// The first `max` entries in order; the rest does not fit into the kernel's map and is set aside in one sentence.
pub(super) fn bounded<T: Ord>(
    what: &str,
    max: u32,
    entries: impl Iterator<Item = T>,
    set_aside: &mut BTreeSet<SetAside>,
) -> BTreeSet<T> {
    let mut entries: BTreeSet<T> = entries.collect();
    let excess = entries.len().saturating_sub(max as usize);
    if excess > 0 {
        for _ in 0..excess {
            entries.pop_last();
        }
        set_aside.insert(SetAside {
            kind: "Map".to_owned(),
            name: what.to_owned(),
            reason: "map_full",
            detail: format!("{excess} {what} beyond the {max} that the kernel's map holds are not captured"),
        });
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_set_aside_and_the_rest_stays() {
        let mut set_aside = BTreeSet::new();
        assert_eq!(bounded("things", 3, 0..3, &mut set_aside), (0..3).collect());
        assert!(set_aside.is_empty());
        assert_eq!(bounded("things", 3, 0..5, &mut set_aside), (0..3).collect());
        assert_eq!(set_aside.first().map(|aside| aside.reason), Some("map_full"));
    }
}
