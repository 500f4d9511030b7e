//! `mesh-daemon policy`: what holds for a Service and who says so, as tables.

use super::table::{Table, condition, rule};
use crate::model::{FromView, PolicyView, RuleSettingsView, SettingView};

/// The whole answer.
pub(super) fn table(view: &PolicyView) -> String {
    let PolicyView {
        snapshot: _,
        service,
        is_known,
        policy,
        settings: held,
        rules,
        policies: _,
    } = view;
    if !is_known {
        let named = policies(view).text();
        return format!("There is no Service {service} that this node knows, but it is named as a target:\n\n{named}");
    }
    let holds = match policy {
        Some(policy) => format!("TrafficPolicy {}, generation {}", policy.name, policy.generation),
        None => "no TrafficPolicy holds".to_owned(),
    };
    let mut text = format!("Service {service}: {holds}\n\n{}", settings(held.iter()).text());
    text.extend(rules.iter().filter_map(of_rule));
    let policies = policies(view);
    if !policies.is_empty() {
        text.push_str(&format!("\n{}", policies.text()));
    }
    text
}

fn settings<'a>(settings: impl Iterator<Item = &'a SettingView>) -> Table {
    let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
    for SettingView { field, value, from } in settings {
        table.row([field.clone(), value.clone(), said(from)]);
    }
    table
}

fn said(from: &FromView) -> String {
    let FromView { kind, name, generation } = from;
    let name = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let generation = generation
        .map(|generation| format!(" generation {generation}"))
        .unwrap_or_default();
    format!("{kind}{name}{generation}")
}

/// What a rule says itself; where it says nothing, the settings above hold.
fn of_rule(view: &RuleSettingsView) -> Option<String> {
    let RuleSettingsView {
        route,
        generation: _,
        rule: index,
        rule_name,
        clients,
        settings: held,
    } = view;
    let own = settings(held.iter().filter(|setting| setting.from.kind == "HTTPRoute"));
    let clients = clients
        .as_ref()
        .map(|name| format!(" from namespace {name}"))
        .unwrap_or_default();
    let rule = rule(route, *index, rule_name.as_deref());
    (!own.is_empty()).then(|| format!("\nRequests{clients} that meet rule {rule}:\n{}", own.text()))
}

fn policies(view: &PolicyView) -> Table {
    let mut table = Table::new([
        "TRAFFICPOLICY",
        "GENERATION",
        "CONDITION",
        "STATUS",
        "REASON",
        "MESSAGE",
    ]);
    for policy in &view.policies {
        for told in &policy.conditions {
            let [kind, status, reason, message] = condition(told);
            let (name, generation) = (policy.policy.to_string(), policy.generation.to_string());
            table.row([name, generation, kind, status, reason, message]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn setting(field: &str, value: &str, from: &Value) -> Value {
        json!({"field": field, "value": value, "from": from})
    }

    #[test]
    fn settings_as_people_read_them() {
        let policy = json!({"kind": "TrafficPolicy", "name": "shop/p", "generation": 2});
        let route = json!({"kind": "HTTPRoute", "name": "shop/r", "generation": 5});
        let default = json!({"kind": "default", "name": null, "generation": null});
        let document = json!({
            "snapshot": 7, "service": "shop/web", "isKnown": true, "policy": {"name": "shop/p", "generation": 2},
            "settings": [setting("loadBalancer.type", "PeakEwma", &policy), setting("retry", "none", &default)],
            "rules": [
                {"route": "shop/r", "generation": 5, "rule": 0, "ruleName": "cart", "clients": "blog",
                 "settings": [setting("timeout.request", "2s", &route), setting("retry", "none", &default)]},
                {"route": "shop/r", "generation": 5, "rule": 1, "ruleName": null, "clients": null,
                 "settings": [setting("retry", "none", &default)]}
            ],
            "policies": [{"policy": "shop/p", "generation": 3, "conditions": [
                {"type": "Accepted", "status": "False", "reason": "Invalid", "message": "spec.limits: wrong"}
            ]}]
        });
        let view: PolicyView = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&view).unwrap(),
            document,
            "these are the names that scripts read"
        );
        assert_eq!(
            table(&view),
            "\
Service shop/web: TrafficPolicy shop/p, generation 2

SETTING             VALUE      FROM
loadBalancer.type   PeakEwma   TrafficPolicy shop/p generation 2
retry               none       default

Requests from namespace blog that meet rule shop/r#0(cart):
SETTING           VALUE   FROM
timeout.request   2s      HTTPRoute shop/r generation 5

TRAFFICPOLICY   GENERATION   CONDITION   STATUS   REASON    MESSAGE
shop/p          3            Accepted    False    Invalid   spec.limits: wrong
"
        );
    }

    #[test]
    fn a_target_that_is_no_service_is_not_told_as_one() {
        let view: PolicyView = serde_json::from_value(json!({
            "snapshot": 7, "service": "shop/wbe", "isKnown": false, "policy": null, "settings": [], "rules": [],
            "policies": [{"policy": "shop/p", "generation": 3, "conditions": [
                {"type": "Accepted", "status": "False", "reason": "TargetNotFound", "message": "there is no Service shop/wbe"}
            ]}]
        }))
        .unwrap();
        assert_eq!(
            table(&view),
            "\
There is no Service shop/wbe that this node knows, but it is named as a target:

TRAFFICPOLICY   GENERATION   CONDITION   STATUS   REASON           MESSAGE
shop/p          3            Accepted    False    TargetNotFound   there is no Service shop/wbe
"
        );
    }
}
