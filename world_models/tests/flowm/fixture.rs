//! The parity fixtures: inputs, weights and outputs of the original modules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Kind, Tensor, nn};

/// One fixture: the tensors and the description of an original module.
pub struct Fixture {
    name: String,
    tensors: BTreeMap<String, Tensor>,
    description: Value,
}

/// The folder of fixtures: `MINDSEYE_PARITY_DIR`, or `../shared/data/parity` beside the repository.
fn folder() -> PathBuf {
    std::env::var_os("MINDSEYE_PARITY_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/parity"), PathBuf::from)
}

impl Fixture {
    /// Reads a fixture; `None`, said aloud, where the folder is not there.
    pub fn load(name: &str) -> Option<Self> {
        let path = folder().join(format!("{name}.safetensors"));
        if !path.exists() {
            eprintln!("SKIPPED {name}: no {}; set MINDSEYE_PARITY_DIR", path.display());
            return None;
        }
        let tensors = Tensor::read_safetensors(&path).unwrap().into_iter().collect();
        let text = std::fs::read_to_string(path.with_extension("json")).unwrap();
        Some(Self { name: name.into(), tensors, description: serde_json::from_str(&text).unwrap() })
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    /// A whole-number constructor argument of the original.
    pub fn argument(&self, name: &str) -> Option<i64> {
        self.description["constructor"][name].as_i64()
    }

    /// The names of the outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().filter_map(|name| name.strip_prefix("output."))
    }

    /// Copies every `weight.*` into the variable of the same name; both sides must have the same names.
    pub fn load_weights(&self, vs: &nn::VarStore) {
        let mut variables = vs.variables();
        tch::no_grad(|| {
            for (name, tensor) in self.tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix("weight.")?, t))) {
                let mut variable =
                    variables.remove(name).unwrap_or_else(|| panic!("{}: no variable {name}", self.name));
                variable.copy_(tensor);
            }
        });
        assert!(variables.is_empty(), "{}: variables without a weight: {:?}", self.name, variables.keys());
    }

    /// Compares with `output.<name>` within the fixture's own tolerance.
    pub fn check(&self, name: &str, found: &Tensor) {
        let expected = self.tensor(&format!("output.{name}"));
        let tolerance = &self.description["outputs"][name]["tolerance"];
        let (rtol, atol) = (tolerance["rtol"].as_f64().unwrap(), tolerance["atol"].as_f64().unwrap());
        assert_close(&format!("{} {name}", self.name), found, expected, rtol, atol);
    }
}

/// `|a - b| <= atol + rtol * |b|` everywhere, or a panic that names the worst place.
pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor, rtol: f64, atol: f64) {
    assert_eq!(found.size(), expected.size(), "{what}: shapes differ");
    let (found, expected) = (found.detach().to_kind(Kind::Double), expected.detach().to_kind(Kind::Double));
    let excess = (&found - &expected).abs() - (expected.abs() * rtol + atol);
    let worst = excess.reshape([-1]).argmax(0, false).int64_value(&[]);
    let at = |t: &Tensor| t.reshape([-1]).double_value(&[worst]);
    assert!(
        at(&excess) <= 0.0,
        "{what}: element {worst} is {} but {} is expected (rtol {rtol}, atol {atol})",
        at(&found),
        at(&expected)
    );
}
