//! `mindseye doctor`: what this machine has, and what that means for Mindseye. A finding is fine, or worth a note.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use world_models::libtorch;

use crate::memory::Memory;
use crate::terminal::bytes;

/// Processor features that change how fast something here runs, as Linux names them.
const FEATURES: [&str; 5] = ["avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"];
/// Below this, recording and training the shipped presets gets tight.
const LITTLE_MEMORY: u64 = 4_000_000_000;
/// A quickstart, the build not counted, takes a tenth of this.
const LITTLE_DISK: u64 = 2_000_000_000;

/// One line of the answer.
struct Finding {
    what: &'static str,
    /// Nothing to say about it but what it is.
    fine: bool,
    text: String,
    /// The same for programs.
    data: Value,
}

/// Looks at everything and tells.
#[expect(clippy::print_stdout, reason = "the result of the command")]
#[expect(clippy::unnecessary_wraps, reason = "every command can fail; this one reports instead")]
pub fn run(json: bool) -> Result<()> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    for Finding { what, fine, text, data } in
        [program(), processor(&cpu), threads(&cpu), memory(), disk(), libtorch_found(), cuda()]
    {
        let status = if fine { "ok" } else { "note" };
        if json {
            println!("{}", json!({ "check": what, "status": status, "text": text, "data": data }));
        } else {
            println!("{status:<5} {what:<10} {text}");
        }
    }
    Ok(())
}

fn program() -> Finding {
    let (version, profile) = (env!("CARGO_PKG_VERSION"), env!("MINDSEYE_PROFILE"));
    let (rustc, target) = (env!("MINDSEYE_RUSTC"), env!("MINDSEYE_TARGET"));
    let fine = profile == "release";
    let advice = if fine { "" } else { "; ten times slower than one built with --release" };
    Finding {
        what: "mindseye",
        fine,
        text: format!("{version}, {profile} build for {target} by {rustc}{advice}"),
        data: json!({ "version": version, "profile": profile, "target": target, "rustc": rustc }),
    }
}

/// The value of a field of /proc/cpuinfo, of the first processor.
fn field<'a>(cpu: &'a str, name: &str) -> Option<&'a str> {
    let value =
        |line: &'a str| line.split_once(':').filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
    cpu.lines().find_map(value)
}

fn processor(cpu: &str) -> Finding {
    let model = field(cpu, "model name").unwrap_or("unknown");
    let flags: BTreeSet<&str> = field(cpu, "flags").unwrap_or_default().split(' ').collect();
    let has: Vec<&str> = FEATURES.into_iter().filter(|name| flags.contains(name)).collect();
    let bf16 = ["avx512_bf16", "amx_bf16"].iter().any(|name| flags.contains(name));
    let advice = match (has.is_empty(), bf16) {
        (_, true) => "",
        (true, _) => "; training will be slow, `--set model.precision=f32` helps a little",
        (false, _) => "; no bf16 units: train with `--set model.precision=f32`",
    };
    let listed = if has.is_empty() { "none of the features that help".to_owned() } else { has.join(" ") };
    Finding {
        what: "processor",
        fine: bf16,
        text: format!("{model}: {listed}{advice}"),
        data: json!({ "model": model, "features": has }),
    }
}

fn threads(cpu: &str) -> Finding {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut cores = BTreeSet::new();
    for processor in cpu.split("\n\n") {
        if let (package, Some(core)) = (field(processor, "physical id"), field(processor, "core id")) {
            cores.insert((package, core));
        }
    }
    let of = if cores.is_empty() { String::new() } else { format!(" on {} cores", cores.len()) };
    Finding {
        what: "threads",
        fine: threads >= 2,
        text: format!("{threads}{of}; --threads takes fewer"),
        data: json!({ "threads": threads, "cores": cores.len() }),
    }
}

fn memory() -> Finding {
    let Some(Memory { total, free }) = crate::memory::memory() else {
        return Finding { what: "memory", fine: false, text: "the system does not tell".into(), data: Value::Null };
    };
    let fine = free >= LITTLE_MEMORY;
    let advice = if fine { "" } else { "; take smaller batches: `--set train.batch_size=4`" };
    let text = format!("{} free of {}{advice}", bytes(free), bytes(total));
    Finding { what: "memory", fine, text, data: json!({ "free_bytes": free, "total_bytes": total }) }
}

fn disk() -> Finding {
    let (fine, text, data) = match rustix::fs::statvfs(".") {
        Ok(disk) => {
            let free = disk.f_bavail * disk.f_frsize;
            (free >= LITTLE_DISK, format!("{} free in this directory", bytes(free)), json!({ "free_bytes": free }))
        }
        Err(error) => (false, format!("cannot ask about this directory: {error}"), Value::Null),
    };
    Finding { what: "disk", fine, text, data }
}

fn libtorch_found() -> Finding {
    let about = libtorch::about();
    let library = about.library.as_ref().map_or_else(|| "linked in".into(), |path| path.display().to_string());
    let has = |name: &str, has: bool| format!("{} {name}", if has { "with" } else { "without" });
    Finding {
        what: "libtorch",
        fine: about.onednn && about.mkl,
        text: format!("{}, {}, {}: {library}", about.version, has("oneDNN", about.onednn), has("MKL", about.mkl)),
        data: json!(about),
    }
}

fn cuda() -> Finding {
    let (fine, text, data) = match libtorch::load_cuda() {
        Ok(()) => {
            let gpus = libtorch::gpus();
            (true, format!("GPUs: {gpus}; `train.device = auto` takes the first"), json!({ "gpus": gpus }))
        }
        Err(reason) => {
            let advice = format!("put the lib folder of torch {} for CUDA into LD_LIBRARY_PATH", libtorch::VERSION);
            (
                false,
                format!("no GPU in use ({reason}); where there is one, {advice}"),
                json!({ "gpus": 0, "reason": reason }),
            )
        }
    };
    Finding { what: "cuda", fine, text, data }
}
