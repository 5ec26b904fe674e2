//! Small files that would be large, and large ones that take no room: each is refused before it is unpacked or read.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use envs::dataset::Entry;
use flate2::Compression;
use flate2::read::GzEncoder;
use serde_json::{Value, json};

use crate::bounded::{Outcome, Worst, run};
use crate::victim::{Place, copy, sparse, succeeded};

const TEN_GB: u64 = 10 << 30;

/// What is done to a file or folder.
type Harm = fn(&Path);
/// What is done to a copy of the dataset, and what `data info` must then say.
type Bomb = (&'static str, &'static str, Harm);

/// The first line of the manifest with other numbers, sealed anew.
fn line(data: &Path, change: fn(&mut Entry)) {
    let manifest = data.join("manifest.jsonl");
    let text = fs::read(&manifest).unwrap();
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    let mut entry = Entry::parse(lines.next().unwrap().strip_suffix(b"\n").unwrap()).unwrap();
    change(&mut entry);
    fs::write(manifest, lines.fold(entry.to_line(), |text, line| [&text, line].concat())).unwrap();
}

const DATASETS: [Bomb; 8] = [
    ("a description nested 100,000 deep", "recursion limit", |data| {
        fs::write(data.join("dataset.json"), "{\"format\":".to_owned() + &"[".repeat(100_000)).unwrap();
    }),
    ("a description of 10 GB", "dataset.json", |data| sparse(&data.join("dataset.json"), TEN_GB)),
    ("a manifest of 10 GB", "manifest.jsonl", |data| sparse(&data.join("manifest.jsonl"), TEN_GB)),
    ("a manifest of sixty million empty lines", "manifest.jsonl line 1", |data| {
        fs::write(data.join("manifest.jsonl"), vec![b'\n'; 60_000_000]).unwrap();
    }),
    ("a line of 2^60 episodes", "manifest.jsonl line 1: episodes 0 to 1152921504606846976", |data| {
        line(data, |entry| entry.episodes[1] = 1 << 60);
    }),
    ("a line of 2^60 steps", "manifest.jsonl line 1", |data| line(data, |entry| entry.steps = 1 << 60)),
    ("a line of a shard of 2^63 bytes", "manifest.jsonl line 1", |data| line(data, |entry| entry.bytes = 1 << 63)),
    ("a shard of 10 GB", "10737418240 bytes", |data| {
        let shard = fs::read_dir(data.join("shards")).unwrap().map(|item| item.unwrap().path()).min().unwrap();
        sparse(&shard, TEN_GB);
    }),
];

#[test]
fn no_bomb_in_a_dataset_goes_off() {
    let (place, mut worst) = (Place::new(), Worst::default());
    let usual = run(&["data", "info", &place.text("data")]);
    succeeded(&usual);
    for (index, (name, said, harm)) in DATASETS.into_iter().enumerate() {
        let data = place.path(&format!("data-{index}"));
        copy(&place.path("data"), &data);
        harm(&data);
        let text = data.to_str().unwrap();
        worst.refused(name, &["data", "info", text], &[text, said], &usual);
        let verified = run(&["data", "verify", text, "--quick", "--json"]);
        assert!(
            matches!(verified.code, Some(1 | 2 | 74)) && verified.seconds < usual.patience(),
            "{name}: {verified:?}"
        );
        if let Some(line) = verified.out.lines().next() {
            let damage = serde_json::from_str::<Value>(line).unwrap()["damage"].as_array().unwrap().len();
            assert!((1..=1002).contains(&damage), "{name}: {damage} places");
        }
    }
}

/// A dataset of 600 million episodes without steps, whose shard is 10 GB of nothing: it is what it says it is.
#[test]
fn episodes_take_no_memory_until_they_are_looked_at() {
    let place = Place::new();
    let data = place.path("data");
    let usual = run(&["data", "info", &place.text("data")]);
    let mut description: Value = serde_json::from_slice(&fs::read(data.join("dataset.json")).unwrap()).unwrap();
    let episodes = 600_000_000u64;
    description.as_object_mut().unwrap().remove("check");
    description["columns"] = json!([{"name": "tag", "dtype": "U8", "shape": [], "follows": "episode"}]);
    (description["episodes"], description["episodes_per_shard"]) = (json!(episodes), json!(episodes));
    fs::write(data.join("dataset.json"), description.to_string()).unwrap();
    let tensor = |dtype: &str, shape: Value, begin: u64, end: u64| json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
    let mut header = json!({
        "lengths": tensor("I64", json!([episodes]), 0, 8 * episodes),
        "checks": tensor("I64", json!([episodes, 1]), 8 * episodes, 16 * episodes),
        "tag": tensor("U8", json!([episodes]), 16 * episodes, 17 * episodes),
    })
    .to_string();
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let shard = data.join("shards/000000.safetensors");
    let bytes = 8 + header.len() as u64 + 17 * episodes;
    sparse(&shard, bytes);
    let mut file = fs::OpenOptions::new().write(true).open(&shard).unwrap();
    file.write_all(&[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    let entry = Entry {
        shard: "000000.safetensors".into(),
        bytes,
        episodes: [0, episodes],
        steps: 0,
        lengths: vec![[0, episodes]],
        blake3: "0".repeat(64),
        columns: [("tag".to_owned(), "0".repeat(32))].into(),
    };
    fs::write(data.join("manifest.jsonl"), entry.to_line()).unwrap();
    for command in ["info", "verify"] {
        let quick = (command == "verify").then_some("--quick");
        let arguments: Vec<&str> = ["data", command, data.to_str().unwrap()].into_iter().chain(quick).collect();
        let outcome = run(&arguments);
        succeeded(&outcome);
        assert!(outcome.seconds < usual.patience() && outcome.peak < usual.peak + (64 << 20), "{outcome:?}");
    }
}

/// A dataset of which every packed block claims to be an exabyte, and is what its check says.
#[test]
fn no_bomb_in_a_packed_picture_goes_off() {
    let (place, mut worst) = (Place::new(), Worst::default());
    let (good, data) = (place.text("good"), place.text("packed"));
    let collect = ["collect", "mnist-world", "--episodes", "4", "--preset", "tiny", "--set", "horizon=6"];
    succeeded(&run(&[&collect[..], &["--codec", "zstd", "--out", &data]].concat()));
    let evaluate = ["eval", "memory", &good, "--data", &data, "--clips", "4"];
    let usual = run(&evaluate);
    succeeded(&usual);

    let shard = place.path("packed/shards/000000-4.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let begin = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..begin]).unwrap();
    let place_of = |name: &str| {
        let offsets = header[name]["data_offsets"].as_array().unwrap();
        offsets[0].as_u64().unwrap() as usize + begin..offsets[1].as_u64().unwrap() as usize + begin
    };
    let (table, frames) = (place_of("observations.blocks"), place_of("observations.zstd"));
    let mut at = frames.start;
    for line in table.step_by(16) {
        let end = frames.start + u64::from_le_bytes(*bytes[line..].first_chunk().unwrap()) as usize;
        let claim = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1u64 << 60).to_le_bytes()].concat();
        bytes[at..at + claim.len()].copy_from_slice(&claim);
        let mut check = flate2::Crc::new();
        check.update(&bytes[at..end]);
        bytes[line + 8..line + 16].copy_from_slice(&u64::from(check.sum()).to_le_bytes());
        at = end;
    }
    fs::write(&shard, bytes).unwrap();
    let said =
        ["000000-4.safetensors: episode ", "column `observations`: block 0: it claims 1152921504606846976 bytes"];
    worst.refused("blocks of 2^60 bytes", &evaluate, &said, &usual);
    let out = place.text("out");
    let train = ["train", "flowm", "--data", &data, "--out", &out, "--preset", "tiny", "--set", "train.updates=1"];
    let small = ["--set", "train.context=5", "--set", "train.horizon=3"];
    worst.refused("blocks of 2^60 bytes", &[&train[..], &small].concat(), &said, &usual);
    let verified = run(&["data", "verify", &data]);
    assert!(verified.code == Some(1) && verified.out.contains("episode 3, column `observations`"), "{verified:?}");
}

#[test]
fn no_bomb_beside_a_run_goes_off() {
    let (place, mut worst) = (Place::new(), Worst::default());
    let data = place.text("data");
    let evaluate = |run: &str| ["eval", "memory", run, "--data", &data, "--clips", "1"].map(str::to_owned);
    let good = place.text("good");
    let usual = run(&evaluate(&good).each_ref().map(String::as_str));
    succeeded(&usual);

    let victim = place.victim("config");
    sparse(&victim.run.join("config.json"), TEN_GB);
    let resume = ["train", "flowm", "--data", &data, "--out", victim.run.to_str().unwrap(), "--resume"];
    worst.refused("a configuration of 10 GB", &resume, &["config.json", "10737418240"], &usual);

    let victim = place.victim("origin");
    sparse(&victim.run.join("run.json"), TEN_GB);
    let resume = ["train", "flowm", "--data", &data, "--out", victim.run.to_str().unwrap(), "--resume"];
    worst.refused("an origin of 10 GB", &resume, &["run.json", "10737418240"], &usual);

    let victim = place.victim("metrics");
    sparse(&victim.run.join("metrics.jsonl"), TEN_GB);
    let resume = ["train", "flowm", "--data", &data, "--out", victim.run.to_str().unwrap(), "--resume"];
    worst.refused("a log of 10 GB", &resume, &["metrics.jsonl", "10737418240"], &usual);

    let report = place.text("report.json");
    let evaluated = evaluate(&good);
    let beside = [&evaluated.each_ref().map(String::as_str)[..], &["--beside", &report]].concat();
    sparse(&place.path("report.json"), TEN_GB);
    worst.refused("a report of 10 GB", &beside, &["report.json", "10737418240"], &usual);
    fs::write(&report, "{\"schema\":1,\"rows\":".to_owned() + &"[".repeat(100_000)).unwrap();
    worst.refused("a report nested 100,000 deep", &beside, &["report.json", "not a memory report"], &usual);
    fs::remove_file(&report).unwrap();
    assert!(Command::new("mkfifo").arg(&report).status().unwrap().success());
    worst.refused("a pipe for a report", &beside, &["report.json", "not a regular file"], &usual);

    let file = place.text("bomb.toml");
    let out = place.text("out");
    let train = ["train", "flowm", "--data", &data, "--out", &out];
    let configured = [&train[..], &["--config", &file]].concat();
    sparse(&place.path("bomb.toml"), TEN_GB);
    worst.refused("a TOML file of 10 GB", &configured, &["bomb.toml", "1 MB"], &usual);
    for (name, text) in [
        ("TOML lists nested 100,000 deep", "a = ".to_owned() + &"[".repeat(100_000)),
        ("TOML tables nested 100,000 deep", "a = ".to_owned() + &"{a=".repeat(100_000)),
        ("a TOML key of 100,000 parts", "a.".repeat(100_000) + "a = 1"),
        ("a TOML header of 100,000 parts", format!("[{}a]", "a.".repeat(100_000))),
    ] {
        fs::write(&file, text).unwrap();
        worst.refused(name, &configured, &["bomb.toml"], &usual);
    }
    let deep = "a.".repeat(60_000) + "a=1";
    worst.refused("a field of 60,000 parts", &[&train[..], &["--set", &deep]].concat(), &["--set"], &usual);
    let deep = "a=".to_owned() + &"[".repeat(60_000);
    worst.refused("a value nested 60,000 deep", &[&train[..], &["--set", &deep]].concat(), &["`a`"], &usual);
    assert!(!place.path("out").exists());
}

#[test]
fn no_bomb_among_digits_goes_off() {
    let (place, mut worst) = (Place::new(), Worst::default());
    let usual = run(&["envs"]);
    let folder = place.path("digits");
    fs::create_dir(&folder).unwrap();
    let header = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let labels = [header(&[0x801, 40]), (0..40).map(|i| i / 2 % 10).collect()].concat();
    fs::write(folder.join("train-labels-idx1-ubyte"), labels).unwrap();
    let images = folder.join("train-images-idx3-ubyte");
    let out = place.text("out");
    let collect = ["collect", "mnist-world", "--episodes", "2", "--out", &out, "--mnist", folder.to_str().unwrap()];
    let packed = |head: &[u32], zeros: u64| {
        let head = header(head);
        let mut bytes = Vec::new();
        GzEncoder::new(head.chain(std::io::repeat(0).take(zeros)), Compression::best())
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    };
    for (name, said, bytes) in [
        ("images that unpack to a gigabyte", "goes on after the 40 items", packed(&[0x803, 40, 28, 28], 1 << 30)),
        ("2^31 images", "`number of images` is 2147483648", packed(&[0x803, 1 << 31, 28, 28], 1000)),
        ("images of 65,536 pixels a side", "`rows` is 65536", packed(&[0x803, 40, 65536, 65536], 1000)),
        ("more images than the file can hold", "`size by the header", packed(&[0x803, 300_000, 28, 28], 0)),
    ] {
        fs::write(&images, bytes).unwrap();
        worst.refused(name, &collect, &["train-images-idx3-ubyte", said], &usual);
    }
    sparse(&images, TEN_GB);
    worst.refused("images of 10 GB", &collect, &["train-images-idx3-ubyte", "10737418240"], &usual);
    assert!(!place.path("out").exists());
}

/// The damage that `data verify --json` tells of can be read by a program, whatever is damaged.
#[test]
fn damage_is_told_in_json() {
    let place = Place::new();
    let verify = |data: &Path| -> (Outcome, Value) {
        let outcome = run(&["data", "verify", data.to_str().unwrap(), "--json"]);
        let report = serde_json::from_str(outcome.out.lines().next().unwrap_or("null")).unwrap();
        (outcome, report)
    };
    let shard =
        |data: &Path| fs::read_dir(data.join("shards")).unwrap().map(|item| item.unwrap().path()).min().unwrap();
    let harms: [(&str, Harm); 5] = [
        ("shards/", |shard| {
            let mut bytes = fs::read(shard).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(shard, bytes).unwrap();
        }),
        ("shards/", |shard| fs::remove_file(shard).unwrap()),
        ("shards/", |shard| fs::write(shard, "").unwrap()),
        ("manifest.jsonl", |shard| {
            let manifest = shard.ancestors().nth(2).unwrap().join("manifest.jsonl");
            let mut bytes = fs::read(&manifest).unwrap();
            bytes[20] ^= 1;
            fs::write(manifest, bytes).unwrap();
        }),
        ("manifest.jsonl", |shard| {
            let manifest = shard.ancestors().nth(2).unwrap().join("manifest.jsonl");
            let bytes = fs::read(&manifest).unwrap();
            fs::write(&manifest, [b"\xff\x1b[2J\"\\\n", bytes.as_slice()].concat()).unwrap();
        }),
    ];
    for (index, (file, harm)) in harms.into_iter().enumerate() {
        let data = place.path(&format!("data-{index}"));
        copy(&place.path("data"), &data);
        harm(&shard(&data));
        let (outcome, report) = verify(&data);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let error: Value = serde_json::from_str(&outcome.err).unwrap();
        assert!(error["error"].as_str().unwrap().contains("damaged"), "{error}");
        let damage = report["damage"].as_array().unwrap();
        assert!(!damage.is_empty() && damage.iter().all(|d| d["file"].as_str().unwrap().starts_with(file)), "{report}");
    }
    let (outcome, report) = verify(&place.path("data"));
    succeeded(&outcome);
    assert_eq!(report["damage"], json!([]));
}
