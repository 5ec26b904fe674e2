//! Every task by its id: the one list that the command line, the collectors and the conformance suite walk.

use std::any::Any;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use simulators::image::Image;
use simulators::limits::Limit;
use simulators::view::View;

use crate::collect::{BlockWorldSource, CollectConfig, CollectError, MnistWorldSource, RandomWalkSource};
use crate::dataset::EpisodeSource;
use crate::differentiable::DifferentiableEnv;
use crate::env::{Env, EnvError};
use crate::rollout::{Inputs, Options, Outputs, RolloutError};
use crate::tasks::articulated::{Ant, Articulated, CartPole, Creature, DoublePendulum, Hopper, differentiable};
use crate::tasks::block_world::BlockWorldEnv;
use crate::tasks::block_world_find::BlockWorldFindEnv;
use crate::tasks::mnist_world::MnistWorldEnv;
use crate::tasks::mnist_world_track::MnistWorldTrackEnv;
use crate::vector::{BatchEnv, VectorConfig, VectorEnv};

/// An env that can be registered: it has a name and is built from a configuration.
pub trait Task: Env + Clone {
    /// Id with version, such as `MnistWorld-v0`; the version rises whenever a change alters trajectories.
    const ID: &'static str;
    /// Name on the command line: the newest version of this task.
    const ALIAS: &'static str;
    /// One line that says what it is.
    const ABOUT: &'static str;
    /// Everything that can be set; its default is a sensible task.
    type Config: Serialize + DeserializeOwned + Default;

    /// What the numbers of a configuration may be, beside each other.
    fn limits(config: &Self::Config) -> Vec<Limit>;

    /// Builds the task; the copies in a batch share what is large.
    ///
    /// # Errors
    /// A field out of range, or a file that cannot be read.
    fn build(config: Self::Config) -> Result<Self, EnvError>;
}

/// A task that people can look at.
pub trait Drawn: Task {
    /// What there is to see now. It may show more than the agent sees.
    fn view(&self) -> View;
}

/// A task whose agent sees pictures of bytes, moved about by choices as in Blockworld or by two whole numbers, and whose whole world can be
/// drawn from above.
pub trait Mapped: Task {
    /// The world now, and where in it the agent looks.
    fn map(&self) -> Image;
}

type Make = fn(&Value, &VectorConfig) -> Result<Box<dyn BatchEnv>, EnvError>;
type MakeDifferentiable = fn(&Value, &VectorConfig) -> Result<Box<dyn DifferentiableEnv>, EnvError>;
type Roll = fn(&Value, &Inputs, Options) -> Result<Outputs, RolloutError>;
type Look = fn(&dyn Any) -> View;
type Map = fn(&dyn Any) -> Image;
type MakeSource = fn(&Value, &CollectConfig) -> Result<Box<dyn EpisodeSource>, CollectError>;

/// A registered task.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Id with version.
    pub id: &'static str,
    /// Name on the command line.
    pub alias: &'static str,
    /// One line that says what it is.
    pub about: &'static str,
    resolve: fn(&Value) -> Result<Value, EnvError>,
    limits: fn(&Value) -> Result<Vec<Limit>, EnvError>,
    make: Make,
    source: MakeSource,
    rollout: Option<Roll>,
    differentiable: Option<MakeDifferentiable>,
    look: Option<Look>,
    map: Option<Map>,
}

/// The registered tasks.
#[must_use]
pub fn entries() -> &'static [Entry] {
    const ENTRIES: &[Entry] = &[
        Entry::of::<MnistWorldEnv>(|config, collect| {
            Ok(Box::new(MnistWorldSource::new(&build::<MnistWorldEnv>(config)?, collect)?))
        })
        .drawn::<MnistWorldEnv>()
        .mapped::<MnistWorldEnv>(),
        Entry::of::<MnistWorldTrackEnv>(random_walk::<MnistWorldTrackEnv>)
            .drawn::<MnistWorldTrackEnv>()
            .mapped::<MnistWorldTrackEnv>(),
        Entry::of::<BlockWorldEnv>(|config, collect| {
            Ok(Box::new(BlockWorldSource::new(&build::<BlockWorldEnv>(config)?, collect)))
        })
        .drawn::<BlockWorldEnv>()
        .mapped::<BlockWorldEnv>(),
        Entry::of::<BlockWorldFindEnv>(random_walk::<BlockWorldFindEnv>)
            .drawn::<BlockWorldFindEnv>()
            .mapped::<BlockWorldFindEnv>(),
        Entry::of_body::<Ant>(),
        Entry::of_body::<Hopper>(),
        Entry::of_body::<CartPole>(),
        Entry::of_body::<DoublePendulum>(),
    ];
    ENTRIES
}

/// An id that no task has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no env is called `{id}`; {}", if close.is_empty() { format!("there are: {}", known.join(", ")) } else { format!("did you mean {}?", close.join(" or ")) })]
pub struct UnknownEnv {
    /// What was asked for.
    pub id: String,
    /// Registered names that look like it, likest first.
    pub close: Vec<&'static str>,
    /// All registered ids.
    pub known: Vec<&'static str>,
}

/// The task of this id or command-line name; upper and lower case are the same.
///
/// # Errors
/// There is none; the error lists those whose names are close.
pub fn find(id: &str) -> Result<&'static Entry, UnknownEnv> {
    if let Some(entry) =
        entries().iter().find(|entry| [entry.id, entry.alias].iter().any(|n| n.eq_ignore_ascii_case(id)))
    {
        return Ok(entry);
    }
    let wanted = id.to_ascii_lowercase();
    let names = entries().iter().flat_map(|entry| [entry.id, entry.alias]);
    let likeness = |name: &str| strsim::jaro_winkler(&wanted, &name.to_ascii_lowercase());
    let mut close: Vec<_> = names.map(|name| (likeness(name), name)).filter(|&(like, _)| like > 0.8).collect();
    close.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    Err(UnknownEnv {
        id: id.to_owned(),
        close: close.into_iter().map(|(_, name)| name).collect(),
        known: entries().iter().map(|entry| entry.id).collect(),
    })
}

impl Entry {
    const fn of<T: Task>(source: MakeSource) -> Self {
        Self {
            id: T::ID,
            alias: T::ALIAS,
            about: T::ABOUT,
            resolve: |config| {
                let config = parse::<T>(config)?;
                Ok(serde_json::to_value(config).expect("a configuration is plain data"))
            },
            limits: |config| Ok(T::limits(&parse::<T>(config)?)),
            make: |config, vector| Ok(Box::new(VectorEnv::new(vector, &build::<T>(config)?)?)),
            source,
            rollout: None,
            differentiable: None,
            look: None,
            map: None,
        }
    }

    /// The same, for people to look at. `T` is the task that this entry is of.
    const fn drawn<T: Drawn>(self) -> Self {
        let look: Look = |env| env.downcast_ref::<T>().expect("the row of a batch that this entry made").view();
        Self { look: Some(look), ..self }
    }

    /// The same, with a map. `T` is the task that this entry is of.
    const fn mapped<T: Mapped>(self) -> Self {
        let map: Map = |env| env.downcast_ref::<T>().expect("the row of a batch that this entry made").map();
        Self { map: Some(map), ..self }
    }

    /// A task of an articulated body: collected in random actions, rolled out from outside, and with gradients.
    const fn of_body<C: Creature>() -> Self {
        let rollout: Roll = |config, inputs, options| build::<Articulated<C>>(config)?.rollout(inputs, options);
        Self {
            rollout: Some(rollout),
            differentiable: Some(|config, vector| differentiable(&build::<Articulated<C>>(config)?, vector)),
            ..Self::of::<Articulated<C>>(random_walk::<Articulated<C>>).drawn::<Articulated<C>>()
        }
    }

    /// What there is to see of an env; to be given [`crate::vector::Row::env`] of a batch that this entry made, and of no
    /// other.
    ///
    /// # Errors
    /// An env that cannot be drawn; the error lists those that can.
    pub fn look(&self) -> Result<fn(&dyn Any) -> View, EnvError> {
        self.look.ok_or_else(|| {
            let known: Vec<_> = entries().iter().filter(|e| e.look.is_some()).map(|e| e.id).collect();
            EnvError::NoPicture { env: self.id.to_owned(), known: known.join(", ") }
        })
    }

    /// The map of an env's world; to be given an env as [`Entry::look`] says.
    ///
    /// # Errors
    /// An env that has none; the error lists those that have.
    pub fn map(&self) -> Result<fn(&dyn Any) -> Image, EnvError> {
        self.map.ok_or_else(|| {
            let known: Vec<_> = entries().iter().filter(|e| e.map.is_some()).map(|e| e.id).collect();
            EnvError::NoMap { env: self.id.to_owned(), known: known.join(", ") }
        })
    }

    /// Rolls states and actions out, where the env's state is a vector.
    ///
    /// # Errors
    /// A state that is no vector, inputs that do not fit, or as [`Entry::make`].
    pub fn rollout(&self, config: &Value, inputs: &Inputs, options: Options) -> Result<Outputs, RolloutError> {
        let Some(rollout) = self.rollout else {
            let known: Vec<_> = entries().iter().filter(|e| e.rollout.is_some()).map(|e| e.id).collect();
            return Err(RolloutError::NoVector { env: self.id.to_owned(), known: known.join(", ") });
        };
        rollout(config, inputs, options)
    }

    /// The whole configuration: what `config` says, and the default of everything else. An empty object gives the
    /// defaults.
    ///
    /// # Errors
    /// An unknown field or a wrong type.
    pub fn resolve(&self, config: &Value) -> Result<Value, EnvError> {
        (self.resolve)(config)
    }

    /// What the numbers of a configuration may be, beside each other; out of range is no error here.
    ///
    /// # Errors
    /// An unknown field or a wrong type.
    pub fn limits(&self, config: &Value) -> Result<Vec<Limit>, EnvError> {
        (self.limits)(config)
    }

    /// Builds `N` envs from a configuration, in which everything may be left out.
    ///
    /// # Errors
    /// An unknown field, a wrong type, a value out of range, or a file that cannot be read.
    pub fn make(&self, config: &Value, vector: &VectorConfig) -> Result<Box<dyn BatchEnv>, EnvError> {
        (self.make)(config, vector)
    }

    /// Builds `N` envs that gradients can be pulled back through; they reset in the same step, whatever `vector` says.
    ///
    /// # Errors
    /// An env that has no gradients; the error lists those that do. Otherwise as [`Entry::make`].
    pub fn differentiable(
        &self,
        config: &Value,
        vector: &VectorConfig,
    ) -> Result<Box<dyn DifferentiableEnv>, EnvError> {
        let Some(make) = self.differentiable else {
            let known: Vec<_> = entries().iter().filter(|e| e.differentiable.is_some()).map(|e| e.id).collect();
            return Err(EnvError::NoGradients { env: self.id.to_owned(), known: known.join(", ") });
        };
        make(config, vector)
    }

    /// The collector of this task: episodes for a dataset.
    ///
    /// # Errors
    /// As [`Entry::make`], or a collector that cannot do its work in such a world.
    pub fn source(&self, config: &Value, collect: &CollectConfig) -> Result<Box<dyn EpisodeSource>, CollectError> {
        (self.source)(config, collect)
    }
}

/// The collector of a task that has none of its own.
fn random_walk<T: Task>(config: &Value, collect: &CollectConfig) -> Result<Box<dyn EpisodeSource>, CollectError> {
    Ok(Box::new(RandomWalkSource::new(build::<T>(config)?, collect)?))
}

fn parse<T: Task>(config: &Value) -> Result<T::Config, EnvError> {
    serde_path_to_error::deserialize(config).map_err(|source| EnvError::Parse { env: T::ID.to_owned(), source })
}

fn build<T: Task>(config: &Value) -> Result<T, EnvError> {
    T::build(parse::<T>(config)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_and_aliases_find_their_task_and_typos_get_advice() {
        assert_eq!(find("MnistWorld-v0").unwrap().id, "MnistWorld-v0");
        assert_eq!(find("mnist-world-track").unwrap().id, "MnistWorldTrack-v0");
        let message = find("mnist_wrld").err().unwrap().to_string();
        assert!(message.starts_with("no env is called `mnist_wrld`; did you mean mnist-world"), "{message}");
        let message = find("zzz").err().unwrap().to_string();
        assert!(
            message.starts_with("no env is called `zzz`; there are: MnistWorld-v0, MnistWorldTrack-v0, BlockWorld-v0")
        );
    }

    #[test]
    fn ids_are_versioned_and_unique() {
        let mut names: Vec<_> = entries().iter().flat_map(|entry| [entry.id, entry.alias]).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        for entry in entries() {
            let (_, version) = entry.id.rsplit_once("-v").unwrap();
            assert!(version.parse::<u32>().is_ok(), "{}", entry.id);
        }
    }

    #[test]
    fn an_env_that_cannot_be_drawn_says_which_can() {
        let undrawn = Entry { look: None, id: "Thought-v0", ..*find("ant").unwrap() };
        let message = undrawn.look().unwrap_err().to_string();
        assert!(message.starts_with("Thought-v0 cannot be drawn; envs that can: MnistWorld-v0"), "{message}");
    }

    #[test]
    fn an_env_without_a_map_says_which_have_one() {
        let message = find("ant").unwrap().map().unwrap_err().to_string();
        assert_eq!(
            message,
            "Ant-v0 has no map; envs that have: MnistWorld-v0, MnistWorldTrack-v0, BlockWorld-v0, BlockWorldFind-v0"
        );
    }

    #[test]
    fn a_configuration_is_closed_and_resolves_to_all_its_fields() {
        for entry in entries() {
            let error = entry.resolve(&json!({"wolrd": 1})).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            let fields = entry.resolve(&json!({})).unwrap();
            assert!(cause.contains("unknown field `wolrd`"), "{cause}");
            assert!(fields.as_object().unwrap().keys().all(|field| cause.contains(field)), "{cause}");
            let resolved = entry.resolve(&json!({})).unwrap();
            assert_eq!(entry.resolve(&resolved).unwrap(), resolved);
        }
        let error = find("mnist-world").unwrap().resolve(&json!({"world": {"window": "wide"}})).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.starts_with("world.window: ") && cause.contains("wide"), "{cause}");
        let resolved = find("mnist-world").unwrap().resolve(&json!({"world": {"digits": 2}})).unwrap();
        assert_eq!((&resolved["world"]["digits"], &resolved["world"]["world"]), (&json!(2), &json!(50)));
    }
}
