//! What the processes do alike towards whoever runs them: they log, one JSON object per line on stderr with the same field
//! names as the API, and they stop when they are told to.
//!
//! What it deliberately does not know: what is worth logging. It never adds a field of its own besides the time,
//! the level, the process and the target, and nothing here may be handed a prompt, a key or a token.
//!
//! Names mean the same in every process: `tenant`, `job`, `task`, `attempt`, `epoch`, `worker`, `account`, `model`,
//! `code`, `error`, `address`.

mod json;
mod stop;

use std::io;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

pub use stop::told_to_stop;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the log filter `{filter}` cannot be read; write for example `info` or `info,df_proxy=debug`")]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logging is already set up in this process")]
    Twice(#[source] TryInitError),
}

/// Sends every log record of this process to stderr as JSON lines. Call it once, first thing in `main`.
///
/// `filter` has the form of `tracing_subscriber::EnvFilter`: `info`, or `info,df_proxy=debug`.
pub fn init_json_logs(process: &'static str, filter: &str) -> Result<(), LogError> {
    json_subscriber(process, filter, io::stderr)?.try_init().map_err(LogError::Twice)
}

/// The subscriber behind [`init_json_logs`], with its writer as an argument.
pub fn json_subscriber<W>(
    process: &'static str,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + 'static, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    Ok(tracing_subscriber::fmt()
        .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
        .event_format(json::JsonLine { process })
        .with_env_filter(filter)
        .with_writer(writer)
        .finish())
}
