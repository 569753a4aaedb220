//! gRPC calls through the built binary: how long a node is waited for.

use crate::support::Proxy;
use crate::support::h2::{H2, H2Response, request};

const UNARY: &str = "/gwproxy.echo.v1.Echo/Unary";

/// Longer than any test waits unless it fails. At most 14 bits, two bytes as a varint.
const LONG_MS: u16 = 16_000;

/// A gateway in front of its own echo service, with these settings of the service.
fn gateway(settings: &str) -> Proxy {
    Proxy::run_file(&format!(
        "access_log: \"off\"\nlisteners: [{{protocol: grpc, bind: '127.0.0.1:0', service: a}}]\n\
         services: [{{id: a, protocol: grpc, nodes: ['echo:grpc'], {settings}}}]\n"
    ))
}

/// Calls a method that takes `delay_ms`, with this `grpc-timeout`, if any.
#[track_caller]
fn call(proxy: &Proxy, delay_ms: u16, timeout: Option<&str>) -> H2Response {
    let mut fields = vec![("content-type", "application/grpc"), ("te", "trailers")];
    fields.extend(timeout.map(|timeout| ("grpc-timeout", timeout)));
    // `EchoRequest{delay_ms, ignore_deadline: true}`, as a message that is not compressed.
    let [high, low] = [(delay_ms >> 7) as u8, delay_ms as u8 | 0x80];
    let message = [0, 0, 0, 0, 5, 3 << 3, low, high, 7 << 3, 1];
    H2::open(proxy.addr(0)).ask(request("POST", UNARY, &fields), &message, None)
}

/// `EchoReply.deadline_ms`: the time that the node was given.
#[track_caller]
fn told(answer: &H2Response) -> Option<u64> {
    assert_eq!(answer.trailers["grpc-status"], "0", "{answer:?}");
    let mut rest = &answer.body[5..];
    let varint = |rest: &mut &[u8]| {
        let end = rest.iter().position(|byte| byte & 0x80 == 0).expect("a whole number");
        let (digits, after) = rest.split_at(end + 1);
        *rest = after;
        digits.iter().rev().fold(0u64, |sum, byte| sum << 7 | u64::from(byte & 0x7f))
    };
    while !rest.is_empty() {
        let (tag, value) = (varint(&mut rest), varint(&mut rest));
        match tag {
            0x28 => return Some(value),
            _ if tag & 7 == 2 => rest = &rest[usize::try_from(value).expect("it is small")..],
            _ => {}
        }
    }
    None
}

/// P72: the node hears of the deadline, shortened to what the service allows and by what the call
/// has spent here; a call without one keeps none.
#[test]
fn p72_the_gateway_holds_calls_to_their_deadlines() {
    let proxy = gateway("grpc: {max_deadline: 20s}");
    assert_eq!(told(&call(&proxy, 0, None)), None);
    let left = told(&call(&proxy, 0, Some("99999999H"))).expect("a deadline");
    assert!((1..=20_000).contains(&left), "{left}");
    let late = call(&proxy, LONG_MS, Some("1m"));
    assert_eq!(late.fields["grpc-status"], "4", "{late:?}");
}

/// A timeout that somebody wrote down holds for calls as well.
#[test]
fn an_explicit_response_timeout_ends_a_silent_call() {
    let proxy = gateway("timeouts: {response: 1ms}");
    for timeout in [None, Some("30S")] {
        let answer = call(&proxy, LONG_MS, timeout);
        assert_eq!((answer.status, &answer.fields["grpc-status"]), (200, &"4".parse().unwrap()));
    }
}
