//! What stands in the room: which of it each sample shows, and its colours.

use std::ops::Range;

use super::form::{Form, Rays, Slab, cast, dot, normals};
use super::lanes::{Colours, LANES, Lanes, each, load, log2, packed};
use super::lens::{Lens, MIDDLE, NEAR, SAMPLES};
use super::scene::{Around, Scene, Thing, lit};
use super::sun;
use super::texture::{Texture, shine};

/// Codes of a thing: one for each face.
const FACES: u32 = 6;

/// One place in all pixels. Rows are filled up to whole lanes.
#[derive(Clone, Debug)]
struct Plane {
    /// Right and down from the upper left corner of a pixel.
    offset: [f32; 2],
    /// How far right of the eye's axis pixels are at a distance of one.
    aside: Vec<f32>,
    /// 0 where the room shows, else `1 + FACES * thing + face`. Between pictures all are 0.
    codes: Vec<u32>,
    /// Where a thing shows, m along the eye's axis.
    depths: Vec<f32>,
    /// Of a box that stands upright: where the rays of each column enter and leave its sides, and the code of the one they enter.
    enter: Vec<f32>,
    leave: Vec<f32>,
    face: Vec<u32>,
}

/// Columns, of whole lanes, and rows, in which a thing can show.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    pub columns: Range<usize>,
    pub rows: Range<usize>,
}

/// What a face looks like.
#[derive(Clone, Copy, Debug)]
enum Look<'a> {
    Plain(u32),
    Textured {
        texture: &'a Texture,
        light: [f32; 3],
        form: &'a Form,
        face: usize,
    },
    Round(&'a Thing),
    /// Round, and in the sun.
    Sunlit(&'a Thing),
}

/// Things of a picture.
#[derive(Clone, Debug)]
pub(super) struct Things {
    width: usize,
    height: usize,
    samples: [Plane; 4],
    middle: Plane,
    windows: Vec<Window>,
}

impl Things {
    pub fn new(width: usize, height: usize) -> Self {
        let row = width.next_multiple_of(LANES);
        let plane = |offset| Plane {
            offset,
            aside: vec![0.0; row],
            codes: vec![0; row * height],
            depths: vec![0.0; row * height],
            enter: vec![0.0; row],
            leave: vec![0.0; row],
            face: vec![0; row],
        };
        Self { width, height, samples: SAMPLES.map(plane), middle: plane(MIDDLE), windows: Vec::new() }
    }

    /// Casts all samples' rays, and those of the pixels' middles if they are asked for.
    #[inline(always)]
    pub fn look(&mut self, scene: &Scene<'_>, lens: &Lens, middles: bool) {
        self.windows.clear();
        let planes = self.samples.iter_mut().chain(middles.then_some(&mut self.middle));
        for plane in planes {
            for (x, aside) in plane.aside.iter_mut().enumerate() {
                *aside = lens.aside(x as f32 + plane.offset[0]);
            }
        }
        let field = matches!(scene.around, Around::Field(_));
        for (number, thing) in scene.things.iter().enumerate() {
            let Some(window) = window(thing.form.corners(), lens, [self.width, self.height]) else { continue };
            let planes = self.samples.iter_mut().chain(middles.then_some(&mut self.middle));
            for plane in planes {
                plane.mark(&thing.form, 1 + number as u32 * FACES, lens, &window, field);
            }
            self.windows.push(window);
        }
    }

    /// Draws them into `canvas`, rows filled up to whole lanes, over what is there.
    #[inline(always)]
    pub fn paint(&mut self, scene: &Scene<'_>, lens: &Lens, canvas: &mut [u32]) {
        let width = self.width.next_multiple_of(LANES);
        let looks: [Look<'_>; Scene::MOST * FACES as usize] = std::array::from_fn(|at| look(scene, at));
        for window in &self.windows {
            for y in window.rows.clone() {
                for begin in window.columns.clone().step_by(LANES) {
                    let at = y * width + begin..y * width + begin + LANES;
                    let codes = self.samples.each_mut().map(|plane| {
                        let codes = plane.codes[at.clone()].as_mut_array().expect("whole lanes");
                        std::mem::replace(codes, [0; LANES])
                    });
                    let canvas = canvas[at].as_mut_array::<LANES>().expect("whole lanes");
                    resolve(&codes, canvas, |code| {
                        let aside = each(|i| lens.aside((begin + i) as f32 + MIDDLE[0]));
                        let rays = Rays { lens, aside, down: lens.down(y as f32 + MIDDLE[1]) };
                        shade(&looks[code as usize - 1], &rays)
                    });
                }
            }
        }
    }

    /// Says of the pixels' middles how far what shows is, and of whom it is.
    #[inline(always)]
    pub fn measure(&mut self, mut depth: Option<&mut [f32]>, mut ids: Option<&mut [u8]>) {
        let row = self.width.next_multiple_of(LANES);
        for window in &self.windows {
            for y in window.rows.clone() {
                for x in window.columns.start..window.columns.end.min(self.width) {
                    let code = std::mem::take(&mut self.middle.codes[y * row + x]);
                    if code > 0 {
                        if let Some(depth) = &mut depth {
                            depth[y * self.width + x] = self.middle.depths[y * row + x];
                        }
                        if let Some(ids) = &mut ids {
                            ids[y * self.width + x] = code.div_ceil(FACES) as u8;
                        }
                    }
                }
                self.middle.codes[y * row + self.width..(y + 1) * row].fill(0);
            }
        }
    }
}

impl Plane {
    /// Marks the samples that show `form`; on a field, what of it is above the ground.
    #[inline(always)]
    fn mark(&mut self, form: &Form, code: u32, lens: &Lens, window: &Window, field: bool) {
        match form {
            Form::Box { centre, half, axes } if axes[1][1] >= 1.0 && !field => {
                self.mark_upright(*centre, *half, axes, code, lens, window);
            }
            _ => self.mark_any(form, code, lens, window, field),
        }
    }

    #[inline(always)]
    fn mark_any(&mut self, form: &Form, code: u32, lens: &Lens, Window { columns, rows }: &Window, field: bool) {
        for y in rows.clone() {
            let down = lens.down(y as f32 + self.offset[1]);
            let ground = if field && down > 0.0 { lens.place[1] / down } else { f32::INFINITY };
            for begin in columns.clone().step_by(LANES) {
                let (depth, face) = cast(form, &Rays { lens, aside: load(&self.aside, begin), down });
                let (codes, depths) = self.at(y, begin);
                for i in 0..LANES {
                    let nearer = codes[i] == 0 || depth[i] < depths[i];
                    let seen = depth[i] > NEAR && depth[i] < ground && nearer;
                    codes[i] = if seen { code + face[i] } else { codes[i] };
                    depths[i] = if seen { depth[i] } else { depths[i] };
                }
            }
        }
    }

    /// Of a box that stands upright, all rays of a column share what they meet of its sides, and those of a row its top and bottom.
    #[inline(always)]
    fn mark_upright(
        &mut self,
        centre: [f32; 3],
        half: [f32; 3],
        axes: &[[f32; 3]; 3],
        code: u32,
        lens: &Lens,
        Window { columns, rows }: &Window,
    ) {
        let from = [lens.place[0] - centre[0], 0.0, lens.place[2] - centre[2]];
        let at = [0, 2].map(|axis: usize| dot(axes[axis], from));
        for x in columns.clone() {
            let [along_x, along_z] = lens.way(self.aside[x]);
            let speed = |axis: usize| axes[axis][0] * along_x + axes[axis][2] * along_z;
            let (first, third) = (Slab::new(at[0], half[0], speed(0)), Slab::new(at[1], half[2], speed(2)));
            let later = third.enter > first.enter;
            self.enter[x] = if later { third.enter } else { first.enter };
            self.leave[x] = first.leave.min(third.leave);
            self.face[x] = code + if later { 4 + third.far } else { first.far };
        }
        for y in rows.clone() {
            let slab = Slab::new(lens.place[1] - centre[1], half[1], -lens.down(y as f32 + self.offset[1]));
            let level = code + 2 + slab.far;
            for begin in columns.clone().step_by(LANES) {
                let lanes = begin..begin + LANES;
                let enter: Lanes = load(&self.enter, begin);
                let leave: Lanes = load(&self.leave, begin);
                let faces: [u32; LANES] = self.face[lanes].try_into().expect("whole lanes");
                let (codes, depths) = self.at(y, begin);
                for i in 0..LANES {
                    let (enter, leave) = (enter[i], leave[i]);
                    let over = slab.enter > enter;
                    let first = if over { slab.enter } else { enter };
                    let last = if slab.leave < leave { slab.leave } else { leave };
                    let nearer = codes[i] == 0 || first < depths[i];
                    let seen = first < last && first > NEAR && nearer;
                    let face = if over { level } else { faces[i] };
                    codes[i] = if seen { face } else { codes[i] };
                    depths[i] = if seen { first } else { depths[i] };
                }
            }
        }
    }

    #[inline(always)]
    fn at(&mut self, y: usize, begin: usize) -> (&mut [u32; LANES], &mut Lanes) {
        let at = y * self.aside.len() + begin;
        let codes = self.codes[at..at + LANES].as_mut_array().expect("whole lanes");
        (codes, self.depths[at..at + LANES].as_mut_array().expect("whole lanes"))
    }
}

/// Columns and rows in which what is between these corners can show.
pub(super) fn window(corners: [[f32; 3]; 8], lens: &Lens, [width, height]: [usize; 2]) -> Option<Window> {
    let (mut least, mut most, mut behind, mut outside) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2], 0, [0; 2]);
    let edge = [lens.aside(0.0), lens.aside(width as f32)];
    for corner in corners {
        let from = [corner[0] - lens.place[0], corner[2] - lens.place[2]];
        let along = |way: [f32; 2]| way[0] * from[0] + way[1] * from[1];
        let (depth, aside) = (along(lens.forward), along(lens.right));
        outside = [outside[0] + u32::from(aside < edge[0] * depth), outside[1] + u32::from(aside > edge[1] * depth)];
        if depth <= NEAR {
            behind += 1;
            continue;
        }
        let scale = lens.focal / depth;
        let at = [lens.middle[0] + aside * scale, lens.middle[1] - (corner[1] - lens.place[1]) * scale];
        for i in 0..2 {
            (least[i], most[i]) = (least[i].min(at[i]), most[i].max(at[i]));
        }
    }
    if behind == 8 || outside.contains(&8) {
        return None;
    }
    let range = |i: usize, size: usize| {
        let clamp = |x: f32| x.clamp(0.0, size as f32) as usize;
        if behind > 0 { 0..size } else { clamp((least[i] - 1.0).floor())..clamp((most[i] + 1.0).ceil()) }
    };
    let (columns, rows) = (range(0, width), range(1, height));
    let columns = columns.start / LANES * LANES..columns.end.next_multiple_of(LANES);
    (!columns.is_empty() && !rows.is_empty()).then_some(Window { columns, rows })
}

/// What face `at % FACES` of thing `at / FACES` looks like.
fn look<'a>(scene: &Scene<'a>, at: usize) -> Look<'a> {
    let Some(thing) = scene.things.get(at / FACES as usize) else { return Look::Plain(0) };
    let face = at % FACES as usize;
    let light = |axes| match scene.around {
        Around::Room(_) => lit(thing.colour, outward(axes, face), 1.0),
        Around::Field(_) => sun::lit(thing.colour, outward(axes, face)),
    };
    match (&thing.form, &thing.texture, scene.around) {
        (Form::Capsule { .. }, _, Around::Room(_)) => Look::Round(thing),
        (Form::Capsule { .. }, _, Around::Field(_)) => Look::Sunlit(thing),
        (Form::Box { axes, .. }, Some(texture), _) => {
            Look::Textured { texture, light: light(axes), form: &thing.form, face }
        }
        (Form::Box { axes, .. }, None, _) => Look::Plain(packed(light(axes))),
    }
}

/// The normal of a box's face: of each axis the negative one first.
fn outward(axes: &[[f32; 3]; 3], face: usize) -> [f32; 3] {
    axes[face / 2].map(|x| if face % 2 == 1 { x } else { -x })
}

#[inline(always)]
fn shade(look: &Look<'_>, rays: &Rays<'_>) -> Colours {
    match *look {
        Look::Plain(colour) => [colour; LANES],
        Look::Textured { texture, light, form, face } => {
            let Form::Box { centre, half, axes } = *form else { return [0; LANES] };
            let (u, v, detail) = on_face(centre, half, &axes, face, rays);
            shine(texture.at(u, v, detail), light)
        }
        Look::Round(thing) => {
            let Form::Capsule { ends, radius, gain } = thing.form else { return [0; LANES] };
            let [x, y, z] = normals(ends, radius, rays);
            each(|i| packed(lit(thing.colour, [x[i], y[i], z[i]], gain)))
        }
        Look::Sunlit(thing) => {
            let Form::Capsule { ends, radius, .. } = thing.form else { return [0; LANES] };
            sun::round(thing.colour, ends, radius, rays)
        }
    }
}

/// Where on a face rays meet it, in shares of its sides, and how much of it a pixel is there, as a logarithm of two.
#[inline(always)]
fn on_face(
    centre: [f32; 3],
    half: [f32; 3],
    axes: &[[f32; 3]; 3],
    face: usize,
    rays: &Rays<'_>,
) -> (Lanes, Lanes, Lanes) {
    let lens = rays.lens;
    let normal = outward(axes, face);
    // Up is up on the four sides; who stands before a side sees its left on the left.
    let (across, up) = match face / 2 {
        0 => (2, 1),
        1 => (0, 2),
        _ => (0, 1),
    };
    let mirrored = matches!(face, 1 | 4);
    let from = [0, 1, 2].map(|i| lens.place[i] - centre[i]);
    let gap = dot(normal, from) - half[face / 2];
    let along = |axis: [f32; 3], i: usize| {
        let [x, z] = lens.way(rays.aside[i]);
        axis[0] * x - axis[1] * rays.down + axis[2] * z
    };
    let depth = each(|i| -gap / along(normal, i).min(-1e-6));
    let at =
        |axis: usize, i: usize| 0.5 + (dot(axes[axis], from) + depth[i] * along(axes[axis], i)) / (2.0 * half[axis]);
    let u = each(|i| if mirrored { 1.0 - at(across, i) } else { at(across, i) }.clamp(0.0, 1.0));
    let v = each(|i| at(up, i).clamp(0.0, 1.0));
    let detail = each(|i| {
        let steep = -along(normal, i).min(-1e-3);
        log2(depth[i].max(NEAR) / (lens.focal * steep.min(1.0) * 2.0 * half[across].min(half[up])))
    });
    (u, v, detail)
}

/// Means of four samples a pixel, by their codes; what `canvas` has is what code 0 looks like.
#[inline(always)]
fn resolve(codes: &[[u32; LANES]; 4], canvas: &mut Colours, shade: impl Fn(u32) -> Colours) {
    let any = codes.iter().flatten().fold(0, |any, &code| any | code);
    if any == 0 {
        return;
    }
    // Red and blue, and green, summed with room to spare.
    let (mut outer, mut inner) = ([0x0002_0002; LANES], [0x0200; LANES]);
    let mut add = |code: u32, colours: &Colours| {
        for i in 0..LANES {
            let count = codes.iter().map(|plane| u32::from(plane[i] == code)).sum::<u32>();
            outer[i] += (colours[i] & 0x00ff_00ff) * count;
            inner[i] += (colours[i] & 0x0000_ff00) * count;
        }
    };
    add(0, canvas);
    let mut last = 0;
    loop {
        let next = codes.iter().flatten().fold(u32::MAX, |next, &code| if code > last { next.min(code) } else { next });
        if next == u32::MAX {
            break;
        }
        add(next, &shade(next));
        last = next;
    }
    *canvas = each(|i| outer[i] >> 2 & 0x00ff_00ff | inner[i] >> 2 & 0x0000_ff00);
}
