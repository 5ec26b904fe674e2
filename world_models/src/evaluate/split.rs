//! Which episodes of a dataset are evaluated, which others something may be fitted on, and where their clips lie.
//!
//! Several policies may have taken turns in a dataset, or filled one half each, so the order of episodes says nothing: each draws a
//! number of its own, and those are in the order of their numbers. Clips lie side by side in an episode, from a place on that is
//! drawn too, so that ends of episodes are seen as often as their beginnings.

use envs::dataset::{Dataset, Window};
use rand::Rng as _;
use simulators::rng::{Purpose, Seed, stream};

use super::EvaluateError;

/// Clips to evaluate, and what is left of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Clips of the episodes that are evaluated, in their order.
    pub windows: Vec<Window>,
    /// How many episodes these are.
    pub evaluated: usize,
    /// Positions of all other episodes, in order.
    pub fitted: Vec<usize>,
    /// Clips of those among them that are long enough, as many as are evaluated at most, spread evenly.
    pub fitted_windows: Vec<Window>,
}

impl Split {
    /// Clips of `frames` observations in one half of the episodes that have so many, `most` of them at most, spread evenly.
    ///
    /// # Errors
    /// If no episode is that long, or no other is left.
    pub fn of(dataset: &Dataset, frames: usize, most: usize) -> Result<Self, EvaluateError> {
        let drawn = |(position, episode): (usize, envs::dataset::Episode<'_>)| {
            let mut rng = stream(Seed(0), Purpose::Clips, episode.number());
            (rng.next_u64(), position, episode.frames(), rng.next_u64())
        };
        let mut usable: Vec<_> =
            dataset.episodes().enumerate().map(drawn).filter(|&(_, _, observed, _)| observed >= frames).collect();
        usable.sort_unstable();
        let refused = |field, value: String, allowed: String| {
            Err(EvaluateError::Refused { dataset: dataset.dir().to_owned(), field, value, allowed })
        };
        if usable.is_empty() {
            let longest = format!("{} observations", dataset.info().longest + 1);
            return refused("the longest episode", longest, format!("{frames} or more, for context and horizon"));
        }
        if dataset.len() == 1 {
            let allowed = "2 or more: what reads latents and beliefs is fitted on episodes that are not evaluated";
            return refused("the number of episodes", "1".into(), allowed.into());
        }
        let mut others = usable.split_off(usable.len().div_ceil(2));
        let windows_of = |drawn: &mut Vec<(u64, usize, usize, u64)>| {
            drawn.sort_unstable_by_key(|&(_, position, ..)| position);
            let clips = |&(_, episode, observed, place): &(u64, usize, usize, u64)| {
                let count = observed / frames;
                let offset = (place % (observed - count * frames + 1) as u64) as usize;
                (0..count).map(move |clip| Window { episode, start: offset + clip * frames })
            };
            let all: Vec<Window> = drawn.iter().flat_map(clips).collect();
            let chosen = all.len().min(most);
            (0..chosen).map(|clip| all[clip * all.len() / chosen]).collect::<Vec<_>>()
        };
        let (windows, fitted_windows) = (windows_of(&mut usable), windows_of(&mut others));
        let is_evaluated =
            |position: &usize| usable.binary_search_by_key(position, |&(_, episode, ..)| episode).is_ok();
        let fitted = (0..dataset.len()).filter(|position| !is_evaluated(position)).collect();
        let evaluated = episodes(&windows);
        Ok(Self { windows, evaluated, fitted, fitted_windows })
    }

    /// How many episodes the clips to fit on are of.
    #[must_use]
    pub fn fitted_episodes(&self) -> usize {
        episodes(&self.fitted_windows)
    }
}

/// How many episodes clips are of, which are in order.
fn episodes(windows: &[Window]) -> usize {
    let mut episodes: Vec<usize> = windows.iter().map(|window| window.episode).collect();
    episodes.dedup();
    episodes.len()
}
