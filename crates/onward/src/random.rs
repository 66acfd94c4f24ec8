//! Named random streams: one seed, and every draw a pure function of the seed, the stream's name and the step.
//!
//! Nothing here has a state that moves along with training. A run that starts again at step `t` draws what the run
//! that was never interrupted drew there, and a draw added in one place moves nothing anywhere else.

use rand::SeedableRng;
pub use rand_chacha::ChaCha8Rng as Random;

/// Words of a stream that belong to one step: far more than any step draws.
const WORDS_PER_STEP: u128 = 1 << 32;

/// The stream `name` of `seed`, at the first of the draws that belong to `step`.
///
/// ```
/// use rand::RngExt;
/// let mut a = onward::random::stream(7, "negatives", 3);
/// let mut b = onward::random::stream(7, "negatives", 3);
/// assert_eq!(a.random::<u64>(), b.random::<u64>());
/// ```
pub fn stream(seed: u64, name: &str, step: u64) -> Random {
    let mut random = Random::seed_from_u64(seed);
    random.set_stream(fnv1a(name));
    random.set_word_pos(u128::from(step) * WORDS_PER_STEP);
    random
}

/// 1 or −1 at a place `(i, o)` of a matrix: a random bit for every seed, step and place, computed where it is needed. One
/// hash serves 32 neighbouring columns.
#[inline(always)]
pub(crate) fn sign(seed: u64, step: u64, i: usize, o: usize) -> f32 {
    let bits = bits(seed, step, i, o / 32);
    f32::from_bits(1.0f32.to_bits() | (bits >> (o % 32)) << 31)
}

/// The bits of 32 neighbouring columns of row `i`: SplitMix64's mix of where they are.
#[inline(always)]
pub(crate) fn bits(seed: u64, step: u64, i: usize, columns: usize) -> u32 {
    let place = (i as u64) << 24 | columns as u64;
    let mut z = seed ^ mix(step) ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = mix(z);
    (z >> 32) as u32
}

#[inline(always)]
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a: the standard library promises no stable hash, and a stream's number must stay the same for ever.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn signs_are_fair_and_independent() {
        let draw = |step, i, o| sign(7, step, i, o);
        let mean = |f: &dyn Fn(usize) -> f32| (0..10_000).map(f).sum::<f32>() / 10_000.0;
        assert!(mean(&|n| draw(0, n / 100, n % 100)).abs() < 0.03);
        assert!(mean(&|n| draw(0, n / 100, n % 100) * draw(1, n / 100, n % 100)).abs() < 0.03);
        assert!(mean(&|n| draw(0, n / 100, n % 100) * draw(0, n / 100 + 1, n % 100)).abs() < 0.03);
        assert!(mean(&|n| draw(0, n / 100, n % 100) * draw(0, n / 100, n % 100 + 1)).abs() < 0.03);
        assert!((0..99).all(|o| draw(3, 5, o).abs() == 1.0));
    }

    #[test]
    fn streams_are_what_they_always_were() {
        // Literals: a change here changes every recorded result.
        let draws =
            [("weights", 0), ("weights", 1), ("order", 0)].map(|(name, step)| stream(1, name, step).random::<u32>());
        assert_eq!(draws, [1_482_656_306, 3_281_293_842, 1_921_859_448]);
    }
}
