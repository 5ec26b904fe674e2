//! FloWM 3D as a [`WorldModel`]: the map, its weights, and one step of it in ordinary tensor operations.
//!
//! Shapes: `B` batch, `V` velocity channels, `S` side of the map, `n` cells in view, `P` image tokens, `D` features. Maps are
//! `[B, V, S, S, D]`, the agent in the middle and looking along the columns ([`super::geometry`]).
//!
//! A step is, in this order: blocks flow and the agent moves (one gather), channels are mixed, what is in view is drawn (if the
//! eyes are shut), what is seen is written where it is in view.

use simulators::rng::{Purpose, Rng, Seed, stream};
use tch::{Device, Kind, Tensor, nn};

use super::config::Flowm3dConfig;
use super::geometry::{self, ACTIONS, FORWARD, MOTIONS, STILL};
use super::layers::{Block, Linear, Maker, Norm, ReadingBlock};
use super::mixing::{Mix, Mixer};
use super::unroll;
use crate::belief::{Belief, Clip, WorldModel};
use crate::by_hand::inject;
use crate::raw::slice;

/// Names of the parts of a belief.
pub mod part {
    /// `[B, V, S, S, D]`, the map in the agent's frame.
    pub const MAP: &str = "map";
    /// `[B, channels, w, w]`, the frame last seen or predicted.
    pub const FRAME: &str = "frame";
}

/// The model; see the folder's documentation.
#[derive(Debug)]
pub struct Flowm3d {
    pub(super) config: Flowm3dConfig,
    mixing: Option<Mix>,
    writer: Writer,
    reader: Reader,
    tables: Tables,
}

/// What writes into the map.
#[derive(Debug)]
struct Writer {
    patches: Linear,
    blocks: Vec<Block>,
    norm: Norm,
    gate: Linear,
    /// `[5, D]`, where the map is not moved by the action.
    action: Option<Tensor>,
    /// `[V, D]`, where tokens say which velocity they have.
    velocities: Option<Tensor>,
    weights: Vec<Tensor>,
}

/// What draws the map.
#[derive(Debug)]
struct Reader {
    /// `[1, 1, D]`.
    token: Tensor,
    blocks: Vec<ReadingBlock>,
    norm: Norm,
    pixels: Linear,
    weights: Vec<Tensor>,
}

/// What follows from the configuration alone.
#[derive(Debug)]
struct Tables {
    /// `[5, V S S]`, where the content of each place comes from, by action.
    sources: Tensor,
    /// The same, for whoever works in memory.
    places: [Vec<u32>; ACTIONS as usize],
    /// `[5, V S S]`, where it goes to.
    targets: Tensor,
    /// `[n]`, the cells in view.
    cells: Tensor,
    /// `[n, D]`, the positions of the cells in view.
    of_cells: Tensor,
    /// `[P, D]`, the positions of image tokens.
    of_patches: Tensor,
    sight: Option<Sight>,
}

/// What attention is biased by, where it begins along lines of sight. Shapes are `[1, heads, from, to]`, `T` all tokens of writing.
#[derive(Debug)]
struct Sight {
    /// `T` to `T`.
    writing: Tensor,
    /// Image tokens to image tokens.
    drawing: Tensor,
    /// Image tokens to cells in view.
    reading: Tensor,
}

impl Sight {
    fn new(config: &Flowm3dConfig, device: Device) -> Self {
        let grid = config.window / config.patch;
        let cells = geometry::sights(config.map_side, &config.in_view(), grid, config.field_of_view);
        let patches: Vec<[f64; 2]> =
            (0..grid * grid).map(|patch| [(patch / grid) as f64, (patch % grid) as f64]).collect();
        let bias = |from: &[[f64; 2]], to: &[[f64; 2]]| {
            let values = geometry::nearness(from, to, config.heads, config.sight);
            let shape = [1, config.heads, from.len() as i64, to.len() as i64];
            Tensor::from_slice(&values).view(shape).to_kind(config.precision.kind()).to_device(device)
        };
        let seen = [cells.repeat(config.channels() as usize), patches.clone()].concat();
        let mut writing = bias(&seen, &seen);
        if !config.self_motion {
            // The token of the action is nowhere, and as near to all.
            writing = writing.constant_pad_nd([0, 1, 0, 1]);
        }
        Self { writing, drawing: bias(&patches, &patches), reading: bias(&patches, &cells) }
    }
}

impl Tables {
    fn new(config: &Flowm3dConfig, device: Device) -> Self {
        let (side, d) = (config.map_side, config.hidden);
        let sources = MOTIONS.map(|motion| geometry::sources(side, config.velocities(), motion));
        let targets: Vec<i64> = sources.iter().flat_map(|sources| geometry::inverse(sources)).collect();
        let table = |places: &[i64]| Tensor::from_slice(places).view([ACTIONS, -1]).to_device(device);
        let codes = |side: i64| Tensor::from_slice(&geometry::positions(side, d)).view([-1, d]).to_device(device);
        let cells = Tensor::from_slice(&config.in_view()).to_device(device);
        Self {
            sources: table(&sources.concat()),
            places: sources.map(|sources| sources.into_iter().map(|place| place as u32).collect()),
            targets: table(&targets),
            of_cells: codes(side).index_select(0, &cells),
            of_patches: codes(config.window / config.patch),
            sight: (config.sight > 0.0).then(|| Sight::new(config, device)),
            cells,
        }
    }
}

impl Flowm3d {
    /// Creates the weights under `path`, with the names of the published checkpoints, drawn from `seed`.
    ///
    /// # Panics
    /// If the configuration does not validate: callers check it first.
    #[must_use]
    pub fn new(path: &nn::Path<'_>, config: &Flowm3dConfig, seed: Seed) -> Self {
        config.validate().expect("the configuration was validated");
        let (d, heads, ratio) = (config.hidden, config.heads, config.mlp_ratio);
        let mut maker = Maker::new(stream(seed, Purpose::Weights, 0));
        let writing = path / "map_processor";
        let patch = [d, config.input_channels, config.patch, config.patch];
        let mut writer = Writer {
            patches: maker.linear_of(&(&writing / "patch" / "proj"), &patch),
            blocks: (0..config.encoder_depth)
                .map(|i| maker.block(&(&writing / "blocks" / i), d, heads, ratio))
                .collect(),
            norm: maker.norm(&(&writing / "norm"), d),
            gate: maker.linear(&(&writing / "update_gate" / 0), 2 * d, d),
            action: (!config.self_motion)
                .then(|| maker.normal(&(path / "action_embedding"), "weight", &[ACTIONS, d], 1.0)),
            velocities: (config.velocity_embedding && config.velocity_channels)
                .then(|| maker.constant(&(path / "velocity_embedding"), "weight", &[config.channels(), d], 0.0)),
            weights: Vec::new(),
        };
        writer.weights = maker.made();
        let reading = path / "decoder";
        let mut reader = Reader {
            token: maker.normal(&reading, "mask_token", &[1, 1, d], 0.02),
            blocks: (0..config.decoder_depth)
                .map(|i| maker.reading_block(&(&reading / "blocks" / i), d, heads, ratio))
                .collect(),
            norm: maker.norm(&(&reading / "norm"), d),
            pixels: maker.linear(&(&reading / "proj"), d, config.input_channels * config.patch.pow(2)),
            weights: Vec::new(),
        };
        reader.weights = maker.made();
        let mixing = Mix::new(path, config.mixing, d, config.channels(), &mut maker);
        Self { config: config.clone(), mixing, writer, reader, tables: Tables::new(config, path.device()) }
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &Flowm3dConfig {
        &self.config
    }

    /// Which motion of [`MOTIONS`] each action is, `[B, 5]` -> `[B]`. Where no action was taken, nothing moves, nor does an agent before
    /// what it takes for a wall.
    fn motions(&self, map: &Tensor, action: &Tensor) -> Tensor {
        assert_eq!(action.size()[1..], [ACTIONS], "an action is one of {ACTIONS}, as so many numbers");
        let still = Tensor::full([action.size()[0]], STILL, (Kind::Int64, action.device()));
        if !self.config.self_motion {
            return still;
        }
        let motions = action.argmax(1, false).where_self(&taken(action), &still);
        let middle = self.config.map_side / 2;
        let ahead = map.detach().select(1, 0).select(1, middle).select(1, middle + 1); // [B, D]
        match self.mixing.as_ref().and_then(|mix| tch::no_grad(|| mix.walls(&ahead))) {
            Some(wall) => still.where_self(&wall.logical_and(&motions.eq(FORWARD)), &motions),
            None => motions,
        }
    }

    /// `[B, V, S, S, D]` with its places in the order that a row of `table` `[5, V S S]` has for each sample.
    fn rearranged(map: &Tensor, table: &Tensor, motions: &Tensor) -> Tensor {
        let size = map.size();
        let (b, places) = (size[0], table.size()[1]);
        let first = Tensor::arange(b, (Kind::Int64, map.device())).unsqueeze(1) * places;
        let index = (table.index_select(0, motions) + first).view([-1]);
        map.reshape([b * places, size[4]]).index_select(0, &index).view(size.as_slice())
    }

    /// The map after blocks have flowed on and the agent has moved by `action` `[B, 5]`. It may have any number of features, unless a gate
    /// reads them (`mixing = "reflecting"`).
    pub fn moved(&self, map: &Tensor, action: &Tensor) -> Tensor {
        Self::rearranged(map, &self.tables.sources, &self.motions(map, action))
    }

    /// The map after `action` `[B, 5]`, before anything is written into it: moved, and its velocity channels mixed.
    pub fn before_looking(&self, belief: &Belief, action: &Tensor) -> Tensor {
        let map = belief.part(part::MAP);
        match &self.mixing {
            Some(mix) if map.requires_grad() || builds_graphs(&mix.weights()[0]) => mix.apply(&self.moved(map, action)),
            _ => self.advanced(map, action),
        }
    }

    /// The same without a graph.
    pub(super) fn advanced(&self, map: &Tensor, action: &Tensor) -> Tensor {
        match &self.mixing {
            None => self.moved(map, action),
            Some(Mix::Convolution(weight)) if map.device() == Device::Cpu => {
                self.mixer(weight).moved_and_mixed(map, &self.places(map, action))
            }
            Some(mix) => tch::no_grad(|| mix.apply(&self.moved(map, action))),
        }
    }

    /// The way back through [`Self::advanced`]: of the gradient of what came of it, that of `map`, and those of the mixing's weights.
    pub(super) fn advanced_back(&self, map: &Tensor, action: &Tensor, gradient: &Tensor) -> (Tensor, Vec<Tensor>) {
        let moved_back = |gradient| Self::rearranged(gradient, &self.tables.targets, &self.motions(map, action));
        let mix = match &self.mixing {
            None => return (moved_back(gradient), Vec::new()),
            Some(Mix::Convolution(weight)) if map.device() == Device::Cpu => {
                let (mixer, places, gradient) = (self.mixer(weight), self.places(map, action), gradient.contiguous());
                return (mixer.back(&gradient, &places), vec![mixer.weight_gradient(map, &gradient, &places)]);
            }
            Some(mix) => mix,
        };
        let moved = self.moved(map, action).set_requires_grad(true);
        let inputs: Vec<&Tensor> = std::iter::once(&moved).chain(mix.weights()).collect();
        let mut found = Tensor::run_backward(&[inject(&mix.apply(&moved), gradient)], &inputs, false, false);
        let before = moved_back(&found.remove(0));
        (before, found)
    }

    fn mixer<'a>(&self, weight: &'a Tensor) -> Mixer<'a> {
        let [side, channels, features] =
            [self.config.map_side, self.config.channels(), self.config.hidden].map(|size| size as usize);
        Mixer { side, channels, features, weight: slice::<f32>(weight, weight.numel()) }
    }

    /// The motion of each sample.
    fn places(&self, map: &Tensor, action: &Tensor) -> Vec<&[u32]> {
        let motions: Vec<i64> = Vec::try_from(self.motions(map, action)).expect("one number for each sample");
        motions.into_iter().map(|motion| self.tables.places[motion as usize].as_slice()).collect()
    }

    /// What of a map is in view: `[B, V, S, S, D]` -> `[B, V, n, D]`.
    pub(super) fn seen(&self, map: &Tensor) -> Tensor {
        map.flatten(2, 3).index_select(2, &self.tables.cells)
    }

    /// The map with what is in view replaced by `seen` `[B, V, n, D]`.
    pub(super) fn with_seen(&self, map: &Tensor, seen: &Tensor) -> Tensor {
        map.flatten(2, 3).index_copy(2, &self.tables.cells, seen).view_as(map)
    }

    /// What is in view after a look: cells `[B, V, n, D]`, `frame [B, channels, w, w]`, `action [B, 5]` -> `[B, V, n, D]`.
    pub(super) fn written(&self, cells: &Tensor, frame: &Tensor, action: &Tensor) -> Tensor {
        let (size, kind) = (cells.size(), self.config.precision.kind());
        let (writer, count) = (&self.writer, size[1] * size[2]);
        let patches = writer.patches.apply(&self.patches(&frame.to_kind(kind))) + self.tables.of_patches.to_kind(kind);
        let mut placed = cells + &self.tables.of_cells;
        if let Some(embedding) = &writer.velocities {
            placed += embedding.unsqueeze(1);
        }
        let mut tokens = vec![placed.to_kind(kind).flatten(1, 2), patches];
        let mut bias = self.tables.sight.as_ref().map(|sight| sight.writing.shallow_clone());
        if let Some(embedding) = &writer.action {
            tokens.push(action.matmul(embedding).to_kind(kind).unsqueeze(1));
            // Nothing is told of an action where none was taken.
            let others = tokens[0].size()[1] + tokens[1].size()[1];
            let untold = action.new_full([size[0], 1], f64::NEG_INFINITY, (kind, action.device()));
            let told = untold.zeros_like().where_self(&taken(action).unsqueeze(1), &untold);
            let told = Tensor::cat(&[told.zeros_like().expand([-1, others], false), told], 1);
            let told = told.view([size[0], 1, 1, -1]);
            bias = Some(bias.map_or_else(|| told.shallow_clone(), |bias| bias + &told));
        }
        let tokens = writer.blocks.iter().fold(Tensor::cat(&tokens, 1), |x, block| block.apply(&x, bias.as_ref()));
        let candidate = writer.norm.apply(&tokens.narrow(1, 0, count)).view(size.as_slice()); // [B, V, n, D]
        let gate = writer.gate.apply_to_both(&cells.to_kind(kind), &candidate).sigmoid();
        cells.lerp_tensor(&candidate.to_kind(Kind::Float), &gate.to_kind(Kind::Float))
    }

    /// `[B, channels, w, w]` -> `[B, P, channels * patch * patch]`.
    fn patches(&self, frame: &Tensor) -> Tensor {
        let (patch, grid) = (self.config.patch, self.config.window / self.config.patch);
        let parts = frame.reshape([-1, self.config.input_channels, grid, patch, grid, patch]);
        parts.permute([0, 2, 4, 1, 3, 5]).reshape([-1, grid * grid, self.config.input_channels * patch * patch])
    }

    /// The frame that cells in view `[B, V, n, D]` make, `[B, channels, w, w]`, not clamped.
    pub(super) fn drawn(&self, cells: &Tensor) -> Tensor {
        let (reader, kind) = (&self.reader, self.config.precision.kind());
        let (patch, grid, colours) =
            (self.config.patch, self.config.window / self.config.patch, self.config.input_channels);
        // Positions are the same in all channels, so that they can be added to the largest.
        let read = (cells.max_dim(1, false).0 + &self.tables.of_cells).to_kind(kind); // [B, n, D]
        let asked = (&reader.token + &self.tables.of_patches).to_kind(kind).expand([cells.size()[0], -1, -1], false);
        let sight = self.tables.sight.as_ref();
        let (among, across) = (sight.map(|sight| &sight.drawing), sight.map(|sight| &sight.reading));
        let tokens = reader.blocks.iter().fold(asked, |x, block| block.apply(&x, &read, among, across));
        let pixels = reader.pixels.apply(&reader.norm.apply(&tokens)).to_kind(Kind::Float);
        let parts = pixels.view([-1, grid, grid, colours, patch, patch]).permute([0, 3, 1, 4, 2, 5]);
        parts.reshape([-1, colours, grid * patch, grid * patch])
    }

    /// The weights that writing uses.
    pub(super) fn writing_weights(&self) -> &[Tensor] {
        &self.writer.weights
    }

    /// The weights that mixing uses.
    pub(super) fn mixing_weights(&self) -> &[Tensor] {
        self.mixing.as_ref().map_or(&[], Mix::weights)
    }

    /// The weights that drawing uses.
    pub(super) fn drawing_weights(&self) -> &[Tensor] {
        &self.reader.weights
    }

    fn believed(map: Tensor, frame: Tensor) -> Belief {
        Belief::new([(part::MAP, map), (part::FRAME, frame)])
    }
}

/// Whether what is done with `weight` is being recorded. A leaf does not say so itself, nor does a view of it.
fn builds_graphs(weight: &Tensor) -> bool {
    (weight.narrow(0, 0, 1) * 1.0).requires_grad()
}

/// Whether an action was taken, `[B, 5]` -> `[B]`: the first of a clip has none.
fn taken(action: &Tensor) -> Tensor {
    action.abs().amax([1i64], false).gt(0.0)
}

impl WorldModel for Flowm3d {
    fn start(&self, batch: i64) -> Belief {
        let (config, place) = (&self.config, (Kind::Float, self.tables.cells.device()));
        let side = config.map_side;
        let map = Tensor::zeros([batch, config.channels(), side, side, config.hidden], place);
        Self::believed(map, Tensor::zeros([batch, config.input_channels, config.window, config.window], place))
    }

    fn observe(&self, belief: &Belief, action: &Tensor, observation: &Tensor) -> Belief {
        let map = self.before_looking(belief, action);
        let cells = self.written(&self.seen(&map), observation, action);
        Self::believed(self.with_seen(&map, &cells), observation.shallow_clone())
    }

    fn imagine(&self, belief: &Belief, action: &Tensor) -> Belief {
        let map = self.before_looking(belief, action);
        let cells = self.seen(&map);
        let frame = self.drawn(&cells);
        if !self.config.feedback {
            return Self::believed(map, frame);
        }
        let cells = self.written(&cells, &frame, action);
        Self::believed(self.with_seen(&map, &cells), frame)
    }

    fn picture(&self, belief: &Belief) -> Tensor {
        belief.part(part::FRAME).shallow_clone()
    }

    /// Of the model as it is asked: no step is forced, and every frame counts.
    fn loss(&self, clip: &Clip) -> Tensor {
        unroll::loss(self, clip, &unroll::alone(clip))
    }

    /// As published, a predicted step now and then writes the true frame, in all clips of the batch.
    fn training_loss(&self, clip: &Clip, rng: &mut Rng) -> Tensor {
        unroll::loss(self, clip, &unroll::by_chance(&self.config, clip, rng))
    }
}
