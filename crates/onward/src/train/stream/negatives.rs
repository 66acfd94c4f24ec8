//! Windows that should not occur. Each function makes one in place of the newest window, and answers whether it could.

use super::past::Past;
use crate::random::Random;
use rand::RngExt;

/// The window's records in another order. `to: (n·F)`, `n ≥ 2`, the real window.
pub(super) fn shuffle(features: usize, to: &mut [f32], random: &mut Random) -> bool {
    let length = to.len() / features;
    let swap = |to: &mut [f32], a: usize, b: usize| {
        let (a, b) = (a.min(b), a.max(b));
        let (head, tail) = to.split_at_mut(b * features);
        head[a * features..][..features].swap_with_slice(&mut tail[..features]);
    };
    // Fisher–Yates; where nothing has moved, two records change places.
    let mut moved = false;
    for last in (1..length).rev() {
        let other = random.random_range(0..=last);
        if other != last {
            swap(to, other, last);
            moved = true;
        }
    }
    if !moved {
        let a = random.random_range(0..length);
        swap(to, a, (a + random.random_range(1..length)) % length);
    }
    true
}

/// Some features of the newest window from an earlier one; of a single feature, some records. `to: (n·F)`, the newest
/// window.
pub(super) fn mix(past: &Past, features: usize, to: &mut [f32], random: &mut Random) -> bool {
    let Some(other) = earlier(past, random) else { return false };
    let length = to.len() / features;
    let parts = if features > 1 { features } else { length };
    // One part at least is replaced, and one at least stays where there are two.
    let replaced = random.random_range(0..parts);
    let kept = (replaced + if parts > 1 { random.random_range(1..parts) } else { 0 }) % parts;
    let mut bits = 0u64;
    for part in 0..parts {
        if part % 64 == 0 {
            bits = random.random();
        }
        let take = part == replaced || (part != kept && bits >> (part % 64) & 1 == 1);
        if !take {
            continue;
        }
        for (t, to) in to.chunks_exact_mut(features).enumerate() {
            let from = (other + t as u64 + 1).checked_sub(length as u64).map(|number| past.record(number));
            if features > 1 {
                to[part] = from.map_or(0.0, |from| from[part]);
            } else if t == part {
                to[0] = from.map_or(0.0, |from| from[0]);
            }
        }
    }
    true
}

/// Some features of the window, at least one, anywhere within `reach` deviations of their means. `to: (n·F)`.
pub(super) fn noise(features: usize, reach: f32, to: &mut [f32], random: &mut Random) -> bool {
    let certain = random.random_range(0..features);
    for part in 0..features {
        if part == certain || random.random::<bool>() {
            for to in to.chunks_exact_mut(features) {
                to[part] = random.random_range(-reach..reach);
            }
        }
    }
    true
}

/// The newest window with another record in its last place. `to: (n·F)`, the newest window.
pub(super) fn another(past: &Past, features: usize, to: &mut [f32], random: &mut Random) -> bool {
    let Some(other) = earlier(past, random) else { return false };
    let last = to.len() - features;
    to[last..].copy_from_slice(past.record(other));
    true
}

/// As [`another`]; of windows of one record, as [`mix`].
pub(super) fn continue_otherwise(past: &Past, features: usize, to: &mut [f32], random: &mut Random) -> bool {
    let make = if to.len() == features { mix } else { another };
    make(past, features, to, random)
}

/// A window before the newest.
fn earlier(past: &Past, random: &mut Random) -> Option<u64> {
    let others = past.len().saturating_sub(1);
    (others > 0).then(|| past.count - 2 - random.random_range(0..others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    fn past(features: usize, length: usize) -> Past {
        let mut past = Past::new(features, length, 8);
        for n in 0..50 {
            past.push().iter_mut().enumerate().for_each(|(f, x)| *x = (10 * n + f) as f32);
        }
        past
    }

    #[test]
    fn shuffled_windows_are_never_in_order() {
        for seed in 0..200 {
            let mut window = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5];
            shuffle(2, &mut window, &mut stream(seed, "t", 0));
            let mut firsts: Vec<f32> = window.chunks(2).map(|r| r[0]).collect();
            assert!(window.chunks(2).all(|r| r[1] == r[0] + 0.5), "records stay whole: {window:?}");
            assert_ne!(firsts, [0.0, 1.0, 2.0]);
            firsts.sort_by(f32::total_cmp);
            assert_eq!(firsts, [0.0, 1.0, 2.0]);
        }
    }

    #[test]
    fn mixed_windows_have_something_of_both() {
        for (features, length) in [(3, 1), (3, 2), (1, 4), (2, 1)] {
            let past = past(features, length);
            let mut real = vec![0.0; features * length];
            past.window(49, &mut real);
            for seed in 0..200 {
                let mut mixed = real.clone();
                assert!(mix(&past, features, &mut mixed, &mut stream(seed, "t", 0)));
                let same = mixed.iter().zip(&real).filter(|(a, b)| a == b).count();
                assert!(0 < same && same < real.len(), "{real:?} → {mixed:?}");
            }
        }
        let mut first = Past::new(2, 1, 8);
        first.push();
        assert!(!mix(&first, 2, &mut [0.0; 2], &mut stream(1, "t", 0)), "there is nothing to mix with");
    }
}
