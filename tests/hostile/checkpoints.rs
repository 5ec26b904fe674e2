//! Hostile checkpoints. But for the one thing that is wrong with it, each is what its maker could have made it: sizes and
//! hashes in the manifest fit, so that what is behind them is reached.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use world_models::adam::Adam;
use world_models::checkpoint::{Checkpoint, CheckpointError};
use world_models::libtorch::DeviceChoice;
use world_models::train::Loaded;

use crate::bounded::{Worst, run};
use crate::victim::{CONFIG, MANIFEST, MODEL, OPTIMIZER, Place, STEP, Victim, sparse, succeeded};

/// What is done, what the refusal must say beside the file's name, and how.
type Attack = (&'static str, &'static str, Box<dyn Fn(&Victim)>);

fn attack(name: &'static str, said: &'static str, how: impl Fn(&Victim) + 'static) -> Attack {
    (name, said, Box::new(how))
}

/// A tensor of the model, and another.
const TENSOR: &str = "cell.conv_h.weight";
const OTHER: &str = "cell.conv_u.weight";

fn number(index: usize, value: f32) -> impl Fn(&Victim) {
    move |victim| {
        let (header, mut data) = victim.tensors(MODEL);
        data[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
        victim.put_tensors(MODEL, &header.to_string(), &data);
    }
}

fn header(pointer: &'static str, value: Value) -> impl Fn(&Victim) {
    move |victim| victim.edit_header(|header| *header[TENSOR].pointer_mut(pointer).unwrap() = value.clone())
}

fn raw_header(text: &'static str) -> impl Fn(&Victim) {
    move |victim| victim.put_tensors(MODEL, text, &[])
}

/// A pickle that touches a file when it is loaded; `os.system` as Python's own protocol 0 spells it.
fn pickle(victim: &Victim) -> Vec<u8> {
    format!("cos\nsystem\n(S'touch {}'\ntR.", victim.run.join("canary").display()).into_bytes()
}

/// The file of weights, number by number and tensor by tensor. All of these have a manifest that fits.
fn weights() -> Vec<Attack> {
    vec![
        attack("not a number", "is NaN at index 0", number(0, f32::NAN)),
        attack("infinity", "is inf at index", number(40, f32::INFINITY)),
        attack("minus infinity", "is -inf at index", number(41, f32::NEG_INFINITY)),
        attack("sides in another order", "is F32 [3, 4, 4, 3]", header("/shape", json!([3, 4, 4, 3]))),
        attack("a side less", "is F32 [4, 4, 9]", header("/shape", json!([4, 4, 9]))),
        attack(
            "sides whose product overflows",
            "is F32 [9223372036854775808, 2]",
            header("/shape", json!([1u64 << 63, 2])),
        ),
        attack("a negative side", "does not parse", header("/shape", json!([-4, -4, 3, 3]))),
        attack("half precision", "is F16 [4, 4, 3, 3]", header("/dtype", json!("F16"))),
        attack("integers", "is I32 [4, 4, 3, 3]", header("/dtype", json!("I32"))),
        attack("an unknown type", "is PyObject [4, 4, 3, 3]", header("/dtype", json!("PyObject"))),
        attack("an extra field", "unknown field `code`", |victim| {
            victim.edit_header(|header| header[TENSOR]["code"] = json!("import os"));
        }),
        attack("a missing tensor", "is not in the file", |victim| {
            victim.edit_header(|header| drop(header.as_object_mut().unwrap().remove(TENSOR)));
        }),
        attack("an extra tensor", "`backdoor` is in the file", |victim| {
            victim.edit_header(|header| {
                header["backdoor"] = json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]});
            });
        }),
        attack("a tensor twice", "two tensors are called", |victim| {
            let (header, data) = victim.tensors(MODEL);
            let again = format!(",\"{TENSOR}\":{}}}", header[TENSOR]);
            victim.put_tensors(MODEL, &(header.to_string().strip_suffix('}').unwrap().to_owned() + &again), &data);
        }),
        attack("a hundred thousand tensors", "more than 65536 tensors", |victim| {
            let tensor = |i| format!("\"t{i}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}");
            let all: Vec<String> = (0..100_000).map(tensor).collect();
            victim.put_tensors(MODEL, &format!("{{{}}}", all.join(",")), &[]);
        }),
    ]
}

/// Where the tensors are said to lie, and what is no tensor file at all.
fn places() -> Vec<Attack> {
    vec![
        attack("tensors that overlap", "what is before it ends at", |victim| {
            victim.edit_header(|header| {
                let [begin, end] = [0, 1].map(|side| header[OTHER]["data_offsets"][side].as_u64().unwrap());
                let bytes = header[TENSOR]["data_offsets"][1].as_u64().unwrap()
                    - header[TENSOR]["data_offsets"][0].as_u64().unwrap();
                assert!(end > begin);
                header[TENSOR]["data_offsets"] = json!([begin, begin + bytes]);
            });
        }),
        attack("a gap", "what is before it ends at", |victim| {
            let (mut header, data) = victim.tensors(MODEL);
            for (name, info) in header.as_object_mut().unwrap() {
                let moved = |side: usize| info["data_offsets"][side].as_u64().unwrap() + 64;
                if name != "__metadata__" {
                    info["data_offsets"] = json!([moved(0), moved(1)]);
                }
            }
            victim.put_tensors(MODEL, &header.to_string(), &[vec![0; 64], data].concat());
        }),
        attack("places that end before they begin", "is in bytes 576 to 0", header("/data_offsets", json!([576, 0]))),
        attack(
            "a place beyond the file",
            "begins at byte",
            header("/data_offsets", json!([1u64 << 40, (1u64 << 40) + 576])),
        ),
        attack(
            "a place of 2^63 bytes",
            "is in bytes 0 to 9223372036854775808",
            header("/data_offsets", json!([0, 1u64 << 63])),
        ),
        attack(
            "places at the end of all numbers",
            "begins at byte",
            header("/data_offsets", json!([u64::MAX - 576, u64::MAX])),
        ),
        attack("a place above 2^64", "does not parse", |victim| {
            let (header, data) = victim.tensors(MODEL);
            let text = header.to_string().replace("[0,", "[18446744073709551616,");
            victim.put_tensors(MODEL, &text, &data);
        }),
        attack("bytes after the last tensor", "its tensors end at byte", |victim| {
            let (header, data) = victim.tensors(MODEL);
            victim.put_tensors(MODEL, &header.to_string(), &[data, b"#!/bin/sh".to_vec()].concat());
        }),
        attack("a tensor cut short", "its tensors end at byte", |victim| {
            let (header, data) = victim.tensors(MODEL);
            victim.put_tensors(MODEL, &header.to_string(), &data[..data.len() - 7]);
        }),
        attack("a header of 2^63 bytes", "its header claims 9223372036854775808 bytes", |victim| {
            victim.write(MODEL, [&(1u64 << 63).to_le_bytes()[..], &[0; 4000]].concat());
        }),
        attack("a header of 100 MB that is not there", "its header claims 100000000 bytes", |victim| {
            victim.write(MODEL, [&100_000_000u64.to_le_bytes()[..], &[b' '; 4000]].concat());
        }),
        attack("a header of 100 MB", "its header claims 100000000 bytes, there can be at most 16777216", |victim| {
            victim.write(MODEL, [&100_000_000u64.to_le_bytes()[..], &vec![b' '; 100_000_000]].concat());
        }),
        attack("a header of nothing", "numbers of 4 bytes", raw_header("")),
        attack("no tensors", "numbers of 4 bytes", raw_header("{}")),
        attack("a header that is a list", "does not parse", |victim| {
            victim.put_tensors(MODEL, &format!("[{}]", "0,".repeat(2000) + "0"), &[]);
        }),
        attack("a header nested 100,000 deep", "does not parse", |victim| {
            victim.put_tensors(MODEL, &"{\"a\":".repeat(100_000), &[]);
        }),
        attack("a header that is not text", "does not parse", |victim| {
            victim.write(MODEL, [&4000u64.to_le_bytes()[..], &[0xff; 4000]].concat());
        }),
        attack("an empty file", "0 bytes, but the model", |victim| victim.write(MODEL, [])),
        attack("seven bytes", "7 bytes, but the model", |victim| victim.write(MODEL, [0; 7])),
        attack("a pickle", "its header claims", |victim| {
            victim.write(MODEL, [pickle(victim), vec![b'.'; 4000]].concat());
        }),
        attack("a PyTorch archive", "its header claims", |victim| {
            // A local file header with the name that torch.save gives, the pickle stored as it is.
            let (name, content) = (b"archive/data.pkl", pickle(victim));
            let mut zip = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
            zip.extend([(content.len() as u32).to_le_bytes(); 2].concat());
            zip.extend([(name.len() as u16).to_le_bytes(), [0; 2]].concat());
            zip.extend([&name[..], &content, &[0; 4000]].concat());
            victim.write(MODEL, zip);
        }),
    ]
}

fn config(change: impl Fn(&mut Value) + 'static) -> impl Fn(&Victim) {
    move |victim| victim.edit(CONFIG, &change)
}

/// The configuration. All of these have a manifest that fits.
fn configurations() -> Vec<Attack> {
    vec![
        attack("an unknown field", "unknown field `hook`", config(|c| c["hook"] = json!("os.system"))),
        attack(
            "a target in the model",
            "unknown field `_target_`",
            config(|c| c["model"]["_target_"] = json!("os.system")),
        ),
        attack(
            "a target in the optimiser",
            "unknown field `_target_`",
            config(|c| {
                c["train"]["adam"]["_target_"] = json!("builtins.exec");
            }),
        ),
        attack("an unknown kind of model", "pickle", config(|c| c["model"] = json!({"kind": "pickle"}))),
        attack("code where a number belongs", "eval:1+1", config(|c| c["model"]["hidden"] = json!("eval:1+1"))),
        attack(
            "a model of a million million",
            "hidden",
            config(|c| c["model"]["hidden"] = json!(1_000_000_000_000i64)),
        ),
        attack("a negative model", "hidden", config(|c| c["model"]["hidden"] = json!(-4))),
        attack("a map of 2^62 cells", "world", config(|c| c["model"]["world"] = json!(1i64 << 62))),
        attack("a batch of nothing", "batch_size", config(|c| c["train"]["batch_size"] = json!(0))),
        attack(
            "a model of 2 TB that every field allows",
            "but the model of model/config.json has",
            config(|c| {
                c["model"] = json!({"kind": "linear_rnn", "hidden": 65536, "window": 512});
            }),
        ),
        attack(
            "a larger model than the weights",
            "but the model of model/config.json has",
            config(|c| {
                c["model"]["hidden"] = json!(1024);
            }),
        ),
        attack("a deeper model than the weights", "model/", config(|c| c["model"]["decoder_layers"] = json!(2))),
        attack("a seed above 2^63", "9223372036854775808", config(|c| c["seed"] = json!(1u64 << 63))),
        attack("lists nested 100,000 deep", "recursion limit", |victim| {
            victim.write(CONFIG, "{\"seed\":0,\"model\":{\"a\":".to_owned() + &"[".repeat(100_000));
        }),
        attack("a field twice", "duplicate field `seed`", |victim| {
            let text = fs::read_to_string(victim.file(CONFIG)).unwrap();
            victim.write(CONFIG, text.replacen('{', "{\"seed\": 1,", 1));
        }),
        attack("not a number", "config.json", |victim| {
            let text = fs::read_to_string(victim.file(CONFIG)).unwrap();
            victim.write(CONFIG, text.replacen("\"learning_rate\": ", "\"learning_rate\": NaN, \"x\": ", 1));
        }),
        attack("two megabytes", "2000000 bytes, at most 1048576", |victim| victim.write(CONFIG, vec![b' '; 2_000_000])),
    ]
}

fn listing(change: impl Fn(&mut Value) + 'static) -> impl Fn(&Victim) {
    move |victim| victim.edit(MANIFEST, &change)
}

fn replaced_by_a_link(file: &'static str) -> impl Fn(&Victim) {
    move |victim| {
        let outside = victim.run.join("outside");
        fs::rename(victim.file(file), &outside).unwrap();
        symlink(outside, victim.file(file)).unwrap();
    }
}

/// The manifest, and what else lies in the folder. Nothing is sealed after these.
fn folders() -> Vec<Attack> {
    let entry = || json!({"bytes": 4, "sha256": "0".repeat(64)});
    vec![
        attack("another hash", "sha256", listing(|m| m["files"][MODEL]["sha256"] = json!("0".repeat(64)))),
        attack("a bit flipped", "sha256", |victim| {
            let mut bytes = fs::read(victim.file(MODEL)).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            victim.write(MODEL, bytes);
        }),
        attack("another size", "the manifest says 7 bytes", listing(|m| m["files"][MODEL]["bytes"] = json!(7))),
        attack(
            "a size of 2^63",
            "9223372036854775808 bytes, at most",
            listing(|m| m["files"][MODEL]["bytes"] = json!(1u64 << 63)),
        ),
        attack("a newer format", "format 2, this version reads format 1", listing(|m| m["format"] = json!(2))),
        attack("no format", "missing field `format`", listing(|m| drop(m.as_object_mut().unwrap().remove("format")))),
        attack(
            "a path that leads out",
            "unknown field `../../../etc/passwd`",
            listing(move |m| {
                m["files"]["../../../etc/passwd"] = entry();
            }),
        ),
        attack(
            "an absolute path",
            "unknown field `/etc/passwd`",
            listing(move |m| m["files"]["/etc/passwd"] = entry()),
        ),
        attack("a pickle beside the weights", "unknown field `model/model.pt`", move |victim| {
            victim.write("model/model.pt", pickle(victim));
            victim.edit(MANIFEST, |m| m["files"]["model/model.pt"] = entry());
        }),
        attack(
            "a file less",
            "missing field `model/config.json`",
            listing(|m| {
                drop(m["files"].as_object_mut().unwrap().remove(CONFIG));
            }),
        ),
        attack("a file twice", "duplicate field `model/config.json`", |victim| {
            let text = victim.json(MANIFEST).to_string();
            let entry = format!("{{\"model/config.json\":{},", victim.json(MANIFEST)["files"][CONFIG]);
            victim.write(MANIFEST, text.replacen("\"files\":{", &format!("\"files\":{entry}"), 1));
        }),
        attack("an empty manifest", "EOF", |victim| victim.write(MANIFEST, [])),
        attack("a manifest nested 100,000 deep", "EOF while parsing a list", |victim| {
            victim.write(MANIFEST, "{\"format\":1,\"files\":".to_owned() + &"[".repeat(100_000));
        }),
        attack("a manifest that is not text", "manifest.json", |victim| victim.write(MANIFEST, [0xff; 4096])),
        attack("no manifest", "no complete checkpoint", |victim| fs::remove_file(victim.file(MANIFEST)).unwrap()),
        attack("no weights", "cannot", |victim| fs::remove_file(victim.file(MODEL)).unwrap()),
        attack("weights behind a link", "reached through a link", replaced_by_a_link(MODEL)),
        attack("a configuration behind a link", "reached through a link", replaced_by_a_link(CONFIG)),
        attack("a manifest behind a link", "reached through a link", replaced_by_a_link(MANIFEST)),
        attack("a folder behind a link", "reached through a link", replaced_by_a_link("model")),
        attack("a device", "reached through a link", |victim| {
            fs::remove_file(victim.file(MODEL)).unwrap();
            symlink("/dev/zero", victim.file(MODEL)).unwrap();
        }),
        attack("a pipe that nobody writes to", "not a regular file", |victim| {
            fs::remove_file(victim.file(STEP)).unwrap();
            assert!(Command::new("mkfifo").arg(victim.file(STEP)).status().unwrap().success());
        }),
        attack("a folder in place of a file", "not a regular file", |victim| {
            fs::remove_file(victim.file(OPTIMIZER)).unwrap();
            fs::create_dir(victim.file(OPTIMIZER)).unwrap();
        }),
        attack("weights of 10 GB", "10737418240 bytes, at most 4294967296", |victim| {
            sparse(&victim.file(MODEL), 10 << 30);
            victim.edit(MANIFEST, |m| m["files"][MODEL]["bytes"] = json!(10u64 << 30));
        }),
        attack("a manifest of 10 GB", "10737418240 bytes, at most 1048576", |victim| {
            sparse(&victim.file(MANIFEST), 10 << 30);
        }),
    ]
}

/// What only a resumed training reads. All of these have a manifest that fits.
fn training_states() -> Vec<Attack> {
    vec![
        attack("a moment that is not a number", "is NaN at index 0", |victim| {
            let (header, mut data) = victim.tensors(OPTIMIZER);
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            victim.put_tensors(OPTIMIZER, &header.to_string(), &data);
        }),
        attack("more skipped than done", "skipped = 9: allowed is 0..=1", |victim| {
            victim.edit(STEP, |step| step["skipped"] = json!(9));
        }),
        attack("more to log than done", "unlogged.updates = 7: allowed is 0..=1", |victim| {
            victim.edit(STEP, |step| step["unlogged"] = json!({"updates": 7, "loss": 0.0, "gradient_norm": 0.0}));
        }),
        attack("draws beyond all streams", "draws = 9223372036854775808", |victim| {
            victim.edit(STEP, |step| step["draws"] = json!(1u64 << 63));
        }),
        attack("a negative step", "-1", |victim| victim.edit(STEP, |step| step["update"] = json!(-1))),
        attack("a step with more in it", "unknown field `then`", |victim| {
            victim.edit(STEP, |step| step["then"] = json!("rm -rf ~"));
        }),
    ]
}

/// What the program does with a checkpoint before it computes anything.
fn believe(run: &Path) -> Result<(), CheckpointError> {
    let checkpoint = Checkpoint::newest(&run.join("checkpoints"))?;
    let (loaded, config) = Loaded::from_checkpoint(&checkpoint, DeviceChoice::Cpu.resolve().unwrap())?;
    checkpoint.progress()?;
    checkpoint.load_optimizer(&Adam::new(&loaded.vs, config.train.adam).state())
}

/// The message with its causes.
fn in_full(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", in_full(cause)))
}

#[test]
fn no_hostile_checkpoint_is_believed() {
    let (place, full) = (Place::new(), std::env::var("MINDSEYE_TEST_SCALE").is_ok_and(|scale| scale == "full"));
    let (data, mut worst) = (place.text("data"), Worst::default());
    let evaluate = |run: &str| ["eval", "memory", run, "--data", &data, "--clips", "1"].map(str::to_owned);
    let resume =
        |run: &str| ["train", "flowm", "--data", &data, "--out", run, "--resume", "--threads", "1"].map(str::to_owned);
    let good = run(&evaluate(&place.text("good")).each_ref().map(String::as_str));
    succeeded(&good);
    believe(&place.path("good")).unwrap();
    let tables: [(&str, bool, Vec<Attack>); 4] = [
        (MODEL, true, weights().into_iter().chain(places()).collect()),
        (CONFIG, true, configurations()),
        ("", false, folders()),
        ("training_state/", true, training_states()),
    ];
    let mut cases = 0;
    for (table, (file, sealed, attacks)) in tables.into_iter().enumerate() {
        // A model that the weights are too few for is found in the file of weights.
        let file = if table == 1 { "model/" } else { file };
        for (index, (name, said, how)) in attacks.into_iter().enumerate() {
            let victim = place.victim(&format!("run-{table}-{index}"));
            how(&victim);
            if sealed {
                victim.seal();
            }
            let said = ["checkpoints", file, said];
            let refusal = in_full(&believe(&victim.run).expect_err(name));
            assert!(said.iter().all(|part| refusal.contains(part)), "{name} should say {said:?}, says: {refusal}");
            // The whole program takes a hundred times as long: by default it gets every eighth.
            if full || index % 8 == 0 {
                let run = victim.run.to_str().unwrap();
                let arguments: Vec<String> = if table == 3 { resume(run).into() } else { evaluate(run).into() };
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                worst.refused(name, &arguments, &said, &good);
            }
            assert!(!victim.run.join("canary").exists(), "{name}: it ran");
            assert!(!victim.run.join("memory").exists(), "{name}: it was measured");
            fs::remove_dir_all(&victim.run).unwrap();
            cases += 1;
        }
    }
    assert!(cases >= 40);
    eprintln!("{cases} hostile checkpoints");
}

#[test]
fn a_dangling_link_to_the_last_checkpoint_misleads_nobody() {
    let place = Place::new();
    let last = place.path("good/checkpoints/last");
    fs::remove_file(&last).unwrap();
    symlink("../../../../etc", &last).unwrap();
    succeeded(&run(&["eval", "memory", &place.text("good"), "--data", &place.text("data"), "--clips", "1"]));
    fs::remove_file(&last).unwrap();
    symlink("999999", &last).unwrap();
    succeeded(&run(&["eval", "memory", &place.text("good"), "--data", &place.text("data"), "--clips", "1"]));
}
