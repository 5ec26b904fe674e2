//! The Ant of other simulators, beside ours.
//!
//! Their figures were measured once, by us, on a machine of the kind that the README's table names: two cores, AVX-512, no
//! GPU. They are quoted here; nothing of theirs is run. Their control steps are of different lengths, so the simulated time
//! stands beside the steps.

use serde_json::json;

use crate::terminal;

/// Seconds of a control step of dflex, and of ours.
const DFLEX_STEP: f64 = 1.0 / 60.0;
/// Seconds of a control step of the Ant of `MuJoCo`, and of Brax's.
const MUJOCO_STEP: f64 = 0.05;

/// What a simulator does in a second.
struct Row {
    name: &'static str,
    /// Simulated seconds of a control step, where they were written down.
    step_seconds: Option<f64>,
    /// Env steps.
    steps: Option<f64>,
    /// Control steps, each with its gradient.
    with_gradient: Option<f64>,
}

const fn peer(name: &'static str, step_seconds: Option<f64>, steps: f64, with_gradient: Option<f64>) -> Row {
    Row { name, step_seconds, steps: Some(steps), with_gradient }
}

const PEERS: [Row; 8] = [
    peer("newton_mujoco_warp", None, 2_100.0, None),
    peer("dflex_1_process", Some(DFLEX_STEP), 5_800.0, Some(1_250.0)),
    peer("dflex_2_processes", Some(DFLEX_STEP), 9_800.0, Some(2_100.0)),
    peer("brax_generalized", Some(MUJOCO_STEP), 7_000.0, None),
    peer("envpool_ant_v4", Some(MUJOCO_STEP), 10_400.0, None),
    peer("genesis", None, 11_800.0, None),
    peer("mujoco_rollout", Some(MUJOCO_STEP), 12_200.0, None),
    peer("brax_spring", Some(MUJOCO_STEP), 20_100.0, Some(2_560.0)),
];

impl Row {
    fn simulated(&self) -> Option<f64> {
        Some(self.steps? * self.step_seconds?)
    }
}

/// Prints the table, ours last: env steps a second, and control steps with their gradients, where they were measured.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn print(steps: Option<f64>, with_gradient: Option<f64>, json: bool) {
    let ours = Row { name: "mindseye", step_seconds: Some(DFLEX_STEP), steps, with_gradient };
    if !json {
        println!(
            "\nthe Ant elsewhere: measured once on two cores of a server (AVX-512, no GPU), quoted and not run here"
        );
        println!("{:<24} {:>9} {:>12} {:>14} {:>20}", "", "step", "env steps/s", "simulated s/s", "with gradient, /s");
    }
    for row in PEERS.iter().chain([&ours]) {
        let quoted = row.name != ours.name;
        let Row { name, step_seconds, steps, with_gradient } = row;
        if json {
            println!(
                "{}",
                json!({ "name": format!("peers/ant/{name}"), "value": steps, "unit": "steps/s", "step_seconds": step_seconds,
                        "simulated_seconds_per_second": row.simulated(), "with_gradient": with_gradient, "quoted": quoted })
            );
        } else {
            let rate = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| terminal::count(x.round() as u64));
            let step = step_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1} ms", 1e3 * seconds));
            let (steps, simulated, with_gradient) = (rate(*steps), rate(row.simulated()), rate(*with_gradient));
            println!("{name:<24} {step:>9} {steps:>12} {simulated:>14} {with_gradient:>20}");
        }
    }
}
