//! The ground truth of Blockworld episodes, held against the world of the dataset before anything is made of it.

use std::ops::Range;

use envs::dataset::{ColumnSpec, Dataset, Dtype, Episode, Window};
use simulators::block_world::{Agent, BlockWorldConfig, COLOURS, Kind, Pose};

use super::EvaluateError;

/// Columns of ground truth, by name.
pub(super) mod column {
    /// `[T+1, 3]`, the agent's `x`, `z` and heading.
    pub const CAMERA: &str = "truth.camera";
    /// `[T+1, N, 7]`, middles and quaternions.
    pub const POSES: &str = "truth.poses";
    /// `[N]`, 0 nothing, 1 box, 2 ball.
    pub const KINDS: &str = "truth.kinds";
    /// `[N]`, of the palette.
    pub const COLOURS: &str = "truth.colours";
    /// `[T+1, image, image]`, 0 the room, `i + 1` the i-th thing.
    pub const ENTITY: &str = "truth.entity";
    /// `[T+1, image, image]`, mm along the agent's axis.
    pub const DEPTH: &str = "truth.depth";
}

/// Whose ground truth this is.
pub(super) struct BlockTruth<'a> {
    dataset: &'a Dataset,
    pub world: BlockWorldConfig,
}

/// What was where in the frames of a window. `N` is the most things that there may be.
pub(super) struct Told {
    /// `[N]`; `None` where there is no such thing.
    pub kinds: Vec<Option<Kind>>,
    /// `[frames]`.
    pub agents: Vec<Agent>,
    /// `[frames, N]`.
    pub poses: Vec<Pose>,
    /// `[frames, image, image]`.
    pub entity: Vec<u8>,
}

/// Whether a dataset is of Blockworld.
pub(super) fn is_of(dataset: &Dataset) -> bool {
    dataset.description().source.env_id.starts_with("BlockWorld-")
}

/// Those of `columns` that a dataset does not have.
pub(super) fn missing(dataset: &Dataset, columns: &[&'static str]) -> Vec<&'static str> {
    let has = |name: &str| dataset.columns().iter().any(|column| column.name == name);
    columns.iter().copied().filter(|name| !has(name)).collect()
}

impl<'a> BlockTruth<'a> {
    /// The ground truth of a dataset of Blockworld that has all of `columns`.
    ///
    /// # Errors
    /// If one of them is not what Blockworld's collector records, or the dataset does not say what its world is.
    pub fn of(dataset: &'a Dataset, columns: &[&'static str]) -> Result<Self, EvaluateError> {
        let refused = |value: String, allowed: String| {
            let (dataset, field) = (dataset.dir().to_owned(), "source.config.env.world");
            EvaluateError::Refused { dataset, field, value, allowed }
        };
        let config = dataset.description().source.config.pointer("/env/world");
        let config = config.ok_or_else(|| refused("missing".to_owned(), "a Blockworld".to_owned()))?;
        let world: BlockWorldConfig = serde_json::from_value(config.clone())
            .map_err(|error| refused(config.to_string(), format!("a Blockworld ({error})")))?;
        world.validate().map_err(|error| refused(config.to_string(), error.to_string()))?;
        let (n, side) = (usize::from(world.most), world.image);
        for expected in [
            ColumnSpec::observations(column::CAMERA, Dtype::F32, &[3]),
            ColumnSpec::observations(column::POSES, Dtype::F32, &[n, 7]),
            ColumnSpec::episode(column::KINDS, Dtype::U8, &[n]),
            ColumnSpec::episode(column::COLOURS, Dtype::U8, &[n]),
            ColumnSpec::observations(column::ENTITY, Dtype::U8, &[side, side]),
            ColumnSpec::observations(column::DEPTH, Dtype::U16, &[side, side]),
        ] {
            if !columns.contains(&expected.name.as_str()) {
                continue;
            }
            let found = &dataset.columns()[dataset.column_index(&expected.name)?];
            if *found != expected {
                let words = |spec: &ColumnSpec| {
                    format!("{} {:?} for each of the {:?}", spec.dtype.name(), spec.shape, spec.follows)
                };
                return Err(EvaluateError::Column {
                    dataset: dataset.dir().to_owned(),
                    column: expected.name.clone(),
                    found: words(found),
                    expected: words(&expected),
                });
            }
        }
        Ok(Self { dataset, world })
    }

    /// What was where in the first `frames` frames of a window.
    ///
    /// # Errors
    /// If rows cannot be read, or say what cannot be in this world.
    pub fn told(&self, window: Window, frames: usize) -> Result<Told, EvaluateError> {
        let episode = self.episode(window);
        let rows = window.start..window.start + frames;
        let kinds = self.kinds(&episode)?;
        let agents = self.agents(&episode, rows.clone())?;
        let poses = self.poses(&episode, rows.clone(), &kinds)?;
        let entity = self.bytes(&episode, column::ENTITY, rows)?;
        let is_there = |id: u8| id == 0 || kinds.get(usize::from(id) - 1).is_some_and(Option::is_some);
        if let Some(id) = entity.iter().find(|&&id| !is_there(id)) {
            return Err(wrong(&episode, column::ENTITY, format!("thing {id}, which the episode does not have")));
        }
        Ok(Told { kinds, agents, poses, entity })
    }

    /// Which colour of the palette each thing has, `[N]`.
    ///
    /// # Errors
    /// If rows cannot be read, or name a colour that there is none of.
    pub fn colours(&self, window: Window) -> Result<Vec<usize>, EvaluateError> {
        let episode = self.episode(window);
        let colours = self.bytes(&episode, column::COLOURS, 0..1)?;
        match colours.iter().find(|&&colour| usize::from(colour) >= COLOURS.len()) {
            Some(colour) => {
                let problem = format!("colour {colour}, of {} that there are", COLOURS.len());
                Err(wrong(&episode, column::COLOURS, problem))
            }
            None => Ok(colours.into_iter().map(usize::from).collect()),
        }
    }

    /// How far the pixels of `rows` are, m along the agent's axis: `[rows, image, image]`.
    ///
    /// # Errors
    /// If rows cannot be read.
    pub fn depths(&self, window: Window, rows: Range<usize>) -> Result<Vec<f32>, EvaluateError> {
        let bytes = self.bytes(&self.episode(window), column::DEPTH, rows)?;
        Ok(bytes.as_chunks().0.iter().map(|mm| f32::from(u16::from_le_bytes(*mm)) / 1000.0).collect())
    }

    /// The number of a window's episode.
    pub fn number(&self, window: Window) -> u64 {
        self.episode(window).number()
    }

    fn episode(&self, window: Window) -> Episode<'a> {
        self.dataset.episode(window.episode).expect("a window of this dataset")
    }

    fn bytes(&self, episode: &Episode<'_>, column: &'static str, rows: Range<usize>) -> Result<Vec<u8>, EvaluateError> {
        let number = self.dataset.column_index(column)?;
        let spec = &self.dataset.columns()[number];
        let mut bytes = vec![0; rows.len() * spec.row_bytes()];
        episode.read(number, rows.clone(), &mut bytes)?;
        match spec.first_not_finite(&bytes) {
            Some((row, value)) => {
                Err(wrong(episode, column, format!("{value} at frame {}, not a finite number", rows.start + row)))
            }
            None => Ok(bytes),
        }
    }

    fn kinds(&self, episode: &Episode<'_>) -> Result<Vec<Option<Kind>>, EvaluateError> {
        let kind = |number: u8| match number {
            0 => Ok(None),
            1 => Ok(Some(Kind::Box)),
            2 => Ok(Some(Kind::Ball)),
            other => Err(wrong(episode, column::KINDS, format!("kind {other}, not 0, 1 or 2"))),
        };
        self.bytes(episode, column::KINDS, 0..1)?.into_iter().map(kind).collect()
    }

    fn agents(&self, episode: &Episode<'_>, rows: Range<usize>) -> Result<Vec<Agent>, EvaluateError> {
        let bytes = self.bytes(episode, column::CAMERA, rows.clone())?;
        let side = f32::from(self.world.room);
        let agent = |(row, &[x, z, heading]): (usize, &[f32; 3])| {
            let inside = [x, z].iter().all(|&at| at > 0.0 && at < side);
            if !inside || heading.fract() != 0.0 || !(0.0..360.0).contains(&heading) {
                let problem = format!("{:?} at frame {row}, not in a room of {side} m", [x, z, heading]);
                return Err(wrong(episode, column::CAMERA, problem));
            }
            Ok(Agent { place: [x, z], heading: heading as u16 })
        };
        rows.zip(floats(&bytes).as_chunks().0).map(agent).collect()
    }

    fn poses(
        &self,
        episode: &Episode<'_>,
        rows: Range<usize>,
        kinds: &[Option<Kind>],
    ) -> Result<Vec<Pose>, EvaluateError> {
        let bytes = self.bytes(episode, column::POSES, rows.clone())?;
        let each = rows.flat_map(|row| kinds.iter().map(move |kind| (row, kind.is_some())));
        let pose = |((row, there), &[x, y, z, a, b, c, d]): ((usize, bool), &[f32; 7])| {
            let turn = [a, b, c, d];
            let length: f32 = turn.iter().map(|part| part * part).sum();
            if there && (length - 1.0).abs() > 1e-2 {
                let problem = format!("a turn of {turn:?} at frame {row}, not a quaternion of length one");
                return Err(wrong(episode, column::POSES, problem));
            }
            Ok(Pose { place: [x, y, z], turn })
        };
        each.zip(floats(&bytes).as_chunks().0).map(pose).collect()
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// What an episode says cannot be in its world.
pub(super) fn wrong(episode: &Episode<'_>, column: &'static str, problem: String) -> EvaluateError {
    EvaluateError::Truth { episode: episode.number(), column, problem }
}
