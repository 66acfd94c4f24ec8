//! One pass without a label: layers that tell the label themselves add up their class scores.

use crate::batch::{Batch, Label, Labelled};
use crate::network::Network;
use crate::pass::Activity;
use crate::readout::exit;

/// Scores `(N, K)`: those of the layers read, added up.
pub(super) fn scores(network: &Network, batch: &Batch, buffers: &mut [Activity; 2]) -> Vec<f32> {
    let first = network.first_read();
    let mut rows = Labelled::default();
    rows.fill(network, batch, (0..batch.len()).map(|n| (n, Label::Neutral)));
    exit::scores(network, &rows.as_inputs(batch, None), 1, buffers, |l, stage, y, scores| {
        let read = l >= first && stage.layer.learns();
        if read {
            stage.class_scores(y, 0..y.rows(), scores);
        }
        stage.normalization.apply(y);
        read
    })
}
