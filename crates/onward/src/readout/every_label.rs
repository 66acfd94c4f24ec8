//! One pass per label: the network is asked how well each label goes with the input.

use crate::batch::{Batch, Label, Labelled};
use crate::network::Network;
use crate::pass::Activity;
use crate::readout::exit::Exit;

/// `Σ_l logit(g_l)`-scores of each label for each sample `(N, K)`: the goodness of the layers read, by its sign and
/// temperature. The first layer's product with the image is computed once for all labels.
pub(super) fn scores(network: &Network, batch: &Batch, buffers: &mut [Activity; 2]) -> Vec<f32> {
    let classes = network.classes();
    let mut rows = Labelled::default();
    let labels = (0..classes as u32).map(Label::Class);
    rows.fill(network, batch, (0..batch.len()).flat_map(|n| labels.clone().map(move |label| (n, label))));
    let mut base = Vec::new();
    let base = network.project(batch, &mut base);
    let mut scores = vec![0.0; batch.len() * classes];
    let first = network.first_read();
    let mut exit = Exit::new(network.recipe().readout.margin, batch.len());
    let rows = rows.as_inputs(batch, base);
    network.ascend(&rows, buffers, |l, stage, y| {
        if l >= first && stage.layer.learns() {
            for (i, &n) in exit.going.iter().enumerate() {
                for (label, score) in scores[n as usize * classes..][..classes].iter_mut().enumerate() {
                    let r = i * classes + label;
                    *score += stage.measure.logit(stage.measure.value(y.row(r), y.squares[r]));
                }
            }
            exit.leave(&scores, classes, classes, y);
        }
        stage.normalization.apply(y);
        exit.flow()
    });
    scores
}
