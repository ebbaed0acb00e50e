//! The AI proxy: OpenAI-compatible chat completions over several accounts, under signed grants or standing keys with hard budgets,
//! with a ledger of every upstream attempt, and with recorded accounts that replay a conversation.
//!
//! What it deliberately does not know: policy, jobs' states, the daemon's store. It spends budgets that a grant
//! carries and never decides what may be done. It starts no processes.
//!
//! ```
//! use df_proxy::config::Config;
//! let text = "listen = '127.0.0.1:0'\ndata_dir = 'data'\ngrant_key_file = 'grant.pub'";
//! let config = Config::parse(text, std::path::Path::new("/etc/devfactory")).unwrap();
//! assert_eq!(config.admin_token_path(), std::path::Path::new("/etc/devfactory/data/admin.token"));
//! ```

mod accounts;
mod admin;
mod calendar;
mod call;
mod clock;
pub mod config;
mod core;
mod error;
mod files;
mod grants;
mod http;
mod ledger;
mod prices;
mod recording;
pub mod select;
mod server;
mod upstream;
mod usage;

pub use accounts::AccountsError;
pub use admin::{AdminClient, AdminError};
pub use recording::RecordingError;
pub use server::{Proxy, StartError, check, start};
