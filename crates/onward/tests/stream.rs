//! Learning from streams: what is learned, that resuming changes no bit, that nothing is allocated, that late and missing
//! things are dealt with.

use onward::settings::{OptimizerKind, Raise, Threshold};
use onward::train::stream::{Learner, StreamRule, StreamSettings, Task, WrongLabels, WrongWindows};
use rand::RngExt;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts each thread's allocations.
struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Record `n` of a stream of four features in three classes; every 17th has a missing value.
fn record(n: u64) -> ([f32; 4], usize) {
    let mut random = onward::random::stream(5, "records", n);
    let mut x: [f32; 4] = std::array::from_fn(|_| random.random_range(-1.0..1.0));
    let class = usize::from(x[0] * x[1] > 0.0) + usize::from(x[0] * x[1] > 0.0 && x[2] > 0.0);
    x = std::array::from_fn(|i| 20.0 + 3.0 * x[i] * (i + 1) as f32);
    if n % 17 == 3 {
        x[3] = f32::NAN;
    }
    (x, class)
}

const NAMES: [&str; 3] = ["low", "middle", "high"];

/// Shows records to a learner; the label of each comes `delay` records late.
fn run(learner: &mut Learner, records: std::ops::Range<u64>, delay: u64) -> u32 {
    let mut right = 0;
    for n in records {
        let (x, class) = record(n);
        let verdict = learner.observe(&x).unwrap();
        assert_eq!(verdict.number, n);
        assert!((0.0..1.0).contains(&verdict.anomaly));
        let guess = verdict.label;
        right += u32::from(guess.is_some_and(|guess| learner.classes()[guess] == NAMES[class]));
        if let Some(n) = n.checked_sub(delay) {
            let class = learner.class(NAMES[record(n).1]);
            if let Some(class) = class {
                assert!(learner.label(n, class).unwrap());
            }
        }
    }
    right
}

fn one_step() -> StreamSettings {
    let mut settings = StreamSettings::classify(3);
    settings.rule = StreamRule::OneStep { margin: 0.1 };
    settings.optimizer.rate = 0.3;
    settings
}

fn kinds() -> Vec<StreamSettings> {
    let mut kinds = vec![StreamSettings::classify(3), one_step()];
    let mut batches = StreamSettings { window: 3, batch: 7, ..StreamSettings::classify(3) };
    batches.task = Task::Classify { classes: 3, negatives: WrongLabels::Uniform };
    batches.optimizer =
        onward::settings::OptimizerSettings { kind: onward::settings::OptimizerKind::Adam, ..batches.optimizer };
    batches.peer.strength = 0.03;
    kinds.push(batches);
    for negatives in [WrongWindows::MixedOrNoise, WrongWindows::Predicted, WrongWindows::Shuffled] {
        kinds.push(StreamSettings {
            task: Task::Unsupervised { negatives },
            window: 2,
            ..StreamSettings::unsupervised()
        });
    }
    kinds.push(recurrent());
    kinds
}

/// Three layers that hear from above, told what does not follow.
fn recurrent() -> StreamSettings {
    let task = Task::Unsupervised { negatives: WrongWindows::Another };
    StreamSettings { task, recurrent: Some(0.3), layers: vec![20, 15, 10], ..StreamSettings::unsupervised() }
}

#[test]
fn labels_are_learned_on_line() {
    for settings in [StreamSettings::classify(3), one_step()] {
        let mut learner = Learner::new(settings.clone(), 4).unwrap();
        let first = run(&mut learner, 0..1000, 0);
        let last = run(&mut learner, 1000..4000, 0);
        assert!(f64::from(last) / 3000.0 > 0.85, "{last} of 3000 right with {:?}", settings.rule);
        assert!(first < 850, "{first} of the first 1000: is the task any work?");
    }
}

#[test]
fn probabilities_mean_something() {
    let mut learner = Learner::new(StreamSettings::classify(3), 4).unwrap();
    run(&mut learner, 0..3000, 0);
    let (mut sum, mut right) = (0.0, 0.0);
    for n in 3000..5000 {
        let (x, class) = record(n);
        let verdict = learner.observe(&x).unwrap();
        let (guess, p) = (verdict.label.unwrap(), &verdict.probabilities);
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(p.iter().all(|q| *q <= p[guess]));
        sum += p[guess];
        right += f32::from(learner.classes()[guess] == NAMES[class]);
    }
    let (confidence, accuracy) = (sum / 2000.0, right / 2000.0);
    assert!((confidence - accuracy).abs() < 0.05, "{confidence} sure, {accuracy} right");
}

#[test]
fn what_changes_is_learned_anew() {
    let mut learner = Learner::new(StreamSettings::classify(2), 2).unwrap();
    let mut right = [0; 4];
    for n in 0..4000u64 {
        let mut random = onward::random::stream(1, "drift", n);
        let x: [f32; 2] = std::array::from_fn(|_| random.random_range(-1.0..1.0));
        let turned = n >= 2000;
        let class = learner.class(if (x[0] > x[1]) != turned { "a" } else { "b" }).unwrap();
        let verdict = learner.observe(&x).unwrap();
        right[n as usize / 1000] += u32::from(verdict.label == Some(class));
        learner.label(n, class).unwrap();
    }
    assert!(right[1] > 930 && right[3] > 930, "right by thousand, turned round after two: {right:?}");
}

#[test]
fn anomalies_are_told_without_labels() {
    let normal = |n: u64| {
        let mut random = onward::random::stream(2, "normal", n);
        let a: f32 = random.random_range(-1.0..1.0);
        [a, 2.0 * a + random.random_range(-0.1..0.1), random.random_range(5.0..6.0f32)]
    };
    let mut learner = Learner::new(StreamSettings::unsupervised(), 3).unwrap();
    (0..6000).for_each(|n| drop(learner.observe(&normal(n)).unwrap().clone()));
    learner.set_learning(false);
    let mean = |learner: &mut Learner, change: fn(&mut [f32; 3])| {
        let of = |n| {
            let mut x = normal(n);
            change(&mut x);
            learner.observe(&x).unwrap().anomaly
        };
        (6000..6400).map(of).sum::<f32>() / 400.0
    };
    let usual = mean(&mut learner, |_| ());
    let apart = mean(&mut learner, |x| x[1] = -x[0].signum() * 1.5);
    let far = mean(&mut learner, |x| x[2] = 12.0);
    assert!((0.4..0.6).contains(&usual), "{usual} where a p-value is 0.5 on average");
    assert!(apart > 0.9 && far > 0.98, "features that do not fit together: {apart}; far out: {far}");
}

/// Eight lights in a row, one of them on: which one says nothing, unless one knows which was before.
#[test]
fn a_recurrent_network_notices_what_does_not_follow() {
    let rank = |recurrent: Option<f32>| {
        let task = Task::Unsupervised { negatives: WrongWindows::Mixed };
        let with_memory = Task::Unsupervised { negatives: WrongWindows::Another };
        let task = if recurrent.is_some() { with_memory } else { task };
        let settings = StreamSettings { task, recurrent, ..StreamSettings::unsupervised() };
        let mut learner = Learner::new(settings, 8).unwrap();
        let (mut light, mut odd, mut usual) = (0, Vec::new(), Vec::new());
        for n in 0..30_000u64 {
            let mut random = onward::random::stream(4, "lights", n);
            let jumps = random.random_range(0..20) == 0;
            light = (light + if jumps { random.random_range(2..8) } else { 1 }) % 8;
            let mut x = [0.0; 8];
            x[light] = 1.0;
            let score = learner.observe(&x).unwrap().score;
            if n >= 24_000 {
                if jumps { odd.push(score) } else { usual.push(score) }
            }
        }
        let above = |odd: &f32| usual.iter().filter(|usual| *usual > odd).count() as f64;
        odd.iter().map(above).sum::<f64>() / (odd.len() * usual.len()) as f64
    };
    let (with, without) = (rank(Some(0.3)), rank(None));
    assert!(with > 0.78, "AUROC {with}");
    assert!((0.4..0.6).contains(&without), "AUROC {without} without a memory: can it be told some other way?");
}

#[test]
fn resumed_in_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.safetensors");
    let notes = BTreeMap::from([("input".to_owned(), "somewhere".to_owned())]);
    for settings in kinds() {
        for delay in [0, 5] {
            let mut whole = Learner::new(settings.clone(), 4).unwrap();
            run(&mut whole, 0..700, delay);
            let mut parts = Learner::new(settings.clone(), 4).unwrap();
            for records in [0..1, 1..138, 138..423, 423..700] {
                run(&mut parts, records, delay);
                parts.save(&path, &notes).unwrap();
                let (loaded, found) = Learner::load(&path).unwrap();
                assert_eq!(found, notes);
                parts = loaded;
            }
            let bytes = |learner: &Learner| {
                learner.save(&path, &notes).unwrap();
                std::fs::read(&path).unwrap()
            };
            assert!(bytes(&whole) == bytes(&parts), "other bits: {settings:?}, labels {delay} late");
        }
    }
}

#[test]
fn nothing_is_allocated_once_it_runs() {
    for settings in kinds() {
        let mut learner = Learner::new(settings.clone(), 4).unwrap();
        run(&mut learner, 0..100, 3);
        let before = ALLOCATIONS.get();
        run(&mut learner, 100..1600, 3);
        assert_eq!(ALLOCATIONS.get() - before, 0, "allocations with {settings:?}");
    }
}

#[test]
fn labels_that_cannot_be_used_are_refused_or_let_go() {
    let settings = StreamSettings { memory: 10, ..StreamSettings::classify(2) };
    let mut learner = Learner::new(settings, 1).unwrap();
    assert_eq!(
        (learner.class("a"), learner.class("b"), learner.class("a"), learner.class("c")),
        (Some(0), Some(1), Some(0), None)
    );
    (0..20).for_each(|n| drop(learner.observe(&[n as f32]).unwrap().clone()));
    assert!(learner.label(19, 0).unwrap());
    assert!(!learner.label(19, 1).unwrap(), "its second label");
    assert!(!learner.label(9, 0).unwrap(), "too late");
    assert!(learner.label(10, 0).unwrap(), "just in time");
    assert!(!learner.label(20, 0).unwrap(), "not seen yet");
    assert!(!learner.label(u64::MAX, 0).unwrap());
    assert_eq!(learner.label(18, 2).unwrap_err().to_string(), "found class 2, expected one below 2");
    assert_eq!(learner.steps(), 2);

    let mut unsupervised = Learner::new(StreamSettings::unsupervised(), 1).unwrap();
    unsupervised.observe(&[1.0]).unwrap();
    assert_eq!(unsupervised.class("a"), None);
    assert!(!unsupervised.label(0, 0).unwrap(), "no labels in this task");
}

#[test]
fn records_that_do_not_fit_are_refused() {
    let mut learner = Learner::new(StreamSettings::classify(2), 2).unwrap();
    assert_eq!(learner.observe(&[1.0]).unwrap_err().to_string(), "found a record of 1 features, expected 2");
    assert!(learner.observe(&[1.0, f32::INFINITY]).unwrap_err().to_string().contains("feature 1"));
    assert_eq!(learner.records(), 0);
    // Whatever else comes, numbers stay finite.
    for x in [f32::MAX, -f32::MAX, f32::MIN_POSITIVE, 0.0, f32::NAN].into_iter().cycle().take(500) {
        let class = learner.class(if x > 0.0 { "up" } else { "down" }).unwrap();
        let number = learner.observe(&[x, 1e30]).unwrap().number;
        learner.label(number, class).unwrap();
    }
    let verdict = learner.observe(&[1.0, 2.0]).unwrap();
    assert!(verdict.probabilities.iter().chain(&verdict.goodness).all(|x| x.is_finite()), "{verdict:?}");
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let refused = |change: fn(&mut StreamSettings), features: usize| {
        let mut settings = StreamSettings::unsupervised();
        change(&mut settings);
        Learner::new(settings, features).unwrap_err().to_string()
    };
    assert_eq!(refused(|s| s.window = 0, 3), "setting `window`: found 0, expected 1 to 10000");
    assert!(refused(|s| s.task = Task::Unsupervised { negatives: WrongWindows::Shuffled }, 3).contains("window"));
    assert!(refused(|s| s.task = Task::Unsupervised { negatives: WrongWindows::Another }, 3).contains("be recurrent"));
    assert!(refused(|s| s.recurrent = Some(1.0), 3).contains("recurrent"));
    assert!(refused(|s| (s.recurrent, s.batch) = (Some(0.3), 2), 3).contains("batch"));
    assert!(refused(|s| *s = StreamSettings { recurrent: Some(0.3), ..one_step() }, 3).contains("found labels"));
    let predicted = |s: &mut StreamSettings| {
        *s = StreamSettings { task: Task::Unsupervised { negatives: WrongWindows::Predicted }, ..recurrent() };
    };
    assert!(refused(predicted, 3).contains("found predicted negatives"));
    assert!(refused(|s| s.layers.clear(), 3).contains("layers"));
    assert!(refused(|s| s.forget = f64::NAN, 3).contains("forget"));
    assert!(refused(|s| s.rule = StreamRule::OneStep { margin: 1.0 }, 3).contains("rule.margin"));
    assert!(refused(|s| s.goodness.threshold = Threshold::Value(-1e10), 3).contains("to 1000000000"));
    let below = |s: &mut StreamSettings| {
        (s.rule, s.goodness.threshold) = (StreamRule::OneStep { margin: 0.1 }, Threshold::Value(-1.0));
    };
    assert!(refused(below, 3).contains("`goodness.threshold`: the one-step rule"));
    assert!(
        refused(|s| s.goodness.raise = Raise(0.4), 3).contains("`goodness.raise`: found 0.4, expected true or false")
    );
    assert!(refused(|s| s.goodness.raise = Raise(f32::NAN), 3).contains("found NaN, expected true or false"));
    assert!(refused(|s| s.optimizer.kind = OptimizerKind::OneStep, 3).contains("the one-step rule by `rule`"));
    assert!(refused(|s| s.layers = vec![65_536; 2], 3).contains("expected at most"));
    assert!(refused(|s| s.memory = 1_000_000, 1 << 20).contains("expected at most"));
    assert!(refused(|_| (), 0).contains("0 features"));
}

#[test]
fn wide_records_are_learned_in_smaller_steps() {
    let rate = |window, features| {
        StreamSettings { window, ..StreamSettings::unsupervised() }.for_features(features).optimizer.rate
    };
    assert_eq!((rate(1, 8), rate(8, 8), rate(2, 64), rate(1, 1280)), (0.01, 0.01, 0.005, 0.0005));
}

#[test]
fn damaged_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.safetensors");
    let mut learner =
        Learner::new(StreamSettings { layers: vec![5, 3], batch: 4, ..StreamSettings::classify(3) }, 4).unwrap();
    run(&mut learner, 0..30, 0);
    learner.save(&path, &BTreeMap::new()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let refuse = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Learner::load(&path).err().map(|error| error.to_string())
    };
    for length in (0..whole.len()).step_by(97) {
        assert!(refuse(&whole[..length]).is_some(), "{length} of {} bytes", whole.len());
    }
    // Same length, so that the header still fits.
    let header = String::from_utf8_lossy(&whole).into_owned();
    for (from, to) in [
        (r#"\"features\":4"#, r#"\"features\":5"#),
        (r#"\"waiting\":2"#, r#"\"waiting\":4"#),
        (r#"\"layers\":[5,3]"#, r#"\"layers\":[5,4]"#),
        (r#"\"memory\":256"#, r#"\"memory\":999"#),
        (r#"\"classes\":3,"#, r#"\"classes\":4,"#),
        (r#"\"records\":30"#, r#"\"records\":29"#),
        (r#"\"version\":1"#, r#"\"version\":2"#),
        (r#"\"window\":1"#, r#"\"window\":9"#),
    ] {
        assert!(header.contains(from), "{from} is not in the header");
        let at = whole.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        let error = refuse(&bytes).unwrap_or_else(|| panic!("{from} → {to} was accepted"));
        assert!(error.contains("stream.safetensors"), "{error}");
    }
    // Any byte of the header may be anything: it is refused or it loads, and nothing panics.
    for at in 0..u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize + 8 {
        let mut bytes = whole.clone();
        bytes[at] = bytes[at].wrapping_add(1);
        drop(refuse(&bytes));
    }
    assert!(refuse(&whole).is_none());
}
