//! The memory of this process and of this machine, where the system says so: what Linux has in files.

use crate::exit::Usage;
use anyhow::Result;
use onward::network::plan;
use onward::settings::{OptimizerKind, Precision};
use onward::{Dataset, Recipe};

/// The most memory that this process has had, in bytes.
pub fn peak_rss_bytes() -> Option<u64> {
    bytes("/proc/self/status", "VmHWM:")
}

/// The memory that this process has now, in bytes.
pub fn rss_bytes() -> Option<u64> {
    bytes("/proc/self/status", "VmRSS:")
}

fn bytes(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Refuses networks whose weights alone, with what the optimiser keeps of each, are more than this machine's memory: the system
/// would end the process in the midst of making them, without a word.
///
/// # Errors
/// A [`Usage`] that says how much there is; also where a layer does not fit what is below it.
pub fn check(recipe: &Recipe, data: &Dataset) -> Result<()> {
    match bytes("/proc/meminfo", "MemTotal:") {
        Some(memory) => check_for(recipe, data, memory),
        None => Ok(()),
    }
}

fn check_for(recipe: &Recipe, data: &Dataset, memory: u64) -> Result<()> {
    let plans = plan(recipe, data.shape(), data.classes().len())?;
    let parameters: u64 = plans.iter().map(|plan| plan.parameters() as u64).sum();
    // Weight and smoothed gradient; the squares; the rounded weight.
    let squares = if recipe.optimizer.kind == OptimizerKind::Adam { 4 } else { 0 };
    let each = 8 + squares + if recipe.engine.precision == Precision::Bf16 { 2 } else { 0 };
    let needed = parameters.saturating_mul(each);
    if needed <= memory {
        return Ok(());
    }
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    Err(Usage(format!(
        "`network.layers` has {parameters} parameters, which take {:.1} GB with what the optimiser keeps of each, but this machine has \
         {:.1} GB of memory: make the layers smaller",
        gigabytes(needed),
        gigabytes(memory)
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use onward::settings::LayerSettings;
    use onward::{Shape, Values};

    #[test]
    fn weights_must_fit_the_machine() {
        let names = vec!["a".into(), "b".into()];
        let data = Dataset::new(Shape::features(4), Values::Floats(vec![0.0; 4]), vec![0], names).unwrap();
        let mut recipe = Recipe::default();
        recipe.network.layers = vec![LayerSettings::Dense(100), LayerSettings::Dense(10)];
        // 4·100 + 100 + 100·10 + 10 parameters.
        assert!(check_for(&recipe, &data, 1_510 * 8).is_ok());
        let refused = check_for(&recipe, &data, 1_510 * 8 - 1).unwrap_err().to_string();
        assert!(refused.contains("1510 parameters") && refused.ends_with("make the layers smaller"), "{refused}");
        (recipe.optimizer.kind, recipe.engine.precision) = (OptimizerKind::Adam, Precision::Bf16);
        assert!(check_for(&recipe, &data, 1_510 * 14).is_ok());
        assert!(check_for(&recipe, &data, 1_510 * 14 - 1).is_err());
        assert!(check(&recipe, &data).is_ok(), "every machine has room for these");
    }
}
