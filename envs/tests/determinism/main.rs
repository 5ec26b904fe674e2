//! Equal seeds, equal bits: over repetitions, threads, numbers of envs, auto-reset modes, and a detour through a
//! snapshot and another process. Every registered env is held to it, and [`drunkard`], which does what they do not.
//!
//! `MINDSEYE_TEST_SCALE=full` repeats everything at the size that a release is tried at.
#![expect(clippy::unwrap_used, reason = "a test fails where a helper panics")]

mod datasets;
mod drunkard;
mod play;
mod snapshots;
mod starts;
mod subject;

/// How much to try: a little on every change, all of it before a release.
fn scaled<T>(small: T, full: T) -> T {
    if std::env::var_os("MINDSEYE_TEST_SCALE").is_some_and(|scale| scale == "full") { full } else { small }
}

/// Runs `work` with this many threads.
fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}
