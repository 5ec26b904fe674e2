//! Whatever bytes stand where a manifest, a description or a shard should be: an answer, and no panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use envs::dataset::{Clips, Codec, Dataset, Description, Entry, Manifest, Zstd, repair, verify};
use envs::storage::Disk;
use proptest::prelude::*;
use serde_json::{Value, json};
use simulators::rng::Seed;
use tempfile::TempDir;

use crate::toy::{Toy, collect_toy, undisturbed};

/// A good dataset.
static FILES: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| undisturbed(&Toy::varied(), 10));
/// The same with its frames packed: three of the seven of each episode make a block.
static PACKED: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| undisturbed(&Toy::fixed(6).packed(), 10));

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
        changes in changes(), file in prop::sample::select(vec!["dataset.json", "manifest.jsonl", "shards/000001.safetensors"]),
        packed in any::<bool>()
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("shards")).unwrap();
        for (name, good) in if packed { &*PACKED } else { &*FILES } {
            let bytes = if name == file { mutated(good, &changes) } else { good.clone() };
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        if let Ok(dataset) = Dataset::open(dir.path()) {
            for episode in dataset.episodes() {
                match episode.bytes(0) {
                    Ok(rows) => prop_assert!(!rows.is_empty()),
                    Err(error) => {
                        let named = error.to_string().contains(&format!("episode {}, ", episode.number()));
                        prop_assert!(packed && named, "{error}");
                    }
                }
            }
        }
        let _ = verify(dir.path(), true);
        let _ = repair(&Disk, dir.path(), true);
    }
}

/// The packed dataset with other frames and lines of their table in its second shard, of which all else agrees with them: as
/// whoever means harm would have made it.
fn sealed(change: impl FnOnce(&mut Vec<u8>, &mut Vec<[i64; 2]>)) -> TempDir {
    let good = &PACKED["shards/000001.safetensors"];
    let (prefix, rest) = good.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*prefix) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let place = |header: &Value, name: &str| {
        let offsets = header[name]["data_offsets"].as_array().unwrap();
        offsets[0].as_u64().unwrap() as usize..offsets[1].as_u64().unwrap() as usize
    };
    let (table, frames) = (place(&header, "observations.blocks"), place(&header, "observations.zstd"));
    let word = |bytes: &[u8; 8]| i64::from_le_bytes(*bytes);
    let lines = data[table.clone()].as_chunks::<8>().0.as_chunks::<2>().0;
    let mut lines: Vec<[i64; 2]> = lines.iter().map(|line| line.each_ref().map(word)).collect();
    let mut packed = data[frames.clone()].to_vec();
    change(&mut packed, &mut lines);
    let mut data = data[..frames.start].to_vec();
    data[table].copy_from_slice(bytemuck::cast_slice(&lines));
    data.extend_from_slice(&packed);
    header["observations.zstd"] =
        json!({"dtype": "U8", "shape": [packed.len()], "data_offsets": [frames.start, data.len()]});
    let mut header = header.to_string();
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let shard = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();

    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("shards")).unwrap();
    PACKED.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    fs::write(dir.path().join("shards/000001.safetensors"), &shard).unwrap();
    let description = Description::read(dir.path()).unwrap();
    let mut entries = Manifest::read(dir.path(), &description).unwrap().entries;
    (entries[1].bytes, entries[1].blake3) = (shard.len() as u64, blake3::hash(&shard).to_hex().to_string());
    fs::write(dir.path().join("manifest.jsonl"), entries.iter().flat_map(Entry::to_line).collect::<Vec<u8>>()).unwrap();
    dir
}

/// The last block, the one frame of episode 7 that is in no other, is `frame`.
fn with_frame(frame: &[u8]) -> TempDir {
    sealed(|frames, lines| {
        let begin = lines[lines.len() - 2][0] as usize;
        frames.truncate(begin);
        frames.extend_from_slice(frame);
        *lines.last_mut().unwrap() = [frames.len() as i64, i64::from(crc32fast::hash(frame))];
    })
}

#[test]
fn frames_of_anything_but_their_rows_are_refused() {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let zstd = |rows: &[u8]| zstd::bulk::compress(rows, 3).unwrap();
    // 10,000 blocks of 128 KiB of zeros, of which each takes four bytes.
    let zeros = [2, 0, 0x10, 0].repeat(10_000);
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("other rows", zstd(&[5; 16]), ""),
        ("a row too few", zstd(&[5; 15]), "it claims 15 bytes of rows, there are 16"),
        ("a gigabyte of zeros", zstd(&vec![0; 1 << 30]), "it claims 1073741824 bytes of rows, there are 16"),
        (
            "2^60 bytes",
            [&MAGIC[..], &[0xe0], &(1u64 << 60).to_le_bytes(), &[1, 0, 0]].concat(),
            "it claims 1152921504606846976",
        ),
        ("more than it claims", [&MAGIC[..], &[0x20, 16], &zeros].concat(), "it does not unpack"),
        ("less than it claims", [&MAGIC[..], &[0x20, 16, 1, 0, 0]].concat(), "it does not unpack"),
        ("an unknown size", [&MAGIC[..], &[0x00, 0x58], &zeros].concat(), "no frame of zstd that says its size"),
        ("a frame to skip", [&[0x50, 0x2a, 0x4d, 0x18, 16, 0, 0, 0][..], &[5; 16]].concat(), "it claims 0 bytes"),
        ("half a frame", zstd(&[5; 16])[..6].to_vec(), "it does not unpack"),
        ("nothing", Vec::new(), "no frame of zstd"),
    ];
    for (name, frame, said) in cases {
        let dir = with_frame(&frame);
        let dataset = Arc::new(Dataset::open(dir.path()).unwrap());
        let read = dataset.episode(7).unwrap().bytes(0);
        if said.is_empty() {
            assert_eq!(read.unwrap()[6 * 16..], [5; 16]);
            continue;
        }
        let text = read.unwrap_err().to_string();
        let place = "000001.safetensors: episode 7, column `observations`: block 2: ";
        assert!(text.contains(place) && text.contains(said), "{name}: {text}");
        assert_eq!(dataset.episodes().filter(|episode| episode.bytes(0).is_ok()).count(), 9, "{name}");
        let clips = Clips::new(dataset, 7, Seed(0)).unwrap();
        let windows: Vec<_> = clips.in_order().collect();
        let text = clips.batch(&windows, &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string();
        assert!(text.contains(place), "{name}: {text}");
        // It is as it was committed; if it were not, the same would be said of it.
        assert!(verify(dir.path(), true).unwrap().damage.is_empty());
        let shard = dir.path().join("shards/000001.safetensors");
        let mut bytes = fs::read(&shard).unwrap();
        bytes[40] ^= 1;
        fs::write(&shard, bytes).unwrap();
        let damage = verify(dir.path(), true).unwrap().damage;
        assert!(damage.iter().any(|damage| damage.episode == Some(7)), "{name}: {damage:?}");
        let repaired = repair(&Disk, dir.path(), true).unwrap();
        assert_eq!(repaired.files[0].kept, [[4, 7]], "{name}: {repaired:?}");
    }
}

#[test]
fn an_episode_larger_than_any_is_refused_and_its_rows_are_not_made_room_for() {
    // Seventy-one frames, each a block. Then somebody says that each has 64 MiB.
    let dir = tempfile::tempdir().unwrap();
    let codec = Codec::Zstd(Zstd { level: 1, block_bytes: 1 });
    collect_toy(&Toy { codec, ..Toy::fixed(70) }, dir.path(), 1).unwrap();
    let path = dir.path().join("dataset.json");
    let mut description: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    description.as_object_mut().unwrap().remove("check");
    description["columns"][0]["shape"] = json!([8192, 8192, 1]);
    fs::write(&path, description.to_string()).unwrap();
    let dataset = Dataset::open(dir.path()).unwrap();
    let episode = dataset.episode(0).unwrap();
    let text = episode.bytes(0).unwrap_err().to_string();
    assert!(text.contains("71 rows are more than the 4294967296 bytes that an episode may have"), "{text}");
    let text = episode.read(0, 0..1, &mut vec![0; 8192 * 8192]).unwrap_err().to_string();
    assert!(text.contains("block 0: it claims 16 bytes of rows, there are 67108864"), "{text}");
    description["columns"][0]["shape"] = json!([8192, 8193, 1]);
    fs::write(&path, description.to_string()).unwrap();
    let text = Dataset::open(dir.path()).err().unwrap().to_string();
    assert!(text.contains("zstd packs rows of at most 67108864 bytes, not 67117056"), "{text}");
}

#[test]
fn tables_that_lead_elsewhere_are_refused() {
    for end in [-1, i64::MIN, i64::MAX, 1 << 40, 0] {
        let dir = sealed(|_, lines| lines[1][0] = end);
        let dataset = Dataset::open(dir.path()).unwrap();
        let text = dataset.episode(4).unwrap().bytes(0).unwrap_err().to_string();
        assert!(text.contains("episode 4, column `observations`: block 1: "), "{end}: {text}");
        assert_eq!(dataset.episodes().filter(|episode| episode.bytes(0).is_ok()).count(), 9, "{end}");
        let mut frame = [0; 16];
        dataset.episode(4).unwrap().read(0, 0..1, &mut frame).unwrap();
        assert!(dataset.episode(4).unwrap().read(0, 6..7, &mut frame).is_err());
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
