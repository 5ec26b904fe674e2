//! Bad configuration, end to end: every case is refused with exit code 2 before anything is created, and says where it was
//! given, what it is, what is allowed and what to try; for people, and the same for programs. The snapshot holds every word.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use envs::dataset::{
    ColumnSpec, Control, DatasetHeader, Dtype, EpisodeBuffer, EpisodeSource, Length, Request, collect,
};
use rayon::prelude::*;
use serde_json::{Map, Value};
use simulators::rng::Seed;
use tempfile::TempDir;

/// One refused command: number of the case, command line, and what the message must have in it.
type Case = (u32, &'static str, &'static [&'static str]);

/// Trains as the files below are prepared for; cases add to it.
const TRAIN: &str = "train flowm --data data --out out --preset tiny --set train.context=5 --set train.horizon=3";

const CASES: &[Case] = &[
    (1, "{train} --set modle.hidden=64", &["unknown field `modle`", "did you mean `model`?"]),
    (1, "{train} --set model.hiden=64", &["unknown field `hiden`", "did you mean `hidden`?"]),
    (1, "{train} --config typo.toml", &["typo.toml:3", "did you mean `batch_size`?"]),
    (1, "collect mnist-world --episodes 2 --out out --set world.wimdow=16", &["did you mean `window`?"]),
    (1, "play block-world --set world.rom=9", &["unknown field `rom`", "did you mean `room`?"]),
    (2, "{train} --set train.batch_size=0", &["train.batch_size = 0", "1..=65536", "--set train.batch_size=0"]),
    (2, "{train} --config zero.toml", &["train.batch_size = 0", "1..=65536", "zero.toml:6"]),
    (3, "{train} --set train.batch_size=-4", &["train.batch_size = -4: out of range", "1..=65536"]),
    (3, "collect mnist-world --episodes 2 --out out --set world.digits=-4", &["world.digits = -4", "1..=255"]),
    (4, "{train} --set train.batch_size=3.5", &["a whole number is expected", "1..=65536"]),
    (4, "{train} --set model.hidden=3.5", &["model.hidden = 3.5: a whole number is expected", "1..=1024"]),
    (5, "{train} --set train.learning_rate=nan", &["NaN", "a finite number in (0, 10]"]),
    (5, "{train} --set train.learning_rate=inf", &["inf", "a finite number in (0, 10]"]),
    (5, "{train} --set train.learning_rate=1e9", &["1000000000", "a finite number in (0, 10]"]),
    (6, "{train} --set train.learning_rate=fast", &["a number is expected, not a string"]),
    (6, "{train} --set model.self_motion=1", &["true or false is expected, not a whole number"]),
    (7, "{train} --config twice.toml", &["twice.toml:4:1", "`train.batch_size` is given twice, first in line 2"]),
    (8, "{train} --config cut.toml", &["cut.toml:2:16"]),
    (9, "{train} --config binary.toml", &["binary.toml: not a text file"]),
    (9, "{train} --config huge.toml", &["huge.toml: larger than 1 MB"]),
    (9, "{train} --config none.toml", &["none.toml: there is no such file"]),
    (10, "collect mnist_wrld --episodes 2 --out out", &["mnist_wrld", "did you mean mnist-world or"]),
    (10, "train flow --data data --out out", &["flow", "flowm, flowm3d, linear_rnn", "did you mean `flowm`?"]),
    (11, "{train} --set model.window=60", &["model.window = 60", "`model.world`, given in data/dataset.json", "24"]),
    (11, "{train} --set model.window=12", &["[12, 12, 1]", "[16, 16, 1]", "allowed: 16"]),
    (11, "train flowm3d --data data --out out --set model.patch=5", &["model.patch = 5", "4 (divides `model.window`"]),
    (11, "train flowm3d --data data --out out --set model.map_side=32", &["model.map_side = 32", "33 (odd"]),
    (12, "train flowm3d --data data --out out --set model.heads=5", &["model.heads = 5", "4 (divides `model.hidden`)"]),
    (12, "collect mnist-world --episodes 2 --out out --config fields.toml", &["world.digit_px = 28", "fields.toml:2"]),
    (12, "collect mnist-world --episodes 2 --out out --set context=2", &["context = 2", "`window` 32", "`step` 10"]),
    (
        13,
        "train flowm --data data --out out --set train.context=70 --set train.horizon=280",
        &["70 + 280 = 350", "the longest episode of data has 26", "--set train.horizon=280"],
    ),
    (13, "eval memory run --data data --horizon 99", &["--horizon 99", "26"]),
    (14, "train flowm --data three --out out --preset tiny --set model.world=24", &["actions of 2", "three have 3"]),
    (15, "eval memory run --data wide", &["observations", "[20, 20, 1]", "[16, 16, 1]"]),
    (14, "train flowm3d --data data --out out --preset tiny", &["one of 5 choices", "data have 2 (shape [2])"]),
    (15, "play block-world --run run", &["[16, 16, 1]", "those of BlockWorld-v0 are [128, 128, 3]"]),
    (15, "train flowm --data floats --out out --preset tiny", &["observations", "F32", "U8"]),
    (16, "train flowm --data none --out out", &["no dataset at none", "--data none"]),
    (16, "train flowm --data empty --out out", &["empty is an empty directory"]),
    (16, "train flowm --data other --out out", &["other is not a dataset"]),
    (16, "train flowm --data newer --out out", &["newer/dataset.json has dataset format 99", "newer version"]),
    (16, "data info none", &["no dataset at none"]),
    (
        17,
        "train flowm --data data --out run --resume --set model.hidden=8 --set train.batch_size=4",
        &["model.hidden: 4 -> 8", "train.batch_size: 2 -> 4", "train.log_every"],
    ),
    (17, "train linear_rnn --data data --out run --resume", &["model.kind: \"flowm\" -> \"linear_rnn\""]),
    (17, "{train} --start-from run", &["do not fit", "model.hidden: 4 -> 16"]),
    (18, "eval policy mnist-world-track --envs 1000000000", &["need about", "are free", "allowed: 1..="]),
    (18, "{train} --set train.batch_size=65536 --set model.hidden=1024", &["training needs about 6.5 TB", "are free"]),
    (
        18,
        "{train} --set model.hidden=1024 --set model.v_range=7 --set model.world=1024",
        &["model.hidden = 1024", "training needs about", "a single clip"],
    ),
    (
        18,
        "collect mnist-world --episodes 2 --out out --set world.world=4096 --set world.window=4096 --set horizon=1000000",
        &["recording needs about", "are free"],
    ),
    (19, "{train} --threads 0", &["--threads 0: out of range; allowed: 1..="]),
    (19, "{train} --threads 10000", &["--threads 10000: out of range; allowed: 1..="]),
    (20, "{train} --seed -1", &["--seed -1", "0..=9223372036854775807"]),
    (20, "{train} --seed 18446744073709551616", &["--seed 18446744073709551616", "0..=9223372036854775807"]),
    (20, "{train} --seed abc", &["--seed abc", "a whole number is expected", "0..=9223372036854775807"]),
    (20, "{train} --set seed=-1", &["seed = -1: out of range", "0..=9223372036854775807"]),
    (20, "{train} --set seed=18446744073709551616", &["seed = 18446744073709551616: out of range"]),
    (20, "{train} --set seed=abc", &["seed = \"abc\": a whole number is expected, not a string"]),
    (21, "{train} --set train.device=cuda", &["train.device = \"cuda\"", "torch 2.11.0 for CUDA into LD_LIBRARY_PATH"]),
    (21, "{train} --set train.device=gpu", &["train.device = \"gpu\": no such choice", "auto, cpu, cuda"]),
    (22, "collect mnist-world --episodes 2 --out out --shard 4/4", &["--shard 4/4", "i in 0..n, zero-based"]),
    (22, "collect mnist-world --episodes 2 --out out --shard 5/3", &["--shard 5/3", "i in 0..n, zero-based"]),
    (22, "collect mnist-world --episodes 2 --out out --shard a/b", &["--shard a/b", "i in 0..n, zero-based"]),
    (22, "collect mnist-world --episodes 2 --out out --shard 0/0", &["--shard 0/0", "i in 0..n, zero-based"]),
    (22, "collect mnist-world --episodes 2 --out out --shard -1/4", &["--shard -1/4", "i in 0..n, zero-based"]),
    (23, "{train} --resume --start-from run", &["--resume", "--start-from"]),
    (23, "{train} --preset smal", &["--preset"]),
    (23, "train flowm --data data --out out --preset smal", &["tiny, small, paper", "did you mean `small`?"]),
    (23, "{train} --seed 1 --set seed=2", &["--seed 1 cannot be used with --set seed=2"]),
    (23, "train flowm --data data --out run", &["there is a run already", "--resume"]),
    (23, "{train} --set model.kind=linear_rnn", &["the command line asks for flowm"]),
    (24, "{train} --set train.learning_rate=${oc.env:HOME}", &["\"${oc.env:HOME}\": a number is expected"]),
    (24, "{train} --set train.updates=eval:1+1", &["\"eval:1+1\": a whole number is expected"]),
    (24, "{train} --set model._target_=os.system", &["unknown field `_target_`"]),
    (24, "{train} --set _target_=os.system", &["unknown field `_target_`"]),
    (
        24,
        "collect mnist-world --episodes 2 --out out --set digits.kind=idx --set digits.images=${HOME}/i --set digits.labels=l",
        &["cannot read ${HOME}/i", "--set digits.images=${HOME}/i"],
    ),
    (
        24,
        "{train} --config zero.toml --set train.batch_size=-1",
        &["train.batch_size = -1", "--set train.batch_size=-1"],
    ),
    (24, "{train} --no-such-flag", &["--no-such-flag"]),
    (24, "train flowm --out out", &["--data <DIR>"]),
];

/// What the cases find: datasets of several kinds, a run, configuration files.
static PLACE: LazyLock<TempDir> = LazyLock::new(|| {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let world = "collect mnist-world --preset tiny --set horizon=6 --episodes 2 --out";
    succeeds(place.path(), &format!("{world} data"));
    succeeds(place.path(), &format!("{world} wide --set world.window=20"));
    let small = "--set model.hidden=4 --set model.v_range=0 --set train.updates=1 --set train.batch_size=2";
    succeeds(place.path(), &format!("{TRAIN} {small}").replace("--out out", "--out run"));
    let stop = AtomicBool::new(false);
    for (name, source) in
        [("three", Toy { observations: Dtype::U8, action: 3 }), ("floats", Toy { observations: Dtype::F32, action: 2 })]
    {
        collect(&source, &at(name), Request::episodes(1), Control { stop: &stop, progress: &|_| {} }).unwrap();
    }
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("other")).unwrap();
    fs::write(at("other/notes.txt"), "mine").unwrap();
    fs::create_dir(at("newer")).unwrap();
    let description = fs::read_to_string(at("data/dataset.json")).unwrap();
    fs::write(at("newer/dataset.json"), description.replace("\"format\": 1", "\"format\": 99")).unwrap();
    for (name, text) in [
        ("typo.toml", "seed = 1\n[train]\nbatch_sise = 4\n"),
        ("zero.toml", "[model]\nhidden = 4\n# batch_size = 2\n[train]\nupdates = 3\nbatch_size = 0\n"),
        ("twice.toml", "[train]\nbatch_size = 2\nupdates = 3\nbatch_size = 4\n"),
        ("cut.toml", "[train]\nbatch_size = \"a"),
        ("fields.toml", "[world]\ndigit_px = 28\nworld = 24\nwindow = 16\n"),
    ] {
        fs::write(at(name), text).unwrap();
    }
    fs::write(at("binary.toml"), [b'a', b' ', b'=', 0, 159, 146, 150]).unwrap();
    File::create(at("huge.toml")).unwrap().set_len(1 << 30).unwrap();
    place
});

/// Episodes that no model here can take.
struct Toy {
    observations: Dtype,
    action: usize,
}

impl EpisodeSource for Toy {
    fn header(&self) -> DatasetHeader {
        let nothing = || serde_json::json!({});
        let (env_id, env_version, seed) = ("Toy-v0".to_owned(), 0, Seed(0));
        DatasetHeader { env_id, env_version, config: nothing(), spaces: nothing(), fps: 1.0, seed }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        let observations = ColumnSpec::observations("observations", self.observations, &[16, 16, 1]);
        vec![observations, ColumnSpec::steps("actions", Dtype::I8, &[self.action])]
    }

    fn length(&self) -> Length {
        Length::Fixed(40)
    }

    fn record(&self, _: u64, _: &mut EpisodeBuffer<'_>) {}
}

fn run(place: &Path, line: &str, json: bool) -> (Option<i32>, String, String) {
    let output = Command::new(cargo_bin("mindseye"))
        .current_dir(place)
        .env("CUDA_VISIBLE_DEVICES", "")
        // Where these are set the program need not restart to set them, and loading libtorch is most of its time here.
        .envs([
            ("OMP_WAIT_POLICY", "passive"),
            ("MALLOC_TRIM_THRESHOLD_", "8000000000"),
            ("MALLOC_MMAP_THRESHOLD_", "8000000000"),
        ])
        .args(line.split_whitespace())
        .args(json.then_some("--json"))
        // Only against a hang; how long a refusal takes is measured elsewhere.
        .timeout(Duration::from_mins(1))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn succeeds(place: &Path, line: &str) -> String {
    let (code, out, err) = run(place, line, false);
    assert_eq!(code, Some(0), "{line}: {err}");
    out
}

/// Every file and folder below `folder`, with its size.
fn contents(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let about = entry.metadata().unwrap();
        found.push((entry.path().display().to_string(), about.len()));
        if about.is_dir() {
            found.extend(contents(&entry.path()));
        }
    }
    found.sort();
    found
}

#[test]
fn bad_configuration_is_refused_before_anything_is_created() {
    let place = PLACE.path();
    let before = contents(place);
    let refused = |(number, line, expected): &Case| {
        let line = line.replace("{train}", TRAIN);
        let (code, out, err) = run(place, &line, false);
        assert_eq!((code, out.as_str()), (Some(2), ""), "case {number}, {line}: {err}");
        let message = err.strip_prefix("error: ").and_then(|message| message.strip_suffix('\n')).unwrap_or_default();
        assert!(!message.is_empty() && !message.contains("panic"), "case {number}, {line}: {err}");
        for part in *expected {
            assert!(message.contains(part), "case {number}, {line} should say `{part}`, says: {err}");
        }
        let (code, out, json) = run(place, &line, true);
        assert_eq!((code, out.as_str()), (Some(2), ""), "case {number}, {line} --json: {json}");
        let mut object: Map<String, Value> =
            serde_json::from_str(&json).unwrap_or_else(|e| panic!("case {number}: {e}: {json}"));
        let (said, exit) = (object.remove("error").unwrap(), object.remove("exit").unwrap());
        assert_eq!(anywhere(*number, said.as_str().unwrap()), anywhere(*number, message), "case {number}, {line}");
        assert_eq!(exit, Value::from(2), "case {number}, {line}");
        assert_eq!(contents(place), before, "case {number}, {line} (or one beside it) left something behind");
        let part = |(name, part): (&String, &Value)| format!("  {name}: {}\n", text_of(part));
        let parts = object.iter().map(part).collect::<Vec<_>>().concat();
        format!("{number}. {line}\n{}{}\n", anywhere(*number, &err), anywhere(*number, &parts))
    };
    let said: String = CASES.par_iter().map(refused).collect::<Vec<_>>().concat();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(said) });
}

/// A part for programs: text as it is, the rest as JSON.
fn text_of(part: &Value) -> String {
    part.as_str().map_or_else(|| part.to_string(), str::to_owned)
}

/// The text without what depends on the machine: its memory, its processors, how it says that there is no CUDA.
fn anywhere(number: u32, text: &str) -> String {
    let part = |before: &str, after: &str| {
        let from = text.find(before)? + before.len();
        Some(&text[from..from + text[from..].find(after)?])
    };
    let replaced = |text: String, part: Option<&str>, around: &str, name: &str| match part {
        Some(part) => text.replace(&around.replace('@', part), &around.replace('@', name)),
        None => text,
    };
    let whole = text.to_owned();
    match number {
        18 => {
            let most = [" with", "; try 64", "\n"].into_iter().find_map(|after| part("allowed: 1..=", after));
            let text = replaced(whole, part("of memory, ", " are free"), "@ are free", "[FREE]");
            replaced(replaced(text, most, "1..=@", "[MOST]"), most, "try @", "[MOST]")
        }
        19 => {
            let most = (std::thread::available_parallelism().unwrap().get() * 4).to_string();
            replaced(replaced(whole, Some(&most), "..=@", "[4 x CORES]"), Some(&most), "try @ ", "[4 x CORES]")
        }
        21 => replaced(whole, part("can be used here: ", ";"), "@", "[WHY]"),
        _ => whole,
    }
}

#[test]
fn the_last_layer_has_the_say_and_no_text_is_run() {
    let config = |more: &str| -> toml::Table {
        succeeds(PLACE.path(), &format!("{TRAIN} {more} --print-config")).parse().unwrap()
    };
    let hidden = |more: &str| config(more)["model"]["hidden"].as_integer().unwrap();
    let defaults = "train flowm --data data --out out --print-config";
    let defaults: toml::Table = succeeds(PLACE.path(), defaults).parse().unwrap();
    assert_eq!(defaults["model"]["hidden"].as_integer(), Some(32));
    assert_eq!(hidden(""), 16, "the preset above the defaults");
    assert_eq!(hidden("--config zero.toml --set train.batch_size=1"), 4, "the file above the preset");
    assert_eq!(hidden("--config zero.toml --set train.batch_size=1 --set model.hidden=7 --set model.hidden=9"), 9);
    assert_eq!(
        config("--seed 3 --config zero.toml --set train.batch_size=1").get("seed").and_then(toml::Value::as_integer),
        Some(3)
    );
    let literal = "collect mnist-world --episodes 2 --out out --print-config --set digits.kind=idx --set digits.labels=l \
                   --set digits.images=${HOME}/$(touch${IFS}created)";
    let shown = succeeds(PLACE.path(), literal);
    assert!(shown.contains("images = \"${HOME}/$(touch${IFS}created)\""), "{shown}");
    assert!(!PLACE.path().join("created").exists() && !PLACE.path().join("out").exists());
}

#[test]
fn what_decides_nothing_may_change_when_a_run_goes_on() {
    let place = TempDir::new().unwrap();
    succeeds(place.path(), "collect mnist-world --preset tiny --set horizon=6 --episodes 2 --out data");
    let small = "--set model.hidden=4 --set model.v_range=0 --set train.updates=1 --set train.batch_size=2";
    succeeds(place.path(), &format!("{TRAIN} {small}"));
    // Nothing of the run is said again: what is left out stays as it was.
    succeeds(place.path(), "train flowm --data data --out out --resume --set train.log_every=3");
    let (code, _, err) = run(place.path(), "train flowm --data data --out out --resume --seed 4", false);
    assert!(code == Some(2) && err.contains("\n  seed: 0 -> 4\n"), "{err}");
}
