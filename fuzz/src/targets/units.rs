//! Quantities: printed as they are read.

use std::fmt::Display;
use std::str::FromStr;

use gwproxy_core::units::{Few, Percent, Rate, Size, Span, Weight};

use super::text_of;

fn comes_back<T: FromStr<Err: Display> + Display + PartialEq>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            let again = printed.parse::<T>().ok();
            assert!(
                again.as_ref() == Some(&value),
                "`{text}` prints as `{printed}`, another value"
            );
            assert!(again.is_some_and(|again| again.to_string() == printed));
            Some(value)
        }
        Err(why) => {
            assert!(why.to_string().starts_with('`'), "a sentence begins with the value");
            None
        }
    }
}

/// What is printed is read as the same value, prints the same again, and is within its bounds.
pub(super) fn units(data: &[u8]) {
    let Some(text) = text_of(data) else { return };
    if let Some(span) = comes_back::<Span>(text) {
        assert!(span.get().as_secs() <= 3650 * 86_400);
        assert_eq!(span.get().as_nanos() % 1000, 0, "a step below 1us");
    }
    if let Some(rate) = comes_back::<Rate>(text) {
        assert!(!rate.per().is_zero());
    }
    if let Some(percent) = comes_back::<Percent>(text) {
        assert!(percent.basis_points() <= 10_000);
    }
    if let Some(few) = comes_back::<Few>(text) {
        assert!((1..=1000).contains(&few.get()));
    }
    comes_back::<Weight>(text);
    comes_back::<Size>(text);
}
