//! Dataset windows as model inputs: bytes of a dataset become a [`Clip`], one upload each.

use envs::dataset::{Clips, Dtype, Window};
use tch::{Device, Kind, Tensor};

use crate::belief::Clip;

/// Gathers batches of windows and turns them into clips on a device.
pub struct ClipLoader {
    clips: Clips,
    /// `[H, W, C]`.
    frame: [i64; 3],
    action_dim: i64,
    action_kind: Kind,
    device: Device,
    observations: Vec<u8>,
    actions: Vec<u8>,
}

/// A dataset whose columns no model here can take.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}` is {found}, a world model takes {expected}")]
pub struct ColumnError {
    column: &'static str,
    found: String,
    expected: &'static str,
}

impl ClipLoader {
    /// A loader of the windows of `clips` onto `device`.
    ///
    /// # Errors
    /// If observations are not `u8 [H, W, C]`, or actions not a vector of numbers.
    ///
    /// # Panics
    /// Never: clips have both columns.
    pub fn new(clips: Clips, device: Device) -> Result<Self, ColumnError> {
        let column = |name: &'static str| {
            clips.dataset().columns().iter().find(|c| c.name == name).expect("clips have both columns")
        };
        let (observations, actions) = (column("observations"), column("actions"));
        let frame = match (observations.dtype, observations.shape.as_slice()) {
            (Dtype::U8, [height, width, colours]) => [*height as i64, *width as i64, *colours as i64],
            (dtype, shape) => {
                let found = format!("{} {shape:?}", dtype.name());
                return Err(ColumnError { column: "observations", found, expected: "u8 [height, width, channels]" });
            }
        };
        let action_kind = match actions.dtype {
            Dtype::I8 => Kind::Int8,
            Dtype::I16 => Kind::Int16,
            Dtype::I64 => Kind::Int64,
            Dtype::F32 => Kind::Float,
            dtype => {
                let found = dtype.name().to_owned();
                return Err(ColumnError { column: "actions", found, expected: "i8, i16, i64 or f32" });
            }
        };
        let action_dim = actions.row_len() as i64;
        Ok(Self { clips, frame, action_dim, action_kind, device, observations: Vec::new(), actions: Vec::new() })
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
    pub fn draw(&mut self, first: u64, batch: usize, context: i64) -> Clip {
        let windows = self.clips.draws(first, batch);
        self.load(&windows, context)
    }

    /// The clips of `windows`.
    ///
    /// A dataset pairs an action with the observation *before* it; here an action stands with the frame it led *to*, and
    /// the first is zero.
    pub fn load(&mut self, windows: &[Window], context: i64) -> Clip {
        self.clips.batch(windows, &mut self.observations, &mut self.actions);
        let (b, t) = (windows.len() as i64, self.clips.frames() as i64);
        let [height, width, colours] = self.frame;
        let frames = Tensor::from_data_size(&self.observations, &[b, t, height, width, colours], Kind::Uint8)
            .to_device(self.device)
            .permute([0, 1, 4, 2, 3])
            .to_kind(Kind::Float)
            / 255.0;
        let actions = Tensor::from_data_size(&self.actions, &[b, t - 1, self.action_dim], self.action_kind)
            .to_device(self.device)
            .to_kind(Kind::Float);
        let actions = Tensor::cat(&[&actions.zeros_like().slice(1, 0, 1, 1), &actions], 1);
        Clip { frames: frames.contiguous(), actions, context }
    }
}
