//! Random routes over few words, so that they collide.

use super::{
    super::{
        super::{BackendTarget, HttpRoute, Redirect, RouteMatch, RouteRule, RouteTimeouts, RuleFault, RuleFaultReason},
        Random,
    },
    backend, exact, parent, prefix, regex, rule,
};

const PATHS: [&str; 6] = ["", "/a", "/a/b", "/a/b/c", "/ab", "/b"];

/// A route of anything, good and bad.
pub(in super::super) fn route(random: &mut Random) -> HttpRoute {
    let parents = (0..1 + random.below(3))
        .map(|_| {
            let service = random.pick(&["shop/s0", "shop/s1", "shop/s2", "shop/s3", "shop/gone"]);
            let mut parent = parent(service);
            parent.port = random.pick(&[None, None, None, Some(80), Some(81), Some(82)]);
            parent.section_name = random
                .pick(&[None, None, None, Some("a"), Some("c")])
                .map(str::to_owned);
            parent
        })
        .collect();
    HttpRoute {
        generation: i64::try_from(random.below(3)).unwrap(),
        parents,
        created: random.pick(&[None, Some(1), Some(2)]),
        rules: (0..random.below(4)).map(|_| any_rule(random)).collect(),
    }
}

fn any_rule(random: &mut Random) -> RouteRule {
    let matches: Vec<_> = (0..1 + random.below(2)).map(|_| any_match(random)).collect();
    let mut rule = rule(&matches);
    let backends = (0..random.below(3)).map(|_| {
        let service = random.pick(&["shop/s0", "shop/s1", "shop/s2", "shop/gone"]);
        let mut backend = backend(service, random.pick(&[80, 81, 82]), random.pick(&[0, 1, 9]));
        if random.below(8) == 0 {
            backend.target = BackendTarget::InvalidKind("`Secret` is not supported".to_owned());
        }
        backend
    });
    rule.backends = backends.collect();
    match random.below(8) {
        0 => rule.filters.redirect = Some(redirect()),
        1 => rule.faults.push(fault()),
        2 => {
            rule.timeouts = RouteTimeouts {
                request: Some(core::time::Duration::from_secs(1)),
                backend_request: None,
            };
        }
        _ => {}
    }
    rule
}

fn any_match(random: &mut Random) -> RouteMatch {
    let path = random.pick(&PATHS);
    let one = match random.below(5) {
        0 => exact(if path.is_empty() { "/" } else { path }),
        1 => regex(random.pick(&["/a.*", "/[ab]", "(", "/(a|b)+"])),
        _ => prefix(path),
    };
    match random.below(4) {
        0 => one.method("GET"),
        1 => one.header("x", "1"),
        2 => one.query_regex("q", random.pick(&["1", "[0-9]", ")"])),
        _ => one,
    }
}

pub(super) fn redirect() -> Redirect {
    Redirect {
        scheme: None,
        hostname: Some("other".to_owned()),
        path: None,
        port: None,
        status: 302,
    }
}

pub(super) fn fault() -> RuleFault {
    RuleFault {
        reason: RuleFaultReason::UnsupportedValue,
        field: "spec.rules[0].filters[1].type".to_owned(),
        detail: "`CORS` is not supported".to_owned(),
    }
}
