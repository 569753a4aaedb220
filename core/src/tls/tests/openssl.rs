//! The same room with the other implementation on the far side: OpenSSL's own tools.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Ca, H1, H2};
use crate::net::Socket;
use crate::tls::{ClientAuth, ClientSettings, ClientTls, ServerTls, TlsInfo};

/// One connection of `openssl s_client`; what both sides say about it.
async fn visit(server: &ServerTls, ca: &Ca, args: &[&str]) -> (std::io::Result<TlsInfo>, Output) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &listener.local_addr().unwrap().to_string()]);
    client.args(["-servername", "A.test", "-verify_hostname", "a.test", "-ign_eof"]);
    client.arg("-verify_return_error").arg("-CAfile").arg(ca.path("ca.pem"));
    client.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let client = client.spawn().unwrap();
    let client = tokio::task::spawn_blocking(|| client.wait_with_output().unwrap());
    let (socket, _) = listener.accept().await.unwrap();
    let info = match server.accept(Socket::Tcp(socket)).await {
        Ok((mut stream, info)) => {
            stream.write_all(b"hello from gwproxy\n").await.unwrap();
            stream.shutdown().await.unwrap();
            Ok(info)
        }
        Err(error) => Err(error),
    };
    (info, client.await.unwrap())
}

fn said(output: &Output, what: &str) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(what)
        || String::from_utf8_lossy(&output.stderr).contains(what)
}

#[tokio::test]
async fn s_client_agrees_and_resumes() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[H2, H1]);
    for (flag, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let session = ca.path(version).display().to_string();
        let (info, output) =
            visit(&server, &ca, &[flag, "-alpn", "http/1.1,h2", "-sess_out", &session]).await;
        let info = info.unwrap();
        assert!(said(&output, "Verify return code: 0 (ok)"), "{output:?}");
        assert!(said(&output, "ALPN protocol: h2") && said(&output, "hello from gwproxy"));
        assert_eq!((info.version, info.sni.as_deref()), (version, Some("a.test")));
        assert_eq!(info.alpn.as_deref(), Some(H2));
        assert!(!info.resumed && said(&output, "New, TLSv1"), "{output:?}");

        let (info, output) = visit(&server, &ca, &[flag, "-sess_in", &session]).await;
        assert!(info.unwrap().resumed, "{output:?}");
        assert!(said(&output, "Reused, TLSv1"), "{output:?}");
    }
}

#[tokio::test]
async fn s_client_shows_its_certificate_or_is_refused() {
    let ca = Ca::new();
    let server = ca.asking(&["a.test"], ClientAuth::Required);
    let pair = ca.pair("client", &["user.test"]);
    let (cert, key) = (pair.cert.display().to_string(), pair.key.display().to_string());
    let (info, _) = visit(&server, &ca, &["-cert", &cert, "-key", &key]).await;
    assert_eq!(info.unwrap().client.unwrap().names, ["DNS:user.test"]);
    let (info, output) = visit(&server, &ca, &[]).await;
    assert!(info.unwrap_err().to_string().contains("gave no certificate"));
    assert!(said(&output, "alert certificate required"), "{output:?}");
}

#[tokio::test]
async fn s_client_of_an_older_version_is_refused() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    for version in ["-tls1", "-tls1_1"] {
        let (info, output) = visit(&server, &ca, &[version, "-cipher", "ALL:@SECLEVEL=0"]).await;
        assert!(info.is_err() && !output.status.success(), "{version}");
        assert!(said(&output, "alert"), "{output:?}");
    }
}

/// A running `openssl s_server`, ended when dropped.
struct Node {
    child: Child,
    addr: String,
    // Held open: a server that cannot write its log ends.
    _log: BufReader<ChildStdout>,
}

impl Node {
    fn start(ca: &Ca, args: &[&str]) -> Self {
        let pair = ca.pair("node", &["a.test"]);
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-www"]).args(args);
        command.arg("-cert").arg(pair.cert).arg("-key").arg(pair.key);
        command.stdout(Stdio::piped()).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ACCEPT ") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
        }
        let addr = line.trim_start_matches("ACCEPT ").trim_end().to_owned();
        Self { child, addr, _log: log }
    }

    /// Asks for its status page, which tells what it knows of the session.
    async fn status(&self, client: &ClientTls) -> std::io::Result<(Option<Vec<u8>>, String)> {
        let socket = Socket::Tcp(TcpStream::connect(&self.addr).await?);
        let mut stream = client.connect(socket).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut page = Vec::new();
        stream.read_to_end(&mut page).await?;
        let alpn = stream.alpn().map(<[u8]>::to_vec);
        Ok((alpn, String::from_utf8_lossy(&page).into_owned()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn s_server_is_believed_and_its_sessions_are_resumed() {
    let ca = Ca::new();
    for (flag, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let node = Node::start(&ca, &[flag, "-alpn", "h2,http/1.1"]);
        let client = ca.client("a.test", &[H2, H1]);
        let (alpn, page) = node.status(&client).await.unwrap();
        assert_eq!(alpn.as_deref(), Some(H2));
        assert!(page.contains(&format!("New, {version}")), "{page}");
        let (_, page) = node.status(&client).await.unwrap();
        assert!(page.contains(&format!("Reused, {version}")), "{page}");
        let stranger = Ca::new().client("a.test", &[]);
        let refused = node.status(&stranger).await.unwrap_err().to_string();
        assert!(refused.contains("not signed by a trusted authority"), "{refused}");
    }
}

#[tokio::test]
async fn s_server_that_asks_is_shown_our_certificate() {
    let ca = Ca::new();
    let trusted = ca.path("ca.pem").display().to_string();
    // -Verify: a certificate is required.
    let node = Node::start(&ca, &["-Verify", "1", "-verify_return_error", "-CAfile", &trusted]);
    let page = node.status(&ca.client_showing("a.test", &["user.test"])).await.unwrap().1;
    assert!(page.contains("Client certificate"), "{page}");
    assert!(node.status(&ca.client("a.test", &[])).await.is_err());
}

#[tokio::test]
async fn s_server_of_an_older_version_is_refused() {
    let ca = Ca::new();
    let node = Node::start(&ca, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    let anyone = ClientSettings { danger_skip_verify: true, ..ClientSettings::default() };
    let client = ClientTls::new(&anyone, "a.test", &[]).unwrap();
    let refused = node.status(&client).await.unwrap_err().to_string();
    assert!(refused.contains("`ProtocolVersion`"), "{refused}");
}
