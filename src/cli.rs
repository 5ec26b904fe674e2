//! The command line: what can be asked, and nothing else.

mod data;
mod eval;
mod refusal;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use envs::dataset::ShardOf;
use simulators::rng::Seed;

pub use data::*;
pub use eval::*;
pub use refusal::explain;
use refusal::whole;
pub use watch::*;

use crate::size::Size;
use crate::terminal;

/// The most episodes a dataset may have.
const MOST_EPISODES: i128 = 1 << 56;
/// The most frames a clip may have.
const MOST_FRAMES: i128 = 1_000_000;
/// The largest seed of a world that is played: browsers count exactly as far.
pub const MOST_PLAYED_SEED: u64 = (1 << 53) - 1;

/// Simulators, world models, memory benchmarks.
///
/// Record episodes of a world, train a model on them, and measure what the model still knows about what it cannot see.
#[derive(Debug, Parser)]
#[command(name = "mindseye", version, arg_required_else_help = true)]
pub struct Cli {
    /// Threads to use (all cores).
    #[arg(long, global = true, value_name = "N", value_parser = whole::<usize>(1, terminal::most_threads()), allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Say results (and errors) as JSON, one object a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the environments, or show one.
    Envs(EnvsArgs),
    /// Record episodes into a dataset; run again to continue or extend it.
    Collect(CollectArgs),
    /// Look at a dataset, check it, repair it, merge its parts, import it from files of other programs.
    Data(DataArgs),
    /// Train a world model on a dataset, or a policy in an environment.
    Train(TrainArgs),
    /// Measure a model's memory, what plans in it come to, or a policy's returns.
    Eval(EvalArgs),
    /// Watch a policy in an environment: an animated GIF, or numbered PNG files.
    Record(RecordArgs),
    /// Walk about in an environment, in a browser, beside what a trained model imagines.
    Play(PlayArgs),
    /// Roll states and actions of a file out in an environment, for comparison with other simulators.
    Rollout(RolloutArgs),
    /// Draw states of a world that another program wrote down.
    Render(RenderArgs),
    /// Measure speed on this machine.
    Bench(BenchArgs),
    /// Say what this machine has: processor, memory, disk, libtorch, CUDA.
    Doctor,
    /// The whole journey in a few minutes: record, train, measure, report.
    Quickstart(QuickstartArgs),
}

/// Settings come in layers: defaults, then a preset, then a file, then single values.
#[derive(Debug, Args, Clone, Default)]
pub struct Layers {
    /// A shipped configuration.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One value, such as `--set train.learning_rate=3e-4`; may be repeated.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// Print the resolved configuration and stop.
    #[arg(long)]
    pub print_config: bool,
}

impl Layers {
    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.preset.is_none() && self.config.is_none() && self.set.is_empty()
    }
}

/// `mindseye envs`
#[derive(Debug, Args)]
pub struct EnvsArgs {
    /// Show this one: spaces and configuration.
    pub env: Option<String>,
}

/// How much ground truth to record.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum TruthArg {
    /// None.
    None,
    /// Where everything is.
    State,
    /// State, and per pixel what is seen there; needed for recall.
    Full,
}

/// How pictures lie on the disk.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CodecArg {
    /// As they are in memory: mapped, not read.
    Raw,
    /// Compressed without loss.
    Zstd,
}

/// `mindseye collect`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mindseye collect mnist-world --episodes 20000 --out data/train
  mindseye collect mnist-world --preset tiny --episodes 2000 --out data/tiny
  mindseye collect mnist-world --mnist DIR --split train --episodes 20000 --out data/real
  mindseye collect mnist-world --set horizon=150 --seed 1 --episodes 500 --out data/long
  mindseye collect mnist-world --episodes 20000 --codec zstd --out data/packed
A dataset can be recorded in parts, by several processes or machines, with the same result to the last byte:
  mindseye collect mnist-world --episodes 20000 --shard 0/2 --out data/train.parts/0
  mindseye collect mnist-world --episodes 20000 --shard 1/2 --out data/train.parts/1
  mindseye data merge data/train.parts/* --out data/train
scripts/collect_parts does that on one machine, scripts/collect_array.slurm on a cluster.")]
pub struct CollectArgs {
    /// The environment; `mindseye envs` lists them.
    pub env: String,
    /// Episodes the dataset shall have.
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1, MOST_EPISODES), allow_negative_numbers = true)]
    pub episodes: u64,
    /// The dataset's directory.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of every episode.
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>(0, Seed::MAX.0.into()), allow_negative_numbers = true)]
    pub seed: u64,
    /// Who plays, instead of the environment's own collector: random, zero, walk (Blockworld's own), or the folder of a run of `train shac`, `pwm` or `dream`. Given
    /// more than once, they take turns, episode by episode.
    #[arg(long, value_name = "WHO")]
    pub policy: Vec<String>,
    /// Let learned policies explore as they did in training.
    #[arg(long, requires = "policy")]
    pub stochastic: bool,
    /// Ground truth to record beside what the agent sees.
    #[arg(long, value_enum, default_value_t = TruthArg::Full)]
    pub truth: TruthArg,
    /// How pictures are stored: what clips are drawn from fastest, or what takes least of the disk (as the environment says, raw
    /// for most, or as the dataset already has them).
    #[arg(long, value_enum, value_name = "CODEC")]
    pub codec: Option<CodecArg>,
    /// Episodes of a shard file (as many as make 32 MiB, or 256 MiB that zstd makes smaller).
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1, MOST_EPISODES), allow_negative_numbers = true)]
    pub episodes_per_shard: Option<u64>,
    /// Record only part I of N (I in 0..N): every N-th shard file from the I-th on, into a directory of its own.
    #[arg(long, value_name = "I/N", default_value_t = ShardOf::WHOLE, hide_default_value = true, allow_hyphen_values = true)]
    pub shard: ShardOf,
    /// Stop, with what is committed, before less than this is free on the disk (1GB, or a hundredth of a small disk).
    #[arg(long, value_name = "SIZE")]
    pub min_free: Option<Size>,
    /// Take digits from the MNIST files in this folder instead of drawing them.
    #[arg(long, value_name = "DIR")]
    pub mnist: Option<PathBuf>,
    /// Which of the MNIST digits: even ones (train), odd ones (validation), or all.
    #[arg(long, value_name = "SPLIT", default_value = "train", requires = "mnist")]
    pub split: String,
    /// Settings of the environment.
    #[command(flatten)]
    pub layers: Layers,
}

/// `mindseye train`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mindseye train flowm --data data/tiny --preset tiny --out runs/tiny
  mindseye train flowm --data data/train --preset small --set model.v_range=0 --out runs/no_vc
  mindseye train flowm --data data/train --out runs/tiny --resume
  mindseye train shac --env cartpole-swing-up --preset cartpole --out runs/cartpole
  mindseye train shac --env ant --preset ant_fast --out runs/ant
  mindseye train pwm --env hopper --preset hopper --out runs/hopper
  mindseye train pwm --env hopper --preset hopper --data data/hopper --set pwm.model_training.pretraining_updates=5000 --out runs/hopper
  mindseye train pwm --env hopper --preset hopper --data data/hopper --start-from runs/hopper --seed 1 --out runs/hopper_1
  mindseye train dream --env mnist-world-track --start-from runs/flowm --out runs/track
scripts/pretraining_data records episodes for a world model to begin with, of policies at every stage.")]
pub struct TrainArgs {
    /// The model: flowm, flowm3d or `linear_rnn`, which learn from a dataset; or shac, pwm or dream, policies that learn in an environment.
    pub model: String,
    /// The dataset; of pwm, episodes of the environment to begin with.
    #[arg(long, value_name = "DIR", required_unless_present = "env")]
    pub data: Option<PathBuf>,
    /// The environment of a policy; of shac, one that has gradients.
    #[arg(long, value_name = "ENV")]
    pub env: Option<String>,
    /// The run's folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on from the run's last checkpoint.
    #[arg(long)]
    pub resume: bool,
    /// Begin with the weights of another run's last checkpoint, as far as it has them; of pwm, with those of its world model; of dream,
    /// the run of the world model whose belief the policy lives in (without it, it sees the last frame only).
    #[arg(long, value_name = "RUN", conflicts_with = "resume")]
    pub start_from: Option<PathBuf>,
    /// Seed of weights and draws.
    #[arg(long, value_parser = whole::<u64>(0, Seed::MAX.0.into()), allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Check and print the cost, but do not train.
    #[arg(long)]
    pub dry_run: bool,
    /// Settings of model and training.
    #[command(flatten)]
    pub layers: Layers,
}

/// `mindseye bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Only the benchmarks whose name contains this.
    pub name: Option<String>,
    /// A Python that has torch: also run the updates of FloWM and PWM in plain PyTorch, and say the ratio (minutes).
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
}

/// `mindseye quickstart`
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Where everything goes.
    #[arg(long, value_name = "DIR", default_value = "runs/quickstart")]
    pub out: PathBuf,
}
