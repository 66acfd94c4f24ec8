//! `onward bench plan`: what a pipeline over many machines would come to.

use super::Bench;
use crate::cost::BUFFERS;
use crate::exit::Usage;
use anyhow::{Context, Result};
use onward::engine::limits::bandwidth;
use onward::settings::{NegativesKind, Order, Precision};
use onward::train::pipeline::plan::{Costs, Network};
use serde_json::{Value, json};

/// Layers of the deep networks that are planned for.
const DEPTH: usize = 1000;

impl Bench<'_> {
    pub(super) fn plan(&self) -> Result<(Value, String)> {
        let network = Network {
            bandwidth: self.args.network * 1e9 / 8.0,
            latency: self.args.latency * 1e-6,
            // What is copied is read and written.
            copying: bandwidth(BUFFERS[0].1, 1) / 2.0,
        };
        let (replicas, batch) = (usize::from(self.args.replicas), self.args.batch);
        if replicas > batch {
            let problem = format!("--replicas {replicas}: a batch of {batch} cannot be shared by so many");
            return Err(Usage(problem).into());
        }
        let mut text = format!(
            "a pipeline over machines, 784-{:?}, batch {batch}, f32, each rank one core\n  simulated: {} Gbit/s, {} µs; layers \
             measured here, alone on a core\n",
            self.args.layers, self.args.network, self.args.latency
        );
        if replicas > 1 {
            text.push_str(&format!("  each block of layers on {replicas} ranks, each for its share of a batch\n"));
        }
        let mut value = json!({ "network": network });
        for (name, said, head, deep) in [
            ("given", "the network as it is", true, false),
            ("deep", "1,000 layers like the last, no softmax head", false, true),
            ("deep_head", "the same with a head that reads all of them", true, true),
        ] {
            let measured = |batch: usize| -> Result<Costs> {
                let mut recipe = self.recipe(&self.args.layers, batch, Precision::F32);
                (recipe.training.order, recipe.training.blocks) = (Order::Pipelined, 1);
                (recipe.negatives.kind, recipe.head.enabled) = (NegativesKind::Uniform, head);
                let (_, trainer) = self.train(recipe, &self.data, 1)?;
                let costs = Costs::measured(&trainer).context("no step was measured")?;
                Ok(if deep { costs.deepened(DEPTH, head) } else { costs })
            };
            let whole = measured(batch)?;
            let alone = whole.alone();
            let costs = if replicas > 1 { measured(batch.div_ceil(replicas))? } else { whole };
            text.push_str(&format!(
                "  {said}: {} samples/s on one\n  {:>8}{:>8}{:>14}{:>10}{:>8}{:>12}\n",
                few(alone * batch as f64),
                "ranks",
                "blocks",
                "samples/s",
                "speed-up",
                "busy",
                "at most"
            ));
            let most = costs.items.len();
            let blocks =
                (1..=most.min(4)).chain([8, 16, 32, 64, 128, 256, 512, 1000].into_iter().filter(|n| *n <= most));
            let ranks = blocks.map(|blocks| blocks * replicas).filter(|ranks| (2..=DEPTH).contains(ranks));
            let mut lines = Vec::new();
            for ranks in ranks {
                let plan = costs.plan(&network, ranks, replicas, 0);
                let (rate, speed_up) = (plan.steps_per_second * batch as f64, plan.steps_per_second / alone);
                text.push_str(&format!(
                    "  {ranks:>8}{:>8}{:>14}{:>10}{:>8}{:>12}\n",
                    plan.blocks,
                    few(rate),
                    format!("{speed_up:.2}×"),
                    format!("{:.0} %", 100.0 * plan.busy),
                    format!("{:.2}×", plan.bound / alone)
                ));
                lines.push(json!({ "ranks": ranks, "samples_per_second": rate, "speed_up": speed_up, "plan": plan }));
            }
            value[name] = json!({ "costs": if deep { Value::Null } else { json!(costs) }, "ranks": lines });
        }
        Ok((value, text))
    }
}

/// A rate, with decimals where it is small.
fn few(rate: f64) -> String {
    let decimals = if rate < 100.0 { 1 } else { 0 };
    format!("{rate:.decimals$}")
}
