//! How calls end: by a status of the node, of the proxy, by a deadline, by leaving.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{calls, front, values};
use crate::clients::{PythonServer, Refusing, grpc_playing};
use crate::support::h2::{H2, request};
use crate::support::{Proxy, echo};

/// Names of the codes from 1 on, as `grpcio` has them.
const CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[test]
fn row_1_5_every_status_passes_with_its_message_and_trailers() {
    let echo = echo("grpc", &["--name", "the node"]);
    let to = echo.addr(0).to_string();
    let proxy = Proxy::start(&["grpc", "--listen", "127.0.0.1:0", "--to", &to]);
    let why = "grüße: 100 %\n, 世界";
    let fail = |code: usize| json!({ "fail_with_code": code, "fail_with_message": why });
    // Alone in the head, which is what Trailers-Only means, then behind two messages.
    let mut asked: Vec<_> = (1..=CODES.len())
        .map(|code| json!({ "method": "Unary", "steps": [["send", fail(code)], ["recv"]] }))
        .collect();
    let mut late = fail(9);
    late["repeat"] = 2.into();
    asked.push(json!({ "method": "ServerStream", "steps": [["send", late], ["recv_all"]] }));
    asked.push(json!({ "method": "Bidi", "steps": [
        ["send", { "message": "a" }], ["recv"], ["send", { "message": "b" }], ["recv"],
        ["send", fail(9)], ["recv_all"],
    ]}));
    let told = calls(&proxy, &asked.into());
    for (call, code) in told.iter().zip(CODES.iter().chain(&["FAILED_PRECONDITION"; 2])) {
        assert_eq!((&call["code"], &call["details"]), (&json!(code), &json!(why)), "{call}");
        assert_eq!(values(&call["trailing"], "x-echo-trailer"), ["the node"], "{call}");
    }
    let replies = |call: usize| told[call]["replies"].as_array().map_or(0, Vec::len);
    assert_eq!((replies(0), replies(16)), (0, 2));
    // `recv_all` fails at its end, after which a client has what came before.
    assert_eq!(replies(17), 2);
    // The log has the status of each, from the head or from the trailers; the client's first call
    // asked what there is.
    let logged = proxy.wait_lines(1 + told.len()).into_iter().map(|line| {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        line["grpc_status"].as_u64()
    });
    let mut logged: Vec<_> = logged.collect();
    logged.sort_unstable();
    let mut expected: Vec<_> = (0..=16).chain([9, 9]).map(Some).collect();
    expected.sort_unstable();
    assert_eq!(logged, expected);
}

/// What the proxy has to say itself is a gRPC status, with its code in words.
#[test]
fn row_1_5_errors_of_the_proxy_are_statuses() {
    let refusing = Refusing::new();
    let proxy = front(&refusing.addr().to_string(), &[]);
    let ask = |kind: &str| {
        json!({
            "method": "/test.Any/Thing", "kind": kind, "steps": [["send", "hi"], ["end"], ["recv"]],
        })
    };
    let told = calls(&proxy, &json!([ask("unary_unary"), ask("stream_stream")]));
    for call in told {
        assert_eq!(call["code"], "UNAVAILABLE", "{call}");
        let details = call["details"].as_str().unwrap_or_default();
        assert!(details.starts_with("upstream_refused: "), "{call}");
    }

    let echo = echo("grpc", &[]);
    let proxy = front(&echo.addr(0).to_string(), &["--limit", "1/h,burst=2"]);
    // The first finds out about the types, which is a call as well.
    let unary = json!({ "method": "Unary", "steps": [["send", {}], ["recv"]] });
    let told = calls(&proxy, &json!([unary, unary]));
    assert_eq!(
        (&told[0]["code"], &told[1]["code"]),
        (&json!("OK"), &json!("RESOURCE_EXHAUSTED")),
        "{told:?}"
    );
}

/// Row B.5: a message too many ends its call as `RESOURCE_EXHAUSTED`, before or after the
/// answer began, with a deadline and without; the connection and its other calls go on.
#[test]
fn row_b_5_a_call_with_too_many_messages_is_told_so() {
    let echo = echo("grpc", &[]);
    let proxy = front(&echo.addr(0).to_string(), &["--limit", "6/h,of=messages,by=header:x-key"]);
    let bidi = |key: &str, timeout: Option<u32>| {
        let mut steps = vec![json!(["send", { "message": "one" }]), json!(["recv"])];
        steps.extend((0..8).map(|_| json!(["send", { "message": "more" }])));
        steps.extend([json!(["end"]), json!(["recv_all"])]);
        let mut call = json!({ "method": "Bidi", "metadata": [["x-key", key]], "steps": steps });
        if let Some(timeout) = timeout {
            call["timeout"] = timeout.into();
        }
        call
    };
    let mut many: Vec<_> = (0..8).map(|_| json!(["send", { "message": "one " }])).collect();
    many.extend([json!(["end"]), json!(["recv"])]);
    let unanswered =
        json!({ "method": "ClientStream", "metadata": [["x-key", "c"]], "steps": many });
    let unary = json!({ "method": "Unary", "metadata": [["x-key", "d"]],
        "steps": [["send", {}], ["recv"]] });
    let told = calls(&proxy, &json!([bidi("a", None), bidi("b", Some(30_000)), unanswered, unary]));
    let codes: Vec<_> = told.iter().map(|call| call["code"].as_str().unwrap_or("-")).collect();
    let exhausted = "RESOURCE_EXHAUSTED";
    assert_eq!(codes, [exhausted, exhausted, exhausted, "OK"], "{told:?}");
}

#[test]
fn row_1_5_a_deadline_passes_on_and_is_kept() {
    let echo = echo("grpc", &[]);
    let proxy = front(&echo.addr(0).to_string(), &[]);
    let told = calls(
        &proxy,
        &json!([
            { "method": "Unary", "timeout": 1000, "steps": [["send", {}], ["recv"]] },
            { "method": "Unary", "steps": [["send", {}], ["recv"]] },
            { "method": "Unary", "timeout": 0.2, "steps": [["send", { "delay_ms": 3_600_000 }], ["recv"]] },
        ]),
    );
    // In ms; `grpcio` rounds up what it sends.
    let known = told[0]["replies"][0]["deadline_ms"].as_str().expect("a deadline");
    assert!((1..=1_010_000).contains(&known.parse().expect("a number")), "{known}");
    assert_eq!(told[1]["replies"][0].get("deadline_ms"), None);
    assert_eq!(told[2]["code"], "DEADLINE_EXCEEDED", "{told:?}");
}

/// Neither the client nor the node looks at the time here: the proxy does.
#[test]
fn row_1_5_the_proxy_keeps_a_deadline_that_nobody_else_keeps() {
    let echo = echo("grpc", &[]);
    // Without that, silence would be an exceeded deadline too, only later.
    let proxy = front(&echo.addr(0).to_string(), &["--timeout", "1h"]);
    let mut client = H2::open(proxy.addr(0));
    let fields =
        [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "100m")];
    let call = request("POST", "/gwproxy.echo.v1.Echo/Unary", &fields);
    // delay_ms (field 3): an hour; ignore_deadline (field 7).
    let message = b"\0\0\0\0\x07\x18\x80\xdd\xdb\x01\x38\x01";
    let answer = client.ask(call, message, None);
    let field = |name: &str| answer.fields.get(name).and_then(|value| value.to_str().ok());
    assert_eq!((answer.status, field("grpc-status")), (200, Some("4")), "{answer:?}");
}

/// A node whose calls last until somebody ends them, and a proxy in front of it.
fn patient() -> (PythonServer, Proxy) {
    let node = PythonServer::grpc();
    let proxy = front(&node.addr.to_string(), &[]);
    (node, proxy)
}

#[test]
fn row_1_5_a_cancellation_reaches_the_node() {
    let (node, proxy) = patient();
    let told = calls(
        &proxy,
        &json!([{
            "method": "/test.Patient/Hold", "kind": "unary_stream",
            "steps": [["send", "held"], ["recv"], ["cancel"], ["recv_all"]],
        }]),
    );
    assert_eq!((&told[0]["code"], &told[0]["replies"]), (&json!("CANCELLED"), &json!(["held"])));
    node.wait_said("over", 1);
}

#[test]
fn row_1_5_a_client_that_is_gone_is_a_cancellation() {
    let (node, proxy) = patient();
    let mut client = grpc_playing(&json!({
        "target": proxy.addr(0).to_string(),
        "calls": [{
            "method": "/test.Patient/Hold", "kind": "unary_stream",
            "steps": [["send", "held"], ["recv"], ["say", "held"], ["recv_all"]],
        }],
    }));
    client.wait_said("held");
    drop(client);
    node.wait_said("over", 1);
}

#[test]
fn row_1_5_a_deadline_within_a_stream_ends_it_on_both_sides() {
    let (node, proxy) = patient();
    let told = calls(
        &proxy,
        &json!([{
            "method": "/test.Patient/Hold", "kind": "unary_stream", "timeout": 0.5,
            "steps": [["send", "held"], ["recv_all"]],
        }]),
    );
    assert_eq!(told[0]["code"], "DEADLINE_EXCEEDED", "{told:?}");
    node.wait_said("over", 1);
}

/// T24, D05: a call that streams may be silent for longer than an upload; half of it may be all
/// that its client has to say for now.
#[test]
fn t24_the_client_of_a_call_may_be_silent() {
    let node = echo("grpc", &[]);
    let proxy = Proxy::run_file(&format!(
        "listeners:\n\
         - {{bind: \"127.0.0.1:0\", protocol: grpc, service: app, timeouts: {{body: 500ms}}}}\n\
         services:\n\
         - {{id: app, protocol: grpc, nodes: [\"{}\"]}}\n",
        node.addr(0)
    ));
    let mut client = H2::open(proxy.addr(0));
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let call = request("POST", "/gwproxy.echo.v1.Echo/ClientStream", &fields);
    let mut open = client.begin(call, false);
    let message = Bytes::from_static(&[0; 5]);
    open.upload.send_data(message.clone(), false).expect("sent");
    // Four times what a silent upload has.
    let began = std::time::Instant::now();
    client.run_until(|| (began.elapsed() > Duration::from_secs(2)).then_some(()));
    open.upload.send_data(message, true).expect("sent");
    let told = client.finish(open).expect("an answer");
    let status = told.trailers.get("grpc-status").or_else(|| told.fields.get("grpc-status"));
    assert_eq!(status.expect("a status"), "0", "{told:?}");
}
