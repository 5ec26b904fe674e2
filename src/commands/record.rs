//! `mindseye record`: a policy at play, in pictures.

use std::path::{Path, PathBuf};

use anyhow::Result;
use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::policy::Policy;
use envs::registry::find;
use envs::stop::Stop;
use envs::storage::{self, At as _};
use envs::vector::{AutoresetMode, BatchEnv, Reset, VectorConfig};
use serde_json::json;
use simulators::rng::Seed;
use simulators::view::View;

use crate::cli::RecordArgs;
use crate::commands::collect::played_in;
use crate::failure::{Usage, usage};
use crate::film::{self, FrameSize, MOST_FPS};
use crate::memory::memory;
use crate::policies;
use crate::run_config;
use crate::terminal::{Progress, bytes};

/// What a GIF shows if nobody says otherwise, at most.
const USUAL_FPS: f64 = 30.0;

/// What is written.
enum Place<'a> {
    Gif(&'a Path),
    /// One PNG for each frame.
    Folder(&'a Path),
}

/// One episode, seen.
struct Episode {
    views: Vec<View>,
    /// Undiscounted.
    total: f64,
    /// Steps.
    length: u32,
    stop: Stop,
}

/// Plays and draws.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &RecordArgs, json: bool) -> Result<()> {
    let entry = find(&args.env)?;
    let look = entry.look()?;
    let (mut policy, trained_in) = policies::named(&args.policy, args.manner.into(), entry)?;
    let config = played_in(entry, trained_in, &args.layers)?;
    if args.layers.print_config {
        println!("{}", run_config::as_toml(&config)?);
        return Ok(());
    }
    let place = Place::free(&args.out, args.fps)?;
    let vector =
        VectorConfig { num_envs: 1, seed: Seed(args.seed), autoreset: AutoresetMode::Disabled, max_steps: None };
    let mut envs = entry.make(&config, &vector)?;
    let native = envs.spec().fps;
    let every = args.every.unwrap_or_else(|| (native / USUAL_FPS).ceil() as u32);
    let fps = args.fps.map_or_else(|| (native / f64::from(every)).min(MOST_FPS.into()), f64::from);

    let frames = Frames { every, steps: args.steps, size: args.size };
    let episode = play(&mut *envs, policy.as_mut(), args.episode, &frames, look)?;
    let size = frames.size_of(&episode.views[0]);
    let bar = Progress::new("draw", episode.views.len() as u64, json);
    let written = place.write(&episode.views, size, fps, |done| bar.at(done as u64, String::new))?;
    bar.finish();

    let path = args.out.display().to_string();
    let Episode { total, length, stop, .. } = episode;
    let count = episode.views.len();
    if json {
        println!(
            "{}",
            json!({ "file": path, "env": entry.id, "seed": args.seed, "episode": args.episode, "frames": count,
                    "width": size.width, "height": size.height, "bytes": written, "return": total, "length": length,
                    "terminated": stop.terminated, "truncated": stop.truncated })
        );
    } else {
        let end = match stop {
            Stop { terminated: true, .. } => "until it ended",
            Stop { truncated: true, .. } => "until time was up",
            Stop { .. } => "and it goes on",
        };
        println!("{path}: {count} frames, {}; return {total:.2} over {length} steps, {end}", bytes(written));
    }
    Ok(())
}

/// Which steps are seen, and how large.
struct Frames {
    every: u32,
    steps: Option<u32>,
    size: Option<FrameSize>,
}

impl Frames {
    fn size_of(&self, view: &View) -> FrameSize {
        self.size.unwrap_or_else(|| FrameSize::suiting(view))
    }

    /// Refuses more frames of a recording that begins with `view` than `free` bytes of memory hold.
    fn check(&self, view: &View, longest: u32, free: Option<u64>) -> Result<()> {
        let steps = self.steps.map_or(longest, |steps| steps.min(longest));
        let size = self.size_of(view);
        let of_view = match view {
            View::Body(portrait) => size_of_val(&portrait.things[..]),
            View::Pixels(image) => image.rgb.len(),
        };
        // The view, and what a GIF has of it at worst.
        let each = (of_view + 2 * size.width * size.height) as u64;
        let frames = |steps: u32| u64::from(steps / self.every + 1);
        let free = free.unwrap_or(u64::MAX);
        let needed = each.saturating_mul(frames(steps));
        if needed <= free {
            return Ok(());
        }
        let most = (free / each).saturating_sub(1).saturating_mul(self.every.into());
        let problem = format!("recording needs about {} of memory, {} are free", bytes(needed), bytes(free));
        Err(Usage::argument("--steps", steps, problem).allowed(format!("1..={most}")).into())
    }
}

/// Plays episode `episode`, the one that an evaluation of the same seed has under that number, and looks at it.
fn play(
    envs: &mut dyn BatchEnv,
    policy: &mut dyn Policy,
    episode: u64,
    frames: &Frames,
    look: impl Fn(&dyn std::any::Any) -> View,
) -> Result<Episode> {
    let mut out = StepBatch::for_spec(envs.spec(), 1);
    let mut actions = Buffer::zeros(envs.spec().action.dtype(), envs.spec().action.size());
    envs.reset(Reset::Episode(episode), out.obs_mut())?;
    let first = look(envs.row(0).env);
    frames.check(&first, envs.spec().max_steps.unwrap_or(u32::MAX), memory().map(|memory| memory.free))?;
    let mut seen = Episode { views: vec![first], total: 0.0, length: 0, stop: Stop::default() };
    while !seen.stop.any() && frames.steps.is_none_or(|steps| seen.length < steps) {
        policy.act(envs, out.obs(), &mut actions).map_err(|error| usage(error.to_string()))?;
        envs.step(&actions, &mut out)?;
        seen.total += f64::from(out.reward()[0]);
        seen.stop = out.stop()[0];
        seen.length += 1;
        if seen.length.is_multiple_of(frames.every) {
            seen.views.push(look(envs.row(0).env));
        }
    }
    Ok(seen)
}

impl<'a> Place<'a> {
    /// Where `out` says, if nothing is there yet.
    fn free(out: &'a Path, fps: Option<u32>) -> Result<Self> {
        let refused = |problem: &str, advice: &str| {
            let refusal = Usage::argument("--out", out.display(), problem);
            Err(refusal.suggest(Some(advice.to_owned()).filter(|advice| !advice.is_empty())).into())
        };
        let folder = out.as_os_str().to_string_lossy().ends_with('/') || out.is_dir();
        match out.extension().and_then(|extension| extension.to_str()) {
            Some(extension) if !folder && extension.eq_ignore_ascii_case("gif") => {
                let above = out.parent().filter(|above| !above.as_os_str().is_empty());
                if out.exists() {
                    return refused("it is there already", "give another name, or remove it first");
                }
                if let Some(above) = above.filter(|above| !above.is_dir()) {
                    return refused(&format!("there is no folder {}", above.display()), "make it first");
                }
                Ok(Self::Gif(out))
            }
            Some(_) if !folder => {
                refused("it is neither a .gif nor a folder", "end it in .gif, or in / for a folder of PNG files")
            }
            _ => {
                if out.is_dir() && std::fs::read_dir(out).at("read", out)?.next().is_some() {
                    return refused("the folder is not empty", "give another one, or empty it first");
                }
                if out.exists() && !out.is_dir() {
                    return refused("it is there already, and no folder", "give another name");
                }
                if let Some(fps) = fps {
                    let refusal = Usage::argument("--fps", fps, "PNG files have no speed");
                    return Err(refusal.suggest(Some("give --out a name that ends in .gif")).into());
                }
                Ok(Self::Folder(out))
            }
        }
    }

    /// Draws and writes; how many bytes.
    fn write(&self, views: &[View], size: FrameSize, fps: f64, mut drawn: impl FnMut(usize)) -> Result<u64> {
        let storage = storage::of_process()?;
        match self {
            Self::Gif(path) => {
                let bytes = film::gif(views, size, fps, drawn)?;
                storage::replace(storage, path, &bytes)?;
                Ok(bytes.len() as u64)
            }
            Self::Folder(folder) => {
                storage::create_folders(storage, folder)?;
                let mut total = 0;
                for (i, view) in views.iter().enumerate() {
                    let bytes = film::png(&size.draw(view))?;
                    let path: PathBuf = folder.join(format!("{i:06}.png"));
                    storage::write(storage, &path, &bytes)?;
                    total += bytes.len() as u64;
                    drawn(i + 1);
                }
                storage.sync_folder(folder).at("sync", folder)?;
                Ok(total)
            }
        }
    }
}
