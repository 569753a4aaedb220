//! T61. Goal: a secret is nowhere but where it has to be. Method: canaries in credentials, cookies,
//! bodies, keys and hashes, through everything that answers, refuses or fails; then whatever the
//! process said, at `trace`, is searched for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::h2::{H2, request};
use crate::support::tls::Tls;
use crate::support::{
    Authority, Conn, Message, Origin, Proxy, gwproxy, gwproxy_with, home, run, wrapped,
};

const CANARY: &str = "canary7Qz";

/// Everything that was said, searched for these words.
struct Said {
    never: Vec<String>,
    searched: usize,
}

impl Said {
    #[track_caller]
    fn search(&mut self, what: &str, text: &str) {
        assert!(!text.is_empty(), "{what} said nothing: this shows nothing");
        for word in &self.never {
            let found = text.lines().find(|line| line.contains(word.as_str()));
            assert!(found.is_none(), "{what} tells {word}: {}", found.unwrap_or_default());
        }
        self.searched += 1;
    }
}

/// A hash of the canary, as `hash-password` makes it.
fn hash() -> String {
    let hash = run(wrapped(&[], &home()).arg("hash-password"), CANARY.as_bytes()).ok().text();
    hash.trim_end().to_owned()
}

/// What clients say in confidence.
fn confidential() -> String {
    let pair = STANDARD.encode(format!("ann:{CANARY}"));
    format!(
        "Authorization: Bearer {CANARY}\r\nCookie: session={CANARY}\r\nX-Api-Key: {CANARY}\r\n\
         Proxy-Authorization: Basic {pair}\r\n"
    )
}

fn never(hash: &str) -> Vec<String> {
    let basic = STANDARD.encode(format!("ann:{CANARY}"));
    let digest = hash.rsplit('$').next().expect("a digest");
    vec![CANARY.to_owned(), basic, digest.to_owned()]
}

fn admin(proxy: &Proxy, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}\r\n", confidential());
    Conn::open(proxy.admin()).ask(request).text()
}

fn said_by(proxy: &Proxy, said: &mut Said) {
    for path in ["/metrics", "/livez", "/nowhere"] {
        said.search(path, &admin(proxy, path));
    }
    said.search("the access log", &proxy.wait_lines(1).join("\n"));
    said.search("the log", &proxy.stderr());
    assert!(proxy.stderr().contains("TRACE") || proxy.stderr().contains("DEBUG"));
}

/// Requests that are served, refused, malformed and failed, with the words of clients and nodes.
#[test]
fn t61_no_secret_of_a_message_is_told() {
    let mut said = Said { never: never("$none-of-this-here"), searched: 0 };
    let node = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let body = CANARY;
            match request.target() {
                "/cut" => return peer.send(format!("HTTP/1.1 200 OK\r\nSet-Cookie: {body}\r\nConte")),
                "/bad" => return peer.send(format!("HTTP/1.1 200 OK\r\nX {body}\r\n\r\n")),
                "/reset" => return peer.reset(),
                _ => peer.send(format!(
                    "HTTP/1.1 200 OK\r\nSet-Cookie: s={body}\r\nWWW-Authenticate: Basic x={body}\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )),
            }
        }
    });
    let mint = Authority::new();
    let flags = mint.leaf("server", &["gw.test"]).flags();
    for tls in [false, true] {
        let mut options = vec!["--log", "trace", "--admin", "127.0.0.1:0", "--timeout", "5s"];
        if tls {
            options.extend(flags.each_ref().map(String::as_str));
        }
        let proxy = Proxy::http(&node.url(), &options);
        let (addr, fields) = (proxy.addr(0), confidential());
        let ask = |request: String| -> Message {
            if tls {
                return Tls::open(addr, &mint.ca(), "gw.test").ask(&request);
            }
            Conn::open(addr).ask(request)
        };
        let get = |target: &str, more: &str| {
            ask(format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\n{fields}{more}\r\n"))
        };
        assert_eq!(get("/", "").text(), CANARY, "the node's words arrive");
        for (target, more, status) in [
            ("/bad", "", 502),
            ("/cut", "", 502),
            ("/reset", "", 502),
            ("/", "X_Y: 1\r\n", 400),
            ("/", "Expect: canary7Qz\r\n", 417),
            ("/", "Connection: cookie\r\n", 400),
            ("/", "Content-Length: canary7Qz\r\n", 400),
            ("/", "Host: canary7Qz@a\r\n", 400),
            ("/", "canary7Qz : 1\r\n", 400),
        ] {
            let answer = get(target, more);
            assert_eq!(answer.status(), status, "{target} {more}");
            said.search("an answer", &format!("{answer:?}"));
        }
        let body =
            format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 9\r\n\r\n{CANARY}");
        assert_eq!(ask(body).status(), 200);
        if !tls {
            let mut client = H2::open(addr);
            let secret = [("authorization", CANARY), ("cookie", CANARY), ("grpc-x", CANARY)];
            for (path, more) in [("/", None), ("/bad", None), ("/", Some(("x_y", CANARY)))] {
                let fields: Vec<_> = secret.iter().copied().chain(more).collect();
                client.ask(request("GET", path, &fields), CANARY.as_bytes(), None);
            }
        }
        said_by(&proxy, &mut said);
    }
    assert!(said.searched > 20);
}

/// The forward proxy's users: their passwords, right and wrong, and their hashes.
#[test]
fn t61_no_password_and_no_hash_is_told() {
    let hash = hash();
    let mut said = Said { never: never(&hash), searched: 0 };
    let node = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (user, at) = (format!("ann:{hash}"), node.addr().to_string());
    let proxy = Proxy::start(&[
        "http",
        "--listen",
        "127.0.0.1:0",
        "--forward",
        "--user",
        &user,
        "--allow",
        &at,
        "--log",
        "trace",
        "--admin",
        "127.0.0.1:0",
    ]);
    let right = STANDARD.encode(format!("ann:{CANARY}"));
    let wrong = [format!("ann:{CANARY}x"), format!("bob:{CANARY}"), CANARY.to_owned()]
        .map(|pair| STANDARD.encode(pair));
    said.never.extend(wrong.clone());
    for (pair, status) in [(&right, 200), (&wrong[0], 407), (&wrong[1], 407), (&wrong[2], 407)] {
        for line in [format!("GET http://{at}/"), format!("CONNECT {at}")] {
            let mut conn = Conn::open(proxy.addr(0));
            conn.send(format!(
                "{line} HTTP/1.1\r\nHost: {at}\r\nProxy-Authorization: Basic {pair}\r\n\r\n"
            ));
            let answer = conn.head();
            assert_eq!(answer.status(), status, "{line}");
            said.search("an answer", &format!("{answer:?}"));
        }
    }
    assert!(!node.seen().contains(&right), "credentials for the proxy go no further");
    said_by(&proxy, &mut said);
}

/// Refused starts do not say what they refused where that is a secret's place. An address is told as
/// it was written, from the environment too, or nobody would find the mistake. What is printed on
/// purpose has the hash, by which alone the file means the same, and no key.
#[test]
fn t61_commands_do_not_repeat_secrets() {
    let mut said = Said { never: vec![CANARY.to_owned()], searched: 0 };
    let dir = home();
    let key = dir.path().join("key.pem");
    let block = |kind: &str| format!("-----BEGIN {kind}-----\n{CANARY}\n-----END {kind}-----\n");
    std::fs::write(&key, block("PRIVATE KEY")).expect("written");
    let key = key.to_str().expect("UTF-8");
    let http = ["http", "--listen", "127.0.0.1:0"];
    let password = format!("ann:{CANARY}");
    let node = format!("http://ann:{CANARY}@127.0.0.1:1");
    for more in [
        &["--forward", "--user", &password][..],
        &["--to", &node],
        &["--to", "http://127.0.0.1:1", "--tls-cert", key, "--tls-key", key],
    ] {
        let done = gwproxy(&[&http[..], more].concat());
        assert_ne!(done.code, Some(0), "{more:?}");
        said.search("a refusal", &done.stderr);
    }
    let file = dir.path().join("gw.yaml");
    let name = file.to_str().expect("UTF-8");
    let listener = |user: &str| {
        format!(
            "listeners:\n  - {{bind: '127.0.0.1:0', protocol: forward, forward: {{users: ['{user}']}}}}\n"
        )
    };
    let service = |node: &str| format!("services:\n  - {{id: a, nodes: ['{node}']}}\n");
    let (plain, no_user) = ("hash-password", "no user and password");
    for (yaml, why) in [
        (listener(&password), plain),
        (listener("ann:${SECRET}"), plain),
        (service(&node), no_user),
        (service("http://ann:${SECRET}@127.0.0.1:1"), no_user),
    ] {
        std::fs::write(&file, &yaml).expect("written");
        let done = gwproxy_with(&["check", name], &[("SECRET", CANARY)]);
        let told = format!("{}{}", done.stderr, done.text());
        assert!(done.code != Some(0) && told.contains(why), "{yaml}: {told}");
        said.search("check", &told);
    }
    let user = format!("ann:{}", hash());
    let done = gwproxy(&[&http[..], &["--forward", "--user", &user, "--print-config"]].concat());
    let printed = done.ok().text();
    said.search("--print-config", &printed);
    assert!(printed.contains(user.rsplit('$').next().expect("a digest")), "{printed}");
}
