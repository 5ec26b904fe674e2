//! The planning test of Blockworld: find the red block (Lillemark et al. 2026).
//!
//! An agent walks about as the recorder does, eyes open, for `context` pictures. Then a plan of at most `horizon` actions is searched for by the
//! red pixels of the pictures that it is imagined to lead to, and carried out, eyes shut, in the world from where it is. What counts is how
//! far from the nearest red thing it *ends*, along the floor and between middles, in metres, which are cells.
//!
//! Published are 8 episodes, 70 pictures seen and 70 imagined, a best distance of 2, and a mean error of the distance of 0.727 for FloWM. How plans
//! were searched for, where they end and what an error is are not. Here
//! * a plan is worth the red pixels of its reddest picture and ends there, unless [`Worth`](super::Worth) says otherwise: with the true pictures such plans
//!   always come to stand before something red, even where things move, so that what a model's plans lack is the model's;
//! * the error is `max(0, distance - 2)`: whoever stands nearer sees still more red, as the search wants. `off` is `|distance - 2|`.
//!
//! Beside the model stand who plans with the true pictures (`oracle`: what the search and the score can reach), who does what the recorder
//! did in some other episode (`random`: a proposal of the search, to its end), and who stays (`still`).

mod report;

use envs::biased_walk::BiasedWalk;
use envs::env::EnvError;
use envs::registry::Task as _;
use envs::tasks::block_world::{BlockWorldEnv, BlockWorldEnvConfig};
use envs::tasks::block_world_find::distance;
use serde::{Deserialize, Serialize};
use simulators::block_world::{Action, BlockWorld};
use simulators::image::Image;
use simulators::limits::{self, Limit, OutOfRange};
use simulators::rng::{Purpose, Rng, Seed, stream};
use simulators::world::World as _;
use world_models::belief::WorldModel;

use super::{
    Found, Imagined, NotFinite, Plan, PlannerConfig, RollOut, TrueWorld, awakened, pictures, red_pixels, search,
};
pub use report::{EpisodeReport, PlanReport, Row, Try};

/// The best distance to a red thing, m.
pub const OPTIMUM: f64 = 2.0;
/// Choices of the agent.
pub const CHOICES: i64 = Action::ALL.len() as i64;
/// Side of a map, pixels.
const MAP: usize = 128;
/// What a way is drawn in, on a map.
const WAY: [u8; 3] = [255, 196, 60];

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FindRedConfig {
    /// Episodes.
    pub episodes: usize,
    /// Pictures seen before the plan begins.
    pub context: usize,
    /// Seed of the episodes and of the search.
    pub seed: Seed,
    /// The search.
    pub planner: PlannerConfig,
}

impl Default for FindRedConfig {
    fn default() -> Self {
        Self { episodes: 8, context: 70, seed: Seed(0), planner: PlannerConfig::default() }
    }
}

impl FindRedConfig {
    /// Most episodes.
    pub const MOST_EPISODES: i128 = 1_000_000;
    /// Most pictures seen.
    pub const MOST_CONTEXT: i128 = 100_000;

    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let own = [
            Limit::whole("episodes", self.episodes as i128, 1..=Self::MOST_EPISODES),
            Limit::whole("context", self.context as i128, 1..=Self::MOST_CONTEXT),
            self.seed.limit("seed"),
        ];
        own.into_iter().chain(self.planner.limits().into_iter().map(|limit| limit.within("planner"))).collect()
    }
}

/// Why nothing can be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindRedError {
    /// A field out of range.
    #[error(transparent)]
    Config(#[from] OutOfRange),
    /// The world cannot be made.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The model's numbers went wrong.
    #[error("episode {episode}: {source}")]
    NotFinite {
        /// The episode.
        episode: u64,
        /// Where, and what.
        source: NotFinite,
    },
}

/// A model that plans: its name in the report, copies of it to imagine with at a time, and how many plans each imagines together.
pub struct Planner<'a> {
    /// Its name.
    pub name: &'a str,
    /// The same model, as often as there are threads for it.
    pub minds: &'a mut [Box<dyn WorldModel>],
    /// Plans side by side.
    pub together: usize,
}

/// An episode to look at: what a plan led to, step by step, from before the first step on, `[T + 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Number of the episode.
    pub episode: u64,
    /// Whose plan it is.
    pub name: String,
    /// What was seen when the plan was carried out.
    pub seen: Vec<Image>,
    /// What was imagined; the first is what was seen last. None, if the plan was made with the true pictures.
    pub imagined: Option<Vec<Image>>,
    /// The room from above, with the way so far.
    pub maps: Vec<Image>,
}

/// Where a plan begins.
struct Beginning {
    episode: u64,
    world: BlockWorld,
    /// What was seen, `[context, H, W, 3]`.
    frames: Vec<u8>,
    /// What was done, `[context - 1]`.
    actions: Vec<u8>,
}

/// The recorder's walk through worlds of one kind.
struct Walks {
    world: BlockWorld,
    forward: f64,
}

impl Walks {
    /// Episode `k` as far as the last picture that is seen: the same that is recorded under that number.
    fn begin(&mut self, seed: Seed, episode: u64, context: usize) -> Beginning {
        self.world.reset(&mut stream(seed, Purpose::World, episode));
        let (mut rng, mut walk) = (stream(seed, Purpose::Policy, episode), BiasedWalk::new(self.forward));
        let size: usize = self.world.frame_shape().iter().product();
        let (mut frames, mut actions) = (vec![0; context * size], Vec::with_capacity(context - 1));
        for (t, frame) in frames.chunks_exact_mut(size).enumerate() {
            if t > 0 {
                let action = walk.act(&self.world, &mut rng);
                self.world.step(action);
                actions.push(action as u8);
            }
            self.world.render(frame);
        }
        Beginning { episode, world: self.world.clone(), frames, actions }
    }

    /// What the walk does in some other world of the kind, after as many steps as were taken here. It tells nothing of this one.
    fn proposal(&mut self, context: usize, horizon: usize, rng: &mut Rng) -> Plan {
        self.world.reset(rng);
        let mut walk = BiasedWalk::new(self.forward);
        let mut act = || {
            let action = walk.act(&self.world, rng);
            self.world.step(action);
            action as u8
        };
        (1..context + horizon).map(|_| act()).skip(context - 1).collect()
    }
}

/// Lets `planner`, if there is one, and those beside it look for what is red in worlds of `env`; keeps the first `examples` episodes to look
/// at. `watch` is told of each iteration of a search that is done, of [`searches`] in all.
///
/// Episodes are those from number 0 on in which something is red.
///
/// # Errors
/// A configuration that cannot be, or a model whose pictures are not finite.
///
/// # Panics
/// If the model takes other pictures than the world shows, or other actions.
pub fn evaluate(
    config: &FindRedConfig,
    env: &BlockWorldEnvConfig,
    mut planner: Option<Planner<'_>>,
    examples: usize,
    watch: &mut dyn FnMut(),
) -> Result<(PlanReport, Vec<Example>), FindRedError> {
    limits::check(&config.limits())?;
    let mut walks = Walks { world: BlockWorldEnv::build(env.clone())?.world().clone(), forward: env.forward };
    let (mut episodes, mut kept) = (Vec::with_capacity(config.episodes), Vec::new());
    let mut next = 0;
    while episodes.len() < config.episodes {
        let beginning = reddish(&mut walks, config, next);
        next = beginning.episode + 1;
        let (report, example) = episode(config, &beginning, &mut walks, &mut planner, kept.len() < examples, watch)
            .map_err(|source| FindRedError::NotFinite { episode: beginning.episode, source })?;
        episodes.push(report);
        kept.extend(example);
    }
    Ok((PlanReport::new(env, config, episodes), kept))
}

/// Iterations that [`evaluate`] tells of.
#[must_use]
pub fn searches(config: &FindRedConfig, with_model: bool) -> usize {
    config.episodes * config.planner.iterations * (1 + usize::from(with_model))
}

/// The first episode from `first` on in which something is red: wherever there are things at all, at least one in six.
fn reddish(walks: &mut Walks, config: &FindRedConfig, first: u64) -> Beginning {
    let mut episode = first;
    loop {
        walks.world.reset(&mut stream(config.seed, Purpose::World, episode));
        if distance(&walks.world).is_finite() {
            return walks.begin(config.seed, episode, config.context);
        }
        episode += 1;
    }
}

/// One episode: what everybody plans, and what comes of it; and the model's plan, or else the oracle's, to look at.
fn episode(
    config: &FindRedConfig,
    beginning: &Beginning,
    walks: &mut Walks,
    planner: &mut Option<Planner<'_>>,
    look: bool,
    watch: &mut dyn FnMut(),
) -> Result<(EpisodeReport, Option<Example>), NotFinite> {
    let PlannerConfig { horizon, .. } = config.planner;
    let world = &beginning.world;
    let draws = || stream(config.seed, Purpose::Plans, beginning.episode);
    let random = walks.proposal(config.context, horizon, &mut draws());
    let mut find = |roll_out: &mut dyn RollOut| {
        let mut propose = |rng: &mut Rng| walks.proposal(config.context, horizon, rng);
        search(roll_out, &red_pixels, &config.planner, &mut propose, &mut draws(), watch)
    };
    let (mut tries, mut example) = (Vec::new(), None);
    if let Some(Planner { name, minds, together }) = planner {
        let side = world.config().image as i64;
        let belief = awakened(minds[0].as_ref(), &beginning.frames, [side, 3], &beginning.actions, CHOICES);
        let mut imagined = Imagined::new(minds, belief, CHOICES, *together);
        let found = find(&mut imagined)?;
        if look {
            let pictures = pictures(&mut imagined, &found.plan)?;
            let images = as_images(beginning, &pictures);
            example = Some(Example { imagined: Some(images), ..seen(name, beginning, &found.plan) });
        }
        tries.push(tried(name, world, found.plan.clone(), Some(&found)));
    }
    let found = find(&mut TrueWorld(world))?;
    if look && example.is_none() {
        example = Some(seen("oracle", beginning, &found.plan));
    }
    tries.push(tried("oracle", world, found.plan.clone(), Some(&found)));
    tries.push(tried("random", world, random, None));
    tries.push(tried("still", world, vec![Action::Nothing as u8; horizon], None));
    Ok((EpisodeReport { episode: beginning.episode, distance: distance(world).into(), tries }, example))
}

/// What comes of a plan that is carried out.
fn tried(name: &str, world: &BlockWorld, plan: Plan, found: Option<&Found>) -> Try {
    let mut distances = Vec::with_capacity(plan.len());
    TrueWorld(world).carry_out(&plan, |world| distances.push(f64::from(distance(world))));
    let red = *TrueWorld(world).values(std::slice::from_ref(&plan), &red_pixels)[0].last().expect("a plan has a step");
    let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
    let ended = *distances.last().expect("a plan has a step");
    let expected = found.and_then(|found| found.values.last().copied());
    Try { name: name.to_owned(), plan, distance: ended, nearest, red, expected }
}

fn image(side: usize, rgb: Vec<u8>) -> Image {
    Image { width: side, height: side, rgb }
}

/// What a plan shows when it is carried out.
fn seen(name: &str, beginning: &Beginning, plan: &Plan) -> Example {
    let (mut views, mut maps, mut way) = (Vec::new(), Vec::new(), Vec::new());
    let mut look = |world: &BlockWorld| {
        let side = world.config().image;
        let (mut view, mut map) = (vec![0; side * side * 3], vec![0; MAP * MAP * 3]);
        world.render(&mut view);
        world.plan(MAP, &mut map);
        way.push(world.agent().place);
        draw_way(&way, f32::from(world.config().room), &mut map);
        views.push(image(side, view));
        maps.push(image(MAP, map));
    };
    look(&beginning.world);
    TrueWorld(&beginning.world).carry_out(plan, look);
    Example { episode: beginning.episode, name: name.to_owned(), seen: views, imagined: None, maps }
}

/// What a model imagined, as bytes; first what it has seen last.
fn as_images(beginning: &Beginning, pictures: &[Vec<f32>]) -> Vec<Image> {
    let side = beginning.world.config().image;
    let last = &beginning.frames[beginning.frames.len() - side * side * 3..];
    let bytes = |picture: &Vec<f32>| {
        let byte = |at: usize| (picture[at].clamp(0.0, 1.0) * 255.0).round() as u8;
        (0..side * side * 3).map(|at| byte(at % 3 * side * side + at / 3)).collect()
    };
    std::iter::once(last.to_vec()).chain(pictures.iter().map(bytes)).map(|rgb| image(side, rgb)).collect()
}

/// Dots at the places of a way, in a room of so many metres.
fn draw_way(way: &[[f32; 2]], room: f32, map: &mut [u8]) {
    for place in way {
        let [x, z] = place.map(|at| (at / room * MAP as f32) as usize);
        for (row, column) in [(z, x), (z, x.saturating_sub(1)), (z.saturating_sub(1), x)] {
            if row < MAP && column < MAP {
                map[(row * MAP + column) * 3..][..3].copy_from_slice(&WAY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Worth;
    use super::*;
    use simulators::block_world::BlockWorldConfig;
    use tch::{Device, nn};
    use world_models::flowm3d::{Flowm3d, Flowm3dConfig};

    fn env(preset: &str) -> BlockWorldEnvConfig {
        let world = BlockWorldConfig { image: 32, ..BlockWorldConfig::preset(preset).unwrap() };
        BlockWorldEnvConfig { world, ..BlockWorldEnvConfig::default() }
    }

    fn config(episodes: usize, context: usize, planner: PlannerConfig) -> FindRedConfig {
        FindRedConfig { episodes, context, planner, seed: Seed(5) }
    }

    fn row<'a>(report: &'a PlanReport, name: &str) -> &'a Row {
        report.rows.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn who_sees_the_truth_finds_the_red_block_and_chance_does_not() {
        let planner = PlannerConfig { candidates: 32, iterations: 2, ..PlannerConfig::default() };
        for preset in ["static", "dynamic"] {
            let (report, _) = evaluate(&config(16, 70, planner), &env(preset), None, 0, &mut || {}).unwrap();
            let [oracle, random, still] = ["oracle", "random", "still"].map(|name| row(&report, name));
            assert!(oracle.error < 0.05 * random.error && oracle.within_one > 0.9, "{preset}: {oracle:?} {random:?}");
            assert!(
                random.error > 1.5 && still.error > 1.5 && random.within_one < 0.7,
                "{preset}: {random:?} {still:?}"
            );
            assert!(oracle.red > 0.3 && oracle.red > 4.0 * random.red, "{preset}: {oracle:?} {random:?}");
            assert_eq!(oracle.expected, Some(oracle.red), "it knows what it will see");
        }
    }

    #[test]
    fn plans_for_all_pictures_end_near_what_rests_and_last_to_the_horizon() {
        let planner = PlannerConfig { worth: Worth::Total, iterations: 12, ..PlannerConfig::default() };
        let (report, _) = evaluate(&config(12, 70, planner), &env("static"), None, 0, &mut || {}).unwrap();
        let [oracle, random] = ["oracle", "random"].map(|name| row(&report, name));
        assert!(oracle.error < 0.3 * random.error, "{oracle:?} {random:?}");
        assert!(report.episodes.iter().all(|episode| episode.tries.iter().all(|one| one.plan.len() == 70)));
    }

    #[test]
    fn an_episode_begins_as_it_is_recorded() {
        use envs::batch::StepBatch;
        use envs::buffer::Buffer;
        use envs::policy::{BlockWorldWalk, Policy as _};
        use envs::vector::{Reset, VectorConfig};
        let (env, context) = (env("dynamic"), 40);
        let mut walks =
            Walks { world: BlockWorldEnv::build(env.clone()).unwrap().world().clone(), forward: env.forward };
        let begun = walks.begin(Seed(5), 3, context);
        let vector = VectorConfig { num_envs: 1, seed: Seed(5), ..VectorConfig::default() };
        let json = serde_json::to_value(&env).unwrap();
        let mut envs = envs::registry::find("block-world").unwrap().make(&json, &vector).unwrap();
        let mut out = StepBatch::for_spec(envs.spec(), 1);
        let mut actions = Buffer::zeros(envs.spec().action.dtype(), 1);
        envs.reset(Reset::Episode(3), out.obs_mut()).unwrap();
        let mut policy = BlockWorldWalk::default();
        for (t, frame) in begun.frames.chunks_exact(32 * 32 * 3).enumerate() {
            if t > 0 {
                policy.act(&*envs, out.obs(), &mut actions).unwrap();
                envs.step(&actions, &mut out).unwrap();
                assert_eq!(actions.get::<i64>().unwrap(), [i64::from(begun.actions[t - 1])]);
            }
            assert!(out.obs().get::<u8>().unwrap() == frame, "picture {t}");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_plans_whatever_the_threads() {
        let planner = PlannerConfig { worth: Worth::Last, candidates: 9, iterations: 3, horizon: 12 };
        let mind = |_| {
            let model = Flowm3dConfig { window: 32, patch: 8, map_side: 9, hidden: 16, heads: 2, ..Default::default() };
            let weights = nn::VarStore::new(Device::Cpu);
            Box::new(Flowm3d::new(&weights.root(), &model, Seed(1))) as Box<dyn WorldModel>
        };
        let of = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut minds: Vec<_> = (0..threads).map(mind).collect();
            let config = FindRedConfig { seed: Seed(seed), ..config(2, 6, planner) };
            pool.install(|| {
                let planner = Planner { name: "run", minds: &mut minds, together: 4 };
                let mut done = 0;
                let found = evaluate(&config, &env("static"), Some(planner), 1, &mut || done += 1).unwrap();
                assert_eq!(done, searches(&config, true));
                found
            })
        };
        let (report, examples) = of(1, 5);
        assert_eq!((&report, &examples), (&of(3, 5).0, &of(2, 5).1));
        assert_ne!(report.episodes, of(1, 6).0.episodes);
        assert_eq!(
            report.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(),
            ["run", "oracle", "random", "still"]
        );
        let [example] = &examples[..] else { panic!("one to look at") };
        let imagined = example.imagined.as_ref().unwrap();
        assert!(example.seen.len() == 13 && imagined.len() == 13 && example.maps.len() == 13);
        assert!(example.seen[0] == imagined[0] && example.seen[1] != imagined[1]);
        assert!(example.maps[12].rgb.as_chunks::<3>().0.contains(&WAY));
    }

    #[test]
    fn episodes_without_red_are_passed_over() {
        let mut env = env("static");
        (env.world.fewest, env.world.most) = (1, 1);
        let planner = PlannerConfig { candidates: 2, iterations: 1, horizon: 2, ..PlannerConfig::default() };
        let (report, _) = evaluate(&config(4, 2, planner), &env, None, 0, &mut || {}).unwrap();
        let numbers: Vec<u64> = report.episodes.iter().map(|episode| episode.episode).collect();
        assert!(numbers.is_sorted() && numbers[3] > 4, "one thing is red in one of six: {numbers:?}");
        assert!(report.episodes.iter().all(|episode| episode.distance.is_finite()));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |config: FindRedConfig, env: &BlockWorldEnvConfig| {
            evaluate(&config, env, None, 0, &mut || {}).unwrap_err().to_string()
        };
        let planner = PlannerConfig { horizon: 1001, ..PlannerConfig::default() };
        let said = refused(config(1, 1, planner), &env("static"));
        assert_eq!(said, "`planner.horizon` is 1001, allowed: 1..=1000");
        let said = refused(config(0, 1, PlannerConfig::default()), &env("static"));
        assert_eq!(said, "`episodes` is 0, allowed: 1..=1000000");
        let mut small = env("static");
        small.world.room = 2;
        let said = refused(config(1, 1, PlannerConfig::default()), &small);
        assert!(said.contains("`world.room` is 2"), "{said}");
    }
}
