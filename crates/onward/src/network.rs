//! A network: a stack of layers, each with its own measure of goodness, and a softmax head beside them.

use crate::batch::Batch;
use crate::dataset::{Dataset, Shape};
use crate::engine;
use crate::error::{Error, Result};
use crate::goodness::{Goodness, Measure};
use crate::layer::fields::Source;
use crate::layer::{Activation, Dense, Imprecise, Layer, Make, Plan};
use crate::pass::{Activity, Inputs};
use crate::peer::Peer;
use crate::random::stream;
use crate::readout::{Head, Readout};
use crate::settings::{
    ActivationKind, GoodnessSettings, LabelPlace, NegativesKind, Normalization, ObjectiveSettings, OptimizerKind,
    Recipe, Rule,
};
use crate::train::check_head;
use rand_distr::{Distribution, StandardNormal};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// One hidden layer with everything that is local to it.
#[derive(Debug)]
pub struct Stage {
    /// The product, its weights and the state of its optimiser.
    pub layer: Box<dyn Layer>,
    /// Its goodness, threshold and temperature.
    pub measure: Measure,
    /// Its running mean activities.
    pub peer: Peer,
    /// What it passes on.
    pub normalization: Normalization,
    /// From its activities to class scores, `(O)` → `(K)`, where it tells the label by a matrix of its own.
    pub scores: Option<Box<dyn Layer>>,
}

impl Stage {
    /// Writes the class scores of some rows of this layer's activity to `scores: (rows, K)`: what its own matrix makes of them,
    /// or the logit of each class's goodness.
    pub(crate) fn class_scores(&self, y: &Activity, rows: std::ops::Range<usize>, scores: &mut Vec<f32>) {
        scores.clear();
        if let Some(layer) = &self.scores {
            let (mut answer, ones) = (Activity::default(), vec![1.0; rows.len()]);
            answer.resize(rows.len(), layer.outputs());
            layer.forward(&y.raw(rows, &ones), &mut answer);
            scores.append(&mut answer.values);
            return;
        }
        let classes = self.measure.groups();
        scores.resize(rows.len() * classes, 0.0);
        for (r, scores) in rows.zip(scores.chunks_exact_mut(classes)) {
            self.measure.values(y.row(r), y.squares[r], scores);
            scores.iter_mut().enumerate().for_each(|(k, score)| *score = self.measure.group_logit(k, *score));
        }
    }
}

/// A network for samples of one [`Shape`] and a number of classes.
#[derive(Debug)]
pub struct Network {
    recipe: Recipe,
    shape: Shape,
    classes: Vec<String>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) head: Option<Head>,
    /// How much the every-label and the one-pass readout count in the combined one, once that is known.
    pub(crate) combined: Option<[f32; 2]>,
    /// Whether some layer or goodness is the caller's own, so that the recipe does not tell what the network is.
    own: bool,
    /// Whether black boxes may run programs.
    programs: bool,
}

impl Network {
    /// A network with the recipe's initial weights, for samples of `shape` with these classes' names.
    ///
    /// # Errors
    /// [`Error::Setting`] where the recipe is out of range or does not fit the data.
    pub fn new(recipe: Recipe, shape: Shape, classes: &[String]) -> Result<Self> {
        let recipe = recipe.check()?;
        let settings = &recipe.network;
        let by_class = recipe.rule == Rule::ForwardForward && recipe.objective.by_class();
        let needs_classes = settings.label != LabelPlace::None || recipe.head.enabled || by_class;
        if needs_classes && classes.len() < 2 {
            let found = classes.len();
            return Err(Error::Data(format!(
                "found {found} classes; telling apart needs at least 2, with labels \
                 (learning without labels: `network.label = \"none\"`, `head.enabled = false`)"
            )));
        }
        if settings.label == LabelPlace::Replace && classes.len() >= shape.len() {
            return Err(Error::setting(
                "network.label",
                format!(
                    "\"replace\" puts the {} classes in place of the first inputs, but a sample has only {}: use \"prepend\"",
                    classes.len(),
                    shape.len()
                ),
            ));
        }
        let texts = recipe.rule == Rule::ForwardForward && recipe.negatives.kind == NegativesKind::Generated;
        if texts && (shape.channels != 1 || shape.width != classes.len()) {
            return Err(Error::setting(
                "negatives.kind",
                format!(
                    "\"generated\" writes texts: expected samples that are windows of symbols, one-hot, 1×window×{}, and the \
                     next symbol as their class; found samples of {shape}",
                    classes.len()
                ),
            ));
        }
        if recipe.augment.shift * 2 > shape.height.min(shape.width) {
            return Err(Error::setting(
                "augment.shift",
                format!("found {}, expected at most half of a {shape} sample's height and width", recipe.augment.shift),
            ));
        }
        let plans = plan(&recipe, shape, classes.len())?;
        let stages = build_stages(&recipe, &plans, classes.len(), 0..plans.len())?;
        let (classes, own, programs) = (classes.to_vec(), false, true);
        let mut network = Network { shape, classes, stages, head: None, combined: None, recipe, own, programs };
        network.head = network.recipe.head.enabled.then(|| Head::new(&network));
        Ok(network)
    }

    /// Puts a layer of the caller's own in place of layer `l` (from 0).
    ///
    /// # Errors
    /// [`Error::Data`] where there is no such layer or the new one does not have its inputs and outputs.
    pub fn set_layer(&mut self, l: usize, layer: Box<dyn Layer>) -> Result<()> {
        let shape = |layer: &dyn Layer| (layer.inputs(), layer.outputs());
        match self.stages.get_mut(l) {
            Some(stage) if shape(&*stage.layer) == shape(&*layer) => (stage.layer, self.own) = (layer, true),
            Some(stage) => {
                let (expected, found) = (shape(&*stage.layer), shape(&*layer));
                return Err(Error::Data(format!(
                    "layer {l} has {expected:?} inputs and outputs, the new one {found:?}"
                )));
            }
            None => return Err(Error::Data(format!("there is no layer {l}: the network has {}", self.depth()))),
        }
        Ok(())
    }

    /// Gives every layer that learns a goodness of the caller's own; threshold, sign and temperature stay the recipe's.
    pub fn set_goodness(&mut self, goodness: Arc<dyn Goodness>) {
        let settings = self::goodness(&self.recipe, self.classes());
        self.own = true;
        for stage in self.stages.iter_mut().filter(|stage| stage.layer.learns()) {
            stage.measure = stage.measure.with_goodness(goodness.clone(), &settings);
        }
    }

    /// Changes how clear a label must be for a sample to go no further up (`readout.margin`).
    ///
    /// # Errors
    /// [`Error::Setting`] where it is out of range, or the network is recurrent.
    pub fn set_exit_margin(&mut self, margin: f32) -> Result<()> {
        let mut recipe = self.recipe.clone();
        recipe.readout.margin = margin;
        self.recipe = recipe.check()?;
        Ok(())
    }

    /// The recipe that the network was made by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// What its samples look like.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// `K`.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// The classes' names.
    pub fn class_names(&self) -> &[String] {
        &self.classes
    }

    /// `I` of the first layer, label included.
    pub fn inputs(&self) -> usize {
        self.stages[0].layer.inputs()
    }

    /// What the input of a sample takes, label included, without what comes from above in a recurrent network.
    pub(crate) fn sample_width(&self) -> usize {
        self.shape.len() + if self.label_place() == LabelPlace::Prepend { self.classes() } else { 0 }
    }

    /// `L`: hidden layers.
    pub fn depth(&self) -> usize {
        self.stages.len()
    }

    /// The hidden layers, from the bottom.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The softmax head, if there is one.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// How many numbers are learned, the head's included.
    pub fn parameters(&self) -> usize {
        let scores = self.stages.iter().filter_map(|stage| stage.scores.as_ref());
        self.stages.iter().map(|stage| stage.layer.parameters()).sum::<usize>()
            + scores.map(|layer| layer.parameters()).sum::<usize>()
            + self.head.as_ref().map_or(0, Head::parameters)
    }

    /// The first layer that readouts look at; of those that learn, the `readout.skip` lowest are passed over.
    pub fn first_read(&self) -> usize {
        first_read(&self.recipe, self.learners())
    }

    /// The layers that learn, which black boxes do not.
    pub(crate) fn learners(&self) -> impl Iterator<Item = usize> {
        self.stages.iter().enumerate().filter(|(_, stage)| stage.layer.learns()).map(|(l, _)| l)
    }

    /// Whether black boxes may run programs. Networks made from a recipe may; ones that come from a checkpoint, which somebody
    /// else may have written, may not until they are allowed to.
    pub fn allow_programs(&mut self, allowed: bool) {
        self.programs = allowed;
        self.stages.iter_mut().for_each(|stage| stage.layer.allow_programs(allowed));
    }

    /// Whether some layer or goodness is the caller's own, so that the recipe does not tell what the network is.
    pub(crate) fn has_own_parts(&self) -> bool {
        self.own
    }

    /// Whether black boxes may run programs; see [`Network::allow_programs`].
    pub(crate) fn programs_allowed(&self) -> bool {
        self.programs
    }

    /// Stops where a layer says that something has gone wrong in it.
    pub(crate) fn check_faults(&self) -> Result<()> {
        let fault = self.stages.iter().enumerate().find_map(|(l, stage)| Some((l, stage.layer.fault()?)));
        fault.map_or(Ok(()), |(l, why)| Err(Error::Data(format!("layer {l}: {why}"))))
    }

    /// Stops where weights have overflowed after `step` steps.
    pub(crate) fn check_weights(&self, step: u64) -> Result<()> {
        for (layer, stage) in self.stages.iter().enumerate() {
            for weights in std::iter::once(&stage.layer).chain(&stage.scores) {
                let found = weights.weight_rms();
                if !found.is_finite() {
                    return Err(Error::NotFinite { layer, step, found });
                }
            }
        }
        let found = self.head.iter().flat_map(Head::parts).map(|(_, layer)| f64::from(layer.weight_rms()));
        found.into_iter().try_for_each(|found| check_head(found, step))
    }

    /// Refuses samples of another shape than the network's.
    pub(crate) fn check_shape(&self, data: &Dataset) -> Result<()> {
        let (found, expected) = (data.shape(), self.shape());
        match found == expected {
            true => Ok(()),
            false => Err(Error::Data(format!("the data's samples are {found}, the network expects {expected}"))),
        }
    }

    /// Refuses samples of another shape, or of other classes or in another order.
    pub(crate) fn check_same_kind(&self, data: &Dataset) -> Result<()> {
        self.check_shape(data)?;
        if data.classes() == self.class_names() {
            return Ok(());
        }
        let (found, expected) = (data.classes().join(", "), self.class_names().join(", "));
        Err(Error::Data(format!("the data's classes are {found}; expected the network's, in their order: {expected}")))
    }

    /// The readouts that this network offers.
    pub fn readouts(&self) -> Vec<Readout> {
        let goodness = self.recipe.rule == Rule::ForwardForward;
        let labels = (goodness && self.sees_labels()).then_some(Readout::EveryLabel);
        let head = self.head.is_some().then_some(Readout::OnePass);
        let scores = self.scores_classes().then_some(Readout::ClassScores);
        let combined = self.combined.map(|_| Readout::Combined);
        labels.into_iter().chain(head).chain(scores).chain(combined).collect()
    }

    /// Whether the network offers both the every-label and the one-pass readout.
    pub(crate) fn offers_both(&self) -> bool {
        let offered = self.readouts();
        [Readout::EveryLabel, Readout::OnePass].iter().all(|readout| offered.contains(readout))
    }

    /// Whether layers tell the label themselves.
    pub(crate) fn scores_classes(&self) -> bool {
        self.recipe.rule == Rule::ForwardForward && self.recipe.objective.by_class()
    }

    /// Whether training needs labels.
    pub(crate) fn needs_labels(&self) -> bool {
        self.sees_labels() || self.scores_classes() || self.head.is_some()
    }

    /// Whether positive rows are what neutral ones would be: no label goes in, and no unit is silenced.
    pub(crate) fn positives_are_neutral(&self) -> bool {
        self.label_width() == 0 && self.recipe.network.dropout == 0.0
    }

    pub(crate) fn label_place(&self) -> LabelPlace {
        self.recipe.network.label
    }

    pub(crate) fn label_strength(&self) -> f32 {
        self.recipe.network.label_strength
    }

    pub(crate) fn input_normalization(&self) -> Normalization {
        self.recipe.network.input_normalization
    }

    /// How many of a sample's inputs the label takes: `K`, or 0 where it comes in at the top or not at all.
    pub(crate) fn label_width(&self) -> usize {
        match self.label_place() {
            LabelPlace::Replace | LabelPlace::Prepend => self.classes(),
            LabelPlace::Top | LabelPlace::None => 0,
        }
    }

    /// Whether layers are told labels.
    pub(crate) fn sees_labels(&self) -> bool {
        self.label_place() != LabelPlace::None
    }

    /// Whether there are top-down connections.
    pub(crate) fn is_recurrent(&self) -> bool {
        self.recipe.recurrent.iterations > 0
    }

    /// The image part of the first layer's product, shared by every label that the batch's samples are shown with.
    /// `base` may hold that of the batch's first samples already.
    pub(crate) fn project<'a>(&self, batch: &Batch, base: &'a mut Vec<f32>) -> Option<&'a [f32]> {
        project(&self.stages[0], self.input_normalization(), batch, base)
    }

    /// Carries `x` up, layer after layer. `then` gets each answer, makes it what the next layer is to read
    /// ([`Stage::normalization`]), and says whether to go on. The buffers take turns: two serve any depth, and as many as there
    /// are layers keep every activity.
    pub(crate) fn ascend(
        &self,
        x: &Inputs<'_>,
        buffers: &mut [Activity],
        mut then: impl FnMut(usize, &Stage, &mut Activity) -> ControlFlow<()>,
    ) {
        for (l, stage) in self.stages.iter().enumerate() {
            let (below, y) = take_turns(buffers, l);
            let x = if l == 0 { x } else { &below };
            y.resize(x.rows(), stage.layer.outputs());
            stage.layer.forward(x, y);
            if then(l, stage, y).is_break() {
                break;
            }
        }
    }

    /// Carries `x` up through all layers, and shows each answer to `read` before it is normalised.
    pub(crate) fn answers(
        &self,
        x: &Inputs<'_>,
        buffers: &mut [Activity],
        mut read: impl FnMut(usize, &Stage, &Activity),
    ) {
        self.ascend(x, buffers, |l, stage, y| {
            read(l, stage, y);
            stage.normalization.apply(y);
            ControlFlow::Continue(())
        });
    }

    /// Carries `x` up through the first `layers` layers, and shows each activity to `read` as the next layer will read it.
    pub(crate) fn sweep(
        &self,
        x: &Inputs<'_>,
        layers: usize,
        buffers: &mut [Activity],
        mut read: impl FnMut(usize, &Activity),
    ) {
        self.ascend(x, buffers, |l, stage, y| {
            stage.normalization.apply(y);
            read(l, y);
            if l + 1 < layers { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }
}

/// Layer `l` with its initial weights, on whatever hardware.
fn layer(recipe: &Recipe, plan: &Plan, make: Make, l: usize) -> Result<Box<dyn Layer>> {
    let build = || plan.build(make, &mut stream(recipe.seed.0, "weights", l as u64));
    if recipe.hardware.is_precise() || !plan.learns() {
        return build();
    }
    let mut random = stream(recipe.seed.0, "hardware", l as u64);
    Ok(Box::new(Imprecise::new(build()?, build()?, recipe.hardware, &mut random)))
}

/// A recipe's goodness for data of so many classes: where layers tell the label by it, each class has a group of units.
fn goodness(recipe: &Recipe, classes: usize) -> GoodnessSettings {
    let per_class = recipe.rule == Rule::ForwardForward && recipe.objective == ObjectiveSettings::PerClass;
    let groups = if per_class { classes } else { recipe.goodness.groups };
    GoodnessSettings { groups, ..recipe.goodness.clone() }
}

/// The first layer that readouts look at, of those that learn.
pub(crate) fn first_read(recipe: &Recipe, learners: impl Iterator<Item = usize>) -> usize {
    let learners: Vec<usize> = learners.collect();
    learners[recipe.readout.skip.min(learners.len() - 1)]
}

/// Whether a layer tells the label by a matrix of its own.
pub(crate) fn has_scores(recipe: &Recipe, plan: &Plan) -> bool {
    let mono = recipe.rule == Rule::ForwardForward && recipe.objective == ObjectiveSettings::MonoForward;
    mono && plan.learns()
}

/// Some of a recipe's layers with their initial weights, for data of so many classes.
///
/// # Errors
/// [`Error::Setting`] where a layer's units do not fall into the groups asked for.
pub(crate) fn build_stages(
    recipe: &Recipe,
    plans: &[Plan],
    classes: usize,
    layers: Range<usize>,
) -> Result<Vec<Stage>> {
    let goodness = goodness(recipe, classes);
    let activation = match recipe.network.activation {
        ActivationKind::Relu => Activation::Relu,
        ActivationKind::StudentT => Activation::StudentT(recipe.network.freedom),
    };
    let make = Make { precision: recipe.engine.precision, activation };
    let mut stages = Vec::new();
    for (l, plan) in plans.iter().enumerate().take(layers.end).skip(layers.start) {
        let outputs = plan.shape.len();
        let (locations, channels) = plan.units();
        if plan.learns() && !channels.is_multiple_of(goodness.groups) {
            let parts = format!("the {channels} units of `network.layers[{l}]` do not fall into {}", goodness.groups);
            return Err(match goodness.groups == recipe.goodness.groups {
                true => Error::setting("goodness.groups", format!("{parts} equal groups")),
                false => Error::setting("objective.kind", format!("{parts} equal groups, one for each class")),
            });
        }
        let scores = has_scores(recipe, plan).then(|| {
            let (inputs, outputs) = (outputs, classes);
            let (gain, mut random) = (1.0 / (inputs as f64).sqrt(), stream(recipe.seed.0, "scores", l as u64));
            let mut draw = || (gain * Distribution::<f64>::sample(&StandardNormal, &mut random)) as f32;
            let weights = (0..inputs * outputs).map(|_| draw()).collect();
            let dense = Dense { inputs, outputs, activation: Activation::Linear, bias: false, weights };
            engine::dense(recipe.engine.precision, dense)
        });
        let measure = Measure::new(&goodness, locations, channels);
        stages.push(Stage {
            layer: layer(recipe, plan, make, l)?,
            peer: Peer::new(recipe.peer, measure.raising(outputs)),
            measure,
            normalization: recipe.network.normalization,
            scores,
        });
    }
    Ok(stages)
}

/// Numbers that layers may take in memory besides their parameters: a gigabyte.
const MOST_BESIDES: usize = 1 << 28;

/// The hidden layers of a recipe for samples of `shape` with `classes` classes, before they are built.
///
/// # Errors
/// [`Error::Setting`] where a layer does not fit what is below it, or layers would take much memory that is none of their parameters.
pub fn plan(recipe: &Recipe, shape: Shape, classes: usize) -> Result<Vec<Plan>> {
    let label = if recipe.network.label == LabelPlace::Prepend { vec![Source::Whole(classes)] } else { Vec::new() };
    let mut sources = [label, vec![Source::Planes(shape)]].concat();
    let mut plans = Vec::new();
    for (l, settings) in recipe.network.layers.iter().enumerate() {
        let mut plan = Plan::new(settings, sources, format!("network.layers[{l}]"))?;
        plan.bias = recipe.optimizer.kind != OptimizerKind::OneStep;
        sources = vec![plan.from_above()];
        plans.push(plan);
    }
    if recipe.recurrent.iterations > 0 {
        // What is above decides what a layer sees, but not what its own map is.
        for l in 0..plans.len() {
            let above = match plans.get(l + 1) {
                Some(above) => above.from_below(),
                None if recipe.network.label == LabelPlace::Top => Source::Whole(classes),
                None => continue,
            };
            plans[l].sources.push(above);
        }
    }
    // A few words of a recipe, which may come from a file, ask for any amount of memory that is no parameter.
    let besides = plans.iter().map(Plan::besides).fold(0, usize::saturating_add);
    if besides > MOST_BESIDES {
        return Err(Error::setting(
            "network.layers",
            format!(
                "random boxes, and the fields of local and convolution layers, take {besides} numbers in memory, expected at most \
                 {MOST_BESIDES}: make them, or what they see, smaller"
            ),
        ));
    }
    Ok(plans)
}

/// As [`Network::project`], by the lowest stage.
pub(crate) fn project<'a>(
    stage: &Stage,
    normalization: Normalization,
    batch: &Batch,
    base: &'a mut Vec<f32>,
) -> Option<&'a [f32]> {
    let layer = &stage.layer;
    let done = base.len();
    let projectable = normalization != Normalization::Layer;
    let values = &batch.values[done / layer.outputs() * layer.inputs()..];
    if !projectable || !layer.project(values, base) {
        base.clear();
        return None;
    }
    Some(base)
}

/// The activity below layer `l` as its input, and the place for its own.
pub(crate) fn take_turns(buffers: &mut [Activity], l: usize) -> (Inputs<'_>, &mut Activity) {
    let n = buffers.len();
    let [below, y] = buffers.get_disjoint_mut([(l + n - 1) % n, l % n]).expect("there are two buffers at least");
    (below.as_inputs(), y)
}
