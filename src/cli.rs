//! The command line: what can be asked, and nothing else.

mod refusal;

use std::path::PathBuf;

use agents::planner::PlannerConfig;
use agents::planner::find_red::FindRedConfig;
use clap::{Args, Parser, Subcommand, ValueEnum};
use envs::dataset::ShardOf;
use simulators::rng::Seed;

pub use refusal::explain;
use refusal::whole;

use crate::film::{FrameSize, MOST_FPS};
use crate::size::Size;
use crate::terminal;

/// The most episodes a dataset may have.
const MOST_EPISODES: i128 = 1 << 56;
/// The most components that an imported observation or action may have.
const MOST_COMPONENTS: i128 = 1_000_000;
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

/// `mindseye data`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mindseye data info data/train
  mindseye data verify data/train                        every byte; --quick looks at sizes and headers only
  mindseye data repair data/train                        keep what is whole, then run collect again for the rest
  mindseye data merge data/parts/* --out data/train      one dataset of the parts that collect --shard recorded
  mindseye data import tdmpc2 mt30/*.pt --out data/mt30  the multi-task data of TD-MPC2
  mindseye data import flowm sunday_v2_training --out data/published      Blockworld or MNIST World as FloWM's authors publish it")]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What `mindseye data` can do.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Say what is in a dataset, and which episodes it lacks.
    Info {
        /// The dataset.
        dataset: PathBuf,
    },
    /// Read every byte and compare it with what was committed. Exit code 0: all is as it was; 1: something is damaged.
    Verify {
        /// The dataset.
        dataset: PathBuf,
        /// Check sizes and headers only.
        #[arg(long)]
        quick: bool,
    },
    /// Keep every whole episode of a damaged dataset; collecting again then records the lost ones as they were.
    ///
    /// Manifest lines are made anew from the shards. A shard that can be restored to its committed bytes is; of another, whole
    /// episodes become shards of their own. Nothing is deleted: damaged files are moved to DATASET/damaged. Repairing again
    /// changes nothing.
    #[command(after_help = "Examples:
  mindseye data repair data/train --dry-run
  mindseye data repair data/train
  mindseye collect mnist-world --episodes 20000 --out data/train      the command that made it fills the gaps")]
    Repair {
        /// The dataset.
        dataset: PathBuf,
        /// Say what would be done, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make one dataset of parts, in any order, with the bytes that recording at once would have given.
    ///
    /// Parts must be of one dataset. What several of them have must be the same in each; what none has is an error, before
    /// anything is written. Every shard is checked while it is copied. An interrupted merge goes on when it is run again.
    #[command(after_help = "Examples:
  mindseye data merge data/train.parts/* --out data/train
  mindseye data merge data/train.parts/0 data/train.parts/2 --partial --out data/train      part 1 may come later")]
    Merge {
        /// The parts: directories that `collect --shard` has written.
        #[arg(required = true, value_name = "PART")]
        parts: Vec<PathBuf>,
        /// The result's directory; if it has shards of this dataset already, they count too.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Merge even if episodes are missing.
        #[arg(long)]
        partial: bool,
    },
    /// Make a dataset of files that another program has written.
    Import {
        /// Whose files they are.
        #[command(subcommand)]
        from: ImportCommand,
    },
}

/// What `mindseye data import` can read.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Import the multi-task data of TD-MPC2, MT30 or MT80.
    ///
    /// Each FILE is a dict or `TensorDict` that torch.save has written, with `obs [E, T+1, O]`, `action [E, T+1, A]`,
    /// `reward [E, T+1]` and `task [E, T+1]`, of which entry t has the action and the reward that led to observation t. The dataset
    /// has T+1 observations, T actions and T rewards of each episode, and its `task`; the last step is truncated, none is terminated.
    /// Episodes are numbered over all files, in the order given. Other tensors are left out.
    ///
    /// Nothing in a file is run: one that asks for more than tensors is refused. Episodes are read one by one, so files may be larger
    /// than the memory. Interrupt it and run it again: it goes on.
    #[command(after_help = "Examples:
  mindseye data import tdmpc2 mt30/*.pt --out data/mt30
  mindseye data import tdmpc2 mt30/*.pt --task 3 --out data/task3      the episodes of task 3 only
  mindseye data import tdmpc2 mt30/*.pt --task 3 --observation 17 --action 6 --out data/task3      and without their padding
Then `mindseye data info data/mt30` says what arrived, and `mindseye data verify data/mt30` reads it all again.")]
    Tdmpc2(Tdmpc2Args),
    /// Import the published data of FloWM: videos and actions of Blockworld or MNIST World.
    ///
    /// Each DIR is the unpacked folder of a split, such as `sunday_v2_training` or `dynamic_validation`, or one folder of it. Of each
    /// episode of Blockworld it has `NNNN_rgb.mp4` (128x128) and `NNNN_actions.pt`, of MNIST World `NNNN.mp4` (32x32) and `NNNN.pt`; depth,
    /// maps and other views are left out, and anything else is refused. Episodes are numbered over all folders, in the order given.
    ///
    /// An episode of F frames has F observations and F - 1 actions, each of which leads to the observation after it. Files of Blockworld
    /// have it so already: the last action is left out, since the frame that it led to was not kept. In files of MNIST World an action
    /// stands with the frame that it led to: the first, (0, 0), is left out and the others move up by one. Grey is the mean of red, green
    /// and blue. There are no rewards, and no ground truth, so recall is not measured on it.
    ///
    /// Videos are decoded by `ffmpeg`, which must be installed; its version is part of the dataset, which only the same one goes on with.
    /// Nothing in a file is run. Interrupt it and run it again: it goes on.
    #[command(after_help = "Examples:
  mindseye data import flowm blockworld/sunday_v2_training --out data/published
  mindseye data import flowm mnist_world/dynamic_validation --out data/digits
  mindseye data import flowm blockworld/tex_training/0 blockworld/tex_training/1 --out data/tex      two folders of a split
  mindseye data import flowm blockworld/sunday_v2_training --shard 0/4 --out data/published.parts/0  a part; data merge joins them
Then `mindseye train flowm3d --data data/published` and `mindseye eval memory` take it as any other dataset.")]
    Flowm(FlowmArgs),
}

/// The worlds that FloWM's authors publish.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum WorldArg {
    /// Blockworld: dynamic, static or tex.
    BlockWorld,
    /// MNIST World: `dynamic_po` and its kin.
    MnistWorld,
}

/// `mindseye data import flowm`
#[derive(Debug, Args)]
pub struct FlowmArgs {
    /// The folders.
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// The dataset's directory.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which world it is (as the names of the files say).
    #[arg(long, value_enum)]
    pub world: Option<WorldArg>,
    /// How pictures are stored (zstd for Blockworld, raw for MNIST World, or as the dataset already has them).
    #[arg(long, value_enum, value_name = "CODEC")]
    pub codec: Option<CodecArg>,
    /// Import only part I of N (I in 0..N): every N-th shard file from the I-th on, into a directory of its own.
    #[arg(long, value_name = "I/N", default_value_t = ShardOf::WHOLE, hide_default_value = true, allow_hyphen_values = true)]
    pub shard: ShardOf,
    /// Stop, with what is committed, before less than this is free on the disk (1GB, or a hundredth of a small disk).
    #[arg(long, value_name = "SIZE")]
    pub min_free: Option<Size>,
}

/// `mindseye data import tdmpc2`
#[derive(Debug, Args)]
pub struct Tdmpc2Args {
    /// The files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The dataset's directory.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Keep only the episodes of this task (0 to 29 in MT30, 0 to 79 in MT80).
    #[arg(long, value_name = "N", value_parser = whole::<i32>(0, i32::MAX.into()), allow_negative_numbers = true)]
    pub task: Option<i32>,
    /// Keep the first N components of observations; refused where one that is left out is not zero.
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, MOST_COMPONENTS), allow_negative_numbers = true)]
    pub observation: Option<usize>,
    /// Keep the first N components of actions, likewise.
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, MOST_COMPONENTS), allow_negative_numbers = true)]
    pub action: Option<usize>,
    /// Stop, with what is committed, before less than this is free on the disk (1GB, or a hundredth of a small disk).
    #[arg(long, value_name = "SIZE")]
    pub min_free: Option<Size>,
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
    /// Begin with the weights of another run's last checkpoint; of pwm, with those of its world model; of dream, the run of the world
    /// model whose belief the policy lives in (without it, it sees the last frame only).
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

/// `mindseye record`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mindseye record ant --policy random --out ant.gif
  mindseye record hopper --policy zero --seed 3 --steps 120 --out hopper.gif
  mindseye record ant --policy runs/ant --episode 7 --size 640x480 --out ant.gif
  mindseye record cartpole-swing-up --every 1 --out frames/              frames/000000.png and so on
  mindseye record mnist-world-track --policy oracle --out track.gif      the whole world; what the agent sees is bright
  mindseye record mnist-world-track --policy runs/track --look-first 20 --look-every 1000 --out blind.gif")]
pub struct RecordArgs {
    /// The environment.
    pub env: String,
    /// random, zero (no action), oracle or walk where the environment has one, or the folder of a run of `train shac`, `pwm` or `dream`.
    #[arg(long, default_value = "random")]
    pub policy: String,
    /// How it plays.
    #[command(flatten)]
    pub manner: MannerArgs,
    /// A file that ends in .gif, or a folder for 000000.png and so on.
    #[arg(long, value_name = "PLACE")]
    pub out: PathBuf,
    /// Seed of the episodes.
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>(0, Seed::MAX.0.into()), allow_negative_numbers = true)]
    pub seed: u64,
    /// Which episode of that seed: the same as in `eval policy`.
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = whole::<u64>(0, 1 << 32), allow_negative_numbers = true)]
    pub episode: u64,
    /// Steps at most (until the episode ends).
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1, u32::MAX.into()), allow_negative_numbers = true)]
    pub steps: Option<u32>,
    /// Show the start and every K-th step after it (as many as make 30 frames a second or fewer).
    #[arg(long, value_name = "K", value_parser = whole::<u32>(1, 1_000_000), allow_negative_numbers = true)]
    pub every: Option<u32>,
    /// Frames a second of the GIF (those of real time).
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1, MOST_FPS.into()), allow_negative_numbers = true)]
    pub fps: Option<u32>,
    /// Pixels: width x height, or one number for both (480x360; a world of pixels, enlarged).
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub size: Option<FrameSize>,
    /// Settings of the environment.
    #[command(flatten)]
    pub layers: Layers,
}

/// `mindseye play`
#[derive(Debug, Args)]
#[command(
    after_help = "A page on 127.0.0.1, for this machine only: on the left the world, on the right what the model imagines. Arrow keys walk, the
space bar shuts the model's eyes; from then on it is told of your moves alone. Below are its error, beside that of a copy of
the last frame it saw, and the world from above. Ctrl-C ends it.

Examples:
  mindseye play block-world                                  only the world
  mindseye play --run runs/blocks                            and a model, in the world that it was trained in
  mindseye play --run runs/blocks --context 100              it has seen 100 frames before you take over
  mindseye play mnist-world --run runs/tiny --set world.digits=5 --seed 7
  mindseye play mnist-world --run runs/tiny/checkpoints/000200 --port 0"
)]
pub struct PlayArgs {
    /// The environment (that of the run's dataset).
    #[arg(required_unless_present = "run")]
    pub env: Option<String>,
    /// A trained world model: its run, or one checkpoint of it.
    #[arg(long, value_name = "RUN")]
    pub run: Option<PathBuf>,
    /// Seed of the world.
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>(0, MOST_PLAYED_SEED.into()), allow_negative_numbers = true)]
    pub seed: u64,
    /// Frames that the model sees before you take over, from the walk that datasets of the environment are recorded with.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u32>(1, MOST_FRAMES), allow_negative_numbers = true)]
    pub context: u32,
    /// The port of the page; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 8717, value_parser = whole::<u16>(0, u16::MAX.into()), allow_negative_numbers = true)]
    pub port: u16,
    /// Settings of the environment.
    #[command(flatten)]
    pub layers: Layers,
}

/// `mindseye rollout`
#[derive(Debug, Args)]
#[command(
    after_help = "Files are safetensors: `state` [N, S] and `actions` [N, T, A] in, F32 or F64; `states` [N, T, S], `observations`
[N, T, O], `rewards` [N, T] and `terminations` [N, T] out. The Ant's S is 29: place (y up), orientation x y z w, eight
angles; then the root's twist about the world's origin, turning first, and eight rates.

Examples:
  mindseye rollout Ant-v0 --in recorded.safetensors --out rolled.safetensors
  mindseye rollout Ant-v0 --in recorded.safetensors --out rolled.safetensors --gradients
  mindseye rollout Ant-v0 --set physics.inertia=exact --in recorded.safetensors --out rolled.safetensors"
)]
pub struct RolloutArgs {
    /// The environment; its state must be a vector.
    pub env: String,
    /// File of states and actions.
    #[arg(long = "in", value_name = "FILE")]
    pub input: PathBuf,
    /// File for what becomes of them.
    #[arg(long = "out", value_name = "FILE")]
    pub output: PathBuf,
    /// Also write `gradients` [N, T, A]: of each row's sum of rewards with respect to its actions.
    #[arg(long)]
    pub gradients: bool,
    /// Where an episode would end, go on from the row's own first state.
    #[arg(long)]
    pub resets: bool,
    /// Settings of the environment; double precision unless they say otherwise.
    #[command(flatten)]
    pub layers: Layers,
}

/// A world whose states can be drawn.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Drawn {
    /// Blockworld: a room with boxes and balls.
    BlockWorld,
}

/// `mindseye render`
#[derive(Debug, Args)]
#[command(
    after_help = "States are a list of objects: `frame`, the name of a .png file; `agent` {x, z, heading_deg, eye_height};
`room` {wall_tex, floor_tex, ceil_tex, wall_height}; `entities`, each {kind, color, x, z, size, texture, velocity}, as
Blockworld's original generator writes them down: one step after the picture, so each is drawn where it was before.
A texture NAME is the file NAME_1.png or NAME.png.

Examples:
  mindseye render block-world --states states.json --textures textures --out frames
  mindseye render block-world --states states.json --textures textures --out frames --beside originals"
)]
pub struct RenderArgs {
    /// Which world's.
    pub world: Drawn,
    /// JSON file of states.
    #[arg(long, value_name = "FILE")]
    pub states: PathBuf,
    /// Folder of textures, PNG files.
    #[arg(long, value_name = "DIR")]
    pub textures: PathBuf,
    /// Folder for the pictures, one PNG file a state.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Pixels: width x height, or one number for both (128).
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub size: Option<FrameSize>,
    /// Folder of pictures of the same names: say how near ours come (PSNR), and show both in `contact_sheet.png`.
    #[arg(long, value_name = "DIR", conflicts_with = "size")]
    pub beside: Option<PathBuf>,
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
