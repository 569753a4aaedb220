//! Hostile clients and nodes over real connections: they end, the others do not notice. The
//! limits themselves are proved on the kernel (`conn/tests/attacks.rs`).

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::AsyncWriteExt as _;

use super::frames::{GET, OK, POST, data, frame_of, headers, reset, settings, window};
use super::support::{
    House, Wire, ask, client, echo, listener, node, run, seconds, send_all, whole,
};
use crate::h2::Reason;
use crate::h2::frame::Kind;

/// Says `bytes` for ever on a connection, until the proxy has enough of it; another client asks
/// meanwhile.
async fn ends_calmly(
    house: &House,
    what: &str,
    said: &[(u16, u32)],
    bytes: impl Fn(u32) -> Vec<u8>,
) {
    let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
    let honest = client(addr, &h2::client::Builder::new()).await;
    let mut wire = Wire::connect(addr, said).await;
    let mut reason = None;
    for n in 0..200 {
        let burst: Vec<u8> = (0..100).flat_map(|m| bytes(2 * (100 * n + m) + 1)).collect();
        if tokio::io::AsyncWriteExt::write_all(&mut wire.tcp, &burst).await.is_err() {
            break;
        }
        let answer = ask(&honest, Bytes::from_static(b"honest"), None).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"honest"[..]), "{what}");
    }
    while let Some(sent) = wire.hear().await {
        if sent.kind == Kind::GoAway {
            reason = Some(sent.reason());
        }
    }
    assert_eq!(reason, Some(Reason::ENHANCE_YOUR_CALM), "{what}");
    assert_eq!(ask(&honest, Bytes::new(), None).await.unwrap().status, 200, "{what}");
}

/// T17, T18, T19.
#[test]
fn hostile_clients_are_calmed_and_nobody_else_notices() {
    run(async |house| {
        let rapid_reset = |id| [headers(id, GET, false), reset(id)].concat();
        ends_calmly(&house, "rapid reset", &[], rapid_reset).await;
        let made_to_reset = |id| [headers(id, POST, false), window(id, 0)].concat();
        ends_calmly(&house, "made you reset", &[], made_to_reset).await;
        ends_calmly(&house, "malformed requests", &[], |id| headers(id, &[0x84], true)).await;
        ends_calmly(&house, "PING", &[], |_| frame_of(Kind::Ping, 0, 0, &[0; 8])).await;
        ends_calmly(&house, "SETTINGS", &[], |_| settings(&[(4, 1), (4, 2)])).await;
        ends_calmly(&house, "streams above the limit", &[(4, 0)], |id| headers(id, POST, false))
            .await;
        let endless = |id| {
            let kind = if id == 1 { Kind::Headers } else { Kind::Continuation };
            frame_of(kind, 0, 1, &[])
        };
        ends_calmly(&house, "CONTINUATION", &[], endless).await;
    });
}

/// R14: who goes on after the connection was ended is read for a while, that the last words arrive,
/// and then cut off, however fast it sends.
#[test]
fn who_floods_after_the_end_is_cut_off() {
    run(async |house| {
        let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
        let mut wire = Wire::connect(addr, &[]).await;
        wire.tcp.write_all(&data(0, 1, false)).await.unwrap();
        let flood = vec![0; 64 * 1024];
        let mut sent = 0;
        while wire.tcp.write_all(&flood).await.is_ok() {
            sent += flood.len();
            // 2 MiB, and what both kernels hold.
            assert!(sent < 64 * 1024 * 1024, "it reads on and on");
        }
    });
}

/// What a node sends, given the stream of the request.
type Flood = Rc<dyn Fn(u32) -> Vec<u8>>;

/// T21: a node that floods ends its own connection; the request in flight fails, the next one is
/// served on a fresh connection.
#[test]
fn a_hostile_node_ends_its_connection_only() {
    let floods: [(&str, Flood); 6] = [
        ("PING", Rc::new(|_| frame_of(Kind::Ping, 0, 0, &[0; 8]).repeat(3_000))),
        (
            "empty DATA",
            Rc::new(|id| [headers(id, OK, false), data(id, 0, false).repeat(3_000)].concat()),
        ),
        (
            "CONTINUATION",
            Rc::new(|id| {
                let more = frame_of(Kind::Continuation, 0, id, &[]);
                [frame_of(Kind::Headers, 0, id, OK), more.repeat(100)].concat()
            }),
        ),
        (
            "a bomb",
            Rc::new(|id| {
                let entry = [&[0x88, 0x40, 1, b'x', 0x7f, 0x81, 0x1e][..], &[b'v'; 4_000]].concat();
                headers(id, &[&entry[..], &[0xbe; 12_000]].concat(), true)
            }),
        ),
        ("a stream of its own", Rc::new(|_| headers(2, OK, true))),
        (
            "DATA beyond the window",
            Rc::new(|id| [headers(id, OK, false), data(id, 16_384, false).repeat(17)].concat()),
        ),
    ];
    for (what, flood) in floods {
        run(async |house| {
            let (listener, addr) = listener().await;
            let mut sender = client(house.proxy(&[addr]), &h2::client::Builder::new()).await;
            let request = || Request::get("http://a.test/").body(()).unwrap();
            let (response, _) = sender.send_request(request(), true).unwrap();
            let mut wire = Wire::accept(&listener, &[]).await;
            let id = wire.hear_of(Kind::Headers).await.stream;
            // It may be cut off in the middle of that.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut wire.tcp, &flood(id)).await;
            let failed = match response.await {
                Ok(response) if response.status() == 502 => true,
                Ok(response) => whole(response).await.is_err(),
                Err(_) => true,
            };
            assert!(failed, "{what}");
            let (response, _) =
                sender.ready().await.unwrap().send_request(request(), true).unwrap();
            let mut wire =
                match tokio::time::timeout(Duration::from_millis(10), Wire::accept(&listener, &[]))
                    .await
                {
                    Ok(fresh) => fresh,
                    // What broke was its stream only.
                    Err(_) => wire,
                };
            let id = wire.hear_of(Kind::Headers).await.stream;
            wire.say(&headers(id, OK, true)).await;
            assert_eq!(response.await.unwrap().status(), 200, "{what}");
        });
    }
}

/// Thousands of requests one after another, one in a hundred given up, many at a time: a front
/// proxy is no attacker.
#[test]
fn a_busy_front_proxy_is_served() {
    run(async |house| {
        let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
        let sender = client(addr, &h2::client::Builder::new()).await;
        for round in 0..100u32 {
            let asked = (0..50u32).map(|n| {
                let mut sender = sender.clone();
                tokio::task::spawn_local(async move {
                    if (50 * round + n) % 100 == 0 {
                        let request = Request::post("http://a.test/").body(()).unwrap();
                        let (response, mut send) = sender.send_request(request, false).unwrap();
                        send.send_reset(h2::Reason::CANCEL);
                        drop(response);
                        return;
                    }
                    let answer = ask(&sender, Bytes::from_static(b"x"), None).await.unwrap();
                    assert_eq!(answer.status, 200);
                })
            });
            for asked in asked {
                asked.await.unwrap();
            }
        }
    });
}

/// T21: who floods within the rates, and reads none of what it makes us say, is given up like
/// whoever does not read. What it goes on to say postpones nothing, and what waits for it is bounded
/// by then: rates times patience, far below what stops the reading.
#[test]
fn t21_a_client_that_floods_and_does_not_read() {
    run(async |house| {
        let node = node(h2::server::Builder::new(), |_, mut respond| async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send_all(&mut send, Bytes::from(vec![b'x'; 64 << 20])).await;
        })
        .await;
        let addr = house.proxy(&[node]);
        for frame in [frame_of(Kind::Ping, 0, 0, &[0; 8]), settings(&[])] {
            let mut wire = Wire::connect(addr, &[(4, 0x7fff_ffff)]).await;
            wire.say(&window(0, 0x3fff_ffff)).await;
            // More than its socket takes.
            wire.say(&headers(1, GET, true)).await;
            let (after, ()) = seconds(async {
                while wire.tcp.write_all(&frame.repeat(15)).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            })
            .await;
            assert!((30..=33).contains(&after), "{after} s");
        }
    });
}
