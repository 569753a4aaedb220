//! curl: what is reached, by whom, and what is refused.

use super::forward;
use crate::support::{Authority, Finished, Origin, curl, echo, home, run, tool, wrapped};

/// curl through a proxy, which must answer; the statuses of CONNECT and of the request, then the
/// body.
#[track_caller]
fn through(proxy: &str, options: &[&str], url: &str) -> (String, String) {
    let codes = "%{stderr}%{http_connect} %{http_code}\n";
    let done = curl(&[&["--noproxy", "", "-x", proxy, "-w", codes, url], options].concat());
    let code = done.stderr.lines().find(|line| line.len() == 7 && !line.contains(':'));
    let code = code.unwrap_or_else(|| panic!("no status: {}", done.stderr));
    (code.to_owned(), done.text())
}

/// The echo server with TLS for `127.0.0.1`.
fn tls_echo(mint: &Authority) -> crate::support::Proxy {
    let flags = mint.leaf("site", &["127.0.0.1"]).flags();
    echo("http", &flags.each_ref().map(String::as_str))
}

#[test]
fn row_1_1_curl_reaches_http_and_https() {
    let mint = Authority::new();
    let (ca, plain, secret) = (mint.ca(), echo("http", &[]), tls_echo(&mint));
    let allow = ["--allow", &plain.addr(0).to_string(), "--allow", &secret.addr(0).to_string()];
    let flags = mint.leaf("proxy", &["127.0.0.1"]).flags();
    let flags = flags.each_ref().map(String::as_str);
    let (open, tls) = (forward(&allow), forward(&[&allow[..], &flags].concat()));
    for proxy in [open.url("http", ""), tls.url("https", "")] {
        let options = ["--cacert", &ca, "--proxy-cacert", &ca];
        let (code, body) = through(&proxy, &options, &plain.url("http", "/hello?a=b"));
        assert_eq!(code, "000 200", "{body}");
        let seen: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&seen["path"], &seen["query"]), (&"/hello".into(), &"a=b".into()));
        assert!(body.contains("\"via\",\"1.1 gwproxy\""), "{body}");
        // A tunnel: HTTP/2 and the certificate are the site's own, and nothing is added.
        let (code, body) = through(&proxy, &options, &secret.url("https", "/hello"));
        assert_eq!(code, "200 200", "{body}");
        assert!(body.contains("\"version\":\"HTTP/2.0\"") && !body.contains("gwproxy"), "{body}");
        let upload = [&options[..], &["--data-binary", "@/proc/self/exe"]].concat();
        let size = std::fs::metadata(curl_path()).expect("it is there").len();
        for url in [plain.url("http", "/upload"), secret.url("https", "/upload")] {
            let (code, body) = through(&proxy, &upload, &url);
            assert!(code.ends_with(" 200") && body.contains(&size.to_string()), "{code}: {body}");
        }
    }
}

/// Where curl is: an upload of some size that every machine has.
fn curl_path() -> String {
    let found = run(tool("sh").args(["-c", "readlink -f \"$(command -v curl)\""]), b"");
    found.ok().text().trim_end().to_owned()
}

/// As the start says how: by the variables that curl and many others read.
#[test]
fn row_1_1_the_environment_sets_curl_up() {
    let mint = Authority::new();
    let (plain, secret) = (echo("http", &[]), tls_echo(&mint));
    let allow = ["--allow", &plain.addr(0).to_string(), "--allow", &secret.addr(0).to_string()];
    let proxy = forward(&allow);
    let said = proxy.stderr();
    let line = said.lines().find_map(|line| line.trim().strip_prefix("shell"));
    let export = line.unwrap_or_else(|| panic!("no line for shells: {said}")).trim();
    let script = format!("{export} no_proxy=; curl -sS --cacert \"$0\" \"$@\"");
    let urls = [plain.url("http", "/one"), secret.url("https", "/two")];
    let mut command = tool("sh");
    command.args(["-c", &script, &mint.ca()]).args(&urls);
    run(&mut command, b"").ok();
    let lines = proxy.wait_lines(2).concat();
    assert!(lines.contains("\"/one\"") && lines.contains("CONNECT"), "{lines}");
}

/// `gwproxy hash-password`.
#[track_caller]
fn hashed(password: &str) -> String {
    let home = home();
    let done: Finished =
        run(wrapped(&[], &home).arg("hash-password"), format!("{password}\n").as_bytes());
    done.ok().text().trim_end().to_owned()
}

#[test]
fn row_1_1_only_users_with_their_password_are_served() {
    let mint = Authority::new();
    let ca = mint.ca();
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let secret = tls_echo(&mint);
    let (one, other) = (origin.addr().to_string(), secret.addr(0).to_string());
    let user = format!("ann:{}", hashed("corréct horse"));
    let proxy = forward(&["--user", &user, "--allow", &one, "--allow", &other]);
    let proxy = proxy.url("http", "");
    let (plain, secret) = (origin.url(), secret.url("https", "/"));
    for wrong in [&[][..], &["-U", "ann:wrong"], &["-U", "bob:corréct horse"], &["-U", "ann:"]] {
        let options = [&["--cacert", &ca], wrong].concat();
        assert_eq!(through(&proxy, &options, &plain).0, "000 407", "{wrong:?}");
        assert_eq!(through(&proxy, &options, &secret).0, "407 000", "{wrong:?}");
    }
    assert_eq!(origin.connections(), 0, "nothing is dialled for strangers");
    let options = ["--cacert", &ca, "-U", "ann:corréct horse"];
    assert_eq!(through(&proxy, &options, &plain), ("000 200".to_owned(), "ok".to_owned()));
    let (code, body) = through(&proxy, &options, &secret);
    assert_eq!(code, "200 200", "{body}");
    // A password is for the proxy alone (RFC 9110 §11.7.1).
    for seen in [origin.seen().to_lowercase(), body.to_lowercase()] {
        assert!(!seen.is_empty() && !seen.contains("proxy-authorization"), "{seen}");
    }
}

#[test]
fn row_1_1_what_may_not_be_reached_is_refused() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let port = origin.addr().port();
    let refused = |options: &[&str], hosts: &[&str]| {
        let proxy = forward(options);
        let proxy = proxy.url("http", "");
        for host in hosts {
            let (code, body) = through(&proxy, &[], &format!("http://{host}/"));
            assert_eq!(code, "000 403", "{options:?} {host}: {body}");
            assert!(body.contains("destination_denied"), "{options:?} {host}: {body}");
            let (code, _) = through(&proxy, &[], &format!("https://{host}/"));
            assert_eq!(code, "403 000", "{options:?} {host}");
        }
    };
    let here = format!("127.0.0.1:{port}");
    // Private by default, however it is written, and the metadata service of clouds.
    let named = format!("localhost:{port}");
    let mapped = format!("[::ffff:127.0.0.1]:{port}");
    let zero = format!("0.0.0.0:{port}");
    let ports = ["--allow-port", &port.to_string(), "--allow-port", "80"];
    refused(&ports, &[&here, &named, &mapped, &zero, "169.254.169.254:80", "10.0.0.1:80"]);
    // What is denied is denied, whatever else is allowed.
    refused(&["--allow-private", "--deny", "127.0.0.0/8", "--allow", &here], &[&here, &named]);
    // What is not on the list is not looked up either.
    refused(&["--allow", &here], &["elsewhere.test", "127.0.0.2", "127.0.0.1:22"]);
    assert_eq!(origin.connections(), 0, "nothing was dialled");
    let proxy = forward(&["--allow-private"]);
    let (code, body) = through(&proxy.url("http", ""), &[], &format!("http://{here}/"));
    assert_eq!((code.as_str(), body.as_str()), ("000 200", "ok"));
    // Tunnels are for HTTPS, unless it is said otherwise.
    assert_eq!(through(&proxy.url("http", ""), &[], &format!("https://{here}/")).0, "403 000");
}
