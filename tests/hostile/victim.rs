//! A run and a dataset that were good once.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::bounded::{Outcome, run};

pub const MODEL: &str = "model/model.safetensors";
pub const CONFIG: &str = "model/config.json";
pub const OPTIMIZER: &str = "training_state/optimizer.safetensors";
pub const STEP: &str = "training_state/step.json";
pub const MANIFEST: &str = "manifest.json";

/// A folder with a small dataset, `data`, and a run of one update on it, `good`.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let (data, good) = (place.text("data"), place.text("good"));
        let world = ["--preset", "tiny", "--set", "horizon=6"];
        let collect = ["collect", "mnist-world", "--episodes", "12", "--episodes-per-shard", "4", "--out", &data];
        succeeded(&run(&[&collect[..], &world].concat()));
        let train = ["train", "flowm", "--data", &data, "--out", &good, "--threads", "1"];
        let model = ["model.hidden=4", "model.v_range=0", "train.batch_size=2", "train.context=5", "train.horizon=3"];
        let model = model.iter().chain(&["train.updates=1", "train.device=cpu"]).flat_map(|set| ["--set", set]);
        succeeded(&run(&train.into_iter().chain(model).collect::<Vec<_>>()));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A copy of the good run under another name.
    pub fn victim(&self, name: &str) -> Victim {
        let run = self.path(name);
        let checkpoint = run.join("checkpoints/000001");
        copy(&self.path("good"), &run);
        let _ = fs::remove_dir_all(run.join("memory"));
        Victim { run, checkpoint }
    }
}

/// How the good run fares, which is what a refusal is compared with.
pub fn succeeded(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        if path.is_dir() && !path.is_symlink() {
            copy(&path, &place);
        } else if path.is_file() {
            fs::copy(&path, &place).unwrap();
        }
    }
}

/// A run to do harm to.
pub struct Victim {
    pub run: PathBuf,
    pub checkpoint: PathBuf,
}

impl Victim {
    pub fn file(&self, name: &str) -> PathBuf {
        self.checkpoint.join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.file(name), bytes).unwrap();
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.file(name)).unwrap()).unwrap()
    }

    /// Changes a JSON file.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = self.json(name);
        change(&mut value);
        self.write(name, value.to_string());
    }

    /// The header and the data of a tensor file.
    pub fn tensors(&self, name: &str) -> (Value, Vec<u8>) {
        let bytes = fs::read(self.file(name)).unwrap();
        let (prefix, rest) = bytes.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*prefix) as usize);
        (serde_json::from_slice(header).unwrap(), data.to_vec())
    }

    /// Writes a tensor file with a header that may say anything.
    pub fn put_tensors(&self, name: &str, header: &str, data: &[u8]) {
        self.write(name, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat());
    }

    /// Changes the header of the file of weights.
    pub fn edit_header(&self, change: impl FnOnce(&mut Value)) {
        let (mut header, data) = self.tensors(MODEL);
        change(&mut header);
        self.put_tensors(MODEL, &header.to_string(), &data);
    }

    /// Makes the manifest agree with the files, as whoever made them would have.
    pub fn seal(&self) {
        let listed = |name: &str| {
            let bytes = fs::read(self.file(name)).unwrap();
            let sha256 = format!("{:x}", Sha256::digest(&bytes));
            (name.to_owned(), json!({"bytes": bytes.len(), "sha256": sha256}))
        };
        let files: serde_json::Map<_, _> = [CONFIG, MODEL, OPTIMIZER, STEP].map(listed).into_iter().collect();
        self.write(MANIFEST, json!({"format": 1, "files": files}).to_string());
    }
}

/// A file of `bytes` zeros that takes no room on the disk.
pub fn sparse(path: &Path, bytes: u64) {
    fs::File::create(path).unwrap().set_len(bytes).unwrap();
}
