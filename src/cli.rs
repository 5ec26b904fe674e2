//! The command line: what can be asked, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Simulators, world models, memory benchmarks.
///
/// Record episodes of a world, train a model on them, and measure what the model still knows about what it cannot see.
#[derive(Debug, Parser)]
#[command(name = "mindseye", version, arg_required_else_help = true)]
pub struct Cli {
    /// Threads to use (all cores).
    #[arg(long, global = true, value_name = "N")]
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
    /// Look at a dataset, or check it.
    Data(DataArgs),
    /// Train a world model on a dataset.
    Train(TrainArgs),
    /// Measure a model's memory, or a policy's returns.
    Eval(EvalArgs),
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

/// `mindseye collect`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mindseye collect mnist-world --episodes 20000 --out data/train
  mindseye collect mnist-world --preset tiny --episodes 2000 --out data/tiny
  mindseye collect mnist-world --mnist DIR --split train --episodes 20000 --out data/real
  mindseye collect mnist-world --set horizon=150 --seed 1 --episodes 500 --out data/long")]
pub struct CollectArgs {
    /// The environment; `mindseye envs` lists them.
    pub env: String,
    /// Episodes the dataset shall have.
    #[arg(long, value_name = "N")]
    pub episodes: u64,
    /// The dataset's directory.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of every episode.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Ground truth to record beside what the agent sees.
    #[arg(long, value_enum, default_value_t = TruthArg::Full)]
    pub truth: TruthArg,
    /// Episodes of a shard file (as many as make 32 MiB).
    #[arg(long, value_name = "N")]
    pub episodes_per_shard: Option<u64>,
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

/// `mindseye data`
#[derive(Debug, Args)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What `mindseye data` can do.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Say what is in a dataset.
    Info {
        /// The dataset.
        dataset: PathBuf,
    },
    /// Read every byte and compare it with what was committed.
    Verify {
        /// The dataset.
        dataset: PathBuf,
        /// Check sizes and headers only.
        #[arg(long)]
        quick: bool,
    },
}

/// `mindseye train`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mindseye train flowm --data data/tiny --preset tiny --out runs/tiny
  mindseye train flowm --data data/train --preset small --set model.v_range=0 --out runs/no_vc
  mindseye train flowm --data data/train --out runs/tiny --resume")]
pub struct TrainArgs {
    /// The model: flowm or `linear_rnn`.
    pub model: String,
    /// The dataset.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The run's folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on from the run's last checkpoint.
    #[arg(long)]
    pub resume: bool,
    /// Begin with the weights of another run's last checkpoint.
    #[arg(long, value_name = "RUN", conflicts_with = "resume")]
    pub start_from: Option<PathBuf>,
    /// Seed of weights and draws.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Check and print the cost, but do not train.
    #[arg(long)]
    pub dry_run: bool,
    /// Settings of model and training.
    #[command(flatten)]
    pub layers: Layers,
}

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
    /// What a trained model remembers of what it cannot see.
    Memory(MemoryArgs),
    /// The returns of a policy: at least 100 episodes, one each.
    Policy(PolicyArgs),
}

/// `mindseye eval memory`
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// The run.
    pub run: PathBuf,
    /// The dataset; its episodes must be as long as context and horizon.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Frames the model sees (as in training).
    #[arg(long)]
    pub context: Option<i64>,
    /// Frames it imagines (all the rest).
    #[arg(long)]
    pub horizon: Option<i64>,
    /// Clips to score (all).
    #[arg(long)]
    pub clips: Option<usize>,
    /// Clips at a time.
    #[arg(long, default_value_t = 16)]
    pub batch_size: usize,
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

/// `mindseye eval policy`
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// The environment.
    pub env: String,
    /// random, or oracle where the environment has one.
    #[arg(long, default_value = "random")]
    pub policy: String,
    /// Episodes, one each.
    #[arg(long, default_value_t = 100)]
    pub episodes: u64,
    /// Seed of the episodes.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `mindseye bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Only the benchmarks whose name contains this.
    pub name: Option<String>,
    /// A Python that has torch: also run FloWM's updates in plain PyTorch, and say the ratio (minutes).
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
