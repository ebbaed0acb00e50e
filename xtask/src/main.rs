//! The project's own checks and generators, run as `cargo xtask COMMAND`.
//!
//! Each command is one module that turns the tree into an [`Outcome`]; nothing here is shipped. Checks read
//! the tree and `cargo metadata` only, so the same tree always gives the same answer.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod codegen;
mod layers;
mod licences;
mod loc;
mod outcome;
mod tidy;
mod tokens;
mod workspace;

use outcome::Outcome;
use workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Checks and generators of the devfactory-core workspace")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Refuses workspace edges and closures that the architecture does not allow.
    Layers,
    /// Refuses oversized files, leftovers, stray lint levels, machine paths and missing error pages.
    Tidy,
    /// Refuses dependencies whose licence, name or source deny.toml does not allow.
    Licences,
    /// Writes the files generated from the code.
    Codegen {
        /// Writes nothing; fails with a diff when a generated file has drifted.
        #[arg(long)]
        check: bool,
    },
    /// Prints the size of the tree per package: source and test lines, blank lines left out.
    Loc,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args.command) {
        Ok(outcome) => outcome.print(),
        Err(error) => Outcome::failure(format!("{error:#}")).print(),
    }
}

fn run(command: &Command) -> anyhow::Result<Outcome> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Layers => layers::run(&workspace),
        Command::Tidy => tidy::run(&workspace),
        Command::Licences => licences::run(&workspace),
        Command::Codegen { check: true } => codegen::check(&workspace),
        Command::Codegen { check: false } => codegen::write(&workspace),
        Command::Loc => loc::run(&workspace),
    }
}
