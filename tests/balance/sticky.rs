//! Sticky cookies.

use super::{Fields, Front, Nodes};
use crate::support::{Authority, Proxy, tls};

/// The cookie that a response sets, as `name=value` and its attributes.
fn cookie_of(fields: &Fields) -> Option<(String, String)> {
    let set: Vec<_> =
        fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).collect();
    assert!(set.len() <= 1, "{set:?}");
    let (pair, attributes) = set.first()?.1.split_once("; ")?;
    Some((pair.to_owned(), attributes.to_owned()))
}

/// A client comes back to the node that its cookie names; when the node is gone it gets another
/// one and a new cookie. On everything that has fields.
#[test]
fn a_cookie_leads_back_to_the_node_while_it_is_there() {
    for protocol in ["http", "ws", "grpc"] {
        let mut nodes = Nodes::start(protocol, &["a", "b", "c"]);
        let said = [("a", ""), ("b", ""), ("c", "")];
        let front = nodes.front(&said, "    load_balancer: {sticky: sid}");
        let mut first = None;
        let node = front.node_of(|| first = cookie_of(&front.ask(&[])));
        let (pair, attributes) = first.expect("a cookie");
        assert_eq!(attributes, "Path=/; SameSite=Lax; HttpOnly", "{protocol}");
        let value = pair.strip_prefix("sid=").expect("its name");
        assert!(value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit()), "{value}");
        let again = front.picked(|| {
            for _ in 0..6 {
                let cookie = format!("theme=dark; {pair}");
                assert_eq!(cookie_of(&front.ask(&[("cookie", &cookie)])), None, "{protocol}");
            }
        });
        assert_eq!(again.into_iter().collect::<Vec<_>>(), [(node.clone(), 6)], "{protocol}");
        for other in ["sid=0123456789abcdef", "sid=", "sid=10.0.0.1:80", "xsid=1"] {
            assert!(cookie_of(&front.ask(&[("cookie", other)])).is_some(), "{protocol}: {other}");
        }
        nodes.end(&node);
        let (next, _) = cookie_of(&front.ask(&[("cookie", &pair)])).expect("a new cookie");
        assert_ne!(next, pair, "{protocol}");
        let then = front.node_of(|| drop(front.ask(&[("cookie", &next)])));
        assert_ne!(then, node, "{protocol}");
    }
}

/// With the same secret another proxy knows the cookie; without one, nobody does.
#[test]
fn a_secret_is_what_makes_cookies_common() {
    let nodes = Nodes::start("http", &["a", "b"]);
    let start = |sticky: &str| -> Front {
        nodes.front(&[("a", ""), ("b", "")], &format!("    load_balancer: {{sticky: {sticky}}}"))
    };
    let knows = |front: &Front, pair: &str| cookie_of(&front.ask(&[("cookie", pair)])).is_none();
    let common = "{cookie: sid, path: /app, max_age: 90m, secret: 0123456789abcdef}";
    let fronts = [common, common, "sid", "sid"].map(start);
    let (pair, attributes) = cookie_of(&fronts[0].ask(&[])).expect("a cookie");
    assert_eq!(attributes, "Path=/app; Max-Age=5400; SameSite=Lax; HttpOnly");
    let (own, _) = cookie_of(&fronts[2].ask(&[])).expect("a cookie");
    assert!(knows(&fronts[1], &pair) && knows(&fronts[2], &own));
    assert!(!knows(&fronts[2], &pair) && !knows(&fronts[3], &own));
}

/// Behind TLS the cookie goes over TLS only.
#[test]
fn a_cookie_of_tls_is_secure() {
    let (mint, nodes) = (Authority::new(), Nodes::start("http", &["a"]));
    let pair = mint.leaf("server", &["a.test"]);
    let flags = pair.flags();
    let mut arguments = vec!["--sticky", "sid", "--access-log", "off"];
    arguments.extend(flags.iter().map(String::as_str));
    let proxy = Proxy::http(&nodes.running["a"].url("http", ""), &arguments);
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let answer = tls::Tls::open(proxy.addr(0), &mint.ca(), "a.test").ask(get);
    let (_, attributes) = cookie_of(&answer.fields.0).expect("a cookie");
    assert_eq!(attributes, "Path=/; SameSite=Lax; HttpOnly; Secure");
}
