//! `mindseye play`: a person walks about in a world, beside a model that imagines it with its eyes shut, in a browser.

mod controls;
mod game;
mod http;
mod look;
mod server;

use std::path::Path;

use anyhow::Result;
use envs::env::EnvSpec;
use envs::policy::{BlockWorldWalk, CoverageWalk, Policy, RandomWalk};
use envs::registry::{Entry, find};
use envs::vector::{AutoresetMode, VectorConfig};
use serde_json::{Value, json};
use simulators::rng::Seed;
use world_models::checkpoint::Checkpoint;
use world_models::clips::Actions;
use world_models::libtorch;
use world_models::onlooker::Onlooker;
use world_models::registry::WorldModelConfig;
use world_models::train::RunConfig;

use self::game::{Game, Mind};
use self::look::{About, look};
use self::server::{Order, Server};
use crate::cli::PlayArgs;
use crate::commands::collect::played_in;
use crate::failure::Usage;
use crate::run_config;
use crate::run_dir::{RunDir, World};
use crate::terminal;

/// Serves the page until it is stopped.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &PlayArgs, threads: usize, json: bool) -> Result<()> {
    let trained = args.run.as_deref().map(Trained::open).transpose()?;
    let (entry, config) = world(args, trained.as_ref())?;
    if args.layers.print_config {
        println!("{}", run_config::as_toml(&config)?);
        return Ok(());
    }
    let map = entry.map()?;
    let vector = VectorConfig {
        num_envs: 1,
        seed: Seed(args.seed),
        autoreset: AutoresetMode::Disabled,
        // A player goes on for as long as they like.
        max_steps: Some(u32::MAX),
    };
    let envs = entry.make(&config, &vector)?;
    let about = About {
        env: entry.id.to_owned(),
        line: entry.about.to_owned(),
        model: trained.as_ref().map(|trained| (trained.kind(), trained.path.clone())),
    };
    let mind = trained.map(|trained| trained.mind(envs.spec(), threads)).transpose()?;
    let guide = (guide(entry, &config, args.context)?, args.context);
    let mut game = Game::new(envs, map, mind, guide, Seed(args.seed))?;

    let server = Server::listen(args.port)?;
    let (url, stop) = (server.url()?, terminal::stop_flag()?);
    if json {
        println!("{}", json!({ "url": url, "env": entry.id, "seed": args.seed, "run": args.run }));
    } else {
        println!("{url} shows {}; Ctrl-C ends it", entry.id);
    }
    server.run(&stop, |order| {
        obey(&mut game, order)?;
        look(&game, &about)
    })?;
    if !json {
        println!("the game is over");
    }
    Ok(())
}

fn obey(game: &mut Game, order: Order) -> Result<()> {
    match order {
        Order::Look => Ok(()),
        Order::Act(action) => {
            let action = controls::parse(&action, &game.spec().action)?;
            game.act(&action)
        }
        Order::Eyes(open) => game.set_eyes(open),
        Order::Reset(seed) => game.reset(seed),
    }
}

/// A trained model, and the world that it was trained in.
struct Trained {
    path: String,
    checkpoint: Checkpoint,
    config: RunConfig,
    world: Option<World>,
}

impl Trained {
    /// The newest checkpoint of a run, or the checkpoint at `path`.
    ///
    /// # Errors
    /// If there is none, or it is not one of a world model.
    fn open(path: &Path) -> Result<Self> {
        let given = path.display().to_string();
        let (run, checkpoint) = if path.join("manifest.json").is_file() {
            let place = path.canonicalize()?;
            let run = place.ancestors().nth(2).unwrap_or(&place);
            (RunDir::at(run), Checkpoint::open(path)?)
        } else {
            let run = RunDir::at(path);
            let checkpoint = run.checkpoint()?;
            (run, checkpoint)
        };
        if checkpoint.config::<Value>()?.get("env").is_some() {
            let refusal = Usage::argument("--run", &given, "it is a policy's run, which pictures nothing");
            return Err(refusal
                .suggest(Some("give that of a world model, of `mindseye train flowm` for example"))
                .into());
        }
        let config = checkpoint.config()?;
        Ok(Self { path: given, checkpoint, config, world: run.world()? })
    }

    /// The name of the model, as `mindseye train` knows it.
    fn kind(&self) -> String {
        let config = serde_json::to_value(&self.config.model).unwrap_or_default();
        config["kind"].as_str().unwrap_or_default().to_owned()
    }

    /// The model, if it fits the world.
    fn mind(self, spec: &EnvSpec, threads: usize) -> Result<Box<dyn Mind>> {
        check(&self.path, &self.config.model, spec)?;
        let device = self.config.train.device.resolve()?;
        libtorch::set_threads(threads);
        Ok(Box::new(Onlooker::open(&self.checkpoint, device)?))
    }
}

/// The env and its configuration: those asked for, above those that the model was trained in.
fn world(args: &PlayArgs, trained: Option<&Trained>) -> Result<(&'static Entry, Value)> {
    let known = trained.and_then(|trained| trained.world.as_ref());
    let entry = match (&args.env, known) {
        (Some(env), _) => find(env)?,
        (None, Some(world)) => find(&world.env)?,
        (None, None) => {
            let path = trained.map_or("", |trained| trained.path.as_str());
            let problem = "its run.json does not say in which world it was trained";
            let advice = format!("name it: `mindseye play mnist-world --run {path}`, for example");
            return Err(Usage::argument("--run", path, problem).suggest(Some(advice)).into());
        }
    };
    let same = known.filter(|world| world.env == entry.id && world.config.is_object());
    let trained_in = same.map_or_else(|| json!({}), |world| world.config.clone());
    Ok((entry, played_in(entry, trained_in, &args.layers)?))
}

/// Refuses a world that the model cannot see or be told of.
fn check(run: &str, model: &WorldModelConfig, spec: &EnvSpec) -> Result<()> {
    let [side, channels] = model.frame().map(|side| side as usize);
    let refused = |problem: String| {
        let advice = "leave out ENV and its settings, for the world it was trained in, or give another run";
        Err(Usage::argument("--run", run, problem).suggest(Some(advice)).into())
    };
    let shown = spec.observation.shape();
    if shown != [side, side, channels] {
        return refused(format!(
            "its model takes pictures of [{side}, {side}, {channels}], those of {} are {shown:?}",
            spec.id
        ));
    }
    let (told, done) = (model.actions(), Actions::of_space(&spec.action));
    if told != done {
        return refused(format!("its model is told actions that are {told}, those of {} are {done}", spec.id));
    }
    Ok(())
}

/// Who walks before the player does: as in the datasets of that env.
fn guide(entry: &Entry, config: &Value, context: u32) -> Result<Box<dyn Policy>> {
    Ok(match entry.alias {
        "block-world" => Box::new(BlockWorldWalk::default()),
        "mnist-world" if context > 1 => {
            let config = serde_json::from_value(config.clone())?;
            let walk = CoverageWalk::new(&config).map_err(|error| {
                let advice = "leave it out, or set `context` of the environment to as many frames";
                Usage::argument("--context", context, error.to_string()).suggest(Some(advice))
            })?;
            Box::new(walk)
        }
        _ => Box::new(RandomWalk::default()),
    })
}
