//! `mindseye render`: states of a world, drawn.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use envs::storage::{self, At as _, Storage};
use rayon::prelude::*;
use serde_json::json;
use simulators::block_world::Recorded;
use simulators::image::Image;
use simulators::room::{Around, Eye, Painter, Picture, Room, Scene, Texture, Thing};

use crate::cli::{Drawn, RenderArgs};
use crate::failure::Usage;
use crate::film::{self, FrameSize};
use crate::terminal::{Progress, bytes};

/// The size of the original's pictures.
const USUAL: FrameSize = FrameSize { width: 128, height: 128 };
/// Pairs of pictures in a row of a contact sheet, and pixels between pictures.
const ACROSS: usize = 4;
const GAP: usize = 4;
const PAPER: u8 = 255;

/// What a state looks like.
type Look = (Room, Vec<Thing>, Eye);

/// Draws each state into a PNG file of its own.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &RenderArgs, json: bool) -> Result<()> {
    let Drawn::BlockWorld = args.world;
    let states = read(&args.states)?;
    let textures = textures(&states, &args.textures)?;
    let named = |name: &str| Arc::clone(&textures[name]);
    // Whatever cannot be drawn is refused before anything is written.
    let looks = states
        .iter()
        .enumerate()
        .map(|(number, state)| state.look(named).map_err(|impossible| refused(&args.states, number, &impossible)));
    let looks = looks.collect::<Result<Vec<Look>>>()?;
    let theirs = args.beside.as_deref().map(|folder| originals(&states, folder)).transpose()?;
    if args.out.exists() && (!args.out.is_dir() || fs::read_dir(&args.out).at("read", &args.out)?.next().is_some()) {
        let refusal = Usage::argument("--out", args.out.display(), "it is there already, and no empty folder");
        return Err(refusal.suggest(Some("give another name")).into());
    }
    let storage = storage::of_process()?;
    fs::create_dir_all(&args.out).at("make", &args.out)?;
    let size = args.size.unwrap_or(USUAL);
    let images = draw(&looks, size);
    let bar = Progress::new("draw", states.len() as u64, json);
    let mut written = 0;
    for (done, (state, image)) in (1..).zip(states.iter().zip(&images)) {
        written += save(storage, &args.out, &state.frame, image)?;
        bar.at(done, String::new);
    }
    bar.finish();
    let FrameSize { width, height } = size;
    let out = args.out.display().to_string();
    let near = theirs.as_deref().map(|theirs| {
        let each: Vec<f64> = images.iter().zip(theirs).map(|(ours, theirs)| psnr(ours, theirs)).collect();
        (each.iter().sum::<f64>() / each.len() as f64, each)
    });
    if let Some(theirs) = &theirs {
        written += save(storage, &args.out, "contact_sheet.png", &contact_sheet(&images, theirs))?;
    }
    if json {
        let near = near.map(|(mean, each)| {
            let frames: BTreeMap<&str, f64> = states.iter().map(|state| state.frame.as_str()).zip(each).collect();
            json!({ "mean": mean, "frames": frames })
        });
        let said = json!({ "folder": out, "frames": states.len(), "width": width, "height": height, "bytes": written,
                           "psnr": near });
        println!("{said}");
        return Ok(());
    }
    println!("{out}: {} pictures of {width} x {height}, {}", states.len(), bytes(written));
    if let Some((mean, each)) = near {
        for (state, psnr) in states.iter().zip(each) {
            println!("{:<24} {psnr:6.2} dB", state.frame);
        }
        println!("{:<24} {mean:6.2} dB; {out}/contact_sheet.png shows ours on the left of theirs", "mean");
    }
    Ok(())
}

fn draw(looks: &[Look], FrameSize { width, height }: FrameSize) -> Vec<Image> {
    let drawn = looks.par_iter().map_init(
        || Painter::new(width, height),
        |painter, (room, things, eye)| {
            let mut image = Image::black(width, height);
            painter.draw(
                &Scene { around: Around::Room(room), things, eye: *eye },
                Picture { rgb: &mut image.rgb, depth: None, ids: None },
            );
            image
        },
    );
    drawn.collect()
}

/// Writes a picture; its bytes.
fn save(storage: &dyn Storage, folder: &Path, name: &str, image: &Image) -> Result<u64> {
    let png = film::png(image)?;
    storage::replace(storage, &folder.join(name), &png)?;
    Ok(png.len() as u64)
}

fn refused(file: &Path, number: usize, problem: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!("{}: state {number}: {problem}", file.display())
}

/// States whose pictures can be files of the names that they say.
fn read(file: &Path) -> Result<Vec<Recorded>> {
    let states: Vec<Recorded> = serde_json::from_slice(&fs::read(file).at("read", file)?)
        .map_err(|error| anyhow!("{}: not states of Blockworld: {error}", file.display()))?;
    if states.is_empty() {
        return Err(anyhow!("{}: there are no states in it", file.display()));
    }
    let mut seen = BTreeMap::new();
    for (number, Recorded { frame, .. }) in states.iter().enumerate() {
        let plain = Path::new(frame).file_name().is_some_and(|name| name == frame.as_str());
        if !plain || Path::new(frame).extension().is_none_or(|end| end != "png") {
            return Err(refused(file, number, &format!("frame is {frame:?}, allowed: the name of a .png file")));
        }
        if let Some(before) = seen.insert(frame, number) {
            let problem = format!("frame is {frame:?}, as that of state {before} is; allowed: one of its own");
            return Err(refused(file, number, &problem));
        }
    }
    Ok(states)
}

fn picture(file: &Path) -> Result<Image> {
    Image::from_png(&fs::read(file).at("read", file)?).map_err(|error| anyhow!("{}: {error}", file.display()))
}

/// Textures by their names, from files `NAME_1.png` or `NAME.png` in `folder`.
fn textures(states: &[Recorded], folder: &Path) -> Result<BTreeMap<String, Arc<Texture>>> {
    let mut found = BTreeMap::new();
    for name in states.iter().flat_map(Recorded::textures) {
        if found.contains_key(name) {
            continue;
        }
        let plain = Path::new(name).file_name().is_some_and(|file| file == name);
        let files: Vec<PathBuf> = ["_1.png", ".png"].iter().map(|end| folder.join(format!("{name}{end}"))).collect();
        let Some(file) = files.iter().find(|file| plain && file.is_file()) else {
            let problem = format!("it has no texture {name:?}");
            let refusal = Usage::argument("--textures", folder.display(), problem);
            return Err(refusal.allowed(format!("a folder with {name}_1.png or {name}.png")).into());
        };
        found.insert(name.to_owned(), Arc::new(Texture::of(&picture(file)?)));
    }
    Ok(found)
}

/// The pictures that ours are laid beside.
fn originals(states: &[Recorded], folder: &Path) -> Result<Vec<Image>> {
    let read = |state: &Recorded| {
        let file = folder.join(&state.frame);
        let image = picture(&file)?;
        if (image.width, image.height) != (USUAL.width, USUAL.height) {
            let (width, height) = (image.width, image.height);
            return Err(anyhow!("{}: {width} x {height} pixels, allowed: 128 x 128", file.display()));
        }
        Ok(image)
    };
    states.iter().map(read).collect()
}

/// Peak signal-to-noise ratio, dB.
fn psnr(ours: &Image, theirs: &Image) -> f64 {
    let squares = ours.rgb.iter().zip(&theirs.rgb).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    // Pictures that are the same are as near as one whose channels differ by one in a million.
    let mean = (squares.sum::<f64>() / ours.rgb.len() as f64).max(1e-6);
    10.0 * (255.0 * 255.0 / mean).log10()
}

/// Pairs of pictures, ours on the left.
fn contact_sheet(ours: &[Image], theirs: &[Image]) -> Image {
    let FrameSize { width, height } = USUAL;
    let (wide, high) = (2 * width + 3 * GAP, height + GAP);
    let rows = ours.len().div_ceil(ACROSS);
    let mut sheet = Image::black(wide * ACROSS.min(ours.len()), high * rows + GAP);
    sheet.rgb.fill(PAPER);
    for (at, pair) in ours.iter().zip(theirs).enumerate() {
        for (side, image) in [pair.0, pair.1].into_iter().enumerate() {
            let (left, top) = (at % ACROSS * wide + GAP + side * (width + GAP), at / ACROSS * high + GAP);
            film::lay(&mut sheet, image, left, top);
        }
    }
    sheet
}
