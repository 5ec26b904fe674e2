//! Dataset windows as model inputs: bytes of a dataset become a [`Clip`], one upload each.

use std::fmt;
use std::path::PathBuf;

use envs::dataset::{Clips, Dataset, DatasetError, Dtype, Follows, Window};
use envs::space::Space;
use tch::{Device, Kind, Tensor};

use crate::belief::Clip;

/// What an action is, to a model and in a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actions {
    /// So many numbers.
    Vector(i64),
    /// One of so many choices. In a clip it is as many numbers: one where it was chosen, zero elsewhere.
    Choice(i64),
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vector(numbers) => write!(f, "{numbers} numbers"),
            Self::Choice(choices) => write!(f, "one of {choices} choices"),
        }
    }
}

/// More choices than any action space has for a model here.
const MOST_CHOICES: i64 = 1024;

impl Actions {
    /// Those of a dataset, if it has any.
    #[must_use]
    pub fn of(dataset: &Dataset) -> Option<Self> {
        let column = dataset.columns().iter().find(|column| column.name == "actions")?;
        let numbers = column.row_len();
        let space = dataset.description().source.spaces.get("action").cloned();
        match space.and_then(|space| serde_json::from_value(space).ok()) {
            Some(Space::Discrete { n })
                if column.dtype == Dtype::I64 && numbers == 1 && (1..=MOST_CHOICES).contains(&n) =>
            {
                Some(Self::Choice(n))
            }
            _ => Some(Self::Vector(numbers as i64)),
        }
    }

    /// Those of an env whose actions are of this space.
    #[must_use]
    pub fn of_space(space: &Space) -> Self {
        match space {
            Space::Discrete { n } => Self::Choice(*n),
            _ => Self::Vector(space.size() as i64),
        }
    }
}

/// Gathers batches of windows and turns them into clips on a device.
pub struct ClipLoader {
    clips: Clips,
    /// `[H, W, C]`.
    frame: [i64; 3],
    actions_are: Actions,
    action_kind: Kind,
    device: Device,
    observations: Vec<u8>,
    actions: Vec<u8>,
}

/// A dataset that no model here can take.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// Its rows cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A column of another kind.
    #[error("column `{column}` is {found}, a world model takes {expected}")]
    Column {
        /// Its name.
        column: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A recorded number that nothing can be learned from, nor be predicted with. Our own writer refuses them.
    #[error("{}: episode {episode}: column `{column}` is {value} at step {step}, not a finite number", dataset.display())]
    NotFinite {
        /// The dataset.
        dataset: PathBuf,
        /// Number of the episode.
        episode: u64,
        /// The column.
        column: &'static str,
        /// Its row in the episode.
        step: usize,
        /// What stands there.
        value: f64,
    },
    /// A recorded choice that there is none of.
    #[error("{}: episode {episode}: column `actions` is {value} at step {step}, not one of 0..{choices}", dataset.display())]
    Choice {
        /// The dataset.
        dataset: PathBuf,
        /// Number of the episode.
        episode: u64,
        /// Its row in the episode.
        step: usize,
        /// What stands there.
        value: i64,
        /// How many choices there are.
        choices: i64,
    },
}

impl ClipLoader {
    /// A loader of the windows of `clips` onto `device`.
    ///
    /// # Errors
    /// If observations are not `u8 [H, W, C]`, T + 1 to an episode, or actions not a vector of numbers, T to an episode.
    ///
    /// # Panics
    /// Never: clips have both columns.
    pub fn new(clips: Clips, device: Device) -> Result<Self, ClipError> {
        let column = |name: &'static str| {
            clips.dataset().columns().iter().find(|c| c.name == name).expect("clips have both columns")
        };
        let (observations, actions) = (column("observations"), column("actions"));
        let frame = match (observations.dtype, observations.shape.as_slice()) {
            (Dtype::U8, [height, width, colours]) => [*height as i64, *width as i64, *colours as i64],
            (dtype, shape) => {
                let found = format!("{} {shape:?}", dtype.name());
                return Err(ClipError::Column {
                    column: "observations",
                    found,
                    expected: "u8 [height, width, channels]",
                });
            }
        };
        for (column, name, follows, expected) in [
            (observations, "observations", Follows::Observations, "one for every observation"),
            (actions, "actions", Follows::Steps, "one for every step"),
        ] {
            if column.follows != follows {
                let found = format!("one for every row of `{:?}`", column.follows).to_lowercase();
                return Err(ClipError::Column { column: name, found, expected });
            }
        }
        let action_kind = match actions.dtype {
            Dtype::I8 => Kind::Int8,
            Dtype::I16 => Kind::Int16,
            Dtype::I64 => Kind::Int64,
            Dtype::F32 => Kind::Float,
            dtype => {
                let found = dtype.name().to_owned();
                return Err(ClipError::Column { column: "actions", found, expected: "i8, i16, i64 or f32" });
            }
        };
        let actions_are = Actions::of(clips.dataset()).expect("clips have both columns");
        Ok(Self { clips, frame, actions_are, action_kind, device, observations: Vec::new(), actions: Vec::new() })
    }

    /// The windows.
    #[must_use]
    pub fn clips(&self) -> &Clips {
        &self.clips
    }

    /// `[H, W, C]` of a frame.
    #[must_use]
    pub fn frame(&self) -> [i64; 3] {
        self.frame
    }

    /// The training batch that starts at draw `first`: `batch` clips, `context` frames of each to be seen.
    ///
    /// # Errors
    /// As [`ClipLoader::load`].
    pub fn draw(&mut self, first: u64, batch: usize, context: i64) -> Result<Clip, ClipError> {
        let windows = self.clips.draws(first, batch);
        self.load(&windows, context)
    }

    /// The clips of `windows`.
    ///
    /// A dataset pairs an action with the observation *before* it; here an action stands with the frame it led *to*, and
    /// the first is zero. A choice becomes as many numbers as there are choices.
    ///
    /// # Errors
    /// Naming the first action that is not finite or not one of the choices, or rows that are packed and damaged.
    pub fn load(&mut self, windows: &[Window], context: i64) -> Result<Clip, ClipError> {
        self.clips.batch(windows, &mut self.observations, &mut self.actions)?;
        self.check_actions(windows)?;
        let (b, t) = (windows.len() as i64, self.clips.frames() as i64);
        let [height, width, colours] = self.frame;
        let frames = Tensor::from_data_size(&self.observations, &[b, t, height, width, colours], Kind::Uint8)
            .to_device(self.device)
            .permute([0, 1, 4, 2, 3])
            .to_kind(Kind::Float)
            / 255.0;
        let actions = match self.actions_are {
            Actions::Vector(numbers) => Tensor::from_data_size(&self.actions, &[b, t - 1, numbers], self.action_kind),
            Actions::Choice(n) => Tensor::from_data_size(&self.actions, &[b, t - 1], self.action_kind).one_hot(n),
        };
        let actions = actions.to_device(self.device).to_kind(Kind::Float);
        let actions = Tensor::cat(&[&actions.zeros_like().slice(1, 0, 1, 1), &actions], 1);
        Ok(Clip { frames: frames.contiguous(), actions, context })
    }

    /// A model may turn a NaN into an ordinary number (FloWM moves by whole pixels), so none gets that far.
    fn check_actions(&self, windows: &[Window]) -> Result<(), ClipError> {
        let dataset = self.clips.dataset();
        let column = dataset.columns().iter().find(|column| column.name == "actions").expect("clips have actions");
        let steps = self.clips.frames() - 1;
        let place = |row: usize| {
            let window = windows[row / steps];
            let episode = dataset.episode(window.episode).expect("a window of this dataset").number();
            (dataset.dir().to_owned(), episode, window.start + row % steps)
        };
        if let Some((row, value)) = column.first_not_finite(&self.actions) {
            let (dataset, episode, step) = place(row);
            return Err(ClipError::NotFinite { dataset, episode, column: "actions", step, value });
        }
        if let Actions::Choice(choices) = self.actions_are {
            let values = self.actions.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
            if let Some((row, value)) = values.enumerate().find(|(_, value)| !(0..choices).contains(value)) {
                let (dataset, episode, step) = place(row);
                return Err(ClipError::Choice { dataset, episode, step, value, choices });
            }
        }
        Ok(())
    }
}
