//! Round robin: every ready endpoint in turn, over all workers.

/// The order in which `count` endpoints are tried, each once, when the cursor stood at `turn`.
pub(crate) fn order(turn: usize, count: usize) -> impl Iterator<Item = usize> {
    // with no endpoints the range is empty and the division never happens
    (0..count).map(move |step| (turn % count + step) % count)
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn each_endpoint_once_from_the_cursor_on() {
        for (turn, count, expected) in [
            (0, 3, vec![0, 1, 2]),
            (1, 3, vec![1, 2, 0]),
            (5, 3, vec![2, 0, 1]),
            (usize::MAX, 2, vec![1, 0]),
            (7, 1, vec![0]),
            (7, 0, vec![]),
        ] {
            assert_eq!(order(turn, count).collect::<Vec<_>>(), expected, "{turn} of {count}");
        }
    }

    #[test]
    fn a_thousand_turns_are_even() {
        let mut counts = [0; 3];
        for turn in 0..1000 {
            counts[order(turn, 3).next().unwrap()] += 1;
        }
        assert_eq!(counts, [334, 333, 333]);
    }
}
