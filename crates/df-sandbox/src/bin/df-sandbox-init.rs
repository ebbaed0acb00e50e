//! The two sandbox stages as a program of their own: what this crate's tests re-execute.

fn main() -> std::process::ExitCode {
    df_sandbox::dispatch();
    std::process::ExitCode::from(64)
}
