//! Every fault of a rule, with its field.

use super::rule;
use crate::model::RuleFaultReason;

const UNSUPPORTED: RuleFaultReason = RuleFaultReason::UnsupportedValue;
const INCOMPATIBLE: RuleFaultReason = RuleFaultReason::IncompatibleFilters;

/// A rule's YAML, the reason, the field below the rule, and words of the sentence.
type Row = (&'static str, RuleFaultReason, &'static str, &'static str);

const FAULTS: &[Row] = &[
    // filters
    (
        "filters: [{type: RequestMirror, requestMirror: {}}]",
        UNSUPPORTED,
        ".filters[0].type",
        "`RequestMirror` is not supported",
    ),
    (
        "filters: [{type: CORS, cors: {}}]",
        UNSUPPORTED,
        ".filters[0].type",
        "`CORS` is not supported",
    ),
    (
        "filters: [{type: ExtensionRef}]",
        UNSUPPORTED,
        ".filters[0].type",
        "`ExtensionRef` is not supported",
    ),
    (
        "filters: [{type: ExternalAuth}]",
        UNSUPPORTED,
        ".filters[0].type",
        "`ExternalAuth` is not supported",
    ),
    (
        "filters: [{type: Fly}]",
        UNSUPPORTED,
        ".filters[0].type",
        "`Fly` is not known",
    ),
    ("filters: [{}]", UNSUPPORTED, ".filters[0].type", "missing"),
    ("filters: [7]", UNSUPPORTED, ".filters[0]", "cannot be read"),
    ("filters: 7", UNSUPPORTED, ".filters", "cannot be read"),
    (
        "filters: [{type: URLRewrite}]",
        UNSUPPORTED,
        ".filters[0].urlRewrite",
        "missing",
    ),
    (
        "filters: [{type: RequestRedirect, requestRedirect: 7}]",
        UNSUPPORTED,
        ".filters[0].requestRedirect",
        "cannot be read",
    ),
    (
        "{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 1}]}",
        INCOMPATIBLE,
        ".filters",
        "backendRefs",
    ),
    (
        "filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]",
        INCOMPATIBLE,
        ".filters",
        "exclude each other",
    ),
    (
        "filters: [{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]",
        INCOMPATIBLE,
        ".filters[1].type",
        "twice",
    ),
    (
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {}}, {type: RequestHeaderModifier, requestHeaderModifier: {}}]",
        INCOMPATIBLE,
        ".filters[1].type",
        "twice",
    ),
    (
        "{matches: [{path: {type: Exact, value: /a}}, {path: {value: /b}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}",
        INCOMPATIBLE,
        ".filters",
        "PathPrefix",
    ),
    (
        "{matches: [{path: {type: RegularExpression, value: /a}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}",
        INCOMPATIBLE,
        ".filters",
        "PathPrefix",
    ),
    (
        "{matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: a, port: 1, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}]}",
        INCOMPATIBLE,
        ".filters",
        "PathPrefix",
    ),
    (
        "backendRefs: [{name: a, port: 1, filters: [{type: RequestRedirect, requestRedirect: {}}]}]",
        INCOMPATIBLE,
        ".backendRefs[0].filters",
        "move it",
    ),
    (
        "backendRefs: [{name: a, port: 1}, {name: a, port: 1, filters: [{type: CORS}]}]",
        UNSUPPORTED,
        ".backendRefs[1].filters[0].type",
        "`CORS`",
    ),
    // headers that are changed
    (
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: 'a b', value: c}]}}]",
        UNSUPPORTED,
        ".filters[0].requestHeaderModifier.set[0].name",
        "no name",
    ),
    (
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: ':path', value: c}]}}]",
        UNSUPPORTED,
        ".filters[0].requestHeaderModifier.add[0].name",
        "no name",
    ),
    (
        "filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: a, value: \"b\\nc\"}]}}]",
        UNSUPPORTED,
        ".filters[0].responseHeaderModifier.add[0].value",
        "no value",
    ),
    (
        "filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a, '']}}]",
        UNSUPPORTED,
        ".filters[0].responseHeaderModifier.remove[1]",
        "no name",
    ),
    (
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: c}]}}]",
        UNSUPPORTED,
        ".filters[0].requestHeaderModifier.set[0].name",
        "urlRewrite.hostname",
    ),
    (
        "filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: Transfer-Encoding, value: c}]}}]",
        UNSUPPORTED,
        ".filters[0].responseHeaderModifier.set[0].name",
        "belongs to the connection",
    ),
    // redirect and rewrite
    (
        "filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]",
        UNSUPPORTED,
        ".filters[0].requestRedirect.scheme",
        "`ftp`",
    ),
    (
        "filters: [{type: RequestRedirect, requestRedirect: {hostname: '*.a'}}]",
        UNSUPPORTED,
        ".filters[0].requestRedirect.hostname",
        "no host name",
    ),
    (
        "filters: [{type: RequestRedirect, requestRedirect: {port: 65536}}]",
        UNSUPPORTED,
        ".filters[0].requestRedirect.port",
        "65536",
    ),
    (
        "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]",
        UNSUPPORTED,
        ".filters[0].requestRedirect.statusCode",
        "304 is none of",
    ),
    (
        "filters: [{type: URLRewrite, urlRewrite: {hostname: 'a..b'}}]",
        UNSUPPORTED,
        ".filters[0].urlRewrite.hostname",
        "no host name",
    ),
    (
        "filters: [{type: URLRewrite, urlRewrite: {hostname: 'a_b'}}]",
        UNSUPPORTED,
        ".filters[0].urlRewrite.hostname",
        "no host name",
    ),
    (
        "filters: [{type: URLRewrite, urlRewrite: {path: {type: Half}}}]",
        UNSUPPORTED,
        ".filters[0].urlRewrite.path.type",
        "`Half`",
    ),
    (
        "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]",
        UNSUPPORTED,
        ".filters[0].urlRewrite.path",
        "replaceFullPath",
    ),
    (
        "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replaceFullPath: /}}}]",
        UNSUPPORTED,
        ".filters[0].urlRewrite.path",
        "replacePrefixMatch",
    ),
    (
        "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: a}}}]",
        UNSUPPORTED,
        ".filters[0].urlRewrite.path.replaceFullPath",
        "does not begin",
    ),
    (
        "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: '/a b'}}}]",
        UNSUPPORTED,
        ".filters[0].urlRewrite.path.replacePrefixMatch",
        "percent-encode",
    ),
    // matches
    ("matches: 7", UNSUPPORTED, ".matches", "cannot be read"),
    ("matches: [7]", UNSUPPORTED, ".matches[0]", "cannot be read"),
    (
        "matches: [{path: {type: Glob, value: /}}]",
        UNSUPPORTED,
        ".matches[0].path.type",
        "`Glob`",
    ),
    (
        "matches: [{}, {path: {value: a}}]",
        UNSUPPORTED,
        ".matches[1].path.value",
        "does not begin",
    ),
    (
        "matches: [{path: {type: Exact, value: /a//b}}]",
        UNSUPPORTED,
        ".matches[0].path.value",
        "contains `//`",
    ),
    (
        "matches: [{path: {type: Exact, value: /a/..}}]",
        UNSUPPORTED,
        ".matches[0].path.value",
        "ends in `/..`",
    ),
    ("matches: [{method: get}]", UNSUPPORTED, ".matches[0].method", "`get`"),
    (
        "matches: [{headers: [{name: a, value: b}, {name: 'a:', value: b}]}]",
        UNSUPPORTED,
        ".matches[0].headers[1].name",
        "no name",
    ),
    (
        "matches: [{headers: [{name: a, value: b, type: Glob}]}]",
        UNSUPPORTED,
        ".matches[0].headers[0].type",
        "`Glob`",
    ),
    (
        "matches: [{headers: [{name: a, value: \" b\"}]}]",
        UNSUPPORTED,
        ".matches[0].headers[0].value",
        "no value",
    ),
    (
        "matches: [{queryParams: [{name: a, value: b, type: Glob}]}]",
        UNSUPPORTED,
        ".matches[0].queryParams[0].type",
        "`Glob`",
    ),
    (
        "matches: [{queryParams: [{name: '', value: b}]}]",
        UNSUPPORTED,
        ".matches[0].queryParams[0].name",
        "empty",
    ),
    // the rest
    ("name: [a]", UNSUPPORTED, ".name", "cannot be read"),
    ("backendRefs: [7]", UNSUPPORTED, ".backendRefs[0]", "cannot be read"),
    (
        "backendRefs: [{name: a, port: 1, weight: 1000001}]",
        UNSUPPORTED,
        ".backendRefs[0].weight",
        "1000001",
    ),
    (
        "backendRefs: [{name: a, port: 1, weight: -1}]",
        UNSUPPORTED,
        ".backendRefs[0].weight",
        "-1",
    ),
    (
        "timeouts: {request: soon}",
        UNSUPPORTED,
        ".timeouts.request",
        "\"soon\" is no duration",
    ),
    (
        "timeouts: {backendRequest: 1d}",
        UNSUPPORTED,
        ".timeouts.backendRequest",
        "\"1d\" is no duration",
    ),
    (
        "timeouts: {request: 1s, backendRequest: 2s}",
        UNSUPPORTED,
        ".timeouts.backendRequest",
        "longer",
    ),
    ("timeouts: 7", UNSUPPORTED, ".timeouts", "cannot be read"),
    ("retry: {attempts: -1}", UNSUPPORTED, ".retry.attempts", "-1"),
    ("retry: {codes: [500, 399]}", UNSUPPORTED, ".retry.codes[1]", "399"),
    ("retry: {codes: [600]}", UNSUPPORTED, ".retry.codes[0]", "600"),
    ("retry: {backoff: '1'}", UNSUPPORTED, ".retry.backoff", "no duration"),
    (
        "sessionPersistence: {}",
        UNSUPPORTED,
        ".sessionPersistence",
        "not supported",
    ),
];

#[test]
fn each_fault_is_told_with_its_field() {
    for (yaml, reason, field, words) in FAULTS.iter().copied() {
        let read = rule(yaml);
        let [fault] = read.faults.as_slice() else {
            panic!("{yaml}: {:?}", read.faults);
        };
        assert_eq!(
            (fault.reason, fault.field.as_str()),
            (reason, format!("spec.rules[0]{field}").as_str()),
            "{yaml}"
        );
        assert!(fault.detail.contains(words), "{yaml}: {}", fault.detail);
    }
}
