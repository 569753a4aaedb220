use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::units::{Few, Span};
use crate::upstream::ClusterSettings;

fn node(name: &str, addr: &str) -> Endpoint {
    Endpoint::new(name, "http", addr.parse().unwrap(), None, 1)
}

fn cluster(nodes: Vec<Endpoint>) -> Arc<Cluster> {
    Cluster::new(ClusterSettings::new("orders"), nodes)
}

/// Says what it is told, and says that it was asked.
struct Told {
    well: Arc<AtomicBool>,
    asked: mpsc::Sender<String>,
}

impl Probe for Told {
    async fn probe(&self, endpoint: &Endpoint) -> Result<(), String> {
        let _ = self.asked.try_send(endpoint.name.to_string());
        if self.well.load(Ordering::Relaxed) { Ok(()) } else { Err("told so".into()) }
    }
}

fn told(well: bool) -> (Told, Arc<AtomicBool>, mpsc::Receiver<String>) {
    let (asked, seen) = mpsc::channel(64);
    let well = Arc::new(AtomicBool::new(well));
    (Told { well: Arc::clone(&well), asked }, well, seen)
}

#[test]
fn settings_parse_and_print() {
    let parse = |text: &str| text.parse::<HealthSettings>();
    for (text, canonical) in [
        ("tcp", "tcp"),
        ("/healthz", "/healthz"),
        ("/h?x=1, interval=1m,timeout=500ms", "/h?x=1,interval=1m,timeout=500ms"),
        ("tcp,rise=1,fall=1", "tcp,rise=1,fall=1"),
        ("tls,jitter=0", "tls,jitter=0%"),
        ("grpc", "grpc"),
        ("grpc:a.b.C,interval=1s", "grpc:a.b.C,interval=1s"),
        ("/h,body=fine", "/h,body=fine"),
        ("/,method=HEAD,status=204", "/,method=HEAD,status=204"),
    ] {
        assert_eq!(parse(text).unwrap().to_string(), canonical);
        assert_eq!(parse(canonical), parse(text));
    }
    for (text, part) in [
        ("", "write a path as `/healthz`, or `tcp`, `tls`, `grpc`"),
        ("grpc,status=200", "for a check by a request"),
        ("healthz", "`healthz` is not a health check"),
        ("/a b", "is not a health check"),
        ("tcp,interval=0s", "longer than 0"),
        ("tcp,intervall=1s", "did you mean `interval`?"),
        ("tcp,rise=0", "from 1 to 1000"),
        ("/,status=99", "from 100 to 599"),
    ] {
        let sentence = parse(text).unwrap_err().to_string();
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn settings_read_as_text_and_as_map() {
    let read = |json| serde_json::from_str::<HealthSettings>(json);
    assert_eq!(read("{}").unwrap().check(), Check::Tcp);
    let map = r#"{"path": "/health", "interval": "30s", "timeout": "5s", "fall": 1,
        "expected_status": [200, 204]}"#;
    let settings = read(map).unwrap();
    assert_eq!((settings.interval, settings.fall), (Span::secs(30), Few::new(1)));
    let Check::Http(check) = settings.check() else { panic!("{settings:?}") };
    assert_eq!((check.path, check.method), ("/health", "GET"));
    assert!(check.accepts(204) && !check.accepts(301));
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(read(&json).unwrap(), settings);
    let settings = "/".parse::<HealthSettings>().unwrap();
    let Check::Http(check) = settings.check() else { panic!("{settings:?}") };
    assert!([200, 204, 301, 399].into_iter().all(|status| check.accepts(status)));
    assert!(![199, 400, 404, 503].into_iter().any(|status| check.accepts(status)));
    let grpc = read(r#"{"type": "grpc", "service": "a.B", "jitter": 50}"#).unwrap();
    assert_eq!(grpc.check(), Check::Grpc("a.B"));
    assert_eq!(read(r#"{"type": "tls"}"#).unwrap().check(), Check::Tls);
    assert_eq!(read(r#"{"type": "tcp"}"#).unwrap(), HealthSettings::default());
    for (json, part) in [
        (r#"{"type": "http"}"#, "needs a `path`"),
        (r#"{"type": "tls", "path": "/"}"#, "a path is for"),
        (r#"{"service": "a"}"#, "`type: grpc`"),
        (r#"{"headers": {"a": "b"}}"#, "for a check by a request"),
        (r#"{"type": "udp"}"#, "unknown variant"),
    ] {
        let sentence = read(json).unwrap_err().to_string();
        assert!(sentence.contains(part), "{json}: {sentence}");
    }
    let sentence = read(r#"{"path": "health"}"#).unwrap_err().to_string();
    assert!(sentence.contains("`health` is not a health check"), "{sentence}");
}

#[tokio::test(start_paused = true)]
async fn nodes_fall_and_rise_by_the_thresholds() {
    let cluster = cluster(vec![node("a", "127.0.0.1:1")]);
    let endpoint = Arc::clone(&cluster.endpoints()[0]);
    let (probe, well, mut asked) = told(true);
    let settings = "tcp,rise=2,fall=3".parse().unwrap();
    let checks = tokio::spawn(run(Arc::downgrade(&cluster), probe, settings));
    // A result is noted before the next question is asked: the n-th question sees the verdict of
    // at least n - 1 results.
    asked.recv().await.unwrap();
    well.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        asked.recv().await.unwrap();
        assert!(endpoint.is_healthy());
    }
    asked.recv().await.unwrap();
    asked.recv().await.unwrap();
    assert!(!endpoint.is_healthy());
    well.store(true, Ordering::Relaxed);
    asked.recv().await.unwrap();
    assert!(!endpoint.is_healthy());
    asked.recv().await.unwrap();
    asked.recv().await.unwrap();
    assert!(endpoint.is_healthy());
    checks.abort();
}

#[tokio::test(start_paused = true)]
async fn the_interval_is_kept_give_or_take_a_tenth() {
    let cluster = cluster(vec![node("a", "127.0.0.1:1")]);
    let (probe, _, mut asked) = told(true);
    let settings = "tcp,interval=10s".parse().unwrap();
    let checks = tokio::spawn(run(Arc::downgrade(&cluster), probe, settings));
    asked.recv().await.unwrap();
    let mut last = Instant::now();
    for _ in 0..20 {
        asked.recv().await.unwrap();
        // Paused time: the distance is what was slept, whatever the machine does.
        let gap = last.elapsed();
        assert!((9_000..=11_002).contains(&gap.as_millis()), "{gap:?}");
        last = Instant::now();
    }
    checks.abort();
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_unhealthy_after_the_timeout() {
    struct Silent;
    impl Probe for Silent {
        async fn probe(&self, _: &Endpoint) -> Result<(), String> {
            std::future::pending().await
        }
    }
    let cluster = cluster(vec![node("a", "127.0.0.1:1")]);
    let endpoint = Arc::clone(&cluster.endpoints()[0]);
    let settings = "tcp,timeout=2s".parse().unwrap();
    let checks = tokio::spawn(run(Arc::downgrade(&cluster), Silent, settings));
    tokio::time::sleep(Duration::from_millis(1_990)).await;
    assert!(endpoint.is_healthy());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!endpoint.is_healthy());
    checks.abort();
}

#[tokio::test(start_paused = true)]
async fn new_nodes_are_asked_at_once_and_gone_ones_no_more() {
    let cluster = cluster(vec![node("a", "127.0.0.1:1")]);
    let (probe, _, mut asked) = told(true);
    let settings = "tcp,interval=1h".parse().unwrap();
    let checks = tokio::spawn(run(Arc::downgrade(&cluster), probe, settings));
    assert_eq!(asked.recv().await.unwrap(), "a");
    let before = Instant::now();
    cluster.update(vec![node("b", "127.0.0.1:2")]);
    assert_eq!(asked.recv().await.unwrap(), "b");
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(asked.recv().await.unwrap(), "b");
    checks.abort();
}

#[tokio::test(start_paused = true)]
async fn checks_end_with_the_service() {
    let cluster = cluster(vec![node("a", "127.0.0.1:1")]);
    let (probe, _, mut asked) = told(true);
    let settings = "tcp,interval=1h".parse().unwrap();
    let checks = tokio::spawn(run(Arc::downgrade(&cluster), probe, settings));
    asked.recv().await.unwrap();
    let before = Instant::now();
    drop(cluster);
    checks.await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO, "it waited for its next round");
}

#[tokio::test(start_paused = true)]
async fn a_broken_probe_is_asked_again_and_blames_no_node() {
    struct Breaks(AtomicU32, mpsc::Sender<()>);
    impl Probe for Breaks {
        async fn probe(&self, _: &Endpoint) -> Result<(), String> {
            let _ = self.1.try_send(());
            assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "breaks once, on purpose");
            Ok(())
        }
    }
    let cluster = cluster(vec![node("a", "127.0.0.1:1")]);
    let (sender, mut asked) = mpsc::channel(64);
    let probe = Breaks(AtomicU32::new(0), sender);
    let checks = tokio::spawn(run(Arc::downgrade(&cluster), probe, HealthSettings::default()));
    asked.recv().await.unwrap();
    asked.recv().await.unwrap();
    assert!(cluster.endpoints()[0].is_healthy());
    checks.abort();
}

#[tokio::test(start_paused = true)]
async fn a_thousand_silent_nodes_are_not_asked_all_at_once() {
    struct Counts(Arc<AtomicU32>);
    impl Probe for Counts {
        async fn probe(&self, _: &Endpoint) -> Result<(), String> {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
    }
    let nodes = (0..1_000).map(|n| node(&format!("n{n}"), "127.0.0.1:1")).collect();
    let cluster = cluster(nodes);
    let asked = Arc::new(AtomicU32::new(0));
    let settings = "tcp,timeout=2s,interval=1h".parse().unwrap();
    let checks = tokio::spawn(run(Arc::downgrade(&cluster), Counts(Arc::clone(&asked)), settings));
    tokio::time::sleep(Duration::from_millis(1_990)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 64);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1_000);
    assert!(cluster.endpoints().iter().all(|endpoint| !endpoint.is_healthy()));
    checks.abort();
}

#[tokio::test]
async fn a_connect_tells_a_listening_node_from_a_dead_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    assert_eq!(TcpProbe.probe(&node("a", &addr)).await, Ok(()));
    drop(listener);
    let why = TcpProbe.probe(&node("a", &addr)).await.unwrap_err();
    assert!(why.contains(&format!("connect to {addr} failed")), "{why}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.sock");
    let addr = format!("unix:{}", path.display());
    assert!(TcpProbe.probe(&node("a", &addr)).await.is_err());
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    assert_eq!(TcpProbe.probe(&node("a", &addr)).await, Ok(()));
}
