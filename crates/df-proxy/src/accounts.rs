//! Accounts and routes: who may answer for a model, and who is out for a while and why.
//!
//! Selection is a round over the accounts of the route; one that is cooling is passed over. Cooling is one atomic
//! word per account that only ever moves later, so that a short cooling never ends a long one.

mod failure;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use df_contract::{DurationMs, Timestamp};
use serde::Serialize;

pub(crate) use failure::{Failure, Retry, classify, classify_in_stream};

use crate::config::{ANY_MODEL, AccountConfig, Config, ConfigError, Models, OutputLimit, Secret};
use crate::recording::{Recording, RecordingError};

/// Why accounts could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("account `{id}` cannot be used")]
    Recording {
        id: String,
        #[source]
        source: RecordingError,
    },
}

/// Somebody who can answer.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) backend: Backend,
    cooling: Cooling,
    in_flight: AtomicU64,
}

#[derive(Debug)]
pub(crate) enum Backend {
    OpenAi(OpenAi),
    Recorded(Recording),
}

/// An OpenAI-compatible server and the key for it.
#[derive(Debug)]
pub(crate) struct OpenAi {
    pub(crate) url: String,
    pub(crate) key: Option<Secret>,
    pub(crate) models: Models,
    pub(crate) output_limit: OutputLimit,
    /// Loopback servers are never asked for through a proxy of the environment.
    pub(crate) loopback: bool,
}

/// Why an account is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    Credential,
    Billing,
    Rate,
}

/// `until << 2 | cause`, so that both change in one store.
#[derive(Debug, Default)]
struct Cooling(AtomicU64);

impl Cooling {
    fn cool(&self, until: Timestamp, cause: Cause) {
        let cause = match cause {
            Cause::Credential => 1,
            Cause::Billing => 2,
            Cause::Rate => 3,
        };
        self.0.fetch_max(until.as_millis() << 2 | cause, Ordering::AcqRel);
    }

    fn state(&self, now: Timestamp) -> Option<(Timestamp, Cause)> {
        let word = self.0.load(Ordering::Acquire);
        let until = Timestamp(word >> 2);
        let cause = match word & 3 {
            1 => Cause::Credential,
            2 => Cause::Billing,
            3 => Cause::Rate,
            _never => return None,
        };
        (until > now).then_some((until, cause))
    }
}

/// Counts a call while it lives.
pub(crate) struct InFlight<'a>(&'a Account);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Account {
    pub(crate) fn cool(&self, until: Timestamp, cause: Cause) {
        self.cooling.cool(until, cause);
    }

    pub(crate) fn cooling(&self, now: Timestamp) -> Option<(Timestamp, Cause)> {
        self.cooling.state(now)
    }

    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    fn serves(&self, model: &str) -> bool {
        match &self.backend {
            Backend::OpenAi(server) => server.models.upstream_name(model).is_some(),
            Backend::Recorded(_) => true,
        }
    }

    pub(crate) fn view(&self, now: Timestamp) -> AccountView {
        let cooling = self.cooling(now);
        AccountView {
            id: self.id.clone(),
            kind: match &self.backend {
                Backend::OpenAi(_) => "openai-compatible",
                Backend::Recorded(_) => "recorded",
            },
            in_flight: self.in_flight.load(Ordering::Relaxed),
            out_because: cooling.map(|(_, cause)| cause),
            out_for: cooling.map(|(until, _)| until.since(now)),
        }
    }
}

/// An account in `GET /admin/v1/accounts`. Holds no secret.
#[derive(Debug, Serialize)]
pub(crate) struct AccountView {
    pub(crate) id: String,
    kind: &'static str,
    in_flight: u64,
    /// Absent = it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    out_because: Option<Cause>,
    /// Milliseconds until it is asked again.
    #[serde(skip_serializing_if = "Option::is_none", rename = "out_for_ms")]
    out_for: Option<DurationMs>,
}

#[derive(Debug)]
struct Route {
    members: Vec<usize>,
    turn: AtomicUsize,
}

/// All accounts and routes; fixed after the start.
#[derive(Debug)]
pub(crate) struct Pool {
    accounts: Vec<Account>,
    routes: BTreeMap<String, Route>,
}

impl Pool {
    /// Reads keys and recordings.
    pub(crate) fn open(config: &Config) -> Result<Self, AccountsError> {
        let accounts = config.accounts.iter().map(open_account).collect::<Result<Vec<_>, _>>()?;
        let index = |id: &String| accounts.iter().position(|a| a.id == *id);
        let routes = config
            .routes
            .iter()
            .map(|(model, ids)| {
                let members = ids.iter().filter_map(index).collect();
                (model.clone(), Route { members, turn: AtomicUsize::new(0) })
            })
            .collect();
        Ok(Self { accounts, routes })
    }

    /// Accounts for `model`, the one whose turn it is first; none if nobody serves it.
    pub(crate) fn candidates(&self, model: &str) -> Option<Vec<&Account>> {
        let route = self.routes.get(model).or_else(|| self.routes.get(ANY_MODEL))?;
        let mut members: Vec<&Account> =
            route.members.iter().map(|&i| &self.accounts[i]).filter(|a| a.serves(model)).collect();
        if members.is_empty() {
            return None;
        }
        let turn = route.turn.fetch_add(1, Ordering::Relaxed) % members.len();
        members.rotate_left(turn);
        Some(members)
    }

    /// Whether somebody serves `model`.
    pub(crate) fn serves(&self, model: &str) -> bool {
        let route = self.routes.get(model).or_else(|| self.routes.get(ANY_MODEL));
        route.is_some_and(|route| route.members.iter().any(|&i| self.accounts[i].serves(model)))
    }

    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Whether requests must be normalised at all.
    pub(crate) fn replays(&self) -> bool {
        self.accounts.iter().any(|a| matches!(a.backend, Backend::Recorded(_)))
    }
}

fn open_account(config: &AccountConfig) -> Result<Account, AccountsError> {
    let backend = match config {
        AccountConfig::OpenaiCompatible(c) => {
            let key = match (&c.key_env, &c.key_file) {
                (Some(name), _) => Some(Secret::from_env(name)?),
                (None, Some(path)) => Some(Secret::from_file(path)?),
                (None, None) => None,
            };
            let host = c.base_url.parse::<reqwest::Url>().ok().and_then(|u| u.host_str().map(str::to_owned));
            let host = host.unwrap_or_default();
            Backend::OpenAi(OpenAi {
                url: format!("{}/chat/completions", c.base_url.trim_end_matches('/')),
                key,
                models: c.models.clone(),
                output_limit: c.output_limit,
                loopback: host == "localhost" || host == "[::1]" || host.starts_with("127."),
            })
        }
        AccountConfig::Recorded(c) => Backend::Recorded(
            Recording::load(&c.path)
                .map_err(|source| AccountsError::Recording { id: c.id.clone(), source })?,
        ),
    };
    Ok(Account {
        id: config.id().to_owned(),
        backend,
        cooling: Cooling::default(),
        in_flight: AtomicU64::new(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_cooling_never_ends_a_long_one() {
        let cooling = Cooling::default();
        assert_eq!(cooling.state(Timestamp(0)), None);
        cooling.cool(Timestamp(1_000), Cause::Billing);
        cooling.cool(Timestamp(500), Cause::Rate);
        assert_eq!(cooling.state(Timestamp(999)), Some((Timestamp(1_000), Cause::Billing)));
        assert_eq!(cooling.state(Timestamp(1_000)), None);
        cooling.cool(Timestamp(2_000), Cause::Rate);
        assert_eq!(cooling.state(Timestamp(1_500)), Some((Timestamp(2_000), Cause::Rate)));
    }
}
