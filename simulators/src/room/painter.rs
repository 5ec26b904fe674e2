//! The picture: what is around and things, put together.

use std::cell::RefCell;

use pulp::{Arch, NullaryFnOnce};

use super::columns::Backdrop;
use super::lanes::{LANES, each, mean};
use super::lens::Lens;
use super::levels::Levels;
use super::scene::{Around, Field, Room, Scene, lit};
use super::shadows::Shadows;
use super::sun;
use super::things::Things;
use super::walls::Walls;

/// Where a picture goes. Rows are from the top.
#[derive(Debug)]
pub struct Picture<'a> {
    /// `[height, width, 3]`.
    pub rgb: &'a mut [u8],
    /// How far the middle of each pixel is along the eye's axis, m, `[height, width]`; the sky is infinitely far.
    pub depth: Option<&'a mut [f32]>,
    /// What the middle of each pixel shows: 0 what is around, `i + 1` the i-th thing, `[height, width]`.
    pub ids: Option<&'a mut [u8]>,
}

/// Draws pictures of one size, and keeps what it needs for the next.
#[derive(Clone, Debug)]
pub struct Painter {
    width: usize,
    height: usize,
    backdrop: Backdrop,
    levels: Levels,
    walls: Walls,
    things: Things,
    shadows: Shadows,
    /// Of each group of columns the rows in which a wall may show: from, and to before.
    wall_rows: Vec<[u32; 2]>,
    /// Colours, `[height, width]`, rows filled up to whole lanes.
    canvas: Vec<u32>,
}

impl Painter {
    /// Of pictures of `width` by `height` pixels.
    ///
    /// # Panics
    /// If a side is zero or more than 8192.
    #[must_use]
    pub fn new(width: usize, height: usize) -> Self {
        assert!((1..=8192).contains(&width) && (1..=8192).contains(&height), "a picture of {width} by {height} pixels");
        let row = width.next_multiple_of(LANES);
        Self {
            width,
            height,
            backdrop: Backdrop::new(width),
            levels: Levels::new(width),
            walls: Walls::new(width, height),
            things: Things::new(width, height),
            shadows: Shadows::default(),
            wall_rows: vec![[0; 2]; row / LANES],
            canvas: vec![0; row * height],
        }
    }

    /// Draws `scene`.
    ///
    /// # Panics
    /// If a buffer of `picture` has another length, the scene has more than [`Scene::MOST`] things, or the eye is not in the room or not
    /// above the ground.
    pub fn draw(&mut self, scene: &Scene<'_>, picture: Picture<'_>) {
        let pixels = self.width * self.height;
        assert!(scene.things.len() <= Scene::MOST, "{} things, allowed: {}", scene.things.len(), Scene::MOST);
        let [x, y, z] = scene.eye.place;
        match scene.around {
            Around::Room(Room { size, height, .. }) => {
                let inside = |at: f32, size: f32| at > 0.0 && at < size;
                let placed = inside(x, size[0]) && inside(y, *height) && inside(z, size[1]);
                assert!(placed, "an eye at {:?} in a room of {size:?} by {height}", [x, y, z]);
            }
            Around::Field(_) => assert!(y > 0.0, "an eye {y} m above the ground"),
        }
        assert_eq!(picture.rgb.len(), pixels * 3, "bytes of a picture");
        let numbers = [picture.depth.as_ref().map(|depth| depth.len()), picture.ids.as_ref().map(|ids| ids.len())];
        assert!(numbers.into_iter().flatten().all(|len| len == pixels), "numbers of a picture");
        Arch::new().dispatch(Draw { painter: self, scene, picture });
    }

    #[inline(always)]
    fn paint_room(&mut self, room: &Room, lens: &Lens) {
        let backdrop = &mut self.backdrop;
        backdrop.look(room, lens, self.height);
        for (group, rows) in self.wall_rows.iter_mut().enumerate() {
            let columns = group * LANES..(group + 1) * LANES;
            let edges = |edge: usize| {
                let columns = columns.clone();
                backdrop.samples.iter().flat_map(move |of| of.from[edge][columns.clone()].iter().copied())
            };
            *rows = [edges(0).fold(u32::MAX, u32::min), edges(1).fold(0, u32::max)];
        }
        self.walls.look(room, lens, &backdrop.middle, &self.wall_rows);
        let (up, down) = (lit([1.0; 3], [0.0, 1.0, 0.0], 1.0), lit([1.0; 3], [0.0, -1.0, 0.0], 1.0));
        let floor = self.levels.find(&room.floor, up, -lens.place[1], lens, self.height);
        let ceiling = self.levels.find(&room.ceiling, down, room.height - lens.place[1], lens, self.height);
        let row = self.canvas.len() / self.height;
        for (y, canvas) in self.canvas.chunks_exact_mut(row).enumerate() {
            let level = if lens.down(y as f32 + 0.5) > 0.0 { floor } else { ceiling };
            let level = self.levels.row(level, y);
            canvas.copy_from_slice(level);
            for (group, canvas) in canvas.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let [from, to] = self.wall_rows[group];
                if (from..to).contains(&(y as u32)) {
                    let columns = group * LANES..(group + 1) * LANES;
                    let colours = self.walls.colours(y, columns.start);
                    let [from, to] = backdrop.pure.each_ref().map(|edge| &edge[columns.clone()]);
                    let wall = each(|i| from[i] <= y as u32 && (y as u32) < to[i]);
                    *canvas = each(|i| if wall[i] { colours[i] } else { canvas[i] });
                }
            }
        }
        for x in 0..self.width {
            for y in backdrop.mixed(x).into_iter().flatten() {
                let at = y as usize * row + x;
                // Nothing but ceiling or floor is here yet.
                let level = self.canvas[at];
                self.canvas[at] = mean([0, 1, 2, 3].map(|k: usize| {
                    let columns = &backdrop.samples[k];
                    let wall = (columns.from[0][x]..columns.from[1][x]).contains(&y);
                    if wall { self.walls.colour(x, y as usize, columns.wall[x]) } else { level }
                }));
            }
        }
    }

    #[inline(always)]
    fn paint_field(&mut self, field: &Field, scene: &Scene<'_>, lens: &Lens) {
        let ground = self.levels.find(&field.ground, [1.0; 3], -lens.place[1], lens, self.height);
        self.shadows.look(scene.things, lens, [self.width, self.height]);
        let row = self.canvas.len() / self.height;
        for (y, canvas) in self.canvas.chunks_exact_mut(row).enumerate() {
            let down = lens.down(y as f32 + 0.5);
            if down > 0.0 {
                canvas.copy_from_slice(self.levels.row(ground, y));
                self.shadows.darken(y, lens, canvas);
                sun::haze(lens.place[1] / down, canvas);
            } else {
                canvas.fill(sun::sky(-down));
            }
        }
    }

    /// How far the ground is, and the sky.
    #[inline(always)]
    fn measure_field(&self, lens: &Lens, depth: &mut [f32]) {
        for (y, depth) in depth.chunks_exact_mut(self.width).enumerate() {
            let down = lens.down(y as f32 + 0.5);
            depth.fill(if down > 0.0 { lens.place[1] / down } else { f32::INFINITY });
        }
    }

    /// How far the room is.
    #[inline(always)]
    fn measure_room(&self, room: &Room, lens: &Lens, depth: &mut [f32]) {
        let [from, to] = &self.backdrop.middle.from;
        for (y, depth) in depth.chunks_exact_mut(self.width).enumerate() {
            let down = lens.down(y as f32 + 0.5);
            let above = if down > 0.0 { -lens.place[1] } else { room.height - lens.place[1] };
            let level = -above / down;
            for (x, depth) in depth.iter_mut().enumerate() {
                let wall = from[x] <= y as u32 && (y as u32) < to[x];
                *depth = if wall { self.backdrop.middle.depth[x] } else { level };
            }
        }
    }
}

/// A picture to be drawn, compiled for what the processor has.
struct Draw<'a, 'b> {
    painter: &'a mut Painter,
    scene: &'a Scene<'a>,
    picture: Picture<'b>,
}

impl NullaryFnOnce for Draw<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { painter, scene, picture: Picture { rgb, mut depth, mut ids } } = self;
        let lens = Lens::new(&scene.eye, painter.width, painter.height);
        let middles = depth.is_some() || ids.is_some();
        match scene.around {
            Around::Room(room) => painter.paint_room(room, &lens),
            Around::Field(field) => painter.paint_field(field, scene, &lens),
        }
        painter.things.look(scene, &lens, middles);
        painter.things.paint(scene, &lens, &mut painter.canvas);
        let row = painter.canvas.len() / painter.height;
        for (canvas, rgb) in painter.canvas.chunks_exact(row).zip(rgb.chunks_exact_mut(painter.width * 3)) {
            for (colour, pixel) in canvas.iter().zip(rgb.as_chunks_mut::<3>().0) {
                let [r, g, b, _] = colour.to_le_bytes();
                *pixel = [r, g, b];
            }
        }
        if let Some(depth) = &mut depth {
            match scene.around {
                Around::Room(room) => painter.measure_room(room, &lens, depth),
                Around::Field(_) => painter.measure_field(&lens, depth),
            }
        }
        if let Some(ids) = &mut ids {
            ids.fill(0);
        }
        if middles {
            painter.things.measure(depth, ids);
        }
    }
}

/// Draws with the thread's own painter of pictures of this size: what a painter keeps is worth keeping from one picture to the next, and
/// changes no byte.
///
/// # Panics
/// If a side is zero or more than 8192.
pub(crate) fn with_painter<T>(width: usize, height: usize, draw: impl FnOnce(&mut Painter) -> T) -> T {
    thread_local! {
        static PAINTER: RefCell<Option<Painter>> = const { RefCell::new(None) };
    }
    PAINTER.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|painter| (painter.width, painter.height) != (width, height)) {
            *kept = Some(Painter::new(width, height));
        }
        draw(kept.as_mut().expect("just made"))
    })
}
