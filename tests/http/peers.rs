//! Other people's programs on either side: nginx and `HAProxy` as nodes, nghttp2's clients.

use std::io::Write;
use std::path::Path;

use crate::support::{Proxy, Server, curl, echo, run, tool};

fn write(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).expect("a file can be made");
    file.write_all(text.as_bytes()).expect("it can be written");
}

/// Serves the directory `www` as one process, so that ending it leaves nobody behind.
fn nginx() -> Server {
    Server::start(|dir, addr| {
        std::fs::create_dir(dir.join("www")).expect("a directory");
        std::fs::write(dir.join("www/large"), pattern(5 << 20)).expect("a file");
        let config = dir.join("nginx.conf");
        let at = dir.display();
        write(
            &config,
            &format!(
                "daemon off; master_process off; pid {at}/pid; error_log stderr warn;
                 events {{ worker_connections 64; }}
                 http {{
                   access_log off; gzip on; gzip_types *; gzip_proxied any;
                   client_body_temp_path {at}/1; proxy_temp_path {at}/2;
                   fastcgi_temp_path {at}/3; uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;
                   server {{
                     listen {addr} reuseport; root {at}/www; absolute_redirect off;
                     location /text {{ return 200 \"$request_method $request_uri $http_via\\n\"; }}
                     location /moved {{ return 301 /text; }}
                   }}
                 }}"
            ),
        );
        let mut command = tool("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(&config);
        command
    })
}

/// Answers over HTTP/2 without TLS.
fn haproxy() -> Server {
    Server::start(|dir, addr| {
        let config = dir.join("haproxy.cfg");
        write(
            &config,
            &format!(
                "global
  log stderr format raw local0 err
defaults
  mode http
  timeout client 30s
frontend h2c
  bind {addr} proto h2
  http-request return status 200 content-type text/plain hdr x-version \"%[req.ver]\" \
lf-string \"%[method] %[path] %[req.hdr(host)]\\n\"
"
            ),
        );
        let mut command = tool("haproxy");
        command.arg("-db").arg("-f").arg(&config);
        command
    })
}

/// Bytes that differ from place to place.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn a_file_of_nginx_crosses_whole_and_in_parts() {
    let nginx = nginx();
    let proxy = Proxy::http(&nginx.url("http"), &["--access-log", "off"]);
    let large = std::fs::read(nginx.dir().join("www/large")).expect("the file");
    let url = proxy.url("http", "/large");
    for version in ["--http1.1", "--http1.0", "--http2-prior-knowledge"] {
        let got = curl(&[version, &url]).ok();
        assert!(got.stdout == large, "{version}: {} of {} bytes", got.stdout.len(), large.len());
    }
    let part = curl(&["-r", "1000-1999", "-w", "%{stderr}%{http_code}", &url]).ok();
    assert_eq!(part.stderr, "206");
    assert!(part.stdout == large[1000..2000], "{} bytes", part.stdout.len());
    // Compressed by the node, without a length: chunked, and intact.
    let zipped = curl(&["--compressed", "-w", "%{stderr}%header{content-encoding}", &url]).ok();
    assert_eq!(zipped.stderr, "gzip");
    assert!(zipped.stdout == large);
    let head = curl(&["-I", &url]).ok().text().to_lowercase();
    assert!(head.contains("content-length: 5242880\r\n"), "{head}");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").trim();
    let same = curl(&["-H", &format!("If-None-Match: {etag}"), "-w", "%{http_code}", &url]).ok();
    assert_eq!(same.text(), "304");
}

#[test]
fn nginx_sees_the_request_and_its_answers_are_not_changed() {
    let nginx = nginx();
    let proxy = Proxy::http(&nginx.url("http"), &["--access-log", "off"]);
    let seen = curl(&["-X", "PURGE", &proxy.url("http", "/text?a=%20b")]).ok().text();
    assert_eq!(seen, "PURGE /text?a=%20b 1.1 gwproxy\n");
    // Statuses pass, 404 and 405 as they are, and a redirect leads back through the proxy.
    for (path, method, status) in [("/none", "GET", "404"), ("/large", "POST", "405")] {
        let options = ["-X", method, "-o", "/dev/null", "-w", "%{http_code}"];
        let url = proxy.url("http", path);
        let got = curl(&[&options[..], &[&url]].concat()).ok();
        assert_eq!(got.text(), status);
    }
    let followed =
        curl(&["-L", "-w", "%{num_redirects} %{url_effective}", &proxy.url("http", "/moved")]);
    let expected = format!("GET /text 1.1 gwproxy\n1 {}", proxy.url("http", "/text"));
    assert_eq!(followed.ok().text(), expected);
}

#[test]
fn haproxy_is_reached_over_http2() {
    let haproxy = haproxy();
    let proxy = Proxy::http(&haproxy.url("h2c"), &["--access-log", "off"]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let url = proxy.url("http", "/x");
        let options = [version, "-H", "Host: shop.test", "-w", "%{stderr}%header{x-version}", &url];
        let got = curl(&options).ok();
        assert_eq!(got.text(), "GET /x shop.test\n", "{version}");
        assert_eq!(got.stderr, "2.0", "{version}");
    }
}

/// Many streams at once on few connections, both versions, not one of them lost.
#[test]
fn h2load_loses_no_request() {
    let echo = echo("http", &[]);
    for scheme in ["http", "h2c"] {
        let proxy = Proxy::http(&echo.url(scheme, ""), &["--workers", "2", "--access-log", "off"]);
        for version in ["--h1", "--no-tls-proto=h2c"] {
            let mut command = tool("h2load");
            let url = proxy.url("http", "/bytes/10000");
            command.args(["-n", "600", "-c", "6", "-m", "10", version, &url]);
            let said = run(&mut command, b"").ok().text();
            let all = "600 total, 600 started, 600 done, 600 succeeded, 0 failed, 0 errored";
            assert!(said.contains(all), "{version} to {scheme}: {said}");
            assert!(said.contains("600 2xx"), "{version} to {scheme}: {said}");
        }
    }
}
