//! Plays a policy over many episodes and reports the returns.

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::env::{EnvError, EnvSpec};
use envs::policy::{Policy, PolicyError};
use envs::registry::{UnknownEnv, find};
use envs::space::Space;
use envs::vector::{AutoresetMode, BatchEnv, Reset, VectorConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulators::rng::Seed;

/// Fewest episodes that a mean may be reported over.
pub const MIN_EPISODES: usize = 100;
/// Bytes of a row beside its observations and actions, as measured: the env with its configuration, its generator.
const ROW_BYTES: u64 = 8192;

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
    /// Share of the episodes that were not ended by the world, but by their time limit.
    pub full_length: f64,
}

/// What was played.
#[derive(Clone, PartialEq, Debug, Default)]
struct Played {
    /// One for each episode.
    returns: Vec<f64>,
    /// Of all episodes together.
    steps: u64,
    /// Episodes that their time limit ended.
    truncated: u64,
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

/// About how many bytes `num_envs` envs of one kind take, played side by side.
///
/// # Errors
/// An unknown env, or a refused configuration.
pub fn bytes(env_id: &str, config: &Value, num_envs: usize) -> Result<u64, EvaluationError> {
    let one = find(env_id)?.make(config, &VectorConfig::default())?;
    let EnvSpec { observation, action, .. } = one.spec();
    let size = |space: &Space| (space.size() * space.dtype().size()) as u64;
    // A batch has the observation after a step and the last one of the episode before.
    Ok((2 * size(observation) + size(action) + ROW_BYTES).saturating_mul(num_envs as u64))
}

/// Plays `policy`, `num_envs` at a time, in episodes `0..episodes` of env `env_id`, each once, however long the others are.
///
/// `config` is the env's configuration; an empty object gives the defaults. The result depends on nothing but the arguments, and not on
/// `num_envs`.
///
/// # Errors
/// An unknown env, a refused configuration, too few episodes, a policy that cannot act there or gives an action that the env
/// does not take, or a reward or observation that is not finite: no mean is made of what is left.
pub fn evaluate(
    env_id: &str,
    config: &Value,
    policy: &mut dyn Policy,
    episodes: usize,
    seed: Seed,
    num_envs: usize,
) -> Result<Evaluation, EvaluationError> {
    if episodes < MIN_EPISODES {
        return Err(EvaluationError::TooFew { episodes });
    }
    let entry = find(env_id)?;
    let vector = VectorConfig { num_envs, seed, autoreset: AutoresetMode::SameStep, max_steps: None };
    let mut envs = entry.make(config, &vector)?;
    Ok(summary(entry.id, seed, &play(&mut *envs, policy, episodes)?))
}

/// Plays episodes `0..episodes`. `envs` resets in the same step.
fn play(envs: &mut dyn BatchEnv, policy: &mut dyn Policy, episodes: usize) -> Result<Played, EvaluationError> {
    let num_envs = envs.num_envs();
    let mut out = StepBatch::for_spec(envs.spec(), num_envs);
    let mut actions = Buffer::zeros(envs.spec().action.dtype(), num_envs * envs.spec().action.size());
    envs.reset(Reset::Next, out.obs_mut())?;

    let mut played = Played { returns: vec![0.0; episodes], ..Played::default() };
    let mut unfinished = episodes;
    while unfinished > 0 {
        policy.act(envs, out.obs(), &mut actions)?;
        envs.step(&actions, &mut out)?;
        for ((&episode, &reward), stop) in out.episode().iter().zip(out.reward()).zip(out.stop()) {
            // Rows that are done with their share play on; counting those episodes would favour short ones.
            if let Some(total) = played.returns.get_mut(episode as usize) {
                *total += f64::from(reward);
                played.steps += 1;
                played.truncated += u64::from(stop.truncated && !stop.terminated);
                unfinished -= usize::from(stop.any());
            }
        }
    }
    Ok(played)
}

fn summary(env_id: &str, seed: Seed, Played { returns, steps, truncated }: &Played) -> Evaluation {
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
        mean_length: *steps as f64 / n,
        full_length: *truncated as f64 / n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envs::env::{Env, Outcome, StateError};
    use envs::policy::{RandomWalk, TrackOracle};
    use envs::vector::VectorEnv;
    use serde_json::json;
    use simulators::rng::Rng;

    const TRACK: &str = "MnistWorldTrack-v0";

    fn track(policy: &mut dyn Policy, episodes: usize) -> Evaluation {
        evaluate(TRACK, &json!({}), policy, episodes, Seed(1), 64).unwrap()
    }

    #[test]
    fn statistics_by_hand() {
        let report = summary(TRACK, Seed(0), &Played { returns: vec![1.0, 3.0, 5.0], steps: 30, truncated: 2 });
        assert_eq!((report.mean, report.std, report.min, report.max), (3.0, 2.0, 1.0, 5.0));
        assert!((report.stderr - 2.0 / 3f64.sqrt()).abs() < 1e-12);
        assert!((report.mean_length - 10.0).abs() < 1e-12 && (report.full_length - 2.0 / 3.0).abs() < 1e-12);
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
        let report = track(&mut RandomWalk::default(), 100);
        assert_eq!(report, track(&mut RandomWalk::default(), 100));
        for num_envs in [1, 7, 128] {
            let other = evaluate(TRACK, &json!({}), &mut TrackOracle, 100, Seed(1), num_envs).unwrap();
            assert_eq!(other, track(&mut TrackOracle, 100), "{num_envs} at a time");
        }
    }

    /// Rewards the root of its action.
    #[derive(Clone)]
    struct Root(EnvSpec);

    impl Env for Root {
        type Obs = u8;
        type Action = f32;

        fn spec(&self) -> &EnvSpec {
            &self.0
        }
        fn reset(&mut self, _: &mut Rng, _: &mut [u8]) {}
        fn step(&mut self, action: &[f32], _: &mut Rng, _: &mut [u8]) -> Outcome {
            Outcome { reward: action[0].sqrt(), terminated: false }
        }
        fn save(&self) -> Value {
            Value::Null
        }
        fn load(&mut self, _: &Value) -> Result<(), StateError> {
            Ok(())
        }
    }

    /// Gives every row the action 1, but one row another when its step comes.
    struct Once {
        row: usize,
        step: u32,
        action: f32,
    }

    impl Policy for Once {
        fn act(&mut self, envs: &dyn BatchEnv, _: &Buffer, actions: &mut Buffer) -> Result<(), PolicyError> {
            let actions = actions.get_mut::<f32>().expect("actions of Root");
            actions.fill(1.0);
            if envs.row(self.row).steps == self.step {
                actions[self.row] = self.action;
            }
            Ok(())
        }
    }

    #[test]
    fn a_return_that_would_be_no_number_is_an_error_that_says_where() {
        let action = Space::Box { dtype: envs::buffer::Dtype::Float32, shape: vec![1], low: -1.0, high: 1.0 };
        let observation = Space::image([1, 1, 1]);
        let id = "Root-v0".to_owned();
        let env = Root(EnvSpec { id, observation, action, max_steps: Some(5), fps: 1.0, config: json!({}) });
        let played = |action| {
            let vector =
                VectorConfig { num_envs: 3, seed: Seed(9), autoreset: AutoresetMode::SameStep, max_steps: None };
            play(&mut VectorEnv::new(&vector, &env).unwrap(), &mut Once { row: 1, step: 3, action }, 6)
        };
        let expected = Played { returns: vec![5.0, 4.5, 5.0, 5.0, 4.5, 5.0], steps: 30, truncated: 6 };
        assert_eq!(played(0.25).unwrap(), expected);
        assert_eq!(
            played(-1.0).unwrap_err().to_string(),
            "Root-v0: reward of env 1 is not finite at step 4 of episode 1, seed 9"
        );
        assert_eq!(
            played(f32::NAN).unwrap_err().to_string(),
            "Root-v0: action of env 1, component 0 is NaN, allowed: finite numbers -1..=1"
        );
    }

    #[test]
    fn bad_arguments_are_named() {
        let refused = |id: &str, episodes| {
            evaluate(id, &json!({}), &mut TrackOracle, episodes, Seed(0), 64).unwrap_err().to_string()
        };
        assert_eq!(refused(TRACK, 99), "`episodes` is 99, allowed: 100 or more");
        assert!(refused("MnistWorldTrak-v0", 100).contains("did you mean MnistWorldTrack-v0"));
        assert!(refused("MnistWorld-v0", 100).contains("TrackOracle acts in MnistWorldTrack-v0 only"));
    }
}
