//! The whole program from outside: what it says, what it leaves on disk, how it exits.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

/// A world and a model so small that an update takes milliseconds.
const WORLD: &[&str] = &["--preset", "tiny", "--set", "horizon=6"];
const MODEL: &[&str] = &[
    "model.hidden=4",
    "model.v_range=0",
    "train.batch_size=2",
    "train.context=5",
    "train.horizon=3",
    "train.log_every=1",
    "train.device=cpu",
];

/// Runs the program; its exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(cargo_bin("mindseye")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// `mindseye envs | head`: results that nobody reads to the end are no mistake.
#[test]
fn results_may_be_left_unread() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(cargo_bin("mindseye"));
    let output = command.arg("envs").stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(141), ""));
}

/// Runs what must succeed; its standard output.
fn ok(arguments: &[&str]) -> String {
    let (code, out, err) = run(arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out
}

/// Runs what must be refused as bad usage, with all of `said` in the message.
fn refused(arguments: &[&str], said: &[&str]) {
    let (code, _, err) = run(arguments);
    assert_eq!(code, 2, "{arguments:?}: {err}");
    assert!(said.iter().all(|part| err.contains(part)), "{arguments:?} should say {said:?}, says: {err}");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A folder for one test.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A dataset of `episodes` episodes, recorded now; its path.
    fn dataset(&self, episodes: u32) -> String {
        let path = self.at("data");
        collect(&path, episodes, &[]);
        path
    }
}

fn collect(out: &str, episodes: u32, more: &[&str]) -> String {
    let episodes = episodes.to_string();
    ok(&[&["collect", "mnist-world", "--episodes", &episodes, "--out", out], WORLD, more].concat())
}

fn digest(dataset: &str) -> String {
    json(&ok(&["data", "info", dataset, "--json"]))["digest"].as_str().unwrap().to_owned()
}

fn train<'a>(data: &'a str, out: &'a str, updates: &'a str) -> Vec<&'a str> {
    // One thread: for a model this small, waiting for a second one would be most of the work.
    let fixed = ["train", "flowm", "--data", data, "--out", out, "--threads", "1", "--set", updates];
    fixed.into_iter().chain(MODEL.iter().flat_map(|setting| ["--set", setting])).collect()
}

/// The newest checkpoint of a run.
fn checkpoint(run: &str) -> PathBuf {
    Path::new(run).join("checkpoints/last").canonicalize().unwrap()
}

#[test]
fn help_teaches() {
    let help = ok(&["--help"]);
    for command in ["envs", "collect", "data", "train", "eval", "play", "bench", "doctor", "quickstart"] {
        assert!(help.contains(command), "{help}");
    }
    for command in ["collect", "train", "play"] {
        let help = ok(&[command, "--help"]);
        assert!(help.contains("Examples:\n  mindseye "), "{help}");
    }
    let (code, _, err) = run(&[]);
    assert!(code == 2 && err.contains("Usage: mindseye"), "{err}");
}

#[test]
fn envs_are_listed_and_shown() {
    let list = ok(&["envs"]);
    assert!(list.contains("MnistWorld-v0") && list.contains("MnistWorldTrack-v0"), "{list}");
    let lines: Vec<Value> = ok(&["envs", "--json"]).lines().map(json).collect();
    assert_eq!(lines[0]["alias"], "mnist-world");
    assert!(ok(&["envs", "mnist-world"]).contains("digit_px = 28"));
    refused(&["envs", "mnist-wrld"], &["mnist-wrld", "did you mean mnist-world"]);
}

#[test]
fn a_dataset_is_recorded_shown_verified_and_left_alone() {
    let place = Place::new();
    let data = place.dataset(20);
    let info = ok(&["data", "info", &data]);
    for part in ["MnistWorld-v0", "20 of 20", "observations", "truth.entity", "digit_px = 12"] {
        assert!(info.contains(part), "{part} in {info}");
    }
    assert!(ok(&["data", "verify", &data]).contains("all as committed"));
    let before = digest(&data);
    let again = collect(&data, 20, &[]);
    assert!(again.contains("20 episodes") && again.contains("nothing to do"), "{again}");
    assert_eq!(digest(&data), before);
}

#[test]
fn a_dataset_that_grew_is_the_one_recorded_at_once() {
    let place = Place::new();
    let data = place.dataset(20);
    let grown = place.at("grown");
    let shards = ["--episodes-per-shard", "6", "--threads", "1"];
    collect(&grown, 7, &shards);
    collect(&grown, 20, &shards);
    let at_once = place.at("at_once");
    collect(&at_once, 20, &["--episodes-per-shard", "6", "--threads", "3"]);
    assert_eq!(digest(&grown), digest(&at_once));
    let frames = |data: &str| json(&ok(&["data", "info", data, "--json"]))["frames"].clone();
    assert_eq!(frames(&grown), frames(&data));
}

#[test]
fn packed_pictures_are_the_same_pictures() {
    let place = Place::new();
    let (data, packed) = (place.dataset(20), place.at("packed"));
    collect(&packed, 12, &["--codec", "zstd"]);
    let report = json(&ok(&["data", "info", &packed, "--json"]));
    assert_eq!(report["description"]["codec"]["zstd"]["level"], 1);
    let info = ok(&["data", "info", &packed]);
    for part in ["codec        zstd: ", "unpacked, level 1, blocks of 3.1 MB", "per Observations, packed"] {
        assert!(info.contains(part), "{part} in {info}");
    }
    assert!(ok(&["data", "info", &data]).contains("codec        raw\n"));
    // It goes on as it was begun, whoever asks for nothing or for the same, and for nothing else.
    collect(&packed, 16, &[]);
    collect(&packed, 20, &["--codec", "zstd"]);
    assert!(ok(&["data", "verify", &packed]).contains("all as committed"));
    let bytes = |data: &str, name: &str| json(&ok(&["data", "info", data, "--json"]))[name].as_u64().unwrap();
    assert_eq!(bytes(&packed, "row_bytes"), bytes(&data, "row_bytes"));
    assert!(bytes(&packed, "bytes") < bytes(&data, "bytes") / 2);
    let with =
        |out, codec| [&["collect", "mnist-world", "--episodes", "20", "--out", out, "--codec", codec], WORLD].concat();
    refused(&with(&data, "zstd"), &["codec: \"raw\" on disk, {\"zstd\":{"]);
    refused(&with(&packed, "raw"), &["codec: {\"zstd\":{", "on disk, \"raw\" asked for"]);
    refused(&with(&place.at("new"), "zip"), &["--codec", "zip", "raw, zstd"]);
    assert!(!Path::new(&place.at("new")).exists());

    let [of_raw, of_packed] = [("of_raw", &data), ("of_packed", &packed)].map(|(out, data)| {
        let out = place.at(out);
        ok(&train(data, &out, "train.updates=3"));
        ok(&["eval", "memory", &out, "--data", data, "--clips", "6"]);
        let mut report = json(&fs::read_to_string(Path::new(&out).join("memory/report.json")).unwrap());
        report["rows"][0]["name"].take();
        (fs::read(checkpoint(&out).join("model/model.safetensors")).unwrap(), report)
    });
    assert!(of_raw.0 == of_packed.0, "the same clips make the same weights");
    assert!(of_raw.1["rows"] == of_packed.1["rows"], "and these remember the same");
}

#[test]
fn damage_is_found() {
    let place = Place::new();
    let data = place.dataset(3);
    let shard = fs::read_dir(Path::new(&data).join("shards")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let (code, out, err) = run(&["data", "verify", &data]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("damage: ") && out.contains("safetensors"), "{out}");
}

#[test]
fn data_of_tdmpc2_is_imported_whole_or_one_task_of_it() {
    let place = Place::new();
    let files = ["0_1", "0_15"].map(|version| {
        format!("{}/envs/tests/import/data/counter_tensordict_{version}.pt", env!("CARGO_MANIFEST_DIR"))
    });
    let (data, out) = (place.at("mt"), place.at("task"));
    let import = |out: &str, more: &[&str]| {
        let arguments = [&["data", "import", "tdmpc2", &files[0], &files[1], "--out"], &[out][..], more].concat();
        run(&arguments)
    };
    let (code, said, warned) = import(&data, &[]);
    assert!(code == 0 && said.contains("7 episodes, 28 frames") && warned.contains("episode"), "{said}{warned}");
    assert!(ok(&["data", "verify", &data]).contains("all as committed"));
    let info = json(&ok(&["data", "info", &data, "--json"]));
    assert_eq!((&info["episodes"], &info["shortest"], &info["longest"]), (&7.into(), &3.into(), &3.into()));
    assert!(ok(&["data", "info", &data]).contains("TDMPC2-v0"));
    let before = digest(&data);
    let (code, said, _) = import(&data, &["--json"]);
    assert!(code == 0 && json(&said)["digest"] == before && json(&said)["episodes"] == 7, "{said}");
    let (code, said, _) = import(&out, &["--task", "0", "--observation", "1", "--action", "1"]);
    assert!(code == 0 && said.contains("4 episodes"), "{said}");
    let columns = json(&ok(&["data", "info", &out, "--json"]))["description"]["columns"].clone();
    assert_eq!((&columns[0]["shape"], &columns[5]["name"]), (&serde_json::json!([1]), &"task".into()));
    // What is refused leaves nothing behind.
    let new = place.at("new");
    for (more, parts) in [
        (&["--task", "7"][..], &["none is of task 7"][..]),
        (&["--action", "3"], &["--action 3", "1..=2"]),
        (&["--task", "-1"], &["--task -1"]),
        (&[&files[0]], &["the same file"]),
    ] {
        let (code, _, err) = import(&new, more);
        assert!(code == 2 && parts.iter().all(|part| err.contains(part)), "{more:?}: {code} {err}");
    }
    let bad = place.at("bad.pt");
    fs::write(&bad, "no archive").unwrap();
    refused(&["data", "import", "tdmpc2", &bad, "--out", &new], &["bad.pt", "zip archive"]);
    let (code, _, err) = run(&["data", "import", "tdmpc2", &place.at("none.pt"), "--out", &new]);
    assert!(code == 74 && err.contains("none.pt"), "{code} {err}");
    assert!(!Path::new(&new).exists());
}

/// Makes `folder` with `episodes` episodes as FloWM's authors publish them; their actions are those of a file of the tests of `envs`.
fn published(folder: &str, episodes: u8, (side, frames): (usize, usize), actions: &str, endings: [&str; 2]) {
    fs::create_dir(folder).unwrap();
    let actions = format!("{}/envs/tests/import/data/{actions}", env!("CARGO_MANIFEST_DIR"));
    for episode in 0..episodes {
        let [video, stem] =
            [format!("{folder}/{episode:04}{}", endings[0]), format!("{folder}/{episode:04}{}", endings[1])];
        fs::copy(&actions, stem).unwrap();
        let rgb: Vec<u8> =
            (0..frames * side * side * 3).map(|index| episode * 20 + (index / side % 150) as u8).collect();
        let size = format!("{side}x{side}");
        let encoder = [
            "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &size, "-i", "pipe:0", "-c:v", "libx264",
            &video,
        ];
        Command::new("ffmpeg").args(encoder).write_stdin(rgb).assert().success();
    }
}

#[test]
fn published_data_of_flowm_is_imported_learned_and_remembered() {
    if !std::process::Command::new("ffmpeg").arg("-version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: there is no ffmpeg, so no video was imported");
        return;
    }
    let place = Place::new();
    let (split, blocks) = (place.at("dynamic_validation"), place.at("sunday_v2_training"));
    published(&split, 6, (32, 4), "flowm_mnist_world.pt", [".mp4", ".pt"]);
    published(&blocks, 2, (128, 5), "flowm_blockworld_actions.pt", ["_rgb.mp4", "_actions.pt"]);
    let import = |from: &str, out: &str, more: &[&str]| {
        run(&[&["data", "import", "flowm", from, "--out", out][..], more].concat())
    };
    let (data, rooms) = (place.at("digits"), place.at("rooms"));
    let (code, said, warned) = import(&split, &data, &[]);
    assert!(code == 0 && said.contains("6 episodes, 24 frames") && warned.contains("digit_labels"), "{said}{warned}");
    assert!(ok(&["data", "verify", &data]).contains("all as committed"));
    let info = ok(&["data", "info", &data]);
    for part in ["MnistWorld-v0", "codec        raw", "dynamic_validation", "ffmpeg "] {
        assert!(info.contains(part), "{part} in {info}");
    }
    let (code, said, _) = import(&split, &data, &["--json"]);
    assert!(code == 0 && json(&said)["digest"] == digest(&data) && json(&said)["episodes"] == 6, "{said}");
    // Killed before its first line is written, it begins again; parts make the same.
    let killed = place.at("killed");
    let arguments = ["data", "import", "flowm", &split, "--out", &killed];
    let output = Command::new(cargo_bin("mindseye"))
        .args(arguments)
        .env("MINDSEYE_FAULT", "kill@write~manifest.jsonl:1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), None, "{output:?}");
    ok(&arguments);
    assert_eq!(digest(&killed), digest(&data));
    let (first, second, merged) = (place.at("first"), place.at("second"), place.at("merged"));
    let (code, said, _) = import(&split, &first, &["--shard", "0/2"]);
    assert!(code == 0 && said.contains("part 0/2 of 6 episodes: 6 episodes"), "{said}");
    assert_eq!(import(&split, &second, &["--shard", "1/2"]).0, 0);
    ok(&["data", "merge", &first, &second, "--out", &merged]);
    assert_eq!(digest(&merged), digest(&data));
    // Models take it as any dataset.
    let (flat, deep) = (place.at("flat"), place.at("deep"));
    ok(&[&train(&data, &flat, "train.updates=1")[..], &["--set", "train.context=2", "--set", "train.horizon=2"]]
        .concat());
    ok(&["eval", "memory", &flat, "--data", &data, "--clips", "6", "--context", "2", "--horizon", "2"]);
    let (code, said, _) = import(&blocks, &rooms, &[]);
    assert!(code == 0 && said.contains("2 episodes, 10 frames"), "{said}");
    assert!(ok(&["data", "info", &rooms]).contains("codec        zstd: "));
    let arguments = ["train", "flowm3d", "--preset", "tiny", "--data", &rooms, "--out", &deep, "--threads", "1"];
    let settings = [
        "train.updates=1",
        "train.batch_size=1",
        "train.context=2",
        "train.horizon=2",
        "train.device=cpu",
        "model.patch=32",
    ];
    ok(&arguments.into_iter().chain(settings.iter().flat_map(|setting| ["--set", setting])).collect::<Vec<_>>());
}

#[test]
fn published_data_that_cannot_be_imported_leaves_nothing_behind() {
    let place = Place::new();
    let (split, new) = (place.at("split"), place.at("new"));
    fs::create_dir(&split).unwrap();
    let import = ["data", "import", "flowm", &split, "--out", &new];
    refused(&import, &["no episode to import", &split, "NNNN_rgb.mp4 and NNNN_actions.pt (Blockworld)"]);
    refused(&[&import[..], &["--world", "moon"]].concat(), &["--world", "block-world", "mnist-world"]);
    fs::write(Path::new(&split).join("0000_rgb.mp4"), "").unwrap();
    // Without ffmpeg nothing is read.
    let mut command = std::process::Command::new(cargo_bin("mindseye"));
    let output = command.args(import).env("PATH", place.at("no programs")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("videos are decoded by `ffmpeg`, which is not installed")
            && said.contains("apt-get install ffmpeg"),
        "{said}"
    );
    let (code, _, err) = run(&["data", "import", "flowm", &place.at("none"), "--out", &new]);
    assert!(code == 74 && err.contains("none"), "{code} {err}");
    assert!(!Path::new(&new).exists());
}

#[test]
fn wrong_usage_exits_2_and_names_the_culprit() {
    let place = Place::new();
    let data = place.dataset(2);
    let (none, out) = (place.at("none"), place.at("out"));
    let collect = ["collect", "mnist-world", "--episodes", "2", "--out", &out];
    let with = |more: &[&'static str]| [&collect[..], more].concat();
    refused(&with(&["--episode", "2"]), &["--episode", "--episodes"]);
    refused(&with(&["--preset", "tinny"]), &["tinny", "tiny"]);
    refused(&with(&["--set", "world.wimdow=16"]), &["wimdow", "did you mean `window`"]);
    refused(&with(&["--set", "world.window=wide"]), &["world.window", "wide"]);
    refused(&with(&["--set", "world.window=51"]), &["world.window", "51", "1..=50"]);
    refused(&with(&["--set", "world"]), &["--set world", "FIELD=VALUE"]);
    refused(&with(&["--threads", "0"]), &["--threads 0", "1..="]);
    refused(&with(&["--seed", "9223372036854775808"]), &["--seed", "9223372036854775807"]);
    refused(&["data", "info", &none], &[&none]);
    refused(&["data", "info", place.0.path().to_str().unwrap()], &["dataset.json"]);
    refused(&["train", "flowmm", "--data", &data, "--out", &out], &["flowmm", "linear_rnn"]);
    refused(&["train", "flowm", "--data", &none, "--out", &out], &[&none]);
    refused(&train(&data, &out, "train.updates=0"), &["train.updates", "0"]);
    let too_long = [&train(&data, &out, "train.updates=1")[..], &["--set", "train.horizon=99"]].concat();
    refused(&too_long, &["104", "26"]);
    refused(&["eval", "memory", &none, "--data", &data], &[&none, "no run"]);
    refused(&["eval", "policy", "mnist-world-track", "--episodes", "5"], &["5", "100"]);
    assert!(!Path::new(&out).exists(), "what is refused leaves nothing behind");
    let other = ["collect", "mnist-world", "--episodes", "2", "--out", &data, "--seed", "5"];
    refused(&[&other[..], WORLD].concat(), &["seed", "5"]);
    let (code, _, err) = run(&["data", "info", &none, "--json"]);
    assert!(code == 2 && json(&err)["exit"] == 2, "{err}");
}

#[test]
fn a_run_is_resumed_only_when_asked_and_only_as_it_was_begun() {
    let place = Place::new();
    let (data, out) = (place.dataset(20), place.at("run"));
    let arguments = train(&data, &out, "train.updates=4");
    assert!(ok(&arguments).contains("4 updates"));
    for file in ["config.json", "run.json", "metrics.jsonl", "checkpoints/000004/manifest.json"] {
        assert!(Path::new(&out).join(file).exists(), "{file}");
    }
    assert_eq!(fs::read_to_string(Path::new(&out).join("metrics.jsonl")).unwrap().lines().count(), 4);
    refused(&arguments, &["--resume"]);
    let changed = [&arguments[..], &["--resume", "--set", "train.learning_rate=0.5"]].concat();
    refused(&changed, &["train.learning_rate", "0.5"]);
    ok(&[&arguments[..], &["--resume"]].concat());
    ok(&["train", "flowm", "--data", &data, "--out", &out, "--resume"]);
    // Another run may begin with its weights.
    let second = place.at("second");
    ok(&[&train(&data, &second, "train.updates=1")[..], &["--start-from", &out]].concat());
}

#[test]
fn a_run_stopped_by_a_signal_resumes_to_the_same_bits() {
    let place = Place::new();
    let data = place.dataset(20);
    let (whole, stopped) = (place.at("whole"), place.at("stopped"));
    let updates = "train.updates=150";
    ok(&train(&data, &whole, updates));

    let arguments = train(&data, &stopped, updates);
    let mut child = std::process::Command::new(cargo_bin("mindseye"))
        .args(&arguments)
        .env("MINDSEYE_FAULT", "pause@write~metrics.jsonl:5")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let begin = Instant::now();
    while !fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ") {
        assert!(begin.elapsed() < Duration::from_mins(2) && child.try_wait().unwrap().is_none(), "it never trained");
        std::thread::sleep(Duration::from_millis(2));
    }
    for signal in ["-TERM", "-CONT"] {
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{err}");
    assert!(err.contains("add --resume"), "{err}");
    let name = checkpoint(&stopped).file_name().unwrap().to_str().unwrap().to_owned();
    let done: u32 = name.parse().unwrap();
    assert!((5..150).contains(&done), "stopped after {done} updates");

    ok(&[&arguments[..], &["--resume"]].concat());
    for file in ["model/model.safetensors", "training_state/optimizer.safetensors", "training_state/step.json"] {
        let bytes = |run| fs::read(checkpoint(run).join(file)).unwrap();
        assert!(bytes(&whole) == bytes(&stopped), "{file} differs after a stop at update {done}");
    }
    let losses = |run: &str| -> Vec<Value> {
        let text = fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| json(line)["train/loss"].clone()).collect()
    };
    assert_eq!(losses(&whole), losses(&stopped));
}

#[test]
fn memory_is_measured_and_reported() {
    let place = Place::new();
    let (data, out) = (place.dataset(20), place.at("run"));
    ok(&train(&data, &out, "train.updates=2"));
    let table = ok(&["eval", "memory", &out, "--data", &data, "--clips", "6"]);
    for row in ["run", "oracle", "copy last frame", "all black", "recall"] {
        assert!(table.contains(row), "{row} in {table}");
    }
    let memory = Path::new(&out).join("memory");
    let report = json(&fs::read_to_string(memory.join("report.json")).unwrap());
    assert_eq!((&report["schema"], &report["clips"], &report["context"]), (&1.into(), &6.into(), &5.into()));
    assert_eq!(report["rows"][0]["name"], "run");
    let html = fs::read_to_string(memory.join("report.html")).unwrap();
    assert!(html.contains("<svg") && !html.contains("http://") && !html.contains("https://"), "it needs no network");
    let again = json(&ok(&["eval", "memory", &out, "--data", &data, "--clips", "6", "--json"]));
    assert_eq!(again, report, "the same question gets the same answer");
    refused(&["eval", "memory", &out, "--data", &data, "--horizon", "99"], &["--horizon 99", "26"]);
}

#[test]
fn the_doctor_answers_in_words_and_in_json() {
    let text = ok(&["doctor"]);
    let lines: Vec<Value> = ok(&["doctor", "--json"]).lines().map(json).collect();
    for check in ["mindseye", "processor", "threads", "memory", "disk", "libtorch", "cuda"] {
        assert!(text.contains(check), "{text}");
        let line = lines.iter().find(|line| line["check"] == check).expect("one line for each");
        assert!(line["status"] == "ok" || line["status"] == "note", "{line}");
    }
}

#[test]
fn a_run_with_weights_of_another_never_goes_on_without_them() {
    let place = Place::new();
    let (data, first) = (place.dataset(20), place.at("first"));
    ok(&train(&data, &first, "train.updates=2"));
    let from = ["--start-from", &first];
    let whole = place.at("whole");
    ok(&[&train(&data, &whole, "train.updates=3")[..], &from].concat());

    let killed = |out: &str, fault: &str| {
        let arguments = [&train(&data, out, "train.updates=3")[..], &from].concat();
        let output = Command::new(cargo_bin("mindseye")).args(arguments).env("MINDSEYE_FAULT", fault).output().unwrap();
        assert_eq!(output.status.code(), None, "{output:?}");
    };
    // Killed while the first weights are being saved, there is nothing to go on from.
    let early = place.at("early");
    killed(&early, "kill@create~model.safetensors:1");
    let resumed = |out: &str| run(&["train", "flowm", "--data", &data, "--out", out, "--resume", "--threads", "1"]);
    let (code, _, err) = resumed(&early);
    assert!(code == 2 && err.contains("--start-from") && err.contains(&first), "{err}");
    // Killed after that, it goes on with them.
    let late = place.at("late");
    killed(&late, "kill@write~metrics.jsonl:1");
    let (code, _, err) = resumed(&late);
    assert_eq!(code, 0, "{err}");
    let weights = |run: &str| fs::read(checkpoint(run).join("model/model.safetensors")).unwrap();
    assert!(weights(&late) == weights(&whole));
}
