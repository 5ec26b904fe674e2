//! The textures of a Blockworld: drawn by Mindseye, or read from files of the names that the original gives them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rand::RngExt as _;

use crate::image::{Image, ImageError};
use crate::rng::{Purpose, Seed, stream};
use crate::room::Texture;

/// What has a texture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Surface {
    /// Plain walls.
    White,
    /// Walls.
    BrickWall,
    /// Walls.
    WoodPlanks,
    /// Walls.
    Wood,
    /// Floors.
    Concrete,
    /// Floors.
    Cardboard,
    /// Floors.
    Grass,
    /// Every ceiling.
    CeilingTileNoBorder,
    /// Boxes.
    CeilingTiles,
    /// Boxes.
    AirductGrate,
    /// Boxes.
    Checkerboard,
}

impl Surface {
    /// Of walls; the first where textures are not random.
    pub const WALLS: [Self; 4] = [Self::White, Self::BrickWall, Self::WoodPlanks, Self::Wood];
    /// Of floors; the first where textures are not random.
    pub const FLOORS: [Self; 3] = [Self::Concrete, Self::Cardboard, Self::Grass];
    /// Of boxes, where textures are random.
    pub const BOXES: [Self; 3] = [Self::CeilingTiles, Self::AirductGrate, Self::Checkerboard];
    const ALL: [(Self, &'static str); 11] = [
        (Self::White, "white"),
        (Self::BrickWall, "brick_wall"),
        (Self::WoodPlanks, "wood_planks"),
        (Self::Wood, "wood"),
        (Self::Concrete, "concrete"),
        (Self::Cardboard, "cardboard"),
        (Self::Grass, "grass"),
        (Self::CeilingTileNoBorder, "ceiling_tile_noborder"),
        (Self::CeilingTiles, "ceiling_tiles"),
        (Self::AirductGrate, "airduct_grate"),
        (Self::Checkerboard, "checkerboard"),
    ];
}

/// A texture of each surface.
#[derive(Debug)]
pub struct Surfaces {
    /// In the order of [`Surface`].
    textures: Vec<Arc<Texture>>,
    /// Of all their pixels.
    fingerprint: u64,
}

/// Why textures could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SurfaceError {
    /// The file cannot be read.
    #[error("{}: {source}; a texture NAME is the file NAME_1.png or NAME.png", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no picture.
    #[error("{}: {source}", path.display())]
    Image {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ImageError,
    },
}

/// Side of the textures that are drawn, pixels: one metre.
const SIDE: usize = 512;

impl Surfaces {
    /// Those that Mindseye draws, equal on every platform; drawn once in a program.
    #[must_use]
    pub fn drawn() -> Arc<Self> {
        static DRAWN: LazyLock<Arc<Surfaces>> = LazyLock::new(|| {
            let images: Vec<Image> = Surface::ALL.iter().map(|&(surface, _)| drawn(surface)).collect();
            Arc::new(Surfaces::of_images(&images))
        });
        Arc::clone(&DRAWN)
    }

    /// Reads them from PNG files `NAME_1.png` or `NAME.png` in `folder`, by the names of the original: `white`, `brick_wall`, `wood_planks`,
    /// `wood`, `concrete`, `cardboard`, `grass`, `ceiling_tile_noborder`, `ceiling_tiles`, `airduct_grate`, `checkerboard`.
    ///
    /// # Errors
    /// The first file that is not there, or is no picture.
    pub fn read(folder: &Path) -> Result<Self, SurfaceError> {
        let read = |(_, name): &(Surface, &str)| {
            let files = ["_1.png", ".png"].map(|end| folder.join(format!("{name}{end}")));
            let path = files.iter().find(|file| file.is_file()).unwrap_or(&files[0]).clone();
            let bytes = std::fs::read(&path).map_err(|source| SurfaceError::File { path: path.clone(), source })?;
            Image::from_png(&bytes).map_err(|source| SurfaceError::Image { path, source })
        };
        let images: Vec<Image> = Surface::ALL.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self::of_images(&images))
    }

    fn of_images(images: &[Image]) -> Self {
        // FNV-1a: it tells textures apart, and keeps nobody from making others alike.
        let bytes = images.iter().flat_map(|image| &image.rgb);
        let fingerprint = bytes
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let textures = images.iter().map(|image| Arc::new(Texture::of(image))).collect();
        Self { textures, fingerprint }
    }

    /// Identifies their pixels.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The texture of a surface.
    #[must_use]
    pub fn texture(&self, surface: Surface) -> &Arc<Texture> {
        &self.textures[surface as usize]
    }
}

/// Smooth random numbers, about -1 to 1, that repeat: `cells` of them along each side.
struct Noise {
    cells: [usize; 2],
    values: Vec<f32>,
}

impl Noise {
    fn new(surface: Surface, layer: u64, cells: [usize; 2]) -> Self {
        let mut rng = stream(Seed(0), Purpose::Textures, (surface as u64) << 8 | layer);
        Self { cells, values: (0..cells[0] * cells[1]).map(|_| rng.random_range(-1.0..1.0)).collect() }
    }

    /// At a place in shares of the side.
    fn at(&self, [x, y]: [f32; 2]) -> f32 {
        let [across, down] = self.cells;
        let (x, y) = (x * across as f32, y * down as f32);
        let ease = |t: f32| t * t * (3.0 - 2.0 * t);
        let (right, below) = (ease(x.fract()), ease(y.fract()));
        let value = |dx: usize, dy: usize| self.values[(y as usize + dy) % down * across + (x as usize + dx) % across];
        let row = |dy: usize| (value(1, dy) - value(0, dy)).mul_add(right, value(0, dy));
        (row(1) - row(0)).mul_add(below, row(0))
    }
}

/// Mean colours of the original's textures, and how far theirs stray from it, by which ours are made to look like them.
fn drawn(surface: Surface) -> Image {
    let fine = Noise::new(surface, 0, [128, 128]);
    let coarse = Noise::new(surface, 1, [16, 16]);
    let grain = Noise::new(surface, 2, [48, 3]);
    let speckle = |at| 0.7f32.mul_add(fine.at(at), 0.6 * coarse.at(at));
    // Where in a cell of a grid of bricks, tiles or boards, and which.
    let cell = |x: f32, count: f32| ((x * count).fract(), (x * count).floor());
    let near = |x: f32, width: f32| x < width || x > 1.0 - width;
    let shade = |colour: [f32; 3], by: f32| colour.map(|x| x + by);
    let colour = |[x, y]: [f32; 2]| -> [f32; 3] {
        let at = [x, y];
        match surface {
            Surface::White => [1.0; 3],
            Surface::Concrete => shade([0.599, 0.596, 0.580], 0.05 * speckle(at)),
            // So fine that it is even from afar.
            Surface::CeilingTileNoBorder => shade([0.849; 3], 0.3 * fine.at(at)),
            Surface::Cardboard => {
                let flute = libm::sinf(y * 64.0 * std::f32::consts::TAU);
                shade([0.732, 0.609, 0.420], 0.03f32.mul_add(flute, 0.05 * speckle(at)))
            }
            Surface::Grass => {
                let [r, g, b] = [0.377, 0.494, 0.181];
                let by = 0.2 * speckle(at);
                [r + by, 1.2f32.mul_add(by, g), 0.6f32.mul_add(by, b)]
            }
            Surface::BrickWall => {
                let (down, row) = cell(y, 8.0);
                let (across, column) = cell(if row as i32 % 2 == 0 { x } else { (x + 0.125).fract() }, 4.0);
                if near(across, 0.03) || near(down, 0.06) {
                    shade([0.62, 0.58, 0.54], 0.06 * speckle(at))
                } else {
                    let own = coarse.at([(column * 0.23 + row * 0.37).fract(), (row * 0.61).fract()]);
                    shade([0.47, 0.34, 0.28], 0.09f32.mul_add(own, 0.08 * speckle(at)))
                }
            }
            Surface::Wood | Surface::WoodPlanks => {
                let boards = if surface == Surface::Wood { 2.0 } else { 6.0 };
                let (across, board) = cell(x, boards);
                let mean = if surface == Surface::Wood { [0.605, 0.440, 0.259] } else { [0.430, 0.330, 0.254] };
                if near(across, 0.012 * boards / 2.0) {
                    return shade(mean, -0.22);
                }
                let own = coarse.at([(board * 0.37).fract(), 0.5]);
                let lines = grain.at([x, (y + board * 0.29).fract()]);
                shade(mean, 0.05f32.mul_add(own, 0.08f32.mul_add(lines, 0.03 * fine.at(at))))
            }
            Surface::CeilingTiles => {
                let ((across, _), (down, _)) = (cell(x, 2.0), cell(y, 2.0));
                if near(across, 0.03) || near(down, 0.03) {
                    [0.5; 3]
                } else {
                    shade([0.87, 0.86, 0.84], 0.15 * speckle(at))
                }
            }
            Surface::AirductGrate => {
                let (down, _) = cell(y, 12.0);
                let frame = near(x, 0.06) || near(y, 0.06);
                if !frame && down < 0.35 { [0.2; 3] } else { shade([0.82, 0.81, 0.79], 0.05 * speckle(at)) }
            }
            Surface::Checkerboard => {
                let ((_, column), (_, row)) = (cell(x, 5.0), cell(y, 5.0));
                if (column + row) as i32 % 2 == 0 { [0.0; 3] } else { [1.0; 3] }
            }
        }
    };
    let mut image = Image::black(SIDE, SIDE);
    for (at, pixel) in image.rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let place = [at % SIDE, at / SIDE].map(|at| (at as f32 + 0.5) / SIDE as f32);
        *pixel = colour(place).map(|x| (x * 255.0 + 0.5).clamp(0.0, 255.0) as u8);
    }
    image
}
