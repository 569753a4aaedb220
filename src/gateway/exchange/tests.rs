use std::net::Ipv4Addr;

use gwproxy_core::telemetry::Metrics;
use proptest::prelude::*;

use super::*;

fn record(asked: Option<Asked>, reason: &str) -> Record {
    counted(&Metrics::new(1, vec!["-".into()]), asked, reason)
}

fn counted(metrics: &Metrics, asked: Option<Asked>, reason: &str) -> Record {
    let shared = Shared { metrics: metrics.cells(0), log: None, trusted: Arc::default() };
    Record {
        shared: Rc::new(shared),
        started: Instant::now(),
        remote: PeerAddr::Unix,
        client_ip: Some(Ipv4Addr::LOCALHOST.into()),
        listener: "http".into(),
        tls: false,
        asked,
        route: Some("r".into()),
        service: 0,
        service_id: Some("s".into()),
        node: Some("http://127.0.0.1:9000".into()),
        user: None,
        status: StatusCode::OK,
        is_grpc: false,
        grpc_status: None,
        error: Some(Code::DestinationDenied),
        reason: Some(cut(reason).into()),
        permits: Vec::new(),
    }
}

/// Bytes of every kind, up to a few KiB; long runs of what grows most when it is escaped.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        any::<String>().prop_map(String::into_bytes),
        (any::<u8>(), 0_usize..4096).prop_map(|(byte, count)| vec![byte; count]),
        (any::<char>(), 0_usize..2048).prop_map(|(char, n)| char.to_string().repeat(n).into()),
    ]
}

fn field(bytes: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(bytes).ok()
}

proptest! {
    /// T59: whatever a client sent, its request is one valid line of bounded length, in both
    /// formats.
    #[test]
    fn any_bytes_are_one_valid_line(
        method in "[!#$%&*+.^_`|~0-9A-Za-z-]{1,200}",
        host in hostile(),
        target in hostile(),
        agent in hostile(),
        reason in hostile(),
        user in hostile(),
    ) {
        let text = |bytes: &[u8]| cut(&String::from_utf8_lossy(bytes)).to_owned();
        let asked = Asked {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            host: text(&host),
            target: text(&target),
            version: Version::HTTP_11,
            referer: field(&agent),
            user_agent: field(&agent),
        };
        let mut record = record(Some(asked), &text(&reason));
        record.user = Some(String::from_utf8_lossy(&user).into());
        let mut json = Vec::new();
        let (traffic, code) = (Traffic::default(), Some(u16::MAX));
        traffic.carried.client_to_upstream.set(u64::MAX);
        traffic.client_close.set(code);
        traffic.upstream_close.set(code);
        let (error, traffic) = (record.error, Some(&traffic));
        let ended = Ended { bytes: u64::MAX, error, status: Some(u32::MAX), traffic };
        record.write_json(&mut json, &ended, Duration::MAX);
        let line = String::from_utf8(json).unwrap();
        prop_assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
        prop_assert!(!line.contains(char::is_control), "{line:?}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&value["error"], "destination_denied");
        prop_assert_eq!(&value["service"], "s");

        let mut combined = Vec::new();
        record.write_combined(&mut combined, u64::MAX);
        let line = String::from_utf8(combined).unwrap();
        prop_assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
        prop_assert!(!line.contains(char::is_control), "{line:?}");
        let mut quotes = line.replace("\\\\", "").replace("\\\"", "");
        quotes.retain(|char| char == '"');
        prop_assert_eq!(quotes.len(), 6, "{}", line);
        // Host, ident, user, two of time: what a reader that splits by spaces relies on.
        let head: Vec<&str> = line.split(' ').take(5).collect();
        prop_assert!(head[3].starts_with('[') && head[4].ends_with(']'), "{line}");
    }
}

/// T69: what a bug ended is in metrics and log as that, and not as a client that left.
#[test]
fn a_panic_is_no_client_that_left() {
    let metrics = Metrics::new(1, vec!["-".into()]);
    let exchange = Exchange {
        started: Instant::now(),
        client_ip: None,
        is_grpc: false,
        route: None,
        service: 0,
        service_id: None,
        timeout: None,
        user: None,
        fallback: None,
        remote: PeerAddr::Unix,
        wait: Duration::ZERO,
        permits: Vec::new(),
        limit: None,
        record: Some(Box::new(Record { error: None, ..counted(&metrics, None, "") })),
    };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _dropped = exchange;
        panic!("a bug");
    }));
    ended.unwrap_err();
    let text = metrics.render();
    assert!(text.contains("gwproxy_errors_total{service=\"-\",code=\"internal\"} 1"), "{text}");
    assert!(text.contains("class=\"5xx\"} 1"), "{text}");
}

/// A cause is told where it says more than the sentence.
#[test]
fn a_cause_does_not_repeat_the_sentence() {
    use std::io::Error as Io;
    let error = |sentence: &'static str| Error::new(Code::UpstreamTls, sentence);
    let outer = || Io::other("TLS failed");
    assert_eq!(cause_of(&error("a: TLS failed")), None);
    assert_eq!(cause_of(&error("a: TLS failed").because(outer())), None);
    assert_eq!(cause_of(&error("it failed").because(outer())).as_deref(), Some("TLS failed"));
    let inner = error("TLS failed").because(Io::other("bad record"));
    let nested = error("a: TLS failed").because(inner);
    assert_eq!(cause_of(&nested).as_deref(), Some("bad record"));
}
