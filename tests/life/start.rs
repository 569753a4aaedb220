//! Starts that fail: one sentence that says what, where and how to mend it, and an exit code.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{
    Authority, Finished, Proxy, Signal, curl, echo, gwproxy, gwproxy_with, home, run, tool, wrapped,
};

const TO: [&str; 2] = ["--to", "http://127.0.0.1:9"];

/// `gwproxy http --to …` with these arguments.
fn http(arguments: &[&str]) -> Finished {
    gwproxy(&[&["http"], &TO[..], arguments].concat())
}

/// It failed at run time, saying one line with all of this.
#[track_caller]
fn failed(done: &Finished, says: &[&str]) {
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let mut lines = done.stderr.lines().filter(|line| line.starts_with("gwproxy: "));
    let sentence = lines.next().unwrap_or_else(|| panic!("no sentence: {}", done.stderr));
    assert_eq!(lines.next(), None, "{}", done.stderr);
    for part in says {
        assert!(sentence.contains(part), "it does not say `{part}`: {sentence}");
    }
}

#[test]
fn a_port_in_use_is_said() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = held.local_addr().expect("an address").to_string();
    failed(&http(&["--listen", &addr]), &[&addr, "another process listens there", "--listen"]);
    // Another gwproxy is another process: it does not share the port in silence.
    let first = Proxy::http(TO[1], &["--access-log", "off"]);
    let addr = first.addr(0).to_string();
    failed(&http(&["--listen", &addr]), &[&addr, "another process listens there"]);
    let echo = gwproxy(&["echo", "http", "--listen", &addr]);
    failed(&echo, &[&addr, "another process listens there"]);
    let admin = http(&["--listen", "127.0.0.1:0", "--admin", &addr]);
    failed(&admin, &[&addr, "another process listens there", "with `--admin`"]);
    // A file's user is sent to the file.
    let run = |admin: &str, listen: &str, flags: &[&str]| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = format!(
            "{admin}\nlisteners: [{{name: web, bind: '{listen}', service: a}}]\n\
             services: [{{id: a, nodes: ['127.0.0.1:9']}}]\n"
        );
        std::fs::write(file.path(), text).expect("written");
        let path = file.path().to_str().expect("UTF-8").to_owned();
        (gwproxy(&[&["run", &path], flags].concat()), path)
    };
    let (done, path) = run("", &addr, &[]);
    failed(&done, &[&addr, &format!("with `bind` of the listener `web` in {path}")]);
    let (done, _) = run(&format!("admin: '{addr}'"), "127.0.0.1:0", &[]);
    failed(&done, &[&addr, "with `admin` in the file"]);
    let (done, _) = run("admin: '127.0.0.1:0'", "127.0.0.1:0", &["--admin", &addr]);
    failed(&done, &[&addr, "with `--admin`"]);
}

#[test]
fn an_address_of_another_machine_is_said() {
    failed(&http(&["--listen", "192.0.2.1:8080"]), &["192.0.2.1:8080", "no network interface"]);
}

/// Without the right to it, also as root: the capability is what counts.
#[test]
fn a_privileged_port_is_said() {
    let sysctl = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first_free: u16 = sysctl.expect("Linux").trim().parse().expect("a port");
    // A network of one's own has the usual rule where this machine has none.
    let mut before = if first_free > 80 { vec![] } else { vec!["unshare", "--user", "--net"] };
    before.extend(["setpriv", "--bounding-set=-all"]);
    let home = home();
    let mut command = wrapped(&before, &home);
    command.args([&["http", "--listen", ":80"], &TO[..]].concat());
    let done = run(&mut command, b"");
    let exact = format!("sudo setcap cap_net_bind_service=+ep {}", env!("CARGO_BIN_EXE_gwproxy"));
    failed(&done, &[":80", "ports below 1024", &exact]);
}

#[test]
fn a_certificate_that_cannot_be_used_is_said() {
    let authority = Authority::new();
    let (one, other) = (authority.leaf("one", &["a.test"]), authority.leaf("other", &["a.test"]));
    let dir = tempfile::tempdir().expect("a directory");
    let garbage = dir.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nnonsense\n").expect("a file");
    let secret = dir.path().join("secret.key");
    std::fs::copy(&one.key, &secret).expect("a copy");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).expect("permissions");
    let shown = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (cert, key) = (shown(&one.cert), shown(&one.key));
    let tls = |cert: &str, key: &str| {
        let home = home();
        let mut command = wrapped(&["setpriv", "--bounding-set=-all"], &home);
        let flags = ["--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key];
        command.args([&["http"], &TO[..], &flags].concat());
        run(&mut command, b"")
    };
    failed(&tls("/no/such.pem", &key), &["/no/such.pem", "does not exist"]);
    failed(&tls(&cert, "/no/such.key"), &["/no/such.key", "does not exist"]);
    failed(&tls(&shown(&garbage), &key), &[&shown(&garbage)]);
    failed(&tls(&cert, &cert), &[&cert, "key"]);
    failed(&tls(&cert, &shown(&secret)), &[&shown(&secret), "permission"]);
    failed(&tls(&cert, &shown(&other.key)), &["does not belong"]);
    let to = ["http", "--listen", "127.0.0.1:0", "--to", "https://127.0.0.1:9"];
    let ca = gwproxy(&[&to[..], &["--upstream-ca", "/no/such-ca.pem"]].concat());
    failed(&ca, &["/no/such-ca.pem", "does not exist"]);
}

#[test]
fn an_upstream_that_does_not_resolve_is_said() {
    let to = "http://no-such-host.invalid:80";
    let done = gwproxy(&["http", "--listen", "127.0.0.1:0", "--to", to]);
    failed(&done, &["`no-such-host.invalid`", "does not resolve", "check the spelling"]);
    assert_eq!(done.stderr.matches("no-such-host").count(), 1, "once: {}", done.stderr);
    // One of several may be down for now.
    let good = echo("http", &[]);
    let proxy = Proxy::http(&good.url("http", ""), &["--to", to, "--access-log", "off"]);
    proxy.wait_stderr("no-such-host.invalid");
    for _ in 0..2 {
        assert_eq!(curl(&[&proxy.url("http", "/x")]).json()["path"], "/x");
    }
}

#[test]
fn an_access_log_that_cannot_be_written_is_said() {
    let done = http(&["--listen", "127.0.0.1:0", "--access-log", "/no/such/dir/log"]);
    failed(&done, &["/no/such/dir/log", "--access-log off"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_said() {
    let elsewhere = "set GWPROXY_DATA_DIR to a directory";
    let nowhere = [("GWPROXY_DATA_DIR", "/dev/null/x")];
    failed(&gwproxy_with(&["cert", "dev"], &nowhere), &["/dev/null/x", elsewhere]);
    let front = ["http", "--tls-dev", "--listen", "127.0.0.1:0"];
    failed(&gwproxy_with(&[&front[..], &TO].concat(), &nowhere), &["/dev/null/x", elsewhere]);
}

/// The lines to copy fit the proxy: its TLS, its users, and what makes either work.
#[test]
fn a_forward_proxy_says_how_to_use_it() {
    let hash = "ann:$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
    let listen = ["http", "--forward", "--listen", "127.0.0.1:0", "--access-log", "off"];
    let proxy = Proxy::start(&[&listen[..], &["--tls-dev", "--user", hash]].concat());
    let addr = proxy.addr(0);
    for part in [
        format!(
            "try: curl --proxy-insecure --proxy-user ann -x https://{addr} https://example.com/"
        ),
        format!("https_proxy=https://ann:PASSWORD@{addr}"),
        "gwproxy cert show".to_owned(),
    ] {
        proxy.wait_stderr(&part);
    }
    let open = Proxy::start(&listen);
    let addr = open.addr(0);
    open.wait_stderr(&format!("try: curl -x http://{addr} https://example.com/"));
    open.wait_stderr(&format!("https_proxy=http://{addr}"));
    assert!(!open.stderr().contains("PASSWORD"), "{}", open.stderr());
}

/// Each danger is told, and once.
#[test]
fn what_is_open_or_unverified_is_warned_of() {
    let arguments = ["http", "--to", "https://127.0.0.1:9", "--listen", "127.0.0.1:0"];
    let skips = ["--upstream-danger-skip-verify", "--admin", "0.0.0.0:0"];
    let proxy = Proxy::start(&[&arguments[..], &skips].concat());
    proxy.wait_stderr("WARNING: the admin address asks nobody for a password");
    let told =
        proxy.stderr().matches("certificates of the nodes of `--to` are NOT verified").count();
    assert_eq!(told, 1, "{}", proxy.stderr());
    let mut quiet = Proxy::start(&[&arguments[..], &["--admin", "127.0.0.1:0"]].concat());
    quiet.signal(Signal::TERM);
    assert_eq!(quiet.wait(), Some(0));
    assert!(!quiet.stderr().contains("WARN"), "{}", quiet.stderr());
}

#[test]
fn a_unix_socket_is_an_address() {
    let echo = echo("http", &[]);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("proxy.sock");
    let listen = format!("unix:{}", path.display());
    let url = echo.url("http", "");
    let arguments = ["http", "--listen", &listen, "--to", &url, "--access-log", "off"];
    let proxy = Proxy::start(&arguments);
    let at = path.to_str().expect("UTF-8");
    let report = curl(&["--unix-socket", at, "http://a.test/x"]).json();
    assert_eq!(report["path"], "/x");
    failed(&gwproxy(&arguments), &["another process listens there"]);
    // A file that a killed process left behind is no obstacle; a directory that is missing is.
    drop(proxy);
    assert!(path.exists(), "it was killed: the socket is still there");
    let admin = dir.path().join("admin.sock");
    let listen_admin = format!("unix:{}", admin.display());
    let mut again = Proxy::start(&[&arguments[..], &["--admin", &listen_admin]].concat());
    assert_eq!(curl(&["--unix-socket", at, "http://a.test/y"]).json()["path"], "/y");
    // An orderly end takes the files with it.
    assert!(admin.exists());
    again.signal(Signal::TERM);
    assert_eq!(again.wait(), Some(0));
    assert!(!path.exists() && !admin.exists());
    // A start that fails leaves none either, and touches nothing that is no socket.
    std::fs::write(&admin, "mine").expect("written");
    let done = gwproxy(&[&arguments[..], &["--admin", &listen_admin]].concat());
    failed(&done, &["a file that is no socket is there", "with `--admin`"]);
    assert!(!path.exists() && admin.exists());
    let missing = http(&["--listen", "unix:/no/such/dir/x.sock"]);
    failed(&missing, &["/no/such/dir/x.sock", "the directory does not exist"]);
}

/// One line for each listener, with what to type.
#[test]
fn a_start_says_how_to_use_it() {
    let proxy = Proxy::http(TO[1], &["--access-log", "off"]);
    let addr = proxy.addr(0);
    let expected = format!("http on http://{addr}   try: curl http://{addr}/\n");
    assert_eq!(proxy.stderr(), expected);
    assert_eq!(proxy.stdout(), "");
}

/// Every example starts as it stands, but for its ports.
#[test]
fn every_example_starts() {
    let authority = Authority::new();
    let (_server, _client) =
        (authority.leaf("server", &["localhost"]), authority.leaf("client", &["client"]));
    let certs = authority.ca().replace("/ca.pem", "");
    let mut seen = 0;
    for entry in std::fs::read_dir("examples").expect("the examples") {
        let path = entry.expect("an example").path();
        let yaml = std::fs::read_to_string(&path).expect("text");
        let bind = |line: &str| match line.split_once("bind: ") {
            Some((before, _)) => format!("{before}bind: 127.0.0.1:0"),
            None => line.replace("${CERTS:-certs}", &certs),
        };
        let yaml = yaml.lines().map(bind).collect::<Vec<_>>().join("\n");
        let mut proxy = Proxy::run_file(&yaml);
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait(), Some(0), "{}: {}", path.display(), proxy.stderr());
        seen += 1;
    }
    assert!(seen >= 8, "{seen} examples");
}

/// A reader of the output that goes away is no reason to fail.
#[test]
fn a_closed_pipe_is_no_error() {
    let mut command = tool("sh");
    let line = format!("{} --help | head -1", env!("CARGO_BIN_EXE_gwproxy"));
    let done = run(command.args(["-c", &line]), b"").ok();
    assert!(done.stderr.is_empty(), "{}", done.stderr);
}
