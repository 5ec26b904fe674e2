//! `mindseye data`: look at datasets, and make them of others.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use envs::dataset::ShardOf;

use super::CodecArg;
use super::refusal::whole;
use crate::size::Size;

/// The most components that an imported observation or action may have.
const MOST_COMPONENTS: i128 = 1_000_000;

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
