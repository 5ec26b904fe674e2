//! `mindseye rollout` from outside: files in, files out, against the golden heights of the original Ant.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

const S: f64 = std::f64::consts::FRAC_1_SQRT_2;

/// Two Ants at rest, and `steps` actions of zero.
fn recorded(path: &Path, steps: usize, breaks: impl Fn(&mut Vec<f64>)) {
    let mut state = vec![0.0; 29];
    state[..15].copy_from_slice(&[0.0, 0.75, 0.0, -S, 0.0, 0.0, S, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0]);
    let mut state = state.repeat(2);
    breaks(&mut state);
    let bytes = |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let (state, actions) = (bytes(&state), bytes(&vec![0.0; 2 * steps * 8]));
    let views = [
        ("state", TensorView::new(Dtype::F64, vec![2, 29], &state).unwrap()),
        ("actions", TensorView::new(Dtype::F64, vec![2, steps, 8], &actions).unwrap()),
    ];
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn rollout(input: &Path, output: &Path, more: &[&str]) -> (i32, String) {
    let paths = ["--in", input.to_str().unwrap(), "--out", output.to_str().unwrap()];
    let run = Command::new(cargo_bin("mindseye")).args(["rollout", "Ant-v0"]).args(paths).args(more).output().unwrap();
    (run.status.code().unwrap(), String::from_utf8(run.stderr).unwrap())
}

#[test]
fn an_ant_rolled_out_bounces_as_the_original_does() {
    let place = tempfile::tempdir().unwrap();
    let (input, output) = (place.path().join("in.safetensors"), place.path().join("out.safetensors"));
    recorded(&input, 20, |_| {});
    let (code, err) = rollout(&input, &output, &["--gradients"]);
    assert_eq!(code, 0, "{err}");
    let bytes = fs::read(&output).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("states"), [2, 20, 29]);
    assert_eq!(shape("observations"), [2, 20, 37]);
    assert_eq!((shape("rewards"), shape("terminations")), (vec![2, 20], vec![2, 20]));
    assert_eq!(shape("gradients"), [2, 20, 8]);
    let states = file.tensor("states").unwrap();
    let states: Vec<f64> = states.data().as_chunks::<8>().0.iter().map(|x| f64::from_le_bytes(*x)).collect();
    for (step, height) in [(1, 0.748_552_3), (10, 0.612_898_4), (14, 0.497_081_2), (20, 0.559_569_4)] {
        for row in 0..2 {
            let found = states[(row * 20 + step - 1) * 29 + 1];
            assert!((found - height).abs() < 1e-6, "row {row}, step {step}: {found} instead of {height}");
        }
    }
}

#[test]
fn bad_input_is_named_and_nothing_is_written() {
    let place = tempfile::tempdir().unwrap();
    let (input, output) = (place.path().join("in.safetensors"), place.path().join("out.safetensors"));
    recorded(&input, 3, |state| state[31] = f64::INFINITY);
    let (code, err) = rollout(&input, &output, &[]);
    assert!(code == 2 && err.contains("`state` is inf at number 2 of row 1"), "{err}");
    let (code, err) = rollout(&place.path().join("none"), &output, &[]);
    assert!(code == 74 && err.contains("none"), "{err}");
    fs::write(&input, "{}").unwrap();
    let (code, err) = rollout(&input, &output, &[]);
    assert!(code == 2 && err.contains("not a safetensors file"), "{err}");
    recorded(&input, 3, |_| {});
    let (code, err) = rollout(&input, &output, &["--set", "physics.inertia=wrong"]);
    assert!(code == 2 && err.contains("physics.inertia") && err.contains("exact"), "{err}");
    assert!(!output.exists());
}

#[test]
fn every_environment_shows_its_configuration() {
    let place = tempfile::tempdir().unwrap();
    for env in ["mnist-world", "mnist-world-track", "ant", "hopper", "cartpole-swing-up", "double-pendulum"] {
        for words in [&["envs", env][..], &["collect", env, "--episodes", "1", "--out", "data", "--print-config"]] {
            let run = Command::new(cargo_bin("mindseye")).args(words).current_dir(&place).output().unwrap();
            let (out, err) = (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap());
            assert!(run.status.success() && out.contains(" = "), "{words:?}: {out}{err}");
        }
    }
}
