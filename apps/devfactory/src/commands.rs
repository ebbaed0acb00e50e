//! One module per group of commands.

pub(crate) mod agents;
pub(crate) mod artifacts;
pub(crate) mod ask;
pub(crate) mod audit;
pub(crate) mod doctor;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod system;
pub(crate) mod tasks;
pub(crate) mod up;

use crate::args::Cli;
use crate::client::Client;
use crate::render;

/// The client that the global options describe.
pub(crate) fn client(cli: &Cli) -> anyhow::Result<Client> {
    Client::new(cli.url.as_deref(), cli.api_key.as_deref())
}

/// Prints `value` as JSON, or what `text` makes of it.
pub(crate) fn show<T: serde::Serialize>(
    cli: &Cli,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if cli.json {
        crate::output::line(format_args!("{}", serde_json::to_string(value)?));
    } else {
        crate::output::text(format_args!("{}", render::plain(&text(value))));
    }
    Ok(())
}
