//! A site for browsers: a page, and a WebSocket that it talks on, behind a gateway.

use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use crate::support::{Authority, Origin, PATIENCE, Proxy, echo, eventually};

/// The page writes down what happens on its WebSocket and then asks for `/done`. It is loaded only
/// when its picture is, which the server holds back until then.
const PAGE: &str = "<!doctype html><title>a page</title><pre id=told></pre><img src=/held><script>\n\
    const told = line => document.getElementById('told').append(line + '\\n');\n\
    const socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws/', ['chat']);\n\
    socket.binaryType = 'arraybuffer';\n\
    const parts = ['grüße', new Uint8Array(70000).fill(7), 'x'.repeat(300000)];\n\
    const next = () => parts.length ? socket.send(parts.shift()) : socket.close(4001, 'enough');\n\
    socket.onopen = () => { told('open ' + socket.protocol); next(); };\n\
    socket.onmessage = ({data}) => {\n\
        const bytes = typeof data === 'string' ? null : new Uint8Array(data);\n\
        told(bytes ? `binary ${bytes.length} ${bytes.every(b => b === 7)}`\n\
            : data.length > 100 ? `text ${data.length}` : `text ${data}`);\n\
        next();\n\
    };\n\
    socket.onclose = ({code, wasClean}) => { told(`close ${code} ${wasClean}`); fetch('/done'); };\n\
    </script>";

/// Serves the page.
fn page() -> Origin {
    let done = Arc::new((Mutex::new(false), Condvar::new()));
    Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            let (is_done, told) = &*done;
            let body = match request.target() {
                "/done" => {
                    *is_done.lock().expect("not poisoned") = true;
                    told.notify_all();
                    ""
                }
                "/held" => {
                    let waiting = is_done.lock().expect("not poisoned");
                    let waited = told.wait_timeout_while(waiting, PATIENCE, |done| !*done);
                    drop(waited.expect("not poisoned"));
                    ""
                }
                "/page" => {
                    *is_done.lock().expect("not poisoned") = false;
                    PAGE
                }
                _ => "",
            };
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

/// The gateway and what is behind it.
#[derive(Debug)]
pub(crate) struct Site {
    gateway: Proxy,
    _page: Origin,
    _echo: Proxy,
    _mint: Authority,
}

impl Site {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let (page, echo, mint) = (page(), echo("ws", &[]), Authority::new());
        let pair = mint.leaf("front", &["localhost", "127.0.0.1"]);
        let gateway = Proxy::run_file(&format!(
            "listeners:\n\
             - {{name: plain, bind: \"127.0.0.1:0\"}}\n\
             - {{name: tls, bind: \"127.0.0.1:0\", \
             tls: {{certificates: [{{cert: \"{}\", key: \"{}\"}}]}}}}\n\
             routes:\n\
             - {{id: ws, path: /ws, service: echo}}\n\
             - {{id: page, path: /, service: page}}\n\
             services:\n\
             - {{id: echo, nodes: [\"{}\"]}}\n\
             - {{id: page, nodes: [\"{}\"]}}\n",
            pair.cert.display(),
            pair.key.display(),
            echo.url("http", ""),
            page.url()
        ));
        Self { gateway, _page: page, _echo: echo, _mint: mint }
    }

    /// The line of the access log for this path.
    #[track_caller]
    pub(crate) fn line_of(&self, path: &str) -> Value {
        let parse = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        eventually("a line of the access log", || {
            self.gateway.stdout().lines().map(parse).find(|line| line["path"] == path)
        })
    }

    /// Ports of HTTP and of HTTPS.
    pub(crate) fn ports(&self) -> [u16; 2] {
        [0, 1].map(|number| self.gateway.addr(number).port())
    }
}

/// What the page must have written down.
#[track_caller]
pub(crate) fn assert_told(dom: &str) {
    let expected = "open chat\ntext grüße\nbinary 70000 true\ntext 300000\nclose 4001 true\n";
    assert!(dom.contains(expected), "{dom}");
}
