use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::*;
use crate::net::proxy_protocol::Version;

const PEER: &str = "192.0.2.7:999";
const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n";

fn rule(want: Want) -> ProxyProtocol {
    ProxyProtocol { from: vec!["192.0.2.0/24".parse().unwrap()], want }
}

fn peer() -> Peer {
    let remote = PeerAddr::Ip(PEER.parse().unwrap());
    Peer { remote, local: PeerAddr::Unix, proxied: None, tls: None }
}

/// What a listener makes of a connection that `sends` these, each on its own, and then stays open
/// if `stays`: the peer, and all that is left to read.
async fn taken(want: Want, sends: Vec<Vec<u8>>, stays: bool) -> Result<(Peer, Vec<u8>), Error> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let timer = Timer::new();
    let mut peer = peer();
    let taking = async {
        let rule = rule(want);
        let sending = async {
            for piece in sends {
                // It may have been refused already.
                let _ = theirs.write_all(&piece).await;
                tokio::task::yield_now().await;
            }
            if stays {
                return Some(theirs);
            }
            drop(theirs);
            None
        };
        let (taken, mut held) =
            tokio::join!(rule.take(Socket::Unix(ours), &mut peer, &timer), sending);
        let mut socket = taken?;
        if let Some(held) = &mut held {
            held.shutdown().await.unwrap();
        }
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        Ok(rest)
    };
    let rest = tokio::select! {
        taken = taking => taken?,
        () = timer.drive() => unreachable!("the driver never ends"),
    };
    Ok((peer, rest))
}

fn bytewise(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|&byte| vec![byte]).collect()
}

fn v2() -> Vec<u8> {
    let origin = Origin::Proxied {
        source: "203.0.113.9:4711".parse().unwrap(),
        destination: "198.51.100.1:443".parse().unwrap(),
    };
    Header::new(Version::V2, origin).encode()
}

/// P65: whole, byte by byte and cut anywhere: the client is known and nothing that follows is lost.
#[tokio::test]
async fn t38_a_header_is_taken_however_it_comes() {
    for header in [LINE.to_vec(), v2()] {
        let all = [&header[..], b"PROXY is the client's own"].concat();
        let mut ways = vec![vec![all.clone()], bytewise(&all)];
        ways.extend((1..all.len()).map(|cut| vec![all[..cut].to_vec(), all[cut..].to_vec()]));
        for way in ways {
            let (peer, rest) = taken(Want::Required, way, false).await.unwrap();
            assert_eq!(peer.remote.to_string(), "203.0.113.9:4711");
            let proxied = peer.proxied.as_ref().unwrap();
            assert_eq!(proxied.sender.to_string(), PEER);
            assert_eq!(proxied.destination.to_string(), "198.51.100.1:443");
            assert_eq!(rest, b"PROXY is the client's own");
        }
    }
}

/// P65: a health check of the proxy in front, or a client without an address of IP.
#[tokio::test]
async fn t38_local_and_unknown_keep_the_real_peer() {
    let header = |version, origin| Header::new(version, origin).encode();
    for bytes in [
        header(Version::V1, Origin::Unknown),
        header(Version::V2, Origin::Unknown),
        header(Version::V2, Origin::Local),
    ] {
        let (peer, rest) =
            taken(Want::Required, vec![[&bytes[..], b"x"].concat()], false).await.unwrap();
        assert_eq!((peer.remote.to_string().as_str(), &rest[..]), (PEER, &b"x"[..]));
        assert!(peer.proxied.is_none());
    }
}

#[tokio::test]
async fn t38_without_a_header_optional_goes_on_and_required_does_not() {
    let get = b"P / HTTP/1.1\r\n\r\n";
    for way in [vec![get.to_vec()], bytewise(get)] {
        let (peer, rest) = taken(Want::Optional, way.clone(), false).await.unwrap();
        assert_eq!((peer.remote.to_string().as_str(), &rest[..]), (PEER, &get[..]));
        let error = taken(Want::Required, way, true).await.unwrap_err();
        assert_eq!(error.code(), Code::ProxyHeader);
        assert!(error.sentence().contains("requires"), "{error}");
    }
}

#[tokio::test]
async fn t38_what_is_malformed_or_cut_off_is_refused_either_way() {
    for want in Want::ALL {
        for (bytes, word) in [
            (&b"PROXY TCP4 1.2.3.4\r\n"[..], "malformed"),
            (&LINE[..LINE.len() - 1], "ended within"),
            (&v2()[..20], "ended within"),
            (b"P", "ended within"),
        ] {
            let error = taken(want, vec![bytes.to_vec()], false).await.unwrap_err();
            assert_eq!(error.code(), Code::ProxyHeader);
            assert!(error.sentence().contains(word), "{error}");
        }
        // A probe of the port is no attack.
        let error = taken(want, Vec::new(), false).await.unwrap_err();
        assert_eq!(error.code(), Code::ClientClosed);
    }
}

/// T38, D01. Silence is no header where none is needed: the server may be the one to speak first.
#[tokio::test(start_paused = true)]
async fn d01_a_header_has_five_seconds() {
    for (want, sent) in
        [(Want::Required, &b""[..]), (Want::Required, &LINE[..40]), (Want::Optional, &LINE[..5])]
    {
        let began = tokio::time::Instant::now();
        let error = taken(want, vec![sent.to_vec()], true).await.unwrap_err();
        assert_eq!(error.code(), Code::ProxyHeader);
        assert!(error.sentence().contains("5s"), "{error}");
        assert!((WAIT..WAIT * 2).contains(&began.elapsed()));
    }
    let (peer, rest) = taken(Want::Optional, Vec::new(), true).await.unwrap();
    assert_eq!((peer.remote.to_string().as_str(), &rest[..]), (PEER, &b""[..]));
}

#[test]
fn t38_only_listed_sources_are_listened_to() {
    let rule = rule(Want::Required);
    let is_listed = |ip: &str| rule.concerns(PeerAddr::Ip(ip.parse().unwrap()));
    assert!(is_listed(PEER));
    assert!(!is_listed("192.0.3.1:1") && !is_listed("[::1]:1") && !rule.concerns(PeerAddr::Unix));
    let all = ProxyProtocol { from: Vec::new(), want: Want::Required };
    assert!(all.concerns(PeerAddr::Unix) && all.concerns(PeerAddr::Ip(PEER.parse().unwrap())));
}
