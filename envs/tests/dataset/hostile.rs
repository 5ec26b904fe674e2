//! Whatever bytes stand where a manifest, a description or a shard should be: an answer, and no panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use envs::dataset::{Dataset, Description, Entry, Manifest, verify};
use proptest::prelude::*;

use crate::toy::{Toy, undisturbed};

/// A good dataset.
static FILES: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| undisturbed(&Toy::varied(), 10));

fn description() -> Description {
    Description::parse(&FILES["dataset.json"], Path::new("dataset.json")).unwrap()
}

/// One change of a file: bytes from `at` on are replaced by others, which may be more or fewer.
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
        Just(b"{\"a\":".to_vec()),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0..9usize, put), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_manifest_of_any_bytes_is_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let manifest = Manifest::parse(&bytes, &description());
        prop_assert!(manifest.entries.is_empty());
    }

    #[test]
    fn a_changed_line_is_never_believed(changes in changes()) {
        let good = Manifest::parse(&FILES["manifest.jsonl"], &description());
        let found = Manifest::parse(&mutated(&FILES["manifest.jsonl"], &changes), &description());
        for entry in &found.entries {
            prop_assert!(good.entries.contains(entry));
        }
    }

    #[test]
    fn a_line_with_a_good_check_and_any_numbers_is_judged(
        numbers in prop::array::uniform4(any::<u64>()), runs in prop::collection::vec(any::<[u64; 2]>(), 0..4)
    ) {
        let mut entry = Manifest::parse(&FILES["manifest.jsonl"], &description()).entries.remove(0);
        entry.bytes = numbers[0];
        entry.episodes = [numbers[1], numbers[2]];
        entry.steps = numbers[3];
        entry.lengths = runs;
        prop_assert!(Entry::parse(entry.to_line().strip_suffix(b"\n").unwrap()).is_err());
    }

    #[test]
    fn a_description_of_any_bytes_is_judged(changes in changes()) {
        let path = Path::new("dataset.json");
        let changed = mutated(&FILES["dataset.json"], &changes);
        if changed != FILES["dataset.json"] && Description::parse(&changed, path).is_ok() {
            // What is left of its check fits only if it is none.
            prop_assert!(!String::from_utf8_lossy(&changed).contains("\"check\""));
        }
        let unchecked = serde_json::to_vec(&description()).unwrap();
        if let Ok(description) = Description::parse(&mutated(&unchecked, &changes), path) {
            let text = serde_json::to_vec(&description).unwrap();
            prop_assert!(Description::parse(&text, path).is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_dataset_with_any_file_changed_opens_or_says_why(
        changes in changes(), file in prop::sample::select(vec!["dataset.json", "manifest.jsonl", "shards/000001.safetensors"])
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("shards")).unwrap();
        for (name, good) in &*FILES {
            let bytes = if name == file { mutated(good, &changes) } else { good.clone() };
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        if let Ok(dataset) = Dataset::open(dir.path()) {
            let rows = dataset.episodes().map(|episode| episode.bytes(0).len());
            prop_assert!(rows.sum::<usize>() > 0);
        }
        let _ = verify(dir.path(), true);
    }
}

#[test]
fn a_shard_name_that_leads_out_of_the_dataset_is_refused() {
    let mut entry = Manifest::parse(&FILES["manifest.jsonl"], &description()).entries.remove(0);
    entry.shard = "../../etc/passwd".to_owned();
    let mut bytes = entry.to_line();
    bytes.extend_from_slice(&FILES["manifest.jsonl"]);
    let manifest = Manifest::parse(&bytes, &description());
    assert!(manifest.damaged[0].1.contains("000000.safetensors"), "{:?}", manifest.damaged);
}

#[test]
fn lines_that_all_overlap_are_judged_without_comparing_each_with_each() {
    let good = description();
    let description = Description { episodes: 1 << 40, episodes_per_shard: 1 << 40, ..good };
    let like = Manifest::parse(&FILES["manifest.jsonl"], &self::description()).entries.remove(0);
    let line = |first: u64, end: u64| {
        let count = end - first;
        let shard = if first == 0 {
            format!("000000-{count}.safetensors")
        } else {
            format!("000000-{first}+{count}.safetensors")
        };
        Entry { shard, bytes: 1 << 40, episodes: [first, end], steps: 0, lengths: vec![[0, count]], ..like.clone() }
            .to_line()
    };
    let seconds = |many: u64| {
        let disjoint = std::iter::once(line(0, 2)).chain((2..many).map(|first| line(first, first + 1)));
        let text: Vec<u8> = disjoint.chain((0..many).map(|more| line(1, many + more))).flatten().collect();
        let begin = std::time::Instant::now();
        let manifest = Manifest::parse(&text, &description);
        assert_eq!((manifest.entries.len() as u64, manifest.damaged.len()), (many - 1, 1001));
        begin.elapsed().as_secs_f64()
    };
    // Sixteen times the lines take about 16 times as long, and comparing each with each would take 256 times. Another try
    // is for a machine that had other work during the second but not the first.
    let times: Vec<_> = (0..10).map(|_| seconds(32_000) / seconds(2_000)).take_while(|times| *times > 64.0).collect();
    assert!(times.len() < 10, "{times:?} times as long");
}
