//! What this machine can do at most: the rate of its multiply-add units, and of its memory. Programs are measured against it.

use crate::settings::Precision;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// The most floating point operations per second, of `threads` threads on registers alone. `None` where the processor has
/// no units for this precision.
///
/// # Panics
/// Where the threads cannot be started.
pub fn peak_flops(precision: Precision, threads: usize) -> Option<f64> {
    let run: fn(u64) -> f64 = match precision {
        Precision::F32 => |rounds| Arch::new().dispatch(MultiplyAdd { rounds }),
        Precision::Bf16 if super::cpu::has_bf16() => super::cpu::bf16_multiply_add,
        _ => return None,
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    Some(best(|| {
        const ROUNDS: u64 = 2_000_000;
        let start = Instant::now();
        let flops: f64 = pool.install(|| (0..threads).into_par_iter().with_max_len(1).map(|_| run(ROUNDS)).sum());
        flops / start.elapsed().as_secs_f64()
    }))
}

/// The most bytes per second that `threads` threads read and write back, over a buffer of `bytes`.
///
/// # Panics
/// Where the threads cannot be started.
pub fn bandwidth(bytes: usize, threads: usize) -> f64 {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    let mut buffer = vec![1.0f32; bytes / size_of::<f32>()];
    let each = buffer.len().div_ceil(threads).max(1);
    best(|| {
        let start = Instant::now();
        pool.install(|| {
            buffer.par_chunks_mut(each).for_each(|part| {
                crate::engine::vectorised!(part.iter_mut().for_each(|x| *x = *x * 0.999 + 0.001));
            });
        });
        2.0 * bytes as f64 / start.elapsed().as_secs_f64()
    })
}

/// The best of as many tries as fit into a fraction of a second: whatever else the machine does only makes it slower.
fn best(mut rate: impl FnMut() -> f64) -> f64 {
    let start = Instant::now();
    let mut most = rate();
    while start.elapsed() < Duration::from_millis(300) {
        most = most.max(rate());
    }
    most
}

/// Multiply-adds on independent registers; answers how many operations they were.
struct MultiplyAdd {
    rounds: u64,
}

impl WithSimd for MultiplyAdd {
    type Output = f64;

    #[expect(clippy::needless_range_loop, reason = "plain counting loops unroll into registers")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        const CHAINS: usize = 12; // more than any unit's latency needs, fewer than any processor's registers
        let mut sums = [simd.splat_f32s(0.0); CHAINS];
        let (a, b) = (simd.splat_f32s(std::hint::black_box(0.5)), simd.splat_f32s(std::hint::black_box(1e-3)));
        for _ in 0..self.rounds {
            for i in 0..CHAINS {
                sums[i] = simd.mul_add_e_f32s(sums[i], a, b);
            }
        }
        let total: f32 = sums.iter().map(|sum| simd.reduce_sum_f32s(*sum)).sum();
        std::hint::black_box(total);
        (self.rounds * (CHAINS * 2 * S::F32_LANES) as u64) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_of_the_size_of_machines() {
        let one = peak_flops(Precision::F32, 1).unwrap();
        assert!((1e8..1e13).contains(&one), "{one}");
        let bytes = bandwidth(1 << 22, 1);
        assert!((1e7..1e13).contains(&bytes), "{bytes}");
        assert_eq!(peak_flops(Precision::Reference, 1), None);
    }
}
