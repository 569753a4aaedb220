//! Balancing through the built binary, on every protocol alike.
//!
//! Goal: whatever decides between nodes decides for HTTP, WebSocket, TCP and gRPC in the same way.
//! Method: echo servers as nodes, one exchange after the other, and the proxy's own count of what
//! each node was chosen for; nodes go by the end of their processes.

mod algorithms;
mod keys;
mod levels;
mod sticky;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::support::h2::{H2, request};
use crate::support::{Conn, Proxy, echo, eventually};
use crate::ws::frame::handshake;

const PROTOCOLS: [&str; 4] = ["http", "ws", "tcp", "grpc"];

/// Nodes of one protocol, by their names.
struct Nodes {
    protocol: &'static str,
    running: BTreeMap<&'static str, Proxy>,
}

/// A proxy in front of some nodes.
struct Front {
    protocol: &'static str,
    proxy: Proxy,
}

/// What an exchange brought: the names and values of the response's fields.
type Fields = Vec<(String, String)>;

impl Nodes {
    #[track_caller]
    fn start(protocol: &'static str, names: &[&'static str]) -> Self {
        let running = names.iter().map(|name| (*name, echo(protocol, &["--name", name]))).collect();
        Self { protocol, running }
    }

    /// Ends one.
    fn end(&mut self, name: &str) {
        drop(self.running.remove(name).expect("it runs"));
    }

    /// `- {id: NAME, address: ADDRESS, SAID}` for each.
    fn yaml(&self, said: &[(&str, &str)]) -> String {
        let node = |(name, said): &(&str, &str)| {
            let addr = self.running[name].addr(0);
            format!("      - {{id: {name}, address: '{}://{addr}', {said}}}\n", self.protocol)
        };
        said.iter().map(node).collect()
    }

    /// `gwproxy run` with these nodes and what else the service says.
    #[track_caller]
    fn front(&self, said: &[(&str, &str)], service: &str) -> Front {
        Front::start(self.protocol, &self.yaml(said), service)
    }
}

impl Front {
    #[track_caller]
    fn start(protocol: &'static str, nodes: &str, service: &str) -> Self {
        let proxy = Proxy::run_file(&format!(
            "access_log: 'off'
admin: '127.0.0.1:0'
listeners: [{{protocol: {protocol}, bind: '127.0.0.1:0', service: nodes}}]
services:
  - id: nodes
    protocol: {protocol}
    nodes:
{nodes}{service}
"
        ));
        Self { protocol, proxy }
    }

    /// One exchange from this address of the machine, with these fields; it succeeds, and is over.
    #[track_caller]
    fn ask_from(&self, from: Ipv4Addr, fields: &[(&str, &str)]) -> Fields {
        let answer = self.exchange(from, fields);
        eventually("nothing is under way", || {
            let metrics = self.metrics();
            let mut busy =
                metrics.lines().filter(|line| line.starts_with("gwproxy_node_in_flight"));
            busy.all(|line| line.ends_with(" 0")).then_some(())
        });
        answer
    }

    #[track_caller]
    fn exchange(&self, from: Ipv4Addr, fields: &[(&str, &str)]) -> Fields {
        let addr = self.proxy.addr(0);
        let line = |(name, value): &(&str, &str)| format!("{name}: {value}\r\n");
        let lines = fields.iter().map(line).collect::<Vec<_>>().concat();
        match self.protocol {
            "tcp" => {
                let mut conn = connect_from(from, addr);
                let mut byte = [0];
                conn.send("x").stream.read_exact(&mut byte).expect("the byte comes back");
                Vec::new()
            }
            "grpc" => {
                let fields = [fields, &[("content-type", "application/grpc"), ("te", "trailers")]];
                let call = request("POST", "/gwproxy.echo.v1.Echo/Unary", &fields.concat());
                let answer = H2::open(addr).ask(call, &[0; 5], None);
                assert_eq!(answer.trailers["grpc-status"], "0", "{answer:?}");
                let text = |value: &http::HeaderValue| value.to_str().unwrap_or("").to_owned();
                answer.fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
            }
            "ws" => {
                let answer = connect_from(from, addr).send(handshake("/", &lines)).head();
                assert_eq!(answer.status(), 101, "{answer:?}");
                answer.fields.0
            }
            _ => {
                let get = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n");
                let answer = connect_from(from, addr).ask(get);
                assert_eq!(answer.status(), 200, "{answer:?}");
                answer.fields.0
            }
        }
    }

    #[track_caller]
    fn ask(&self, fields: &[(&str, &str)]) -> Fields {
        self.ask_from(Ipv4Addr::LOCALHOST, fields)
    }

    /// What the metrics say, as lines.
    fn metrics(&self) -> String {
        let get = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        Conn::open(self.proxy.admin()).ask(get).text()
    }

    /// What each node was chosen for so far.
    fn picks(&self) -> BTreeMap<String, u64> {
        let metrics = self.metrics();
        let line = |line: &str| {
            let rest = line.strip_prefix("gwproxy_node_picks_total{service=\"nodes\",node=\"")?;
            let (name, number) = rest.split_once("\"} ")?;
            Some((name.to_owned(), number.parse().expect("a number")))
        };
        metrics.lines().filter_map(line).collect()
    }

    /// What each node was chosen for while this was done; nodes with nothing are left out.
    #[track_caller]
    fn picked(&self, doing: impl FnOnce()) -> BTreeMap<String, u64> {
        let before = self.picks();
        doing();
        let mut after = self.picks();
        for (name, count) in &mut after {
            *count -= before[name];
        }
        after.retain(|_, count| *count > 0);
        after
    }

    /// The one node that an exchange went to.
    #[track_caller]
    fn node_of(&self, doing: impl FnOnce()) -> String {
        let picked = self.picked(doing);
        assert_eq!(picked.len(), 1, "{}: {picked:?}", self.protocol);
        picked.into_keys().next().expect("one")
    }

    /// As many plain exchanges.
    #[track_caller]
    fn asked(&self, count: usize) -> BTreeMap<String, u64> {
        self.picked(|| (0..count).for_each(|_| drop(self.ask(&[]))))
    }
}

/// A connection whose client has this address.
#[track_caller]
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Conn {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("every 127.x.y.z is here");
    socket.connect(&to.into()).expect("the proxy listens");
    Conn::of(TcpStream::from(socket))
}

/// `{name: count, …}` as a map.
fn counts<const N: usize>(of: [(&str, u64); N]) -> BTreeMap<String, u64> {
    of.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}
