//! Writes real files of every kind into `corpus/<target>/`, for the fuzzer to start from.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use envs::batch::StepBatch;
use envs::vector::Reset;
use flate2::Compression;
use flate2::write::GzEncoder;
use mindseye_fuzz::{FILES, PACKED, batch};

fn seed(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("a folder for the seeds");
    fs::write(folder.join(format!("seed-{name}")), bytes).expect("a seed");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory does not fail")
}

fn dataset() {
    seed("description", "good", &FILES.description_text);
    // One without a check, which may be changed.
    let fields = serde_json::to_vec(&FILES.description).expect("a description is plain data");
    seed("description", "unchecked", &fields);
    seed("manifest", "good", &[&[0], FILES.manifest_text.as_slice()].concat());
    // Without checks: the target seals inputs that begin with an odd byte.
    let fields: Vec<Vec<u8>> = FILES
        .manifest_text
        .split(|&byte| byte == b'\n')
        .filter_map(|line| Some(line.get(..line.len().checked_sub(br#","check":"00000000"}"#.len())?)?.to_vec()))
        .collect();
    seed("manifest", "sealed", &[&[1], fields.join(&b'\n').as_slice()].concat());
    seed("dataset", "description", &[&[0], FILES.description_text.as_slice()].concat());
    seed("dataset", "manifest", &[&[1], FILES.manifest_text.as_slice()].concat());
    for (index, (_, bytes)) in FILES.shards.iter().enumerate() {
        seed("shard", &index.to_string(), &[&[index as u8], bytes.as_slice()].concat());
        seed("dataset", &format!("shard-{index}"), &[&[2 + index as u8], bytes.as_slice()].concat());
    }
    // Those of the packed one are chosen by the upper half of the numbers, whose remainders by three are others.
    for (index, (_, bytes)) in PACKED.shards.iter().enumerate() {
        seed("shard", &format!("packed-{index}"), &[&[129 + index as u8], bytes.as_slice()].concat());
        seed("dataset", &format!("packed-{index}"), &[&[130 + index as u8], bytes.as_slice()].concat());
    }
}

fn torch_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envs/tests/import/data");
    for name in ["counter_tensordict_0_1", "counter_tensordict_0_15", "flowm_blockworld_actions", "flowm_mnist_world"] {
        let bytes = fs::read(folder.join(name).with_extension("pt")).expect("it is in the tree");
        seed("torch_file", name, &[&[0], bytes.as_slice()].concat());
        // Its pickle alone, which ends with the first full stop before the next entry.
        let begin = bytes.windows(2).position(|two| two == [0x80, 2]).expect("a pickle of protocol 2");
        let end = begin + bytes[begin..].windows(3).position(|three| three == b".PK").expect("an entry follows");
        seed("torch_file", &format!("{name}-pickle"), &[&[1], &bytes[begin..=end]].concat());
    }
}

fn digits() {
    let header = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let images = [header(&[0x803, 10, 8, 9]), (0..720u32).map(|value| value as u8).collect()].concat();
    let labels = [header(&[0x801, 10]), (0..10).collect()].concat();
    for (name, images) in [("plain", images.clone()), ("packed", gzip(&images))] {
        let at = (images.len() as u16).to_le_bytes();
        seed("digits", name, &[at.as_slice(), &images, &labels].concat());
        seed("digits", &format!("{name}-labels-packed"), &[at.as_slice(), &images, &gzip(&labels)].concat());
    }
}

fn snapshot() {
    let mut batch = batch();
    let mut out = StepBatch::for_spec(batch.spec(), 2);
    batch.reset(Reset::Next, out.obs_mut()).expect("a fresh batch can be reset");
    let text = serde_json::to_vec(&batch.snapshot()).expect("a snapshot is plain data");
    seed("snapshot", "started", &text);
}

fn main() {
    dataset();
    torch_file();
    digits();
    snapshot();
    #[cfg(feature = "torch")]
    mindseye_fuzz::torch_seeds(&seed);
}
