//! What a person sees and does while something runs: bars, lines, signals, threads.

use std::io::{IsTerminal, Write as _};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;

/// The flag of [`stop_flag`]. Once it is dropped nobody looks at the flag, and signals end the program as if it had never
/// been.
pub struct StopFlag(Signals);

/// One set of handlers for the whole program, whose commands may call one another.
#[derive(Clone)]
struct Signals {
    raised: Arc<AtomicBool>,
    nobody_looks: Arc<AtomicBool>,
}

/// A flag that the first SIGINT, SIGTERM or SIGUSR1 raises; a second SIGINT ends the program at once.
///
/// # Errors
/// If the system refuses to register a handler.
pub fn stop_flag() -> Result<StopFlag> {
    static REGISTERED: Mutex<Option<Signals>> = Mutex::new(None);
    let mut registered = REGISTERED.lock().expect("nothing panics while it is held");
    let signals = match &*registered {
        Some(signals) => signals.clone(),
        None => registered.insert(Signals::register().context("cannot handle signals")?).clone(),
    };
    signals.nobody_looks.store(false, Ordering::SeqCst);
    Ok(StopFlag(signals))
}

impl Signals {
    fn register() -> std::io::Result<Self> {
        let [raised, nobody_looks] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM, SIGUSR1] {
            flag::register_conditional_default(signal, Arc::clone(&nobody_looks))?;
            // Registered first, it acts on the signal that comes when the flag is already up.
            if signal == SIGINT {
                flag::register_conditional_shutdown(signal, 130, Arc::clone(&raised))?;
            }
            flag::register(signal, Arc::clone(&raised))?;
        }
        Ok(Self { raised, nobody_looks })
    }
}

impl Deref for StopFlag {
    type Target = AtomicBool;

    fn deref(&self) -> &AtomicBool {
        &self.0.raised
    }
}

impl Drop for StopFlag {
    fn drop(&mut self) {
        // A signal that was heeded ends the program with its own code, however many more come.
        self.0.nobody_looks.store(!self.0.raised.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// Lets a write beyond the size that files may have (`ulimit -f`) fail, as on a full disk, instead of ending the program.
///
/// # Errors
/// If the system refuses to register a handler.
pub fn outlive_file_limit() -> Result<()> {
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).context("cannot handle signals")?;
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The most threads that may be asked for: beyond a few for each core there is only waiting.
pub fn most_threads() -> i128 {
    cores() as i128 * 4
}

/// Sets rayon's threads; the number of them.
///
/// # Errors
/// If they cannot be started.
pub fn threads(asked: Option<usize>) -> Result<usize> {
    let threads = asked.unwrap_or_else(cores);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start threads")?;
    Ok(threads)
}

/// How the libraries under libtorch should behave, set where the user has not: they read it when the program is loaded.
///
/// * OpenMP's threads sleep between operations instead of spinning: while they spin, our own kernels wait for a core.
/// * The allocator keeps large buffers instead of giving their pages back after every step and faulting them in again.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("OMP_WAIT_POLICY", "passive"),
    ("MALLOC_TRIM_THRESHOLD_", "8000000000"),
    ("MALLOC_MMAP_THRESHOLD_", "8000000000"),
];

/// Names what [`settle_environment`] has set.
const SETTLED: &str = "MINDSEYE_SETTLED";

/// Lets `command` run in the environment as the user has it: another program has its own best settings.
pub fn unsettle(command: &mut std::process::Command) {
    for name in std::env::var(SETTLED).unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
        command.env_remove(name);
    }
    command.env_remove(SETTLED);
}

/// Starts the program anew, in its own place, with [`ENVIRONMENT`]; returns at once if that has been done.
pub fn settle_environment() {
    use std::os::unix::process::CommandExt;
    let missing: Vec<_> = ENVIRONMENT.iter().filter(|(name, _)| std::env::var_os(name).is_none()).copied().collect();
    let (false, Ok(program)) = (missing.is_empty(), std::env::current_exe()) else { return };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    // Only returns if it could not be done; then the program is only slower.
    let error = again.args(arguments).env(SETTLED, names.join(",")).envs(missing).exec();
    tracing::warn!("cannot restart with a settled environment: {error}");
}

/// A bar on a terminal; elsewhere a line each time another twentieth is done.
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    plain: bool,
    shown: std::cell::Cell<u64>,
}

impl Progress {
    /// A bar of `total` steps, `what` they are; silent with `--json`.
    pub fn new(what: &'static str, total: u64, json: bool) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let target = if json || plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
        let style = ProgressStyle::with_template("{prefix:>9} {bar:32} {pos}/{len}  {per_sec}  eta {eta}  {msg}")
            .expect("the template is ours");
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style).with_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, what, plain: plain && !json, shown: std::cell::Cell::new(0) }
    }

    /// `done` steps are done; `message` says more.
    pub fn at(&self, done: u64, message: impl FnOnce() -> String) {
        let total = self.bar.length().unwrap_or(1).max(1);
        self.bar.set_position(done);
        let twentieth = done * 20 / total;
        if self.plain && twentieth > self.shown.get() {
            self.shown.set(twentieth);
            say(&format!("{:>9} {done}/{total}  {}", self.what, message()));
        } else if !self.plain {
            self.bar.set_message(message());
        }
    }

    /// Says a line above the bar.
    pub fn say(&self, line: &str) {
        if self.plain {
            say(line);
        } else {
            self.bar.println(line);
        }
    }

    /// Leaves the bar as it is.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}

/// A line on standard error. Where that cannot be written, as when it is a file on a full disk, the work goes on.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `1.5 GB`.
pub fn bytes(n: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// `2 h 05 min`, `3 min 20 s`, `4.2 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `12,345,678`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([count(7), count(1234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([bytes(999), bytes(1_500_000_000)], ["999 B", "1.5 GB"]);
        assert_eq!([duration(4.24), duration(200.0), duration(7500.0)], ["4.2 s", "3 min 20 s", "2 h 05 min"]);
    }
}
