//! What a client gets in place of a breaker's refusal, or of no answer.

use super::{Answer, PROTOCOLS, ask, front, get, metric, service};
use crate::clients::Refusing;
use crate::support::{echo, gwproxy};

/// Row 2.4: an answer of the file's own, as long as nobody else answers.
#[test]
fn row_2_4_a_fallback_response_stands_in() {
    let node = echo("http", &[]);
    let breaker = "    breaker:
      errorThresholdPercentage: 50
      volumeThreshold: 3
      timeout: 100ms
      resetTimeout: 1h
      fallback:
        status: 203
        headers: {content-type: application/json, x-from: fallback}
        body: '{\"error\": \"later\"}'";
    let proxy = front("http", &service("nodes", "http", &[("a", node.addr(0))], breaker));
    let stands_in = |path: &str| {
        let answer = get(proxy.addr(0), path);
        assert_eq!(
            (answer.status(), answer.fields.get("x-from")),
            (203, Some("fallback")),
            "{path}"
        );
        assert_eq!(answer.json()["error"], "later");
    };
    // The node's own answers pass, however bad; a call that nobody answers has the fallback.
    assert_eq!(get(proxy.addr(0), "/status/404").status(), 404);
    stands_in("/delay/1m");
    assert_eq!(get(proxy.addr(0), "/status/500").status(), 500);
    stands_in("/");
    let open = "gwproxy_breaker_state{scope=\"service\",name=\"nodes\",state=\"open\"}";
    assert_eq!(metric(&proxy, open), 1);
    let errors = "gwproxy_errors_total{service=\"nodes\",code=\"breaker_open\"}";
    assert_eq!(metric(&proxy, errors), 1, "the metrics are not deceived");
}

/// Another service answers, on every protocol, when a connect fails and when the breaker is open.
#[test]
fn row_2_4_a_fallback_service_stands_in() {
    for protocol in PROTOCOLS {
        let (dead, good) = (Refusing::new(), echo(protocol, &[]));
        let breaker =
            "    breaker: {consecutive_failures: 2, reset_timeout: 1h, fallback: {service: spare}}";
        let services = service("nodes", protocol, &[("dead", dead.addr())], breaker)
            + &service("spare", protocol, &[("good", good.addr(0))], "");
        let proxy = front(protocol, &services);
        for _ in 0..6 {
            assert_eq!(ask(protocol, proxy.addr(0)), Answer::Good, "{protocol}");
        }
        let picks = |service: &str, node: &str| {
            let line = format!("gwproxy_node_picks_total{{service=\"{service}\",node=\"{node}\"}}");
            metric(&proxy, &line)
        };
        assert_eq!((picks("nodes", "dead"), picks("spare", "good")), (2, 6), "{protocol}");
    }
}

/// What a fallback cannot be is told before anything starts.
#[test]
fn fallbacks_that_mean_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.yaml");
    for (said, part) in [
        ("breaker: {fallback: {service: nowhere}}", "there is no service `nowhere`"),
        ("breaker: {fallback: {service: a}}", "is the service itself"),
        ("breaker: {fallback: {service: t}}", "speaks tcp, this is http"),
        ("breaker: {fallback: {headers: {'a b': c}}}", "is not the name of a header"),
        ("breaker: {fallback: {headers: {content-length: '3'}}}", "the proxy's own"),
        ("breaker: {fallback: {status: 42}}", "from 200 to 599"),
        ("node_breaker: {fallback: {body: x}}", "has the other nodes to fall back on"),
    ] {
        let file = format!(
            "listeners: [{{bind: '127.0.0.1:0', service: a}}, \
             {{protocol: tcp, bind: '127.0.0.1:1', service: t}}]
services:
  - {{id: a, nodes: ['http://127.0.0.1:9'], {said}}}
  - {{id: t, protocol: tcp, nodes: ['127.0.0.1:9']}}
"
        );
        std::fs::write(&path, file).unwrap();
        let told = gwproxy(&["check", path.to_str().unwrap()]).text();
        assert!(told.contains(part), "{said}: {told}");
    }
}
