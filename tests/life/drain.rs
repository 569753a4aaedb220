//! SIGTERM as real clients see it: each is in the middle of something when it comes.
//!
//! What is in flight has been seen by the node, or by the client itself, before the signal is
//! sent: nothing here depends on who is faster.

use serde_json::json;

use super::end::held;
use crate::clients::{grpc_playing, websocket_playing};
use crate::support::{Authority, Proxy, Signal, echo, eventually, start, text, tool, wait};

/// Says that it drains, and waits until it does.
#[track_caller]
fn drain(proxy: &Proxy) {
    proxy.signal(Signal::TERM);
    proxy.wait_stderr("a second signal stops at once");
}

/// A client that waits for messages is told that the server goes away (RFC 6455 §7.4.1).
#[test]
fn r04_a_waiting_websocket_client_is_told_1001() {
    let (echo, mint) = (echo("ws", &[]), Authority::new());
    let to = echo.url("ws", "");
    let flags = mint.leaf("server", &["127.0.0.1"]).flags();
    let flags = flags.each_ref().map(String::as_str);
    let ws = ["ws", "--listen", "127.0.0.1:0", "--to", &to, "--access-log", "off", "--grace", "1h"];
    let http = ["http", "--listen", "127.0.0.1:0", "--to", &to.replace("ws:", "http:")];
    let cases = [
        ("ws", Proxy::start(&ws)),
        ("wss", Proxy::start(&[&ws[..], &flags].concat())),
        ("ws", Proxy::start(&[&http[..], &["--access-log", "off", "--grace", "1h"]].concat())),
    ];
    for (scheme, mut proxy) in cases {
        let mut client = websocket_playing(&json!({
            "url": proxy.url(scheme, "/"), "ca": mint.ca(),
            "steps": [["send", "hi"], ["recv"], ["say", "connected"], ["wait_closed"]],
        }));
        client.wait_said("connected");
        drain(&proxy);
        let told = client.finish();
        assert_eq!(told["results"][0], "hi", "{told}");
        assert_eq!(told["results"][1]["code"], 1001, "{told}");
        assert_eq!(proxy.wait(), Some(0));
    }
}

#[test]
fn r04_curl_gets_the_answer_that_was_under_way() {
    let mint = Authority::new();
    let flags = mint.leaf("server", &["127.0.0.1"]).flags();
    let flags = flags.each_ref().map(String::as_str);
    for version in ["--http1.1", "--http2"] {
        let (origin, go) = held();
        let options = [&flags[..], &["--access-log", "off", "--grace", "1h"]].concat();
        let mut proxy = Proxy::http(&origin.url(), &options);
        let mut command = tool("curl");
        command.args([
            "-sS",
            version,
            "--cacert",
            &mint.ca(),
            "-w",
            " %{http_code} %{http_version}",
        ]);
        let (mut curl, out, err) = start(command.arg(proxy.url("https", "/busy")));
        origin.wait_for("/busy");
        drain(&proxy);
        go.send(()).expect("the node waits");
        assert!(wait(&mut curl, || err.text()).success(), "{}", err.text());
        let expected = if version == "--http2" { "ok 200 2" } else { "ok 200 1.1" };
        assert_eq!(text(&out.all()), expected);
        assert_eq!(proxy.wait(), Some(0));
    }
}

/// Twenty streams on two connections, every one of them under way.
#[test]
fn r04_h2load_loses_no_stream_under_way() {
    const STREAMS: usize = 20;
    let (origin, go) = held();
    let mut proxy = Proxy::http(&origin.url(), &["--access-log", "off", "--grace", "1h"]);
    let mut command = tool("h2load");
    command.args(["-n", "20", "-c", "2", "-m", "10", "--no-tls-proto=h2c"]);
    let (mut h2load, out, err) = start(command.arg(proxy.url("http", "/busy")));
    eventually("every stream has reached the node", || {
        (origin.seen().matches("/busy").count() == STREAMS).then_some(())
    });
    drain(&proxy);
    for _ in 0..STREAMS {
        go.send(()).expect("the node waits");
    }
    wait(&mut h2load, || err.text());
    let said = text(&out.all());
    let all = "20 total, 20 started, 20 done, 20 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(said.contains(all), "{said}");
    assert_eq!(proxy.wait(), Some(0));
}

/// P76: a conversation goes on to its end; what begins after the signal finds nobody.
#[test]
fn r04_a_grpc_stream_under_way_goes_on() {
    let echo = echo("grpc", &[]);
    let mut proxy = crate::grpc::front(&echo.addr(0).to_string(), &["--grace", "1h"]);
    let mut client = grpc_playing(&json!({
        "target": proxy.addr(0).to_string(),
        "calls": [
            { "method": "Bidi", "steps": [
                ["send", { "message": "before" }], ["recv"], ["say", "talking"], ["wait"],
                ["send", { "message": "after" }], ["recv"], ["end"], ["recv_all"],
            ]},
            { "method": "Unary", "steps": [["send", {}], ["recv"]] },
        ],
    }));
    client.wait_said("talking");
    drain(&proxy);
    client.tell("go on");
    let told = client.finish();
    let (talk, late) = (&told[0], &told[1]);
    assert_eq!(talk["code"], "OK", "{talk}");
    let messages = talk["replies"].as_array().into_iter().flatten().map(|reply| &reply["message"]);
    assert_eq!(messages.collect::<Vec<_>>(), ["before", "after"], "{talk}");
    assert_eq!(late["code"], "UNAVAILABLE", "{late}");
    assert_eq!(proxy.wait(), Some(0));
}
