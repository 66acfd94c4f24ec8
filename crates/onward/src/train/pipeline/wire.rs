//! Blocks and packets as bytes, for lines between machines: little-endian, every bit kept.
//!
//! A block is made where it is to work from a description ([`Block::describe`], [`Block::build`]): the recipe, and which layers.
//! What changes while it learns goes there and back as its state ([`Block::write_state`], [`Block::read_state`]). Packets are
//! written above the lowest block, which is where they are made: the data that it reads does not travel.

use super::block::{Block, Bottom, Origin, Packet};
use crate::batch::{Batch, Labelled};
use crate::checkpoint::Checksum;
use crate::dataset::Shape;
use crate::error::{Error, Result};
use crate::network::{build_stages, plan};
use crate::pass::Activity;
use crate::readout::Head;
use crate::settings::Recipe;
use crate::tensor::{Numbers, Tensor};
use crate::train::totals::LayerTotals;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// All that a block is made from.
#[derive(Serialize, Deserialize)]
struct Description<'a> {
    recipe: Cow<'a, Recipe>,
    shape: [usize; 3],
    classes: usize,
    programs: bool,
    layers: Range<usize>,
    head: bool,
    reads: Cow<'a, [usize]>,
    watches: bool,
}

impl Block {
    /// What a block like this is made from, without its state.
    ///
    /// # Errors
    /// [`Error::Data`] where the network has layers or a goodness of the caller's own, which a recipe cannot name.
    pub fn describe(&self) -> Result<Vec<u8>> {
        if self.origin.own_parts {
            return Err(Error::Data(
                "the network has layers or a goodness of its own, which cannot be made anew elsewhere from its recipe: train \
                 it on threads"
                    .into(),
            ));
        }
        let Shape { channels, height, width } = self.origin.shape;
        let description = Description {
            recipe: Cow::Borrowed(&self.recipe),
            shape: [channels, height, width],
            classes: self.origin.classes,
            programs: self.origin.programs,
            layers: self.layers.clone(),
            head: self.head.is_some(),
            reads: Cow::Borrowed(&self.reads),
            watches: self.watches,
        };
        serde_json::to_vec(&description)
            .map_err(|error| Error::Data(format!("a block could not be described: {error}")))
    }

    /// The block of a description, with initial weights: its state comes after it.
    ///
    /// # Errors
    /// [`Error::Data`] where it is no description; [`Error::Setting`] where its recipe is refused.
    pub fn build(description: &[u8]) -> Result<Block> {
        let description: Description<'_> = serde_json::from_slice(description)
            .map_err(|error| Error::Data(format!("not the description of a block: {error}")))?;
        let Description { shape: [channels, height, width], classes, programs, layers, head, watches, .. } =
            description;
        let (recipe, reads) = (description.recipe.into_owned().check()?, Arc::<[usize]>::from(description.reads));
        let shape = Shape { channels, height, width };
        let plans = plan(&recipe, shape, classes)?;
        let widths = |l: usize| plans[l].shape.len();
        let last = layers.end.max(reads.iter().max().map_or(0, |l| l + 1));
        if layers.start > layers.end || last > plans.len() {
            let found = plans.len();
            return Err(Error::Data(format!("a block of layers {layers:?} in a network of {found} layers")));
        }
        let mut stages = build_stages(&recipe, &plans, classes, layers.clone())?;
        stages.iter_mut().for_each(|stage| stage.layer.allow_programs(programs));
        let precision = recipe.engine.precision;
        let head = head.then(|| Head::reading(reads.to_vec(), widths, classes, precision));
        let below = (0..layers.start).map(widths).sum();
        let totals = layers.clone().map(|l| LayerTotals { alive: vec![0; widths(l)], ..Default::default() }).collect();
        let origin = Arc::new(Origin { shape, classes, programs, own_parts: false });
        let block = Block::new(Arc::new(recipe), origin, layers, below, reads, watches);
        Ok(Block { stages, totals, head, ..block })
    }

    /// Writes everything that changes while the block learns to the end of `to`.
    pub fn write_state(&self, to: &mut Vec<u8>) {
        let mut to = Writer(to);
        self.write_learned(&mut to);
        self.write_totals(&mut to);
        to.numbers(&self.seconds);
    }

    /// Writes what another replica's block adds to those of the first, to the end of `to`: its sums over the epoch; also a
    /// checksum of what it has learned, which should be the same.
    pub fn write_report(&self, to: &mut Vec<u8>) {
        let sum = self.checksum();
        let mut to = Writer(to);
        to.number(sum);
        self.write_totals(&mut to);
    }

    /// Adds what the other replicas wrote with [`Block::write_report`].
    ///
    /// # Errors
    /// [`Error::Data`] where one has learned something else, or where it is no such report.
    pub fn add_reports(&mut self, reports: &[Vec<u8>]) -> Result<()> {
        let expected = if reports.is_empty() { 0 } else { self.checksum() };
        for (i, report) in reports.iter().enumerate() {
            let mut from = Reader(report);
            if from.number::<u64>()? != expected {
                return Err(Error::Data(format!(
                    "replica {} of layers {:?} has other weights than the first one: the machines do not add up alike",
                    i + 1,
                    self.layers
                )));
            }
            let (own, own_head) = (self.totals.clone(), self.head_loss);
            self.read_totals(&mut from)?;
            from.end()?;
            for (totals, own) in self.totals.iter_mut().zip(&own) {
                totals.add(own);
            }
            self.head_loss += own_head;
        }
        Ok(())
    }

    /// Of everything that has been learned.
    fn checksum(&self) -> u64 {
        let mut learned = Vec::new();
        self.write_learned(&mut Writer(&mut learned));
        Checksum::of(&learned)
    }

    fn write_learned(&self, to: &mut Writer<'_>) {
        for stage in &self.stages {
            to.tensors(&stage.layer.tensors());
            to.tensors(&stage.scores.as_ref().map_or(Vec::new(), |scores| scores.tensors()));
            to.numbers(&stage.peer.means);
        }
        if let Some(head) = &self.head {
            head.layers.iter().for_each(|layer| to.tensors(&layer.tensors()));
        }
    }

    fn write_totals(&self, to: &mut Writer<'_>) {
        for LayerTotals { loss, positive, negative, wrong, active, alive } in &self.totals {
            [loss, positive, negative].iter().for_each(|sum| to.number(**sum));
            [wrong, active].iter().for_each(|count| to.number(**count));
            to.numbers(alive);
        }
        to.number(self.head_loss);
    }

    fn read_totals(&mut self, from: &mut Reader<'_>) -> Result<()> {
        for LayerTotals { loss, positive, negative, wrong, active, alive } in &mut self.totals {
            for sum in [loss, positive, negative] {
                *sum = from.number()?;
            }
            for count in [wrong, active] {
                *count = from.number()?;
            }
            from.as_many(alive)?;
        }
        self.head_loss = from.number()?;
        Ok(())
    }

    /// Takes over what [`Block::write_state`] wrote of a block of the same description.
    ///
    /// # Errors
    /// [`Error::Data`] where it does not fit; the block may then have taken over a part of it.
    pub fn read_state(&mut self, from: &[u8]) -> Result<()> {
        let mut from = Reader(from);
        for stage in &mut self.stages {
            stage.layer.restore(&from.tensors()?)?;
            let scores = from.tensors()?;
            if let Some(layer) = &mut stage.scores {
                layer.restore(&scores)?;
            }
            from.as_many(&mut stage.peer.means)?;
        }
        if let Some(head) = &mut self.head {
            for layer in &mut head.layers {
                layer.restore(&from.tensors()?)?;
            }
        }
        self.read_totals(&mut from)?;
        from.as_many(&mut self.seconds)?;
        from.end()
    }
}

impl Packet {
    /// Writes what the next block is to see to the end of `to`; above the last block nobody reads the rows: there,
    /// [`Packet::forget_rows`] first.
    pub fn write(&self, to: &mut Vec<u8>) {
        let Packet { taken, gain, first, bottom: _, neutral, pairs, kept, labels, solved, loss, prediction, outcome } =
            self;
        let mut to = Writer(to);
        to.number(*taken);
        to.number(*gain);
        to.number(*first as u64);
        to.number(*loss);
        to.activity(neutral);
        to.activity(pairs);
        to.number(kept.len() as u64);
        kept.iter().for_each(|kept| to.activity(kept));
        to.numbers(labels);
        to.marks(solved);
        to.numbers(prediction);
        match outcome {
            Ok(()) => to.number(0u8),
            Err(Error::NotFinite { layer, step, found }) => {
                to.number(1u8);
                to.number(*layer as u64);
                to.number(*step);
                to.number(*found);
            }
            Err(error) => {
                to.number(2u8);
                to.numbers(error.to_string().as_bytes());
            }
        }
    }

    /// Becomes what [`Packet::write`] wrote, but for what the lowest layer reads: that stays as it is.
    ///
    /// # Errors
    /// [`Error::Data`] where it is no packet; this one may then have become a part of it.
    pub fn read(&mut self, from: &[u8]) -> Result<()> {
        let Packet { taken, gain, first, bottom: _, neutral, pairs, kept, labels, solved, loss, prediction, outcome } =
            self;
        let mut from = Reader(from);
        *taken = from.number()?;
        *gain = from.number()?;
        *first = from.number::<u64>()? as usize;
        *loss = from.number()?;
        from.activity(neutral)?;
        from.activity(pairs)?;
        let count = from.count(1)?;
        kept.resize_with(count, Activity::default);
        for kept in kept {
            from.activity(kept)?;
        }
        from.numbers(labels)?;
        from.marks(solved)?;
        from.numbers(prediction)?;
        *outcome = match from.number::<u8>()? {
            0 => Ok(()),
            1 => {
                let (layer, step) = (from.number::<u64>()? as usize, from.number()?);
                Err(Error::NotFinite { layer, step, found: from.number()? })
            }
            _ => Err(Error::Data(from.text()?)),
        };
        from.end()
    }

    /// Writes what the lowest block is to see, to the end of `to`: for another replica of it.
    pub fn write_start(&self, to: &mut Vec<u8>) {
        let Packet { taken, gain, first, bottom, kept, labels, solved, .. } = self;
        let mut to = Writer(to);
        to.number(*taken);
        to.number(*gain);
        to.number(*first as u64);
        to.number(kept.len() as u64);
        to.numbers(labels);
        to.marks(solved);
        for (batch, rows) in [(&bottom.batch, &bottom.pairs), (&bottom.ahead, &bottom.neutral)] {
            to.number(batch.width as u64);
            to.number(batch.first as u64);
            to.numbers(&batch.values);
            to.numbers(&batch.squares);
            to.numbers(&batch.labels);
            to.numbers(&rows.source);
            to.numbers(&rows.codes);
            to.numbers(&rows.scale);
            to.numbers(&rows.full);
        }
    }

    /// Becomes what [`Packet::write_start`] wrote.
    ///
    /// # Errors
    /// As [`Packet::read`].
    pub fn read_start(&mut self, from: &[u8]) -> Result<()> {
        let Packet { taken, gain, first, bottom, kept, labels, solved, loss, outcome, .. } = self;
        let mut from = Reader(from);
        *taken = from.number()?;
        *gain = from.number()?;
        *first = from.number::<u64>()? as usize;
        let reads = from.count(1)?;
        kept.resize_with(reads, Activity::default);
        from.numbers(labels)?;
        from.marks(solved)?;
        for (batch, rows) in [(&mut bottom.batch, &mut bottom.pairs), (&mut bottom.ahead, &mut bottom.neutral)] {
            batch.width = from.number::<u64>()? as usize;
            batch.first = from.number::<u64>()? as usize;
            from.numbers(&mut batch.values)?;
            from.numbers(&mut batch.squares)?;
            from.numbers(&mut batch.labels)?;
            from.numbers(&mut rows.source)?;
            from.numbers(&mut rows.codes)?;
            from.numbers(&mut rows.scale)?;
            from.numbers(&mut rows.full)?;
        }
        (*loss, *outcome) = (0.0, Ok(()));
        // What reads them takes these for granted.
        let Bottom { batch, pairs, ahead, neutral } = bottom;
        let fits = |batch: &Batch, rows: &Labelled| {
            let count = rows.scale.len();
            batch.width.checked_mul(batch.squares.len()) == Some(batch.values.len())
                && batch.first <= batch.width
                && rows.source.len() == count
                && rows.codes.len().is_multiple_of(count.max(1))
                && (rows.full.is_empty() || Some(rows.full.len()) == batch.width.checked_mul(count))
                && rows.source.iter().all(|&n| (n as usize) < batch.squares.len())
        };
        let none = Batch::default();
        let of_neutral = if !ahead.is_empty() {
            &*ahead
        } else if neutral.is_empty() {
            &none
        } else {
            &*batch
        };
        if !fits(batch, pairs) || !fits(of_neutral, neutral) || pairs.scale.len() != 2 * solved.len() {
            return Err(Error::Data("a packet's rows are not those of its samples: the message is damaged".into()));
        }
        from.end()
    }

    /// Notes that something has gone wrong on the way: blocks let the packet pass, and the trainer says so.
    pub fn fail(&mut self, error: Error) {
        self.outcome = Err(error);
    }

    /// Forgets the rows of all layers, which nobody reads above the last block; what was learned from them stays.
    pub fn forget_rows(&mut self) {
        self.kept.iter_mut().chain([&mut self.neutral, &mut self.pairs]).for_each(|rows| rows.resize(0, 0));
        self.labels.clear();
    }
}

/// A number whose bytes travel.
trait Number: Copy + Default {
    const BYTES: usize;
    fn put(self, to: &mut [u8]);
    fn get(from: &[u8]) -> Self;
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            const BYTES: usize = size_of::<$kind>();
            #[inline(always)]
            fn put(self, to: &mut [u8]) {
                to.copy_from_slice(&self.to_le_bytes());
            }
            #[inline(always)]
            fn get(from: &[u8]) -> Self {
                Self::from_le_bytes(from.try_into().expect("it is cut to this length"))
            }
        }
    )*};
}

numbers!(u8, u32, u64, f32, f64);

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn number<T: Number>(&mut self, number: T) {
        let at = self.0.len();
        self.0.resize(at + T::BYTES, 0);
        number.put(&mut self.0[at..]);
    }

    /// How many they are, and the numbers.
    fn numbers<T: Number>(&mut self, numbers: &[T]) {
        self.number(numbers.len() as u64);
        let at = self.0.len();
        self.0.resize(at + numbers.len() * T::BYTES, 0);
        numbers.iter().zip(self.0[at..].chunks_exact_mut(T::BYTES)).for_each(|(number, to)| number.put(to));
    }

    fn marks(&mut self, marks: &[bool]) {
        self.numbers(&marks.iter().map(|mark| u8::from(*mark)).collect::<Vec<_>>());
    }

    /// Rows as the next layer reads them.
    fn activity(&mut self, y: &Activity) {
        self.number(y.width() as u64);
        self.numbers(&y.scale);
        self.numbers(&y.values);
    }

    fn tensors(&mut self, tensors: &[Tensor]) {
        self.number(tensors.len() as u64);
        for Tensor { name, shape, numbers } in tensors {
            self.numbers(name.as_bytes());
            self.numbers(&shape.iter().map(|extent| *extent as u64).collect::<Vec<_>>());
            match numbers {
                Numbers::F32(numbers) => (self.number(0u8), self.numbers(numbers)),
                Numbers::F64(numbers) => (self.number(1u8), self.numbers(numbers)),
                Numbers::U8(numbers) => (self.number(2u8), self.numbers(numbers)),
            };
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| {
            Error::Data(format!("a message between blocks ends early: {} bytes left, {count} expected", self.0.len()))
        })?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<T: Number>(&mut self) -> Result<T> {
        self.bytes(T::BYTES).map(T::get)
    }

    /// How many things of so many bytes at least follow.
    fn count(&mut self, each: usize) -> Result<usize> {
        let count = self.number::<u64>()?;
        match usize::try_from(count).ok().filter(|count| count.checked_mul(each).is_some_and(|all| all <= self.0.len()))
        {
            Some(count) => Ok(count),
            None => Err(Error::Data(format!("a message between blocks is damaged: {count} numbers expected in it"))),
        }
    }

    fn numbers<T: Number>(&mut self, to: &mut Vec<T>) -> Result<()> {
        let count = self.count(T::BYTES)?;
        to.resize(count, T::default());
        let from = self.bytes(count * T::BYTES)?.chunks_exact(T::BYTES);
        to.iter_mut().zip(from).for_each(|(number, from)| *number = T::get(from));
        Ok(())
    }

    /// As many numbers as are there already.
    fn as_many<T: Number>(&mut self, to: &mut Vec<T>) -> Result<()> {
        let expected = to.len();
        self.numbers(to)?;
        match to.len() == expected {
            true => Ok(()),
            false => Err(Error::Data(format!("a block's state has {} numbers where {expected} belong", to.len()))),
        }
    }

    fn marks(&mut self, to: &mut Vec<bool>) -> Result<()> {
        let mut marks = Vec::<u8>::new();
        self.numbers(&mut marks)?;
        to.clear();
        to.extend(marks.iter().map(|mark| *mark != 0));
        Ok(())
    }

    fn text(&mut self) -> Result<String> {
        let mut text = Vec::new();
        self.numbers(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn activity(&mut self, y: &mut Activity) -> Result<()> {
        let width = self.number::<u64>()? as usize;
        self.numbers(&mut y.scale)?;
        let rows = y.scale.len();
        self.numbers(&mut y.values)?;
        if rows.checked_mul(width) != Some(y.values.len()) {
            let found = y.values.len();
            return Err(Error::Data(format!("{found} activities where {rows} rows of {width} belong")));
        }
        y.resize(rows, width);
        Ok(())
    }

    fn tensors(&mut self) -> Result<Vec<Tensor>> {
        let count = self.count(1)?;
        let mut tensors = Vec::new();
        for _ in 0..count {
            let (name, mut shape) = (self.text()?, Vec::<u64>::new());
            self.numbers(&mut shape)?;
            let shape: Vec<usize> = shape.into_iter().map(|extent| extent as usize).collect();
            let (numbers, found) = match self.number::<u8>()? {
                0 => self.some().map(|(all, count)| (Numbers::F32(all), count)),
                1 => self.some().map(|(all, count)| (Numbers::F64(all), count)),
                _ => self.some().map(|(all, count)| (Numbers::U8(all), count)),
            }?;
            if shape.iter().try_fold(1usize, |all, extent| all.checked_mul(*extent)) != Some(found) {
                return Err(Error::Data(format!("tensor `{name}` of shape {shape:?} has {found} numbers")));
            }
            tensors.push(Tensor { name, shape, numbers });
        }
        Ok(tensors)
    }

    /// Numbers, and how many they are.
    fn some<T: Number>(&mut self) -> Result<(Vec<T>, usize)> {
        let mut numbers = Vec::new();
        self.numbers(&mut numbers)?;
        let count = numbers.len();
        Ok((numbers, count))
    }

    fn end(&self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(Error::Data(format!("a message between blocks has {left} bytes too many"))),
        }
    }
}
