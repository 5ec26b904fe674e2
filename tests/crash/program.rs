//! The program as a child process: started, disturbed, looked at, and held against one that nothing disturbed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use envs::storage::FAULT;
use rand::Rng as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use simulators::rng::{Purpose, Rng, Seed, stream};
use tempfile::TempDir;

/// Whether to do everything, as before a release, or what fits into minutes.
pub fn full() -> bool {
    std::env::var("MINDSEYE_TEST_SCALE").is_ok_and(|scale| scale == "full")
}

/// `small`, or `large` before a release.
pub fn scale(small: usize, large: usize) -> usize {
    if full() { large } else { small }
}

/// Numbers for test `test`, the same every time.
pub fn random(test: u64) -> Rng {
    stream(Seed(test), Purpose::World, 0)
}

/// A number from 0 to 1.
pub fn share(rng: &mut Rng) -> f64 {
    f64::from(rng.next_u32()) / f64::from(u32::MAX)
}

/// The program, in an environment that it need not settle first by starting anew.
pub fn mindseye(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(cargo_bin("mindseye"));
    command.args(arguments).env_remove(FAULT).env("OMP_WAIT_POLICY", "passive");
    if arguments.first().is_some_and(|command| command.as_ref() == "train") {
        command.envs(["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"].map(|name| (name, "8000000000")));
    }
    command.stdin(Stdio::null());
    command
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        Self { code: output.status.code(), signal: output.status.signal(), out, err }
    }

    pub fn killed(&self) -> bool {
        self.signal == Some(Signal::KILL.as_raw())
    }
}

pub fn run(command: &mut Command) -> Ended {
    Ended::of(&command.output().unwrap())
}

/// Runs what must succeed.
pub fn ok(arguments: &[impl AsRef<OsStr>]) -> Ended {
    let ended = run(&mut mindseye(arguments));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    ended
}

/// Nothing here takes a fraction of this, however slow the machine: it is for what hangs.
pub const HANGS: Duration = Duration::from_mins(3);

/// A child that does not outlive a test that fails.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // Errors where it has ended, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A child whose standard error is read as it comes.
pub struct Running {
    child: Kept,
    err: JoinHandle<String>,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (tell, told) = std::sync::mpsc::channel();
        let err = std::thread::spawn(move || {
            let (mut text, mut from) = (String::new(), 0);
            while lines.read_line(&mut text).unwrap_or(0) > 0 {
                let _ = tell.send(text[from..].to_owned());
                from = text.len();
            }
            text
        });
        Self { child: Kept(child), err, lines: told }
    }

    /// Starts it with a plan that pauses it at an operation, and waits until it does.
    pub fn paused(command: &mut Command, at: &str) -> Self {
        let running = Self::start(command.env(FAULT, format!("pause@{at}")));
        assert!(running.pauses(), "it ended before {at}");
        running
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Waits until it says something: what it will cost, or that something is done.
    pub fn at_work(&self) {
        self.says("");
    }

    /// Waits for a line with `part` in it.
    pub fn says(&self, part: &str) {
        while !self.lines.recv_timeout(HANGS).expect("it gets to work").contains(part) {}
    }

    /// Waits until it has paused, as the plan in its environment asks; whether it did, or has ended.
    pub fn pauses(&self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < HANGS {
            match self.state() {
                'T' => return true,
                'Z' | 'X' => return false,
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        panic!("it neither pauses nor ends");
    }

    /// Lets it go on after a pause.
    pub fn goes_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal and waits until it has been taken: two of a kind that wait are one.
    pub fn signal_taken(&self, signal: Signal) {
        self.signal(signal);
        let bit = 1u64 << (signal.as_raw() - 1);
        let waits = |status: String| {
            let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap().trim();
            u64::from_str_radix(mask, 16).unwrap() & bit != 0
        };
        // A process that has ended takes nothing more.
        while self.state() != 'Z' && waits(fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap()) {
            std::thread::yield_now();
        }
    }

    /// What the system says of it: `T` for stopped, `Z` or `X` for ended, others for running.
    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        // A process that has ended is not waited for yet, so the number is still its own.
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    pub fn ended(mut self) -> Ended {
        let mut out = String::new();
        self.child.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let (status, err) = (self.child.0.wait().unwrap(), self.err.join().unwrap());
        assert!(!err.contains("panicked"), "{err}");
        Ended { code: status.code(), signal: status.signal(), out, err }
    }
}

/// A folder for one test, in memory where there is such a place, so that a test does not wait for a disk.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// What is done: a command that works on a folder until that is complete, and goes on where it stopped when it is run again.
#[derive(Clone)]
pub struct Work {
    words: Vec<String>,
    resume: bool,
}

impl Work {
    /// `collect` of `episodes` episodes, two in a shard.
    pub fn collect(env: &str, episodes: u32) -> Self {
        let small: &[&str] = match env {
            "mnist-world" => &["--preset", "tiny", "--set", "horizon=6"],
            _ => &["--set", "steps=8", "--set", "digits.kind=drawn", "--set", "digits.per_label=5"],
        };
        let episodes = episodes.to_string();
        let fixed = ["collect", env, "--episodes", &episodes, "--episodes-per-shard", "2", "--threads", "2"];
        Self { words: fixed.iter().chain(small).map(ToString::to_string).collect(), resume: false }
    }

    /// `train` of so many updates of milliseconds, with a checkpoint every five and a line of the log every three.
    pub fn train(model: &str, data: &str, updates: u32) -> Self {
        let updates = format!("train.updates={updates}");
        let own: &[&str] = if model == "flowm" { &["model.v_range=0"] } else { &[] };
        let settings = [
            "model.hidden=4",
            "train.batch_size=2",
            "train.context=5",
            "train.horizon=3",
            "train.log_every=3",
            "train.checkpoint_every=5",
            "train.keep_checkpoints=2",
            "train.device=cpu",
            &updates,
        ];
        // One thread: for a model this small, waiting for a second one would be most of the work.
        let fixed = ["train", model, "--data", data, "--threads", "1"];
        let settings = settings.iter().chain(own).flat_map(|setting| ["--set", setting]);
        Self { words: fixed.into_iter().chain(settings).map(ToString::to_string).collect(), resume: true }
    }

    /// `train shac` of so many epochs of milliseconds, with checkpoints and lines as [`Work::train`] has them.
    pub fn policy(epochs: u32) -> Self {
        let epochs = format!("shac.epochs={epochs}");
        let settings = [
            "shac.num_envs=4",
            "shac.horizon=4",
            "shac.actor.hidden=[8]",
            "shac.critic.hidden=[8]",
            "shac.critic.passes=1",
            "shac.log_every=3",
            "shac.checkpoint_every=5",
            "shac.keep_checkpoints=2",
            &epochs,
        ];
        let fixed = ["train", "shac", "--env", "hopper", "--threads", "1"];
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        Self { words: fixed.into_iter().chain(settings).map(ToString::to_string).collect(), resume: true }
    }

    /// With more words.
    pub fn with(mut self, more: &[&str]) -> Self {
        self.words.extend(more.iter().map(ToString::to_string));
        self
    }

    /// The command that begins it in a folder.
    pub fn begin(&self, out: &(impl AsRef<OsStr> + ?Sized)) -> Command {
        let mut command = mindseye(&self.words);
        command.arg("--out").arg(out);
        command
    }

    /// The command that begins it or goes on with it.
    pub fn go_on(&self, out: &(impl AsRef<OsStr> + ?Sized)) -> Command {
        let mut command = self.begin(out);
        if self.resume {
            command.arg("--resume");
        }
        command
    }

    /// Does all of it, undisturbed.
    pub fn whole(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let ended = run(&mut self.begin(out));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        result(out)
    }

    /// Goes on and must come to the end, with this result.
    pub fn ends_as(&self, out: &str, whole: &BTreeMap<String, Vec<u8>>, case: &str) {
        let ended = run(&mut self.go_on(out));
        assert_eq!(ended.code, Some(0), "{case}, going on: {}", ended.err);
        same(&result(out), whole, case);
    }
}

/// Everything in the folder that must not depend on what happened on the way. Of the checkpoints that is the last: one that
/// was saved at a stop may be among those before it.
pub fn result(out: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    read_all(Path::new(out), Path::new(""), &mut files);
    let last = files.get("checkpoints/last").map(|name| String::from_utf8_lossy(name).into_owned());
    let earlier = |name: &str| {
        let checkpoint =
            name.strip_prefix("checkpoints/").and_then(|name| name.split_once('/')).map(|(number, _)| number);
        checkpoint.is_some_and(|number| number.parse::<u64>().is_ok() && last.as_deref() != Some(number))
    };
    files.retain(|name, _| name != ".lock" && name != "run.json" && !name.starts_with("tb/") && !earlier(name));
    if let Some(log) = files.get_mut("metrics.jsonl") {
        *log = without_clock(log);
    }
    files
}

fn same(found: &BTreeMap<String, Vec<u8>>, whole: &BTreeMap<String, Vec<u8>>, case: &str) {
    let (names, expected): (Vec<_>, Vec<_>) = (found.keys().collect(), whole.keys().collect());
    assert_eq!(names, expected, "{case}");
    for (name, bytes) in found {
        assert!(*bytes == whole[name], "{case}: {name} differs");
    }
}

fn read_all(root: &Path, folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for item in fs::read_dir(root.join(folder)).unwrap() {
        let path = folder.join(item.unwrap().file_name());
        let (name, full) = (path.to_str().unwrap().to_owned(), root.join(&path));
        if full.is_symlink() {
            into.insert(name, fs::read_link(full).unwrap().into_os_string().into_encoded_bytes());
        } else if full.is_dir() {
            read_all(root, &path, into);
        } else {
            into.insert(name, fs::read(full).unwrap());
        }
    }
}

/// The lines of a log but for the seconds they took. A torn last line stays as it is.
fn without_clock(log: &[u8]) -> Vec<u8> {
    let line = |text: &[u8]| {
        let Ok(mut line) = serde_json::from_slice::<Value>(text) else { return text.to_vec() };
        line.as_object_mut().unwrap().remove("wall").unwrap();
        (line.to_string() + "\n").into_bytes()
    };
    log.split(|&byte| byte == b'\n').filter(|text| !text.is_empty()).flat_map(line).collect()
}

/// A dataset for training, in `place`.
pub fn data(place: &Place) -> String {
    let data = place.at("data");
    Work::collect("mnist-world", 8).whole(&data);
    data
}

/// `data verify` finds nothing, if there is anything to verify.
pub fn verified(dataset: &str, case: &str) {
    if Path::new(dataset).join("manifest.jsonl").metadata().is_ok_and(|manifest| manifest.len() > 0) {
        let ended = run(&mut mindseye(&["data", "verify", dataset]));
        assert_eq!(ended.code, Some(0), "{case}: {} {}", ended.out, ended.err);
    }
}

/// Kills what still runs after `after`; how it ended.
pub fn killed_after(command: &mut Command, after: Duration) -> Ended {
    let running = Running::start(command);
    std::thread::sleep(after);
    running.signal(Signal::KILL);
    running.ended()
}

/// Seconds that something takes.
pub fn seconds(what: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    what();
    begin.elapsed().as_secs_f64()
}

/// Copies a folder and all in it.
pub fn copy(from: &Path, to: &Path) -> PathBuf {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    to.to_owned()
}
