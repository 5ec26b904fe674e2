//! What the probe counts, on beliefs made by hand.

use rand::RngExt;
use simulators::rng::{Purpose, Rng, Seed, stream};
use world_models::memory::probe::evaluation::Asked;
use world_models::memory::probe::report::{GroupScore, ProbeReport};
use world_models::memory::probe::table::table;
use world_models::memory::probe::{Block, Known, ProbeEvaluation, ProbeFit, Reads, Shape};
use world_models::memory::report::Saved as _;
use world_models::memory::vectors::report::Episodes;
use world_models::memory::{MemoryError, Origin};

const COLOURS: usize = 6;

fn shape(reads: Reads) -> Shape {
    match reads {
        Reads::Cells => Shape { reads, numbers: 8, side: 9, colours: COLOURS },
        Reads::Vector => Shape { reads, numbers: 40, side: 5, colours: COLOURS },
    }
}

fn random(index: u64) -> Rng {
    stream(Seed(11), Purpose::World, index)
}

/// Eight blocks anywhere on the map, one of each colour first.
fn scene(shape: Shape, rng: &mut Rng) -> Vec<Block> {
    let block = |number: usize, rng: &mut Rng| {
        let colour = if number < COLOURS { number } else { rng.random_range(0..COLOURS) };
        let known = Known::ALL[rng.random_range(0..3)];
        let cell = Some(rng.random_range(0..shape.cells()));
        Block { colour, cell, known, last_seen: Some(rng.random_range(0..shape.cells())) }
    };
    (0..8).map(|number| block(number, rng)).collect()
}

/// A belief of noise, to which a map has the truth added: a number for each colour of a cell.
fn belief(shape: Shape, blocks: &[Block], truth: f32, rng: &mut Rng) -> Vec<f32> {
    let mut belief: Vec<f32> = (0..shape.belief()).map(|_| rng.random_range(-1.0..1.0)).collect();
    if shape.reads == Reads::Cells {
        for block in blocks {
            belief[block.cell.unwrap() * shape.numbers + block.colour] += truth;
        }
    }
    belief
}

fn probed(reads: Reads, truth: f32, fitted: usize, clips: usize) -> ProbeReport {
    let (shape, mut rng) = (shape(reads), random(reads as u64));
    let mut fit = ProbeFit::new(shape);
    for _ in 0..fitted {
        let blocks = scene(shape, &mut rng);
        fit.add(&belief(shape, &blocks, truth, &mut rng), &blocks);
    }
    let asked = Asked { context: 5, horizons: vec![0, 7] };
    let episodes = Episodes { evaluated: 1, fitted: 1 };
    let mut evaluation = ProbeEvaluation::new(fit.solve(), asked, episodes).unwrap();
    for _ in 0..clips {
        for at in 0..2 {
            let blocks = scene(shape, &mut rng);
            evaluation.add(at, &belief(shape, &blocks, truth, &mut rng), &blocks);
        }
    }
    evaluation.report("hand", Origin { env: "BlockWorld-v0".into(), dataset: "none".into(), seed: 0 }).unwrap()
}

#[test]
fn a_map_that_holds_the_truth_is_read_and_every_block_counts_once() {
    let report = probed(Reads::Cells, 8.0, 300, 100);
    for score in &report.horizons {
        let blocks: u64 = score.groups().map(|(_, group)| group.blocks).iter().sum();
        assert_eq!(blocks, 8 * 100);
        for (known, group) in score.groups() {
            assert!(group.probe.unwrap() > 0.995, "{known:?}: {group:?}");
            assert!(group.last_seen.unwrap() < 0.1 && group.usual.unwrap() < 0.1, "{known:?}: {group:?}");
        }
    }
    let text = table(&report);
    assert!(text.contains("out of view") && text.contains("each of 9 x 9 cells by its 8 features"), "{text}");
    let read = ProbeReport::parse(report.to_json().as_bytes(), std::path::Path::new("report.json")).unwrap();
    assert_eq!(read, report);
}

/// Of 4800 blocks each, chance names about one in 60, give or take a few tens.
#[test]
fn noise_is_read_by_chance() {
    for reads in [Reads::Cells, Reads::Vector] {
        let report = probed(reads, 0.0, 300, 300);
        let (mut right, mut by_chance, mut blocks) = (0.0, 0.0, 0.0);
        for group in report.horizons.iter().flat_map(|score| score.groups().map(|(_, group)| group.clone())) {
            let GroupScore { blocks: count, probe, chance, .. } = group;
            right += probe.unwrap() * count as f64;
            by_chance += chance.unwrap() * count as f64;
            blocks += count as f64;
        }
        let cells = shape(reads).cells() as f64;
        assert!(by_chance > blocks / cells && by_chance < 2.0 * blocks / cells, "{by_chance} of {blocks}");
        assert!((right - by_chance).abs() < 5.0 * by_chance.sqrt(), "{reads:?}: {right} right, {by_chance} by chance");
    }
}

/// A number for each colour of each cell.
#[test]
fn a_vector_that_holds_the_truth_is_read() {
    let shape = Shape { reads: Reads::Vector, numbers: 9 * COLOURS, side: 3, colours: COLOURS };
    let mut rng = random(7);
    let belief = |blocks: &[Block]| {
        let mut belief = vec![0.0; shape.numbers];
        for block in blocks {
            belief[block.cell.unwrap() * COLOURS + block.colour] = 1.0;
        }
        belief
    };
    let mut fit = ProbeFit::new(shape);
    for _ in 0..400 {
        let mut blocks = scene(shape, &mut rng);
        for block in &mut blocks {
            block.known = Known::InView;
        }
        fit.add(&belief(&blocks), &blocks);
    }
    let probe = fit.solve();
    for _ in 0..50 {
        let blocks = scene(shape, &mut rng);
        let named = probe.named(&belief(&blocks), &blocks);
        assert!(blocks.iter().all(|block| named[block.colour].contains(&block.cell.unwrap())));
    }
}

/// Two red blocks in one cell, one in another, and one beyond the map; a green one whose belief is elsewhere.
#[test]
fn what_is_counted_by_hand() {
    let shape = Shape { reads: Reads::Cells, numbers: 2, side: 3, colours: 2 };
    let block = |colour, cell, known, last_seen| Block { colour, cell, known, last_seen };
    let mut fit = ProbeFit::new(shape);
    for cell in 0..9 {
        let mut belief = vec![0.0; 18];
        (belief[cell * 2], belief[(cell + 1) % 9 * 2 + 1]) = (1.0, 1.0);
        let green = block(1, Some((cell + 1) % 9), Known::InView, None);
        fit.add(&belief, &[block(0, Some(cell), Known::InView, None), green]);
        // Cells 4 and 8 are those where blocks usually are.
        fit.add(&belief, &[block(0, Some(4), Known::NeverSeen, None), block(1, Some(8), Known::NeverSeen, None)]);
    }
    let asked = Asked { context: 1, horizons: vec![3] };
    let mut evaluation = ProbeEvaluation::new(fit.solve(), asked, Episodes { evaluated: 1, fitted: 1 }).unwrap();
    let mut belief = vec![0.0; 18];
    // Red at 1 and, less so, at 5; green at 2 only.
    (belief[2], belief[10], belief[5]) = (1.0, 0.8, 1.0);
    let named = evaluation.add(
        0,
        &belief,
        &[
            block(0, Some(1), Known::InView, Some(1)),
            block(0, Some(1), Known::OutOfView, Some(6)),
            block(0, Some(7), Known::OutOfView, Some(7)),
            block(0, None, Known::OutOfView, None),
            block(1, Some(4), Known::NeverSeen, None),
        ],
    );
    assert_eq!(named, [vec![1, 5], vec![2]]);
    let report = evaluation.report("hand", Origin { env: "e".into(), dataset: "d".into(), seed: 0 }).unwrap();
    let [in_view, out_of_view, never_seen] = report.horizons[0].groups().map(|(_, group)| group.clone());
    // Red occupies two cells of nine, so chance names each with 2/9; the one beyond the map never.
    let of = |blocks, [probe, last_seen, usual, chance]: [f64; 4]| GroupScore {
        blocks,
        probe: Some(probe),
        last_seen: Some(last_seen),
        usual: Some(usual),
        chance: Some(chance),
    };
    assert_eq!(in_view, of(1, [1.0, 1.0, 0.0, 2.0 / 9.0]));
    assert_eq!(out_of_view, of(3, [1.0 / 3.0, 1.0 / 3.0, 0.0, (2.0 / 9.0 + 2.0 / 9.0) / 3.0]));
    assert_eq!((never_seen.probe, never_seen.blocks), (Some(0.0), 1));
    assert_eq!(never_seen.usual, Some(1.0), "the cell where blocks are most often");
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let mut fit = ProbeFit::new(shape(Reads::Cells));
    let blocks = scene(shape(Reads::Cells), &mut random(3));
    fit.add(&belief(shape(Reads::Cells), &blocks, 1.0, &mut random(4)), &blocks);
    let of = |context, horizons: &[usize]| {
        let asked = Asked { context, horizons: horizons.to_vec() };
        ProbeEvaluation::new(fit.solve(), asked, Episodes { evaluated: 1, fitted: 1 })
    };
    for (context, horizons, field) in [(0, &[1][..], "context"), (1, &[], "horizons"), (1, &[2, 2], "horizons")] {
        let error = of(context, horizons).unwrap_err();
        assert!(matches!(error, MemoryError::Setting { field: found, .. } if found == field), "{error}");
    }
    let origin = Origin { env: "e".into(), dataset: "d".into(), seed: 0 };
    assert_eq!(of(1, &[0]).unwrap().report("none", origin), Err(MemoryError::NoClips));
}
