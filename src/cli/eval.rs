//! `mindseye eval`: measure what was trained.

use std::path::PathBuf;

use agents::planner::PlannerConfig;
use agents::planner::find_red::FindRedConfig;
use clap::{Args, Subcommand, ValueEnum};
use simulators::rng::Seed;

use super::refusal::whole;
use super::{Layers, MOST_EPISODES, MOST_FRAMES};

/// `mindseye eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// What to measure.
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// What `mindseye eval` can measure.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// What a trained model remembers of what it cannot see, or foresees of vectors.
    Memory(MemoryArgs),
    /// What a model's belief says of where the blocks of Blockworld are, in view and out of view.
    Probe(ProbeArgs),
    /// How near plans come to the red block of Blockworld that are made in what a model imagines.
    Plan(PlanArgs),
    /// The returns of a policy: at least 100 episodes, one each.
    Policy(PolicyArgs),
}

/// `mindseye eval memory`
#[derive(Debug, Args)]
#[command(
    after_help = "A run of `train pwm` sees vectors: imagined latents are compared with those of what was observed, as they are and as
observations that a linear readout, fitted on other episodes, reads from them; and predicted rewards with those recorded.

Recall needs to know when each point was in view: record the dataset with `--truth full`, of MNIST World or Blockworld.

Examples:
  mindseye eval memory runs/tiny --data data/unseen
  mindseye eval memory runs/blocks --data data/blocks --context 70
  mindseye eval memory runs/pwm --data data/hopper --horizon 64          where the world model of a policy goes wrong"
)]
pub struct MemoryArgs {
    /// The run, of a world model or of `train pwm`.
    pub run: PathBuf,
    /// The dataset; its episodes must be as long as context and horizon.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Frames the model sees (as in training); of vectors, observations (1: latents tell only of the last).
    #[arg(long, value_parser = whole::<i64>(1, MOST_FRAMES), allow_negative_numbers = true)]
    pub context: Option<i64>,
    /// Frames it imagines (all the rest; of vectors, 16 steps).
    #[arg(long, value_parser = whole::<i64>(1, MOST_FRAMES), allow_negative_numbers = true)]
    pub horizon: Option<i64>,
    /// Clips to score (all; of vectors, 2048 of one half of the episodes).
    #[arg(long, value_parser = whole::<usize>(1, MOST_EPISODES), allow_negative_numbers = true)]
    pub clips: Option<usize>,
    /// Clips at a time (16; of vectors always as many).
    #[arg(long, value_parser = whole::<usize>(1, 65_536), allow_negative_numbers = true)]
    pub batch_size: Option<usize>,
    /// Folder for report.json and report.html (RUN/memory).
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The model's name in the report (the run's folder name).
    #[arg(long)]
    pub name: Option<String>,
    /// Show this report's model beside it; may be repeated.
    #[arg(long, value_name = "REPORT_JSON")]
    pub beside: Vec<PathBuf>,
}

/// `mindseye eval probe`
#[derive(Debug, Args)]
#[command(
    after_help = "A linear readout of beliefs is fitted on one half of the episodes and asked on the other. At each horizon it names, for
every colour, as many cells of a map around the agent as blocks of that colour occupy; a block is right if its own cell is
among them. Beside it: where each block was in view last, where blocks usually are, and chance.

Examples:
  mindseye collect block-world --preset probe --set frames=280 --set world.image=64 --seed 1 --episodes 50 --out data/probe
  mindseye eval probe runs/blocks --data data/probe
  mindseye eval probe runs/blocks --data data/probe --context 70 --horizons 0,10,70 --json"
)]
pub struct ProbeArgs {
    /// The run of a world model of Blockworld.
    pub run: PathBuf,
    /// The dataset, of Blockworld with its ground truth; its episodes must be as long as context and last horizon.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Frames the model sees (as in training).
    #[arg(long, value_parser = whole::<usize>(1, MOST_FRAMES), allow_negative_numbers = true)]
    pub context: Option<usize>,
    /// Steps after the last frame that it sees (those of 0,10,20,70,210 that fit).
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', value_parser = whole::<usize>(0, MOST_FRAMES), allow_negative_numbers = true)]
    pub horizons: Vec<usize>,
    /// Clips to count on, and as many to fit on, at most (all).
    #[arg(long, value_parser = whole::<usize>(1, MOST_EPISODES), allow_negative_numbers = true)]
    pub clips: Option<usize>,
    /// Folder for report.json and maps.png (RUN/probe).
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The model's name in the report (the run's folder name).
    #[arg(long)]
    pub name: Option<String>,
}

/// What a plan is worth.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum WorthArg {
    /// The red pixels of its reddest picture, with which it ends.
    Best,
    /// Those of its last picture.
    Last,
    /// Those of all its pictures.
    Total,
}

/// `mindseye eval plan`
#[derive(Debug, Args)]
#[command(
    after_help = "After the context, sequences of actions are rolled out in the model's belief; the one whose imagined pictures are reddest is
carried out in the world. What counts is how far from the nearest red thing it ends: the best distance is 2 cells. Beside
the model stand the same search with the true pictures (oracle), what the recorder does in another episode (random), and
who stays (still).

Examples:
  mindseye eval plan runs/blocks --data data/unseen                       in the world and the episodes of a dataset
  mindseye eval plan runs/blocks --data data/unseen --episodes 64 --candidates 128 --iterations 6
  mindseye eval plan runs/blocks --preset static --seed 1                 in another world
  mindseye eval plan --preset dynamic --episodes 64                       without a model: what search and chance reach"
)]
pub struct PlanArgs {
    /// The run, of a world model whose actions are choices (none: only those beside it).
    pub run: Option<PathBuf>,
    /// Plan in the world of this dataset, and in its episodes.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Episodes; of those without anything red the next is taken.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = whole::<usize>(1, FindRedConfig::MOST_EPISODES), allow_negative_numbers = true)]
    pub episodes: usize,
    /// Pictures seen before the plan begins, on the recorder's walk.
    #[arg(long, value_name = "N", default_value_t = 70, value_parser = whole::<usize>(1, FindRedConfig::MOST_CONTEXT), allow_negative_numbers = true)]
    pub context: usize,
    /// Steps of a plan, at most.
    #[arg(long, value_name = "N", default_value_t = 70, value_parser = whole::<usize>(1, PlannerConfig::MOST_STEPS), allow_negative_numbers = true)]
    pub horizon: usize,
    /// Plans of an iteration.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = whole::<usize>(1, PlannerConfig::MOST_CANDIDATES), allow_negative_numbers = true)]
    pub candidates: usize,
    /// Iterations of the search: the first tries what the recorder does elsewhere, each further one improves on the best so far.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole::<usize>(1, PlannerConfig::MOST_ITERATIONS), allow_negative_numbers = true)]
    pub iterations: usize,
    /// What a plan is worth.
    #[arg(long, value_enum, default_value_t = WorthArg::Best)]
    pub worth: WorthArg,
    /// Seed of episodes and search (that of the dataset, or 0).
    #[arg(long, value_parser = whole::<u64>(0, Seed::MAX.0.into()), allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Folder for report.json, plan.png and plan.gif (RUN/plan; without a run nothing is written).
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The model's name in the report (the run's folder name).
    #[arg(long)]
    pub name: Option<String>,
    /// Settings of the world, above those of the dataset.
    #[command(flatten)]
    pub layers: Layers,
}

/// `mindseye eval policy`
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// The environment.
    pub env: String,
    /// random, zero (no action), oracle or walk where the environment has one, or the folder of a run of `train shac`, `pwm` or `dream`.
    #[arg(long, default_value = "random")]
    pub policy: String,
    /// How it plays.
    #[command(flatten)]
    pub manner: MannerArgs,
    /// Episodes, one each.
    #[arg(long, default_value_t = 100, value_parser = whole::<u64>(100, 1 << 32), allow_negative_numbers = true)]
    pub episodes: u64,
    /// Episodes played side by side; the result does not depend on it.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = whole::<usize>(0, i64::MAX.into()), allow_negative_numbers = true)]
    pub envs: usize,
    /// Seed of the episodes.
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>(0, Seed::MAX.0.into()), allow_negative_numbers = true)]
    pub seed: u64,
    /// Settings of the environment, above those of the policy's training.
    #[command(flatten)]
    pub layers: Layers,
}

/// How a trained policy plays.
#[derive(Debug, Clone, Copy, Args)]
pub struct MannerArgs {
    /// Let a trained policy explore as in training, instead of doing what it finds best.
    #[arg(long)]
    pub stochastic: bool,
    /// Let it look at every N-th observation only, and imagine those between: of a policy with a world model.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u32>(1, 1 << 24), allow_negative_numbers = true)]
    pub look_every: u32,
    /// With --look-every: let it look at the first N observations of an episode all the same.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u32>(1, 1 << 24), allow_negative_numbers = true)]
    pub look_first: u32,
}
