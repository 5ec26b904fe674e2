//! The `mindseye` program: parse, run, exit code.

mod cli;
mod commands;
mod failure;
mod run_config;
mod run_dir;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    terminal::settle_environment();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, cli.json),
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let threads = terminal::threads(cli.threads)?;
    match &cli.command {
        Command::Envs(args) => commands::envs::run(args, cli.json),
        Command::Collect(args) => commands::collect::run(args, cli.json),
        Command::Data(args) => commands::data::run(args, cli.json),
        Command::Train(args) => commands::train::run(args, threads, cli.json),
        Command::Eval(args) => commands::eval::run(args, threads, cli.json),
        Command::Bench(args) => commands::bench::run(args, threads, cli.json),
        Command::Doctor => commands::doctor::run(cli.json),
        Command::Quickstart(args) => commands::quickstart::run(args, threads, cli.json),
    }
}
