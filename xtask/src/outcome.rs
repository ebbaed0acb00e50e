//! What a command found, and the one place that prints.

use std::process::ExitCode;

/// The result of a command: `problems` fail the run, `notes` do not.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// One entry per broken rule, each naming the place and what to do.
    pub problems: Vec<String>,
    /// Shown in any case.
    pub notes: Vec<String>,
    /// One closing sentence, shown when nothing is wrong.
    pub summary: String,
}

impl Outcome {
    /// An outcome with one problem: the command itself could not do its work.
    pub(crate) fn failure(problem: String) -> Self {
        Self { problems: vec![problem], ..Self::default() }
    }

    /// Prints the outcome and returns the process's exit code.
    #[expect(clippy::print_stdout, reason = "the output of a command line tool")]
    pub(crate) fn print(&self) -> ExitCode {
        for note in &self.notes {
            println!("{note}");
        }
        for problem in &self.problems {
            println!("error: {problem}");
        }
        if self.problems.is_empty() {
            println!("{}", self.summary);
            return ExitCode::SUCCESS;
        }
        println!("{} problem(s)", self.problems.len());
        ExitCode::FAILURE
    }
}
