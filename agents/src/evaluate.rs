//! Plays a policy over many episodes and reports the returns.

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::env::EnvError;
use envs::policy::{Policy, PolicyError};
use envs::registry::{UnknownEnv, find};
use envs::vector::{AutoresetMode, Reset, VectorConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulators::rng::Seed;

/// Fewest episodes that a mean may be reported over.
pub const MIN_EPISODES: usize = 100;
/// Episodes played side by side; the numbers do not depend on it.
const NUM_ENVS: usize = 64;

/// Returns of a policy, undiscounted, one per episode.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Id of the env.
    pub env_id: String,
    /// Number of episodes: those numbered from 0 on, each played once.
    pub episodes: usize,
    /// Seed of the episodes.
    pub seed: Seed,
    /// Mean return.
    pub mean: f64,
    /// Standard deviation of the returns, of the sample (divided by `episodes - 1`).
    pub std: f64,
    /// Standard error of the mean.
    pub stderr: f64,
    /// Worst return.
    pub min: f64,
    /// Best return.
    pub max: f64,
    /// Mean number of steps.
    pub mean_length: f64,
}

/// Why a policy could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// Too few episodes to report a mean.
    #[error("`episodes` is {episodes}, allowed: {MIN_EPISODES} or more")]
    TooFew {
        /// Episodes asked for.
        episodes: usize,
    },
    /// No such env.
    #[error(transparent)]
    Unknown(#[from] UnknownEnv),
    /// The env could not be made or stepped.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The policy could not act.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Plays `policy` in episodes `0..episodes` of env `env_id`, each once, however long the others are.
///
/// `config` is the env's configuration; an empty object gives the defaults. The result depends on nothing but the arguments.
///
/// # Errors
/// An unknown env, a refused configuration, too few episodes, a policy that cannot act there, or a non-finite reward.
pub fn evaluate(
    env_id: &str,
    config: &Value,
    policy: &mut dyn Policy,
    episodes: usize,
    seed: Seed,
) -> Result<Evaluation, EvaluationError> {
    if episodes < MIN_EPISODES {
        return Err(EvaluationError::TooFew { episodes });
    }
    let entry = find(env_id)?;
    let vector = VectorConfig { num_envs: NUM_ENVS, seed, autoreset: AutoresetMode::SameStep, max_steps: None };
    let mut envs = entry.make(config, &vector)?;
    let mut out = StepBatch::for_spec(envs.spec(), NUM_ENVS);
    let mut actions = Buffer::zeros(envs.spec().action.dtype(), NUM_ENVS * envs.spec().action.size());
    envs.reset(Reset::Next, out.obs_mut())?;

    let mut returns = vec![0.0; episodes];
    let (mut unfinished, mut steps) = (episodes, 0u64);
    while unfinished > 0 {
        policy.act(&*envs, out.obs(), &mut actions)?;
        envs.step(&actions, &mut out)?;
        for ((&episode, &reward), stop) in out.episode().iter().zip(out.reward()).zip(out.stop()) {
            // Rows that are done with their share play on; counting those episodes would favour short ones.
            if let Some(total) = returns.get_mut(episode as usize) {
                *total += f64::from(reward);
                steps += 1;
                unfinished -= usize::from(stop.any());
            }
        }
    }
    Ok(summary(entry.id, seed, &returns, steps))
}

fn summary(env_id: &str, seed: Seed, returns: &[f64], steps: u64) -> Evaluation {
    let n = returns.len() as f64;
    let mean = returns.iter().sum::<f64>() / n;
    let std = (returns.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    Evaluation {
        env_id: env_id.to_owned(),
        episodes: returns.len(),
        seed,
        mean,
        std,
        stderr: std / n.sqrt(),
        min: returns.iter().copied().fold(f64::INFINITY, f64::min),
        max: returns.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        mean_length: steps as f64 / n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envs::policy::{RandomWalk, TrackOracle};
    use serde_json::json;

    const TRACK: &str = "MnistWorldTrack-v0";

    fn track(policy: &mut dyn Policy, episodes: usize) -> Evaluation {
        evaluate(TRACK, &json!({}), policy, episodes, Seed(1)).unwrap()
    }

    #[test]
    fn statistics_by_hand() {
        let report = summary(TRACK, Seed(0), &[1.0, 3.0, 5.0], 30);
        assert_eq!((report.mean, report.std, report.min, report.max), (3.0, 2.0, 1.0, 5.0));
        assert!((report.stderr - 2.0 / 3f64.sqrt()).abs() < 1e-12);
        assert!((report.mean_length - 10.0).abs() < 1e-12);
    }

    #[test]
    fn the_oracle_beats_random_play_by_far() {
        let random = track(&mut RandomWalk::default(), 100);
        let oracle = track(&mut TrackOracle, 100);
        assert!(oracle.mean > random.mean + 40.0, "oracle {oracle:?}, random {random:?}");
        assert!(oracle.min > random.max, "oracle {oracle:?}, random {random:?}");
        assert!((oracle.mean_length - 100.0).abs() < 1e-12);
    }

    #[test]
    fn random_play_scores_what_the_areas_say() {
        // The target starts anywhere, so at every step it lies anywhere relative to a camera that does not look: along each
        // axis 32 of 50 pixels are in view, 0.64^2 of the patch on average, times 100 steps.
        let random = track(&mut RandomWalk::default(), 1000);
        let expected = 100.0 * (32.0f64 / 50.0).powi(2);
        assert!((random.mean - expected).abs() < 5.0 * random.stderr, "{expected}, not {random:?}");
    }

    #[test]
    fn equal_arguments_give_equal_reports() {
        assert_eq!(track(&mut RandomWalk::default(), 100), track(&mut RandomWalk::default(), 100));
    }

    #[test]
    fn bad_arguments_are_named() {
        let refused =
            |id: &str, episodes| evaluate(id, &json!({}), &mut TrackOracle, episodes, Seed(0)).unwrap_err().to_string();
        assert_eq!(refused(TRACK, 99), "`episodes` is 99, allowed: 100 or more");
        assert!(refused("MnistWorldTrak-v0", 100).contains("did you mean MnistWorldTrack-v0"));
        assert!(refused("MnistWorld-v0", 100).contains("TrackOracle acts in MnistWorldTrack-v0 only"));
    }
}
