//! `mindseye data`: what is in a dataset, and whether it is as it was written.

use anyhow::Result;
use envs::dataset::{Dataset, verify};

use crate::cli::{DataArgs, DataCommand};
use crate::terminal::{bytes, count};

/// Shows or verifies.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &DataArgs, json: bool) -> Result<()> {
    match &args.command {
        DataCommand::Info { dataset } => {
            let info = Dataset::open(dataset)?.info();
            if json {
                println!("{}", serde_json::to_string(&info)?);
                return Ok(());
            }
            let description = &info.description;
            println!("{}", dataset.display());
            println!("  environment  {} ", description.source.env_id);
            println!("  episodes     {} of {}", count(info.episodes), count(description.episodes));
            println!("  frames       {} (episodes of {} to {} steps)", count(info.frames), info.shortest, info.longest);
            println!("  size         {} in {} shards", bytes(info.bytes), info.shards);
            println!("  seed         {}", description.source.seed);
            println!("  digest       {}", info.digest);
            println!("  columns");
            for column in &description.columns {
                println!(
                    "    {:<18} {:<5} {:?} per {:?}",
                    column.name,
                    column.dtype.name(),
                    column.shape,
                    column.follows
                );
            }
            println!("  configuration\n{}", indented(&toml::to_string_pretty(&description.source.config)?));
            Ok(())
        }
        DataCommand::Verify { dataset, quick } => {
            let report = verify(dataset, !quick)?;
            if json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                for line in &report.leftovers {
                    println!("note: {line}");
                }
                for damage in &report.damage {
                    println!("damage: {damage}");
                }
                println!(
                    "{}: {} episodes in {} shards, {}: {}",
                    dataset.display(),
                    count(report.episodes),
                    report.shards,
                    bytes(report.bytes),
                    if report.damage.is_empty() { "all as committed" } else { "damaged" }
                );
            }
            anyhow::ensure!(
                report.damage.is_empty(),
                "{}: {} places are damaged",
                dataset.display(),
                report.damage.len()
            );
            Ok(())
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["    ", line, "\n"]).collect()
}
