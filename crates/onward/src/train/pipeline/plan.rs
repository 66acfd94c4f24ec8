//! What a pipeline over many machines would come to: a simulation of its packets, from what each layer takes and what the
//! network between the machines can do.
//!
//! Each rank hosts one block, computes for one packet at a time, and sends and receives meanwhile. A message takes its
//! sender's link for its bytes over the bandwidth, and arrives a latency later. The trainer makes packets one after another
//! and has at most twice as many under way as there are blocks. Ranks are as fast as the one that was measured, and nobody
//! else uses the network.
//!
//! Where blocks have replicas, each computes for its share of a packet, and the gradients of each layer are added up in a ring:
//! `2(r − 1)` messages of an `r`-th of the gradient, which must have passed before the layer computes again.

use super::balance;
use crate::train::Trainer;
use serde::Serialize;
use std::collections::VecDeque;

/// What one step takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// Seconds to make a packet: the batch, its negatives and its labels.
    pub loading: f64,
    /// The layers from the bottom, and the head at the end if there is one.
    pub items: Vec<Item>,
}

/// A layer, or the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Item {
    /// Seconds of computing.
    pub seconds: f64,
    /// Bytes of its rows, which only the next layer reads.
    pub rows: f64,
    /// Bytes of what the head reads of it, which travel all the way up.
    pub kept: f64,
    /// Bytes of its gradient, which replicas add up.
    pub gradient: f64,
}

/// What lies between the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Bytes a second that a rank can send.
    pub bandwidth: f64,
    /// Seconds from the last byte sent to the first one computed with.
    pub latency: f64,
    /// Bytes a second that a rank writes into messages or reads out of them, beside computing.
    pub copying: f64,
}

/// What training over so many ranks comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Ranks that have a block.
    pub blocks: usize,
    /// Steps a second, once the pipeline is full.
    pub steps_per_second: f64,
    /// The share of its time that the busiest block computes, or waits for a sum.
    pub busiest: f64,
    /// The mean of that over the blocks.
    pub busy: f64,
    /// What no pipeline of these blocks can exceed, in steps a second: the slowest block, link or the trainer.
    pub bound: f64,
}

impl Costs {
    /// What a trainer's steps took lately in its pipeline; `None` before it has taken any. Measure with one block and one
    /// thread: blocks that share a core wait for each other, which counts.
    pub fn measured(trainer: &Trainer) -> Option<Self> {
        let occupancy = trainer.occupancy()?;
        let steps = occupancy.steps.max(1) as f64;
        let network = trainer.network();
        let recipe = trainer.recipe();
        let (batch, four) = (recipe.training.batch as f64, size_of::<f32>() as f64);
        let reads: Vec<usize> = network.head().map_or(Vec::new(), |head| head.parts().map(|(l, _)| l).collect());
        let neutral = if reads.is_empty() || network.positives_are_neutral() { 0.0 } else { 1.0 };
        let of_head = network.head().map_or(0, |head| head.parts().map(|(_, layer)| layer.gradient_len()).sum()) as f64;
        let items = occupancy.items.iter().enumerate().map(|(l, seconds)| {
            let width = network.stages().get(l).map_or(0, |stage| stage.layer.outputs()) as f64;
            Item {
                seconds: seconds / steps,
                rows: (2.0 + neutral) * batch * width * four,
                kept: if reads.contains(&l) { batch * width * four } else { 0.0 },
                gradient: match network.stages().get(l) {
                    Some(stage) => stage.layer.gradient_len() as f64 * four,
                    None => of_head * four,
                },
            }
        });
        Some(Costs { loading: occupancy.loading / steps, items: items.collect() })
    }

    /// The same with `depth` layers, more ones like the last.
    pub fn deepened(&self, depth: usize, head: bool) -> Self {
        let layers = self.items.len() - usize::from(head);
        let mut items = self.items.clone();
        if layers > 0 {
            let last = items[layers - 1];
            items.splice(layers..layers, std::iter::repeat_n(last, depth.saturating_sub(layers)));
        }
        Costs { items, ..self.clone() }
    }

    /// Steps a second of one rank that does everything, and makes the next packet meanwhile.
    pub fn alone(&self) -> f64 {
        1.0 / self.items.iter().map(|item| item.seconds).sum::<f64>().max(self.loading)
    }

    /// What `ranks` ranks come to: blocks of layers balanced by what they take, each with so many replicas. `delay`:
    /// `negatives.delay`, 0 where negatives are fixed in advance. With replicas, these are the costs of a replica's share of the
    /// batch, measured as such, for the optimiser's step takes the same however few rows there are.
    pub fn plan(&self, network: &Network, ranks: usize, replicas: usize, delay: u64) -> Plan {
        let seconds: Vec<f64> = self.items.iter().map(|item| item.seconds).collect();
        let cuts = balance(&seconds, ranks / replicas);
        let blocks = cuts.len();
        // What goes up from each block, and nothing but the outcome from the last one.
        let sent = |b: usize| match cuts[b].end {
            _ if b + 1 == blocks => 0.0,
            end => self.items[end - 1].rows + self.items[..end].iter().map(|item| item.kept).sum::<f64>(),
        };
        let bytes: Vec<f64> = (0..blocks).map(sent).collect();
        let others = (replicas - 1) as f64;
        let summed = |item: &Item| 2.0 * others / replicas as f64 * item.gradient;
        let of_block = |b: usize, of: &dyn Fn(&Item) -> f64| self.items[cuts[b].clone()].iter().map(of).sum::<f64>();
        let work = |b: usize| {
            let copied = bytes[b] + (if b > 0 { bytes[b - 1] } else { 0.0 }) + 2.0 * of_block(b, &summed);
            let computing = of_block(b, &|item| item.seconds) + copied / network.copying;
            // A layer waits for its own sum alone: the block's other layers work meanwhile.
            let sum = |item: &Item| summed(item) / network.bandwidth + 2.0 * others * network.latency;
            let waiting = self.items[cuts[b].clone()].iter().map(|item| item.seconds + sum(item));
            waiting.fold(computing, f64::max)
        };
        let work: Vec<f64> = (0..blocks).map(work).collect();
        let links = |b: usize| (bytes[b] + of_block(b, &summed)) / network.bandwidth;
        let links: Vec<f64> = (0..blocks).map(links).collect();
        // Rank 0 makes the whole batch.
        let loading = self.loading * replicas as f64;
        let rate = simulate(loading, network.latency, &work, &links, delay);
        let slowest = work.iter().chain(&links).copied().fold(loading, f64::max);
        Plan {
            blocks,
            steps_per_second: rate,
            busiest: rate * work.iter().copied().fold(0.0, f64::max),
            busy: rate * work.iter().sum::<f64>() / blocks as f64,
            bound: 1.0 / slowest,
        }
    }
}

/// Steps a second: packets pass `work[b]` seconds of block `b`, then `links[b]` seconds of its link.
fn simulate(loading: f64, latency: f64, work: &[f64], links: &[f64], delay: u64) -> f64 {
    let blocks = work.len();
    let most = 2 * blocks;
    // The first packets fill the pipeline; then as many again, and some more, are timed.
    let (filling, timed) = (4 * blocks + 100, 4 * blocks + 400);
    let (mut block_free, mut link_free) = (vec![0.0f64; blocks], vec![0.0f64; blocks]);
    let mut trainer_free = 0.0f64;
    // When the packets under way are back; predictions, and when they are there.
    let mut back: VecDeque<f64> = VecDeque::new();
    let (mut begun, mut last) = (0.0, 0.0);
    for step in 0..filling + timed {
        let mut start = trainer_free;
        if step >= most {
            start = start.max(back[back.len() - most]);
        }
        if delay > 0 && step as u64 >= delay {
            start = start.max(back[back.len() - delay as usize]);
        }
        trainer_free = start + loading;
        let mut there = trainer_free;
        for b in 0..blocks {
            block_free[b] = there.max(block_free[b]) + work[b];
            link_free[b] = block_free[b].max(link_free[b]) + links[b];
            there = link_free[b] + if blocks > 1 { latency } else { 0.0 };
        }
        back.push_back(there);
        if back.len() > most.max(delay as usize) {
            back.pop_front();
        }
        if step + 1 == filling {
            begun = there;
        }
        last = there;
    }
    timed as f64 / (last - begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Network = Network { bandwidth: 1e15, latency: 0.0, copying: 1e15 };

    fn costs(loading: f64, seconds: &[f64], rows: f64, kept: f64) -> Costs {
        Costs { loading, items: seconds.iter().map(|&seconds| Item { seconds, rows, kept, gradient: 0.0 }).collect() }
    }

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} for {expected}");
    }

    #[test]
    fn the_slowest_part_decides() {
        let uneven = costs(0.1, &[1.0, 3.0, 2.0], 8.0, 0.0);
        near(uneven.alone(), 1.0 / 6.0);
        near(uneven.plan(&FAST, 1, 1, 0).steps_per_second, 1.0 / 6.0);
        // The first two layers and the last one: 4 and 2 seconds.
        near(uneven.plan(&FAST, 2, 1, 0).steps_per_second, 1.0 / 4.0);
        let plan = uneven.plan(&FAST, 3, 1, 0);
        near(plan.steps_per_second, 1.0 / 3.0);
        near(plan.busiest, 1.0);
        near(plan.busy, 2.0 / 3.0);
        assert_eq!(uneven.plan(&FAST, 9, 1, 0).blocks, 3);
        // The link: 8 bytes at 2 bytes a second.
        near(uneven.plan(&Network { bandwidth: 2.0, ..FAST }, 3, 1, 0).steps_per_second, 1.0 / 4.0);
        // The trainer.
        near(costs(5.0, &[1.0, 3.0, 2.0], 8.0, 0.0).plan(&FAST, 3, 1, 0).steps_per_second, 1.0 / 5.0);
        // Copying: the middle one writes 8 bytes and reads 8.
        near(uneven.plan(&Network { copying: 8.0, ..FAST }, 3, 1, 0).steps_per_second, 1.0 / 5.0);
        // What the head reads goes all the way: 1 and 2 layers' bytes on the two links.
        near(
            costs(0.0, &[1.0, 1.0, 1.0], 0.0, 6.0).plan(&Network { bandwidth: 4.0, ..FAST }, 3, 1, 0).steps_per_second,
            1.0 / 3.0,
        );
    }

    #[test]
    fn latency_costs_nothing_until_packets_run_out() {
        let even = costs(0.0, &[1.0; 4], 0.0, 0.0);
        // A round takes 4 · (1 + latency), with 8 packets under way.
        near(even.plan(&Network { latency: 0.9, ..FAST }, 4, 1, 0).steps_per_second, 1.0);
        near(even.plan(&Network { latency: 3.0, ..FAST }, 4, 1, 0).steps_per_second, 8.0 / 16.0);
        // Hard negatives: as many packets as the delay says.
        near(even.plan(&FAST, 4, 1, 4).steps_per_second, 1.0);
        near(even.plan(&FAST, 4, 1, 2).steps_per_second, 0.5);
        near(even.plan(&FAST, 4, 1, 1).steps_per_second, 0.25);
    }

    #[test]
    fn replicas_wait_for_their_sums() {
        let mut layers = costs(0.1, &[1.0, 1.0], 0.0, 0.0);
        layers.items.iter_mut().for_each(|item| item.gradient = 8.0);
        // Nothing to wait for: two replicas of one block, of two.
        near(layers.plan(&FAST, 2, 2, 0).steps_per_second, 1.0 / 2.0);
        near(layers.plan(&FAST, 4, 2, 0).steps_per_second, 1.0);
        // A ring of two sends the gradient once: 8 bytes a layer at 16 a second, while the other layer works, or alone.
        let slow = Network { bandwidth: 16.0, ..FAST };
        near(layers.plan(&slow, 2, 2, 0).steps_per_second, 1.0 / 2.0);
        near(layers.plan(&slow, 4, 2, 0).steps_per_second, 1.0 / 1.5);
        // Of four: 12 bytes, and six latencies.
        near(layers.plan(&Network { latency: 0.25, ..slow }, 8, 4, 0).steps_per_second, 1.0 / (1.0 + 0.75 + 1.5));
        // The link carries both layers' sums: 16 bytes at 4 a second.
        near(layers.plan(&Network { bandwidth: 4.0, ..FAST }, 2, 2, 0).steps_per_second, 1.0 / 4.0);
        // Rank 0 makes the batch for all.
        near(costs(0.5, &[1.0], 0.0, 0.0).plan(&FAST, 8, 8, 0).steps_per_second, 1.0 / 4.0);
    }

    #[test]
    fn a_thousand_ranks_of_like_layers_are_a_thousand_times_as_fast() {
        let deep = costs(0.01, &[1.0, 1.0], 1.0, 0.0).deepened(1000, false);
        assert_eq!(deep.items.len(), 1000);
        for ranks in [1, 2, 10, 100, 1000] {
            let plan = deep.plan(&FAST, ranks, 1, 0);
            near(plan.steps_per_second / deep.alone(), ranks as f64);
            assert!(plan.steps_per_second <= plan.bound * 1.000001);
        }
    }
}
