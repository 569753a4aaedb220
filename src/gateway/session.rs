//! The record of a TCP connection that is over.

use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use gwproxy_core::Code;
use gwproxy_core::telemetry::access_log::LINE_BYTES_MAX;
use gwproxy_core::telemetry::json;
use gwproxy_tcp::{Ending, Session};

use super::Shared;
use super::exchange::status_of_cut;
use crate::plan::AccessLogFormat;

/// What a connection's record says beside the session itself.
#[derive(Debug)]
pub struct Recorder {
    /// Where records go.
    pub shared: Rc<Shared>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The number of the service.
    pub service: usize,
    /// The name of the service.
    pub service_id: Arc<str>,
}

impl Recorder {
    /// Counts and logs a connection.
    pub fn record(&self, session: &Session) {
        let code = session.ending.code();
        let status = status(code);
        let bytes = session.upstream_to_client;
        self.shared.metrics.record(self.service, status, code, bytes, session.took);
        match &self.shared.log {
            None => {}
            Some((log, AccessLogFormat::Json)) => log.add(|out| self.write_json(out, session)),
            Some((log, AccessLogFormat::Combined)) => {
                log.add(|out| self.write_combined(out, session));
            }
        }
    }

    fn write_combined(&self, out: &mut Vec<u8>, session: &Session) {
        let now = jiff::Zoned::now();
        let _ = match session.peer.remote.ip() {
            Some(ip) => write!(out, "{ip}"),
            None => write!(out, "{}", session.peer.remote),
        };
        let _ = write!(out, " - - [{}] ", now.strftime("%d/%b/%Y:%H:%M:%S %z"));
        json::push_str(out, format!("TCP {}", self.listener).as_bytes());
        let (status, bytes) = (status(session.ending.code()), session.upstream_to_client);
        // The words for the ending stand where clients of HTTP say what they are.
        let _ = write!(out, " {status} {bytes} \"-\" \"{}\"", session.ending.as_str());
    }

    fn write_json(&self, out: &mut Vec<u8>, session: &Session) {
        let _ = write!(out, "{{\"time\":\"{:.3}\",\"listener\":", jiff::Timestamp::now());
        json::push_str(out, self.listener.as_bytes());
        let _ = match session.peer.remote.ip() {
            Some(ip) => write!(out, ",\"client\":\"{ip}\""),
            None => write!(out, ",\"client\":\"{}\"", session.peer.remote),
        };
        let _ = write!(out, ",\"protocol\":\"TCP\",\"tls\":{}", session.peer.tls.is_some());
        let _ = write!(
            out,
            ",\"bytes_received\":{},\"bytes_sent\":{},\"duration_ms\":{:.3},\"ending\":\"{}\",\"service\":",
            session.client_to_upstream,
            session.upstream_to_client,
            session.took.as_secs_f64() * 1e3,
            session.ending.as_str(),
        );
        json::push_str(out, self.service_id.as_bytes());
        if let Some(node) = &session.node {
            out.extend_from_slice(b",\"node\":");
            json::push_str(out, node.as_bytes());
        }
        if let Some(code) = session.ending.code() {
            let _ = write!(out, ",\"error\":\"{code}\"");
        }
        if let Ending::Refused(error) = &session.ending {
            out.extend_from_slice(b",\"reason\":");
            json::push_str_within(out, error.sentence().as_bytes(), LINE_BYTES_MAX / 4);
        }
        out.push(b'}');
    }
}

/// The status of a request that ends like this. There is none in TCP, but readers of logs and
/// metrics sort by it; nginx's stream log has the like.
fn status(code: Option<Code>) -> u16 {
    code.map_or(200, |code| status_of_cut(code).as_u16())
}
