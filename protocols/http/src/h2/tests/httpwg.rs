//! The cases of `httpwg` for RFC 9113, each a test of its own, against a listener with prior
//! knowledge. All of them hold.

use std::future::Future;
use std::rc::Rc;

use buffet::IntoHalves;
use bytes::Bytes;
use http::Response;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::support::{node, run};

/// The connection of a case, on tokio: buffet's own would need `io_uring`.
pub(super) struct Io(TcpStream);

impl IntoHalves for Io {
    type Read = OwnedReadHalf;
    type Write = OwnedWriteHalf;

    fn into_halves(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        self.0.into_split()
    }
}

/// Buffers of 4 KiB that one case may use at a time.
const BUFFERS: u32 = 1024;

/// P44, P45, P46, P47, P50, P51: plays one case. Those of RFC 9113 §4 to §6 are P50's, those of §8.1 to
/// §8.3 the others'.
fn a_case_of_httpwg_holds<F, E>(test: impl FnOnce(httpwg::Conn<Io>) -> F)
where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Debug,
{
    run(async |house| {
        buffet::bufpool::initialize_allocator_with_num_bufs(BUFFERS).unwrap();
        let node = node(h2::server::Builder::new(), |_, mut respond| async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            let _ = send.send_data(Bytes::from_static(b"content"), true);
        });
        let addr = house.proxy(&[node.await]);
        let tcp = TcpStream::connect(addr).await.unwrap();
        // The clock stands still only as long as nothing lingers in the system.
        tcp.set_nodelay(true).unwrap();
        let conn = httpwg::Conn::new(Rc::new(httpwg::Config::default()), Io(tcp));
        test(conn).await.unwrap();
    });
}

httpwg_macros::tests! {{
    crate::h2::tests::httpwg::a_case_of_httpwg_holds(test::<crate::h2::tests::httpwg::Io>);
}}
