use super::*;
use crate::dashboard::state::Heading;
use crate::run_dir::Metrics;
use crate::status::{Phase, Status};
use onward::Readout;
use onward::events::EpochReport;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

fn layers() -> Vec<LayerReport> {
    let layer = |layer: usize| LayerReport {
        layer,
        loss: 0.25,
        goodness_positive: 300.0 * (layer + 1) as f64,
        goodness_negative: 150.0,
        wrong_order: 0.015 * (layer + 1) as f64,
        active_rows: 0.5,
        dead_units: 0,
        weight_rms: 0.03,
    };
    (0..3).map(layer).collect()
}

fn dashboard() -> Dashboard {
    let heading =
        Heading { name: "default-small, seed 7".into(), run: "runs/a".into(), epochs: 10, thresholds: vec![300.0; 3] };
    let mut dashboard = Dashboard::of_training(heading);
    for n in 1..=4 {
        let loss = 1.0 / f64::from(n);
        let epoch = EpochReport {
            epoch: n,
            step: u64::from(n) * 100,
            loss,
            head_loss: None,
            estimate_variance: None,
            gain: 1.0,
            layers: layers(),
        };
        let validation_error = [(Readout::EveryLabel, 8.0 * loss), (Readout::OnePass, 6.0 * loss)].into();
        dashboard.take_epoch(&Metrics { epoch, seconds: f64::from(n) * 5.0, validation_error });
    }
    dashboard.take_status(&Status {
        written: 0.0,
        phase: Phase::Training,
        process: 1,
        epochs_done: 4,
        epochs: 10,
        step: 450,
        step_of_epoch: 50,
        steps_per_epoch: 100,
        samples_per_second: Some(12_345.6),
        seconds: 22.0,
        seconds_left: Some(27.0),
        memory_bytes: Some(210_000_000),
        loss: Some(0.2345),
        thresholds: vec![300.0; 3],
        layers: layers(),
    });
    dashboard
}

fn rows(width: u16, height: u16, dashboard: &Dashboard) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, dashboard)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect()
}

#[test]
fn a_usual_window_has_everything() {
    let rows = rows(80, 24, &dashboard());
    let text = rows.join("\n");
    assert_eq!(rows[0], format!("default-small, seed 7{:51}training", ""));
    // 62 cells, 45 % of them full.
    assert_eq!(rows[1], format!("{}{}  45 %  epoch 5/10", "━".repeat(27), "─".repeat(35)));
    assert_eq!(rows[2], "12,345 samples/s   27 seconds left   22 seconds so far   loss 0.234");
    assert_eq!(rows[3], "every-label 2.00 %   one-pass 1.50 %   210 MB of memory");
    assert!(rows[4].starts_with("┌ validation error, %  every-label "), "{text}");
    assert!(rows[4].contains("┌ loss, nats "), "{text}");
    assert!(rows[5].starts_with("│8.00"), "{text}");
    let table = rows.iter().position(|row| row.starts_with("layer  positive")).unwrap();
    assert!(rows[table].ends_with("goodness / threshold                     wrong pairs"), "{text}");
    assert_eq!(rows[table + 1], format!("    0      1.00      0.50  {}{:26}        1.5 %", "▄".repeat(13), ""));
    assert_eq!(rows[table + 3], format!("    2      3.00      0.50  {}       4.5 %", "▄".repeat(40)));
    assert_eq!(rows[23], "q stop  p pause  c checkpoint");
    assert!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "no curve\n{text}");
}

#[test]
fn a_small_window_has_numbers_and_layers() {
    let rows = rows(40, 12, &dashboard());
    assert_eq!(rows[0], "default-small, seed 7           training");
    assert_eq!(rows[1], format!("{}{}  45 %  epoch 5/10", "━".repeat(9), "─".repeat(13)));
    assert_eq!(rows[2], "12,345 samples/s   27 seconds left");
    assert_eq!(rows[5], "layer      pos      neg   wrong");
    assert_eq!(rows[6], "    0     1.00     0.50   1.5 %");
    assert_eq!(rows[8], "    2     3.00     0.50   4.5 %");
    assert_eq!(rows[11], "q stop  p pause  c checkpoint");
}

#[test]
fn a_tiny_window_has_what_is_wanted_most() {
    let rows = rows(20, 5, &dashboard());
    assert_eq!(rows[0], "default-sm… training");
    assert_eq!(rows[1], format!("{}{}  45 %", "━".repeat(6), "─".repeat(8)));
    assert_eq!(rows[2], "12,345 samples/s");
    assert_eq!(rows[3], "27 seconds left");
    assert_eq!(rows[4], "q stop p pause c che");
}

#[test]
fn every_size_can_be_drawn_on() {
    let (full, empty) = (dashboard(), Dashboard::of_watched(std::path::Path::new("a")));
    let mut many = dashboard();
    let mut status = many.status.clone().unwrap();
    status.layers =
        (0..40).map(|n| LayerReport { layer: n, goodness_positive: f64::NAN, ..layers()[0].clone() }).collect();
    many.take_status(&status);
    for dashboard in [&full, &empty, &many] {
        for width in (1..130).step_by(3) {
            for height in 1..40 {
                rows(width, height, dashboard);
            }
        }
    }
    let more = rows(80, 24, &many);
    assert!(more.iter().any(|row| row.ends_with("more")), "{}", more.join("\n"));
}

#[test]
fn moods_are_said() {
    let mut dashboard = dashboard();
    dashboard.mood = Mood::Paused;
    let paused = rows(80, 24, &dashboard);
    assert!(paused[0].ends_with(" paused") && paused[23].starts_with("q stop  p go on  c "));
    dashboard.message = "Saved after step 450.".into();
    assert_eq!(rows(80, 24, &dashboard)[22], "Saved after step 450.");
    let waiting = rows(80, 24, &Dashboard::of_watched(std::path::Path::new("runs/b")));
    assert!(waiting[0].starts_with("runs/b ") && waiting[0].ends_with(" waiting"));
    assert_eq!(waiting[22..], ["Waiting for a run in runs/b", "q leave"]);
}
