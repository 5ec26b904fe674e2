//! The kernels against loops over single numbers. Where data are small whole numbers every sum is exact, in `bf16` too, so the
//! order of additions cannot matter and equality is asked for.

use rand::RngExt;
use simulators::rng::{Purpose, Rng, Seed, stream};
use tch::{Device, Kind};

use super::*;
use crate::raw::Bf16;

fn random(index: u64) -> Rng {
    stream(Seed(11), Purpose::World, index)
}

/// Wrapping and not, windows smaller than the world and as large, features below, at and beyond a vector's length.
fn geometries() -> Vec<Geometry> {
    [(5, 3, 4), (5, 5, 3), (7, 4, 17), (4, 4, 1), (6, 5, 33)]
        .into_iter()
        .map(|(world, window, features)| Geometry { batch: 2, velocities: 3, world, window, features })
        .collect()
}

fn random_origins(g: &Geometry, rng: &mut Rng) -> Vec<Origin> {
    (0..g.planes()).map(|_| [rng.random_range(0..g.world), rng.random_range(0..g.world)]).collect()
}

fn whole(len: usize, rng: &mut Rng) -> Vec<f32> {
    (0..len).map(|_| f32::from(rng.random_range(-4i8..=4))).collect()
}

fn fractions(len: usize, rng: &mut Rng) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-2.0f32..2.0)).collect()
}

fn tensor<T: Element>(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).to_kind(T::KIND)
}

/// What the tensor holds, widened.
fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_kind(Kind::Float).reshape([-1])).expect("numbers")
}

fn filled(len: usize, kind: Kind, value: f64) -> Tensor {
    Tensor::full([len as i64], value, (kind, Device::Cpu))
}

/// As torch rounds.
fn rounded<T: Element>(x: &[f32]) -> Vec<f32> {
    values(&tensor::<T>(x))
}

/// Cells `(plane, row, column)` of maps without halo, and where each lies in the window, if it does.
fn cells(g: &Geometry, origins: &[Origin]) -> Vec<(usize, [usize; 2], Option<[usize; 2]>)> {
    let w = g.world;
    let mut cells = Vec::new();
    for (plane, origin) in origins.iter().enumerate() {
        for cell in 0..w * w {
            let [r, c] = [cell / w, cell % w];
            let [i, j] = [(r + w - origin[0]) % w, (c + w - origin[1]) % w];
            cells.push((plane, [r, c], (i < g.window && j < g.window).then_some([i, j])));
        }
    }
    cells
}

fn padded_at(g: &Geometry, plane: usize, [r, c]: [usize; 2], f: usize) -> usize {
    ((plane * (g.world + 2) + r) * (g.world + 2) + c) * g.features + f
}

fn plane_at(g: &Geometry, plane: usize, [r, c]: [usize; 2], f: usize) -> usize {
    ((plane * g.world + r) * g.world + c) * g.features + f
}

fn picture_at(g: &Geometry, plane: usize, [i, j]: [usize; 2], f: usize) -> usize {
    ((plane / g.velocities * g.window + i) * g.window + j) * g.features + f
}

/// The cell that a cell of the halo, or of the map itself, is a copy of.
fn copied_from(g: &Geometry, [r, c]: [usize; 2]) -> [usize; 2] {
    [(r + g.world - 1) % g.world, (c + g.world - 1) % g.world]
}

/// Every cell of padded maps in the order of memory.
fn padded(g: &Geometry, of: impl Fn(usize, [usize; 2], usize) -> f32) -> Vec<f32> {
    let side = g.world + 2;
    let mut out = Vec::new();
    for plane in 0..g.planes() {
        for cell in 0..side * side {
            out.extend((0..g.features).map(|f| of(plane, copied_from(g, [cell / side, cell % side]), f)));
        }
    }
    out
}

fn check_advance<T: Element>() {
    let mut rng = random(1);
    for g in geometries() {
        for first in [false, true] {
            let origins = random_origins(&g, &mut rng);
            let pre = rounded::<T>(&fractions(g.planes() * g.plane(), &mut rng));
            let seen = fractions(g.batch * g.picture(), &mut rng);
            let mut next = filled(g.planes() * g.padded_plane(), T::KIND, 7.0);
            let pre_tensor = (!first).then(|| tensor::<T>(&pre));
            advance::<T>(&g, pre_tensor.as_ref(), &Tensor::from_slice(&seen), &origins, &mut next);

            let mut map = if first { vec![0.0; pre.len()] } else { pre };
            for (plane, cell, inside) in cells(&g, &origins) {
                for f in 0..g.features {
                    let x = &mut map[plane_at(&g, plane, cell, f)];
                    *x = (*x + inside.map_or(0.0, |place| seen[picture_at(&g, plane, place, f)])).max(0.0);
                }
            }
            let map = rounded::<T>(&map);
            let expected = padded(&g, |plane, cell, f| map[plane_at(&g, plane, cell, f)]);
            assert_eq!(values(&next), expected, "{g:?}, first {first}");
        }
    }
}

#[test]
fn advance_writes_at_the_window_rectifies_and_lays_the_halo() {
    check_advance::<f32>();
    check_advance::<Bf16>();
}

fn check_read<T: Element>() {
    let mut rng = random(2);
    for g in geometries() {
        let origins = random_origins(&g, &mut rng);
        // Whole numbers tie often: the first channel wins.
        let map = whole(g.planes() * g.padded_plane(), &mut rng);
        let mut out = filled(g.batch * g.picture(), Kind::Float, 7.0);
        let mut winner = filled(g.batch * g.picture(), Kind::Uint8, 7.0);
        read::<T>(&g, &tensor::<T>(&map), &origins, &mut out, &mut winner);

        let mut expected = vec![(f32::NEG_INFINITY, 0.0); g.batch * g.picture()];
        for (plane, [r, c], inside) in cells(&g, &origins) {
            for f in 0..g.features {
                let x = map[padded_at(&g, plane, [r + 1, c + 1], f)];
                let Some(place) = inside else { continue };
                let best = &mut expected[picture_at(&g, plane, place, f)];
                if x > best.0 {
                    *best = (x, (plane % g.velocities) as f32);
                }
            }
        }
        let found: Vec<(f32, f32)> = values(&out).into_iter().zip(values(&winner)).collect();
        assert_eq!(found, expected, "{g:?}");
    }
}

#[test]
fn read_takes_the_first_strongest_channel_of_the_window() {
    check_read::<f32>();
    check_read::<Bf16>();
}

fn check_that_a_nan_wins<T: Element>() {
    let g = Geometry { batch: 1, velocities: 4, world: 5, window: 3, features: 17 };
    let origins = random_origins(&g, &mut random(5));
    for bad in 0..g.velocities {
        let plane = |v| if v == bad { f32::NAN } else { v as f32 };
        let map: Vec<f32> = (0..g.planes()).flat_map(|v| vec![plane(v); g.padded_plane()]).collect();
        let mut out = filled(g.picture(), Kind::Float, 7.0);
        let mut winner = filled(g.picture(), Kind::Uint8, 7.0);
        read::<T>(&g, &tensor::<T>(&map), &origins, &mut out, &mut winner);
        assert!(values(&out).iter().all(|x| x.is_nan()), "the NaN of channel {bad} was lost");
        assert!(values(&winner).iter().all(|v| *v as usize == bad), "its gradient would go elsewhere");
    }
}

#[test]
fn a_nan_in_any_channel_is_read() {
    check_that_a_nan_wins::<f32>();
    check_that_a_nan_wins::<Bf16>();
}

#[test]
fn rounding_agrees_with_torch_and_keeps_what_is_not_finite() {
    // Every upper half, with lower halves around the tie.
    let finite: Vec<f32> = (0..=u32::from(u16::MAX))
        .flat_map(|high| [0, 1, 0x7fff, 0x8000, 0x8001].map(|low| f32::from_bits(high << 16 | low)))
        .filter(|x| x.is_finite())
        .collect();
    let ours: Vec<u32> = finite.iter().map(|x| Bf16::round(*x).widen().to_bits()).collect();
    let torchs: Vec<u32> = rounded::<Bf16>(&finite).into_iter().map(f32::to_bits).collect();
    assert!(ours == torchs);

    // What a map may hold already, and what arithmetic makes.
    for bits in (0..=u32::from(u16::MAX)).map(|high| high << 16).filter(|bits| !f32::from_bits(*bits).is_finite()) {
        assert_eq!(Bf16::round(f32::from_bits(bits)).widen().to_bits(), bits);
    }
    let [zero, infinity] = [0.0f32, f32::INFINITY].map(std::hint::black_box);
    for nan in [zero / zero, infinity - infinity, infinity * zero, -(zero / zero), (-1.0 - zero).sqrt(), f32::NAN] {
        assert!(Bf16::round(nan).widen().is_nan(), "{:x}", nan.to_bits());
    }
}

fn check_reverse<T: Element>() {
    let mut rng = random(3);
    for g in geometries() {
        for (with_through, with_readout) in [(true, true), (true, false), (false, true), (false, false)] {
            let (origins, read_origins) = (random_origins(&g, &mut rng), random_origins(&g, &mut rng));
            let through = whole(g.planes() * g.plane(), &mut rng);
            let gradient = whole(g.batch * g.picture(), &mut rng);
            let winner: Vec<u8> = (0..gradient.len()).map(|_| rng.random_range(0..g.velocities) as u8).collect();
            // The halo of the map must not be looked at.
            let next = whole(g.planes() * g.padded_plane(), &mut rng);
            let (gradient_tensor, winner_tensor) = (Tensor::from_slice(&gradient), Tensor::from_slice(&winner));
            let readout = ReadGradient { gradient: &gradient_tensor, winner: &winner_tensor, origins: &read_origins };
            let mut pre_gradient = filled(g.planes() * g.padded_plane(), T::KIND, 7.0);
            let mut seen_gradient = filled(g.batch * g.picture(), Kind::Float, 7.0);
            let through_tensor = tensor::<T>(&through);
            reverse::<T>(
                &g,
                with_through.then_some(&through_tensor),
                with_readout.then_some(readout),
                &tensor::<T>(&next),
                &origins,
                &mut pre_gradient,
                &mut seen_gradient,
            );

            let mut map_gradient = if with_through { through } else { vec![0.0; g.planes() * g.plane()] };
            if with_readout {
                for (plane, cell, inside) in cells(&g, &read_origins) {
                    let Some(place) = inside else { continue };
                    for f in 0..g.features {
                        let at = picture_at(&g, plane, place, f);
                        if usize::from(winner[at]) == plane % g.velocities {
                            map_gradient[plane_at(&g, plane, cell, f)] += gradient[at];
                        }
                    }
                }
            }
            let mut expected_seen = vec![0.0; gradient.len()];
            for (plane, [r, c], inside) in cells(&g, &origins) {
                for f in 0..g.features {
                    let x = &mut map_gradient[plane_at(&g, plane, [r, c], f)];
                    if next[padded_at(&g, plane, [r + 1, c + 1], f)] <= 0.0 {
                        *x = 0.0;
                    }
                    if let Some(place) = inside {
                        expected_seen[picture_at(&g, plane, place, f)] += *x;
                    }
                }
            }
            let what = format!("{g:?}, through {with_through}, readout {with_readout}");
            let with_halo = padded(&g, |plane, cell, f| map_gradient[plane_at(&g, plane, cell, f)]);
            assert_eq!(values(&pre_gradient), with_halo, "gradient before the write: {what}");
            assert_eq!(values(&seen_gradient), expected_seen, "gradient of what was seen: {what}");
        }
    }
}

#[test]
fn reverse_adds_the_readout_stops_where_the_map_is_zero_and_lays_a_halo() {
    check_reverse::<f32>();
    check_reverse::<Bf16>();
}

/// The adjoint of one plane, as dispatched or as written.
type Reverse = fn(&Geometry, &Arrived<'_, Bf16>, &mut [f32], &mut [Bf16], &mut [f32]);

#[test]
fn every_cpu_gives_the_same_bits() {
    let mut rng = random(4);
    for g in geometries() {
        let origin = [g.world - 1, g.world - 2];
        let pre: Vec<Bf16> = fractions(g.plane(), &mut rng).into_iter().map(Bf16::round).collect();
        let seen = fractions(g.picture(), &mut rng);
        let mut here = vec![Bf16::round(0.0); g.padded_plane()];
        let mut portable = here.clone();
        advance_plane(&g, Some(&pre), &seen, origin, &mut here);
        advance_plane_inner(&g, Some(&pre), &seen, origin, &mut portable);
        assert_eq!(here, portable, "{g:?}");

        let through: Vec<Bf16> = fractions(g.plane(), &mut rng).into_iter().map(Bf16::round).collect();
        let arrived = Arrived { through: Some(through.as_slice()), readout: None, next: &here, origin };
        let run = |kernel: Reverse| {
            let (mut line, mut seen_gradient) = (vec![0.0; g.row()], vec![0.25; g.picture()]);
            let mut pre_gradient = vec![Bf16::round(0.0); g.padded_plane()];
            kernel(&g, &arrived, &mut line, &mut pre_gradient, &mut seen_gradient);
            (pre_gradient, seen_gradient.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        assert_eq!(run(reverse_plane::<Bf16>), run(reverse_plane_inner::<Bf16>), "{g:?}");
    }
}

#[test]
#[should_panic(expected = "a kernel was given another kind of tensor")]
fn another_kind_of_tensor_is_refused() {
    let g = geometries()[0];
    let mut next = filled(g.planes() * g.padded_plane(), Kind::Float, 0.0);
    let seen = filled(g.batch * g.picture(), Kind::Float, 0.0);
    advance::<Bf16>(&g, None, &seen, &vec![[0, 0]; g.planes()], &mut next);
}

#[test]
#[should_panic(expected = "a kernel expects")]
fn a_tensor_of_another_size_is_refused() {
    let g = geometries()[0];
    let mut next = filled(g.planes() * g.padded_plane() - 1, Kind::Float, 0.0);
    let seen = filled(g.batch * g.picture(), Kind::Float, 0.0);
    advance::<f32>(&g, None, &seen, &vec![[0, 0]; g.planes()], &mut next);
}
