//! `LeastRequest`: the fewest requests in flight of all usable endpoints; among equals a random one.

use super::Choice;

/// A usable endpoint with the least in flight. Nearly always one of the first walk's is usable: then only that one was asked.
pub(super) fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let (least, equals) = least(choice)?;
    let nth = choice.rng.usize(..equals);
    let mut with_least = (0..choice.endpoints.len()).filter(|&index| choice.endpoints[index].load() == least);
    let drawn = with_least.nth(nth).filter(|&index| (choice.usable)(index));
    drawn.or_else(|| among_usable(choice))
}

/// The least in flight at any endpoint, and how many have that.
fn least(choice: &Choice<'_>) -> Option<(u32, usize)> {
    let mut loads = choice.endpoints.iter().map(|endpoint| endpoint.load());
    let first = loads.next()?;
    Some(loads.fold((first, 1), |(least, equals), load| {
        if load < least {
            (load, 1)
        } else {
            (least, equals + usize::from(load == least))
        }
    }))
}

/// As if the others were not there: the equals of the lowest load are drawn from in one walk.
fn among_usable(choice: &mut Choice<'_>) -> Option<usize> {
    let mut least = u32::MAX;
    let (mut chosen, mut equals) = (None, 0);
    for (index, endpoint) in choice.endpoints.iter().enumerate() {
        let load = endpoint.load();
        if load > least || !(choice.usable)(index) {
            continue;
        }
        equals = if load < least { 1 } else { equals + 1 };
        least = load;
        if choice.rng.usize(..equals) == 0 {
            chosen = Some(index);
        }
    }
    chosen
}
