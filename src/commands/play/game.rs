//! The game: a world, what a model believes of it, and whether its eyes are open. It knows no browser.

use std::any::Any;
use std::collections::VecDeque;

use anyhow::Result;
use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::env::EnvSpec;
use envs::policy::Policy;
use envs::vector::{BatchEnv, Reset};
use simulators::image::Image;
use simulators::rng::Seed;
use world_models::memory::metrics::{Repairs, clean, unit_interval};
use world_models::onlooker::Onlooker;

use crate::failure::{Usage, usage};

/// Steps that the chart shows.
const REMEMBERED: usize = 240;

/// What a game asks of a model. Frames are `[H, W, C]`, seen in bytes and imagined in numbers that are not clamped; actions are
/// as the env takes them.
pub trait Mind {
    /// Forgets all, and sees the first frame.
    fn begin(&mut self, frame: &[u8]);
    /// What it expects that an action leads to; it believes what it did before.
    fn foresee(&self, action: &[f32]) -> Vec<f32>;
    /// Eyes open: what an action led to.
    fn observe(&mut self, action: &[f32], frame: &[u8]);
    /// Eyes shut: what it believes is in view after an action.
    fn imagine(&mut self, action: &[f32]) -> Vec<f32>;
}

impl Mind for Onlooker {
    fn begin(&mut self, frame: &[u8]) {
        self.begin(frame);
    }

    fn foresee(&self, action: &[f32]) -> Vec<f32> {
        self.foresee(action)
    }

    fn observe(&mut self, action: &[f32], frame: &[u8]) {
        self.observe(action, frame);
    }

    fn imagine(&mut self, action: &[f32]) -> Vec<f32> {
        self.imagine(action)
    }
}

/// What a model imagined of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Imagined {
    /// `[H, W, C]`, repaired as before measuring: 0 to 1.
    pub picture: Vec<f32>,
    /// What had to be repaired.
    pub repairs: Repairs,
}

/// Mean squared errors of one step, of pixels from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// The model's, if there is one.
    pub model: Option<f64>,
    /// That of a copy of the last frame seen.
    pub copy: f64,
}

/// A step of the chart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Steps taken until then, since the world began.
    pub step: u32,
    /// Whether the model saw what it led to.
    pub open: bool,
    /// The errors.
    pub errors: Errors,
}

/// Sums over steps that were not seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Dark {
    steps: u32,
    model: f64,
    copy: f64,
}

/// One world, one model or none.
pub struct Game {
    envs: Box<dyn BatchEnv>,
    map: fn(&dyn Any) -> Image,
    out: StepBatch,
    actions: Buffer,
    mind: Option<Box<dyn Mind>>,
    /// Who walks before the player does, and how many frames the model sees until then.
    guide: (Box<dyn Policy>, u32),
    /// Whether the model sees what the next step leads to.
    eyes_open: bool,
    /// The steps since it last saw something.
    dark: Dark,
    /// What the model saw last.
    last_seen: Vec<u8>,
    imagined: Option<Imagined>,
    history: VecDeque<Moment>,
    total: f64,
}

impl Game {
    /// A game in a batch of one env that shows pictures of bytes, at the beginning of the world of `seed`.
    ///
    /// # Errors
    /// A guide that cannot walk there.
    pub fn new(
        envs: Box<dyn BatchEnv>,
        map: fn(&dyn Any) -> Image,
        mind: Option<Box<dyn Mind>>,
        guide: (Box<dyn Policy>, u32),
        seed: Seed,
    ) -> Result<Self> {
        let spec = envs.spec();
        let out = StepBatch::for_spec(spec, 1);
        let actions = Buffer::zeros(spec.action.dtype(), spec.action.size());
        let (history, last_seen) = (VecDeque::with_capacity(REMEMBERED), Vec::new());
        let (eyes_open, dark, imagined, total) = (true, Dark::default(), None, 0.0);
        let mut game =
            Self { envs, map, out, actions, mind, guide, eyes_open, dark, last_seen, imagined, history, total };
        game.reset(seed)?;
        Ok(game)
    }

    /// Begins the world of another seed; the model forgets all, opens its eyes, and is shown around.
    ///
    /// # Errors
    /// A guide that cannot walk there.
    pub fn reset(&mut self, seed: Seed) -> Result<()> {
        self.envs.reset(Reset::Seed(seed), self.out.obs_mut())?;
        (self.eyes_open, self.dark, self.imagined, self.total) = (true, Dark::default(), None, 0.0);
        self.history.clear();
        self.last_seen = self.frame().to_vec();
        if let Some(mind) = &mut self.mind {
            mind.begin(&self.last_seen);
        }
        for _ in 1..self.guide.1 {
            if self.is_over() {
                break;
            }
            let guide = self.guide.0.act(&*self.envs, self.out.obs(), &mut self.actions);
            guide.map_err(|error| usage(format!("--context {}: {error}", self.guide.1)))?;
            self.advance()?;
        }
        Ok(())
    }

    /// Takes a step. With open eyes the model foresees it and then sees what it led to; with shut eyes it imagines.
    ///
    /// # Errors
    /// An action outside its space, or an episode that is over; nothing changes then.
    pub fn act(&mut self, action: &[f32]) -> Result<()> {
        if self.is_over() {
            return Err(usage("the episode is over: begin another world"));
        }
        self.actions.write(0, action);
        self.advance()
    }

    fn advance(&mut self) -> Result<()> {
        let told = numbers(&self.actions);
        self.envs.step(&self.actions, &mut self.out)?;
        self.total += f64::from(self.out.reward()[0]);
        let frame = bytes(self.out.obs());
        let mut truth = vec![0.0; frame.len()];
        unit_interval(frame, &mut truth);
        self.imagined = self.mind.as_mut().map(|mind| {
            let raw = if self.eyes_open {
                let foreseen = mind.foresee(&told);
                mind.observe(&told, frame);
                foreseen
            } else {
                mind.imagine(&told)
            };
            let mut picture = vec![0.0; raw.len()];
            let repairs = clean(&raw, &mut picture);
            Imagined { picture, repairs }
        });
        let mut copy = vec![0.0; truth.len()];
        unit_interval(&self.last_seen, &mut copy);
        let model = self.imagined.as_ref().map(|imagined| mean_square(&imagined.picture, &truth));
        let errors = Errors { model, copy: mean_square(&copy, &truth) };
        if self.eyes_open {
            self.last_seen.clear();
            self.last_seen.extend_from_slice(frame);
            self.dark = Dark::default();
        } else {
            self.dark.steps += 1;
            self.dark.model += errors.model.unwrap_or_default();
            self.dark.copy += errors.copy;
        }
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back(Moment { step: self.steps(), open: self.eyes_open, errors });
        Ok(())
    }

    /// Opens or shuts the model's eyes: from the next step on it sees again, or no longer. To open and shut them between two steps changes nothing.
    ///
    /// # Errors
    /// There is no model.
    pub fn set_eyes(&mut self, open: bool) -> Result<()> {
        if self.mind.is_none() {
            let refusal = Usage::worded("there is no model whose eyes could be shut or opened");
            return Err(refusal.suggest(Some("start with --run RUN")).into());
        }
        self.eyes_open = open;
        Ok(())
    }

    /// Spaces of the env.
    pub fn spec(&self) -> &EnvSpec {
        self.envs.spec()
    }

    /// Seed of the world.
    pub fn seed(&self) -> Seed {
        self.envs.seed()
    }

    /// Steps taken since the world began, those of the guide included.
    pub fn steps(&self) -> u32 {
        self.envs.row(0).steps
    }

    /// Whether the task has come to its end.
    pub fn is_over(&self) -> bool {
        self.envs.row(0).over
    }

    /// Rewards so far.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// What the agent sees now, `[H, W, C]`.
    pub fn frame(&self) -> &[u8] {
        bytes(self.out.obs())
    }

    /// The world from above.
    pub fn map(&self) -> Image {
        (self.map)(self.envs.row(0).env)
    }

    /// What the model expected of the frame that is seen now; nothing before the first step.
    pub fn imagined(&self) -> Option<&Imagined> {
        self.imagined.as_ref()
    }

    /// Whether the model's eyes are open.
    pub fn eyes_are_open(&self) -> bool {
        self.eyes_open
    }

    /// Steps since the model last saw something, and the mean errors of these, if there are any.
    pub fn in_the_dark(&self) -> (u32, Option<Errors>) {
        let Dark { steps, model, copy } = self.dark;
        let mean = |sum: f64| sum / f64::from(steps);
        (steps, (steps > 0).then(|| Errors { model: Some(mean(model)), copy: mean(copy) }))
    }

    /// The latest steps, the oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Moment> {
        self.history.iter()
    }
}

fn bytes(frame: &Buffer) -> &[u8] {
    frame.get::<u8>().expect("an env that is played shows pictures of bytes")
}

/// An action as a model is told of it.
fn numbers(action: &Buffer) -> Vec<f32> {
    match action {
        Buffer::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
        Buffer::I8(values) => values.iter().map(|&value| f32::from(value)).collect(),
        Buffer::I64(values) => values.iter().map(|&value| value as f32).collect(),
        Buffer::F32(values) => values.clone(),
    }
}

fn mean_square(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>() / a.len() as f64
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use envs::policy::{RandomWalk, Zero};
    use envs::registry::find;
    use envs::vector::{AutoresetMode, VectorConfig};
    use serde_json::json;

    /// What a mind was asked.
    #[derive(Debug, Clone, PartialEq)]
    enum Asked {
        Begin(Vec<u8>),
        Foresee(Vec<f32>),
        Observe(Vec<f32>, Vec<u8>),
        Imagine(Vec<f32>),
    }

    /// A mind that always pictures one shade, and writes down what it was asked.
    struct Shade {
        shade: f32,
        asked: Rc<RefCell<Vec<Asked>>>,
    }

    const SIDE: usize = 16;

    impl Mind for Shade {
        fn begin(&mut self, frame: &[u8]) {
            self.asked.borrow_mut().push(Asked::Begin(frame.to_vec()));
        }
        fn foresee(&self, action: &[f32]) -> Vec<f32> {
            self.asked.borrow_mut().push(Asked::Foresee(action.to_vec()));
            vec![self.shade; SIDE * SIDE]
        }
        fn observe(&mut self, action: &[f32], frame: &[u8]) {
            self.asked.borrow_mut().push(Asked::Observe(action.to_vec(), frame.to_vec()));
        }
        fn imagine(&mut self, action: &[f32]) -> Vec<f32> {
            self.asked.borrow_mut().push(Asked::Imagine(action.to_vec()));
            vec![self.shade; SIDE * SIDE]
        }
    }

    type Drawn = fn(&dyn Any) -> Image;

    fn digits() -> (Box<dyn BatchEnv>, Drawn) {
        let entry = find("mnist-world").unwrap();
        let config = json!({"world": {"world": 24, "window": SIDE, "digits": 3, "digit_px": 12, "step": 5}});
        let autoreset = AutoresetMode::Disabled;
        let vector = VectorConfig { autoreset, max_steps: Some(u32::MAX), ..VectorConfig::default() };
        (entry.make(&config, &vector).unwrap(), entry.map().unwrap())
    }

    fn game(shade: f32, context: u32) -> (Game, Rc<RefCell<Vec<Asked>>>) {
        let asked = Rc::default();
        let mind = Shade { shade, asked: Rc::clone(&asked) };
        let ((envs, map), guide) = (digits(), Box::new(RandomWalk::default()));
        (Game::new(envs, map, Some(Box::new(mind)), (guide, context), Seed(3)).unwrap(), asked)
    }

    /// Mean of squares of bytes that are this far from a shade.
    fn expected(frame: &[u8], from: impl Fn(usize) -> f64) -> f64 {
        let squares = frame.iter().enumerate().map(|(i, &byte)| (f64::from(byte) / 255.0 - from(i)).powi(2));
        squares.sum::<f64>() / frame.len() as f64
    }

    #[test]
    fn with_open_eyes_each_step_is_foreseen_and_then_seen() {
        let (mut game, asked) = game(0.25, 1);
        let first = game.frame().to_vec();
        assert_eq!(*asked.borrow(), [Asked::Begin(first.clone())]);
        assert!(
            game.imagined().is_none() && game.history().next().is_none(),
            "nothing was expected of the first frame"
        );
        game.act(&[2.0, -1.0]).unwrap();
        let second = game.frame().to_vec();
        assert_ne!(first, second);
        let told = vec![2.0, -1.0];
        assert_eq!(asked.borrow()[1..], [Asked::Foresee(told.clone()), Asked::Observe(told, second.clone())]);
        let moment = *game.history().next().unwrap();
        assert_eq!((moment.step, moment.open, game.steps()), (1, true, 1));
        assert!((moment.errors.model.unwrap() - expected(&second, |_| 0.25)).abs() < 1e-6);
        assert!((moment.errors.copy - expected(&second, |i| f64::from(first[i]) / 255.0)).abs() < 1e-6);
        game.act(&[0.0, 0.0]).unwrap();
        let third = game.frame().to_vec();
        let copy = game.history().last().unwrap().errors.copy;
        assert!((copy - expected(&third, |i| f64::from(second[i]) / 255.0)).abs() < 1e-6, "the last frame seen");
        assert_eq!(game.in_the_dark(), (0, None));
    }

    #[test]
    fn with_shut_eyes_it_is_told_of_moves_alone_and_errors_are_counted_from_there() {
        let (mut game, asked) = game(0.5, 1);
        game.act(&[1.0, 0.0]).unwrap();
        let seen = game.frame().to_vec();
        game.set_eyes(false).unwrap();
        assert_eq!(game.in_the_dark(), (0, None));
        asked.borrow_mut().clear();
        let (mut model, mut copy) = (0.0, 0.0);
        for step in 1..=4 {
            game.act(&[1.0, 1.0]).unwrap();
            model += expected(game.frame(), |_| 0.5);
            copy += expected(game.frame(), |i| f64::from(seen[i]) / 255.0);
            let (steps, means) = game.in_the_dark();
            let means = means.unwrap();
            assert_eq!(steps, step);
            assert!((means.model.unwrap() - model / f64::from(step)).abs() < 1e-6);
            assert!((means.copy - copy / f64::from(step)).abs() < 1e-6, "of a copy of what was seen last");
        }
        assert_eq!(*asked.borrow(), vec![Asked::Imagine(vec![1.0, 1.0]); 4]);
        // Opened and shut again, they have seen nothing.
        for open in [false, true, false] {
            game.set_eyes(open).unwrap();
        }
        assert_eq!(game.in_the_dark().0, 4);
        game.set_eyes(true).unwrap();
        assert_eq!(game.in_the_dark().0, 4, "until there is something to see");
        game.act(&[0.0, 1.0]).unwrap();
        assert_eq!(game.in_the_dark(), (0, None));
        assert!(matches!(asked.borrow()[4..], [Asked::Foresee(_), Asked::Observe(..)]));
        let open: Vec<bool> = game.history().map(|moment| moment.open).collect();
        assert_eq!(open, [true, false, false, false, false, true]);
    }

    #[test]
    fn a_reset_is_another_world_in_which_eyes_are_open_and_the_same_seed_is_the_same_world() {
        let (mut game, asked) = game(0.0, 1);
        let first = game.frame().to_vec();
        game.act(&[5.0, 5.0]).unwrap();
        game.set_eyes(false).unwrap();
        game.reset(Seed(4)).unwrap();
        assert_ne!(game.frame(), first);
        assert!(game.eyes_are_open() && game.steps() == 0 && game.history().next().is_none());
        assert!(game.imagined().is_none() && game.seed() == Seed(4));
        game.reset(Seed(3)).unwrap();
        assert_eq!(game.frame(), first);
        assert_eq!(asked.borrow().last(), Some(&Asked::Begin(first)));
    }

    #[test]
    fn a_guide_shows_the_model_so_many_frames() {
        let (game, asked) = game(0.0, 6);
        let seen = asked.borrow().iter().filter(|asked| matches!(asked, Asked::Begin(_) | Asked::Observe(..))).count();
        assert_eq!((seen, game.steps(), game.history().count()), (6, 5, 5));
    }

    #[test]
    fn numbers_that_are_none_are_measured_as_the_benchmark_does() {
        let (mut game, _) = game(f32::NAN, 1);
        game.act(&[0.0, 0.0]).unwrap();
        let imagined = game.imagined().unwrap();
        assert_eq!(imagined.repairs.not_finite, (SIDE * SIDE) as u64);
        assert!(imagined.picture.iter().all(|&value| value == 0.0));
        let error = game.history().last().unwrap().errors.model.unwrap();
        assert!((error - expected(game.frame(), |_| 0.0)).abs() < 1e-6);
    }

    #[test]
    fn the_chart_forgets_and_the_walk_goes_on_beyond_the_time_limit() {
        let (mut game, _) = game(0.0, 1);
        for _ in 0..300 {
            game.act(&[1.0, 0.0]).unwrap();
        }
        assert_eq!((game.history().count(), game.history().next().unwrap().step), (REMEMBERED, 61));
        assert!(!game.is_over());
    }

    #[test]
    fn an_action_outside_its_space_changes_nothing() {
        let (mut game, asked) = game(0.0, 1);
        let (frame, count) = (game.frame().to_vec(), asked.borrow().len());
        let said = game.act(&[6.0, 0.0]).unwrap_err().to_string();
        assert!(said.contains("component 0 is 6") && said.contains("integers -5..=5"), "{said}");
        assert_eq!((game.frame(), game.steps(), asked.borrow().len()), (&frame[..], 0, count));
    }

    #[test]
    fn without_a_model_there_is_a_world_and_no_eyes_to_shut() {
        let (envs, map) = digits();
        let mut game = Game::new(envs, map, None, (Box::new(Zero), 1), Seed(0)).unwrap();
        game.act(&[1.0, 1.0]).unwrap();
        assert!(game.imagined().is_none() && game.history().last().unwrap().errors.model.is_none());
        assert!(game.set_eyes(false).unwrap_err().to_string().contains("--run RUN"));
        assert_eq!((game.map().width, game.map().height), (24, 24));
    }

    #[test]
    fn an_episode_that_is_over_takes_no_step() {
        let entry = find("block-world-find").unwrap();
        let autoreset = AutoresetMode::Disabled;
        let vector = VectorConfig { autoreset, max_steps: Some(2), ..VectorConfig::default() };
        let config = json!({"world": {"image": 16}});
        let envs = entry.make(&config, &vector).unwrap();
        let mut game = Game::new(envs, entry.map().unwrap(), None, (Box::new(Zero), 1), Seed(0)).unwrap();
        for _ in 0..2 {
            game.act(&[4.0]).unwrap();
        }
        assert!(game.is_over());
        assert!(game.act(&[4.0]).unwrap_err().to_string().contains("the episode is over"));
        game.reset(Seed(1)).unwrap();
        assert!(!game.is_over());
    }
}
