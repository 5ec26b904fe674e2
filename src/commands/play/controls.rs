//! What a player can do: keys and what they mean in an action space, and actions as a page says them.

use envs::space::Space;
use serde_json::{Value, json};
use simulators::block_world::Action;

use crate::failure::Usage;

/// What keys do, for the page: for each control its keys (as browsers call them), its name, and the action.
///
/// A choice is Blockworld's; `back` stands apart from the arrows, since the walk that models learn from never goes back. Two whole
/// numbers are a move, here of one pixel; the page multiplies it by as many as the player likes, `most` at most.
pub fn controls(space: &Space) -> Value {
    let control = |keys: &[&str], name: &str, action: Value| json!({ "keys": keys, "name": name, "action": action });
    if let Space::Discrete { .. } = space {
        let number = |action: Action| json!(Action::ALL.iter().position(|other| *other == action));
        return json!({
            "kind": "choice",
            "controls": [
                control(&["ArrowUp"], "forward", number(Action::Forward)),
                control(&["ArrowLeft"], "turn left", number(Action::Left)),
                control(&["ArrowDown"], "stay", number(Action::Nothing)),
                control(&["ArrowRight"], "turn right", number(Action::Right)),
                control(&["b"], "back", number(Action::Back)),
            ],
        });
    }
    json!({
        "kind": "move",
        "most": space.bounds(0).1,
        "controls": [
            control(&["ArrowUp"], "up", json!([0, -1])),
            control(&["ArrowLeft"], "left", json!([-1, 0])),
            control(&["ArrowDown"], "down", json!([0, 1])),
            control(&["ArrowRight"], "right", json!([1, 0])),
            control(&["."], "stay", json!([0, 0])),
        ],
    })
}

/// The numbers of an action that a page said: one where it is a choice, else a list of as many as the space has.
///
/// # Errors
/// What was said, and what may be.
pub fn parse(action: &Value, space: &Space) -> Result<Vec<f32>, Box<Usage>> {
    let bounds: Vec<(f64, f64)> = (0..space.size()).map(|component| space.bounds(component)).collect();
    let whole = |value: &Value, (low, high): (f64, f64)| {
        let value = value.as_f64().filter(|value| value.fract() == 0.0 && (low..=high).contains(value))?;
        Some(value as f32)
    };
    let found: Option<Vec<f32>> = match (space, action) {
        (Space::Discrete { .. }, number) => whole(number, bounds[0]).map(|number| vec![number]),
        (_, Value::Array(numbers)) if numbers.len() == bounds.len() => {
            numbers.iter().zip(&bounds).map(|(number, bounds)| whole(number, *bounds)).collect()
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let range = |(low, high): &(f64, f64)| format!("{low}..={high}");
        let allowed = match space {
            Space::Discrete { .. } => format!("a whole number in {}", range(&bounds[0])),
            _ => format!(
                "[{}]: {} whole numbers in these ranges",
                bounds.iter().map(range).collect::<Vec<_>>().join(", "),
                bounds.len()
            ),
        };
        let refusal = Usage::new("no action of this world");
        Box::new(refusal.field("action").value(action.to_string()).allowed(allowed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use envs::registry::find;
    use envs::vector::VectorConfig;

    fn space(env: &str) -> Space {
        find(env).unwrap().make(&json!({}), &VectorConfig::default()).unwrap().spec().action.clone()
    }

    #[test]
    fn every_key_is_an_action_of_its_world_and_no_two_are_the_same() {
        for env in ["block-world", "block-world-find", "mnist-world", "mnist-world-track"] {
            let space = space(env);
            let said = controls(&space);
            let controls = said["controls"].as_array().unwrap();
            let mut seen: Vec<(Vec<f32>, &Value)> = Vec::new();
            for control in controls {
                let action = parse(&control["action"], &space).unwrap();
                assert!(!seen.iter().any(|(other, keys)| *other == action || **keys == control["keys"]), "{control}");
                seen.push((action, &control["keys"]));
            }
            for arrow in ["ArrowUp", "ArrowLeft", "ArrowDown", "ArrowRight"] {
                assert!(controls.iter().any(|control| control["keys"] == json!([arrow])), "{env}: {arrow}");
            }
        }
    }

    #[test]
    fn arrows_in_blockworld_are_what_they_say() {
        let said = controls(&space("block-world"));
        let of = |name: &str| {
            let control = said["controls"].as_array().unwrap().iter().find(|control| control["name"] == name).unwrap();
            Action::ALL[control["action"].as_u64().unwrap() as usize]
        };
        let actions = ["forward", "turn left", "turn right", "stay", "back"].map(of);
        assert_eq!(actions, [Action::Forward, Action::Left, Action::Right, Action::Nothing, Action::Back]);
    }

    #[test]
    fn what_is_no_action_is_refused_with_what_is() {
        let (choice, moves) = (space("block-world"), space("mnist-world"));
        assert_eq!(parse(&json!(4), &choice), Ok(vec![4.0]));
        assert_eq!(parse(&json!([-10, 10]), &moves), Ok(vec![-10.0, 10.0]));
        for bad in [json!(5), json!(-1), json!(0.5), json!("2"), json!([2]), json!(null), json!(1e300)] {
            let said = parse(&bad, &choice).unwrap_err().to_string();
            assert_eq!(said, format!("action = {bad}: no action of this world; allowed: a whole number in 0..=4"));
        }
        for bad in [json!([11, 0]), json!([0, -11]), json!([0.5, 0]), json!([1]), json!([1, 1, 1]), json!(3)] {
            let said = parse(&bad, &moves).unwrap_err().to_string();
            assert!(said.ends_with("allowed: [-10..=10, -10..=10]: 2 whole numbers in these ranges"), "{said}");
        }
    }
}
