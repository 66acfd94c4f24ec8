//! One pass without a label: layers that tell the label themselves add up their class scores.

use crate::batch::{Batch, Label, Labelled};
use crate::network::Network;
use crate::pass::Activity;
use crate::readout::exit::Exit;

/// Scores `(N, K)`: those of the layers read, added up.
pub(super) fn scores(network: &Network, batch: &Batch, buffers: &mut [Activity; 2]) -> Vec<f32> {
    let (classes, first) = (network.classes(), network.first_read());
    let mut rows = Labelled::default();
    rows.fill(network, batch, (0..batch.len()).map(|n| (n, Label::Neutral)));
    let (mut scores, mut part) = (vec![0.0; batch.len() * classes], Vec::new());
    let mut exit = Exit::new(network.recipe().readout.margin, batch.len());
    let rows = rows.as_inputs(batch, None);
    network.ascend(&rows, buffers, |l, stage, y| {
        if l >= first && stage.layer.learns() {
            stage.class_scores(y, 0..y.rows(), &mut part);
            for (part, &n) in part.chunks_exact(classes).zip(&exit.going) {
                scores[n as usize * classes..][..classes].iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            exit.leave(&scores, classes, 1, y);
        }
        stage.normalization.apply(y);
        exit.flow()
    });
    scores
}
