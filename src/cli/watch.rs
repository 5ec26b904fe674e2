//! `mindseye record`, `play`, `rollout` and `render`: look at worlds and at those who act in them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use simulators::rng::Seed;

use super::refusal::whole;
use super::{Layers, MOST_FRAMES, MOST_PLAYED_SEED, MannerArgs};
use crate::film::{FrameSize, MOST_FPS};

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
