//! Episodes on disk and back: columnar safetensors shards under one append-only manifest.
//!
//! ```text
//! dataset.json              what the episodes are: env, configuration, spaces, columns, seed        [`Description`]
//! manifest.jsonl            one line per committed shard; what has no line does not exist           [`Manifest`]
//! shards/000000.safetensors `lengths` i64 [E] (T of each episode), `checks` i64 [E, columns], and the columns, flat over
//!                           episodes: `observations` [sum (T + 1), ...], `actions` [sum T, ...], ...; pictures
//!                           as they are, or packed in blocks                                        [`Codec`]
//! .lock                     held by the one process that writes
//! ```
//!
//! Row t of an episode: `o[t], a[t] -> r[t], o[t+1]`. [`collect`] records what is missing, [`collect_part`] a part of it,
//! [`merge`] makes one dataset of parts, [`Dataset`] reads, [`Clips`] draws training windows, [`verify`] finds damage, and
//! [`repair`] keeps what is whole.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use envs::dataset::*;
//! use simulators::rng::Seed;
//!
//! /// Counts up from its own number.
//! struct Counter;
//!
//! impl EpisodeSource for Counter {
//!     fn header(&self) -> DatasetHeader {
//!         let (config, spaces) = (serde_json::json!({}), serde_json::json!({}));
//!         DatasetHeader { env_id: "Counter-v0".into(), env_version: 0, config, spaces, fps: 1.0, seed: Seed(0) }
//!     }
//!     fn columns(&self) -> Vec<ColumnSpec> {
//!         vec![ColumnSpec::observations("observations", Dtype::I64, &[])]
//!     }
//!     fn length(&self) -> Length {
//!         Length::Fixed(3)
//!     }
//!     fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
//!         for (row, count) in episode.rows_mut::<i64>(0).iter_mut().zip(k as i64..) {
//!             *row = count;
//!         }
//!     }
//! }
//!
//! let dir = tempfile::tempdir()?;
//! let control = Control { stop: &AtomicBool::new(false), progress: &|progress| assert!(progress.episodes <= 20) };
//! collect(&Counter, dir.path(), Request::episodes(20), control)?;
//! let dataset = Dataset::open(dir.path())?;
//! assert_eq!(dataset.episode(7).expect("20 are committed").column::<i64>("observations")?[..], [7, 8, 9, 10]);
//! assert!(verify(dir.path(), true)?.damage.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(target_endian = "big")]
compile_error!("datasets are little-endian, and their rows are used as they lie on disk");

mod codec;
mod column;
mod commit;
mod error;
mod gaps;
mod layout;
mod manifest;
mod merge;
mod reader;
mod record;
mod repair;
mod room;
mod salvage;
mod sampler;
mod session;
mod shard;
mod shard_of;
mod source;
mod verify;
mod writer;

pub use codec::{Codec, Zstd};
pub use column::{ColumnSpec, Dtype, Element, Follows};
pub use error::{DatasetError, Difference};
pub use gaps::Ranges;
pub use layout::{Description, FORMAT};
pub use manifest::{Entry, LineError, Manifest, Tail};
pub use merge::{Duplicate, Merged, merge};
pub use reader::{Dataset, Episode, Info};
pub use record::RecordedEpisode;
pub use repair::{Mended, Repaired, Verdict, repair};
pub use sampler::{Clips, Window};
pub use shard_of::{ShardOf, ShardOfError};
pub use source::{DatasetHeader, EpisodeBuffer, EpisodeSource, Length};
pub use verify::{Damage, Report, damage_of_shard, verify};
pub use writer::{Bounds, Control, Outcome, Progress, Request, SHARD_BYTES, collect, collect_into, collect_part};
