//! Products of bf16 numbers in tiles of 16 × 16 sums: processors with AMX multiply and add 8,192 pairs with one instruction,
//! sixteen times what their vectors do in the same time.
//!
//! Stable Rust has no functions for these instructions, so they are written as assembly, each product in one block that
//! configures the tiles, computes and releases them: nothing of them is left over where the compiler could see it.

use super::panels::WIDTH;

/// Pairs of bf16 numbers in a row of a tile, and rows of a tile.
pub const SIDE: usize = 16;

/// Rows that one product has at most: two tiles, whose sums for all columns of a panel take six of eight tiles.
pub const ROWS: usize = 2 * SIDE;

/// `sums[i] = Σ_k a[i][k] · b[k]`, of pairs `k`: some rows against a panel.
pub struct Operands<'a> {
    /// Where the left rows start.
    pub a: &'a [u32],
    /// From one row of `a` to the next, in pairs.
    pub stride: usize,
    /// From one block of [`SIDE`] pairs of a row to the next.
    pub step: usize,
    /// `(K, WIDTH)`, `K` a multiple of [`SIDE`].
    pub b: &'a [u32],
}

/// Whether this processor has tiles of bf16 numbers, and the system lets this process use them.
pub fn available() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return x86::available();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

/// The first `rows` sums, where [`available`] says so.
///
/// # Panics
/// Where `rows` is 0 or above [`ROWS`], or operands are shorter than they say.
pub fn multiply(operands: &Operands<'_>, rows: usize, sums: &mut [[f32; WIDTH]; ROWS]) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return x86::multiply(operands, rows, sums);
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        let _ = (operands, rows, sums);
        unreachable!("there are no tiles");
    }
}

/// See `limits::peak_flops`.
pub fn multiply_add(rounds: u64) -> f64 {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return x86::multiply_add(rounds);
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        let _ = rounds;
        unreachable!("there are no tiles");
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86 {
    use super::{Operands, ROWS, SIDE, WIDTH};
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::OnceLock;

    /// Bytes of a tile's row.
    const ROW: usize = 4 * SIDE;

    /// What the processor is told about tiles: palette 1, and the rows and the bytes of a row of each.
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    impl Config {
        /// Sums in tiles 0 to 5 and left rows in tile 7 have `rows` rows, the panel in tile 6 has all.
        fn new(rows: usize) -> Self {
            let mut config = Config { palette: 1, start: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
            config.bytes[..8].fill(ROW as u16);
            config.rows[..8].fill(rows as u8);
            config.rows[6] = SIDE as u8;
            config
        }
    }

    pub fn available() -> bool {
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        *AVAILABLE.get_or_init(|| {
            const BF16: u32 = 1 << 22;
            const TILES: u32 = 1 << 24;
            if cfg!(miri) {
                return false; // It cannot ask the processor.
            }
            let most = __cpuid(0).eax;
            let has = most >= 7 && __cpuid_count(7, 0).edx & (BF16 | TILES) == BF16 | TILES;
            has && std::is_x86_feature_detected!("avx512bf16") && permitted()
        })
    }

    /// Linux saves tiles only of processes that have asked for it (`arch_prctl`, `ARCH_REQ_XCOMP_PERM`, tile data); then all
    /// threads may use them.
    fn permitted() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const REQUEST: u64 = 0x1023;
        const TILE_DATA: u64 = 18;
        let result: i64;
        // SAFETY: this system call touches no memory of ours; it overwrites the registers named.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") REQUEST, in("rsi") TILE_DATA,
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result == 0
    }

    pub fn multiply(operands: &Operands<'_>, rows: usize, sums: &mut [[f32; WIDTH]; ROWS]) {
        let Operands { a, stride, step, b } = *operands;
        assert!(available() && (1..=ROWS).contains(&rows));
        let steps = b.len() / (SIDE * WIDTH);
        if steps == 0 {
            return sums[..rows].fill([0.0; WIDTH]);
        }
        // Two tiles of as many rows: where the number is odd, both have the row in the middle.
        let (first, second) = match rows {
            ..=SIDE => (rows, None),
            _ => (rows.div_ceil(2), Some(rows / 2)),
        };
        assert!(a.len() >= (rows - 1) * stride + (steps - 1) * step + SIDE);
        let config = Config::new(first);
        let sums = sums.as_mut_ptr().cast::<f32>();
        let (left, panel) = (a.as_ptr(), b.as_ptr());
        match second {
            // SAFETY: the tiles are there (`available`), and all blocks of `a`'s rows; `b` has `steps` blocks of `SIDE` rows of
            // `WIDTH` numbers, the answers are `rows` rows of them. Registers that change are named.
            None => unsafe {
                asm!(
                    "ldtilecfg [{config}]",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "2:",
                    "tileloadd tmm7, [{left} + {stride}*1]",
                    "tileloadd tmm6, [{panel} + {width}*1]",
                    "tdpbf16ps tmm0, tmm7, tmm6",
                    "tileloadd tmm6, [{panel} + {width}*1 + 64]",
                    "tdpbf16ps tmm1, tmm7, tmm6",
                    "tileloadd tmm6, [{panel} + {width}*1 + 128]",
                    "tdpbf16ps tmm2, tmm7, tmm6",
                    "add {left}, {step}",
                    "add {panel}, {block}",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{sums} + {width}*1], tmm0",
                    "tilestored [{sums} + {width}*1 + 64], tmm1",
                    "tilestored [{sums} + {width}*1 + 128], tmm2",
                    "tilerelease",
                    config = in(reg) &raw const config,
                    left = inout(reg) left => _,
                    panel = inout(reg) panel => _,
                    steps = inout(reg) steps => _,
                    stride = in(reg) 4 * stride,
                    step = in(reg) 4 * step,
                    width = in(reg) 4 * WIDTH,
                    block = const 4 * SIDE * WIDTH,
                    sums = in(reg) sums,
                    options(nostack),
                );
            },
            // SAFETY: as above; `first` rows from row 0 on, and from row `second` on, end with row `rows - 1`.
            Some(second) => unsafe {
                asm!(
                    "ldtilecfg [{config}]",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "tilezero tmm4",
                    "tilezero tmm5",
                    "2:",
                    "tileloadd tmm6, [{panel} + {width}*1]",
                    "tileloadd tmm7, [{left} + {stride}*1]",
                    "tdpbf16ps tmm0, tmm7, tmm6",
                    "tileloadd tmm7, [{right} + {stride}*1]",
                    "tdpbf16ps tmm3, tmm7, tmm6",
                    "tileloadd tmm6, [{panel} + {width}*1 + 64]",
                    "tdpbf16ps tmm4, tmm7, tmm6",
                    "tileloadd tmm7, [{left} + {stride}*1]",
                    "tdpbf16ps tmm1, tmm7, tmm6",
                    "tileloadd tmm6, [{panel} + {width}*1 + 128]",
                    "tdpbf16ps tmm2, tmm7, tmm6",
                    "tileloadd tmm7, [{right} + {stride}*1]",
                    "tdpbf16ps tmm5, tmm7, tmm6",
                    "add {left}, {step}",
                    "add {right}, {step}",
                    "add {panel}, {block}",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{sums} + {width}*1], tmm0",
                    "tilestored [{sums} + {width}*1 + 64], tmm1",
                    "tilestored [{sums} + {width}*1 + 128], tmm2",
                    "tilestored [{more} + {width}*1], tmm3",
                    "tilestored [{more} + {width}*1 + 64], tmm4",
                    "tilestored [{more} + {width}*1 + 128], tmm5",
                    "tilerelease",
                    config = in(reg) &raw const config,
                    left = inout(reg) left => _,
                    right = inout(reg) left.add(second * stride) => _,
                    panel = inout(reg) panel => _,
                    steps = inout(reg) steps => _,
                    stride = in(reg) 4 * stride,
                    step = in(reg) 4 * step,
                    width = in(reg) 4 * WIDTH,
                    block = const 4 * SIDE * WIDTH,
                    sums = in(reg) sums,
                    more = in(reg) sums.add(second * WIDTH),
                    options(nostack),
                );
            },
        }
    }

    pub fn multiply_add(rounds: u64) -> f64 {
        assert!(available() && rounds > 0);
        let config = Config::new(SIDE);
        // SAFETY: the tiles are there; nothing but the configuration is read.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "2:",
                "tdpbf16ps tmm0, tmm7, tmm6",
                "tdpbf16ps tmm1, tmm7, tmm6",
                "tdpbf16ps tmm2, tmm7, tmm6",
                "tdpbf16ps tmm3, tmm7, tmm6",
                "dec {rounds}",
                "jnz 2b",
                "tilerelease",
                config = in(reg) &raw const config,
                rounds = inout(reg) rounds => _,
                options(nostack),
            );
        }
        (rounds * 4 * (2 * SIDE * SIDE * 2 * SIDE) as u64) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two numbers that bf16 holds exactly, as a pair.
    fn pair(a: i8, b: i8) -> u32 {
        f32::from(a).to_bits() >> 16 | f32::from(b).to_bits()
    }

    #[test]
    fn every_number_of_rows_is_the_sum_of_products() {
        if !available() {
            return;
        }
        let steps = 3;
        let number = |seed: usize| ((seed * 7919 % 31) as i8) - 15;
        let (stride, step) = (steps * SIDE + 5, SIDE);
        let a: Vec<_> = (0..ROWS * stride).map(|i| (number(i), number(i + 1))).collect();
        let b: Vec<_> = (0..steps * SIDE * WIDTH).map(|i| (number(3 * i), number(5 * i + 2))).collect();
        let pairs = |numbers: &[(i8, i8)]| numbers.iter().map(|&(x, y)| pair(x, y)).collect::<Vec<_>>();
        let (left, panel) = (pairs(&a), pairs(&b));
        for rows in 1..=ROWS {
            let mut sums = [[f32::NAN; WIDTH]; ROWS];
            multiply(&Operands { a: &left, stride, step, b: &panel }, rows, &mut sums);
            for (i, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    let product = |k: usize| {
                        let ((x, y), (u, v)) = (a[i * stride + k], b[k * WIDTH + j]);
                        i32::from(x) * i32::from(u) + i32::from(y) * i32::from(v)
                    };
                    let expected = (0..steps * SIDE).map(product).sum::<i32>() as f32;
                    assert!(if i < rows { *sum == expected } else { sum.is_nan() }, "{rows} rows: {i}, {j}");
                }
            }
        }
        let mut sums = [[1.0; WIDTH]; ROWS];
        multiply(&Operands { a: &[], stride: 0, step, b: &[] }, 2, &mut sums);
        assert_eq!((sums[1][0], sums[2][0]), (0.0, 1.0), "nothing to add up");
    }
}
