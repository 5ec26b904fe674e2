//! What a run leaves on its way: one JSON object a line, and the same scalars for TensorBoard.

use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use envs::storage::{self, At, Failed, Sink, Storage};
use envs::untrusted;
use serde_json::{Map, Value, json};

use crate::tensorboard::EventFile;

/// A log beyond this is refused: one of a million lines has a fifth of it.
const LOG_BUDGET: u64 = 1 << 30;
/// A line beyond this is none of ours.
const LINE_BUDGET: u64 = 4 << 20;

/// Appends to `metrics.jsonl` and `tb/` of a run folder.
pub struct MetricsLog {
    path: PathBuf,
    lines: Box<dyn Sink>,
    tensorboard: EventFile,
}

impl MetricsLog {
    /// Opens the log of a run that goes on after `update`: later lines, of an attempt that was cut off, are dropped.
    ///
    /// # Errors
    /// If the folder cannot be written, or the log there is larger than any of ours.
    pub fn open(storage: &dyn Storage, run: &Path, update: u64) -> Result<Self, Failed> {
        let path = run.join("metrics.jsonl");
        keep_lines(storage, &path, |line| line["step"].as_u64().is_some_and(|step| step <= update))?;
        let lines = storage.append(&path).at("open", &path)?;
        storage.sync_folder(run).at("sync", run)?;
        Ok(Self { path, lines, tensorboard: EventFile::create(storage, &run.join("tb"), update)? })
    }

    /// One line: `step`, `wall` (seconds since the run, or its resumption, began) and the scalars.
    ///
    /// # Errors
    /// If the line cannot be written.
    pub fn write(&mut self, step: u64, wall: f64, scalars: &[(&str, f64)]) -> Result<(), Failed> {
        let mut line = Map::from_iter([("step".to_owned(), json!(step)), ("wall".to_owned(), json!(wall))]);
        for (name, value) in scalars {
            line.insert((*name).to_owned(), json!(value));
        }
        self.tensorboard.scalars(step, scalars)?;
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        self.lines.write_all(text.as_bytes()).at_writing(text.len() as u64, &self.path)
    }

    /// Makes the lines so far survive a power loss: a checkpoint that does promises the lines up to it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn sync(&mut self) -> Result<(), Failed> {
        self.lines.sync().at("sync", &self.path)
    }
}

/// Drops all lines of a file of JSON lines but those to `keep`; a torn one is none. Where there is no file, none is made.
pub(crate) fn keep_lines(storage: &dyn Storage, path: &Path, keep: impl Fn(&Value) -> bool) -> Result<(), Failed> {
    if !path.exists() {
        return Ok(());
    }
    let log = untrusted::open_up_to(path, LOG_BUDGET).at("open", path)?;
    let kept = lines_kept(BufReader::new(log), keep).at("read", path)?;
    storage::replace(storage, path, &kept)
}

/// The whole lines of a log of JSON objects that are to `keep`. What is torn, or no line of ours, is left out.
///
/// # Errors
/// If the log cannot be read.
pub fn lines_kept(mut log: impl BufRead, keep: impl Fn(&Value) -> bool) -> io::Result<Vec<u8>> {
    let (mut kept, mut line) = (Vec::new(), Vec::new());
    let mut begins = true;
    while log.by_ref().take(LINE_BUDGET).read_until(b'\n', &mut line)? > 0 {
        let ends = line.ends_with(b"\n");
        let whole = (begins && ends).then(|| serde_json::from_slice::<Value>(&line).ok()).flatten();
        if whole.is_some_and(|line| line.is_object() && keep(&line)) {
            kept.extend_from_slice(&line);
        }
        begins = ends;
        line.clear();
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_whole_lines_up_to_an_update() {
        let text = b"{\"step\":1,\"wall\":0.5}\n{\"step\":2}\n\0\0\xff\n[2]\n{\"step\":3}\n{\"step\":2,\"a\":\"b\"}\n{\"step\":1}";
        let long = [b"{\"step\":1}", vec![b' '; 5 << 20].as_slice(), b"{\"step\":1}\n"].concat();
        let log = [long.as_slice(), text].concat();
        let kept = lines_kept(log.as_slice(), |line| line["step"].as_u64().is_some_and(|step| step <= 2)).unwrap();
        let kept: Vec<&str> = std::str::from_utf8(&kept).unwrap().lines().collect();
        assert_eq!(kept, [r#"{"step":1,"wall":0.5}"#, r#"{"step":2}"#, r#"{"step":2,"a":"b"}"#]);
    }
}
