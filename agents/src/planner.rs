//! Plans by search: sequences of choices are rolled out from where a world is, the pictures that they lead to are scored, and the best
//! sequence is kept.
//!
//! The search knows a [`RollOut`] and nothing else. One is what a model believes ([`Imagined`], through the seam of
//! [`world_models::belief::WorldModel`]: imagine, picture), another the world itself ([`TrueWorld`]), so that what a model's plans lack can
//! be told from what the search lacks. [`find_red`] is the planning test of Blockworld.
//!
//! It begins with sequences that somebody proposes, and goes on by the cross-entropy method (Rubinstein 1999): each iteration draws as many
//! new ones from what the best so far have in common. Choices hang together over time (turn, go, go, go), so they are not drawn step by
//! step: a new sequence follows one of the best, now and then goes over to another, and now and then puts in, leaves out or changes a
//! stretch of time. What it puts in is a piece of a proposal, or one choice that is held.

pub mod find_red;
mod imagined;
mod truth;

use std::sync::Mutex;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use simulators::limits::{self, Limit, OutOfRange};
use simulators::rng::Rng;

pub use imagined::{Imagined, awakened};
pub use truth::{TrueWorld, red_pixels};

/// One choice for every step.
pub type Plan = Vec<u8>;

/// What a picture is worth: `[C, H, W]`, numbers of 0 to 1 and, where it is imagined, beyond.
pub type Score<'a> = dyn Fn(&[f32]) -> f64 + Sync + 'a;

/// Of each plan the value of the picture after each step, `[N][T]`.
pub type Values = Vec<Vec<f64>>;

/// Somewhere that plans can be tried, without going there.
pub trait RollOut {
    /// Follows each plan from where the world is now and scores every picture on the way. What becomes of a plan does not depend on the
    /// others.
    ///
    /// # Errors
    /// If a picture has a number that is not finite.
    fn roll_out(&mut self, plans: &[Plan], score: &Score<'_>) -> Result<Values, NotFinite>;
}

/// A picture that cannot be scored.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("a picture {step} steps ahead has {value}, not a finite number")]
pub struct NotFinite {
    /// Steps from where the plan begins, 1 for the first.
    pub step: usize,
    /// What is in it.
    pub value: f32,
}

/// What a plan is worth, given what each of its pictures is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worth {
    /// As much as the best picture; with the first that is so good, the plan ends.
    #[default]
    Best,
    /// As much as the last picture.
    Last,
    /// As much as all pictures together.
    Total,
}

impl Worth {
    /// Of pictures of these values, `[T]`; and after how many steps the plan ends.
    fn of(self, values: &[f64]) -> (f64, usize) {
        let end = values.len() - 1;
        match self {
            Self::Best => {
                let best = (1..=end).fold(0, |best, step| if values[step] > values[best] { step } else { best });
                (values[best], best + 1)
            }
            Self::Last => (values[end], end + 1),
            Self::Total => (values.iter().sum(), end + 1),
        }
    }
}

/// How long plans are, what they are worth, and how hard they are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlannerConfig {
    /// What is searched for.
    pub worth: Worth,
    /// Steps of a plan, at most.
    pub horizon: usize,
    /// Plans of an iteration.
    pub candidates: usize,
    /// Iterations; the first tries what was proposed.
    pub iterations: usize,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self { worth: Worth::default(), horizon: 70, candidates: 64, iterations: 3 }
    }
}

impl PlannerConfig {
    /// Most steps of a plan.
    pub const MOST_STEPS: i128 = 1000;
    /// Most plans of an iteration.
    pub const MOST_CANDIDATES: i128 = 65_536;
    /// Most iterations.
    pub const MOST_ITERATIONS: i128 = 1000;

    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        vec![
            Limit::whole("horizon", self.horizon as i128, 1..=Self::MOST_STEPS),
            Limit::whole("candidates", self.candidates as i128, 1..=Self::MOST_CANDIDATES),
            Limit::whole("iterations", self.iterations as i128, 1..=Self::MOST_ITERATIONS),
        ]
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field at fault, its value and what is allowed.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        limits::check(&self.limits())
    }

    /// How many of the best plans the next iteration is drawn from.
    fn elites(&self) -> usize {
        self.candidates.div_ceil(ELITE_SHARE)
    }
}

/// One in so many candidates is kept.
const ELITE_SHARE: usize = 16;
/// How often a new plan goes over to another of the best, on average.
const SWITCHES: f64 = 1.0;
/// How often it does something else than they do.
const CHANGES: f64 = 2.0;

/// The best plan of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What to do, until it ends.
    pub plan: Plan,
    /// The value of the picture after each step.
    pub values: Vec<f64>,
    /// What it is worth.
    pub worth: f64,
}

/// Searches for the plan that is worth most, from where `world` is. What it tries first comes from `propose`, one plan of `horizon`
/// choices a call, and it makes no choice that never occurs there. `watch` is told of each iteration that is done.
///
/// All draws come from `rng`, in an order that depends on the values alone.
///
/// # Errors
/// As [`RollOut::roll_out`].
///
/// # Panics
/// If the configuration does not validate, or a proposal is not of that many choices.
pub fn search(
    world: &mut dyn RollOut,
    score: &Score<'_>,
    config: &PlannerConfig,
    propose: &mut dyn FnMut(&mut Rng) -> Plan,
    rng: &mut Rng,
    watch: &mut dyn FnMut(),
) -> Result<Found, NotFinite> {
    config.validate().expect("the configuration was validated");
    let proposals: Vec<Plan> = (0..config.candidates).map(|_| propose(rng)).collect();
    assert!(proposals.iter().all(|plan| plan.len() == config.horizon), "proposals of {} choices", config.horizon);
    let nursery = Nursery::of(&proposals);
    let mut best: Vec<Found> = Vec::new();
    for iteration in 0..config.iterations {
        let young = match iteration {
            0 => proposals.clone(),
            _ => (0..config.candidates).map(|_| nursery.draw(&best, rng)).collect(),
        };
        let values = world.roll_out(&young, score)?;
        best.extend(young.into_iter().zip(values).map(|(plan, values)| {
            let worth = config.worth.of(&values).0;
            Found { plan, values, worth }
        }));
        // Of equal ones the older comes first.
        best.sort_by(|a, b| b.worth.total_cmp(&a.worth));
        best.truncate(config.elites());
        watch();
    }
    let mut found = best.swap_remove(0);
    let (_, steps) = config.worth.of(&found.values);
    found.plan.truncate(steps);
    found.values.truncate(steps);
    Ok(found)
}

/// The pictures that a plan leads to, `[T]`, each `[C, H, W]`.
///
/// # Errors
/// As [`RollOut::roll_out`].
///
/// # Panics
/// Never: nothing panics while the pictures are held.
pub fn pictures(world: &mut dyn RollOut, plan: &Plan) -> Result<Vec<Vec<f32>>, NotFinite> {
    let seen = Mutex::new(Vec::new());
    let keep = |picture: &[f32]| {
        seen.lock().expect("nothing panics while it is held").push(picture.to_vec());
        0.0
    };
    world.roll_out(std::slice::from_ref(plan), &keep)?;
    Ok(seen.into_inner().expect("nothing panics while it is held"))
}

/// Where new plans come from, beside the best so far.
struct Nursery<'a> {
    proposals: &'a [Plan],
    /// All that occur in proposals, in order.
    choices: Vec<u8>,
}

impl<'a> Nursery<'a> {
    fn of(proposals: &'a [Plan]) -> Self {
        let mut choices = proposals.concat();
        choices.sort_unstable();
        choices.dedup();
        Self { proposals, choices }
    }

    fn draw(&self, best: &[Found], rng: &mut Rng) -> Plan {
        let steps = self.proposals[0].len();
        let a_step = |times: f64| (times / steps as f64).min(0.5);
        let mut followed = &best[rng.random_range(0..best.len())].plan;
        let (mut plan, mut at) = (Plan::with_capacity(steps), 0);
        while plan.len() < steps {
            if rng.random_bool(a_step(SWITCHES)) {
                (followed, at) = (&best[rng.random_range(0..best.len())].plan, plan.len());
            }
            if rng.random_bool(a_step(CHANGES)) {
                let length = stretch(steps, rng);
                match rng.random_range(0..3) {
                    0 => at += length,
                    change => {
                        self.put_in(&mut plan, length, rng);
                        at += if change == 1 { length } else { 0 };
                    }
                }
            }
            // Beyond its end, what it did last goes on.
            plan.push(followed[at.min(steps - 1)]);
            at += 1;
        }
        plan.truncate(steps);
        plan
    }

    fn put_in(&self, plan: &mut Plan, length: usize, rng: &mut Rng) {
        if rng.random_bool(0.5) {
            let held = self.choices[rng.random_range(0..self.choices.len())];
            plan.extend(std::iter::repeat_n(held, length));
        } else {
            let from = &self.proposals[rng.random_range(0..self.proposals.len())];
            let first = rng.random_range(0..=from.len() - length);
            plan.extend_from_slice(&from[first..first + length]);
        }
    }
}

/// How long a change is, from one step up to all: short ones as often as long ones, by factors.
fn stretch(steps: usize, rng: &mut Rng) -> usize {
    let length = (steps as f64 + 1.0).powf(rng.random_range(0.0..1.0));
    (length as usize).clamp(1, steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulators::rng::{Purpose, Seed, stream};

    /// A walk along a line from 0: choice 0 goes down, 1 stays, 2 goes up, 3 never is a good idea. A picture is the place.
    struct Line;

    impl RollOut for Line {
        fn roll_out(&mut self, plans: &[Plan], score: &Score<'_>) -> Result<Values, NotFinite> {
            let walk = |plan: &Plan| {
                let places = plan.iter().scan(0.0, |place, &choice| {
                    *place += if choice == 3 { 1e9 } else { f32::from(choice) - 1.0 };
                    Some(score(&[*place]))
                });
                places.collect()
            };
            Ok(plans.iter().map(walk).collect())
        }
    }

    fn proposal(rng: &mut Rng) -> Plan {
        (0..30).map(|_| rng.random_range(0..3)).collect()
    }

    fn find(config: &PlannerConfig, seed: u64) -> Found {
        let mut rng = stream(Seed(seed), Purpose::Plans, 0);
        let near = |picture: &[f32]| -f64::from((picture[0] - 9.0).abs());
        search(&mut Line, &near, config, &mut proposal, &mut rng, &mut || {}).unwrap()
    }

    const TOTAL: PlannerConfig = PlannerConfig { worth: Worth::Total, horizon: 30, candidates: 64, iterations: 1 };

    #[test]
    fn the_way_to_a_place_is_found_and_more_iterations_find_better_ones() {
        // Nine steps up, 8 + 7 + ... + 0 short of the place on the way, and then it stays.
        let best = -36.0;
        for seed in 0..5 {
            let of = |iterations| find(&PlannerConfig { iterations, ..TOTAL }, seed).worth;
            let (proposed, few, many) = (of(1), of(4), of(60));
            assert!(proposed < few && few < many && many <= best, "{proposed} {few} {many}");
            assert!(many > best - 6.0 && proposed < best - 10.0, "{proposed} {many}");
        }
    }

    #[test]
    fn a_plan_for_the_best_picture_ends_with_it() {
        let found = find(&PlannerConfig { worth: Worth::Best, iterations: 30, ..TOTAL }, 0);
        assert_eq!((found.worth, found.values.last()), (0.0, Some(&0.0)));
        assert!(found.plan.len() < 30 && found.values.len() == found.plan.len());
        assert_eq!(found.values.iter().filter(|&&value| value == 0.0).count(), 1, "the first that is so good");
        let found = find(&PlannerConfig { worth: Worth::Last, iterations: 30, ..TOTAL }, 0);
        assert_eq!((found.worth, found.plan.len()), (0.0, 30));
    }

    #[test]
    fn worths_by_hand() {
        let of = |worth: Worth| worth.of(&[1.0, 3.0, 0.0, 3.0, 2.0]);
        assert_eq!([Worth::Best, Worth::Last, Worth::Total].map(of), [(3.0, 2), (2.0, 5), (9.0, 5)]);
        assert_eq!(Worth::Best.of(&[0.0; 3]), (0.0, 1));
    }

    #[test]
    fn the_same_draws_make_the_same_plan_and_no_choice_is_made_that_nobody_proposed() {
        let config = PlannerConfig { iterations: 5, ..TOTAL };
        let found = find(&config, 1);
        assert_eq!(found, find(&config, 1));
        assert_ne!(found.plan, find(&config, 2).plan);
        assert!(found.plan.len() == 30 && found.plan.iter().all(|&choice| choice < 3));
    }

    #[test]
    fn plans_of_a_single_step_and_a_single_candidate_are_plans() {
        let mut rng = stream(Seed(0), Purpose::Plans, 0);
        let config = PlannerConfig { horizon: 1, candidates: 1, iterations: 9, ..TOTAL };
        let mut up = |_: &mut Rng| vec![2];
        let score: &Score<'_> = &|picture| f64::from(picture[0]);
        let found = search(&mut Line, score, &config, &mut up, &mut rng, &mut || {}).unwrap();
        assert_eq!(found, Found { plan: vec![2], values: vec![1.0], worth: 1.0 });
    }

    #[test]
    fn pictures_come_in_the_order_of_the_steps() {
        assert_eq!(pictures(&mut Line, &vec![2, 2, 1, 0]).unwrap(), [[1.0], [2.0], [2.0], [1.0]]);
    }

    #[test]
    fn changes_are_of_all_lengths() {
        let mut rng = stream(Seed(0), Purpose::Plans, 0);
        let mut counts = [0; 71];
        (0..10_000).for_each(|_| counts[stretch(70, &mut rng)] += 1);
        // As often 1 as 2 and 3, as 4 to 7, as 32 to 63.
        let octave = 2f64.ln() / 71f64.ln();
        for from in [1, 2, 4, 32] {
            let share = counts[from..2 * from].iter().sum::<usize>() as f64 / 10_000.0;
            assert!((share - octave).abs() < 0.02, "from {from}: {share}, not {octave}");
        }
        assert_eq!(counts[0], 0);
    }

    #[test]
    fn each_field_is_refused_by_name() {
        let base = PlannerConfig::default();
        let cases = [
            ("`horizon` is 1001, allowed: 1..=1000", PlannerConfig { horizon: 1001, ..base }),
            ("`candidates` is 0, allowed: 1..=65536", PlannerConfig { candidates: 0, ..base }),
            ("`iterations` is 1001, allowed: 1..=1000", PlannerConfig { iterations: 1001, ..base }),
        ];
        for (message, config) in cases {
            assert_eq!(config.validate().unwrap_err().to_string(), message);
        }
    }
}
