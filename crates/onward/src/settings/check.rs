//! What settings may be: the range of each, and tables of what does not go together.

use super::{
    ActivationKind, BlackBoxSettings, Device, GoodnessKind, HeadMemory, LabelPlace, LayerSettings, NegativesKind,
    Normalization, ObjectiveSettings, OptimizerKind, Order, Raise, Recipe, Rule, Threshold,
};
use crate::error::{Error, Result};
use std::fmt::Display;

/// The greatest number below 1.
pub(crate) const BELOW_1: f32 = 1.0 - f32::EPSILON / 2.0;

/// Refuses a value outside `low` to `high`; NaN always is.
pub(crate) fn range<T: PartialOrd + Display>(key: &str, found: T, low: T, high: T) -> Result<()> {
    if found >= low && found <= high {
        return Ok(());
    }
    Err(Error::setting(key, format!("found {found}, expected {low} to {high}")))
}

/// Whether a table of refusals applies, and what each says, where `{why}` stands for its reason.
pub(crate) struct When<'a>(pub bool, pub &'a str);

/// A table that always applies, of refusals that say all themselves.
pub(crate) const ALWAYS: When<'static> = When(true, "{why}");

impl When<'_> {
    /// Refuses the first row that is found: a key, whether its value is one that cannot be, and why.
    pub(crate) fn refuse(self, rows: &[(&str, bool, &str)]) -> Result<()> {
        let When(applies, says) = self;
        match rows.iter().find(|(_, found, _)| applies && *found) {
            Some((key, _, why)) => Err(Error::setting(*key, says.replace("{why}", why))),
            None => Ok(()),
        }
    }
}

impl Recipe {
    /// The recipe, if every value is in its range and they fit together.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first key that is out of range, or the two that do not fit.
    pub fn check(self) -> Result<Self> {
        ALWAYS.refuse(&[
            ("engine.device", self.engine.device == Device::Cuda, "this build has no GPU engine; use \"cpu\""),
            ("network.layers", self.network.layers.is_empty(), "found no layers, expected at least one"),
            (
                "network.layers",
                matches!(self.network.layers.last(), Some(LayerSettings::BlackBox(_))),
                "the last layer is a black box; expected one that learns: nothing would look at what the box does",
            ),
        ])?;
        self.network.layers.iter().enumerate().try_for_each(|(l, layer)| check_layer(l, layer))?;
        self.check_ranges()?;
        self.check_conflicts()?;
        Ok(self)
    }

    /// Refuses values out of range.
    fn check_ranges(&self) -> Result<()> {
        let Recipe { network, recurrent, goodness, peer, negatives, optimizer, head, training, .. } = self;
        range("network.label_strength", network.label_strength, 0.01, 100.0)?;
        range("network.freedom", network.freedom, 0.1, 1_000.0)?;
        range("network.dropout", network.dropout, 0.0, BELOW_1)?;
        range("augment.mask", self.augment.mask, 0.0, BELOW_1)?;
        if let Threshold::Value(theta) = goodness.threshold {
            range("goodness.threshold", theta, -1e9, 1e9)?;
        }
        range("goodness.temperature", goodness.temperature, 1e-4, 1e4)?;
        range("goodness.groups", goodness.groups, 1, 65_536)?;
        let Raise(share) = goodness.raise;
        range("goodness.raise", share, 0.0, 1.0)?;
        let (groups, raising) = (goodness.groups, goodness.raise.of(goodness.groups));
        if share > 0.0 && share < 1.0 && (raising == 0 || raising == groups) {
            return Err(Error::setting(
                "goodness.raise",
                format!(
                    "{share} of the groups should raise their goodness, but of `goodness.groups` = {groups} that is \
                     {raising}: ask for more groups, or for true or false"
                ),
            ));
        }
        range("peer.strength", peer.strength, 0.0, 10.0)?;
        range("peer.momentum", peer.momentum, 0.0, BELOW_1)?;
        range("peer.initial", peer.initial, 0.0, 100.0)?;
        range("optimizer.rate", optimizer.rate, f32::MIN_POSITIVE, 10.0)?;
        range("optimizer.momentum", optimizer.momentum, 0.0, BELOW_1)?;
        range("optimizer.second_momentum", optimizer.second_momentum, 0.0, BELOW_1)?;
        range("optimizer.weight_cost", optimizer.weight_cost, 0.0, 10.0)?;
        range("optimizer.margin", optimizer.margin, 0.0, BELOW_1)?;
        if optimizer.kind == OptimizerKind::OneStep {
            range("optimizer.rate (one-step: the share of the way)", optimizer.rate, f32::MIN_POSITIVE, 1.0)?;
        }
        range("head.rate", head.rate, f32::MIN_POSITIVE, 10.0)?;
        range("head.momentum", head.momentum, 0.0, BELOW_1)?;
        range("head.weight_cost", head.weight_cost, 0.0, 10.0)?;
        range("readout.margin", self.readout.margin, 0.0, 1e9)?;
        range("training.epochs", training.epochs, 1, 1_000_000)?;
        range("training.batch", training.batch, 1, 65_536)?;
        range("training.rest", training.rest, 0, 1_000)?;
        range("training.phase", training.phase, 0, 1_000_000_000)?;
        range("training.blocks", training.blocks, 0, 1_000)?;
        range("training.negligible", training.negligible, 0.0, 0.1)?;
        range("recurrent.iterations", recurrent.iterations, 0, 1_000)?;
        range("recurrent.keep", recurrent.keep, 0.0, BELOW_1)?;
        range("recurrent.last", recurrent.last, 1, 1_000)?;
        range("recurrent.first", recurrent.first, 1, recurrent.last)?;
        range("rival.parts", self.rival.parts, 1, 65_536)?;
        range("rival.nudge", self.rival.nudge, f32::MIN_POSITIVE, 1.0)?;
        range("hardware.gain", self.hardware.gain, 0.0, 10.0)?;
        range("hardware.noise", self.hardware.noise, 0.0, 10.0)?;
        range("negatives.blurs", negatives.blurs, 0, 1_000)?;
        range("negatives.tiles", negatives.tiles, 1, 1_000)?;
        range("negatives.delay", negatives.delay, 0, 1_000)
    }

    /// Refuses settings that do not go together, most of them by what they do not go with.
    fn check_conflicts(&self) -> Result<()> {
        let Recipe { rule, network, recurrent, goodness, objective, negatives, optimizer, head, training, .. } = self;
        let (forward_forward, random) = (*rule == Rule::ForwardForward, *rule == Rule::RandomLayers);
        let (symmetric, by_class) = (*objective == ObjectiveSettings::Symmetric, objective.by_class());
        let pairs = forward_forward && !by_class;
        let (one_step, equal_lengths) = (optimizer.kind == OptimizerKind::OneStep, optimizer.equal_lengths);
        let (greedy, pipelined) = (training.order == Order::Greedy, training.order == Order::Pipelined);
        let (phases, rests) = (training.phase > 0, training.rest > 0);
        let (recurs, recompute) = (recurrent.iterations > 0, head.memory == HeadMemory::Recompute);
        let (grouped, by_location) = (goodness.groups > 1, goodness.by_location);
        let not_above_0 = matches!(goodness.threshold, Threshold::Value(theta) if theta <= 0.0);
        let negative = |kind| negatives.kind == kind;
        let (hard, hybrid) = (negative(NegativesKind::Hard), negative(NegativesKind::Hybrid));
        let (generated, context) = (negative(NegativesKind::Generated), negative(NegativesKind::Context));
        let [replace, top, no_label] =
            [LabelPlace::Replace, LabelPlace::Top, LabelPlace::None].map(|place| network.label == place);
        let (drops, delays) = (network.dropout > 0.0, negatives.delay > 0);
        let all_rms = [network.normalization, network.input_normalization] == [Normalization::Rms; 2];
        let less_mean = network.normalization == Normalization::Layer;
        let any = |is: fn(&LayerSettings) -> bool| network.layers.iter().any(is);
        let black_box = any(|l| matches!(l, LayerSettings::BlackBox(_)));
        let conv = any(|l| matches!(l, LayerSettings::Conv(_)));
        let fields = conv || any(|l| matches!(l, LayerSettings::Local(_)));

        ALWAYS.refuse(&[
            (
                "network.label",
                top && !recurs,
                "\"top\" needs top-down connections: set `recurrent.iterations`, or use \"replace\" or \"prepend\"",
            ),
            (
                "network.dropout",
                drops && (random || *rule == Rule::Perturbation),
                "`rule` \"perturbation\" and \"random-layers\" silence no units: set the share to 0, or use \
                 \"forward-forward\" or \"backprop\"",
            ),
            (
                "readout.margin",
                self.readout.margin > 0.0 && recurs,
                "samples leave a network layer by layer, but with `recurrent.iterations` layers answer together: \
                 set one back",
            ),
            (
                "training.rest",
                rests && greedy,
                "samples can rest only where all layers learn together, but `training.order` is \"greedy\": \
                 set one of them back",
            ),
            (
                "rule",
                *rule == Rule::Backprop && black_box && !self.rival.straight_through,
                "\"backprop\" needs the derivative of everything between the layers, but `network.layers` has a black box, \
                 which has none: use \"forward-forward\" or \"perturbation\", or let the gradient through as if the box \
                 were not there with `rival.straight_through`",
            ),
            (
                "rival.parts",
                self.rival.parts > 1 && optimizer.kind == OptimizerKind::Adam,
                "the parts of a batch add up in smoothed gradients, not in \"adam\"",
            ),
        ])?;
        When(one_step, "{why}, but `optimizer.kind` is \"one-step\": set one of them back").refuse(&[
            ("rule", !forward_forward, "only \"forward-forward\" has a goodness to take somewhere"),
            ("network.layers", black_box || fields, "a step is exact where units see all of the normalised input"),
            ("network.normalization", !all_rms, "a step is exact for inputs that are \"rms\" normalised"),
            ("goodness.kind", goodness.kind == GoodnessKind::Sum, "a step is exact for squares"),
            ("goodness.groups", grouped, "a step is exact for all of a layer's units together"),
            ("goodness.by_location", by_location, "a step is exact for all of a layer's units together"),
            ("network.activation", network.activation != ActivationKind::Relu, "a step is exact for \"relu\""),
            ("objective.kind", by_class, "a step takes a goodness beyond its threshold, not a class score"),
            ("objective.kind", symmetric, "\"symmetric\" has no threshold to take a goodness beyond"),
            ("optimizer.equal_lengths", equal_lengths, "a step is exact where weights stay as it leaves them"),
            ("goodness.threshold", not_above_0, "squares have no goodness at or below 0"),
            ("network.dropout", drops, "a step is exact for all of a layer's units"),
            ("recurrent.iterations", recurs, "states move on from one moment to the next"),
            ("training.order", greedy, "all layers take their step at once"),
            ("training.rest", rests, "samples come and go one at a time"),
            ("training.phase", phases, "each sample is followed by its negative"),
            ("head.memory", recompute, "\"recompute\" has the head's rows travel with others"),
        ])?;
        When(phases, "{why}, but `training.phase` is above 0: set one of them back").refuse(&[
            ("rule", !forward_forward, "only \"forward-forward\" has positive and negative data"),
            ("objective.kind", symmetric, "\"symmetric\" compares positive with negative data in each step"),
            ("training.rest", rests, "samples rest once both passes have solved them"),
        ])?;
        let pipeline = "{why}, but `training.order` is \"pipelined\": set one of them back";
        let delay = "{why}, but `negatives.delay` is above 0: set one of them back";
        When(pipelined, pipeline).refuse(&[
            ("rule", !forward_forward, "rules that send something down need all layers at once"),
            ("recurrent.iterations", recurs, "top-down connections need the layer above"),
            (
                "head.memory",
                recompute,
                "\"recompute\" has the head learn layer by layer, but it is at the end of the pipeline",
            ),
            (
                "negatives.delay",
                hard && !delays,
                "\"hard\" negatives wait for the head's prediction, which is at the end of the pipeline: set a delay of \
                 about twice the blocks, or other `negatives.kind`",
            ),
            ("optimizer.equal_lengths", equal_lengths, "weights are made equally long where all layers are"),
            ("negatives.kind", generated, "\"generated\" negatives are written by all layers together"),
        ])?;
        When(pipelined || delays, if pipelined { pipeline } else { delay }).refuse(&[
            ("objective.kind", by_class, "\"per-class\" and \"mono-forward\" need no negatives to pass on"),
            ("training.phase", phases, "phases are counted in steps that all layers take together"),
            ("optimizer.kind", one_step, "\"one-step\" takes its samples through all layers one by one"),
        ])?;
        When(delays, delay).refuse(&[
            ("negatives.kind", !hard, "only \"hard\" negatives wait for a prediction"),
            ("training.rest", rests, "which samples rest is not known so early"),
            ("training.order", greedy, "\"greedy\" has no head at first to predict anything"),
            (
                "negatives.delay",
                !forward_forward || recurs || recompute,
                "it goes with `rule` \"forward-forward\", `recurrent.iterations` 0 and `head.memory` \"keep\" alone",
            ),
        ])?;
        When(recurs, "{why}, but `recurrent.iterations` is above 0: set one of them back").refuse(&[
            (
                "network.label",
                !top && !no_label,
                "\"replace\" and \"prepend\" put the label beside the input, not at the top",
            ),
            ("rule", !forward_forward, "only \"forward-forward\" trains top-down connections"),
            ("training.order", greedy, "\"greedy\" trains layers before those above them are there"),
            ("network.dropout", drops, "dropout silences units of one pass, not of many moments"),
            ("network.normalization", less_mean, "\"layer\" would subtract a state's mean at every moment"),
            (
                "network.layers",
                black_box || conv,
                "convolution layers and black boxes have no top-down connections (local layers do)",
            ),
            ("head.memory", recompute, "\"recompute\" saves nothing where states are kept anyway"),
        ])?;
        When(!forward_forward, "{why}, but `rule` is not \"forward-forward\": set one of them back").refuse(&[
            ("head.enabled", !head.enabled, "without a softmax head there is nothing to learn from"),
            ("head.memory", random && recompute, "\"recompute\" takes up what layers learn from, which they do not"),
            ("training.order", greedy, "\"greedy\" trains layers one after another"),
            ("training.rest", rests, "samples rest by their goodness"),
        ])?;
        When(
            forward_forward && by_class,
            "with `objective.kind` \"per-class\" or \"mono-forward\" layers tell the label themselves, and {why}: \
             set one of them back",
        )
        .refuse(&[
            ("network.label", !no_label, "would only read off a label that goes in (use \"none\")"),
            ("recurrent.iterations", recurs, "in one pass, which has no moments"),
            ("goodness.groups", grouped, "their groups, if any, are the classes"),
            ("goodness.by_location", by_location, "their groups, if any, are the classes"),
            ("training.phase", phases, "there is no negative data to have a phase of its own"),
        ])?;
        When(
            pairs && generated,
            "`negatives.kind` \"generated\" writes texts by what the softmax head predicts, but {why}: \
             set one of them back",
        )
        .refuse(&[
            ("head.enabled", !head.enabled, "there is no head"),
            ("training.order", greedy, "with \"greedy\" the head learns only when the layers below have"),
            ("recurrent.iterations", recurs, "a recurrent network looks at one input for many moments"),
            ("network.label", replace, "with \"replace\" the label takes the place of the oldest symbol"),
        ])?;
        When(pairs, "{why}").refuse(&[
            (
                "negatives.kind",
                hard && !head.enabled,
                "\"hard\" draws wrong labels from the softmax head, but `head.enabled` is false: \
                 enable the head, or use \"uniform\"",
            ),
            (
                "negatives.kind",
                context && (!recurs || network.layers.len() < 2),
                "\"context\" swaps what comes from the layers above, but nothing does: set `recurrent.iterations`, \
                 with two layers in `network.layers`",
            ),
            (
                "negatives.kind",
                no_label && negatives.kind.changes_labels(),
                "\"hard\" and \"uniform\" are wrong labels, but with `network.label` \"none\" no label goes in: \
                 use \"hybrid\" or \"shuffled\", or \"context\" in a recurrent network",
            ),
            (
                "negatives.kind",
                negative(NegativesKind::Shuffled) && negatives.tiles == 1,
                "\"shuffled\" puts parts of a sample in another order, but `negatives.tiles` is 1: raise it",
            ),
        ])?;
        When(pairs && training.batch == 1, "{why}, but `training.batch` is 1: raise it").refuse(&[
            ("negatives.kind", context, "\"context\" is that of another sample of the batch"),
            ("negatives.kind", hybrid, "\"hybrid\" patches samples of a batch together"),
        ])
    }
}

fn check_layer(l: usize, layer: &LayerSettings) -> Result<()> {
    let key = format!("network.layers[{l}]");
    let at = |name: &str| format!("{key}.{name}");
    match layer {
        LayerSettings::Dense(width) => range(&key, *width, 1, 65_536),
        LayerSettings::Local(fields) | LayerSettings::Conv(fields) => {
            range(&at("channels"), fields.channels, 1, 65_536)?;
            range(&at("field"), fields.field, 1, 1_024)?;
            range(&at("stride"), fields.stride, 1, 1_024)?;
            range(&at("pad"), fields.pad, 0, fields.field - 1)
        }
        LayerSettings::BlackBox(BlackBoxSettings::Quantiser { levels }) => range(&at("levels"), *levels, 2, 65_536),
        LayerSettings::BlackBox(BlackBoxSettings::Noise { deviation }) => {
            range(&at("deviation"), *deviation, 0.0, 100.0)
        }
        LayerSettings::BlackBox(BlackBoxSettings::Process(process)) => {
            range(&at("outputs"), process.outputs, 1, 65_536)?;
            range(&at("timeout"), process.timeout, 0.01, 86_400.0)?;
            ALWAYS.refuse(&[(&at("command"), process.command.is_empty(), "found no program, expected one")])
        }
        LayerSettings::BlackBox(BlackBoxSettings::Random | BlackBoxSettings::Binary) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_out_of_range() {
        let refused = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            recipe.check().unwrap_err().to_string()
        };
        assert!(Recipe::default().check().is_ok());
        assert_eq!(refused(|r| r.training.batch = 0), "setting `training.batch`: found 0, expected 1 to 65536");
        assert!(refused(|r| r.optimizer.rate = f32::NAN).contains("optimizer.rate"));
        assert!(refused(|r| r.network.dropout = 1.0).contains("network.dropout"));
        assert!(refused(|r| r.network.layers.clear()).contains("at least one"));
        assert!(refused(|r| r.network.layers[1] = LayerSettings::Dense(0)).contains("network.layers[1]"));
        assert_eq!(
            refused(|r| r.goodness.raise = Raise(0.5)),
            "setting `goodness.raise`: 0.5 of the groups should raise their goodness, but of `goodness.groups` = 1 that is 1: \
             ask for more groups, or for true or false"
        );
    }

    #[test]
    fn refuses_what_does_not_fit_and_names_both() {
        let told = |r: &mut Recipe| (r.objective, r.network.label) = (ObjectiveSettings::PerClass, LabelPlace::None);
        type Change = fn(&mut Recipe);
        let all: [(Change, Change, [&str; 2]); 9] = [
            (|_| (), |r| r.head.enabled = false, ["negatives.kind", "head.enabled"]),
            (told, |r| r.network.label = LabelPlace::Replace, ["network.label", "objective.kind"]),
            (told, |r| r.recurrent.iterations = 3, ["recurrent.iterations", "objective.kind"]),
            (told, |r| r.goodness.groups = 3, ["goodness.groups", "objective.kind"]),
            (told, |r| r.goodness.by_location = true, ["goodness.by_location", "objective.kind"]),
            (
                |r| r.optimizer.kind = OptimizerKind::OneStep,
                |r| r.objective = ObjectiveSettings::Symmetric,
                ["objective.kind", "optimizer.kind"],
            ),
            (
                |r| r.negatives.kind = NegativesKind::Shuffled,
                |r| r.negatives.tiles = 1,
                ["negatives.kind", "negatives.tiles"],
            ),
            (|r| r.rule = Rule::Perturbation, |r| r.network.dropout = 0.1, ["network.dropout", "rule"]),
            (|r| r.rule = Rule::RandomLayers, |r| r.network.dropout = 0.1, ["network.dropout", "rule"]),
        ];
        for (first, second, keys) in all {
            let mut recipe = Recipe::default();
            first(&mut recipe);
            assert!(recipe.clone().check().is_ok(), "{keys:?}");
            second(&mut recipe);
            let refusal = recipe.check().unwrap_err().to_string();
            assert!(keys.iter().all(|key| refusal.contains(&format!("`{key}`"))), "{keys:?}: {refusal}");
        }
    }

    #[test]
    fn what_is_not_used_need_not_fit() {
        let mut recipe = Recipe { rule: Rule::Backprop, ..Default::default() };
        (recipe.network.dropout, recipe.objective) = (0.1, ObjectiveSettings::Symmetric);
        (recipe.negatives.kind, recipe.negatives.tiles) = (NegativesKind::Shuffled, 1);
        assert!(recipe.check().is_ok());
    }
}
