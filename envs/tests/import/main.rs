//! Importing data of other programs: what arrives, by hand, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod flowm;
mod flowm_refused;
mod hostile;
mod published;
mod refused;
mod torch_save;
mod values;

use std::path::{Path, PathBuf};

use envs::dataset::RecordedEpisode;
use envs::import::ImportError;
use envs::import::tdmpc2::{Keep, Tdmpc2};

/// Saved by tensordict 0.1 and 0.15; `data/make.py` says what is in them, and made them.
const OLD: &str = "counter_tensordict_0_1.pt";
const NEW: &str = "counter_tensordict_0_15.pt";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/data").join(name)
}

fn open(paths: &[PathBuf]) -> Result<Tdmpc2, ImportError> {
    Tdmpc2::open(paths, Keep::default())
}

/// Every episode of a file, or the first thing that is wrong with it.
fn read_all(path: &Path) -> Result<Vec<RecordedEpisode>, String> {
    let source = open(&[path.to_owned()]).map_err(|error| error.to_string())?;
    let episodes = (0..source.episodes()).map(|k| RecordedEpisode::new(&source, k));
    episodes.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())
}
