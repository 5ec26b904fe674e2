//! Files from people who mean harm, given to the whole program: each is refused for a reason that names the file, at once,
//! within little memory, and nothing in it is run.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

mod bombs;
mod bounded;
mod checkpoints;
mod victim;
