//! Sixteen numbers at a time, in loops that the compiler makes vectors of, and colours as single words.

/// Numbers that go together: a vector of AVX-512, two of AVX2.
pub(super) const LANES: usize = 16;
pub(super) type Lanes = [f32; LANES];
/// Colours: red in the lowest byte, then green, then blue.
pub(super) type Colours = [u32; LANES];

/// `f` of each lane.
#[inline(always)]
pub(super) fn each<T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; LANES] {
    let mut lanes = [T::default(); LANES];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = f(i);
    }
    lanes
}

/// Lanes from `begin` on of what is filled up to whole ones.
#[inline(always)]
pub(super) fn load(of: &[f32], begin: usize) -> Lanes {
    of[begin..begin + LANES].try_into().expect("whole lanes")
}

/// The nearest whole number, of numbers within four millions of zero: a conversion that minds the others takes lanes apart.
#[inline(always)]
pub(super) fn whole(x: f32) -> i32 {
    (x + 12_582_912.0).to_bits() as i32 - 0x4b40_0000
}

/// The logarithm of two, within a thousandth.
#[inline(always)]
pub(super) fn log2(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let m = f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000) - 1.0;
    exponent as f32 + m * m.mul_add(m.mul_add(0.158_25, -0.582_0), 1.424_2)
}

/// A colour of shares of one.
#[inline(always)]
pub(super) fn packed(rgb: [f32; 3]) -> u32 {
    let [r, g, b] = rgb.map(|x| (x * 255.0 + 0.5) as u8);
    u32::from_le_bytes([r, g, b, 0])
}

/// The mean of four colours.
#[inline(always)]
pub(super) fn mean(colours: [u32; 4]) -> u32 {
    let sum = |mask: u32| colours.iter().map(|colour| colour & mask).sum::<u32>();
    (sum(0x00ff_00ff) + 0x0002_0002) >> 2 & 0x00ff_00ff | (sum(0x0000_ff00) + 0x0000_0200) >> 2 & 0x0000_ff00
}
