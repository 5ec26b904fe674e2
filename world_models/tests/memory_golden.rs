//! SSIM and PSNR against torchmetrics, on 100 pairs of frames that are drawn here and in `data/ssim_golden.py` alike.

use serde::Deserialize;
use world_models::memory::FrameShape;
use world_models::memory::metrics::{psnr, squared_error, total, unit_interval};
use world_models::memory::ssim::{SsimBorder, ssim};

const TOLERANCE: f64 = 1e-5;
/// In single precision torchmetrics strays this far from itself in double, on bright flat frames.
const SINGLE: f64 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    seed: u64,
    shape: [usize; 3],
    ssim: f64,
    /// As most people run it, in single precision.
    ssim_single: f64,
    ssim_cropped: f64,
    psnr: Option<f64>,
}

/// Numbers below 2^31 of a linear congruential generator.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }
}

/// `[H, W, C]` bytes from a function of row and column.
fn frame(shape: FrameShape, mut value: impl FnMut(usize, usize) -> usize) -> Vec<u8> {
    let pixels = (0..shape.pixels()).map(|i| value(i / shape.width, i % shape.width) as u8);
    pixels.flat_map(|value| std::iter::repeat_n(value, shape.channels)).collect()
}

/// Four bright rectangles on black.
fn blocks(draws: &mut Draws, shape: FrameShape) -> Vec<u8> {
    let mut ink = vec![0; shape.pixels()];
    for _ in 0..4 {
        let [top, left, h, w, level] = std::array::from_fn(|_| draws.next());
        let (top, left) = (top % shape.height, left % shape.width);
        for r in top..(top + 2 + h % 9).min(shape.height) {
            for c in left..(left + 2 + w % 9).min(shape.width) {
                ink[r * shape.width + c] = 128 + level % 128;
            }
        }
    }
    frame(shape, |r, c| ink[r * shape.width + c])
}

/// A prediction and the truth.
fn pair(kind: &str, seed: u64, shape: FrameShape) -> (Vec<u8>, Vec<u8>) {
    let FrameShape { height, width, channels } = shape;
    let mut draws = Draws(seed);
    let noise = |draws: &mut Draws| (0..shape.values()).map(|_| (draws.next() % 256) as u8).collect::<Vec<_>>();
    match kind {
        "noise" => {
            let prediction = noise(&mut draws);
            return (prediction, noise(&mut draws));
        }
        "stripes" => return (frame(shape, |_, c| c / 2 % 2 * 255), frame(shape, |_, c| c / 3 % 2 * 255)),
        "ramp" => return (frame(shape, |r, _| r * 255 / (height - 1)), frame(shape, |_, c| c * 255 / (width - 1))),
        "flat" => {
            let (a, b) = (draws.next() % 256, draws.next() % 256);
            return (frame(shape, |_, _| a), frame(shape, |_, _| b));
        }
        _ => {}
    }
    let truth = blocks(&mut draws, shape);
    let prediction = match kind {
        "noisy" => {
            let noise = noise(&mut draws);
            truth.iter().zip(noise).map(|(&t, n)| (i32::from(t) + i32::from(n) % 41 - 20).clamp(0, 255) as u8).collect()
        }
        "shifted" => {
            let (down, right) = (draws.next() % 4, draws.next() % 4);
            frame(shape, |r, c| {
                let from = (r + height - down) % height * width + (c + width - right) % width;
                usize::from(truth[from * channels])
            })
        }
        "blocks" => blocks(&mut draws, shape),
        "faded" => truth.iter().map(|&t| (usize::from(t) * 3 / 4) as u8).collect(),
        "black" => vec![0; shape.values()],
        "same" => truth.clone(),
        other => panic!("{other} is not a kind of pair that is drawn here"),
    };
    (prediction, truth)
}

fn unit(bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len()];
    unit_interval(bytes, &mut values);
    values
}

#[test]
fn ssim_and_psnr_are_those_of_torchmetrics() {
    let golden: Golden = serde_json::from_str(include_str!("data/ssim_golden.json")).unwrap();
    assert_eq!(golden.cases.len(), 100);
    for case in &golden.cases {
        let shape = FrameShape::new(case.shape);
        let (prediction, truth) = pair(&case.kind, case.seed, shape);
        let (prediction, truth) = (unit(&prediction), unit(&truth));
        let close = |what: &str, tolerance: f64, ours: f64, theirs: f64| {
            let name = format!("{what} of {} {} {:?}", case.kind, case.seed, case.shape);
            assert!((ours - theirs).abs() <= tolerance, "{name}: {ours} here, {theirs} there");
        };
        let full = ssim(shape, SsimBorder::Full, &prediction, &truth).unwrap();
        close("SSIM", TOLERANCE, full, case.ssim);
        close("single precision SSIM", SINGLE, full, case.ssim_single);
        close(
            "cropped SSIM",
            TOLERANCE,
            ssim(shape, SsimBorder::Cropped, &prediction, &truth).unwrap(),
            case.ssim_cropped,
        );
        let mut error = vec![0.0; shape.pixels()];
        squared_error(&prediction, &truth, shape.channels, &mut error);
        match (psnr(total(&error) / shape.pixels() as f64), case.psnr) {
            (Some(ours), Some(theirs)) => close("PSNR", TOLERANCE, ours, theirs),
            (ours, theirs) => assert_eq!(ours, theirs, "both are infinite for equal frames, or neither is"),
        }
    }
}
