//! The `mindseye` program.

fn main() -> std::process::ExitCode {
    mindseye::main()
}
