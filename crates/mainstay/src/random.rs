//! Random numbers that can be injected: jitter, probabilities, span ids. Not for secrets.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A SplitMix64 sequence that its clones share. It is lock-free: each draw is one atomic addition, so two threads
/// never get the same draw, and a seed gives the same sequence every time.
#[derive(Debug, Clone)]
pub struct Random(Arc<AtomicU64>);

/// The increment of SplitMix64 (Steele, Lea and Flood, 2014): odd, so the sequence visits every state.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

static SHARED: LazyLock<Random> = LazyLock::new(Random::from_entropy);

impl Random {
    /// A sequence that is the same for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// A sequence seeded by the operating system.
    pub fn from_entropy() -> Self {
        let [seed, _] = halves(uuid::Uuid::new_v4());
        Self::seeded(seed)
    }

    /// The process-wide sequence, for draws that no test needs to repeat (span ids).
    pub fn shared() -> &'static Self {
        &SHARED
    }

    /// The next 64 bits.
    pub fn next_u64(&self) -> u64 {
        mix(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }

    /// Uniform in `0.0..1.0`.
    #[allow(clippy::cast_precision_loss)] // 53 bits fit an f64 exactly
    pub fn next_f64(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A duration, uniform in `zero..=most`.
    pub fn up_to(&self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        let scaled = (u128::from(self.next_u64()) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(nanos))
    }

    /// True with probability `p`: never for 0, always for 1.
    pub fn chance(&self, p: f64) -> bool {
        self.next_f64() < p
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::from_entropy()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn halves(id: uuid::Uuid) -> [u64; 2] {
    let (high, low) = id.as_u64_pair();
    // The UUID format fixes four bits of `high` and two of `low`; mixing spreads the random bits over all 64.
    [mix(high ^ mix(low)), mix(low)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let draw = |seed| {
            let random = Random::seeded(seed);
            [random.next_u64(), random.next_u64(), random.next_u64()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        // The published SplitMix64 test vector for seed 1234567.
        assert_eq!(
            draw(1_234_567),
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_both_ends() {
        let random = Random::seeded(1);
        let most = Duration::from_nanos(3);
        let mut seen = [0_u32; 4];
        for _ in 0..4_000 {
            let nanos = usize::try_from(random.up_to(most).as_nanos()).unwrap();
            seen[nanos] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
        assert_eq!(random.up_to(Duration::ZERO), Duration::ZERO);
        assert!((0..1_000).all(|_| random.chance(1.0) && !random.chance(0.0)));
    }
}
