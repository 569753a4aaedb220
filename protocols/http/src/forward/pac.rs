//! How clients are told to use the proxy: the PAC file and the lines for each system's settings.

use std::fmt::Write as _;

use bytes::Bytes;
use gwproxy_core::net::{HostPort, ListenAddr, PeerAddr};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::uri::Scheme;
use http::{HeaderValue, Method, StatusCode};

use crate::body::Body;
use crate::h1::head::Reject;
use crate::serve::Client;
use crate::{Request, Response, rescue};

/// Where the PAC file is.
pub const PATH: &str = "/proxy.pac";

/// The answer to a request for the PAC file.
pub(super) fn answer(request: &Request, client: &Client, websocket_only: bool) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let reason = "the PAC file can only be read";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let mut response = rescue::rejected(&Reject { status, reason });
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let is_tls = client.scheme == Scheme::HTTPS;
    let Some(proxy) = reached_at(request, client, is_tls) else {
        let reason = "the Host field does not say how this proxy is reached";
        return rescue::rejected(&Reject { status: StatusCode::BAD_REQUEST, reason });
    };
    let mut response =
        Response::new(Body::full(Bytes::from(script(&proxy, is_tls, websocket_only))));
    let headers = response.headers_mut();
    let pac = HeaderValue::from_static("application/x-ns-proxy-autoconfig");
    headers.insert(CONTENT_TYPE, pac);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The proxy as this client reaches it: by the `Host` it used, else by the address it connected
/// to. `HostPort` has only characters that cannot leave a JavaScript string.
fn reached_at(request: &Request, client: &Client, is_tls: bool) -> Option<HostPort> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let default_port = if is_tls { 443 } else { 80 };
    match (host.filter(|host| !host.is_empty()), client.peer.local) {
        (Some(host), _) => HostPort::parse(host, Some(default_port)).ok(),
        (None, PeerAddr::Ip(local)) => {
            Some(HostPort { host: local.ip().to_string().into(), port: local.port() })
        }
        (None, PeerAddr::Unix) => None,
    }
}

/// The PAC file. Names of this machine and of the local network go direct, because the proxy
/// would refuse them; everything else goes through the proxy and nowhere else: falling back to a
/// direct connection would show the client's address when the proxy is down. A proxy for WebSocket
/// only is for nothing else: pages would get a 426 from it.
fn script(proxy: &HostPort, is_tls: bool, websocket_only: bool) -> String {
    let kind = if is_tls { "HTTPS" } else { "PROXY" };
    let others = if websocket_only {
        r#"  if (!shExpMatch(url, "ws://*") && !shExpMatch(url, "wss://*")) {
    return "DIRECT";
  }
"#
    } else {
        ""
    };
    format!(
        r#"function FindProxyForURL(url, host) {{
{others}  if (isPlainHostName(host) || shExpMatch(host, "*.localhost") || shExpMatch(host, "*.local") ||
      shExpMatch(host, "127.*") || host === "[::1]" || host === "::1") {{
    return "DIRECT";
  }}
  return "{kind} {proxy}";
}}
"#
    )
}

/// The lines that make each system use a proxy on `listen`, to be printed at start.
///
/// `is_tls`: the listener speaks TLS. The settings of the systems know only plain proxies; the
/// PAC file and `https_proxy=https://…` know both. `user`: one of those who may use it; programs
/// that are told nothing of a user ask for one. `websocket_only`: what would send it pages as well
/// is left out.
pub fn guide(
    listen: &ListenAddr,
    is_tls: bool,
    user: Option<&str>,
    websocket_only: bool,
) -> String {
    let (host, port) = match listen {
        ListenAddr::Any(port) => ("127.0.0.1".to_owned(), *port),
        ListenAddr::Tcp(addr) if addr.ip().is_unspecified() => {
            (if addr.is_ipv4() { "127.0.0.1" } else { "::1" }.to_owned(), addr.port())
        }
        ListenAddr::Tcp(addr) => (addr.ip().to_string(), addr.port()),
        ListenAddr::Unix(path) => {
            return format!(
                "use this forward proxy from a program that can reach a Unix socket: {}\n",
                path.display()
            );
        }
    };
    let at = HostPort { host: host.as_str().into(), port };
    let scheme = if is_tls { "https" } else { "http" };
    let mut text = String::with_capacity(1024);
    // Writing to a String cannot fail.
    let login = user.map(login).unwrap_or_default();
    if websocket_only {
        // RFC 6455 has no variables; these are the ones that no program takes pages by.
        let _ = writeln!(
            text,
            "use this forward proxy (WebSocket only; pages would get 426):\n  \
             shell    export ws_proxy={scheme}://{login}{at} wss_proxy={scheme}://{login}{at} \
             no_proxy=localhost,127.0.0.1\n  \
             PAC      {scheme}://{at}{PATH}   (only ws:// and wss:// take it)"
        );
        return text;
    }
    let _ = writeln!(text, "use this forward proxy:");
    let _ = writeln!(
        text,
        "  shell    export http_proxy={scheme}://{login}{at} https_proxy={scheme}://{login}{at} \
         no_proxy=localhost,127.0.0.1"
    );
    let _ = writeln!(text, "  PAC      {scheme}://{at}{PATH}");
    if is_tls {
        let _ = writeln!(
            text,
            "  macOS    networksetup -setautoproxyurl Wi-Fi {scheme}://{at}{PATH}\n  \
             Windows  Settings > Network & internet > Proxy > Use setup script: \
             {scheme}://{at}{PATH}\n  \
             GNOME    gsettings set org.gnome.system.proxy autoconfig-url '{scheme}://{at}{PATH}'\n           \
             gsettings set org.gnome.system.proxy mode auto"
        );
        return text;
    }
    let _ = writeln!(
        text,
        "  macOS    networksetup -setwebproxy Wi-Fi {host} {port}\n           \
         networksetup -setsecurewebproxy Wi-Fi {host} {port}\n  \
         Windows  netsh winhttp set proxy {at}   (services, as administrator)\n           \
         Set-ItemProperty 'HKCU:\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings' \
         -Name ProxyServer -Value '{at}'\n           \
         Set-ItemProperty 'HKCU:\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings' \
         -Name ProxyEnable -Value 1\n  \
         GNOME    gsettings set org.gnome.system.proxy.http host '{host}'\n           \
         gsettings set org.gnome.system.proxy.http port {port}\n           \
         gsettings set org.gnome.system.proxy.https host '{host}'\n           \
         gsettings set org.gnome.system.proxy.https port {port}\n           \
         gsettings set org.gnome.system.proxy mode manual"
    );
    text
}

/// The user of a URL, with the password left to fill in. Names that would need escaping there are
/// left to fill in as well.
fn login(user: &str) -> String {
    let plain = user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    format!("{}:PASSWORD@", if plain { user } else { "USER" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_names_the_address_for_every_system() {
        let guide = |listen: &str, is_tls| guide(&listen.parse().unwrap(), is_tls, None, false);
        let text = guide("127.0.0.1:3128", false);
        for line in [
            "http_proxy=http://127.0.0.1:3128 https_proxy=http://127.0.0.1:3128",
            "http://127.0.0.1:3128/proxy.pac",
            "networksetup -setwebproxy Wi-Fi 127.0.0.1 3128",
            "networksetup -setsecurewebproxy Wi-Fi 127.0.0.1 3128",
            "netsh winhttp set proxy 127.0.0.1:3128",
            "-Name ProxyServer -Value '127.0.0.1:3128'",
            "org.gnome.system.proxy.https port 3128",
            "org.gnome.system.proxy mode manual",
        ] {
            assert!(text.contains(line), "`{line}` is not in:\n{text}");
        }
        assert!(guide(":8080", false).contains("http_proxy=http://127.0.0.1:8080 "));
        assert!(guide("[::1]:8080", false).contains("http://[::1]:8080/proxy.pac"));
        assert!(guide("[::]:8080", false).contains("http://[::1]:8080/proxy.pac"));
        let tls = guide("127.0.0.1:3129", true);
        assert!(tls.contains("https_proxy=https://127.0.0.1:3129"), "{tls}");
        assert!(tls.contains("-setautoproxyurl Wi-Fi https://127.0.0.1:3129/proxy.pac"), "{tls}");
        assert!(!tls.contains("-setwebproxy"), "{tls}");
        let tls = super::guide(&"127.0.0.1:1".parse().unwrap(), true, Some("ann"), false);
        assert!(tls.contains("http_proxy=https://ann:PASSWORD@127.0.0.1:1 "), "{tls}");
        let odd = super::guide(&":1".parse().unwrap(), false, Some("a@b"), false);
        assert!(odd.contains("https_proxy=http://USER:PASSWORD@127.0.0.1:1 "), "{odd}");
        assert!(guide("unix:/run/p.sock", false).contains("/run/p.sock"));
    }

    /// A machine set up so goes on showing pages.
    #[test]
    fn a_proxy_for_websocket_is_told_to_nothing_else() {
        for is_tls in [false, true] {
            let text = guide(&"127.0.0.1:3128".parse().unwrap(), is_tls, Some("ann"), true);
            let scheme = if is_tls { "https" } else { "http" };
            let at = format!("{scheme}://ann:PASSWORD@127.0.0.1:3128");
            assert!(text.contains(&format!(" ws_proxy={at} wss_proxy={at} ")), "{text}");
            for word in ["http_proxy", "https_proxy", "macOS", "Windows", "GNOME"] {
                assert!(!text.contains(word), "{word}: {text}");
            }
        }
        let script = script(&"proxy.example:3128".parse().unwrap(), false, true);
        let others = "if (!shExpMatch(url, \"ws://*\") && !shExpMatch(url, \"wss://*\")) {\n    \
                      return \"DIRECT\";";
        assert!(script.contains(others), "{script}");
        assert!(script.contains("return \"PROXY proxy.example:3128\";"), "{script}");
    }

    #[test]
    fn the_script_names_one_proxy_and_no_way_around_it() {
        let script = script(&"proxy.example:3128".parse().unwrap(), false, false);
        assert!(script.contains("return \"PROXY proxy.example:3128\";"), "{script}");
        assert_eq!(script.matches("DIRECT").count(), 1);
    }
}
