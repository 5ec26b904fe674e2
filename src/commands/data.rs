//! `mindseye data`: what is in a dataset, whether it is as it was written, making it so again, and making it of other files.

mod import;

use std::path::{Path, PathBuf};

use anyhow::Result;
use envs::dataset::{Codec, Damage, Dataset, Mended, Ranges, Repaired, Verdict, Zstd, merge, repair, verify};
use envs::storage;

use super::collect::watched;
use crate::cli::{DataArgs, DataCommand, ImportCommand};
use crate::failure::Stopped;
use crate::run_config;
use crate::terminal::{bytes, count};

/// Places of damage that are shown to people; `--json` has all.
const SHOWN: usize = 50;

/// Shows, verifies, repairs, merges or imports.
pub fn run(args: &DataArgs, json: bool) -> Result<()> {
    match &args.command {
        DataCommand::Info { dataset } => info(dataset, json),
        DataCommand::Verify { dataset, quick } => check(dataset, !quick, json),
        DataCommand::Repair { dataset, dry_run } => mend(dataset, *dry_run, json),
        DataCommand::Merge { parts, out, partial } => join(parts, out, *partial, json),
        DataCommand::Import { from: ImportCommand::Tdmpc2(args) } => import::tdmpc2(args, json),
        DataCommand::Import { from: ImportCommand::Flowm(args) } => import::flowm(args, json),
    }
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn info(dataset: &Path, json: bool) -> Result<()> {
    let info = Dataset::open(dataset)?.info();
    if json {
        println!("{}", serde_json::to_string(&info)?);
        return Ok(());
    }
    let description = &info.description;
    println!("{}", dataset.display());
    println!("  environment  {} ", description.source.env_id);
    println!("  episodes     {} of {}", count(info.episodes), count(description.episodes));
    if !info.missing.is_empty() {
        println!("  missing      {}", Ranges(&info.missing));
        match &info.part {
            Some(part) => println!("               (it is part {part}; `mindseye data merge` joins parts)"),
            None => println!("               (the `collect` command that began it records them)"),
        }
    }
    println!("  frames       {} (episodes of {} to {} steps)", count(info.frames), info.shortest, info.longest);
    println!("  size         {} in {} shards", bytes(info.bytes), info.shards);
    match description.codec {
        Codec::Raw => println!("  codec        raw"),
        Codec::Zstd(Zstd { level, block_bytes }) => {
            let (rows, blocks) = (bytes(info.row_bytes), bytes(block_bytes as u64));
            println!("  codec        zstd: {rows} unpacked, level {level}, blocks of {blocks}");
        }
    }
    println!("  seed         {}", description.source.seed);
    println!("  digest       {}", info.digest);
    println!("  columns");
    for column in &description.columns {
        let packed = if description.codec.packs(column) { ", packed" } else { "" };
        println!(
            "    {:<18} {:<5} {:?} per {:?}{packed}",
            column.name,
            column.dtype.name(),
            column.shape,
            column.follows
        );
    }
    println!("  configuration\n{}", indented(&run_config::as_toml(&description.source.config)?));
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["    ", line, "\n"]).collect()
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn check(dataset: &Path, full: bool, json: bool) -> Result<()> {
    let report = verify(dataset, full)?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        for line in &report.leftovers {
            println!("note: {line}");
        }
        show_damage("damage", &report.damage);
        println!(
            "{}: {} of {} episodes in {} shards, {}: {}",
            dataset.display(),
            count(report.episodes),
            count(report.requested),
            report.shards,
            bytes(report.bytes),
            match (report.damage.is_empty(), full) {
                (true, true) => "all as committed",
                (true, false) => "sizes and headers as committed",
                (false, _) => "damaged",
            }
        );
        if !report.missing.is_empty() {
            println!("not recorded yet: episodes {}", Ranges(&report.missing));
        }
    }
    let (places, path) = (report.damage.len(), dataset.display());
    let places = if places == 1 { "1 place is".to_owned() } else { format!("{} places are", count(places as u64)) };
    anyhow::ensure!(
        report.damage.is_empty(),
        "{path}: {places} damaged; `mindseye data repair {path}` keeps what is whole"
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn show_damage(what: &str, damage: &[Damage]) {
    for damage in damage.iter().take(SHOWN) {
        println!("{what}: {damage}");
    }
    if let Some(more @ 1..) = damage.len().checked_sub(SHOWN) {
        println!("and {} more; --json lists all", count(more as u64));
    }
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn mend(dataset: &Path, dry_run: bool, json: bool) -> Result<()> {
    let repaired = repair(storage::of_process()?, dataset, dry_run)?;
    if json {
        println!("{}", serde_json::to_string(&repaired)?);
        return Ok(());
    }
    show_damage(if dry_run { "would leave out" } else { "left out" }, &repaired.lines);
    for file in &repaired.files {
        println!("{}", said_of(file, dry_run));
    }
    let Repaired { lines, files, lost, missing, episodes, requested, .. } = &repaired;
    let done = match (lines.is_empty() && files.is_empty(), dry_run) {
        (true, _) => "nothing to repair",
        (false, true) => "nothing was changed (--dry-run)",
        (false, false) => "repaired",
    };
    println!("{}: {done}, {} of {} episodes", dataset.display(), count(*episodes), count(*requested));
    if !lost.is_empty() {
        println!("lost: episodes {}", Ranges(lost));
    }
    if !missing.is_empty() {
        println!(
            "missing: episodes {}; the `collect` command that began it records them as they were",
            Ranges(missing)
        );
    }
    if !dry_run && repaired.files.iter().any(|file| file.moved_to.is_some()) {
        println!("{} has the damaged files; remove it when you no longer want them", dataset.join("damaged").display());
    }
    Ok(())
}

fn said_of(file: &Mended, dry_run: bool) -> String {
    let Mended { file, problem, verdict, kept, moved_to } = file;
    let would = if dry_run { "would be " } else { "" };
    let done = match verdict {
        Verdict::Adopted => format!("whole, {would}given its line again"),
        Verdict::Restored => format!("{would}restored to its committed bytes"),
        Verdict::Salvaged => format!("episodes {} {would}kept", Ranges(kept)),
        Verdict::Lost => "no episode of it is whole".to_owned(),
    };
    let moved = moved_to.as_ref().map_or_else(String::new, |to| format!("; {would}moved to {to}"));
    format!("{file}: {problem}: {done}{moved}")
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn join(parts: &[PathBuf], out: &Path, partial: bool, json: bool) -> Result<()> {
    let storage = storage::of_process()?;
    let merged = watched("merge", json, |control| merge(storage, parts, out, partial, control))?;
    if merged.stopped {
        let done = format!("{} episodes are merged; run the same command to go on", count(merged.episodes));
        return Err(Stopped(done).into());
    }
    if json {
        println!("{}", serde_json::to_string(&merged)?);
        return Ok(());
    }
    for twice in &merged.duplicates {
        let (first, second) = (twice.first.display(), twice.second.display());
        println!("note: {first} and {second} have the same episodes {}", Ranges(&twice.episodes));
    }
    println!(
        "{}: {} of {} episodes from {} parts, {}, digest {}",
        out.display(),
        count(merged.episodes),
        count(merged.requested),
        merged.parts,
        bytes(merged.bytes),
        merged.digest
    );
    if !merged.missing.is_empty() {
        println!("missing: episodes {}; merge their parts into it, or run `collect` on it", Ranges(&merged.missing));
    }
    Ok(())
}
