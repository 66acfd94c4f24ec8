//! The kernels alone: `cargo bench -p onward`. What they come to in training is what `onward bench` measures.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use onward::engine;
use onward::layer::{Activation, Dense, Layer};
use onward::optimizer::Step;
use onward::pass::{Activity, Directions, Inputs};
use onward::settings::Precision;
use std::hint::black_box;

const PRECISIONS: [(&str, Precision); 2] = [("f32", Precision::F32), ("bf16", Precision::Bf16)];

/// `(I, O)`: of the default network, of the supervised one, and one that no panel fits.
const SHAPES: [(usize, usize); 3] = [(1000, 1000), (2000, 2000), (333, 77)];

fn layer(precision: Precision, inputs: usize, outputs: usize) -> Box<dyn Layer> {
    let weights = (0..inputs * outputs).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 30_000.0).collect();
    let activation = Activation::Relu;
    engine::dense(precision, Dense { inputs, outputs, activation, bias: true, weights })
}

fn inputs(values: &[f32], width: usize) -> Inputs<'_> {
    const ONES: [f32; 1000] = [1.0; 1000];
    let scale = &ONES[..values.len() / width];
    Inputs::plain(values, width, scale)
}

fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    for (name, precision) in PRECISIONS {
        for (i, o) in SHAPES {
            for rows in [1, 200] {
                let layer = layer(precision, i, o);
                let x: Vec<f32> = (0..rows * i).map(|n| (n % 13) as f32 / 13.0).collect();
                let mut y = Activity::default();
                group.throughput(Throughput::Elements((2 * rows * i * o) as u64));
                group.bench_function(BenchmarkId::new(name, format!("{rows}×{i}×{o}")), |b| {
                    b.iter(|| layer.forward(black_box(&inputs(&x, i)), &mut y));
                });
            }
        }
    }
    group.finish();
}

fn update(c: &mut Criterion) {
    let mut group = c.benchmark_group("update");
    let step = Step::Smoothed { momentum: 0.9, share: 0.001, rate: 0.01, cost: 0.001 };
    for (name, precision) in PRECISIONS {
        for (i, o) in SHAPES {
            for rows in [0, 60] {
                let mut layer = layer(precision, i, o);
                let x: Vec<f32> = (0..rows * i).map(|n| (n % 13) as f32 / 13.0).collect();
                let values = (0..rows * o).map(|n| (n % 7) as f32 / 7000.0).collect();
                let d = Directions { rows: (0..rows as u32).collect(), values, ..Default::default() };
                // Bytes: weights and their smoothed gradients, read and written.
                group.throughput(Throughput::Bytes((16 * i * o) as u64));
                group.bench_function(BenchmarkId::new(name, format!("{rows}×{i}×{o}")), |b| {
                    b.iter(|| layer.update(black_box(&inputs(&x, i)), &d, &step));
                });
            }
        }
    }
    group.finish();
}

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1));
    targets = forward, update
}
criterion_main!(kernels);
