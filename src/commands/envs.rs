//! `mindseye envs`: the registered environments.

use anyhow::Result;
use envs::registry::{entries, find};
use serde_json::json;

use crate::cli::EnvsArgs;
use crate::run_config;

/// Lists all, or shows one.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &EnvsArgs, json: bool) -> Result<()> {
    if let Some(id) = &args.env {
        let entry = find(id)?;
        let config = entry.resolve(&json!({}))?;
        let about = json!({ "id": entry.id, "alias": entry.alias, "about": entry.about, "config": config });
        if json {
            println!("{about}");
        } else {
            println!("{} ({}): {}\n\nConfiguration, with its defaults:", entry.id, entry.alias, entry.about);
            println!("{}", run_config::as_toml(&config)?);
        }
        return Ok(());
    }
    for entry in entries() {
        if json {
            println!("{}", json!({ "id": entry.id, "alias": entry.alias, "about": entry.about }));
        } else {
            println!("{:<22} {:<20} {}", entry.id, entry.alias, entry.about);
        }
    }
    Ok(())
}
