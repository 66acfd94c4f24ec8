//! Engines: where products are computed. Each makes layers of its own kind; all are tested equal to the reference.

pub mod cpu;
pub mod limits;
pub(crate) mod pool;
pub mod reference;
pub(crate) mod student_t;

use crate::layer::{Dense, Layer};
use crate::settings::Precision;

/// A fully connected layer of the engine that `precision` names.
pub fn dense(precision: Precision, dense: Dense) -> Box<dyn Layer> {
    match precision {
        Precision::Reference => Box::new(reference::ReferenceDense::new(dense)),
        Precision::F32 => Box::new(cpu::CpuDense::new(dense, false)),
        Precision::Bf16 => Box::new(cpu::CpuDense::new(dense, true)),
    }
}

/// The vectors that products are computed with here, and whether there are units for bf16: where these differ, sums are
/// rounded in another order.
pub fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    return match pulp::Arch::new() {
        pulp::Arch::V4(_) if cpu::has_tiles() => "avx512+amx",
        pulp::Arch::V4(_) if cpu::has_bf16() => "avx512+bf16",
        pulp::Arch::V4(_) => "avx512",
        pulp::Arch::V3(_) => "avx2",
        _ => "scalar",
    };
    #[cfg(target_arch = "aarch64")]
    return match pulp::Arch::new() {
        pulp::Arch::Neon(_) => "neon",
        _ => "scalar",
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    "scalar"
}

/// `max(0, ·)`. What is not finite stays so, `−∞` too, for it may be an overflow on the way to anything: then `Σ y²` shows it.
#[inline(always)]
pub(crate) fn rectify(y: f32) -> f32 {
    if (f32::MIN..=0.0).contains(&y) { 0.0 } else { y }
}

/// `Σ y²`, in lanes that vectors can hold.
#[inline(always)]
pub(crate) fn sum_of_squares(y: &[f32]) -> f32 {
    sum_of_products(y, y)
}

/// `Σ a·b` of as many numbers each, in lanes that vectors can hold.
#[inline(always)]
pub(crate) fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 32];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    for (a, b) in a.iter().zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The value of an expression whose loops are compiled for the widest vectors that this processor has. What it calls must be
/// inlined into it.
macro_rules! vectorised {
    ($body:expr) => {{
        // Inlined always: a long closure would otherwise stay a function of its own, compiled for any processor. So would
        // what lets a closure that could be called again be called once; `once` makes it one that cannot.
        let once = $crate::engine::Once;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let _once = once;
                $body
            },
        )
    }};
}
pub(crate) use vectorised;

/// What a closure gives away when it is called: see [`vectorised`].
pub(crate) struct Once;
