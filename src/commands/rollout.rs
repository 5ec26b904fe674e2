//! `mindseye rollout`: states and actions in a file, what becomes of them in another.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use envs::registry::find;
use envs::rollout::{Inputs, Options};
use envs::storage::{self, Failed};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;
use toml::Table;

use crate::cli::RolloutArgs;
use crate::commands::collect::env_settings;
use crate::failure::usage;
use crate::run_config;
use crate::terminal;

/// Files beyond this are refused before they are read.
const LARGEST: u64 = 16 << 30;

/// Rolls out.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &RolloutArgs, json: bool) -> Result<()> {
    let entry = find(&args.env)?;
    // Recordings of other simulators are compared in double precision, unless a layer says otherwise.
    let base: Table = "physics.precision = 'f64'".parse()?;
    let vector = entry.resolve(&json!({ "physics": {} })).is_ok();
    let base = if vector { base } else { Table::new() };
    let (config, _) = env_settings(entry, run_config::merged(base, &args.layers, &[])?)?;
    if args.layers.print_config {
        println!("{}", run_config::as_toml(&config)?);
        return Ok(());
    }
    let bytes = read(&args.input)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| usage(format!("{}: not a safetensors file: {error}", args.input.display())))?;
    let (state, state_shape, dtype) = floats(&args.input, &file, "state")?;
    let (actions, actions_shape, _) = floats(&args.input, &file, "actions")?;
    let (&[rows, _], &[action_rows, steps, width]) = (&state_shape[..], &actions_shape[..]) else {
        return Err(usage(format!(
            "{}: `state` is {state_shape:?} and `actions` {actions_shape:?}; allowed: [N, S] and [N, T, A]",
            args.input.display()
        )));
    };
    if rows != action_rows {
        let path = args.input.display();
        return Err(usage(format!("{path}: `state` has {rows} rows, `actions` {action_rows}; they must be as many")));
    }
    let clipped = actions.iter().filter(|x| x.abs() > 1.0).count();
    if clipped > 0 {
        tracing::warn!("{clipped} actions are beyond -1 to 1 and were clipped");
    }
    let inputs = Inputs { state, actions, rows, steps };
    let options = Options { gradients: args.gradients, resets: args.resets };
    let begin = std::time::Instant::now();
    let out = entry.rollout(&config, &inputs, options)?;
    let seconds = begin.elapsed().as_secs_f64();

    let per = |values: &[f64], shape: &[usize]| -> usize {
        values.len().checked_div(shape.iter().product()).unwrap_or_default()
    };
    let mut tensors = vec![
        ("states", vec![rows, steps, per(&out.states, &[rows, steps])], bytes_of(&out.states, dtype), dtype),
        (
            "observations",
            vec![rows, steps, per(&out.observations, &[rows, steps])],
            bytes_of(&out.observations, dtype),
            dtype,
        ),
        ("rewards", vec![rows, steps], bytes_of(&out.rewards, dtype), dtype),
        ("terminations", vec![rows, steps], out.terminations.iter().map(|&end| end.into()).collect(), Dtype::BOOL),
    ];
    if args.gradients {
        tensors.push(("gradients", vec![rows, steps, width], bytes_of(&out.gradients, dtype), dtype));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes, dtype)| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("env".to_owned(), entry.id.to_owned()), ("config".to_owned(), config.to_string())]);
    let text = safetensors::serialize(views, Some(metadata)).context("cannot encode the rollout")?;
    storage::replace(storage::of_process()?, &args.output, &text)?;

    let broken = out.states.iter().chain(&out.rewards).filter(|x| !x.is_finite()).count();
    let rate = (rows * steps) as f64 / seconds;
    if json {
        println!(
            "{}",
            json!({ "env": entry.id, "rows": rows, "steps": steps, "steps_per_second": rate,
                               "terminations": out.terminations.iter().filter(|end| **end).count(), "nonfinite": broken })
        );
    } else {
        println!(
            "{}: {} rows of {} steps, {} steps/s",
            args.output.display(),
            terminal::count(rows as u64),
            terminal::count(steps as u64),
            terminal::count(rate as u64)
        );
    }
    anyhow::ensure!(broken == 0, "{}: {broken} numbers of states and rewards are not finite", args.output.display());
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error| Failed::new("read", path, error);
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > LARGEST {
        return Err(usage(format!("{}: {bytes} bytes; allowed: {LARGEST} at most", path.display())));
    }
    Ok(fs::read(path).map_err(failed)?)
}

/// A tensor of floats as `f64`, its shape, and what it was.
fn floats(path: &Path, file: &SafeTensors<'_>, name: &str) -> Result<(Vec<f64>, Vec<usize>, Dtype)> {
    let path = path.display();
    let Ok(tensor) = file.tensor(name) else {
        let known = file.names().join(", ");
        return Err(usage(format!("{path}: no tensor `{name}`; it has: {known}")));
    };
    let values = match tensor.dtype() {
        Dtype::F64 => tensor.data().as_chunks::<8>().0.iter().map(|x| f64::from_le_bytes(*x)).collect(),
        Dtype::F32 => tensor.data().as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x).into()).collect(),
        other => return Err(usage(format!("{path}: `{name}` is {other:?}; allowed: F32, F64"))),
    };
    Ok((values, tensor.shape().to_vec(), tensor.dtype()))
}

fn bytes_of(values: &[f64], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}
