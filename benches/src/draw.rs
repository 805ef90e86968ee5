//! Random draws of SKUs.

/// Number of SKUs in the catalogue. Their names are `sku-00001` and so on.
pub const SKUS: u64 = 1_000;

/// Generator xorshift64*: cheap, seeded, and random enough to draw SKUs.
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// A generator with a different sequence for each seed.
    pub fn seeded(seed: u64) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 ^ (seed + 1) << 17)
    }

    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
    }

    /// Two different SKUs, the lower one first.
    pub fn two_skus(&mut self) -> (u64, u64) {
        let one = 1 + self.next(SKUS - 1);
        (one, one + 1 + self.next(SKUS - one))
    }

    /// The first SKU and a different one.
    pub fn hot_and_other(&mut self) -> (u64, u64) {
        (1, 2 + self.next(SKUS - 1))
    }
}
