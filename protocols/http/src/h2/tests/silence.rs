//! Peers that fall silent, each with the time it gets.

use bytes::Bytes;
use gwproxy_core::worker::Phase;
use http::{Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::frames::{GET, OK, POST, data, frame_of, headers, settings};
use super::support::{Wire, client, echo, listener, node, run, seconds, whole};
use crate::h2::Reason;
use crate::h2::frame::{END_HEADERS, Kind, PREFACE};

/// Half a second is what a coarse deadline may be late.
#[track_caller]
fn is_about(seconds: u64, expected: u64) {
    assert!((expected..=expected + 1).contains(&seconds), "{seconds} s instead of {expected}");
}

/// T24: an upload that stops: the client is told, its stream ends, its connection does not.
#[test]
fn a_client_that_stops_within_its_body() {
    run(async |house| {
        let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
        let mut wire = Wire::connect(addr, &[]).await;
        let block = [POST, &[0x0f, 13, 2, b'9', b'9']].concat();
        wire.say(&headers(1, &block, false)).await;
        wire.say(&data(1, 10, false)).await;
        let (after, ended) = seconds(async {
            loop {
                let sent = wire.hear().await.expect("the connection goes on");
                if sent.stream == 1 && sent.kind == Kind::RstStream {
                    return sent;
                }
                if sent.kind == Kind::Ping && sent.flags == 0 {
                    wire.say(&frame_of(Kind::Ping, 1, 0, &sent.payload)).await;
                }
            }
        })
        .await;
        is_about(after, 30);
        assert_ne!(ended.reason(), Reason::NO_ERROR);
        wire.say(&headers(3, GET, true)).await;
        assert_eq!(wire.hear_of(Kind::Headers).await.stream, 3);
    });
}

/// T22, T24: a download that is not read.
#[test]
fn a_client_that_does_not_read() {
    run(async |house| {
        let node = node(h2::server::Builder::new(), |_, mut respond| async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send.send_data(Bytes::from(vec![b'x'; 50_000]), true).unwrap();
        })
        .await;
        let mut wire = Wire::connect(house.proxy(&[node]), &[(4, 100)]).await;
        wire.say(&headers(1, GET, true)).await;
        let (after, sent) = seconds(wire.hear_of(Kind::RstStream)).await;
        is_about(after, 30);
        assert_eq!((sent.stream, sent.reason()), (1, Reason::CANCEL));
    });
}

/// T24: a client whose socket is full takes the connection with it.
#[test]
fn a_client_whose_socket_is_full() {
    run(async |house| {
        let node = node(h2::server::Builder::new(), |_, mut respond| async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            super::support::send_all(&mut send, Bytes::from(vec![b'x'; 64 << 20])).await;
        })
        .await;
        let mut wire = Wire::connect(house.proxy(&[node]), &[(4, 0x7fff_ffff)]).await;
        wire.say(&super::frames::window(0, 0x3fff_ffff)).await;
        wire.say(&headers(1, GET, true)).await;
        // Long enough for all of its patience; then what is left in the socket, and the end.
        tokio::time::sleep(std::time::Duration::from_mins(1)).await;
        let mut last = Vec::new();
        while let Some(sent) = wire.hear().await {
            last = vec![sent.kind];
        }
        assert_eq!(last, [Kind::Data], "cut off");
    });
}

/// T23: frames, field blocks and hellos that do not end.
#[test]
fn a_frame_that_does_not_end() {
    let unfinished = [
        ("a frame's head", settings(&[])[..5].to_vec()),
        ("a frame", frame_of(Kind::Ping, 0, 0, &[0; 8])[..12].to_vec()),
        ("a field block", frame_of(Kind::Headers, 0, 1, GET)),
        ("a head", frame_of(Kind::Headers, END_HEADERS, 1, GET)[..11].to_vec()),
    ];
    for (what, bytes) in unfinished {
        run(async |house| {
            let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
            let mut wire = Wire::connect(addr, &[]).await;
            wire.say(&bytes).await;
            let (after, sent) = seconds(wire.hear_of(Kind::GoAway)).await;
            is_about(after, 10);
            assert_eq!(sent.reason(), Reason::PROTOCOL_ERROR, "{what}");
            wire.rest().await;
        });
    }
    for hello in [PREFACE, &PREFACE[..10]] {
        run(async |house| {
            let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
            let mut tcp = TcpStream::connect(addr).await.unwrap();
            tcp.write_all(hello).await.unwrap();
            let (after, _) = seconds(async {
                let mut rest = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut tcp, &mut rest).await
            })
            .await;
            assert!((10..=13).contains(&after), "{after} s");
        });
    }
}

/// T24: on a line of a few bytes a second a DATA frame takes longer than that, and may.
#[test]
fn a_slow_upload_is_not_silent() {
    run(async |house| {
        let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
        let mut wire = Wire::connect(addr, &[]).await;
        wire.say(&headers(1, POST, false)).await;
        let bytes = data(1, 100, true);
        for piece in bytes.chunks(10) {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            wire.say(piece).await;
        }
        assert_eq!(wire.hear_of(Kind::Data).await.payload.len(), 100);
    });
}

/// T24, D05: one side of a conversation may be silent for minutes; before an answer not for ever,
/// and while the other side talks for as long as that does.
#[test]
fn t24_who_converses_may_be_silent() {
    run(async |house| {
        let minutely = |_, mut respond: h2::server::SendResponse<Bytes>| async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            for minute in 0..20 {
                tokio::time::sleep(std::time::Duration::from_mins(1)).await;
                send.send_data(Bytes::from_static(b"x"), minute == 19).unwrap();
            }
        };
        let talks = node(h2::server::Builder::new(), minutely).await;
        let post = || Request::post("http://a/talk").body(()).unwrap();
        let made = h2::client::Builder::new();
        let mut sender = client(house.proxy(&[talks]), &made).await;
        let (response, upload) = sender.send_request(post(), false).unwrap();
        assert_eq!(whole(response.await.unwrap()).await.unwrap().body.len(), 20);
        drop(upload);

        let waits = node(h2::server::Builder::new(), |_, respond| async move {
            tokio::time::sleep(std::time::Duration::from_hours(1)).await;
            drop(respond);
        });
        let mut sender = client(house.proxy(&[waits.await]), &made).await;
        let (response, mut upload) = sender.send_request(post(), false).unwrap();
        upload.send_data(Bytes::from_static(b"x"), false).unwrap();
        let (after, answer) = seconds(response).await;
        is_about(after, 300);
        assert!(answer.is_err() || answer.unwrap().status() == 408);
    });
}

/// Between requests.
#[test]
fn an_idle_client() {
    run(async |house| {
        let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
        let mut wire = Wire::connect(addr, &[]).await;
        wire.say(&headers(1, GET, true)).await;
        wire.hear_of(Kind::Headers).await;
        let (after, sent) = seconds(wire.hear_of(Kind::GoAway)).await;
        is_about(after, 60);
        assert_eq!((sent.reason(), sent.payload[3]), (Reason::NO_ERROR, 1));
        assert!(wire.rest().await.is_empty());
    });
}

/// A peer that is gone while a request of it runs: it is asked, and then given up.
#[test]
fn a_client_that_is_gone() {
    run(async |house| {
        let (listener, addr) = listener().await;
        let mut wire = Wire::connect(house.proxy(&[addr]), &[]).await;
        wire.say(&headers(1, GET, true)).await;
        let mut node = Wire::accept(&listener, &[]).await;
        let id = node.hear_of(Kind::Headers).await.stream;
        node.say(&headers(id, OK, false)).await;
        let answering = tokio::task::spawn_local(async move {
            loop {
                let sent = node.hear().await.expect("the node's connection goes on");
                if sent.kind == Kind::RstStream {
                    return sent;
                }
                if sent.kind == Kind::Ping && sent.flags == 0 {
                    node.say(&frame_of(Kind::Ping, 1, 0, &sent.payload)).await;
                }
            }
        });
        let (after, ()) = seconds(async {
            while let Some(sent) = wire.hear().await {
                assert_ne!(sent.kind, Kind::RstStream);
            }
        })
        .await;
        is_about(after, 50);
        assert_eq!(answering.await.unwrap().reason(), Reason::CANCEL);
    });
}

/// A node that answers PINGs and nothing else.
#[test]
fn a_node_silent_within_its_body() {
    run(async |house| {
        let node = node(h2::server::Builder::new(), |_, mut respond| async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(b"some"), false).unwrap();
            std::future::pending::<()>().await;
            drop(send);
        })
        .await;
        let mut sender = client(house.proxy(&[node]), &h2::client::Builder::new()).await;
        let request = Request::get("http://a.test/").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        let (after, answer) = seconds(whole(response)).await;
        is_about(after, 300);
        assert!(answer.unwrap_err().is_reset());
    });
}

/// A node that accepts, and says nothing at all: the request goes to another one.
#[test]
fn a_node_that_never_says_hello() {
    run(async |house| {
        let (_silent, addr) = listener().await;
        let other = echo(h2::server::Builder::new()).await;
        let mut sender = client(house.proxy(&[addr, other]), &h2::client::Builder::new()).await;
        for _ in 0..2 {
            let request = Request::post("http://a.test/").body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
            sender = sender.ready().await.unwrap();
        }
    });
}

/// Draining: a client that does not answer the PING after the announcement is taken for told.
#[test]
fn draining_does_not_wait_for_an_answer() {
    run(async |house| {
        let addr = house.proxy(&[echo(h2::server::Builder::new()).await]);
        let mut wire = Wire::connect(addr, &[]).await;
        wire.say(&headers(1, GET, true)).await;
        wire.hear_of(Kind::Headers).await;
        house.phase.send(Phase::Draining).unwrap();
        let (after, rest) = seconds(wire.rest()).await;
        is_about(after, 1);
        let kinds: Vec<Kind> = rest.iter().map(|sent| sent.kind).collect();
        assert_eq!(kinds, [Kind::GoAway, Kind::Ping, Kind::GoAway]);
        assert_eq!(rest[2].payload[3], 1, "the last stream that was served");
    });
}
