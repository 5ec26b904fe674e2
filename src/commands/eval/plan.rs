//! `mindseye eval plan`: plans in what a world model imagines, and what comes of them.

mod sheet;

use std::path::{Path, PathBuf};

use agents::planner::find_red::{
    CHOICES, Example, FindRedConfig, FindRedError, PlanReport, Planner, Row, evaluate, searches,
};
use agents::planner::{PlannerConfig, Worth};
use anyhow::{Context, Error, Result};
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use envs::dataset::Dataset;
use envs::registry::find;
use envs::storage;
use envs::tasks::block_world::BlockWorldEnvConfig;
use simulators::rng::Seed;
use world_models::belief::WorldModel;
use world_models::checkpoint::Checkpoint;
use world_models::clips::Actions;
use world_models::libtorch::{self, Device};
use world_models::train::{Loaded, RunConfig};

use super::vectors;
use crate::cli::{PlanArgs, WorthArg};
use crate::commands::collect::env_settings;
use crate::failure::{Usage, dataset_refused, usage};
use crate::film;
use crate::run_config::{self, BLOCK_WORLD, Layered};
use crate::run_dir::RunDir;
use crate::terminal::Progress;

/// Episodes to look at.
const EXAMPLES: usize = 3;
/// Plans that a model imagines together.
const TOGETHER: usize = 16;
/// The same on a GPU, which wants many.
const TOGETHER_ON_GPU: usize = 64;

/// A run whose model can plan.
struct Run {
    folder: RunDir,
    checkpoint: Checkpoint,
    config: RunConfig,
}

/// Plans, carries out, and writes the report.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &PlanArgs, threads: usize, json: bool) -> Result<()> {
    let run = args.run.as_deref().map(Run::open).transpose()?;
    let (env, recorded) = world(args, run.as_ref())?;
    if args.layers.print_config {
        println!("{}", run_config::as_toml(&env)?);
        return Ok(());
    }
    let PlanArgs { episodes, context, horizon, candidates, iterations, .. } = *args;
    let planner = PlannerConfig { worth: args.worth.into(), horizon, candidates, iterations };
    let seed = args.seed.map_or(recorded, Seed);
    let config = FindRedConfig { episodes, context, seed, planner };

    let (mut minds, together) = match &run {
        Some(run) => run.minds(threads, candidates)?,
        None => (Vec::new(), TOGETHER),
    };
    let name = args.name.clone().unwrap_or_else(|| run.as_ref().map_or_else(String::new, |run| run.folder.name()));
    let planner = run.is_some().then_some(Planner { name: &name, minds: &mut minds, together });
    let bar = Progress::new("plan", searches(&config, run.is_some()) as u64, json);
    let mut done = 0;
    let found = evaluate(&config, &env, planner, EXAMPLES, &mut || {
        done += 1;
        bar.at(done, String::new);
    });
    let (report, examples) = found.map_err(|error| refused(error, run.as_ref()))?;
    bar.finish();

    let out = args.out.clone().or_else(|| Some(run.as_ref()?.folder.path().join("plan")));
    if let Some(out) = &out {
        write(out, &report, &examples)?;
    }
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", table(&report));
        if let Some(out) = out {
            println!("report: {}", out.join("report.json").display());
            println!("to look at: {}, {}", out.join("plan.png").display(), out.join("plan.gif").display());
        }
    }
    Ok(())
}

impl Run {
    /// The run at `path`.
    ///
    /// # Errors
    /// If it is none of a world model, or of one whose actions are no choices.
    fn open(path: &Path) -> Result<Self> {
        let folder = RunDir::at(path);
        let checkpoint = folder.checkpoint()?;
        let path = path.display().to_string();
        let refused = |problem: String| {
            let refusal = Usage::worded(problem).field("RUN").value(&path);
            Error::from(refusal.allowed("a run of a world model whose actions are choices: `mindseye train flowm3d`"))
        };
        if let Some(policy) = vectors::policy_of(&checkpoint)? {
            return Err(refused(format!(
                "{path}: it is of a policy ({}), not of a world model",
                policy.trainer().name()
            )));
        }
        let config: RunConfig = checkpoint.config()?;
        match config.model.actions() {
            Actions::Choice(CHOICES) => Ok(Self { folder, checkpoint, config }),
            Actions::Choice(n) => Err(refused(format!("{path}: its actions are one of {n} choices, not of {CHOICES}"))),
            Actions::Vector(n) => Err(refused(format!("{path}: its actions are {n} numbers; plans are of choices"))),
        }
    }

    /// As many copies of the model as have plans to imagine, and how many plans each is to imagine together.
    fn minds(&self, threads: usize, candidates: usize) -> Result<(Vec<Box<dyn WorldModel>>, usize)> {
        let device = self.config.train.device.resolve()?;
        let (count, together) = match device {
            Device::Cpu => (threads.min(candidates.div_ceil(TOGETHER)), TOGETHER),
            _ => (1, TOGETHER_ON_GPU),
        };
        // Each mind computes on the thread that asks it, so that how many there are changes no bit.
        libtorch::set_threads(1);
        let mind = |_| Loaded::from_checkpoint(&self.checkpoint, device).map(|(loaded, _)| loaded.model);
        Ok(((0..count).map(mind).collect::<Result<_, _>>()?, together))
    }
}

impl From<WorthArg> for Worth {
    fn from(worth: WorthArg) -> Self {
        match worth {
            WorthArg::Best => Self::Best,
            WorthArg::Last => Self::Last,
            WorthArg::Total => Self::Total,
        }
    }
}

/// The world to plan in, and the seed of the dataset that it is of, if of any.
fn world(args: &PlanArgs, run: Option<&Run>) -> Result<(BlockWorldEnvConfig, Seed)> {
    let entry = find("block-world")?;
    let mut base = toml::Table::new();
    let mut seed = Seed(0);
    if let Some(data) = &args.data {
        let dataset = Dataset::open(data).map_err(|error| dataset_refused("--data", data, error))?;
        let source = &dataset.description().source;
        if source.env_id != entry.id {
            let problem = format!("its episodes are of {}", source.env_id);
            return Err(Usage::argument("--data", data.display(), problem).allowed(entry.id).into());
        }
        let Some(config) = source.config.get("env").filter(|config| config.is_object()) else {
            return Err(Usage::argument("--data", data.display(), "it does not say what world it is of").into());
        };
        base = toml::Table::try_from(run_config::without_nulls(config.clone()))?;
        seed = source.seed;
    } else if let Some(run) = run {
        let mut world = toml::Table::new();
        world.insert("image".into(), run.config.model.frame()[0].into());
        base.insert("world".into(), world.into());
    }
    let (config, layered) = env_settings(entry, run_config::merged(base, &args.layers, BLOCK_WORLD)?)?;
    let config: BlockWorldEnvConfig = serde_json::from_value(config)?;
    if let Some(run) = run {
        check_frame(run, &config, &layered)?;
    }
    Ok((config, seed))
}

/// Refuses a world that does not show what the model takes.
fn check_frame(run: &Run, config: &BlockWorldEnvConfig, layered: &Layered) -> Result<()> {
    let [side, colours] = run.config.model.frame();
    let image = config.world.image;
    if [side, colours] == [image as i64, 3] {
        return Ok(());
    }
    let problem = format!(
        "{} was trained on pictures of {side} x {side} with {colours} colours, not on {image} x {image} with 3",
        run.folder.path().display()
    );
    let refusal = layered.refusal("world.image", &problem).value(image.to_string());
    Err(refusal.suggest((colours == 3).then(|| format!("--set world.image={side}"))).into())
}

fn refused(error: FindRedError, run: Option<&Run>) -> Error {
    match error {
        FindRedError::Config(error) => usage(error.to_string()),
        FindRedError::Env(error) => error.into(),
        other => {
            let place = run.map_or_else(PathBuf::new, |run| run.checkpoint.path().to_owned());
            Error::from(other).context(place.display().to_string())
        }
    }
}

/// The report, a contact sheet and a film.
fn write(out: &Path, report: &PlanReport, examples: &[Example]) -> Result<()> {
    let storage = storage::of_process()?;
    storage::create_folders(storage, out)?;
    let text = serde_json::to_string_pretty(report)? + "\n";
    storage::replace(storage, &out.join("report.json"), text.as_bytes())?;
    storage::replace(storage, &out.join("plan.png"), &film::png(&sheet::sheet(examples))?)?;
    let (views, size) = sheet::views(examples);
    let gif = film::gif(&views, size, sheet::FPS, |_| {}).context("cannot draw the plans")?;
    Ok(storage::replace(storage, &out.join("plan.gif"), &gif)?)
}

/// A line for each who looked; below it what the numbers are of.
fn table(report: &PlanReport) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_header(["row", "error", "off", "distance", "nearest", "within 1", "steps", "red", "expected"]);
    for row in &report.rows {
        table.add_row(cells(row));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let FindRedConfig { episodes, context, seed, planner } = report.config;
    let PlannerConfig { horizon, candidates, iterations, worth } = planner;
    let (optimum, end) = (report.optimum, if worth == Worth::Best { "its reddest picture" } else { "its last step" });
    let lines = [
        table.trim_fmt(),
        format!(
            "{episodes} episodes of seed {seed}: {context} pictures seen, plans of {horizon} steps, {candidates} candidates, {iterations} iterations"
        ),
        format!(
            "error: mean of max(0, distance - {optimum}) to the nearest red thing where the plan ends, in cells, ± standard error; off: of |distance - {optimum}|"
        ),
        format!("a plan ends with {end}; nearest: least distance on the way; within 1: share of errors up to 1"),
        "red: share of the last picture that is red; expected: as it was imagined".to_owned(),
    ];
    lines.join("\n") + "\n"
}

fn cells(row: &Row) -> [String; 9] {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let stderr = row.stderr.map_or_else(String::new, |stderr| format!(" ± {stderr:.2}"));
    [
        row.name.chars().filter(|letter| !letter.is_control()).collect(),
        format!("{:.2}{stderr}", row.error),
        format!("{:.2}", row.off),
        format!("{:.2}", row.distance),
        format!("{:.2}", row.nearest),
        percent(row.within_one),
        format!("{:.0}", row.steps),
        percent(row.red),
        row.expected.map_or_else(|| "–".to_owned(), percent),
    ]
}
