//! Whatever bytes stand where a checkpoint's files, a report or a log should be: an answer, and no panic.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use world_models::checkpoint::contents::{Listing, header_bytes, not_finite, places, progress};
use world_models::memory::html::page;
use world_models::memory::report::{MemoryReport, Saved as _};
use world_models::memory::table::table;
use world_models::memory::{VectorReport, html, vectors};
use world_models::metrics::lines_kept;
use world_models::train::RunConfig;

/// Bytes from a place on are replaced by others, which may be more or fewer.
fn mutated(good: &[u8], changes: &[(prop::sample::Index, usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for (at, removed, put) in changes {
        let at = at.index(bytes.len() + 1);
        let end = (at + removed).min(bytes.len());
        bytes.splice(at..end, put.iter().copied());
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, Vec<u8>)>> {
    let put = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9),
        "[0-9]{1,20}".prop_map(String::into_bytes),
        Just(b"\n".to_vec()),
        Just(b"[[[[[[[[".to_vec()),
        Just(b"null".to_vec()),
        Just(b"-1e308".to_vec()),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0..9usize, put), 1..4)
}

fn listing() -> Vec<u8> {
    let listed = json!({"bytes": 100, "sha256": "0".repeat(64)});
    let files = [
        "model/config.json",
        "model/model.safetensors",
        "training_state/optimizer.safetensors",
        "training_state/step.json",
    ];
    let files: serde_json::Map<_, _> = files.map(|file| (file.to_owned(), listed.clone())).into_iter().collect();
    json!({"format": 1, "files": files}).to_string().into_bytes()
}

fn shapes() -> BTreeMap<String, Vec<i64>> {
    [("a", vec![2, 3]), ("b", vec![2]), ("none", vec![0, 4])].map(|(name, shape)| (name.to_owned(), shape)).into()
}

/// A tensor file of eight numbers.
fn tensors() -> Vec<u8> {
    let tensor =
        |shape: &[u64], begin: u64, end: u64| json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
    let header =
        json!({"b": tensor(&[2], 0, 8), "a": tensor(&[2, 3], 8, 32), "none": tensor(&[0, 4], 32, 32)}).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 32]].concat()
}

/// Reads a tensor file as a checkpoint is read: the places of what it holds.
fn read(file: &[u8]) -> Option<Vec<(usize, usize)>> {
    let (prefix, rest) = file.split_first_chunk::<8>()?;
    let header = &rest[..header_bytes(*prefix, file.len() as u64).ok()? as usize];
    let places = places(header, file.len() as u64, &shapes()).ok()?;
    Some(places.iter().map(|place| (place.begin as usize, (place.begin + place.bytes) as usize)).collect())
}

fn report() -> MemoryReport {
    let age = |from: u32, to: Option<u32>| {
        json!({"from": from, "to": to, "recall": 0.5, "entity_pixels": 3,
        "entity_mse": 0.1, "background_pixels": 4, "background_mse": 0.01})
    };
    let row = |name: &str, kind: &str| {
        json!({"name": name, "kind": kind, "recall": 0.9, "recall_entity": 0.8,
        "recall_background": null, "horizons": [{"steps": 2, "mse": 0.01, "psnr": 20.0, "ssim": 0.9}],
        "steps": {"mse": [0.01, 0.02], "psnr": [20.0, null], "ssim": [0.9, 0.8]}, "ages": [age(1, Some(5)), age(6, None)],
        "never_seen": [0.1, null], "repairs": {"not_finite": 0, "clamped": 2}})
    };
    let report = json!({"schema": 1, "origin": {"env": "MnistWorld-v0", "dataset": "ab", "seed": 0}, "clips": 2, "context": 3,
        "horizon": 2, "frame": {"height": 12, "width": 12, "channels": 1},
        "settings": {"horizons": [2], "age_bins": [5], "recall_beyond": 4, "ssim_border": "full"},
        "pixels": {"seen_entity": 10, "seen_background": 500, "never_seen_entity": 1, "never_seen_background": 65,
                   "beyond_threshold": 100}, "rows": [row("run", "model"), row("copy last frame", "copy_last")]});
    MemoryReport::parse(report.to_string().as_bytes(), Path::new("report.json")).unwrap()
}

fn report_of_vectors() -> VectorReport {
    let errors = || json!({"steps": [0.5, 0.6], "components": [[0.5, 0.6]]});
    let report = json!({"schema": 1, "observations": "vectors", "origin": {"env": "Hopper-v0", "dataset": "ab", "seed": 0},
        "clips": 2, "context": 1, "horizon": 2, "horizons": [1, 2], "episodes": {"evaluated": 2, "fitted": 3}, "components": [1],
        "observation_scales": {"mean": [0.0, 3.0], "variance": [0.0, 2.0]}, "reward_scales": {"mean": [1.0], "variance": [4.0]},
        "baselines": {"copy_last": errors(), "mean": errors()},
        "models": [{"name": "run", "latents": {"variance": 0.01, "imagined": [0.1, 0.2], "copy_last": [0.2, 0.3]},
            "readout": {"rows": 9, "ridge": 0.001, "start": 0.1, "start_components": [0.1], "steps": [0.1, 0.2]},
            "observations": errors(), "rewards": {"imagined": [0.1, 0.2], "seeing": [0.1, 0.1], "correlation": [0.9, null],
            "correlation_of_all": 0.8}}]});
    VectorReport::parse(report.to_string().as_bytes(), Path::new("report.json")).unwrap()
}

#[test]
fn good_files_are_read() {
    assert_eq!(Listing::parse(&listing()).unwrap().files.len(), 4);
    let begin = tensors().len() - 32;
    assert_eq!(read(&tensors()).unwrap(), [(begin, begin + 8), (begin + 8, begin + 32), (begin + 32, begin + 32)]);
    assert_eq!(not_finite(&[1.0f32, f32::INFINITY].map(f32::to_le_bytes).concat()), Some((1, f32::INFINITY)));
}

#[test]
fn a_report_that_no_evaluation_can_have_made_is_refused() {
    let good = report();
    let refused = |change: fn(&mut MemoryReport), said: &str| {
        let mut report = good.clone();
        change(&mut report);
        let message = MemoryReport::parse(report.to_json().as_bytes(), Path::new("r.json")).unwrap_err().to_string();
        assert!(message.starts_with("r.json is not a memory report: ") && message.contains(said), "{message}");
    };
    refused(|r| r.rows[1].steps.mse.push(0.0), "rows.1.steps: [3, 2, 2] values, 2 steps");
    refused(|r| r.rows[0].horizons.clear(), "rows.0.horizons");
    refused(|r| r.rows[0].ages[0].to = Some(u32::MAX), "rows.0.ages");
    refused(|r| r.rows[0].ages[1].entity_pixels = u64::MAX, "rows.0.ages");
    refused(|r| r.rows[0].name = "x".repeat(2000), "rows.0.name: 2000 bytes");
    refused(|r| r.settings.recall_beyond = u32::MAX, "settings");
    refused(|r| r.settings.horizons = vec![7], "horizons");
    refused(|r| r.clips = u64::MAX, "clips");
    refused(|r| (r.horizon, r.frame.width) = (2, 1 << 60), "clips");
    refused(|r| r.horizon = 0, "horizon = 0");
    refused(|r| r.pixels.as_mut().unwrap().beyond_threshold = 511, "pixels");
    refused(|r| r.pixels.as_mut().unwrap().seen_entity = u64::MAX, "pixels");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_tensor_file_never_leads_out_of_itself(changes in changes()) {
        let file = mutated(&tensors(), &changes);
        if let Some(places) = read(&file) {
            prop_assert!(places.windows(2).all(|pair| pair[0].1 == pair[1].0));
            prop_assert!(places.last().is_some_and(|&(_, end)| end == file.len()));
        }
    }

    #[test]
    fn tensor_files_of_any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..300), header in 0..300u64) {
        prop_assert!(read(&bytes).is_none());
        prop_assert!(read(&[&header.to_le_bytes(), bytes.as_slice()].concat()).is_none());
    }

    #[test]
    fn changed_listings_and_steps_are_judged(changes in changes()) {
        let _ = Listing::parse(&mutated(&listing(), &changes));
        let step = mutated(br#"{"update":100,"draws":800,"skipped":1}"#, &changes);
        if let Ok(progress) = progress(&step) {
            prop_assert!(progress.skipped <= progress.update && progress.draws < 1 << 56);
        }
    }

    #[test]
    fn changed_configurations_are_judged(changes in changes()) {
        let good = json!({"seed": 3, "model": {"kind": "linear_rnn", "hidden": 8, "window": 12}, "train": {"warmup": 5}});
        if let Ok(config) = serde_json::from_slice::<RunConfig>(&mutated(good.to_string().as_bytes(), &changes))
            && config.validate().is_ok()
        {
            prop_assert!(config.model.parameters() > 0);
            prop_assert!(config.train.learning_rate_at(config.train.updates).is_finite());
        }
    }

    #[test]
    fn a_log_of_any_bytes_keeps_whole_lines(changes in changes(), update in 0..5u64) {
        let log = mutated(b"{\"step\":1,\"wall\":0.5}\n{\"step\":2}\n{\"step\":4}\n", &changes);
        let known = |line: &Value| line["step"].as_u64().is_some_and(|step| step <= update);
        let kept = lines_kept(log.as_slice(), known).unwrap();
        prop_assert_eq!(lines_kept(kept.as_slice(), known).unwrap(), kept);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_report_is_shown_or_refused(changes in changes()) {
        let text = mutated(report().to_json().as_bytes(), &changes);
        if let Ok(report) = MemoryReport::parse(&text, Path::new("report.json")) {
            let shown = table(&report);
            prop_assert!(!shown.contains('\x1b'), "a terminal would obey it");
            prop_assert_eq!(page(&report, &[]).matches("<script").count(), 1);
        }
    }
    #[test]
    fn a_changed_report_of_vectors_is_shown_or_refused(changes in changes()) {
        let text = mutated(report_of_vectors().to_json().as_bytes(), &changes);
        if let Ok(report) = VectorReport::parse(&text, Path::new("report.json")) {
            let shown = vectors::table::table(&report);
            prop_assert!(!shown.contains('\x1b'), "a terminal would obey it");
            prop_assert_eq!(html::vectors::page(&report).matches("<script").count(), 0);
        }
    }
}
