//! "Did you mean": the known word closest to a mistyped one.

/// The candidate within two edits of `word` (one for words of up to three letters), the closest
/// first; none if all are further away. Compares without case.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = if word.chars().count() <= 3 { 1 } else { 2 };
    candidates
        .into_iter()
        .map(|candidate| (edits(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`
/// (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (i, a) in a.chars().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, pair) in above.windows(2).enumerate() {
            let (&[diagonal, up], Some(&left)) = (pair, row.last()) else { continue };
            let same = b.get(j) == Some(&a);
            let mut cost = (diagonal + usize::from(!same)).min(up + 1).min(left + 1);
            let swapped = j > 0 && b.get(j - 1) == Some(&a) && b.get(j).copied() == last;
            if let (true, Some(&two_back)) = (swapped, j.checked_sub(1).and_then(|j| before.get(j)))
            {
                cost = cost.min(two_back + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
        last = Some(a);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("tiemout", "timeout", 1),
            ("é", "e", 1),
        ] {
            assert_eq!(edits(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let words = ["listen", "limit", "tls"];
        assert_eq!(closest("lisen", words), Some("listen"));
        assert_eq!(closest("Limits", words), Some("limit"));
        assert_eq!(closest("tsl", words), Some("tls"));
        assert_eq!(closest("xyz", words), None);
        assert_eq!(closest("", []), None);
    }
}
