//! Curves as SVG text, coloured by the page's style sheet so that they follow light and dark.

use std::fmt::Write;

use super::escape;

const WIDTH: f64 = 560.0;
const LEFT: f64 = 54.0;
const TOP: f64 = 24.0;
/// Distance between the names at the ends of curves.
const NAME_GAP: f64 = 15.0;
/// Height of the strip that holds the bars.
const BARS: f64 = 84.0;

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Points that are not above zero are left out.
    Log,
}

/// A named curve. `y` is `None` where it has no finite value.
pub(super) struct Curve<'a> {
    pub(super) name: &'a str,
    /// Style: `m0`, `m1`, ... for models, the kind for baselines.
    pub(super) class: String,
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// What a chart shows.
pub(super) struct Chart<'a> {
    /// Read out by screen readers.
    pub(super) title: &'a str,
    pub(super) x_label: &'a str,
    pub(super) x_ticks: Vec<(f64, String)>,
    pub(super) scale: Scale,
    /// The largest range of `y` that is drawn; what lies outside is drawn at the edge.
    pub(super) limits: (f64, f64),
    /// How values are written, along the axis and under the pointer.
    pub(super) format: fn(f64) -> String,
    pub(super) reading: fn(f64) -> String,
    pub(super) curves: Vec<Curve<'a>>,
    /// Draws a dot at each point: for few, separate points.
    pub(super) dots: bool,
    /// Everything to the right of this is marked, with these words.
    pub(super) mark: Option<(f64, String)>,
    /// Counts drawn as bars under the chart, at the places of the ticks: entities, background.
    pub(super) bars: Vec<[u64; 2]>,
    pub(super) height: f64,
}

/// Where values lie in the drawing.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    scale: Scale,
    right: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0) * (self.right - LEFT)
    }

    fn y(&self, y: f64) -> f64 {
        let (low, high) = (self.flat(self.y.0), self.flat(self.y.1));
        let share = (self.flat(y) - low) / (high - low);
        self.bottom - share.clamp(0.0, 1.0) * (self.bottom - TOP)
    }

    fn flat(&self, y: f64) -> f64 {
        if self.scale == Scale::Log { y.log10() } else { y }
    }
}

impl Chart<'_> {
    /// The chart as an `<svg>` element.
    pub(super) fn svg(&self) -> String {
        let values = || self.curves.iter().flat_map(|curve| curve.points.iter().filter_map(|&(_, y)| self.drawn(y)));
        let xs = || self.curves.iter().flat_map(|curve| &curve.points).map(|&(x, _)| x);
        let half = if self.dots { 0.5 } else { 0.0 };
        let bars = if self.bars.is_empty() { 0.0 } else { BARS };
        let longest = self.curves.iter().map(|curve| short(curve.name).chars().count()).max().unwrap_or(0);
        let (y_range, y_ticks) = self.range(values());
        let frame = Frame {
            x: (xs().fold(f64::INFINITY, f64::min) - half, xs().fold(f64::NEG_INFINITY, f64::max) + half),
            y: y_range,
            scale: self.scale,
            // Names are set at 12 px; a wide bold face takes 7.3 px a letter.
            right: WIDTH - 12.0 - 7.3 * longest as f64,
            bottom: self.height - 40.0 - bars,
        };
        let title = escape(self.title);
        let mut pen = Pen(format!(r#"<svg viewBox="0 0 {WIDTH} {}" role="img" aria-label="{title}">"#, self.height));
        self.draw_grid(&mut pen, &frame, &y_ticks);
        for curve in &self.curves {
            self.draw_curve(&mut pen, &frame, curve);
        }
        self.draw_names(&mut pen, &frame);
        self.draw_bars(&mut pen, &frame);
        self.draw_readings(&mut pen, &frame);
        pen.0 + "</svg>"
    }

    /// A value where it can be drawn.
    fn drawn(&self, y: Option<f64>) -> Option<f64> {
        y.filter(|&y| y.is_finite() && (self.scale == Scale::Linear || y > 0.0))
    }

    /// The range of `y` and its ticks: round numbers around the values, within the limits.
    fn range(&self, values: impl Iterator<Item = f64> + Clone) -> ((f64, f64), Vec<f64>) {
        let within = |y: f64| y.clamp(self.limits.0, self.limits.1);
        let low = values.clone().map(within).fold(f64::INFINITY, f64::min);
        let high = values.map(within).fold(f64::NEG_INFINITY, f64::max);
        if !low.is_finite() {
            return ((1.0, 10.0), vec![]);
        }
        if self.scale == Scale::Log {
            let (first, last) = (low.log10().floor() as i32, (high * 1.0001).log10().ceil() as i32);
            let last = last.max(first + 1);
            return ((10f64.powi(first), 10f64.powi(last)), (first..=last).map(|power| 10f64.powi(power)).collect());
        }
        let step = round_step((high - low).max(1e-9) / 4.0);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil().max((low / step).floor() + 1.0));
        let ticks = (0..=(last - first) as i32).map(|i| (first + f64::from(i)) * step).collect();
        ((first * step, last * step), ticks)
    }

    fn draw_grid(&self, pen: &mut Pen, frame: &Frame, y_ticks: &[f64]) {
        if let Some((from, words)) = &self.mark {
            let x = frame.x(*from).clamp(LEFT, frame.right);
            pen.rect("mark", x, TOP, frame.right - x, frame.bottom - TOP, "");
            pen.text("mark-name", "end", frame.right, TOP - 8.0, words);
        }
        for &tick in y_ticks {
            let y = frame.y(tick);
            let class = if tick == 0.0 && self.scale == Scale::Linear { "zero" } else { "grid" };
            pen.line(class, (LEFT, y), (frame.right, y));
            pen.text("tick", "end", LEFT - 8.0, y + 4.0, &(self.format)(tick));
        }
        for (x, words) in &self.x_ticks {
            pen.text("tick", "middle", frame.x(*x), self.height - 22.0, words);
        }
        pen.text("axis", "middle", f64::midpoint(LEFT, frame.right), self.height - 5.0, self.x_label);
    }

    fn draw_curve(&self, pen: &mut Pen, frame: &Frame, curve: &Curve<'_>) {
        let drawn = |&(x, y): &(f64, Option<f64>)| self.drawn(y).map(|y| (frame.x(x), frame.y(y)));
        // A point that cannot be drawn interrupts the curve.
        for stretch in curve.points.split(|point| drawn(point).is_none()) {
            let points: Vec<_> = stretch.iter().filter_map(drawn).collect();
            pen.curve(&curve.class, &points);
        }
        if self.dots {
            curve.points.iter().filter_map(drawn).for_each(|point| pen.dot(&curve.class, point));
        }
    }

    /// Names at the ends of curves, moved apart where they would overlap.
    fn draw_names(&self, pen: &mut Pen, frame: &Frame) {
        let end = |curve: &Curve<'_>| curve.points.iter().rev().find_map(|&(x, y)| Some((x, self.drawn(y)?)));
        let place = |(x, y)| (frame.x(x), frame.y(y));
        let mut ends: Vec<_> = self.curves.iter().filter_map(|curve| Some((place(end(curve)?), curve))).collect();
        ends.sort_by(|((_, a), _), ((_, b), _)| a.total_cmp(b));
        let heights = spread(ends.iter().map(|((_, y), _)| *y).collect(), TOP, frame.bottom);
        let x = frame.right + 10.0;
        for (((end_x, end_y), curve), y) in ends.into_iter().zip(heights) {
            if (y - end_y).abs() > 1.0 || x - end_x > 16.0 {
                pen.line("leader", (end_x + 4.0, end_y), (x - 2.0, y));
            }
            pen.text(&format!("name {}", curve.class), "start", x, y + 4.0, &short(curve.name));
        }
    }

    /// How many pixels stand behind each point, as bars on an axis of their own.
    fn draw_bars(&self, pen: &mut Pen, frame: &Frame) {
        let most = self.bars.iter().map(|bar| bar[0] + bar[1]).max().unwrap_or(0);
        if most == 0 {
            return;
        }
        let (floor, tallest) = (self.height - 40.0, BARS - 36.0);
        let width = 0.56 * (frame.right - LEFT) / self.bars.len() as f64;
        pen.text("tick", "end", LEFT - 8.0, floor - tallest / 2.0, "pixels");
        pen.line("zero", (LEFT, floor), (frame.right, floor));
        for ((x, _), &[entity, background]) in self.x_ticks.iter().zip(&self.bars) {
            let (x, mut y) = (frame.x(*x), floor);
            for (class, count) in [("bar entity", entity), ("bar background", background)] {
                let height = count as f64 / most as f64 * tallest;
                y -= height;
                pen.rect(class, x - width / 2.0, y, width, height, "");
            }
            pen.text("tick", "middle", x, y - 5.0, &rounded(entity + background));
        }
    }

    /// Invisible strips that light up under the pointer and name all values there.
    fn draw_readings(&self, pen: &mut Pen, frame: &Frame) {
        let mut xs: Vec<f64> = self.curves.iter().flat_map(|curve| &curve.points).map(|&(x, _)| x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let width = (frame.right - LEFT) / (frame.x.1 - frame.x.0);
        for at in xs {
            let here = |x: f64| (x - at).abs() < 1e-9;
            let tick = self.x_ticks.iter().find(|&&(x, _)| self.dots && here(x));
            let place = tick.map_or_else(|| at.to_string(), |(_, words)| words.clone());
            let values = self.curves.iter().filter_map(|curve| {
                let y = curve.points.iter().find_map(|&(x, y)| y.filter(|_| here(x)))?;
                Some(format!("{}: {}", curve.name, (self.reading)(y)))
            });
            let words: Vec<String> = std::iter::once(format!("{}: {place}", self.x_label)).chain(values).collect();
            let left = frame.x(at) - width / 2.0;
            pen.rect("reading", left, TOP, width, frame.bottom - TOP, &words.join("\n"));
        }
    }
}

/// Writes SVG elements; every text is escaped.
struct Pen(String);

impl Pen {
    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        self.0.write_fmt(element).expect("a string takes all text");
    }

    fn text(&mut self, class: &str, anchor: &str, x: f64, y: f64, words: &str) {
        let words = escape(words);
        self.put(format_args!(r#"<text class="{class}" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{words}</text>"#));
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.put(format_args!(r#"<path class="{class}" d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}"/>"#));
    }

    fn curve(&mut self, class: &str, points: &[(f64, f64)]) {
        if let Some((first, rest)) = points.split_first() {
            self.put(format_args!(r#"<path class="curve {class}" d="M{:.1} {:.1}"#, first.0, first.1));
            for (x, y) in rest {
                self.put(format_args!("L{x:.1} {y:.1}"));
            }
            self.put(format_args!(r#""/>"#));
        }
    }

    fn dot(&mut self, class: &str, (x, y): (f64, f64)) {
        self.put(format_args!(r#"<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="3.2"/>"#));
    }

    /// A rectangle, with words to read under the pointer unless they are empty.
    fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64, words: &str) {
        let place = format!(r#"x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}""#);
        if words.is_empty() {
            self.put(format_args!(r#"<rect class="{class}" {place}/>"#));
        } else {
            self.put(format_args!(r#"<rect class="{class}" {place}><title>{}</title></rect>"#, escape(words)));
        }
    }
}

/// Moves sorted heights apart until names fit, within `top..=bottom` as far as there is room.
fn spread(mut heights: Vec<f64>, top: f64, bottom: f64) -> Vec<f64> {
    let mut least = top;
    for y in &mut heights {
        *y = y.max(least);
        least = *y + NAME_GAP;
    }
    let mut most = bottom;
    for y in heights.iter_mut().rev() {
        *y = y.min(most);
        most = *y - NAME_GAP;
    }
    heights
}

/// The round number next to `step`: 1, 2 or 5 times a power of ten.
pub(super) fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * 0.999).unwrap_or(10.0);
    factor * power
}

/// Ticks for steps `1..=horizon`: round numbers, and the first.
pub(super) fn step_ticks(horizon: usize) -> Vec<(f64, String)> {
    let step = (round_step(horizon as f64 / 6.0) as usize).max(1);
    let rounds = (step..=horizon).step_by(step);
    std::iter::once(1).filter(|_| step > 1).chain(rounds).map(|at| (at as f64, at.to_string())).collect()
}

/// A value on an axis without idle zeros: `0.5`, `0.001`, `1e-5`.
pub(super) fn plain(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.000_95 {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// A name that fits beside a chart.
pub(super) fn short(name: &str) -> String {
    if name.chars().count() <= 18 { name.into() } else { name.chars().take(17).chain(['…']).collect() }
}

/// `640`, `64k`, `1.2M`.
pub(super) fn rounded(count: u64) -> String {
    let scaled = |unit: f64, letter| {
        let value = count as f64 / unit;
        if value < 9.95 { format!("{value:.1}{letter}") } else { format!("{value:.0}{letter}") }
    };
    match count {
        0..1000 => count.to_string(),
        1000..1_000_000 => scaled(1e3, 'k'),
        1_000_000..1_000_000_000 => scaled(1e6, 'M'),
        _ => scaled(1e9, 'G'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_moved_apart_and_stay_inside() {
        assert_eq!(spread(vec![20.0, 21.0, 80.0], 10.0, 100.0), [20.0, 35.0, 80.0]);
        assert_eq!(spread(vec![98.0, 99.0], 10.0, 100.0), [85.0, 100.0]);
    }

    #[test]
    fn numbers_on_axes_are_round() {
        assert_eq!([0.013, 0.2, 3.0, 40.0].map(|step| plain(round_step(step))), ["0.02", "0.2", "5", "50"]);
        assert_eq!([640, 64_000, 1_240_000, 9_990_000_000].map(rounded), ["640", "64k", "1.2M", "10G"]);
        assert_eq!([0.5, 1.0, 0.001, 1e-5, 0.0, 20.0, -1.0].map(plain), ["0.5", "1", "0.001", "1e-5", "0", "20", "-1"]);
        let ticks = |horizon| step_ticks(horizon).into_iter().map(|(_, words)| words).collect::<Vec<_>>();
        assert_eq!(ticks(20), ["1", "5", "10", "15", "20"]);
        assert_eq!(ticks(4), ["1", "2", "3", "4"]);
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let curve =
            Curve { name: "<a>", class: "m0".into(), points: vec![(1.0, Some(0.0)), (2.0, Some(0.1)), (3.0, None)] };
        let chart = Chart {
            title: "t",
            x_label: "x",
            x_ticks: vec![],
            scale: Scale::Log,
            limits: (0.0, 1.0),
            format: plain,
            reading: plain,
            curves: vec![curve],
            dots: true,
            mark: None,
            bars: vec![],
            height: 200.0,
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(
            !svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<a>") && svg.contains("&lt;a&gt;"),
            "{svg}"
        );
    }
}
