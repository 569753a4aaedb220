use proptest::prelude::*;

use super::*;

fn prints<T: FromStr<Err = UnitError> + ToString>(text: &str) -> String {
    text.parse::<T>().unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
}

fn refuses<T: FromStr<Err = UnitError> + fmt::Debug>(texts: &[&str], hint: &str) {
    for text in texts {
        let sentence = text.parse::<T>().unwrap_err().to_string();
        assert!(sentence.starts_with(&format!("`{text}` is not a ")), "{sentence}");
        assert!(sentence.contains(hint), "{sentence}");
    }
}

#[test]
fn spans() {
    for (text, canonical) in [
        ("500ms", "500ms"),
        ("1500ms", "1s500ms"),
        ("1.5s", "1s500ms"),
        ("90s", "1m30s"),
        ("1m30s", "1m30s"),
        ("5min", "5m"),
        ("24h", "1d"),
        ("250us", "250us"),
        ("0s", "0s"),
        (" 5s ", "5s"),
        (".5s", "500ms"),
        ("3650d", "3650d"),
    ] {
        assert_eq!(prints::<Span>(text), canonical);
    }
    let hint = "write for example `500ms`, `5s`, `1m30s` or `2h`";
    refuses::<Span>(
        &[
            "",
            "s",
            "-5s",
            "+5s",
            "5 s",
            "5x",
            "5S",
            "s5",
            "1s1m",
            "1s1s",
            "1.s.5s",
            "1e3s",
            "0.1us",
            "3651d",
            "99999999999999999999999999999999999999999d",
            "5s,",
            "é5s",
            "5é",
        ],
        hint,
    );
    refuses::<Span>(&["5", "0", "1m30"], "add a unit: `");
}

#[test]
fn sizes() {
    for (text, canonical) in [
        ("0", "0"),
        ("512", "512"),
        ("512B", "512"),
        ("1024", "1KiB"),
        ("64KiB", "64KiB"),
        ("64kib", "64KiB"),
        ("1.5MiB", "1536KiB"),
        ("10MB", "10MB"),
        ("10 MB", "10MB"),
        ("1TiB", "1TiB"),
        ("18446744073709551615", "18446744073709551615"),
    ] {
        assert_eq!(prints::<Size>(text), canonical);
    }
    refuses::<Size>(
        &["", "KiB", "-1", "+1", "0.5", "1K", "1XB", "18446744073709551616", "16777216TiB", "1e3"],
        "write for example `64KiB`, `1MiB`, `10MB` or a number of bytes",
    );
}

#[test]
fn rates() {
    for (text, canonical) in [
        ("100/s", "100/s"),
        ("100/sec", "100/s"),
        ("5/min", "5/min"),
        ("5/m", "5/min"),
        ("5/60s", "5/min"),
        ("1000/h", "1000/h"),
        ("1/day", "1/d"),
        ("10/500ms", "10/500ms"),
        ("10 / 90s", "10/1m30s"),
    ] {
        assert_eq!(prints::<Rate>(text), canonical);
    }
    refuses::<Rate>(
        &["", "100", "/s", "0/s", "-1/s", "1.5/s", "100/", "100/x", "100/0s", "4294967296/s"],
        "write for example `100/s`, `5/min` or `1000/h`",
    );
}

#[test]
fn percentages() {
    for (text, canonical) in [
        ("50%", "50%"),
        ("50", "50%"),
        ("0", "0%"),
        ("100%", "100%"),
        ("12.5%", "12.5%"),
        ("12.50", "12.5%"),
        ("0.05 %", "0.05%"),
    ] {
        assert_eq!(prints::<Percent>(text), canonical);
    }
    refuses::<Percent>(&["", "%", "-1", "101", "100.01", "1.234%", "x", "50%%"], "`12.5%`");
    assert_eq!(Percent::whole(50).basis_points(), 5_000);
}

#[test]
fn weights() {
    assert_eq!(prints::<Weight>("0"), "0");
    assert_eq!(prints::<Weight>("65535"), "65535");
    refuses::<Weight>(&["", "-1", "65536", "1.0", "x", "+1"], "from 0 to 65535");
}

/// A small self-describing format of one value, so that the tests need no YAML here.
fn read<'de, T: Deserialize<'de>>(
    value: impl de::IntoDeserializer<'de, de::value::Error>,
) -> Result<T, String> {
    T::deserialize(value.into_deserializer()).map_err(|e| e.to_string())
}

#[test]
fn files_may_give_plain_numbers_where_the_unit_is_plain() {
    assert_eq!(read::<Size>(4096_u64), Ok(Size::bytes(4096)));
    assert_eq!(read::<Weight>(3_i64), Ok(Weight::new(3)));
    assert_eq!(read::<Percent>(12.5_f64).unwrap().to_string(), "12.5%");
    assert_eq!(read::<Span>("5s"), Ok(Span::secs(5)));
    let sentence = read::<Span>(5_u64).unwrap_err();
    assert!(sentence.contains("add a unit: `5s` or `5ms`"), "{sentence}");
    assert!(read::<Weight>(-1_i64).unwrap_err().contains("`-1` is not a weight"));
    assert!(read::<Rate>(true).unwrap_err().contains("a rate as `100/s`"));
}

proptest! {
    #[test]
    fn spans_survive_printing(us in 0_u64..=3650 * 86_400_000_000) {
        let span = Span(Duration::from_micros(us));
        prop_assert_eq!(span.to_string().parse(), Ok(span));
    }

    #[test]
    fn sizes_survive_printing(bytes: u64, shift in 0_u32..40) {
        let size = Size::bytes(bytes >> shift << shift);
        prop_assert_eq!(size.to_string().parse(), Ok(size));
    }

    #[test]
    fn rates_survive_printing(count in 1_u32.., us in 1_u64..=3650 * 86_400_000_000) {
        let count = NonZeroU32::new(count).unwrap();
        let rate = Rate { count, per: Duration::from_micros(us) };
        prop_assert_eq!(rate.to_string().parse(), Ok(rate));
    }

    #[test]
    fn percentages_survive_printing(points in 0_u16..=10_000) {
        prop_assert_eq!(Percent(points).to_string().parse(), Ok(Percent(points)));
    }

    #[test]
    fn parsers_never_panic(text in "\\PC*|[0-9.a-zA-Z%/ ]*|[0-9]{1,50}[a-z]{0,3}") {
        let _ = text.parse::<Span>();
        let _ = text.parse::<Size>();
        let _ = text.parse::<Rate>();
        let _ = text.parse::<Percent>();
        let _ = text.parse::<Weight>();
    }

    #[test]
    fn what_parses_prints_to_something_equal(text in "[0-9]{1,4}(\\.[0-9]{1,2})?(us|ms|s|m|h|d|KiB|MB|%|/s|/2h)?") {
        if let Ok(span) = text.parse::<Span>() {
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
        if let Ok(size) = text.parse::<Size>() {
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
        if let Ok(rate) = text.parse::<Rate>() {
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }
}
