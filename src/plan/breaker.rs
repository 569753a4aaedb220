//! What a breaker means beyond itself.

use std::time::Duration;

use gwproxy_core::breaker::{BreakerSettings, Fallback};
use http::{HeaderName, HeaderValue};

use super::Protocol;

/// How long a node has for its answer, where breakers have a say as well. `limit`: without them;
/// zero is no limit.
pub fn time_to_answer<'a>(
    limit: Option<Duration>,
    breakers: impl IntoIterator<Item = Option<&'a BreakerSettings>>,
) -> Option<Duration> {
    let own = breakers.into_iter().flatten().filter_map(|breaker| breaker.timeout);
    let Some(own) = own.map(gwproxy_core::units::Span::get).min() else { return limit };
    Some(limit.filter(|limit| !limit.is_zero()).map_or(own, |limit| limit.min(own)))
}

/// Refuses an answer that nobody could be given.
///
/// # Errors
/// A sentence.
pub fn check_fallback(fallback: &Fallback, protocol: Protocol) -> Result<(), String> {
    if protocol == Protocol::Tcp && fallback.service.is_none() {
        return Err("`fallback` of an answer means nothing for tcp, which has none; give another \
                    `service`"
            .into());
    }
    for (name, value) in &fallback.headers {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(format!("`fallback`: `{name}` is not the name of a header"));
        }
        if HeaderValue::from_str(value).is_err() {
            return Err(format!(
                "`fallback`: the value of `{name}` has characters that none may have"
            ));
        }
        let framing = ["connection", "content-length", "transfer-encoding", "upgrade"];
        if framing.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err(format!("`fallback`: `{name}` is the proxy's own to say"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_time_holds() {
        let secs = Duration::from_secs;
        let breaker = |text: &str| text.parse::<BreakerSettings>().unwrap();
        let (one, two, none) =
            (breaker("50%,timeout=3s"), breaker("50%,timeout=2s"), breaker("50%"));
        let within = |limit, all: &[&BreakerSettings]| {
            time_to_answer(limit, all.iter().map(|one| Some(*one)))
        };
        assert_eq!(within(None, &[&one, &two]), Some(secs(2)));
        assert_eq!(within(Some(secs(1)), &[&one, &two]), Some(secs(1)));
        assert_eq!(within(Some(Duration::ZERO), &[&one]), Some(secs(3)));
        assert_eq!(within(Some(secs(9)), &[&none]), Some(secs(9)));
        assert_eq!(time_to_answer(None, [None]), None);
    }
}
