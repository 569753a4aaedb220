//! TCP through the built binary: Redis behind the relay, `redis-cli` before it.
//!
//! Goal: a protocol the relay knows nothing of works through it as it does without, and what a
//! client leaves behind is cleared away at the node. Method: Redis tells who is connected to it.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::clients::Refusing;
use crate::support::{Authority, Conn, Finished, Proxy, Server, eventually, run, start, tool};

/// A Redis that keeps nothing.
pub(crate) fn redis() -> Server {
    Server::start(|dir, addr| {
        let mut command = tool("redis-server");
        command.args(["--bind", &addr.ip().to_string(), "--port", &addr.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(dir);
        command
    })
}

/// `gwproxy tcp --listen 127.0.0.1:0 OPTIONS`.
#[track_caller]
fn tcp(options: &[&str]) -> Proxy {
    Proxy::start(&[&["tcp", "--listen", "127.0.0.1:0", "--access-log", "off"], options].concat())
}

/// The command line of `redis-cli` to this proxy.
fn cli(proxy: &Proxy, arguments: &[&str]) -> Command {
    let addr = proxy.addr(0);
    let mut command = tool("redis-cli");
    command.args(["-h", &addr.ip().to_string(), "-p", &addr.port().to_string()]).args(arguments);
    command
}

/// Runs it to its end; what was answered.
#[track_caller]
fn ask(proxy: &Proxy, arguments: &[&str]) -> String {
    told(run(&mut cli(proxy, arguments), b""))
}

#[track_caller]
fn told(done: Finished) -> String {
    done.ok().text().trim_end().to_owned()
}

/// Redis answers on this connection.
#[track_caller]
fn ping(conn: &mut Conn) {
    let mut answer = [0; 7];
    conn.send("PING\r\n").stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn row_1_4_redis_answers_through_the_relay() {
    let (redis, mint) = (redis(), Authority::new());
    let to = redis.addr().to_string();
    let flags = mint.leaf("server", &["127.0.0.1"]).flags();
    let flags = flags.each_ref().map(String::as_str);
    let ca = mint.ca();
    for (options, tls) in [(&[][..], &[][..]), (&flags, &["--tls", "--cacert", &ca])] {
        let proxy = tcp(&[&["--to", &to], options].concat());
        let ask = |arguments: &[&str]| ask(&proxy, &[tls, arguments].concat());
        assert_eq!(ask(&["SET", "greeting", "grüße, 世界"]), "OK");
        assert_eq!(ask(&["--no-raw", "STRLEN", "greeting"]), "(integer) 15");
        assert_eq!(ask(&["--raw", "GET", "greeting"]), "grüße, 世界");
        assert_eq!(ask(&["--no-raw", "GET", "nothing"]), "(nil)");
        // More than any buffer on the way, there and back.
        let large: Vec<u8> = (0..5_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
        let set = run(&mut cli(&proxy, &[tls, &["-x", "SET", "large"]].concat()), &large);
        assert_eq!(told(set), "OK");
        assert!(ask(&["--raw", "GET", "large"]).as_bytes() == large, "it comes back as it was");
    }
}

#[test]
fn row_1_4_ten_thousand_commands_in_one_pipe() {
    let redis = redis();
    let proxy = tcp(&["--to", &redis.addr().to_string()]);
    let commands: Vec<String> = (0..10_000).map(|n| format!("SET key:{n} value-{n}\r\n")).collect();
    let piped = run(&mut cli(&proxy, &["--pipe"]), commands.concat().as_bytes()).ok().text();
    assert!(piped.contains("errors: 0, replies: 10000"), "{piped}");
    assert_eq!(ask(&proxy, &["DBSIZE"]), "10000");
    for n in [0, 4_999, 9_999] {
        assert_eq!(ask(&proxy, &["GET", &format!("key:{n}")]), format!("value-{n}"));
    }
}

/// A connection on which only the node speaks, now and then.
#[test]
fn row_1_4_a_subscription_hears_what_is_published_and_leaves_nothing_behind() {
    let redis = redis();
    let proxy = tcp(&["--to", &redis.addr().to_string()]);
    let mut command = cli(&proxy, &["--csv", "SUBSCRIBE", "news"]);
    let (mut subscriber, heard, _) = start(command.stdin(Stdio::null()));
    let hears = |line: &str| {
        eventually(&format!("{line} is heard"), || heard.text().contains(line).then_some(()));
    };
    hears("\"subscribe\",\"news\",1");
    for n in 0..50 {
        let message = format!("message {n}");
        assert_eq!(ask(&proxy, &["PUBLISH", "news", &message]), "1");
        hears(&format!("\"message\",\"news\",\"{message}\""));
    }
    subscriber.kill().expect("it runs");
    subscriber.wait().expect("it ends");
    eventually("Redis sees the subscriber leave", || {
        (ask(&proxy, &["PUBLISH", "news", "nobody"]) == "0").then_some(())
    });
    // Of all these clients only the one that asks is left.
    eventually("Redis has one client", || {
        (ask(&proxy, &["CLIENT", "LIST"]).lines().count() == 1).then_some(())
    });
}

#[test]
fn row_1_4_another_node_takes_what_the_first_cannot() {
    let (refusing, redis) = (Refusing::new(), redis());
    let (down, up) = (refusing.addr().to_string(), redis.addr().to_string());
    let proxy = tcp(&["--to", &down, "--to", &up]);
    // Not by `redis-cli`, which tries again by itself.
    for _ in 0..20 {
        ping(&mut Conn::open(proxy.addr(0)));
    }
    assert_eq!(ask(&proxy, &["PING"]), "PONG");
    let alone = tcp(&["--to", &down]);
    let refused = run(&mut cli(&alone, &["PING"]), b"");
    assert_ne!(refused.text().trim_end(), "PONG", "{}", refused.stderr);
}

/// A node that dies ends its connections; new ones find the other.
#[test]
fn row_1_4_a_dying_node_costs_its_own_connections_only() {
    let (first, second) = (redis(), redis());
    let (one, other) = (first.addr().to_string(), second.addr().to_string());
    let proxy = tcp(&["--to", &one, "--to", &other, "--balance", "first"]);
    assert_eq!(ask(&proxy, &["SET", "name", "first"]), "OK");
    let mut old = Conn::open(proxy.addr(0));
    ping(&mut old);
    drop(first);
    old.assert_ends();
    for _ in 0..20 {
        ping(&mut Conn::open(proxy.addr(0)));
    }
    assert_eq!(ask(&proxy, &["--no-raw", "GET", "name"]), "(nil)", "the other one's");
}
