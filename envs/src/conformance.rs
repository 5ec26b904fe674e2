//! The contract that every registered task is held to. A registry entry is all a new task needs to come under it.

use serde_json::Value;
use simulators::rng::Seed;

use crate::batch::StepBatch;
use crate::buffer::{Buffer, with_values};
use crate::env::EnvError;
use crate::policy::{Policy, PolicyError, RandomWalk};
use crate::registry::Entry;
use crate::stop::Stop;
use crate::vector::{AutoresetMode, BatchEnv, Reset, VectorConfig};

/// Where a task breaks the contract.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Nonconformity {
    /// A rule does not hold.
    #[error("{env} breaks `{rule}`: {detail}")]
    Broken {
        /// Id of the task.
        env: &'static str,
        /// Name of the rule.
        rule: &'static str,
        /// What was seen.
        detail: String,
    },
    /// A step, reset or snapshot was refused.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// Random play was refused.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Time limit of the short episodes that most rules are tried on.
const SHORT: u32 = 25;
/// Episodes that two ways of playing are compared on.
const EPISODES: u64 = 9;
/// Steps of the longest check.
const RANDOM_STEPS: usize = 1000;

/// Holds the task of `entry`, with this configuration, to every rule.
///
/// # Errors
/// The first rule that does not hold.
pub fn conforms(entry: &Entry, config: &Value) -> Result<(), Nonconformity> {
    let subject = Subject { entry, config };
    subject.obeys_its_spec()?;
    subject.other_seed_or_episode_other_start()?;
    subject.stops_are_explained()?;
    subject.play_is_one_function()?;
    subject.save_load_continues_bitwise()
}

struct Subject<'a> {
    entry: &'a Entry,
    config: &'a Value,
}

/// `o[t], a[t] -> r[t], o[t+1]`, all in bits; of observations, which may be large, the blake3 of their memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Transition {
    /// Index of the episode.
    pub episode: u64,
    /// Step of the episode, from 0.
    pub t: u32,
    /// What was acted on.
    pub obs: [u8; 32],
    /// The memory of the action.
    pub action: Vec<u8>,
    /// The bits of the reward.
    pub reward: u32,
    /// Whether and why the episode ended.
    pub stop: Stop,
    /// What the action led to.
    pub next_obs: [u8; 32],
}

/// All transitions of episodes `0..episodes`, by episode and step, as `policy` plays them in `envs`: a batch that was never
/// reset, of this auto-reset mode. In disabled mode a row is reset as soon as its episode is over.
///
/// # Errors
/// A step or reset that is refused.
pub fn transitions(
    envs: &mut dyn BatchEnv,
    autoreset: AutoresetMode,
    policy: &mut dyn Policy,
    episodes: u64,
) -> Result<Vec<Transition>, Nonconformity> {
    let (num_envs, spec) = (envs.num_envs(), envs.spec().clone());
    let (obs_len, action_len) = (spec.observation.size(), spec.action.size());
    let hash = |obs: &Buffer, row: usize| blake3::hash(obs.bytes(row * obs_len, obs_len)).into();
    let mut out = StepBatch::for_spec(&spec, num_envs);
    let mut actions = Buffer::zeros(spec.action.dtype(), num_envs * action_len);
    envs.reset(Reset::Next, out.obs_mut())?;
    let mut all = Vec::new();
    let mut unfinished = episodes;
    while unfinished > 0 {
        let before: Vec<[u8; 32]> = (0..num_envs).map(|row| hash(out.obs(), row)).collect();
        let clocks: Vec<u32> = (0..num_envs).map(|row| envs.row(row).steps).collect();
        policy.act(envs, out.obs(), &mut actions)?;
        envs.step(&actions, &mut out)?;
        for row in (0..num_envs).filter(|&row| !out.ignored()[row] && out.episode()[row] < episodes) {
            let stop = out.stop()[row];
            unfinished -= u64::from(stop.any());
            all.push(Transition {
                episode: out.episode()[row],
                t: clocks[row],
                obs: before[row],
                action: actions.bytes(row * action_len, action_len).to_vec(),
                reward: out.reward()[row].to_bits(),
                stop,
                next_obs: hash(out.final_obs(), row),
            });
        }
        let over: Vec<bool> = out.stop().iter().map(|stop| stop.any()).collect();
        if autoreset == AutoresetMode::Disabled && over.contains(&true) {
            envs.reset(Reset::Rows(&over), out.obs_mut())?;
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// A batch in the middle of random play.
struct Play {
    envs: Box<dyn BatchEnv>,
    policy: RandomWalk,
    actions: Buffer,
    out: StepBatch,
}

impl Play {
    fn step(&mut self) -> Result<(), Nonconformity> {
        self.policy.act(&*self.envs, self.out.obs(), &mut self.actions)?;
        Ok(self.envs.step(&self.actions, &mut self.out)?)
    }
}

impl Subject<'_> {
    fn broken<T>(&self, rule: &'static str, detail: String) -> Result<T, Nonconformity> {
        Err(Nonconformity::Broken { env: self.entry.id, rule, detail })
    }

    /// Random play from the first reset on.
    fn start(&self, vector: &VectorConfig) -> Result<Play, Nonconformity> {
        let mut envs = self.entry.make(self.config, vector)?;
        let mut out = StepBatch::for_spec(envs.spec(), vector.num_envs);
        envs.reset(Reset::Next, out.obs_mut())?;
        let action = &envs.spec().action;
        let actions = Buffer::zeros(action.dtype(), vector.num_envs * action.size());
        Ok(Play { envs, policy: RandomWalk::default(), actions, out })
    }

    /// Every observation, action and reward is what the spec says.
    fn obeys_its_spec(&self) -> Result<(), Nonconformity> {
        const RULE: &str = "obeys its spec";
        let mut play = self.start(&VectorConfig { num_envs: 3, ..VectorConfig::default() })?;
        let spec = play.envs.spec().clone();
        if spec.id != self.entry.id {
            return self.broken(RULE, format!("its spec calls it {}", spec.id));
        }
        let json = serde_json::to_value(&spec).expect("a spec is plain data");
        if serde_json::from_value(json).ok().as_ref() != Some(&spec) {
            return self.broken(RULE, "its spec does not survive JSON".to_owned());
        }
        for step in 0..RANDOM_STEPS {
            for (what, space, buffer) in [
                ("observation", &spec.observation, play.out.obs()),
                ("final observation", &spec.observation, play.out.final_obs()),
            ] {
                let rows = with_values!(buffer, values => values.chunks_exact(space.size()).map(|row| space.check(row)).collect::<Vec<_>>());
                if let Some(bad) = rows.into_iter().find_map(Result::err) {
                    return self.broken(RULE, format!("at step {step}, {what}: {bad:?}"));
                }
            }
            play.step()?;
            if let Some(reward) = play.out.reward().iter().find(|reward| !reward.is_finite()) {
                return self.broken(RULE, format!("at step {step}, the reward is {reward}"));
            }
        }
        Ok(())
    }

    /// Different seeds, and different episodes of a seed, start differently.
    fn other_seed_or_episode_other_start(&self) -> Result<(), Nonconformity> {
        let mut starts = Vec::new();
        for seed in 0..4 {
            let vector = VectorConfig { num_envs: 4, seed: Seed(seed), ..VectorConfig::default() };
            // States, since different ones may show the same.
            let snapshot =
                serde_json::to_value(self.start(&vector)?.envs.snapshot()).expect("a snapshot is plain data");
            starts.extend((0..4).map(|row| snapshot["rows"][row]["env"].to_string()));
        }
        let all = starts.len();
        starts.sort_unstable();
        starts.dedup();
        if starts.len() == all {
            return Ok(());
        }
        self.broken("other seed or episode, other start", format!("{} distinct of {all}", starts.len()))
    }

    /// The transitions of episodes `0..EPISODES` of random play.
    fn transitions(&self, vector: &VectorConfig) -> Result<Vec<Transition>, Nonconformity> {
        let mut envs = self.entry.make(self.config, vector)?;
        transitions(&mut *envs, vector.autoreset, &mut RandomWalk::default(), EPISODES)
    }

    /// An episode is one chain of steps; it stops at its end and nowhere else, and says why.
    fn stops_are_explained(&self) -> Result<(), Nonconformity> {
        const RULE: &str = "stops are explained";
        let all = self.transitions(&VectorConfig { max_steps: Some(SHORT), ..VectorConfig::default() })?;
        for steps in all.chunk_by(|a, b| a.episode == b.episode) {
            for (t, step) in steps.iter().enumerate() {
                let last = t + 1 == steps.len();
                let Transition { episode, stop, .. } = *step;
                if step.t != t as u32 || stop.any() != last || stop.truncated != (step.t + 1 == SHORT) {
                    return self.broken(RULE, format!("{stop:?} at step {t} of {} of episode {episode}", steps.len()));
                }
                if !last && step.next_obs != steps[t + 1].obs {
                    return self
                        .broken(RULE, format!("episode {episode} shows something else after step {t} than it led to"));
                }
            }
        }
        Ok(())
    }

    /// Auto-reset modes, instances, threads and numbers of envs give the same transitions.
    fn play_is_one_function(&self) -> Result<(), Nonconformity> {
        let base = VectorConfig { num_envs: 2, max_steps: Some(SHORT), seed: Seed(7), ..VectorConfig::default() };
        let expected = self.transitions(&base)?;
        let compare = |rule, found: Vec<Transition>| match expected.iter().zip(&found).find(|(a, b)| a != b) {
            None if expected.len() == found.len() => Ok(()),
            None => self.broken(rule, format!("{} steps, then {}", expected.len(), found.len())),
            Some((a, _)) => self.broken(rule, format!("step {} of episode {} differs", a.t, a.episode)),
        };
        compare("same seed, same bits", self.transitions(&base)?)?;
        for autoreset in [AutoresetMode::SameStep, AutoresetMode::Disabled] {
            compare("auto-reset modes agree", self.transitions(&VectorConfig { autoreset, ..base.clone() })?)?;
        }
        for num_envs in [1, 3, 40] {
            compare(
                "the number of envs changes nothing",
                self.transitions(&VectorConfig { num_envs, ..base.clone() })?,
            )?;
        }
        for threads in [1, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a few threads");
            let many = VectorConfig { num_envs: 40, ..base.clone() };
            compare("the number of threads changes nothing", pool.install(|| self.transitions(&many))?)?;
        }
        Ok(())
    }

    /// A snapshot, through text, into another instance: what follows is the same.
    fn save_load_continues_bitwise(&self) -> Result<(), Nonconformity> {
        const RULE: &str = "save and load continue bitwise";
        for autoreset in [AutoresetMode::NextStep, AutoresetMode::SameStep] {
            let vector = VectorConfig { num_envs: 2, max_steps: Some(SHORT), autoreset, ..VectorConfig::default() };
            let mut play = self.start(&vector)?;
            // Up to the end of an episode, so that what is pending there is saved too.
            for _ in 0..SHORT {
                play.step()?;
            }
            let text = serde_json::to_string(&play.envs.snapshot()).expect("a snapshot is plain data");
            let Ok(snapshot) = serde_json::from_str(&text) else {
                return self.broken(RULE, "its snapshot does not survive JSON".to_owned());
            };
            let mut other = self.start(&VectorConfig { seed: Seed(99), ..vector })?;
            other.envs.restore(&snapshot)?;
            for step in 0..2 * SHORT {
                play.step()?;
                // The policy is not what is tried here: both take the same actions.
                other.envs.step(&play.actions, &mut other.out)?;
                if play.out != other.out {
                    return self.broken(RULE, format!("step {step} after loading differs"));
                }
            }
        }
        Ok(())
    }
}
