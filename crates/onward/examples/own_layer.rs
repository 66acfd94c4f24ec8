//! A layer of your own: one weight per input and unit is a sign and a shared size, as cheap hardware would have it. The
//! layer keeps real-valued weights to learn with and computes with their signs only. Nothing has a derivative here, and
//! nothing needs one: the layers above and below never ask.
//!
//! `cargo run --release -p onward --example own_layer` ends below 2 % error on four kinds of noisy waves; it takes seconds.

mod data;

use onward::layer::Layer;
use onward::optimizer::Step;
use onward::pass::{Activity, Directions, Inputs};
use onward::tensor::{Tensor, Tensors};
use onward::{Event, Flow, Network, Readout, Recipe, Result, Trainer};
use rand::RngExt;

/// `y = max(0, x̂ sign(W) / sqrt(I))`.
#[derive(Debug)]
struct Signs {
    inputs: usize,
    outputs: usize,
    /// `W: (I, O)`.
    weight: Vec<f32>,
    smoothed: Vec<f32>,
}

impl Signs {
    fn new(inputs: usize, outputs: usize) -> Self {
        let mut random = onward::random::stream(1, "signs", 0);
        let weight = (0..inputs * outputs).map(|_| 0.1 * (random.random::<f32>() - 0.5)).collect();
        Signs { inputs, outputs, weight, smoothed: vec![0.0; inputs * outputs] }
    }
}

impl Layer for Signs {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn forward(&self, x: &Inputs<'_>, y: &mut Activity) {
        let size = 1.0 / (self.inputs as f32).sqrt();
        for (r, x) in x.dense().chunks_exact(self.inputs).enumerate() {
            let y = y.row_mut(r);
            y.fill(0.0);
            for (x, w) in x.iter().zip(self.weight.chunks_exact(self.outputs)) {
                y.iter_mut().zip(w).for_each(|(y, w)| *y += x * size * w.signum());
            }
            y.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        y.measure();
    }

    fn update(&mut self, x: &Inputs<'_>, d: &Directions, step: &Step) {
        let Step::Smoothed { momentum, share, rate, cost } = *step else { panic!("made for smoothed gradients") };
        self.smoothed.iter_mut().for_each(|v| *v *= momentum);
        let all = d.dense(x.rows(), self.outputs);
        for (x, d) in x.dense().chunks_exact(self.inputs).zip(all.chunks_exact(self.outputs)) {
            for (x, v) in x.iter().zip(self.smoothed.chunks_exact_mut(self.outputs)) {
                v.iter_mut().zip(d).for_each(|(v, d)| *v += share * x * d);
            }
        }
        self.weight.iter_mut().zip(&self.smoothed).for_each(|(w, v)| *w += rate * (v - cost * *w));
    }

    fn tensors(&self) -> Vec<Tensor> {
        let tensor = |name, values: &[f32]| Tensor::f32(name, &[self.inputs, self.outputs], values.to_vec());
        vec![tensor("weight", &self.weight), tensor("weight.smoothed", &self.smoothed)]
    }

    fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        let shape = [self.inputs, self.outputs];
        self.weight = Tensors(tensors).f32("weight", &shape)?.to_vec();
        self.smoothed = Tensors(tensors).f32("weight.smoothed", &shape)?.to_vec();
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.weight.len()
    }

    fn weight_rms(&self) -> f32 {
        (self.weight.iter().map(|w| w * w).sum::<f32>() / self.weight.len() as f32).sqrt()
    }
}

fn main() -> onward::Result<()> {
    let (train, test) = (data::waves(8_000, 1)?, data::waves(2_000, 2)?);
    let mut recipe = Recipe::default();
    recipe.network.layers = vec![200.into(), 100.into()];
    recipe.network.label = onward::settings::LabelPlace::Prepend;
    recipe.training.epochs = 20;
    let mut network = Network::new(recipe, train.shape(), train.classes())?;
    network.set_layer(0, Box::new(Signs::new(network.inputs(), 200)))?;

    let mut trainer = Trainer::with_network(network);
    trainer.fit(&train, &mut |event: Event<'_>, _: &Trainer| {
        if let Event::Epoch(epoch) = event {
            println!("epoch {:2}: loss {:.3}", epoch.epoch, epoch.loss);
        }
        Flow::Continue
    })?;
    let error = trainer.network().evaluate(&test, Readout::EveryLabel)?.error();
    println!("{error:.1} % of {} waves wrong", test.len());
    assert!(error < 2.0);
    Ok(())
}
