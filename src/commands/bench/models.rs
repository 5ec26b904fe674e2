//! FloWM: training updates, PyTorch's beside them, and imagination.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use envs::dataset::Clips;
use serde_json::Value;
use simulators::rng::Seed;
use world_models::adam::Adam;
use world_models::clips::ClipLoader;
use world_models::flowm::{FlowmConfig, Precision, WriteOrder};
use world_models::libtorch::DeviceChoice;
use world_models::registry::WorldModelConfig;
use world_models::train::{Loaded, RunConfig, TrainConfig};

use super::{seconds_per_call, worlds};
use crate::failure::usage;
use crate::terminal;

/// One training update of FloWM on the published world (50 x 50, window 32 x 32).
#[derive(Clone, Copy)]
pub struct Update {
    v_range: i64,
    hidden: i64,
    batch: usize,
    context: i64,
    horizon: i64,
    precision: Precision,
}

const NINE_VELOCITIES: Update =
    Update { v_range: 1, hidden: 32, batch: 8, context: 50, horizon: 20, precision: Precision::Bf16 };
pub const UPDATES: [Update; 3] = [
    NINE_VELOCITIES,
    Update { precision: Precision::F32, ..NINE_VELOCITIES },
    Update { v_range: 2, hidden: 64, batch: 4, context: 10, horizon: 10, precision: Precision::Bf16 },
];

/// The same update in plain PyTorch, carried along so that the program needs no source tree.
const RIVAL: &str = include_str!("../../../benches/flowm_update_pytorch.py");

impl Update {
    /// `flowm/update_v9_c32_b8_50_20`: velocities, features, clips, frames seen, frames predicted.
    pub fn name(&self) -> String {
        let Self { hidden, batch, context, horizon, .. } = self;
        let velocities = (2 * self.v_range + 1).pow(2);
        let precision = match self.precision {
            Precision::Bf16 => "",
            Precision::F32 => "_f32",
        };
        format!("flowm/update_v{velocities}_c{hidden}_b{batch}_{context}_{horizon}{precision}")
    }

    /// PyTorch runs once for each size; what we would train with is compared with it.
    pub fn has_rival(&self) -> bool {
        self.precision == Precision::Bf16
    }

    fn config(&self) -> RunConfig {
        let model = FlowmConfig {
            hidden: self.hidden,
            v_range: self.v_range,
            precision: self.precision,
            // As the rival, which does what the published code does.
            write_order: WriteOrder::Code,
            ..Default::default()
        };
        RunConfig { seed: Seed(0), model: WorldModelConfig::Flowm(model), train: TrainConfig::default() }
    }

    /// Seconds of an update: drawing the clips, the loss, its gradients, Adam.
    pub fn seconds(&self) -> Result<f64> {
        let config = self.config();
        let device = DeviceChoice::Cpu.resolve()?;
        let (_folder, dataset) = worlds::recorded(64)?;
        let clips = Clips::new(dataset, (self.context + self.horizon) as usize, Seed(0))?;
        let mut loader = ClipLoader::new(clips, device)?;
        let loaded = Loaded::fresh(&config, device);
        let mut adam = Adam::new(&loaded.vs, config.train.adam);
        let mut next = 0;
        Ok(seconds_per_call(|| {
            let clip = loader.draw(next, self.batch, self.context).expect("moves of whole pixels are finite");
            next += self.batch as u64;
            adam.zero_grad();
            loaded.model.loss(&clip).backward();
            adam.step(1e-4, adam.gradient_norm());
        }))
    }

    /// Seconds of the same update in plain PyTorch under `python`.
    pub fn pytorch_seconds(&self, python: &Path, threads: usize) -> Result<f64> {
        let sizes = [
            ("--velocity-range", self.v_range),
            ("--hidden", self.hidden),
            ("--batch", self.batch as i64),
            ("--context", self.context),
            ("--horizon", self.horizon),
            ("--threads", threads as i64),
        ];
        let found = rival(python, RIVAL, &sizes.map(|(name, value)| format!("{name}={value}")))?;
        found["seconds_per_update"].as_f64().context("the PyTorch update says no time")
    }
}

/// What a script says when `python` runs it: one JSON object.
pub fn rival(python: &Path, script: &str, arguments: &[String]) -> Result<Value> {
    let mut command = Command::new(python);
    terminal::unsettle(&mut command);
    let mut child = command
        .arg("-")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| usage(format!("--python {}: {error}", python.display())))?;
    let mut input = child.stdin.take().expect("it was asked for");
    // Where Python does not take it all, it says why on its own.
    let _ = input.write_all(script.as_bytes());
    drop(input);
    let output = child.wait_with_output().context("cannot wait for Python")?;
    let said = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str::<Value>(said.trim()) {
        Ok(found) if output.status.success() => Ok(found),
        _ => {
            let complaint = String::from_utf8_lossy(&output.stderr);
            let last = complaint.lines().last().unwrap_or("it said nothing");
            bail!("--python {}: the PyTorch update failed ({}): {last}", python.display(), output.status)
        }
    }
}

/// Frames a second with eyes shut: 16 worlds at a time, 9 velocities, 32 features.
pub fn imagine() -> Result<f64> {
    const WORLDS: usize = 16;
    let device = DeviceChoice::Cpu.resolve()?;
    let model = WorldModelConfig::Flowm(FlowmConfig::default());
    let mut loaded = Loaded::fresh(&RunConfig { seed: Seed(0), model, train: TrainConfig::default() }, device);
    // Nothing to learn here, so no graph is built.
    loaded.vs.freeze();
    let (_folder, dataset) = worlds::recorded(64)?;
    let clip = ClipLoader::new(Clips::new(dataset, 20, Seed(0))?, device)?.draw(0, WORLDS, 10)?;
    let seen = (0..clip.context).fold(loaded.model.start(clip.batch()), |belief, t| {
        loaded.model.observe(&belief, &clip.action(t), &clip.frame(t))
    });
    let seconds = seconds_per_call(|| {
        let mut belief = loaded.model.imagine(&seen, &clip.action(clip.context));
        for t in clip.context + 1..clip.steps() {
            belief = loaded.model.imagine(&belief, &clip.action(t));
        }
        let _ = loaded.model.picture(&belief);
    });
    Ok((WORLDS as i64 * (clip.steps() - clip.context)) as f64 / seconds)
}
