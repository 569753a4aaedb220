//! The PROXY protocol through the built binary, with nginx and `HAProxy` on the other end.
//!
//! Goal: the client's address arrives where it should, for every protocol, and a header that is
//! not to be believed changes nothing. Method: clients come from 127.0.0.2 and above, proxies from
//! 127.0.0.1, so that each report tells them apart.

mod from;
mod to;

use std::path::Path;
use std::process::Command;

use crate::support::{Finished, Server, curl, tool};

/// `curl` as a client with this address.
#[track_caller]
fn curl_from(ip: &str, arguments: &[&str]) -> Finished {
    curl(&[&["--interface", ip], arguments].concat())
}

/// HAProxy with this configuration below its `defaults`, `ADDR` being its address.
#[track_caller]
fn haproxy(mode: &str, config: &str) -> Server {
    Server::start(|dir, addr| {
        let file = dir.join("haproxy.cfg");
        let config = config.replace("ADDR", &addr.to_string());
        let text = format!(
            "global\n  log stderr format raw local0 err\ndefaults\n  mode {mode}\n  \
             timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n{config}\n"
        );
        written(&file, &text);
        let mut command = tool("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        command
    })
}

/// nginx with this in its `http` block, `ADDR` being its address.
#[track_caller]
fn nginx(config: &str) -> Server {
    Server::start(|dir, addr| {
        let (file, at) = (dir.join("nginx.conf"), dir.display());
        let config = config.replace("ADDR", &addr.to_string());
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log stderr warn;
             events {{ worker_connections 64; }}
             http {{
               access_log off; client_body_temp_path {at}/1; proxy_temp_path {at}/2;
               fastcgi_temp_path {at}/3; uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;
               {config}
             }}"
        );
        written(&file, &text);
        nginx_command(dir, &file)
    })
}

fn nginx_command(dir: &Path, file: &Path) -> Command {
    let mut command = tool("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(file);
    command
}

fn written(file: &Path, text: &str) {
    std::fs::write(file, text).expect("it can be written");
}
