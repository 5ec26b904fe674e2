//! What the targets behind libtorch share: the shapes of a small model, and seeds.

use std::collections::BTreeMap;

use serde_json::json;

/// Tensors that a file must have.
#[must_use]
pub fn shapes() -> BTreeMap<String, Vec<i64>> {
    [("a.weight", vec![2, 1, 3]), ("a.bias", vec![2]), ("none", vec![0, 4]), ("scalar", vec![])]
        .map(|(name, shape)| (name.to_owned(), shape))
        .into()
}

fn tensors() -> Vec<u8> {
    let header = json!({"__metadata__": {"format": "pt"},
        "a.bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "a.weight": {"dtype": "F32", "shape": [2, 1, 3], "data_offsets": [8, 32]},
        "none": {"dtype": "F32", "shape": [0, 4], "data_offsets": [32, 32]},
        "scalar": {"dtype": "F32", "shape": [], "data_offsets": [32, 36]}})
    .to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 36]].concat()
}

/// Writes a seed of each target by `seed(target, name, bytes)`.
pub fn torch_seeds(seed: &dyn Fn(&str, &str, &[u8])) {
    let listed = |bytes: u64| json!({"bytes": bytes, "sha256": "0".repeat(64)});
    let listing = json!({"format": 1, "files": {
        "model/config.json": listed(800), "model/model.safetensors": listed(5000),
        "training_state/optimizer.safetensors": listed(9000), "training_state/step.json": listed(60)}});
    let progress = json!({"update": 100, "draws": 800, "skipped": 1});
    let flowm = json!({"seed": 0, "model": {"kind": "flowm", "hidden": 4, "v_range": 1, "world": 50, "window": 32,
        "input_channels": 1, "decoder_layers": 1, "self_motion": true, "cell": "flow", "write_order": "paper",
        "init": "near_identity", "precision": "bf16"},
        "train": {"updates": 10, "batch_size": 2, "context": 5, "horizon": 3, "learning_rate": 0.001, "warmup": 2,
        "schedule": "cosine", "final_share": 0.02, "adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "clip_norm": 1.0},
        "device": "cpu", "log_every": 1, "checkpoint_every": 5, "keep_checkpoints": 3, "nonfinite_limit": 3}});
    let linear = json!({"seed": 3, "model": {"kind": "linear_rnn", "hidden": 8, "window": 12, "input_channels": 1,
        "actions": true}, "train": {}});
    for (which, name, value) in
        [(0u8, "listing", &listing), (1, "progress", &progress), (2, "flowm", &flowm), (2, "linear", &linear)]
    {
        seed("checkpoint", name, &[&[which], value.to_string().as_bytes()].concat());
    }
    seed("tensors", "good", &tensors());
    seed("metrics", "good", b"{\"step\":1,\"wall\":0.5,\"train/loss\":0.1}\n{\"step\":101,\"wall\":0.5}\n{\"step\":2");
    seed("run_config", "good", b"seed = 3\n[train]\nupdates = 5\nadam.beta1 = 0.5\n[model]\ncell = \"flow\"\n\ntrain.batch_size=4\nmodel.v_range = 0\ntrain.schedule=constant");
    seed("report", "good", report().to_string().as_bytes());
}

/// A report of one model on two steps.
fn report() -> serde_json::Value {
    let age = |from: u32, to: Option<u32>| {
        json!({"from": from, "to": to, "recall": 0.5, "entity_pixels": 3, "entity_mse": 0.1,
        "background_pixels": 4, "background_mse": 0.01})
    };
    let row = |name: &str, kind: &str| {
        json!({"name": name, "kind": kind, "recall": 0.9, "recall_entity": 0.8,
        "recall_background": null, "horizons": [{"steps": 2, "mse": 0.01, "psnr": 20.0, "ssim": 0.9}],
        "steps": {"mse": [0.01, 0.02], "psnr": [20.0, null], "ssim": [0.9, 0.8]},
        "ages": [age(1, Some(5)), age(6, None)], "never_seen": [0.1, null], "repairs": {"not_finite": 0, "clamped": 2}})
    };
    json!({"schema": 1, "origin": {"env": "MnistWorld-v0", "dataset": "ab", "seed": 0}, "clips": 2, "context": 3,
        "horizon": 2, "frame": {"height": 12, "width": 12, "channels": 1},
        "settings": {"horizons": [2], "age_bins": [5], "recall_beyond": 4, "ssim_border": "full"},
        "pixels": {"seen_entity": 10, "seen_background": 500, "never_seen_entity": 1, "never_seen_background": 65,
                   "beyond_threshold": 100},
        "rows": [row("run", "model"), row("oracle", "oracle"), row("copy last frame", "copy_last")]})
}
