//! What calls carry: messages of all four kinds, and metadata.

use serde_json::{Value, json};

use super::{calls, front, values};
use crate::clients::grpc;
use crate::support::{Authority, echo};

/// One call of each kind: the bidirectional one is answered while it goes on, and its messages are
/// larger than any window of flow control.
fn one_of_each() -> Value {
    let large = "x".repeat(1_500_000);
    json!([
        { "method": "Unary", "steps": [["send", { "message": "grüße", "payload_bytes": 100_000 }], ["recv"]] },
        { "method": "ServerStream", "steps": [["send", { "message": "go", "repeat": 50 }], ["recv_all"]] },
        { "method": "ClientStream", "steps": [
            ["send", { "message": "one " }], ["send", { "message": "two " }],
            ["send", { "message": "three" }], ["end"], ["recv"],
        ]},
        { "method": "Bidi", "steps": [
            ["send", { "message": "first" }], ["recv"],
            ["send", { "message": large, "repeat": 2 }], ["recv"], ["recv"],
            ["send", { "payload_bytes": 4_000_000 }], ["recv"], ["end"], ["recv_all"],
        ]},
    ])
}

#[track_caller]
fn assert_one_of_each(told: &Value) {
    let told = told.as_array().expect("one for each call");
    assert!(told.iter().all(|call| call["code"] == "OK"), "{told:?}");
    let replies = |call: usize| told[call]["replies"].as_array().expect("replies");
    let length = |reply: &Value, field: &str| reply[field].as_str().map_or(0, str::len);
    let [unary] = &replies(0)[..] else { panic!("{told:?}") };
    assert_eq!(unary["message"], "grüße");
    // Base64 is 4 characters for 3 bytes.
    assert_eq!(length(unary, "payload"), 100_000_usize.div_ceil(3) * 4);
    let indices: Vec<usize> = (replies(1).iter())
        .map(|reply| reply["index"].as_str().map_or(0, |index| index.parse().expect("a number")))
        .collect();
    assert_eq!(indices, (0..50).collect::<Vec<_>>());
    let [joined] = &replies(2)[..] else { panic!("{told:?}") };
    assert_eq!(
        (&joined["message"], &joined["received_messages"]),
        (&json!("one two three"), &json!("3"))
    );
    let talk = replies(3);
    assert_eq!(talk.len(), 4);
    assert_eq!(talk[0]["message"], "first");
    assert_eq!((length(&talk[1], "message"), length(&talk[2], "message")), (1_500_000, 1_500_000));
    assert_eq!(length(&talk[3], "payload"), 4_000_000_usize.div_ceil(3) * 4);
}

#[test]
fn row_1_5_all_four_kinds_of_calls_with_and_without_tls_on_each_side() {
    let (mint, clients) = (Authority::new(), Authority::new());
    let flags = mint.leaf("server", &["127.0.0.1"]).flags();
    let flags = flags.each_ref().map(String::as_str);
    let client = clients.leaf("ann", &["ann.test"]);
    let (ca, client_ca) = (mint.ca(), clients.ca());
    let (plain, tls) = (echo("grpc", &[]), echo("grpc", &flags));
    let (plain, tls) = (plain.addr(0).to_string(), format!("grpcs://{}", tls.addr(0)));
    for (to, to_options) in [(&plain, &[][..]), (&tls, &["--upstream-ca", &ca])] {
        let proxy = front(to, to_options);
        let ask = json!({ "target": proxy.addr(0).to_string(), "calls": one_of_each() });
        assert_one_of_each(&grpc(&ask));
        let options = [&flags[..], &["--client-ca", &client_ca], to_options].concat();
        let proxy = front(to, &options);
        let ask = json!({
            "target": proxy.addr(0).to_string(), "calls": one_of_each(),
            "ca": ca, "cert": client.cert, "key": client.key,
        });
        assert_one_of_each(&grpc(&ask));
    }
}

#[test]
fn row_1_5_metadata_passes_both_ways() {
    let echo = echo("grpc", &["--name", "the node"]);
    let proxy = front(&echo.addr(0).to_string(), &[]);
    // Every byte there is: a `-bin` value travels as base64.
    let all = (0..=255).fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
    let metadata = json!([
        ["x-echo-text", "one"],
        ["x-echo-text", "two, and more"],
        ["x-echo-data-bin", all],
        ["x-echo-data-bin", ""],
        ["other", "thing"],
        ["other-bin", "00ff"],
    ]);
    let told = calls(
        &proxy,
        &json!([
            { "method": "Unary", "metadata": metadata, "steps": [["send", {}], ["recv"]] },
            { "method": "Bidi", "metadata": metadata, "steps": [["send", {}], ["recv"], ["end"], ["recv_all"]] },
        ]),
    );
    for call in told {
        assert_eq!(call["code"], "OK", "{call}");
        let (initial, trailing) = (&call["initial"], &call["trailing"]);
        assert_eq!(values(initial, "x-echo-text"), ["one", "two, and more"]);
        assert_eq!(values(initial, "x-echo-data-bin"), [&all, ""]);
        assert_eq!(values(trailing, "x-echo-trailer"), ["the node"]);
        // What the node received.
        let received = call["replies"][0]["metadata"].as_array().expect("metadata");
        let named = |key: &str| received.iter().find(|each| each["key"] == key);
        assert_eq!(named("other").expect("it passes")["values"], json!(["thing"]));
        assert_eq!(named("other-bin").expect("it passes")["binary_values"], json!(["AP8="]));
        assert_eq!(named("te").expect("RFC 9110 §10.1.4")["values"], json!(["trailers"]));
        assert_eq!(named("x-forwarded-for").expect("added")["values"], json!(["127.0.0.1"]));
    }
}
