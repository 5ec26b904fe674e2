//! Every registered task keeps the contract, with its default configuration.

use envs::conformance::conforms;
use envs::registry::entries;
use serde_json::json;

#[test]
fn every_registered_task_conforms() {
    for entry in entries() {
        if let Err(broken) = conforms(entry, &json!({})) {
            panic!("{broken}");
        }
    }
}
