//! The last valid spec of a TrafficPolicy: one that does not hold never replaces it, as long as it is the same object.

use crate::model::TrafficPolicy;

/// Hands the last valid spec on from what was known of a policy to what is known now; says whether that changed anything. A policy that was
/// deleted and made again under its name is another one, which its creation time tells.
pub(super) fn inherit(now: &mut TrafficPolicy, before: &TrafficPolicy) -> bool {
    if now.invalid.is_none() || now.valid.is_some() || now.created != before.created {
        return false;
    }
    now.valid.clone_from(&before.valid);
    now.valid.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PolicySpec, ValidPolicy};

    fn policy(created: i64, invalid: Option<&str>, valid: Option<i64>) -> TrafficPolicy {
        TrafficPolicy {
            generation: 9,
            created: Some(created),
            targets: Vec::new(),
            invalid: invalid.map(str::to_owned),
            valid: valid.map(|generation| ValidPolicy {
                generation,
                targets: Vec::new(),
                spec: PolicySpec::default(),
            }),
        }
    }

    #[test]
    fn only_what_does_not_hold_inherits_and_only_of_the_same_object() {
        for (now, before, expected) in [
            (policy(1, Some("wrong"), None), policy(1, None, Some(3)), Some(3)),
            (
                policy(1, Some("wrong"), None),
                policy(1, Some("wrong before"), Some(2)),
                Some(2),
            ),
            (
                policy(1, Some("wrong"), None),
                policy(1, Some("never right"), None),
                None,
            ),
            (policy(1, Some("wrong"), None), policy(0, None, Some(3)), None),
            (policy(1, None, Some(9)), policy(1, None, Some(3)), Some(9)),
        ] {
            let mut merged = now.clone();
            let changed = inherit(&mut merged, &before);
            assert_eq!(merged.valid.as_ref().map(|valid| valid.generation), expected);
            assert_eq!(changed, merged != now);
        }
    }
}
