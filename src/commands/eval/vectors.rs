//! `mindseye eval memory` of a run of `train pwm`: what the world model foresees that its policy was trained in.

use std::sync::Arc;

use agents::config::{PolicyConfig, Trainer};
use agents::pwm::Imagination;
use anyhow::{Context, Error, Result};
use envs::dataset::Dataset;
use serde_json::Value;
use world_models::checkpoint::Checkpoint;
use world_models::evaluate::EvaluateError;
use world_models::evaluate::vectors::{VectorQuestions, evaluate_vectors};
use world_models::libtorch;
use world_models::memory::html::vectors::write_html;
use world_models::memory::report::Saved as _;
use world_models::memory::vectors::table::table;
use world_models::memory::{Origin, VectorReport};

use crate::cli::MemoryArgs;
use crate::failure::{Usage, dataset_refused};
use crate::run_dir::RunDir;
use crate::terminal::Progress;

/// Observations seen: a latent tells nothing of those before it.
const CONTEXT: i64 = 1;
/// Steps imagined: those of a window in training.
const HORIZON: i64 = 16;
/// Clips scored at most.
const CLIPS: usize = 2048;

/// The configuration of a checkpoint, if that is one of a policy.
///
/// # Errors
/// If it cannot be read.
pub fn policy_of(checkpoint: &Checkpoint) -> Result<Option<PolicyConfig>> {
    let config: Value = checkpoint.config()?;
    if config.get("env").is_none() {
        return Ok(None);
    }
    let config: PolicyConfig = checkpoint.config()?;
    config.validate().map_err(|refusal| checkpoint.refuse_config(&refusal))?;
    Ok(Some(config))
}

/// Scores the run's newest checkpoint and writes its report.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn measure(
    args: &MemoryArgs,
    run: &RunDir,
    checkpoint: &Checkpoint,
    config: &PolicyConfig,
    threads: usize,
    json: bool,
) -> Result<()> {
    check_run(args, config)?;
    let dataset = Arc::new(Dataset::open(&args.data).map_err(|error| dataset_refused("--data", &args.data, error))?);
    let source = &dataset.description().source;
    if source.env_id != config.env.id {
        let problem = format!("its episodes are of {}, the model is of {}", source.env_id, config.env.id);
        return Err(Usage::argument("--data", args.data.display(), problem).allowed(&config.env.id).into());
    }
    let beside = args.beside.iter().map(|path| VectorReport::read_json(path)).collect::<Result<Vec<_>, _>>()?;
    libtorch::set_threads(threads);
    let model = Imagination::open(checkpoint)?;
    let questions = VectorQuestions {
        context: args.context.unwrap_or(CONTEXT) as usize,
        horizon: args.horizon.unwrap_or(HORIZON) as usize,
        clips: args.clips.unwrap_or(CLIPS),
    };
    check_length(args, questions, &dataset)?;
    let mut bar = None;
    let evaluation = evaluate_vectors(&model, &dataset, questions, &mut |done, of| {
        bar.get_or_insert_with(|| Progress::new("foresee", of as u64, json)).at(done as u64, String::new);
    })
    .map_err(|error| refused(args, error))
    .with_context(|| checkpoint.path().display().to_string())?;
    bar.iter().for_each(Progress::finish);
    let origin = Origin { env: source.env_id.clone(), dataset: dataset.digest(), seed: source.seed.0 };
    let mut report = evaluation.report(&args.name.clone().unwrap_or_else(|| run.name()), origin)?;
    for other in &beside {
        report = report.with_models_of(other)?;
    }
    let out = args.out.clone().unwrap_or_else(|| run.path().join("memory"));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    report.write_json(&out.join("report.json"))?;
    write_html(&report, &out.join("report.html"))?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", table(&report));
        println!("report: {}", out.join("report.html").display());
    }
    Ok(())
}

/// Refuses a run without a world model, and what cannot be said of one.
fn check_run(args: &MemoryArgs, config: &PolicyConfig) -> Result<()> {
    let run = args.run.display();
    if !matches!(config.trainer(), Trainer::Pwm(_)) {
        let problem = format!("{run}: {} has no world model of vectors", config.trainer().name());
        let refusal = Usage::worded(problem).field("RUN").value(run.to_string());
        let advice = format!("`mindseye eval policy {} --policy {run}` measures its returns", config.env.id);
        return Err(refusal.allowed("a run of `train pwm`, or of a world model").suggest(Some(advice)).into());
    }
    if let Some(batch) = args.batch_size {
        let problem = "a model of vectors takes a fixed number of clips at a time";
        return Err(Usage::argument("--batch-size", batch, problem).suggest(Some("leave it out")).into());
    }
    Ok(())
}

/// Refuses more steps than the longest episode has.
fn check_length(args: &MemoryArgs, questions: VectorQuestions, dataset: &Dataset) -> Result<()> {
    let VectorQuestions { context, horizon, .. } = questions;
    let longest = dataset.info().longest as usize + 1;
    if context + horizon <= longest {
        return Ok(());
    }
    let problem = format!(
        "--context {context} --horizon {horizon}: {} observations in all, but the longest episode of {} has {longest}",
        context + horizon,
        args.data.display()
    );
    let (field, value) = if context < longest { ("--horizon", horizon) } else { ("--context", context) };
    let refusal = Usage::worded(problem).field(field).value(value.to_string());
    Err(refusal.allowed(format!("{longest} observations together")).into())
}

/// What is wrong with the dataset is a mistake of whoever gave it.
fn refused(args: &MemoryArgs, error: EvaluateError) -> Error {
    match &error {
        EvaluateError::Refused { allowed, .. } => {
            let message = error.to_string();
            let problem = message.strip_suffix(&format!("; allowed: {allowed}")).unwrap_or(&message).to_owned();
            Usage::worded(problem).field("--data").value(args.data.display().to_string()).allowed(allowed).into()
        }
        _ => error.into(),
    }
}
