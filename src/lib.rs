//! The `mindseye` program as a library, so that tests and fuzzers reach what stands between a person and the crates below.
//!
//! Other programs want those crates themselves: `simulators`, `envs`, `world_models`, `agents`.

pub mod cli;
mod commands;
pub mod failure;
pub mod film;
mod memory;
mod policies;
pub mod run_config;
mod run_dir;
pub mod size;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// Parses the command line, runs the command, and gives the exit code of [`failure::code_of`].
#[must_use]
pub fn main() -> ExitCode {
    end_where_nobody_reads();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let level = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    if uses_libtorch(&cli.command) {
        terminal::settle_environment();
    }
    match terminal::outlive_file_limit().and_then(|()| run(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, cli.json),
    }
}

/// Whoever reads what is printed may stop (`| head`). Printing panics then; there is nobody left to say anything to, and the program
/// ends as others do that the system stops for it.
fn end_where_nobody_reads() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|said| said.starts_with("failed printing to stdout: Broken pipe")) {
            std::process::exit(failure::NOBODY_READS);
        }
        report(panic);
    }));
}

/// Whether a command computes with libtorch. Others have the allocator as the system has it: one that keeps all memory for the
/// next step lets long recordings grow.
fn uses_libtorch(command: &Command) -> bool {
    matches!(
        command,
        Command::Train(_) | Command::Eval(_) | Command::Play(_) | Command::Bench(_) | Command::Quickstart(_)
    )
}

/// Help goes to standard output as it is; a command line that is refused is reported like every other mistake.
fn refuse(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let json = std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json");
    let teaches = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if error.use_stderr() && (json || !teaches) {
        return failure::report(&cli::explain(error).into(), json);
    }
    // Nothing is left to say where even this cannot be said.
    let _ = error.print();
    ExitCode::from(error.exit_code() as u8)
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let threads = terminal::threads(cli.threads)?;
    match &cli.command {
        Command::Envs(args) => commands::envs::run(args, cli.json),
        Command::Collect(args) => commands::collect::run(args, cli.json),
        Command::Data(args) => commands::data::run(args, cli.json),
        Command::Train(args) => commands::train::run(args, threads, cli.json),
        Command::Eval(args) => commands::eval::run(args, threads, cli.json),
        Command::Record(args) => commands::record::run(args, cli.json),
        Command::Play(args) => commands::play::run(args, threads, cli.json),
        Command::Rollout(args) => commands::rollout::run(args, cli.json),
        Command::Render(args) => commands::render::run(args, cli.json),
        Command::Bench(args) => commands::bench::run(args, threads, cli.json),
        Command::Doctor => commands::doctor::run(cli.json),
        Command::Quickstart(args) => commands::quickstart::run(args, threads, cli.json),
    }
}
