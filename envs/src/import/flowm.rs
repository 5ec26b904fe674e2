//! The published data sets of FloWM, Blockworld and MNIST World, as a source of episodes.
//!
//! An episode is a video of `F` frames and a file of `torch.save` with `F` actions beside it; a dataset has `F` observations and `F - 1`
//! actions, `o[t], a[t] -> o[t+1]`. What moves, and what is left out, depends on the world:
//!
//! | | Blockworld | MNIST World |
//! |---|---|---|
//! | files | `NNNN_rgb.mp4`, `NNNN_actions.pt` | `NNNN.mp4`, `NNNN.pt` |
//! | `actions` in the file | i64 `[F]`, one of 5 | i64 `[F, 2]`, `(dx, dy)`, each in -10..=10 |
//! | action `t` there leads | from frame `t` to frame `t + 1` | from frame `t - 1` to frame `t`; the first must be `(0, 0)` |
//! | action `t` here is | action `t` | action `t + 1` |
//! | left out | the last action, whose frame was not kept | the first action, which led nowhere |
//! | observations | `[128, 128, 3]` | `[32, 32, 1]`, the mean of red, green and blue, rounded |
//!
//! Nothing else changes; in MNIST World frame 50, where the target begins, has the camera of frame 49, and the zero action that says so is
//! kept. There are no rewards; the last step is truncated, none is terminated. Videos were packed with loss, so frames are what ffmpeg
//! decodes, and its version is part of the dataset's configuration. Source: Lillemark et al. 2026 (*Flow Equivariant World Models*), as
//! their generators write and their loaders read the files.
//!
//! Episodes lie in a folder or in the folders of one, as the archives of the publication unpack. They are numbered over all folders in the
//! order given, and in each by name, shorter names first, so that 2 comes before 10. Links are refused, names that begin with a full stop
//! are left out.

mod actions;
mod episodes;
mod folder;

use std::path::PathBuf;

use serde_json::{Value, json};
use simulators::block_world::BlockWorldConfig;
use simulators::mnist_world::MnistWorldConfig;
use simulators::rng::Seed;

use super::ImportError;
use super::video::{Decoder, VideoError};
use crate::collect::env_columns;
use crate::dataset::{Codec, ColumnSpec, DatasetHeader, EpisodeBuffer, EpisodeSource, Length, Zstd};
use crate::env::EnvSpec;
use crate::registry::Task;
use crate::tasks::block_world::{self, BlockWorldEnv};
use crate::tasks::mnist_world::{self, MnistWorldEnv};
pub use actions::actions;
use episodes::{Episode, Folder};

/// Columns, in order.
const OBSERVATIONS: usize = 0;
const ACTIONS: usize = 1;
const TRUNCATIONS: usize = 4;

/// Which of the two worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Blockworld: `dynamic`, `static` and `tex`.
    Block,
    /// MNIST World: `dynamic_po` and its kin.
    Mnist,
}

/// How the files of an episode are called, after what is their own.
struct Endings {
    video: &'static str,
    actions: &'static str,
    /// Files that may be there too, and are left out.
    others: &'static [&'static str],
}

impl World {
    /// Name on the command line, that of its environment.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => BlockWorldEnv::ALIAS,
            Self::Mnist => MnistWorldEnv::ALIAS,
        }
    }

    /// What an environment of this world would show and take.
    fn spec(self, steps: usize) -> EnvSpec {
        let steps = steps as u32;
        match self {
            Self::Block => block_world::world_spec(BlockWorldEnv::ID, &BlockWorldConfig::default(), steps, Value::Null),
            Self::Mnist => mnist_world::world_spec(MnistWorldEnv::ID, &MnistWorldConfig::default(), steps, Value::Null),
        }
    }

    fn endings(self) -> Endings {
        match self {
            Self::Block => Endings {
                video: "_rgb.mp4",
                actions: "_actions.pt",
                others: &["_depth.pt", "_depth.mp4", "_map_2d.mp4", "_block_info.pt", "_debug.mp4"],
            },
            Self::Mnist => {
                Endings { video: ".mp4", actions: ".pt", others: &["_fullworld.mp4", "_fullworld_withcam.mp4"] }
            }
        }
    }
}

/// The episodes of some folders.
#[derive(Debug)]
pub struct Flowm {
    world: World,
    decoder: Decoder,
    folders: Vec<Folder>,
    episodes: Vec<Episode>,
    unread: Vec<String>,
    /// Frames of the longest episode.
    longest: usize,
    all_as_long: bool,
}

impl Flowm {
    /// The episodes in the folders `dirs`, of `world` or of the one that their names tell. All actions are read and checked now, videos
    /// later.
    ///
    /// # Errors
    /// When ffmpeg is missing; when a folder cannot be read, has anything else in it, or is there twice; when actions are missing, not
    /// understood, or outside the action space; or when there is no episode.
    pub fn open(dirs: &[PathBuf], world: Option<World>) -> Result<Self, ImportError> {
        let listed = dirs.iter().map(|dir| folder::listed(dir)).collect::<Result<Vec<_>, _>>()?.concat();
        let nothing = || {
            let expected = "expected folders with NNNN_rgb.mp4 and NNNN_actions.pt (Blockworld) or NNNN.mp4 and NNNN.pt \
                            (MNIST World), or folders of those";
            let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            ImportError::Nothing(format!("there is none in {}; {expected}", dirs.join(", ")))
        };
        let world = world.or_else(|| folder::world_of(&listed)).ok_or_else(nothing)?;
        let decoder = Decoder::find().map_err(ImportError::Decoder)?;
        let found = episodes::found(world, &listed)?;
        if found.episodes.is_empty() {
            return Err(nothing());
        }
        let longest = found.episodes.iter().map(Episode::frames).max().unwrap_or(0);
        let all_as_long = found.episodes.iter().all(|episode| episode.frames() == longest);
        let (folders, episodes, unread) = (found.folders, found.episodes, found.unread);
        Ok(Self { world, decoder, folders, episodes, unread, longest, all_as_long })
    }

    /// How many there are.
    #[must_use]
    pub fn episodes(&self) -> u64 {
        self.episodes.len() as u64
    }

    /// What is left out, each name once: endings of other files, and names beside `actions` in the files of actions.
    #[must_use]
    pub fn unread(&self) -> &[String] {
        &self.unread
    }

    fn read(&self, k: u64, episode: &mut EpisodeBuffer<'_>) -> Result<(), ImportError> {
        let found = &self.episodes[k as usize];
        let Endings { video, actions: ending, .. } = self.world.endings();
        let path = found.path(&self.folders, ending);
        let actions = actions(&path, self.world)?;
        let frames = found.frames();
        if actions.len() != frames * self.world.action_width() {
            let reason = format!("is not as long as it was: {frames} frames; has the file been replaced?");
            return Err(ImportError::Tensor { path, key: actions::KEY.to_owned(), reason });
        }
        match self.world {
            World::Block => {
                episode.rows_mut::<i64>(ACTIONS)[..frames - 1].copy_from_slice(&actions[..frames - 1]);
            }
            World::Mnist => {
                let moves = actions[2..].iter().map(|&pixels| pixels as i8);
                episode.rows_mut::<i8>(ACTIONS).iter_mut().zip(moves).for_each(|(to, pixels)| *to = pixels);
            }
        }
        self.decode(found.path(&self.folders, video), frames, episode)?;
        episode.row_mut::<u8>(TRUNCATIONS, frames - 2)[0] = 1;
        episode.set_steps(frames - 1);
        Ok(())
    }

    /// Writes the frames of the video at `path`, of which there must be `frames`.
    fn decode(&self, path: PathBuf, frames: usize, episode: &mut EpisodeBuffer<'_>) -> Result<(), ImportError> {
        let [height, width, channels] = self.world.frame();
        let mut rgb = vec![0; height * width * 3];
        let mut decode = || -> Result<usize, VideoError> {
            let mut video = self.decoder.open(&path, [height, width])?;
            for t in 0..frames {
                if !video.frame(&mut rgb)? {
                    return Ok(t);
                }
                let row = episode.row_mut::<u8>(OBSERVATIONS, t);
                if channels == 3 {
                    row.copy_from_slice(&rgb);
                } else {
                    row.iter_mut().zip(rgb.as_chunks().0).for_each(|(to, rgb)| *to = mean(*rgb));
                }
            }
            Ok(if video.frame(&mut rgb)? { frames + 1 } else { frames })
        };
        let decoded = decode().map_err(|source| ImportError::Video { path: path.clone(), source })?;
        if decoded == frames {
            return Ok(());
        }
        let has = if decoded > frames { format!("more than {frames} frames") } else { format!("{decoded} frames") };
        let reason = format!("has {has}, and {frames} actions beside it; every frame has one");
        Err(ImportError::Folder { path, reason })
    }
}

/// The mean of red, green and blue, rounded to the nearest.
fn mean(rgb: [u8; 3]) -> u8 {
    let sum: u16 = rgb.map(u16::from).iter().sum();
    ((sum + 1) / 3) as u8
}

impl EpisodeSource for Flowm {
    fn header(&self) -> DatasetHeader {
        let spec = self.world.spec(self.longest - 1);
        let folders: Vec<Value> = self.folders.iter().map(Folder::identity).collect();
        let decoder = format!("ffmpeg {}", self.decoder.version());
        let collector =
            json!({ "import": "flowm", "world": self.world.name(), "decoder": decoder, "folders": folders });
        DatasetHeader {
            env_version: spec.version(),
            env_id: spec.id,
            config: json!({ "collector": collector }),
            spaces: json!({ "observation": spec.observation, "action": spec.action }),
            fps: spec.fps,
            seed: Seed(0),
        }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        env_columns(&self.world.spec(self.longest - 1))
    }

    fn codec(&self) -> Codec {
        match self.world {
            World::Block => Codec::Zstd(Zstd::default()),
            World::Mnist => Codec::Raw,
        }
    }

    fn length(&self) -> Length {
        let steps = self.longest - 1;
        if self.all_as_long { Length::Fixed(steps) } else { Length::AtMost(steps) }
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        if let Err(error) = self.read(k, episode) {
            episode.fail(super::said_with_cause(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_is_the_mean_rounded_to_the_nearest() {
        for (rgb, grey) in [([0, 0, 0], 0), ([0, 0, 1], 0), ([0, 1, 1], 1), ([255; 3], 255), ([254, 255, 255], 255)] {
            assert_eq!(mean(rgb), grey, "{rgb:?}");
        }
    }
}
