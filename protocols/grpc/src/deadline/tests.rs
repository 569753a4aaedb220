//! The grammar, its limits, and any bytes.

use proptest::prelude::*;

use super::*;

const MAX: Duration = Duration::from_mins(5);

fn head(values: &[&str]) -> Fields {
    values.iter().map(|value| (GRPC_TIMEOUT, value.parse::<HeaderValue>().unwrap())).collect()
}

#[test]
fn settings_read_from_text_and_refuse_what_they_do_not_know() {
    let read = |text| serde_json::from_str::<Settings>(text);
    assert_eq!(read("{}").unwrap().max_deadline.get(), MAX);
    assert!(read(r#"{"max_deadline": "0s"}"#).unwrap().max_deadline.is_zero());
    read(r#"{"max_deadlines": "1s"}"#).unwrap_err();
}

// PROTOCOL-HTTP2.md: TimeoutValue is 1 to 8 digits, TimeoutUnit one of H M S m u n.
#[test]
fn p72_the_grammar() {
    for (value, time) in [
        ("1H", Duration::from_hours(1)),
        ("2M", Duration::from_mins(2)),
        ("3S", Duration::from_secs(3)),
        ("4m", Duration::from_millis(4)),
        ("5u", Duration::from_micros(5)),
        ("6n", Duration::from_nanos(6)),
        ("00000010S", Duration::from_secs(10)),
        ("99999999H", Duration::from_hours(99_999_999)),
        ("0n", Duration::ZERO),
    ] {
        assert_eq!(parse(value.as_bytes()), Some(time), "{value}");
    }
    let bad = ["", "S", "1", "123456789S", "-1S", "+1S", "1s", "1 S", " 1S", "1.5S", "1SS", "٣S"];
    for value in bad {
        assert_eq!(parse(value.as_bytes()), None, "{value}");
    }
}

#[test]
fn t58_hostile_deadlines_are_refused() {
    for values in [&["123456789S"][..], &["-1S"], &[""], &["1S", "1S"], &["1h"]] {
        let error = take(&mut head(values), MAX, Duration::ZERO).unwrap_err();
        assert_eq!(error.code(), Code::ClientMalformed, "{values:?}");
    }
    let error = take(&mut head(&["0n"]), MAX, Duration::ZERO).unwrap_err();
    assert_eq!(error.code(), Code::UpstreamTimeout);
    assert!(error.is_unsent());
}

#[test]
fn p72_a_deadline_shrinks_and_never_grows() {
    let taken = |value, max, spent| {
        let mut headers = head(&[value]);
        let left = take(&mut headers, max, spent).unwrap().unwrap();
        (left, headers.get(GRPC_TIMEOUT).unwrap().to_str().unwrap().to_owned())
    };
    let zero = Duration::ZERO;
    // What need not change does not change by a byte.
    assert_eq!(taken("00005S", MAX, zero), (Duration::from_secs(5), "00005S".into()));
    assert_eq!(taken("99999999H", MAX, zero), (MAX, "300000m".into()));
    let off = taken("99999999H", zero, zero);
    assert_eq!(off, (Duration::from_hours(99_999_999), "99999999H".into()));
    let spent = Duration::from_millis(1_500);
    assert_eq!(taken("2S", MAX, spent), (Duration::from_millis(500), "500000u".into()));
    assert_eq!(taken("1H", MAX, spent), (Duration::from_millis(298_500), "298500m".into()));
    let late = take(&mut head(&["1S"]), MAX, spent).unwrap_err();
    assert_eq!(late.code(), Code::UpstreamTimeout);
}

#[test]
fn a_call_without_a_deadline_has_none() {
    let mut headers = Fields::new();
    assert_eq!(take(&mut headers, MAX, MAX).unwrap(), None);
    assert!(headers.is_empty());
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_no_more(nanos in 0_u64.., shift in 0_u32..64) {
        let time = Duration::from_nanos(nanos >> shift);
        let printed = print(time);
        let again = parse(printed.as_bytes()).unwrap();
        prop_assert!(again <= time);
        // The coarsest step is from 100,000,000 ns to microseconds: one part in 100,000.
        prop_assert!(time.saturating_sub(again) <= time / 99_999, "{time:?} {printed:?}");
    }

    #[test]
    fn any_bytes_parse_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        if let Some(time) = parse(&bytes) {
            prop_assert!(parse(print(time).as_bytes()).unwrap() <= time);
        }
    }

    #[test]
    fn eight_digits_and_a_unit_survive(number in 0_u32..100_000_000, unit in "[HMSmun]") {
        let text = format!("{number}{unit}");
        let time = parse(text.as_bytes()).unwrap();
        prop_assert_eq!(parse(print(time).as_bytes()), Some(time));
    }
}
