//! What was found, by everybody who looked: means over episodes, and every plan.

use envs::tasks::block_world::BlockWorldEnvConfig;
use serde::{Deserialize, Serialize};

use super::{FindRedConfig, OPTIMUM, Plan};

/// Version of the report.
const SCHEMA: u32 = 1;

/// The whole test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanReport {
    /// 1.
    pub schema: u32,
    /// What was asked.
    pub config: FindRedConfig,
    /// The world that it was asked of.
    pub env: BlockWorldEnvConfig,
    /// The best distance, m.
    pub optimum: f64,
    /// A row for each who looked.
    pub rows: Vec<Row>,
    /// One by one.
    pub episodes: Vec<EpisodeReport>,
}

/// How one did, over all episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Who.
    pub name: String,
    /// Mean error of the distance, `max(0, distance - optimum)`, m.
    pub error: f64,
    /// Its standard error; none of a single episode.
    pub stderr: Option<f64>,
    /// Mean of `|distance - optimum|`, m.
    pub off: f64,
    /// Mean distance to the nearest red thing where the plan ends, m.
    pub distance: f64,
    /// Mean of the least distance on the way, m.
    pub nearest: f64,
    /// Share of the episodes that end within 1 m of the optimum, or nearer to something red.
    pub within_one: f64,
    /// Mean number of steps.
    pub steps: f64,
    /// Share of the pixels that are red where the plan ends.
    pub red: f64,
    /// The same as it was expected, of who planned.
    pub expected: Option<f64>,
}

/// One episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeReport {
    /// Its number.
    pub episode: u64,
    /// Distance to the nearest red thing where plans begin, m.
    pub distance: f64,
    /// One for each who looked.
    pub tries: Vec<Try>,
}

/// What one planned in an episode, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Try {
    /// Who.
    pub name: String,
    /// What was done: 0 turn left, 1 turn right, 2 forward, 3 back, 4 nothing.
    pub plan: Plan,
    /// Distance to the nearest red thing at the end, m.
    pub distance: f64,
    /// The least on the way, m.
    pub nearest: f64,
    /// Red pixels of the picture where it ends.
    pub red: f64,
    /// The same as it was expected, if somebody expected anything.
    pub expected: Option<f64>,
}

impl Try {
    /// How far beyond the optimum it ends, m.
    #[must_use]
    pub fn error(&self) -> f64 {
        (self.distance - OPTIMUM).max(0.0)
    }
}

impl PlanReport {
    /// The means of what happened.
    pub(super) fn new(env: &BlockWorldEnvConfig, config: &FindRedConfig, episodes: Vec<EpisodeReport>) -> Self {
        let pixels = env.world.image.pow(2) as f64;
        let who = episodes.first().map_or(0, |episode| episode.tries.len());
        let rows =
            (0..who).map(|who| row(&episodes.iter().map(|episode| &episode.tries[who]).collect::<Vec<_>>(), pixels));
        Self { schema: SCHEMA, config: *config, env: env.clone(), optimum: OPTIMUM, rows: rows.collect(), episodes }
    }
}

/// The means of one's tries, of pictures of so many pixels.
fn row(tries: &[&Try], pixels: f64) -> Row {
    let count = tries.len() as f64;
    let mean = |of: &dyn Fn(&Try) -> f64| tries.iter().map(|one| of(one)).sum::<f64>() / count;
    let error = mean(&Try::error);
    let squares = mean(&|one| (one.error() - error).powi(2));
    Row {
        name: tries[0].name.clone(),
        error,
        // Of the sample: divided by `count - 1`.
        stderr: (tries.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
        off: mean(&|one| (one.distance - OPTIMUM).abs()),
        distance: mean(&|one| one.distance),
        nearest: mean(&|one| one.nearest),
        within_one: mean(&|one| f64::from(u8::from(one.error() <= 1.0))),
        steps: mean(&|one| one.plan.len() as f64),
        red: mean(&|one| one.red) / pixels,
        expected: tries.iter().map(|one| one.expected).sum::<Option<f64>>().map(|sum| sum / count / pixels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(distance: f64, red: f64, expected: Option<f64>) -> Try {
        Try { name: "run".to_owned(), plan: vec![4], distance, nearest: distance / 2.0, red, expected }
    }

    #[test]
    fn means_by_hand() {
        let tries = [one(1.0, 10.0, Some(20.0)), one(2.5, 0.0, Some(20.0)), one(6.0, 50.0, Some(50.0))];
        let found = row(&tries.iter().collect::<Vec<_>>(), 100.0);
        // Errors of 0, 0.5 and 4, whose mean is 1.5 and whose squares from it are 2.25, 1 and 6.25.
        assert!((found.error - 1.5).abs() < 1e-12 && (found.off - 5.5 / 3.0).abs() < 1e-12);
        assert!((found.stderr.unwrap() - (9.5f64 / 2.0 / 3.0).sqrt()).abs() < 1e-12);
        assert!((found.distance - 9.5 / 3.0).abs() < 1e-12 && (found.nearest - 9.5 / 6.0).abs() < 1e-12);
        assert!((found.within_one - 2.0 / 3.0).abs() < 1e-12 && (found.red - 0.2).abs() < 1e-12);
        assert!((found.steps - 1.0).abs() < 1e-12);
        assert_eq!(found.expected, Some(0.3));
        let single = row(&[&one(3.0, 0.0, None)], 100.0);
        assert_eq!((single.stderr, single.expected, single.within_one), (None, None, 1.0));
    }
}
