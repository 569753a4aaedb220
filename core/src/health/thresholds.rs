//! From single results to a verdict.

/// So many results of one kind in a row change the verdict. The first result of all decides
/// alone: HAProxy, too, brings a new server down at its first failed check, for at the start
/// nothing speaks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    rise: u16,
    fall: u16,
    healthy: Option<bool>,
    /// Results in a row against the verdict.
    against: u16,
}

impl Thresholds {
    pub(super) fn new(rise: u16, fall: u16) -> Self {
        Self { rise, fall, healthy: None, against: 0 }
    }

    /// Notes one result; the verdict, if that changed it (or made it).
    pub(super) fn note(&mut self, good: bool) -> Option<bool> {
        if self.healthy == Some(good) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = match self.healthy {
            None => 1,
            Some(true) => self.fall,
            Some(false) => self.rise,
        };
        if self.against < enough {
            return None;
        }
        self.healthy = Some(good);
        self.against = 0;
        self.healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` good, `-` bad; the verdicts as they change.
    fn verdicts(rise: u16, fall: u16, results: &str) -> String {
        let mut thresholds = Thresholds::new(rise, fall);
        let mark = |verdict| match verdict {
            Some(true) => 'U',
            Some(false) => 'D',
            None => '.',
        };
        results.chars().map(|result| mark(thresholds.note(result == '+'))).collect()
    }

    #[test]
    fn streaks_decide() {
        assert_eq!(verdicts(2, 3, "+--+---"), "U.....D");
        assert_eq!(verdicts(2, 3, "-+-++-"), "D...U.");
        assert_eq!(verdicts(1, 1, "+-+-"), "UDUD");
        assert_eq!(verdicts(2, 3, "-----"), "D....");
        assert_eq!(verdicts(2, 3, "+--+--+--"), "U........");
    }
}
