//! `PeakEwma`: of two random endpoints the one where the next request is expected to be answered sooner: latency × (in flight + 1).
//! [`crate::proxy::live`] keeps the latency and says where the idea comes from.

use super::{Choice, power_of_two};

/// Of two usable endpoints the one with the lower cost.
pub(super) fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let (endpoints, now) = (choice.endpoints, choice.now);
    power_of_two::cheaper(choice, |index| endpoints[index].cost(now))
}
