//! The probe asked about episodes of Blockworld: by a model that knows where blocks are, by models that do not, and by those it cannot read.

use std::sync::Mutex;

use envs::collect::Truth;
use envs::dataset::{Dataset, Window};
use rand::RngExt;
use simulators::block_world::{Action, Agent, BlockWorld, BlockWorldConfig, Surfaces};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::World;
use tch::{Device, Kind, Tensor, nn};
use tempfile::TempDir;
use world_models::belief::{Belief, Clip, WorldModel};
use world_models::evaluate::EvaluateError;
use world_models::evaluate::probe::{ProbeQuestions, evaluate_probe};
use world_models::evaluate::split::Split;
use world_models::flowm3d::{ACTIONS, Flowm3d, Flowm3dConfig};
use world_models::memory::Origin;
use world_models::memory::probe::{ProbeReport, Reads, Shape};

use crate::support::{FRAMES, ROOM, Spoiled, claims, not_finite, opened, recorded, source, wrongs};

const CONTEXT: usize = 20;
const HORIZONS: [usize; 4] = [0, 1, 10, FRAMES - CONTEXT];
const SIDE: usize = 2 * ROOM - 1;

fn ask(model: &dyn WorldModel, data: &TempDir, horizons: &[usize]) -> Result<ProbeReport, EvaluateError> {
    let questions = ProbeQuestions { context: CONTEXT, horizons, clips: usize::MAX };
    let (evaluation, maps) = evaluate_probe(model, &opened(data), Device::Cpu, questions, &mut |_, _| {})?;
    assert_eq!(maps.len(), horizons.len());
    let origin = Origin { env: "BlockWorld-v0".into(), dataset: "digest".into(), seed: 3 };
    Ok(evaluation.report("model", origin)?)
}

/// Believes what a function of window and frame says.
struct Told<F> {
    name: &'static str,
    /// Batches of windows, the next one last, as they will be asked about.
    windows: Mutex<Vec<Vec<Window>>>,
    believes: F,
}

impl<F: Fn(Window, usize) -> Tensor> Told<F> {
    fn new(data: &TempDir, horizons: &[usize], name: &'static str, believes: F) -> Self {
        let split = Split::of(&opened(data), CONTEXT + horizons.last().unwrap(), usize::MAX).unwrap();
        let batches = split.fitted_windows.chunks(16).chain(split.windows.chunks(16));
        // The first belief is looked at for its shape only.
        let mut windows: Vec<Vec<Window>> =
            std::iter::once(&split.windows[..1]).chain(batches).map(<[_]>::to_vec).collect();
        windows.reverse();
        Self { name, windows: Mutex::new(windows), believes }
    }

    /// The belief about frame `frame` of windows, which are parts of it that no readout takes for a vector.
    fn at(&self, windows: &[i64], frame: i64) -> Belief {
        let each = windows.chunks_exact(2).map(|window| {
            let window = Window { episode: window[0] as usize, start: window[1] as usize };
            (self.believes)(window, frame.max(0) as usize)
        });
        let known = Tensor::from_slice(windows).view([-1, 1, 2]);
        let parts = [
            ("windows", known),
            ("frame", Tensor::from_slice(&[frame])),
            (self.name, Tensor::stack(&each.collect::<Vec<_>>(), 0)),
        ];
        Belief::new(parts)
    }

    fn next(&self, belief: &Belief) -> Belief {
        let windows: Vec<i64> = Vec::try_from(belief.part("windows").reshape([-1])).unwrap();
        self.at(&windows, belief.part("frame").int64_value(&[0]) + 1)
    }
}

impl<F: Fn(Window, usize) -> Tensor + Send> WorldModel for Told<F> {
    fn start(&self, batch: i64) -> Belief {
        let windows = self.windows.lock().unwrap().pop().expect("a batch that was foreseen");
        assert_eq!(windows.len() as i64, batch);
        let windows: Vec<i64> =
            windows.iter().flat_map(|window| [window.episode as i64, window.start as i64]).collect();
        self.at(&windows, -1)
    }

    fn observe(&self, belief: &Belief, _: &Tensor, _: &Tensor) -> Belief {
        self.next(belief)
    }

    fn imagine(&self, belief: &Belief, _: &Tensor) -> Belief {
        self.next(belief)
    }

    fn picture(&self, belief: &Belief) -> Tensor {
        belief.part(self.name).shallow_clone()
    }

    fn loss(&self, _: &Clip) -> Tensor {
        Tensor::zeros([], (Kind::Float, Device::Cpu))
    }
}

/// The map of a frame as the dataset has it: a one for the colour of each block, in the agent's frame.
fn map(dataset: &Dataset, window: Window, frame: usize) -> Tensor {
    let episode = dataset.episode(window.episode).unwrap();
    let (camera, poses) =
        (episode.column::<f32>("truth.camera").unwrap(), episode.column::<f32>("truth.poses").unwrap());
    let colours = episode.column::<u8>("truth.colours").unwrap();
    let at = window.start + frame;
    let &[x, z, heading] = camera[at * 3..].first_chunk().unwrap();
    // Ahead in x and z at each quarter; the right is the direction ahead a quarter before.
    let ways = [[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]];
    let quarter = heading as usize / 90;
    let (ahead, right) = (ways[quarter], ways[(quarter + 3) % 4]);
    let mut map = vec![0.0f32; SIDE * SIDE * 7];
    for (thing, &colour) in colours.iter().enumerate() {
        let place = &poses[(at * colours.len() + thing) * 7..];
        let from = [place[0] - x, place[2] - z];
        let along = |way: [f32; 2]| (way[0] * from[0] + way[1] * from[1]) as i64 + (SIDE / 2) as i64;
        map[(along(right) as usize * SIDE + along(ahead) as usize) * 7 + usize::from(colour)] = 1.0;
    }
    Tensor::from_slice(&map).view([1, SIDE as i64, SIDE as i64, 7])
}

#[test]
fn a_map_of_where_blocks_are_is_read_at_every_horizon() {
    let data = recorded(source(Truth::Full).as_ref(), 12);
    let dataset = opened(&data);
    let model = Told::new(&data, &HORIZONS, "map", |window, frame| map(&dataset, window, frame));
    let report = ask(&model, &data, &HORIZONS).unwrap();
    assert_eq!((report.readout.reads, report.readout.side, report.readout.numbers), (Reads::Cells, SIDE, 7));
    assert_eq!((report.episodes.evaluated, report.episodes.fitted, report.clips), (6, 6, 6));
    let mut out_of_view = 0;
    for score in &report.horizons {
        let blocks: u64 = score.groups().iter().map(|(_, group)| group.blocks).sum();
        assert_eq!(blocks, 6 * 4, "each once");
        out_of_view += score.out_of_view.blocks;
        for (known, group) in score.groups().into_iter().filter(|(_, group)| group.blocks > 0) {
            assert_eq!(group.probe, Some(1.0), "{known:?} after {}", score.horizon);
            assert!(group.chance.unwrap() < 0.02 && group.usual.unwrap() < 0.5, "{group:?}");
        }
    }
    assert!(out_of_view > 20, "most blocks are out of view");
    // With the eyes still open what is in view is where it is seen; later most blocks have moved on, though in so small a room some are back.
    assert_eq!(report.horizons[0].in_view.last_seen, Some(1.0));
    assert!(report.horizons[2..].iter().all(|score| score.out_of_view.last_seen.unwrap() < 0.6));
}

#[test]
fn a_belief_that_says_nothing_is_read_by_chance() {
    let data = recorded(source(Truth::Full).as_ref(), 20);
    for (name, reads, size) in
        [("map", Reads::Cells, &[2i64, SIDE as i64, SIDE as i64, 5][..]), ("h", Reads::Vector, &[9])]
    {
        let noise = |window: Window, frame: usize| {
            let mut rng = stream(Seed(window.episode as u64), Purpose::World, (frame * 1000 + window.start) as u64);
            let values: Vec<f32> = (0..size.iter().product()).map(|_: i64| rng.random_range(-1.0..1.0)).collect();
            Tensor::from_slice(&values).view(size)
        };
        let report = ask(&Told::new(&data, &HORIZONS, name, noise), &data, &HORIZONS).unwrap();
        assert_eq!(report.readout.reads, reads);
        let (mut right, mut blocks) = (0.0, 0);
        for group in report.horizons.iter().flat_map(|score| score.groups().map(|(_, group)| group.clone())) {
            right += group.probe.unwrap_or(0.0) * group.blocks as f64;
            blocks += group.blocks;
        }
        // A vector's readout may still know where blocks usually are.
        assert!(blocks == 10 * 4 * 4 && right / (blocks as f64) < 0.1, "{name}: {right} of {blocks}");
    }
}

#[test]
fn a_belief_without_places_is_refused_with_its_parts() {
    let data = recorded(source(Truth::Full).as_ref(), 4);
    for size in [&[2, 3][..], &[5, 4, 4, 2], &[4097]] {
        let model = Told::new(&data, &[1], if size.len() == 4 { "map" } else { "odd" }, |_, _| {
            Tensor::zeros(size, (Kind::Float, Device::Cpu))
        });
        let error = ask(&model, &data, &[1]).unwrap_err().to_string();
        let shown: Vec<String> = size.iter().map(ToString::to_string).collect();
        assert!(error.contains("neither a part `map` [B, V, S, S, D] nor a vector [B, F]"), "{error}");
        assert!(error.contains(&format!("` [1, {}]", shown.join(", "))) && error.contains("`frame` [1]"), "{error}");
    }
    let wild =
        Told::new(&data, &[1], "h", |_, frame| Tensor::from_slice(&[if frame == CONTEXT { f32::NAN } else { 0.0 }]));
    let error = ask(&wild, &data, &[1]).unwrap_err().to_string();
    assert!(error.contains("the model predicts NaN, not a finite number, 1 steps after"), "{error}");
}

#[test]
fn datasets_that_cannot_be_asked_about_are_refused_by_name() {
    let nothing = |data: &TempDir| Told::new(data, &[5], "h", |_, _| Tensor::zeros([3], (Kind::Float, Device::Cpu)));
    let refused = |data: &TempDir, said: &str| {
        let error = ask(&nothing(data), data, &[5]).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    };
    let columns =
        "it has no truth.camera, truth.poses, truth.kinds, truth.colours, truth.entity; `mindseye collect block-world";
    refused(&recorded(source(Truth::None).as_ref(), 2), columns);
    refused(&recorded(source(Truth::State).as_ref(), 2), "it has no truth.entity; ");
    for (claimed, said) in claims() {
        refused(&recorded(&claimed, 2), said);
    }
    for (spoil, said) in wrongs() {
        refused(&recorded(&Spoiled(spoil), 2), said);
    }
    let colour: crate::support::Spoil =
        |episode| episode.row_mut::<u8>(crate::support::number("truth.colours"), 0)[2] = 6;
    refused(
        &recorded(&Spoiled(colour), 2),
        "column `truth.colours` does not fit the world of the dataset: colour 6, of 6 that there are",
    );
    let one = not_finite(f32::NAN);
    let said = |data: &TempDir, horizons: &[usize]| {
        let model = Flowm3d::new(&nn::VarStore::new(Device::Cpu).root(), &small(), Seed(0));
        ask(&model, data, horizons).unwrap_err().to_string()
    };
    assert!(said(&one, &[5]).contains("the number of episodes is 1; allowed: 2 or more"));
    let two = recorded(source(Truth::Full).as_ref(), 2);
    assert!(said(&two, &[FRAMES]).contains("the longest episode is 60 observations; allowed: 80 or more"));
}

fn small() -> Flowm3dConfig {
    Flowm3dConfig {
        window: 24,
        patch: 8,
        map_side: SIDE as i64,
        hidden: 8,
        heads: 2,
        encoder_depth: 1,
        decoder_depth: 1,
        ..Default::default()
    }
}

/// What flows through FloWM's map arrives in the cell where the probe looks for it, for every block that a real world moves.
#[test]
fn cells_are_those_of_flowms_map() {
    let config = small();
    let model = Flowm3d::new(&nn::VarStore::new(Device::Cpu).root(), &config, Seed(0));
    let velocities = config.velocities();
    let shape = Shape { reads: Reads::Cells, numbers: 1, side: SIDE, colours: 6 };
    let world = BlockWorldConfig { room: ROOM as u16, image: 16, ..BlockWorldConfig::default() };
    let mut world = BlockWorld::new(world, Surfaces::drawn()).unwrap();
    let mut rng = stream(Seed(5), Purpose::World, 0);
    let (mut moves, side) = (0, SIDE as i64);
    for _ in 0..40 {
        let before: Vec<_> = world.things().collect();
        let agent = world.agent();
        let action = rng.random_range(0..ACTIONS);
        world.step(Action::ALL[action as usize]);
        if action == 3 || (action == 2 && world.agent() == agent) {
            // The published model does not know of steps back, nor of walls.
            continue;
        }
        for (before, after) in
            before.iter().zip(world.things()).filter(|(before, after)| before.velocity == after.velocity)
        {
            let place = |agent: Agent, thing: &simulators::block_world::ThingState| {
                let [ahead, right] = Agent { place: [0.0; 2], ..agent }.from_here(thing.velocity.map(f32::from));
                let velocity = [ahead as i64, right as i64];
                let channel = velocities.iter().position(|known| *known == velocity).unwrap();
                let [x, _, z] = thing.pose.place;
                let cell = shape.cell(agent.from_here([x, z])).unwrap();
                (channel * SIDE * SIDE + cell) as i64
            };
            let map = Tensor::zeros([velocities.len() as i64 * side * side], (Kind::Float, Device::Cpu));
            let _ = map.get(place(agent, before)).fill_(1.0);
            let told = Tensor::from_slice(&[action]).one_hot(ACTIONS).to_kind(Kind::Float);
            let moved = model.moved(&map.view([1, velocities.len() as i64, side, side, 1]), &told);
            assert_eq!(moved.reshape([-1]).argmax(0, false).int64_value(&[]), place(world.agent(), &after));
            moves += 1;
        }
    }
    assert!(moves > 100, "{moves}");
}
