//! How much of what a TCP socket took has not reached its peer.
//!
//! A kernel takes megabytes at once for a peer that was fast before, and says that there is room again
//! only when a third of them is gone. For a peer that is slow now that takes many minutes, in which
//! nothing shows whether it reads. The kernel knows: `sock_diag(7)` asks it without `unsafe`.

use tokio::net::TcpStream;

/// Bytes that `tcp` took and its peer has not acknowledged; none where the kernel does not say.
///
/// Three or four system calls and no waiting: not for every byte.
pub fn unsent(tcp: &TcpStream) -> Option<u64> {
    imp::unsent(tcp.local_addr().ok()?, tcp.peer_addr().ok()?)
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io::Read;
    use std::net::{IpAddr, SocketAddr};

    use socket2::{Domain, Protocol, Socket, Type};

    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const AF_NETLINK: i32 = 16;
    const IPPROTO_TCP: u8 = 6;
    const NETLINK_SOCK_DIAG: i32 = 4;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    /// `struct nlmsghdr` and `struct inet_diag_req_v2`.
    const REQUEST_BYTES: u32 = 16 + 56;
    /// Where `idiag_wqueue` stands in an answer: behind `struct nlmsghdr`, four bytes and a
    /// `struct inet_diag_sockid` of 48, `idiag_expires` and `idiag_rqueue`.
    const QUEUE_AT: usize = 16 + 4 + 48 + 8;

    pub(super) fn unsent(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
        let kind = Type::RAW.nonblocking().cloexec();
        let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
        let mut diag = Socket::new(Domain::from(AF_NETLINK), kind, protocol).ok()?;
        diag.send(&request(local, peer)).ok()?;
        // The kernel has answered before it returned.
        let mut answer = [0; 512];
        let count = diag.read(&mut answer).ok()?;
        let answer = answer.get(..count)?;
        let kind = answer.get(4..6)?;
        if *kind != SOCK_DIAG_BY_FAMILY.to_ne_bytes() {
            return None;
        }
        let queue = answer.get(QUEUE_AT..QUEUE_AT + 4)?;
        Some(u32::from_ne_bytes(queue.try_into().ok()?).into())
    }

    fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
        let scope = match local {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        let ips = (local.ip().to_canonical(), peer.ip().to_canonical());
        let family = if matches!(ips, (IpAddr::V4(_), IpAddr::V4(_))) { AF_INET } else { AF_INET6 };
        let mut bytes = Vec::with_capacity(REQUEST_BYTES as usize);
        bytes.extend(REQUEST_BYTES.to_ne_bytes());
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend(NLM_F_REQUEST.to_ne_bytes());
        bytes.extend([0; 8]); // sequence, sender
        bytes.extend([family, IPPROTO_TCP, 0, 0]);
        bytes.extend(u32::MAX.to_ne_bytes()); // in any state
        bytes.extend(local.port().to_be_bytes());
        bytes.extend(peer.port().to_be_bytes());
        for ip in [ips.0, ips.1] {
            let mut place = [0; 16];
            match ip {
                IpAddr::V4(v4) => place[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => place = v6.octets(),
            }
            bytes.extend(place);
        }
        bytes.extend(scope.to_ne_bytes());
        bytes.extend([0xff; 8]); // no cookie
        bytes
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::net::SocketAddr;

    pub(super) fn unsent(_: SocketAddr, _: SocketAddr) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    /// T24: what the kernel holds back for a peer that does not read is known to the byte, over
    /// IPv4, IPv6, and IPv4 on a socket of IPv6.
    #[tokio::test]
    async fn t24_the_kernel_tells_what_has_not_arrived() {
        for (bind, connect) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")]
        {
            let listener = TcpListener::bind(bind).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let to = SocketAddr::new(connect.parse().unwrap(), port);
            let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            let socket = socket.unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut reader = socket.connect(to).await.unwrap();
            let (mut writer, _) = listener.accept().await.unwrap();
            assert_eq!(unsent(&writer), Some(0), "{bind}");
            writer.write_all(&vec![0; 100_000]).await.unwrap();
            let mut before = unsent(&writer).unwrap();
            assert!((50_000..=100_000).contains(&before), "{before}");
            let mut taken = vec![0; 50_000];
            reader.read_exact(&mut taken).await.unwrap();
            // What was read has been acknowledged, or will be at once.
            while before > 50_000 {
                before = unsent(&writer).unwrap();
                tokio::task::yield_now().await;
            }
            reader.read_exact(&mut taken).await.unwrap();
            while unsent(&writer) != Some(0) {
                tokio::task::yield_now().await;
            }
        }
    }
}
