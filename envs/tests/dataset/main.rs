//! Datasets from outside: what is written comes back, whatever happened on the way; what is damaged is named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crash;
mod damage;
mod hostile;
mod parts;
mod python;
mod quick;
mod repair;
mod round_trip;
mod sampling;
mod toy;
