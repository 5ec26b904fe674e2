//! Returns of random play and of the scripted oracle on `MnistWorldTrack-v0`, over 1,000 episodes each.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use agents::{EvaluationError, evaluate};
use envs::policy::{Policy, RandomWalk, TrackOracle};
use serde_json::json;
use simulators::rng::Seed;

fn main() -> Result<(), EvaluationError> {
    let policies: [(&str, &mut dyn Policy); 2] = [("random", &mut RandomWalk::default()), ("oracle", &mut TrackOracle)];
    for (name, policy) in policies {
        let report = evaluate("MnistWorldTrack-v0", &json!({}), policy, 1000, Seed(1), 64)?;
        let (mean, stderr, std) = (report.mean, report.stderr, report.std);
        println!("{name}: mean {mean:.2} +- {stderr:.2} (std {std:.2}, {:.2} to {:.2})", report.min, report.max);
    }
    Ok(())
}
