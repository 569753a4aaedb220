//! Paths and request targets: one meaning, for every reader.

use std::borrow::Cow;

use bytes::BytesMut;
use gwproxy_core::net::{HostPort, ListenAddr};
use gwproxy_http::h1::head::{Limits, Scan, parse_request};
use gwproxy_http::wire::Ambiguous;
use gwproxy_http::wire::path::canonical;
use http::Method;

use super::text_of;

fn hex(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u8::from_str_radix(text, 16).ok()
}

/// What a server makes of it that decodes every percent-encoding once.
fn decoded(path: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), path);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match after.get(..2).and_then(hex).filter(|_| byte == b'%') {
            Some(code) => {
                out.push(code);
                rest = &after[2..];
            }
            None => out.push(byte),
        }
    }
    out
}

/// Where a path leads for a server that splits at slashes and knows dots.
fn leads_to(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut at = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(at.pop()?),
            name => at.push(name),
        }
    }
    Some(at)
}

/// A spelling is its own spelling; nobody reads it as leading up, decoded never, once or twice; and
/// it leads where the path led.
pub(super) fn path(data: &[u8]) {
    let Some(path) = text_of(data) else { return };
    for slash in [Ambiguous::Refuse, Ambiguous::Keep] {
        let Ok(one) = canonical(path, slash) else { continue };
        assert_eq!(canonical(&one, slash).as_deref(), Ok(&*one), "not its own spelling");
        assert!(
            matches!(canonical(&one, slash), Ok(Cow::Borrowed(_))) || one.contains(['%', ';', '.'])
        );
        assert!(one.starts_with('/') && !one.contains("//"));
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>?[\\]^`{|}".contains(&byte);
        assert!(one.bytes().all(is_plain), "{one:?} has what no path has");
        let once = decoded(one.as_bytes());
        let twice = decoded(&once);
        for read in [one.as_bytes(), &once, &twice] {
            assert!(!read.contains(&b'\\') && !read.contains(&0), "{one}");
            for segment in read.split(|byte| *byte == b'/') {
                let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
                assert!(name != b"." && name != b"..", "{one} leads up");
            }
        }
        if slash == Ambiguous::Refuse {
            let given = decoded(path.as_bytes());
            assert_eq!(leads_to(&given), leads_to(&once), "{path} leads elsewhere than {one}");
            assert!(canonical(path, Ambiguous::Keep).is_ok(), "keeping refuses no more");
        }
    }
}

/// A target that is accepted has no part that another reader leaves out; a host is printed as it
/// is read, and means one address.
pub(super) fn request_target(data: &[u8]) {
    for method in [Method::GET, Method::CONNECT, Method::OPTIONS] {
        let head =
            [method.as_str().as_bytes(), b" ", data, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
        let (mut buf, mut scan) = (BytesMut::from(&head[..]), Scan::default());
        let Ok(Some(head)) = parse_request(&mut buf, &mut scan, &Limits::default()) else {
            continue;
        };
        if !buf.is_empty() || head.request.method() != method {
            continue; // A line end in `data`: another request than meant.
        }
        let uri = head.request.uri();
        let text = uri.to_string();
        assert!(!text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#'), "{text:?}");
        if let Some(authority) = uri.authority() {
            assert!(!authority.as_str().contains('@'), "userinfo in {text}");
            if let Some(port) = authority.port() {
                assert!(port.as_str().bytes().all(|byte| byte.is_ascii_digit()), "{text}");
            }
            if let Ok(at) = HostPort::parse(authority.as_str(), Some(80)) {
                let host = authority.host().trim_matches(['[', ']']);
                assert!(at.host.eq_ignore_ascii_case(host), "two hosts in {text}");
                assert!(authority.port_u16().is_none_or(|port| port == at.port));
            }
        }
        match method {
            Method::CONNECT => assert!(uri.port_u16().is_some_and(|port| port != 0)),
            _ if uri.authority().is_none() && text != "*" => assert!(text.starts_with('/')),
            _ => {}
        }
    }
    let Some(text) = text_of(data) else { return };
    if let Ok(at) = text.parse::<HostPort>() {
        assert_eq!(at.to_string().parse().as_ref(), Ok(&at));
        assert!(at.port != 0 && *at.host == at.host.to_ascii_lowercase());
    }
    if let Ok(at) = text.parse::<ListenAddr>() {
        assert_eq!(at.to_string().parse().as_ref(), Ok(&at));
    }
}
