//! `mesh-daemon policy` without a Service: what became of each TrafficPolicy at each of its targets.

use super::table::{Table, condition};
use crate::{
    config::Subject,
    model::{PoliciesView, PolicyTargetsView, TargetView},
};

/// The whole answer.
pub(super) fn table(subject: &Subject, view: &PoliciesView) -> String {
    let PoliciesView { snapshot: _, policies } = view;
    let mut table = Table::new([
        "TRAFFICPOLICY",
        "GENERATION",
        "TARGET",
        "CONDITION",
        "STATUS",
        "REASON",
        "MESSAGE",
    ]);
    for policy in policies {
        rows(&mut table, policy);
    }
    match (table.is_empty(), subject) {
        (true, Subject::PoliciesIn(namespace)) => format!("There is no TrafficPolicy in namespace {namespace}.\n"),
        (true, _) => "There is no TrafficPolicy.\n".to_owned(),
        (false, _) => table.text(),
    }
}

fn rows(table: &mut Table, view: &PolicyTargetsView) {
    let PolicyTargetsView {
        policy,
        generation,
        targets,
    } = view;
    for TargetView { service, conditions } in targets {
        for told in conditions {
            let [kind, status, reason, message] = condition(told);
            let (policy, generation) = (policy.to_string(), generation.to_string());
            table.row([policy, generation, service.to_string(), kind, status, reason, message]);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_whose_target_is_misspelled_is_found() {
        let target = |service: &str, status: &str, reason: &str, message: &str| json!({"service": service, "conditions": [{"type": "Accepted", "status": status, "reason": reason, "message": message}]});
        let document = json!({"snapshot": 7, "policies": [{"policy": "shop/p", "generation": 3, "targets": [
            target("shop/web", "True", "Accepted", "It holds"),
            target("shop/wbe", "False", "TargetNotFound", "there is no Service shop/wbe"),
        ]}]});
        let view: PoliciesView = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&view).unwrap(),
            document,
            "these are the names that scripts read"
        );
        assert_eq!(
            table(&Subject::Policies, &view),
            "\
TRAFFICPOLICY   GENERATION   TARGET     CONDITION   STATUS   REASON           MESSAGE
shop/p          3            shop/web   Accepted    True     Accepted         It holds
shop/p          3            shop/wbe   Accepted    False    TargetNotFound   there is no Service shop/wbe
"
        );
    }

    #[test]
    fn where_there_are_none_a_sentence_says_so() {
        let view = PoliciesView {
            snapshot: 1,
            policies: Vec::new(),
        };
        for (subject, expected) in [
            (Subject::Policies, "There is no TrafficPolicy.\n"),
            (
                Subject::PoliciesIn("shop".to_owned()),
                "There is no TrafficPolicy in namespace shop.\n",
            ),
        ] {
            assert_eq!(table(&subject, &view), expected);
        }
    }
}
