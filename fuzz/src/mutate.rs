//! Making inputs out of inputs: a seeded generator, so that a run can be repeated.

use crate::{INPUT_BYTES_MAX, Target};

/// A generator of numbers that look random (xorshift64*).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The numbers that belong to `seed`.
    pub fn new(seed: u64) -> Self {
        // The state is never 0.
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// The numbers that belong to some bytes (FNV-1a), for what a target varies beside its input.
    pub fn of(data: &[u8]) -> Self {
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self::new(data.iter().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.number() as usize % end }
    }

    /// One of `all`.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let at = self.below(all.len());
        all.get(at)
    }

    /// Cuts `data` into pieces, mostly small ones, none of them empty.
    pub fn pieces<'a>(&mut self, mut data: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let most = [1, 3, 16, 200, 5000][self.below(5)];
        while !data.is_empty() {
            let (piece, rest) = data.split_at((1 + self.below(most)).min(data.len()));
            pieces.push(piece);
            data = rest;
        }
        pieces
    }
}

/// Bytes at the edges of what bytes mean.
const EDGES: [u8; 16] =
    [0, 1, 9, 10, 13, 32, 0x22, 0x25, 0x2c, 0x2f, 0x3a, 0x3b, 0x7f, 0x80, 0xfe, 0xff];

/// An input made of one of `corpus` by one to eight changes.
pub fn mutate(target: &Target, corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut data = rng.pick(corpus).cloned().unwrap_or_default();
    for _ in 0..=rng.below(8) {
        change(&mut data, target, corpus, rng);
    }
    data.truncate(INPUT_BYTES_MAX);
    data
}

fn change(data: &mut Vec<u8>, target: &Target, corpus: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.below(data.len());
    let end = at + rng.below((data.len() - at).min(40) + 1);
    match rng.below(10) {
        0 => {
            let bit = 1 << rng.below(8);
            data.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
        }
        1 => {
            let byte = rng.number() as u8;
            data.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
        }
        2 => {
            let edge = EDGES[rng.below(EDGES.len())];
            data.insert(at, edge);
        }
        3 => drop(data.drain(at..end)),
        4 => {
            let part = data[at..end].to_vec();
            data.splice(at..at, part);
        }
        5 => {
            let part = data[at..end].to_vec();
            let to = rng.below(data.len());
            data.splice(to..to, part);
        }
        6 if rng.below(4) == 0 => data.truncate(at),
        7 => {
            let Some(other) = rng.pick(corpus) else { return };
            let from = rng.below(other.len());
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
        // Digits and lengths go up and down by a little.
        8 => {
            let step = [1, 0xff, 16, 0xf0][rng.below(4)];
            data.iter_mut().skip(at).take(1).for_each(|byte| *byte = byte.wrapping_add(step));
        }
        _ => {
            let Some(word) = rng.pick(target.words) else { return };
            let end = if rng.below(2) == 0 { at } else { end };
            data.splice(at..end, word.bytes());
        }
    }
}

/// Something shorter that `fails` too, found by leaving parts out.
pub fn shrink(data: &[u8], fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = data.to_vec();
    let mut size = best.len().next_power_of_two() / 2;
    while size > 0 {
        let mut at = 0;
        while at < best.len() {
            let mut less = best.clone();
            less.drain(at..(at + size).min(best.len()));
            if fails(&less) {
                best = less;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_can_be_repeated_and_inputs_are_bounded() {
        let target = &crate::TARGETS[0];
        let corpus = vec![b"GET / HTTP/1.1\r\n".to_vec(), vec![b'x'; INPUT_BYTES_MAX]];
        let run = |seed| {
            let mut rng = Rng::new(seed);
            (0..200).map(|_| mutate(target, &corpus, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert!(run(7).iter().all(|input| input.len() <= INPUT_BYTES_MAX));
    }

    #[test]
    fn every_change_works_on_nothing() {
        let target = &crate::TARGETS[0];
        let mut rng = Rng::new(1);
        for _ in 0..2000 {
            mutate(target, &[], &mut rng);
            mutate(target, &[Vec::new()], &mut rng);
        }
    }

    #[test]
    fn pieces_are_the_whole() {
        for seed in 0..100 {
            let data: Vec<u8> = (0..=seed).collect();
            assert_eq!(Rng::of(&data).pieces(&data).concat(), data);
        }
    }

    #[test]
    fn what_fails_is_shrunk_to_what_it_needs() {
        let fails = |data: &[u8]| data.contains(&b'x') && data.contains(&b'y');
        assert_eq!(shrink(b"....x.......y..", fails), b"xy");
    }
}
