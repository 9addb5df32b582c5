//! All randomness of this crate: a seed made from names, and a generator whose numbers no library update can change.

use chrono::NaiveDate;
use market::{Exchange, Ticker};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};
use sha2::{Digest, Sha256};

/// The seed of a training: the same for the same ticker, session and recipe, on every machine.
pub fn seed_for(ticker: &Ticker, as_of: NaiveDate, recipe_id: &str) -> u64 {
    seed_of(&format!("{ticker}|{as_of}|{recipe_id}"))
}

/// The seed of a pre-training.
pub fn seed_for_exchange(exchange: Exchange, as_of: NaiveDate, recipe_id: &str) -> u64 {
    seed_of(&format!("{exchange}|{as_of}|{recipe_id}"))
}

/// The seed that a name stands for.
fn seed_of(name: &str) -> u64 {
    let digest = Sha256::digest(name);
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// A ChaCha20 stream. Uniform numbers and shuffles are written out here, because those of `rand` may change with its
/// version, and candle's CPU generator cannot be seeded at all.
pub(crate) struct Dice(ChaCha20Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha20Rng::from_seed(key))
    }

    /// Uniform in [-limit, limit).
    pub(crate) fn uniform(&mut self, limit: f32) -> f32 {
        let unit = (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
        (2.0 * unit - 1.0) * limit
    }

    /// Uniform in 0..`count`; 0 when there is nothing to choose from.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_streams_are_fixed_for_good() {
        let ticker = Ticker::parse("NASDAQ:AAPL").unwrap();
        let date = "2024-01-02".parse().unwrap();
        let seed = seed_for(&ticker, date, "lstm20-v1");
        assert_eq!(seed, seed_for(&ticker, date, "lstm20-v1"));
        assert_ne!(seed, seed_for(&ticker, date, "lstm20-v2"));
        let mut order: Vec<usize> = (0..8).collect();
        Dice::new(7).shuffle(&mut order);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        let mut dice = Dice::new(7);
        assert!((0..1000).all(|_| (-0.5..0.5).contains(&dice.uniform(0.5))));
    }
}
