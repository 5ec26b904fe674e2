//! The part of Python's pickle in which `torch.save` describes tensors: a closed reader that builds plain values and runs nothing.
//!
//! A pickle is a program for a stack machine, and `GLOBAL` names any function that it wants called. Here a name is looked up in
//! the list in `globals.rs`, each of which stands for a value of this module; any other ends the reading. What is read takes
//! memory in proportion to the bytes of the pickle: values are shared by index and never copied.

mod globals;
mod machine;

use std::collections::BTreeMap;

pub use globals::Element;
use globals::Global;
use machine::Machine;

/// Why a pickle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// It wants something that only Python has.
    #[error(
        "it asks for `{global}`; only tensors, dicts and TensorDicts are read, and nothing that a file names is ever run"
    )]
    Global {
        /// Module and name.
        global: String,
    },
    /// It is damaged, or uses what tensors do not need.
    #[error("byte {at}: {reason}")]
    Broken {
        /// Where.
        at: usize,
        /// What is wrong.
        reason: String,
    },
}

/// A tensor as the pickle describes it; nothing of it is checked against the file yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Which of the archive's storages has its numbers.
    pub storage: String,
    /// Their type.
    pub element: Element,
    /// Numbers that the storage is said to have.
    pub numbers: u64,
    /// The number that it begins with.
    pub offset: u64,
    /// Size of each axis.
    pub shape: Vec<u64>,
    /// Numbers from one index of each axis to the next.
    pub strides: Vec<u64>,
}

/// Index of a value.
type Id = usize;

#[derive(Debug)]
enum Value {
    Opaque,
    Int(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage {
        key: String,
        element: Element,
        numbers: u64,
    },
    Tensor(Tensor),
    /// With the dict of its attributes, once it has one.
    TensorDict(Option<Id>),
}

/// A pickle that was understood.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Understands the content of a `data.pkl`.
    ///
    /// # Errors
    /// When it names what is not on the list, or is not a whole pickle of protocol 2.
    pub fn parse(bytes: &[u8]) -> Result<Self, PickleError> {
        Machine::new(bytes).run()
    }

    /// The items of the dict or `TensorDict` that was saved: each name, and its tensor if it is one. Of a name that is there twice
    /// the last counts, as in Python.
    ///
    /// # Errors
    /// What it is instead.
    pub fn items(&self) -> Result<BTreeMap<&str, Option<&Tensor>>, &'static str> {
        let items = match &self.values[self.root] {
            Value::Dict(items) => items,
            Value::TensorDict(Some(state)) => match self.item(*state, "_tensordict") {
                Some(Value::Dict(items)) => items,
                _ => return Err("its TensorDict has no `_tensordict`"),
            },
            _ => return Err("it holds neither a dict nor a TensorDict"),
        };
        let named = items.iter().filter_map(|&(name, value)| match (&self.values[name], &self.values[value]) {
            (Value::Text(name), Value::Tensor(tensor)) => Some((name.as_str(), Some(tensor))),
            (Value::Text(name), _) => Some((name.as_str(), None)),
            _ => None,
        });
        Ok(named.collect())
    }

    fn item(&self, dict: Id, name: &str) -> Option<&Value> {
        let Value::Dict(items) = &self.values[dict] else { return None };
        let found = items.iter().rev().find(|(key, _)| matches!(&self.values[*key], Value::Text(key) if key == name));
        found.map(|(_, value)| &self.values[*value])
    }
}
