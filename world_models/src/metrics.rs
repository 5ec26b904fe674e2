//! What a run leaves on its way: one JSON object a line, and the same scalars for TensorBoard.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use tensorboard_rs::summary_writer::SummaryWriter;

/// Appends to `metrics.jsonl` and `tb/` of a run folder.
pub struct MetricsLog {
    lines: File,
    tensorboard: SummaryWriter,
}

impl MetricsLog {
    /// Opens the log of a run that goes on after `update`: later lines, of an attempt that was cut off, are dropped.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn open(run: &Path, update: u64) -> io::Result<Self> {
        let path = run.join("metrics.jsonl");
        if path.exists() {
            let kept: Vec<String> = BufReader::new(File::open(&path)?)
                .lines()
                .map_while(Result::ok)
                .filter(|line| {
                    let step = serde_json::from_str::<Value>(line).ok().and_then(|v| v["step"].as_u64());
                    step.is_some_and(|step| step <= update)
                })
                .collect();
            let temporary = run.join(".metrics.jsonl.tmp");
            let mut text = kept.join("\n");
            if !text.is_empty() {
                text.push('\n');
            }
            fs::write(&temporary, text)?;
            fs::rename(&temporary, &path)?;
        }
        let lines = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self { lines, tensorboard: SummaryWriter::new(run.join("tb")) })
    }

    /// One line: `step`, `wall` (seconds since the run, or its resumption, began) and the scalars.
    ///
    /// # Errors
    /// If the line cannot be written.
    pub fn write(&mut self, step: u64, wall: f64, scalars: &[(&str, f64)]) -> io::Result<()> {
        let mut line = Map::from_iter([("step".to_owned(), json!(step)), ("wall".to_owned(), json!(wall))]);
        for (name, value) in scalars {
            line.insert((*name).to_owned(), json!(value));
            self.tensorboard.add_scalar(name, *value as f32, step as usize);
        }
        self.tensorboard.flush();
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        self.lines.write_all(text.as_bytes())
    }
}
