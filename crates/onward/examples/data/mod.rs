//! Data for the examples: four kinds of waves, 32 samples each, at any phase and in noise.

use onward::{Dataset, Result, Shape, Values};
use rand::RngExt;

/// `n` waves of 1 to 4 periods.
pub fn waves(n: usize, seed: u64) -> Result<Dataset> {
    let mut random = onward::random::stream(seed, "waves", 0);
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for i in 0..n {
        let kind = i % 4;
        let phase = random.random::<f32>();
        for t in 0..32 {
            let turn = (t as f32 / 32.0 * (kind + 1) as f32 + phase) * std::f32::consts::TAU;
            values.push(1.0 + turn.sin() + 0.4 * random.random::<f32>());
        }
        labels.push(kind as u32);
    }
    let names = (1..=4).map(|periods| format!("{periods} periods")).collect();
    Dataset::new(Shape::features(32), Values::Floats(values), labels, names)
}
