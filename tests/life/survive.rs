//! What the process survives: no descriptors left, broken certificates, and clients of every kind.

use std::io::Read;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::tls::Tls;
use crate::support::{Authority, Conn, Origin, Proxy, echo, eventually, home, wrapped};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// T30, R16: more clients than descriptors; it waits, says so, and serves when they are gone.
#[test]
fn t30_running_out_of_descriptors_passes() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
    let before = proxy.descriptors();
    let limit = Rlimit { current: Some(64), maximum: Some(64) };
    let pid = i32::try_from(proxy.pid()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Nofile, limit).expect("a limit can be set");
    let mut clients: Vec<Conn> = (0..200).map(|_| Conn::open(proxy.addr(0))).collect();
    for client in &mut clients {
        client.send(GET);
    }
    proxy.wait_stderr("accept failed");
    // Those that were let in are served or told that no connection to the node can be had.
    let answered = eventually("a client is answered", || clients.iter().position(Conn::is_ready));
    let status = clients[answered].response().status();
    assert!([200, 502, 503].contains(&status), "{status}");
    drop(clients);
    eventually("it serves again", || {
        let answer = Conn::open(proxy.addr(0)).ask(GET);
        (answer.status() == 200).then_some(())
    });
    eventually("every descriptor is back", || (proxy.descriptors() <= before + 4).then_some(()));
}

/// T30: a process that never may have more than a few descriptors: what is open goes on while
/// nobody else gets in, and who waits gets in once others have left.
#[test]
fn t30_what_is_open_goes_on_while_descriptors_are_out() {
    let echo = echo("tcp", &[]);
    let home = home();
    // Soft and hard: it cannot help itself.
    let mut command = wrapped(&["prlimit", "--nofile=48:48"], &home);
    command.args(["tcp", "--listen", "127.0.0.1:0", "--to", &echo.addr(0).to_string()]);
    let proxy = Proxy::launch(command.args(["--workers", "2", "--access-log", "off"]), home, 1);
    let talk = |conns: &mut [Conn], word: &str| {
        for conn in conns {
            let mut answer = vec![0; word.len()];
            conn.send(word).stream.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, word.as_bytes());
        }
    };
    let mut old: Vec<Conn> = (0..4).map(|_| Conn::open(proxy.addr(0))).collect();
    talk(&mut old, "before");
    let mut crowd: Vec<Conn> = (0..100).map(|_| Conn::open(proxy.addr(0))).collect();
    for conn in &mut crowd {
        conn.send("hello");
    }
    proxy.wait_stderr("accept failed");
    for round in 0..20 {
        talk(&mut old, &format!("round {round}"));
    }
    // Of the crowd some got in whole, some found no descriptor left for the node and were cut
    // off, the rest wait in the backlog until there is room.
    let (mut served, mut cut) = (0, 0);
    while !crowd.is_empty() {
        let ready = eventually("one of the crowd is served or cut off", || {
            crowd.iter().position(Conn::is_ready)
        });
        let mut conn = crowd.swap_remove(ready);
        let mut answer = [0; 5];
        match conn.stream.read_exact(&mut answer) {
            Ok(()) => served += usize::from(&answer == b"hello"),
            Err(_) => cut += 1,
        }
    }
    assert_eq!(served + cut, 100);
    assert!(served > 0, "nobody was served");
    talk(&mut old, "after");
    talk(&mut [Conn::open(proxy.addr(0))], "anew");
}

/// Row 0.4: certificates are taken into use when their files change; connections live on, and a
/// broken pair changes nothing but the log.
#[test]
fn row_0_4_certificates_are_reloaded_without_dropping_connections() {
    let authority = Authority::new();
    let pair = authority.leaf("server", &["gw.test"]);
    let origin = Origin::answering(OK);
    let flags = pair.flags();
    let mut arguments = flags.each_ref().map(String::as_str).to_vec();
    arguments.extend(["--access-log", "off"]);
    let proxy = Proxy::http(&origin.url(), &arguments);
    let open = || Tls::open(proxy.addr(0), &authority.ca(), "gw.test");
    let mut old = open();
    assert_eq!(old.ask(GET).status(), 200);

    authority.leaf("server", &["gw.test"]);
    let renewed = eventually("the new certificate is served", || {
        let conn = open();
        (conn.certificate() != old.certificate()).then(|| conn.certificate())
    });
    assert_eq!(old.ask(GET).status(), 200, "the old connection lives on");

    std::fs::write(&pair.cert, "-----BEGIN CERTIFICATE-----\nnonsense\n").expect("written");
    proxy.wait_stderr("ERROR");
    let path = pair.cert.to_str().expect("UTF-8");
    assert!(proxy.stderr().contains(path), "{}", proxy.stderr());
    let mut conn = open();
    assert_eq!(conn.certificate(), renewed, "the last good pair serves");
    assert_eq!(conn.ask(GET).status(), 200);

    authority.leaf("server", &["gw.test"]);
    eventually("the mended pair is served", || (open().certificate() != renewed).then_some(()));
    assert_eq!(old.ask(GET).status(), 200, "through it all");
}

/// T25: a client that says nothing takes nothing from the others.
#[test]
fn t25_silent_clients_do_not_disturb_others() {
    let authority = Authority::new();
    let flags = authority.leaf("server", &["gw.test"]).flags();
    let origin = Origin::answering(OK);
    let mut arguments = flags.each_ref().map(String::as_str).to_vec();
    arguments.extend(["--workers", "1", "--access-log", "off"]);
    let proxy = Proxy::http(&origin.url(), &arguments);
    let mut silent: Vec<Conn> = (0..50).map(|_| Conn::open(proxy.addr(0))).collect();
    for (number, conn) in silent.iter_mut().enumerate() {
        match number % 3 {
            0 => {}
            // The beginning of a ClientHello, and something that is none.
            1 => drop(conn.send(b"\x16\x03\x01\x02\x00\x01")),
            _ => drop(conn.send("GET / HTTP/1.1\r\n\r\n")),
        }
    }
    let mut conn = Tls::open(proxy.addr(0), &authority.ca(), "gw.test");
    assert_eq!(conn.ask(GET).status(), 200);
}

/// No descriptor is left behind by connections of any end.
#[test]
fn descriptors_return_to_where_they_were() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            match request.target() {
                "/reset" => return peer.reset(),
                "/close" => return peer.send(OK),
                "/cut" => return peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
                "/bad" => return peer.send("nonsense\r\n\r\n"),
                _ => peer.send(OK),
            }
        }
    });
    let proxy = Proxy::http(&origin.url(), &["--access-log", "off"]);
    assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
    let before = proxy.descriptors();
    for n in 0..120 {
        let target = ["/reset", "/close", "/cut", "/bad", "/"][n % 5];
        let mut conn = Conn::open(proxy.addr(0));
        conn.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        match n % 4 {
            0 => drop(conn),
            1 => conn.reset(),
            _ => drop(conn.finish().rest()),
        }
    }
    eventually("every descriptor is back", || (proxy.descriptors() <= before + 4).then_some(()));
    assert_eq!(Conn::open(proxy.addr(0)).ask(GET).status(), 200);
}
