//! The program under watch: how it ended, what it said, how long it took, how much memory it came to hold.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;

/// Memory that a refusal may take beyond what the program takes anyway.
const MOST_MEMORY: u64 = 512 << 20;
/// A refusal takes a fraction of a second; this is for machines that have other work. On slow ones it is more.
const MOST_SECONDS: f64 = 20.0;
/// After so long the program hangs.
const HANGS: Duration = Duration::from_mins(5);

/// How a run of the program went.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub seconds: f64,
    /// Most bytes resident, as seen every few milliseconds.
    pub peak: u64,
}

impl Outcome {
    /// The most seconds that anything bounded may take where this, which is usual, took what it did.
    pub fn patience(&self) -> f64 {
        MOST_SECONDS * self.seconds.max(1.0)
    }
}

/// Runs the program; what takes too long is killed and has no code.
pub fn run(arguments: &[&str]) -> Outcome {
    let place = tempfile::tempdir().unwrap();
    let into = |name: &str| Stdio::from(File::create(place.path().join(name)).unwrap());
    let mut child = Command::new(cargo_bin("mindseye"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(into("out"))
        .stderr(into("err"))
        .spawn()
        .unwrap();
    let (begin, mut peak) = (Instant::now(), 0);
    let code = loop {
        peak = peak.max(resident(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if begin.elapsed() > HANGS {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |name: &str| String::from_utf8(fs::read(place.path().join(name)).unwrap()).unwrap();
    Outcome { code, out: text("out"), err: text("err"), seconds: begin.elapsed().as_secs_f64(), peak }
}

/// The most memory that a process has had, where the system tells.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

/// What the refusals of a test took at most.
#[derive(Default)]
pub struct Worst {
    pub cases: usize,
    seconds: f64,
    memory: u64,
}

impl Worst {
    /// Runs what must be refused with all of `said` in the message; `usual` is what the program takes anyway.
    pub fn refused(&mut self, case: &str, arguments: &[&str], said: &[&str], usual: &Outcome) {
        let outcome = run(arguments);
        let Outcome { code, err, seconds, peak, .. } = &outcome;
        assert!(matches!(code, Some(1 | 2 | 74)), "{case}: {outcome:?}");
        assert!(said.iter().all(|part| err.contains(part)), "{case} should say {said:?}, says: {err}");
        assert!(!err.contains("panicked"), "{case}: {err}");
        assert!(*seconds < usual.patience(), "{case} took {seconds} s");
        let memory = peak.saturating_sub(usual.peak);
        assert!(memory < MOST_MEMORY, "{case} took {memory} bytes of memory");
        self.cases += 1;
        self.seconds = self.seconds.max(*seconds);
        self.memory = self.memory.max(memory);
    }
}

impl Drop for Worst {
    fn drop(&mut self) {
        let (cases, seconds, memory) = (self.cases, self.seconds, self.memory >> 20);
        eprintln!("{cases} refused, the slowest in {seconds:.2} s, the largest with {memory} MiB more than usual");
    }
}
