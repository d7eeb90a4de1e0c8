//! Numbers for stories that are long and the same in every run.

/// A number that is different each time, and the same in every run of the test.
pub struct Chance(pub u64);

impl Chance {
    /// A number from 0 on that is smaller than this one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
