//! Clips to watch: what the model saw, the truth, the prediction and its error, side by side.

use super::{each, escape, sprites};
use crate::memory::table::error;
use crate::memory::{FrameShape, metrics};

/// A clip to watch: what was shown, what came next, what the model thought came next.
#[derive(Debug, Clone)]
pub struct ExampleClip {
    /// A line above the clip.
    pub title: String,
    /// Shape of its frames; 1 or 3 channels.
    pub frame: FrameShape,
    /// How many frames the model observed.
    pub context: usize,
    /// `[context + horizon, H, W, C]`
    pub truth: Vec<u8>,
    /// `[horizon, H, W, C]`, as [`quantise`] makes them.
    pub prediction: Vec<u8>,
    /// What the model believes, drawn in some way of its own.
    pub belief: Option<BeliefPictures>,
}

/// Pictures of a belief, one for each frame of the clip.
#[derive(Debug, Clone)]
pub struct BeliefPictures {
    /// What they show, in a few words.
    pub caption: String,
    /// Shape of a picture; 1 or 3 channels.
    pub frame: FrameShape,
    /// `[context + horizon, H', W', C']`
    pub pictures: Vec<u8>,
}

/// Predicted values as bytes, after the same repairs as before measuring.
#[must_use]
pub fn quantise(prediction: &[f32]) -> Vec<u8> {
    let mut clean = vec![0.0; prediction.len()];
    metrics::clean(prediction, &mut clean);
    clean.iter().map(|value| (value * 255.0).round() as u8).collect()
}

pub(super) fn players(clips: &[ExampleClip]) -> String {
    if clips.is_empty() {
        return String::new();
    }
    let players: Vec<String> = clips.iter().map(player).collect();
    format!(
        r#"<section><h2>Eyes open, then shut</h2>
<p class="lead">The model watches, then has to imagine the rest. It is told how it moves, and sees nothing more.</p>{}</section>"#,
        players.join("\n")
    )
}

const BUTTON: &str = r#"<button type="button" aria-label="play">
<svg class="play" viewBox="0 0 18 18"><path d="M4 1.5v15l12.5-7.5z"/></svg>
<svg class="pause" viewBox="0 0 18 18"><path d="M3 2h4.5v14H3zM10.5 2H15v14h-4.5z"/></svg></button>"#;

fn player(clip: &ExampleClip) -> String {
    let ExampleClip { frame, context, truth, prediction, .. } = clip;
    let horizon = prediction.len() / frame.values();
    let steps = context + horizon;
    assert!(matches!(frame.channels, 1 | 3), "frames are gray or RGB");
    assert_eq!(truth.len(), steps * frame.values(), "truth is [context + horizon, H, W, C]");
    let future = &truth[context * frame.values()..];
    let mut sheets = vec![
        sprites::sheet(truth, *frame),
        sprites::sheet(prediction, *frame),
        sprites::error_sheet(prediction, future, *frame),
    ];
    let key = format!(r#"<b>Error</b> 0 <span class="key" style="background:{}"></span> 1"#, sprites::ramp_css());
    let mut panels = vec![
        panel(*frame, 0, 0..*context, "<b>What it sees</b>"),
        panel(*frame, 0, 0..steps, "<b>Truth</b>"),
        panel(*frame, 1, *context..steps, "<b>Prediction</b>"),
        panel(*frame, 2, *context..steps, &key),
    ];
    if let Some(belief) = &clip.belief {
        assert!(matches!(belief.frame.channels, 1 | 3), "pictures are gray or RGB");
        assert_eq!(
            belief.pictures.len(),
            steps * belief.frame.values(),
            "pictures are [context + horizon, H', W', C']"
        );
        sheets.push(sprites::sheet(&belief.pictures, belief.frame));
        panels.push(panel(belief.frame, 3, 0..steps, &format!("<b>Belief</b> {}", escape(&belief.caption))));
    }
    let errors: Vec<f64> =
        prediction.chunks_exact(frame.values()).zip(future.chunks_exact(frame.values())).map(mse).collect();
    let sheets = each(sheets, |address| format!(r#"<img hidden alt="" src="{address}">"#));
    let numbers: Vec<String> = errors.iter().map(|&mse| error(mse)).collect();
    let (last, start) = (steps - 1, context + horizon.min(24) - 1);
    let (count, columns, title) = (panels.len(), sprites::COLUMNS, escape(&clip.title));
    format!(
        r#"<div class="player" data-context="{context}" data-columns="{columns}" data-mse="{}"><h3>{title}</h3>
<div class="panels" style="--panels:{count}">{}</div>{sheets}
<div class="controls">{BUTTON}<div class="clock"><span></span><span></span></div>
<div class="track">{}<input type="range" aria-label="step" min="0" max="{last}" value="{start}"></div></div></div>"#,
        numbers.join(" "),
        panels.concat(),
        track(*context, &errors)
    )
}

/// A canvas that shows frames `steps` of the clip from sheet `sheet`.
fn panel(frame: FrameShape, sheet: usize, steps: std::ops::Range<usize>, caption: &str) -> String {
    let void = if steps.start > 0 { "watching" } else { "eyes shut" };
    format!(
        r#"<figure><div class="picture">
<canvas width="{}" height="{}" data-sheet="{sheet}" data-first="{}" data-count="{}"></canvas><span class="void">{void}</span></div>
<figcaption>{caption}</figcaption></figure>"#,
        frame.width,
        frame.height,
        steps.start,
        steps.len()
    )
}

fn mse((prediction, truth): (&[u8], &[u8])) -> f64 {
    let squares = prediction.iter().zip(truth).map(|(p, t)| (f64::from(p.abs_diff(*t)) / 255.0).powi(2));
    squares.sum::<f64>() / truth.len() as f64
}

/// The bar above the slider: the context shaded, then the error of each frame, and the moment the eyes shut between
/// them.
fn track(context: usize, errors: &[f64]) -> String {
    let (last, top) = ((context + errors.len() - 1) as f64, errors.iter().copied().fold(1e-9, f64::max));
    let x = |step: usize| step as f64 / last * 1000.0;
    let shut = (context as f64 - 0.5) / last * 1000.0;
    let area =
        each(errors.iter().enumerate(), |(i, mse)| format!("L{:.1} {:.1}", x(context + i), 34.0 - 16.0 * mse / top));
    let area = format!("M{:.1} 34{area}L1000 34z", x(context));
    // Words stand on the roomier side of the moment.
    let side =
        if shut < 500.0 { format!("left:{:.1}%", shut / 10.0) } else { format!("right:{:.1}%", 100.0 - shut / 10.0) };
    format!(
        r#"<svg viewBox="0 0 1000 34" preserveAspectRatio="none" aria-hidden="true">
<path class="open" d="M0 0H{shut:.1}V34H0z"/><path class="area" d="{area}"/><path class="shut" d="M{shut:.1} 0V34"/></svg>
<span class="words" style="{side}">eyes shut</span>"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_after_repairs() {
        assert_eq!(quantise(&[f32::NAN, -1.0, 0.5, 2.0]), [0, 0, 128, 255]);
    }
}
