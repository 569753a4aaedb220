//! Everything arrives, whoever is at the other end and however small its windows are.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response};

use super::frames::{GET, OK, data, frame_of, go_away, headers, reset, window};
use super::support::{Wire, ask, client, echo, listener, node, run, send_all, whole};
use crate::h2::Reason;
use crate::h2::conn::{Bounds, Conn, Role};
use crate::h2::drive::{Driver, Patience};
use crate::h2::frame::Kind;

fn content(size: usize) -> Bytes {
    (0..size).map(|at| (at * 7 % 251) as u8).collect()
}

/// Bodies of every size at the edges of frames and windows come back as they were, through two
/// proxies: a real client, our server, our client, our server, our client, a real server.
#[test]
fn bodies_of_many_sizes() {
    run(async |house| {
        for (window, frame, sizes) in [
            (65_535, 16_384, &[0, 1, 4_096, 16_383, 16_384, 16_385, 65_535, 65_536, 300_000][..]),
            (1_000, 16_384, &[999, 1_000, 1_001, 30_000]),
            (1, 16_384, &[0, 1, 300]),
            (1 << 20, 1 << 20, &[3_000_000]),
        ] {
            let mut server = h2::server::Builder::new();
            server.initial_window_size(window).max_frame_size(frame).header_table_size(0);
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(window).max_frame_size(frame).header_table_size(0);
            let second = house.proxy(&[echo(server).await]);
            let sender = client(house.proxy(&[second]), &builder).await;
            for &size in sizes {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-end", size.into());
                for trailers in [None, Some(trailers)] {
                    let answer = ask(&sender, content(size), trailers.clone()).await.unwrap();
                    assert_eq!(answer.status, 200, "{size}");
                    assert!(answer.body == content(size), "{size} with a window of {window}");
                    assert_eq!(answer.trailers, trailers);
                }
            }
        }
    });
}

/// A thousand requests at once, more than either side takes at a time.
#[test]
fn a_thousand_requests_at_once() {
    for streams in [1, 7, 100, 1_000] {
        run(async |house| {
            let mut server = h2::server::Builder::new();
            server.max_concurrent_streams(streams);
            let addr = house.proxy(&[echo(server).await]);
            let mut builder = h2::client::Builder::new();
            // Until it knows better, as browsers and hyper do.
            builder.initial_max_send_streams(100);
            let sender = client(addr, &builder).await;
            let count = if streams == 1 { 50 } else { 1_000 };
            let asked = (0..count).map(|n| {
                let sender = sender.clone();
                tokio::task::spawn_local(async move {
                    let answer = ask(&sender, content(n), None).await.unwrap();
                    (answer.status.as_u16(), answer.body == content(n))
                })
            });
            for asked in asked {
                assert_eq!(asked.await.unwrap(), (200, true), "with {streams} at a time");
            }
        });
    }
}

/// T22: who downloads and does not read holds up nobody else on the node's connection.
#[test]
fn slow_readers_hold_up_nobody_else() {
    run(async |house| {
        let node = node(h2::server::Builder::new(), |request, mut respond| async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            let size = if request.uri().path() == "/large" { 1 << 20 } else { 100 };
            if send_all(&mut send, content(size)).await {
                let _ = send.send_data(Bytes::new(), true);
            }
        })
        .await;
        let addr = house.proxy(&[node]);
        let mut held = Vec::new();
        for _ in 0..20 {
            let mut slow = client(addr, &h2::client::Builder::new()).await;
            let request = Request::get("http://a.test/large").body(()).unwrap();
            let (response, _) = slow.send_request(request, true).unwrap();
            held.push((response.await.unwrap(), slow));
        }
        // What fits has come by now.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut quick = client(addr, &h2::client::Builder::new()).await;
        let request = Request::get("http://a.test/small").body(()).unwrap();
        let (response, _) = quick.send_request(request, true).unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(whole(response.await.unwrap()).await.unwrap().body.len(), 100);
        assert!(began.elapsed().as_secs() < 1, "it waited {:?}", began.elapsed());
    });
}

/// Both directions at once, turn by turn, before either has ended.
#[test]
fn full_duplex() {
    run(async |house| {
        let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
        let mut sender = client(addr, &h2::client::Builder::new()).await;
        let request = Request::post("http://a.test/").body(()).unwrap();
        let (response, mut send) = sender.send_request(request, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        for turn in 0..50 {
            assert!(send_all(&mut send, content(turn + 1)).await);
            let mut got = Vec::new();
            while got.len() <= turn {
                got.extend(body.data().await.unwrap().unwrap());
            }
            assert_eq!(got, content(turn + 1));
        }
        send.send_data(Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none_or(|end| end.unwrap().is_empty()));
    });
}

/// RFC 9113 §8.1: an answer before the end of the request, and no more of the request wanted.
#[test]
fn an_early_answer_is_delivered() {
    run(async |house| {
        let (listener, addr) = listener().await;
        let mut sender = client(house.proxy(&[addr]), &h2::client::Builder::new()).await;
        let request = Request::post("http://a.test/").body(()).unwrap();
        let (response, mut send) = sender.send_request(request, false).unwrap();
        assert!(send_all(&mut send, content(10_000)).await);
        let mut wire = Wire::accept(&listener, &[]).await;
        let id = wire.hear_of(Kind::Headers).await.stream;
        let no_error = frame_of(Kind::RstStream, 0, id, &[0; 4]);
        wire.say(&[headers(id, OK, false), data(id, 5, true), no_error].concat()).await;
        let answer = whole(response.await.unwrap()).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 5));
    });
}

/// A client that gives up, at any moment, is heard of by the node.
#[test]
fn a_clients_reset_reaches_the_node() {
    for moment in ["asked", "uploading", "answered", "downloading"] {
        run(async |house| {
            let (listener, addr) = listener().await;
            let mut sender = client(house.proxy(&[addr]), &h2::client::Builder::new()).await;
            let request = Request::post("http://a.test/").body(()).unwrap();
            let (response, mut send) = sender.send_request(request, false).unwrap();
            let mut wire = Wire::accept(&listener, &[]).await;
            let id = wire.hear_of(Kind::Headers).await.stream;
            let mut held = None;
            match moment {
                "asked" => {}
                "uploading" => {
                    assert!(send_all(&mut send, content(1_000)).await);
                    wire.hear_of(Kind::Data).await;
                }
                _ => {
                    wire.say(&headers(id, OK, false)).await;
                    let mut body = response.await.unwrap().into_body();
                    if moment == "downloading" {
                        wire.say(&data(id, 1_000, false)).await;
                        body.data().await.unwrap().unwrap();
                    }
                    held = Some(body);
                }
            }
            send.send_reset(h2::Reason::CANCEL);
            let heard = wire.hear_of(Kind::RstStream).await;
            assert_eq!((heard.stream, heard.reason()), (id, Reason::CANCEL), "{moment}");
            drop(held);
        });
    }
}

/// A node that gives up, before and within its answer.
#[test]
fn a_nodes_reset_reaches_the_client() {
    run(async |house| {
        let (listener, addr) = listener().await;
        let sender = client(house.proxy(&[addr]), &h2::client::Builder::new()).await;
        let mut asking = sender.clone();
        let request = || Request::post("http://a.test/").body(()).unwrap();
        let (response, _send) = asking.send_request(request(), false).unwrap();
        let mut wire = Wire::accept(&listener, &[]).await;
        let id = wire.hear_of(Kind::Headers).await.stream;
        wire.say(&reset(id)).await;
        assert_eq!(response.await.unwrap().status(), 502);
        let (response, _send) =
            asking.ready().await.unwrap().send_request(request(), true).unwrap();
        let id = wire.hear_of(Kind::Headers).await.stream;
        wire.say(&[headers(id, OK, false), data(id, 10, false)].concat()).await;
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap().len(), 10);
        wire.say(&reset(id)).await;
        let error = body.data().await.unwrap().unwrap_err();
        assert!(error.is_reset(), "{error}");
    });
}

/// P49, RFC 9113 §6.8: what the node has begun it ends; what it has not seen goes elsewhere, POST
/// or not, and no request is answered twice or never.
#[test]
fn a_nodes_go_away_loses_nothing() {
    run(async |house| {
        let (listener, addr) = listener().await;
        let other = echo(h2::server::Builder::new()).await;
        let sender = client(house.proxy(&[addr, other]), &h2::client::Builder::new()).await;
        let asked: Vec<_> = (0..20)
            .map(|_| {
                let sender = sender.clone();
                tokio::task::spawn_local(async move { ask(&sender, Bytes::new(), None).await })
            })
            .collect();
        let mut wire = Wire::accept(&listener, &[]).await;
        let mut begun = Vec::new();
        while begun.len() < 10 {
            begun.push(wire.hear_of(Kind::Headers).await.stream);
        }
        wire.say(&go_away(begun[4])).await;
        for &id in &begun[..5] {
            wire.say(&headers(id, OK, true)).await;
        }
        for asked in asked {
            assert_eq!(asked.await.unwrap().unwrap().status, 200);
        }
        // The connection is of no use any more, and is ended.
        wire.rest().await;
    });
}

/// A connection that the node closed while it idled is not used again.
#[test]
fn a_connection_closed_while_it_idled() {
    run(async |house| {
        let connections = Rc::new(Cell::new(0));
        let (listener, addr) = listener().await;
        let counted = Rc::clone(&connections);
        tokio::task::spawn_local(async move {
            loop {
                let mut wire = Wire::accept(&listener, &[]).await;
                counted.set(counted.get() + 1);
                let id = wire.hear_of(Kind::Headers).await.stream;
                wire.say(&headers(id, OK, true)).await;
                // And closes, without a GOAWAY.
            }
        });
        let sender = client(house.proxy(&[addr]), &h2::client::Builder::new()).await;
        for round in 1..=20 {
            let answer = ask(&sender, content(10), None).await.unwrap();
            assert_eq!((answer.status.as_u16(), connections.get()), (200, round));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// RFC 9113 §8.7: a refused POST goes to another node.
#[test]
fn a_refused_stream_goes_elsewhere() {
    run(async |house| {
        let (listener, addr) = listener().await;
        tokio::task::spawn_local(async move {
            let mut wire = Wire::accept(&listener, &[]).await;
            loop {
                let id = wire.hear_of(Kind::Headers).await.stream;
                let refused = Reason::REFUSED_STREAM.0.to_be_bytes();
                wire.say(&frame_of(Kind::RstStream, 0, id, &refused)).await;
            }
        });
        let other = echo(h2::server::Builder::new()).await;
        let sender = client(house.proxy(&[addr, other]), &h2::client::Builder::new()).await;
        for _ in 0..10 {
            assert_eq!(ask(&sender, Bytes::new(), None).await.unwrap().status, 200);
        }
    });
}

/// RFC 9113 §8.7, with no other node to go to: a connection that takes no more is replaced.
#[test]
fn a_refused_stream_goes_to_a_fresh_connection() {
    run(async |house| {
        let (listener, addr) = listener().await;
        tokio::task::spawn_local(async move {
            loop {
                let mut wire = Wire::accept(&listener, &[]).await;
                tokio::task::spawn_local(async move {
                    let first = wire.hear_of(Kind::Headers).await.stream;
                    wire.say(&headers(first, OK, true)).await;
                    let id = wire.hear_of(Kind::Headers).await.stream;
                    let refused = Reason::REFUSED_STREAM.0.to_be_bytes();
                    wire.say(&frame_of(Kind::RstStream, 0, id, &refused)).await;
                    std::future::pending::<()>().await;
                });
            }
        });
        let sender = client(house.proxy(&[addr]), &h2::client::Builder::new()).await;
        for _ in 0..2 {
            assert_eq!(ask(&sender, Bytes::new(), None).await.unwrap().status, 200);
        }
    });
}

/// A node whose windows are closed gets the head, and the body once it opens them.
#[test]
fn a_node_with_closed_windows() {
    run(async |house| {
        let (listener, addr) = listener().await;
        let sender = client(house.proxy(&[addr]), &h2::client::Builder::new()).await;
        let asked = tokio::task::spawn_local(async move { ask(&sender, content(3), None).await });
        let mut wire = Wire::accept(&listener, &[(4, 0)]).await;
        let id = wire.hear_of(Kind::Headers).await.stream;
        let mut got = 0;
        while got < 3 {
            wire.say(&window(id, 1)).await;
            got += wire.hear_of(Kind::Data).await.payload.len();
        }
        wire.say(&headers(id, OK, true)).await;
        assert_eq!(asked.await.unwrap().unwrap().status, 200);
    });
}

/// T69: a bug in the task of a connection ends its streams as well.
#[test]
fn t69_no_stream_outlives_its_driver() {
    run(|house| async move {
        let (listener, addr) = listener().await;
        let mut client = Wire::connect(addr, &[]).await;
        let (tcp, _) = listener.accept().await.unwrap();
        let conn = Conn::new(Role::Server, Bounds { section: 1024, fields: 10 });
        let second = Duration::from_secs(1);
        let patience = Patience { head: second, write: second, idle: None };
        let (stream, timer) = (tcp.into(), house.worker.timer());
        let driver = Driver::new(Rc::clone(&conn), stream, BytesMut::new(), timer, patience);
        client.say(&headers(1, GET, true)).await;
        let driving = AssertUnwindSafe(driver.run(|_| panic!("a bug"))).catch_unwind();
        driving.await.unwrap_err();
        assert!(!conn.is_open());
    });
}
