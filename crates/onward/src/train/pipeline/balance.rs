//! Which layers go together: consecutive ones, so that no block has more to do than it must.

use std::ops::Range;

/// Cuts items of these costs into at most `blocks` runs, each of one at least, whose dearest is as cheap as can be.
pub fn balance(costs: &[f64], blocks: usize) -> Vec<Range<usize>> {
    let (n, blocks) = (costs.len(), blocks.clamp(1, costs.len().max(1)));
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(costs.iter().scan(0.0, |sum, cost| {
            *sum += cost;
            Some(*sum)
        }))
        .collect();
    // `dearest[i]`: of the best cut of the first `i` items into as many runs as the round's number; `cuts`: where its last
    // run starts.
    let mut dearest = sums.clone();
    let mut cuts = vec![vec![0; n + 1]];
    for round in 2..=blocks {
        let mut next = vec![f64::INFINITY; n + 1];
        let mut cut = vec![0; n + 1];
        for end in round..=n {
            for start in round - 1..end {
                let cost = dearest[start].max(sums[end] - sums[start]);
                if cost < next[end] {
                    (next[end], cut[end]) = (cost, start);
                }
            }
        }
        dearest = next;
        cuts.push(cut);
    }
    let mut end = n;
    let mut runs: Vec<Range<usize>> = Vec::new();
    for cut in cuts.iter().rev() {
        runs.push(cut[end]..end);
        end = cut[end];
    }
    runs.reverse();
    runs
}

#[cfg(test)]
mod tests {
    use super::balance;

    #[test]
    fn the_dearest_run_is_as_cheap_as_can_be() {
        assert_eq!(balance(&[1.0, 3.0, 3.0], 2), [0..2, 2..3]);
        assert_eq!(balance(&[4.0, 1.0, 1.0, 1.0], 2), [0..1, 1..4]);
        assert_eq!(balance(&[1.0, 1.0, 1.0, 1.0, 8.0, 1.0], 3), [0..4, 4..5, 5..6]);
        assert_eq!(balance(&[2.0, 2.0], 9), [0..1, 1..2]);
        assert_eq!(balance(&[5.0, 1.0], 1).first(), Some(&(0..2)));
        // Against every cut there is.
        let costs = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
        let dearest = |cuts: &[std::ops::Range<usize>]| {
            cuts.iter().map(|run| costs[run.clone()].iter().sum::<f64>()).fold(0.0, f64::max)
        };
        let best = (1..8).flat_map(|a| (a + 1..8).map(move |b| [0..a, a..b, b..8])).map(|cuts| dearest(&cuts));
        assert_eq!(dearest(&balance(&costs, 3)), best.fold(f64::INFINITY, f64::min));
    }
}
