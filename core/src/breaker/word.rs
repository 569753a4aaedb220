//! The state of a breaker in one number.

/// The state in one number, so that one compare-exchange decides every race: the state in 2 bits,
/// a generation that each change of state raises in 30, and for the half-open state the probes
/// let through and those that succeeded, 16 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) const CLOSED: u64 = 0;
    pub(super) const OPEN: u64 = 1;
    pub(super) const HALF_OPEN: u64 = 2;
    pub(super) const CHANGING: u64 = 3;

    pub(super) const GENERATIONS: u64 = (1 << 30) - 1;
    /// What no word has.
    pub(super) const NO_GENERATION: u64 = u64::MAX;
    pub(super) const ONE_ISSUED: u64 = 1 << 16;

    pub(super) const fn new(tag: u64, generation: u64) -> Self {
        Self(tag << 62 | (generation & Self::GENERATIONS) << 32)
    }

    pub(super) const fn tag(self) -> u64 {
        self.0 >> 62
    }

    pub(super) const fn generation(self) -> u64 {
        self.0 >> 32 & Self::GENERATIONS
    }

    pub(super) const fn issued(self) -> u16 {
        (self.0 >> 16) as u16
    }

    pub(super) const fn succeeded(self) -> u16 {
        self.0 as u16
    }

    // The counts stay within the number of probes, a `u16`, so none runs into its neighbour.

    pub(super) const fn with_probe(self) -> Self {
        Self(self.0 + Self::ONE_ISSUED)
    }

    pub(super) const fn without_probe(self) -> Self {
        Self(self.0 - Self::ONE_ISSUED)
    }

    pub(super) const fn with_success(self) -> Self {
        Self(self.0 + 1)
    }
}
