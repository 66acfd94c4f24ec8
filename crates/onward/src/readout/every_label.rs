//! One pass per label: the network is asked how well each label goes with the input.

use crate::batch::{Batch, Label, Labelled};
use crate::network::Network;
use crate::pass::Activity;
use crate::readout::exit;

/// `Σ_l logit(g_l)`-scores of each label for each sample `(N, K)`: the goodness of the layers read, by its sign and
/// temperature. The first layer's product with the image is computed once for all labels.
pub(super) fn scores(network: &Network, batch: &Batch, buffers: &mut [Activity; 2]) -> Vec<f32> {
    let (classes, first) = (network.classes(), network.first_read());
    let mut rows = Labelled::default();
    let labels = (0..classes as u32).map(Label::Class);
    rows.fill(network, batch, (0..batch.len()).flat_map(|n| labels.clone().map(move |label| (n, label))));
    let mut base = Vec::new();
    let base = network.project(batch, &mut base);
    exit::scores(network, &rows.as_inputs(batch, base), classes, buffers, |l, stage, y, scores| {
        let (read, measure) = (l >= first && stage.layer.learns(), &stage.measure);
        if read {
            let score = |r: usize| measure.logit(measure.value(y.row(r), y.squares[r]));
            scores.iter_mut().enumerate().for_each(|(r, to)| *to = score(r));
        }
        stage.normalization.apply(y);
        read
    })
}
