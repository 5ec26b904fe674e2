//! What becomes of observations before a trained actor has them: moments, latents or a belief; and of what it does not look at.

use std::ops::Range;

use envs::buffer::Buffer;
use tch::{Kind, Tensor};
use world_models::belief::{Belief, WorldModel};
use world_models::dream::ActionScale;
use world_models::latent::Ready;

use crate::actor::Normaliser;
use crate::dreamer::{awake, frames};
use crate::moments::Moments;

/// Rows that networks take at a time. Always so many, so that no row's last bits depend on how many others there are.
pub(crate) const ROWS: usize = 64;

/// Of each row of a chunk of [`ROWS`] rows or fewer.
pub(crate) struct Look {
    /// Whether its episode begins.
    pub begins: Vec<bool>,
    /// Whether it looks; it imagines otherwise.
    pub looks: Vec<bool>,
}

/// What an actor sees by.
pub(crate) enum Eyes {
    /// Observations are centred and scaled.
    Normaliser(Normaliser),
    /// They become latents.
    Latents {
        model: Box<Ready>,
        /// Of each chunk, `[ROWS, L]`, and what was done there, `[ROWS, A]`.
        chunks: Vec<[Tensor; 2]>,
        actions: i64,
    },
    /// They go into a belief.
    Belief {
        mind: Box<dyn WorldModel>,
        scale: ActionScale,
        frame: [i64; 2],
        /// Of each chunk, and what was done there, `[ROWS, A]`.
        chunks: Vec<(Belief, Tensor)>,
        actions: i64,
    },
}

/// `rows` of `[N, O]` floats, and zeros up to [`ROWS`].
fn padded(obs: &Buffer, rows: &Range<usize>, width: usize) -> Option<Tensor> {
    let mut padded = vec![0.0f32; ROWS * width];
    padded[..rows.len() * width].copy_from_slice(&obs.get::<f32>()?[rows.start * width..rows.end * width]);
    // What an episode that is over has shown need not be a number.
    padded.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 0.0);
    Some(Tensor::from_slice(&padded).view([ROWS as i64, width as i64]))
}

/// `[ROWS]`; rows that are not there are as one that does nothing new.
fn mask(rows: &[bool]) -> Tensor {
    let mut all = vec![false; ROWS];
    all[..rows.len()].copy_from_slice(rows);
    Tensor::from_slice(&all)
}

impl Eyes {
    pub fn normaliser(moments: Option<&Moments>) -> Self {
        Self::Normaliser(Normaliser::new(moments))
    }

    pub fn latents(model: Ready, actions: i64) -> Self {
        Self::Latents { model: Box::new(model), chunks: Vec::new(), actions }
    }

    pub fn belief(mind: Box<dyn WorldModel>, scale: ActionScale, frame: [i64; 2], actions: i64) -> Self {
        Self::Belief { mind, scale, frame, chunks: Vec::new(), actions }
    }

    /// What the actor is given of `rows` of observations `[N, O]` of `width` numbers, `[ROWS, in]`; none, if they are of another kind.
    /// Chunks come in their order, each once a step.
    pub fn see(
        &mut self,
        chunk: usize,
        obs: &Buffer,
        (rows, width): (Range<usize>, usize),
        look: &Look,
    ) -> Option<Tensor> {
        let still = |actions: i64| Tensor::zeros([ROWS as i64, actions], (Kind::Float, tch::Device::Cpu));
        match self {
            Self::Normaliser(normaliser) => Some(normaliser.apply(&padded(obs, &rows, width)?)),
            Self::Latents { model, chunks, actions } => {
                let seen = model.encode(&padded(obs, &rows, width)?);
                if chunk == chunks.len() {
                    chunks.push([seen.shallow_clone(), still(*actions)]);
                }
                let [latents, done] = &chunks[chunk];
                let now = if look.looks.contains(&false) {
                    let imagined = model.dynamics.step(latents, done).0;
                    seen.where_self(&mask(&look.looks).unsqueeze(1), &imagined)
                } else {
                    seen
                };
                let shown = model.shown(&now).0;
                chunks[chunk][0] = now;
                Some(shown)
            }
            Self::Belief { mind, frame, chunks, actions, .. } => tch::no_grad(|| {
                let mut padded = vec![0u8; ROWS * width];
                let own = rows.start * width..rows.end * width;
                padded[..own.len()].copy_from_slice(&obs.get::<u8>()?[own]);
                let pictures = frames(&padded, *frame);
                if chunk == chunks.len() {
                    chunks.push((mind.start(ROWS as i64), still(*actions)));
                }
                let (belief, done) = &chunks[chunk];
                let mut now = mind.observe(belief, done, &pictures);
                if look.looks.contains(&false) {
                    now = mind.imagine(belief, done).with_rows_of(&now, &mask(&look.looks));
                }
                if look.begins.contains(&true) {
                    let anew = awake(mind.as_ref(), &pictures, *actions as usize);
                    now = now.with_rows_of(&anew, &mask(&look.begins));
                }
                let features = mind.features(&now);
                chunks[chunk].0 = now;
                Some(features)
            }),
        }
    }

    /// The env's actions `[ROWS, A]` for those of the actor, which are remembered.
    pub fn act(&mut self, chunk: usize, actions: &Tensor) -> Tensor {
        match self {
            Self::Normaliser(_) => actions.shallow_clone(),
            Self::Latents { chunks, .. } => {
                chunks[chunk][1] = actions.shallow_clone();
                actions.shallow_clone()
            }
            Self::Belief { scale, chunks, .. } => {
                let actions = scale.apply(actions);
                chunks[chunk].1 = actions.shallow_clone();
                actions
            }
        }
    }
}
