//! The tools of the built-in agent: which role has which, their schemas, and what they do.

mod exec;
mod files;
mod guard;
mod schema;
mod search;
mod toolbox;

pub use df_contract::agent::Tool;
pub(crate) use exec::check_text;
pub(crate) use schema::definitions;
pub(crate) use toolbox::{ToolAnswer, ToolBox};
