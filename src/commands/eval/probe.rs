//! `mindseye eval probe`: where a belief says that blocks are.

use std::sync::Arc;

use anyhow::{Context, Result};
use envs::dataset::Dataset;
use envs::storage;
use simulators::block_world::COLOURS;
use world_models::evaluate::probe::{ProbeQuestions, evaluate_probe};
use world_models::libtorch;
use world_models::memory::Origin;
use world_models::memory::probe::maps::png;
use world_models::memory::probe::table::table;
use world_models::memory::report::Saved as _;
use world_models::train::{Loaded, RunConfig};

use super::{check_dataset, vectors};
use crate::cli::ProbeArgs;
use crate::failure::{Usage, dataset_refused};
use crate::run_dir::RunDir;
use crate::terminal::Progress;

/// Steps after the last frame that is seen, where the clips are so long: the published horizons, and some before them.
const HORIZONS: [usize; 5] = [0, 10, 20, 70, 210];

/// Probes the run's newest checkpoint and writes its report.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn measure(args: &ProbeArgs, threads: usize, json: bool) -> Result<()> {
    let run = RunDir::at(&args.run);
    let checkpoint = run.checkpoint()?;
    if let Some(policy) = vectors::policy_of(&checkpoint)? {
        let shown = args.run.display().to_string();
        let problem = format!("{shown}: a run of `train {}` has no belief about blocks", policy.trainer().name());
        return Err(Usage::worded(problem)
            .field("RUN")
            .value(shown)
            .allowed("a run of a world model of Blockworld")
            .into());
    }
    let config: RunConfig = checkpoint.config()?;
    let dataset = Arc::new(Dataset::open(&args.data).map_err(|error| dataset_refused("--data", &args.data, error))?);
    let source = &dataset.description().source;
    if !source.env_id.starts_with("BlockWorld-") {
        let problem = format!("its episodes are of {}, which has no blocks", source.env_id);
        return Err(Usage::argument("--data", args.data.display(), problem).allowed("BlockWorld-v0").into());
    }
    check_dataset(&args.run, &args.data, &config, &dataset)?;
    let (context, horizons) = steps_to_ask(args, &config, &dataset)?;
    let device = config.train.device.resolve()?;
    libtorch::set_threads(threads);
    let (loaded, _) = Loaded::from_checkpoint(&checkpoint, device)?;
    let questions = ProbeQuestions { context, horizons: &horizons, clips: args.clips.unwrap_or(usize::MAX) };
    let mut bar = None;
    let (evaluation, maps) = evaluate_probe(loaded.model.as_ref(), &dataset, device, questions, &mut |done, of| {
        bar.get_or_insert_with(|| Progress::new("probe", of as u64, json)).at(done as u64, String::new);
    })
    .with_context(|| checkpoint.path().display().to_string())?;
    bar.iter().for_each(Progress::finish);
    let origin = Origin { env: source.env_id.clone(), dataset: dataset.digest(), seed: source.seed.0 };
    let report = evaluation.report(&args.name.clone().unwrap_or_else(|| run.name()), origin)?;
    let out = args.out.clone().unwrap_or_else(|| run.path().join("probe"));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    report.write_json(&out.join("report.json"))?;
    let palette = COLOURS.map(|(_, rgb)| rgb.map(|x| (x * 255.0).round() as u8));
    let picture = png(&maps, report.readout.side, &palette);
    storage::replace(storage::of_process()?, &out.join("maps.png"), &picture)?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", table(&report));
        println!("maps of the first clip: {}", out.join("maps.png").display());
    }
    Ok(())
}

/// How many frames the model sees, and the horizons, increasing.
fn steps_to_ask(args: &ProbeArgs, config: &RunConfig, dataset: &Dataset) -> Result<(usize, Vec<usize>)> {
    let longest = dataset.info().longest as usize + 1;
    let context = args.context.unwrap_or(config.train.context as usize);
    let data = args.data.display();
    let Some(most) = longest.checked_sub(context) else {
        let problem = format!("the longest episode of {data} has {longest} frames");
        return Err(Usage::argument("--context", context, problem).allowed(format!("1..={longest}")).into());
    };
    let mut horizons = args.horizons.clone();
    if horizons.is_empty() {
        horizons = HORIZONS.into_iter().filter(|&horizon| horizon <= most).collect();
    }
    horizons.sort_unstable();
    horizons.dedup();
    match horizons.last() {
        Some(&beyond) if beyond > most => {
            let problem = format!("{context} frames are seen, and the longest episode of {data} has {longest}");
            Err(Usage::argument("--horizons", beyond, problem).allowed(format!("0..={most}")).into())
        }
        _ => Ok((context, horizons)),
    }
}
