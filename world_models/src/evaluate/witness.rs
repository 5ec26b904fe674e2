//! Who saw what when: the ground truth of recall, of every kind of world that has it. Another kind says here how to read its own.

use envs::dataset::{Dataset, Episode, Window};
use simulators::block_world;
use simulators::mnist_world::{self, MnistWorldConfig};

use super::EvaluateError;
use super::block_world::{BlockTruth, Told, column, is_of, missing};

/// What was last seen when, per pixel of the predicted frames of one clip.
pub(super) struct Seen {
    /// `[horizon, H, W]`: frame of the clip, negative for never.
    pub last_seen: Vec<i32>,
    /// `[horizon, H, W]`: 0 for the background.
    pub entity: Vec<u8>,
}

/// Reads the ground truth of one kind of world.
pub(super) trait Witness: Sync {
    /// Watches the `context` first frames of a window of `frames`, then asks of every later pixel when its point was last seen.
    fn watch(&self, window: Window, context: usize, frames: usize) -> Result<Seen, EvaluateError>;
}

/// A witness, where the dataset has the columns that recall needs.
///
/// # Errors
/// If it has them, and they are not those of its world.
pub(super) fn witness(dataset: &Dataset) -> Result<Option<Box<dyn Witness + '_>>, EvaluateError> {
    if let Some(witness) = OfMnistWorld::of(dataset) {
        return Ok(Some(Box::new(witness)));
    }
    let columns = [column::CAMERA, column::POSES, column::KINDS, column::ENTITY, column::DEPTH];
    if !is_of(dataset) || !missing(dataset, &columns).is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(OfBlockWorld(BlockTruth::of(dataset, &columns)?))))
}

/// Points of walls, floor and ceiling, and of things, which move.
struct OfBlockWorld<'a>(BlockTruth<'a>);

impl Witness for OfBlockWorld<'_> {
    fn watch(&self, window: Window, context: usize, frames: usize) -> Result<Seen, EvaluateError> {
        let Told { kinds, agents, poses, entity } = self.0.told(window, frames)?;
        let pixels = self.0.world.image.pow(2);
        let depths = self.0.depths(window, window.start + context..window.start + frames)?;
        let mut sightings = block_world::Sightings::new(&self.0.world, &kinds);
        let of = |t: usize| (agents[t], &poses[t * kinds.len()..][..kinds.len()], &entity[t * pixels..][..pixels]);
        for t in 0..context {
            let (agent, poses, ids) = of(t);
            sightings.observe(t as i32, agent, poses, ids);
        }
        let mut last_seen = vec![-1; (frames - context) * pixels];
        let predicted = last_seen.chunks_exact_mut(pixels).zip(depths.chunks_exact(pixels));
        for (t, (out, depth)) in (context..).zip(predicted) {
            let (agent, poses, ids) = of(t);
            sightings.last_seen(agent, poses, ids, depth, out).map_err(|misplaced| {
                let problem = format!("frame {}: {misplaced}", window.start + t);
                EvaluateError::Truth { episode: self.0.number(window), column: column::DEPTH, problem }
            })?;
        }
        Ok(Seen { last_seen, entity: entity[context * pixels..].to_vec() })
    }
}

/// Points of the torus, and of digits, which move.
struct OfMnistWorld<'a> {
    dataset: &'a Dataset,
    world: MnistWorldConfig,
}

impl<'a> OfMnistWorld<'a> {
    fn of(dataset: &'a Dataset) -> Option<Self> {
        let source = &dataset.description().source;
        if !source.env_id.starts_with("MnistWorld-")
            || !missing(dataset, &["truth.camera", "truth.positions", "truth.entity"]).is_empty()
        {
            return None;
        }
        let world = serde_json::from_value(source.config.pointer("/env/world")?.clone()).ok()?;
        Some(Self { dataset, world })
    }
}

impl Witness for OfMnistWorld<'_> {
    fn watch(&self, window: Window, context: usize, frames: usize) -> Result<Seen, EvaluateError> {
        let episode = self.dataset.episode(window.episode).expect("a window of this dataset");
        let (w, digits) = (self.world.window, self.world.digits);
        let wrong = |column, problem: String| EvaluateError::Truth { episode: episode.number(), column, problem };
        let camera = episode.column::<i16>("truth.camera")?;
        let camera = pairs(&episode, "truth.camera", &camera, 1)?;
        let positions = episode.column::<i16>("truth.positions")?;
        let positions = pairs(&episode, "truth.positions", &positions, digits)?;
        let entity = episode.column::<u8>("truth.entity")?;
        if entity.len() != episode.frames() * w * w {
            return Err(wrong("truth.entity", format!("{} values an episode, not {w} x {w} a frame", entity.len())));
        }
        let side = self.world.world as i16;
        let inside = |xy: &[i16; 2]| xy.iter().all(|x| (0..side).contains(x));
        for (column, places) in [("truth.camera", camera), ("truth.positions", positions)] {
            if let Some(outside) = places.iter().find(|xy| !inside(xy)) {
                return Err(wrong(column, format!("{outside:?} lies outside the torus of {side}")));
            }
        }
        let mut sightings = mnist_world::Sightings::new(&self.world);
        let mut seen = Seen { last_seen: vec![-1; (frames - context) * w * w], entity: Vec::new() };
        for t in 0..frames {
            let at = window.start + t;
            let (camera, positions) = (camera[at], &positions[at * digits..][..digits]);
            if t < context {
                sightings.observe(t as i32, camera, positions);
                continue;
            }
            let mask = &entity[at * w * w..][..w * w];
            if let Some(unknown) = mask.iter().find(|id| usize::from(**id) > digits) {
                return Err(wrong("truth.entity", format!("entity {unknown}, but there are {digits} digits")));
            }
            let out = &mut seen.last_seen[(t - context) * w * w..][..w * w];
            sightings.last_seen(camera, positions, mask, out);
            seen.entity.extend_from_slice(mask);
        }
        Ok(seen)
    }
}

/// The values of a column as `(x, y)` pairs, `per_row` of them in each row.
fn pairs<'a>(
    episode: &Episode<'_>,
    column: &'static str,
    values: &'a [i16],
    per_row: usize,
) -> Result<&'a [[i16; 2]], EvaluateError> {
    let (pairs, rest) = values.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != episode.frames() * per_row {
        let problem = format!("{} pairs, not {per_row} a frame", pairs.len());
        return Err(EvaluateError::Truth { episode: episode.number(), column, problem });
    }
    Ok(pairs)
}
