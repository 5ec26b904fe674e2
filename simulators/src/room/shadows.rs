//! Shadows of things on level ground, soft as the lights are wide: of the sun, and of the open sky.
//!
//! Seen along a light's direction a capsule is what is within its radius of a line, and a box a figure of three pairs of parallel sides. So a place
//! on the ground is taken into the plane across the light, where how far it is inside or outside such a figure is a few sums and a root. Over that
//! distance a light that is `wide` at a distance of one fades from whole to hidden, `wide` times as far as the shadow falls.

use super::form::Form;
use super::lanes::{LANES, Lanes, each, load, whole};
use super::lens::Lens;
use super::scene::Thing;
use super::sun::{SKYLIGHT, SUN, SUNLIGHT};
use super::things::{Window, window};

/// A light without end that shines on the ground.
#[derive(Clone, Copy, Debug)]
struct Light {
    /// Where it is, of length one.
    towards: [f32; 3],
    /// The way along the ground to below it, of length one.
    slant: [f32; 2],
    /// The radius of its disc at a distance of one.
    wide: f32,
}

/// The sun, and the sky straight above.
const LIGHTS: [Light; 2] = [
    Light { towards: SUN, slant: [-0.6, 0.8], wide: 0.09 },
    Light { towards: [0.0, 1.0, 0.0], slant: [1.0, 0.0], wide: 1.1 },
];
/// What of the skylight comes from so near the horizon that nothing hides it.
const UNHIDDEN: f32 = 0.35;
/// The least distance that a shadow falls, m: what of a thing is below the ground casts it as if it touched it.
const LEAST: f32 = 1e-3;

impl Light {
    /// Where a place's shadow falls, along `x` and `z`.
    #[inline(always)]
    fn ground(&self, [x, y, z]: [f32; 3]) -> [f32; 2] {
        let run = y / self.towards[1];
        [x - self.towards[0] * run, z - self.towards[2] * run]
    }

    /// A place on the ground, in the plane across the light: along its slant, and beside that.
    #[inline(always)]
    fn across(&self, [x, z]: [f32; 2]) -> [f32; 2] {
        let [along_x, along_z] = self.slant;
        [(x * along_x + z * along_z) * self.towards[1], z * along_x - x * along_z]
    }
}

/// What is seen of a thing along a light's direction, in the plane across it.
#[derive(Clone, Copy, Debug)]
enum Outline {
    /// What is within `radius` of a line.
    Round { from: [f32; 2], line: [f32; 2], squared: f32, radius: f32 },
    /// What is between three pairs of lines, each by the way across it and by half the distance of the two.
    Sides { middle: [f32; 2], ways: [[f32; 2]; 3], halves: [f32; 3] },
}

/// A thing in the way of a light.
#[derive(Clone, Debug)]
struct Caster {
    /// Where it may darken the ground.
    window: Window,
    /// Which of [`LIGHTS`] it hides.
    light: usize,
    outline: Outline,
    /// How far the shadow of a line's first end falls, m, or of a box's middle; and how much farther that of the other end does.
    fall: [f32; 2],
}

/// All shadows of a picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadows {
    /// How far right of the eye's axis pixels are at a distance of one, filled up to whole lanes.
    aside: Vec<f32>,
    casters: Vec<Caster>,
    /// Those that darken a row.
    near: Vec<usize>,
}

impl Shadows {
    /// Looks at where things hide the lights, in a picture of this width and height.
    #[inline(always)]
    pub fn look(&mut self, things: &[Thing], lens: &Lens, size: [usize; 2]) {
        self.aside.clear();
        self.aside.extend((0..size[0].next_multiple_of(LANES)).map(|x| lens.aside(x as f32 + 0.5)));
        self.casters.clear();
        for thing in things {
            for light in 0..LIGHTS.len() {
                self.casters.extend(Caster::new(&thing.form, light, lens, size));
            }
        }
    }

    /// Darkens row `y`, which shows nothing but ground.
    #[inline(always)]
    pub fn darken(&mut self, y: usize, lens: &Lens, row: &mut [u32]) {
        let Self { aside, casters, near } = self;
        near.clear();
        near.extend((0..casters.len()).filter(|&number| casters[number].window.rows.contains(&y)));
        if near.is_empty() {
            return;
        }
        let depth = lens.place[1] / lens.down(y as f32 + 0.5);
        // A pixel is a place as wide as this; shadows are no sharper.
        let pixel = depth / lens.focal;
        for (begin, colours) in (0..).step_by(LANES).zip(row.as_chunks_mut::<LANES>().0) {
            let aside = load(aside, begin);
            let place = [
                each(|i| depth.mul_add(lens.right[0].mul_add(aside[i], lens.forward[0]), lens.place[0])),
                each(|i| depth.mul_add(lens.right[1].mul_add(aside[i], lens.forward[1]), lens.place[2])),
            ];
            let mut open: [Lanes; 2] = [[1.0; LANES]; LIGHTS.len()];
            let mut any = false;
            for caster in near.iter().map(|&number| &casters[number]) {
                if caster.window.columns.contains(&begin) {
                    any = true;
                    let passes = caster.lets_pass(&place, pixel);
                    let open = &mut open[caster.light];
                    *open = each(|i| open[i].min(passes[i]));
                }
            }
            if any {
                *colours = dimmed(*colours, &open);
            }
        }
    }
}

impl Caster {
    /// `None` where no shadow can be in the picture.
    #[inline(always)]
    fn new(form: &Form, number: usize, lens: &Lens, size: [usize; 2]) -> Option<Self> {
        if form.corners().iter().all(|corner| corner[1] <= 0.0) {
            return None;
        }
        let light = &LIGHTS[number];
        let rise = light.towards[1];
        let fall = |height: f32| (height / rise).max(LEAST);
        let (outline, fall, reaches) = match *form {
            Form::Capsule { ends, radius, .. } => {
                let [from, to] = ends.map(|end| light.across(light.ground(end)));
                let line = [to[0] - from[0], to[1] - from[1]];
                let squared = (line[0] * line[0] + line[1] * line[1]).max(f32::MIN_POSITIVE);
                let falls = ends.map(|end| fall(end[1]));
                let reaches = falls.map(|fall| radius + fall * light.wide);
                let reaches = [0, 1].map(|end: usize| (light.ground(ends[end]), [reaches[end] / rise; 2]));
                (Outline::Round { from, line, squared, radius }, [falls[0], falls[1] - falls[0]], reaches)
            }
            Form::Box { centre, half, axes } => {
                let sides = [0, 1, 2].map(|axis: usize| light.ground(axes[axis].map(|x| x * half[axis])));
                let edges = sides.map(|side| light.across(side));
                // A side that is seen along itself bounds nothing.
                let ways = edges.map(|[x, y]| {
                    let length = (x * x + y * y).sqrt();
                    (length > 1e-6).then(|| [-y / length, x / length])
                });
                let halves = ways.map(|way| {
                    let half = |way: [f32; 2]| {
                        edges.iter().map(|edge| (way[0] * edge[0] + way[1] * edge[1]).abs()).sum::<f32>()
                    };
                    way.map_or(f32::MAX, half)
                });
                let ways = ways.map(Option::unwrap_or_default);
                let fall = fall(centre[1]);
                let reach = [0, 1].map(|i: usize| {
                    let corner: f32 = sides.iter().map(|side| side[i].abs()).sum();
                    corner + fall * light.wide / rise
                });
                let ground = light.ground(centre);
                (Outline::Sides { middle: light.across(ground), ways, halves }, [fall, 0.0], [(ground, reach); 2])
            }
        };
        let edge = |i: usize, sign: f32| {
            reaches.map(|(at, reach)| sign * at[i] + reach[i]).into_iter().fold(f32::MIN, f32::max)
        };
        let corners = std::array::from_fn(|corner| {
            let at = |i: usize| if corner >> i & 1 == 1 { edge(i, 1.0) } else { -edge(i, -1.0) };
            [at(0), 0.0, at(1)]
        });
        window(corners, lens, size).map(|window| Self { window, light: number, outline, fall })
    }

    /// How much of its light comes by it to places on the ground, along `x` and `z`, as wide as a pixel: 0 to 1.
    #[inline(always)]
    fn lets_pass(&self, [x, z]: &[Lanes; 2], pixel: f32) -> Lanes {
        let light = &LIGHTS[self.light];
        let at = each(|i| light.across([x[i], z[i]]));
        match self.outline {
            Outline::Round { from, line, squared, radius } => each(|i| {
                let to = [at[i][0] - from[0], at[i][1] - from[1]];
                let share = ((to[0] * line[0] + to[1] * line[1]) / squared).clamp(0.0, 1.0);
                let beside = [to[0] - share * line[0], to[1] - share * line[1]];
                let outside = (beside[0] * beside[0] + beside[1] * beside[1]).sqrt() - radius;
                faded(outside, (self.fall[0] + self.fall[1] * share) * light.wide + pixel)
            }),
            Outline::Sides { middle, ways: [a, b, c], halves } => each(|i| {
                let to = [at[i][0] - middle[0], at[i][1] - middle[1]];
                let beyond = |way: [f32; 2], half: f32| (way[0] * to[0] + way[1] * to[1]).abs() - half;
                let outside = beyond(a, halves[0]).max(beyond(b, halves[1])).max(beyond(c, halves[2]));
                faded(outside, self.fall[0] * light.wide + pixel)
            }),
        }
    }
}

/// From 0 at `soft` inside an outline to 1 at as much outside of it, level at both.
#[inline(always)]
fn faded(outside: f32, soft: f32) -> f32 {
    let share = (0.5 + 0.5 * (outside / soft)).clamp(0.0, 1.0);
    share * share * (3.0 - 2.0 * share)
}

/// Colours of the ground that these shares of the sun and of the sky reach.
#[inline(always)]
fn dimmed(colours: [u32; LANES], open: &[Lanes; 2]) -> [u32; LANES] {
    let channel = |k: usize, i: usize| {
        let (sun, sky) = (SUNLIGHT[k] * SUN[1], SKYLIGHT[k]);
        let light = sun * open[0][i] + sky * (UNHIDDEN + (1.0 - UNHIDDEN) * open[1][i]);
        let share = (light / (sun + sky)).sqrt();
        (whole((colours[i] >> (8 * k) & 255) as f32 * share) as u32) << (8 * k)
    };
    each(|i| channel(0, i) | channel(1, i) | channel(2, i))
}

#[cfg(test)]
mod tests {
    use super::super::scene::Eye;
    use super::*;

    /// How much of the sun and of the sky comes by `form` to a place on the ground, seen from above it.
    fn open(form: &Form, [x, z]: [f32; 2]) -> [f32; 2] {
        let eye = Eye { place: [x, 3.0, z + 3.0], heading: std::f64::consts::FRAC_PI_2, field: 2.0, horizon: 0.0 };
        let lens = Lens::new(&eye, 64, 64);
        [0, 1].map(|light| {
            let caster = Caster::new(form, light, &lens, [64, 64]).expect("in the picture");
            caster.lets_pass(&[[x; LANES], [z; LANES]], 1e-4)[0]
        })
    }

    /// Where the sun's ray through a place meets the ground.
    fn below([x, y, z]: [f32; 3]) -> [f32; 2] {
        [x - SUN[0] / SUN[1] * y, z - SUN[2] / SUN[1] * y]
    }

    #[test]
    fn lights_slant_as_they_are() {
        for Light { towards: [x, y, z], slant, .. } in LIGHTS {
            let level = (1.0 - y * y).sqrt();
            assert!((slant[0] * level - x).abs() < 1e-6 && (slant[1] * level - z).abs() < 1e-6);
        }
    }

    #[test]
    fn a_shadow_is_whole_in_the_middle_half_at_the_edge_and_gone_beside() {
        let ball = Form::ball([1.0, 2.0, -1.0], 0.5, 1.0);
        let [x, z] = below([1.0, 2.0, -1.0]);
        // Across the slant of the light the shadow is as wide as the ball; along it it is 1 / 0.8 times as long.
        for (way, half) in [([0.8, 0.6], 0.5), ([-0.6, 0.8], 0.5 / 0.8)] {
            let sun = |share: f32| open(&ball, [x + way[0] * half * share, z + way[1] * half * share])[0];
            assert!(sun(0.0) < 1e-6 && (sun(1.0) - 0.5).abs() < 1e-3 && sun(1.6) > 0.999, "{way:?}");
            assert!(sun(0.9) < sun(1.0) && sun(1.0) < sun(1.1));
        }
        let [.., sky] = open(&ball, [1.0, -1.0]);
        assert!(sky < 0.5, "right below it much of the sky is hidden, {sky} is left");
    }

    #[test]
    fn a_foot_on_the_ground_has_a_sharp_shadow_and_one_in_the_air_a_soft_one_elsewhere() {
        let foot = |height: f32| Form::Capsule {
            ends: [[0.0, height, 0.0], [0.4, height + 0.3, 0.0]],
            radius: 0.08,
            gain: 1.0,
        };
        assert!(open(&foot(0.08), [0.0, 0.0])[0] < 0.01, "below the foot that stands it is dark");
        let [x, z] = below([0.0, 1.08, 0.0]);
        assert!(open(&foot(1.08), [0.0, 0.0])[0] > 0.99, "below the one that is a metre up it is not");
        assert!(open(&foot(1.08), [x, z])[0] < 0.3);
    }

    #[test]
    fn the_shadow_of_a_box_has_its_outline() {
        let form = Form::standing([0.0, 0.0], [1.0, 2.0, 0.6]);
        // Corners of the top cast those of the shadow that are farthest from the box.
        let [x, z] = below([0.5, 2.0, -0.3]);
        let sun = |share: f32| open(&form, [x * share, z * share])[0];
        assert!(sun(0.0) < 1e-3 && sun(0.8) < 0.1 && sun(1.2) > 0.99, "{} {} {}", sun(0.0), sun(0.8), sun(1.2));
        assert!(open(&form, [-0.5, 0.5])[0] > 0.99, "no shadow towards the sun");
    }

    #[test]
    fn lights_that_are_hidden_darken_and_the_sun_more_than_the_sky() {
        let ground = [0x00c8_c8c8; LANES];
        let bright = |sun: f32, sky: f32| dimmed(ground, &[[sun; LANES], [sky; LANES]])[0] & 255;
        assert_eq!(bright(1.0, 1.0), 0xc8);
        assert!(bright(0.0, 1.0) < bright(1.0, 0.0) && bright(0.0, 0.0) < bright(0.0, 1.0) && bright(0.0, 0.0) > 40);
    }
}
