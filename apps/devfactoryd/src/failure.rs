//! How the process ends when it cannot go on: one line that names the code, and an exit status by kind.

use std::process::ExitCode;

use df_contract::{ErrorCode, Problem};

/// `sysexits.h`: EX_UNAVAILABLE, EX_TEMPFAIL, EX_CONFIG.
const EXIT_PORT_IN_USE: u8 = 69;
const EXIT_STORE_LOCKED: u8 = 75;
const EXIT_CONFIG: u8 = 78;

pub(crate) fn told(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Problem>() {
        Some(problem) => problem.to_string(),
        None => format!("{error:#}"),
    }
}

pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Problem>().map(|p| p.code) {
        Some(ErrorCode::ConfigInvalid) => EXIT_CONFIG.into(),
        Some(ErrorCode::PortInUse) => EXIT_PORT_IN_USE.into(),
        Some(ErrorCode::StoreLocked) => EXIT_STORE_LOCKED.into(),
        Some(_) | None => ExitCode::FAILURE,
    }
}
