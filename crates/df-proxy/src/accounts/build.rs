//! Accounts and routes out of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Account, AccountsError, Backend, Kept, OpenAi, Pool};
use crate::config::{ANY_MODEL, AccountConfig, Config, LimitConfig, OpenAiConfig, Secret};
use crate::recording::Recording;
use crate::select::{Bucket, Gate, Slot, SlotId, Standing};

/// What the accounts of a quota domain share.
struct Domain {
    limits: Vec<(LimitConfig, Arc<Bucket>)>,
    purse: Option<Arc<Gate>>,
}

impl Pool {
    /// Reads keys and recordings, and builds the routes that the configuration names.
    pub(crate) fn open(config: &Config) -> Result<Self, AccountsError> {
        let domains: BTreeMap<&str, Domain> = config
            .domains
            .iter()
            .map(|c| {
                let purse = c.billing.then(|| Arc::new(Gate::default()));
                (c.id.as_str(), Domain { limits: buckets(&c.limits), purse })
            })
            .collect();
        let open = |(i, account): (u32, &AccountConfig)| open_account(i, account, &domains);
        let accounts = (0..).zip(&config.accounts).map(open).collect::<Result<Vec<_>, _>>()?;
        let routes =
            config.routes.iter().map(|(model, names)| (model.clone(), steps(config, names))).collect();
        let pool = Self { accounts, routes, built: arc_swap::ArcSwap::default(), upstreams: Kept::default() };
        for model in config.routes.keys().filter(|model| *model != ANY_MODEL) {
            pool.route(model);
        }
        Ok(pool)
    }
}

/// A pool is a step; so are accounts named one after another.
fn steps(config: &Config, names: &[String]) -> Vec<Vec<usize>> {
    let position: BTreeMap<&str, usize> =
        config.accounts.iter().enumerate().map(|(i, account)| (account.id(), i)).collect();
    let mut steps = Vec::new();
    let mut row = Vec::new();
    for name in names {
        match config.pools.iter().find(|pool| pool.id == *name) {
            Some(pool) => {
                steps.push(std::mem::take(&mut row));
                steps
                    .push(pool.accounts.iter().filter_map(|id| position.get(id.as_str()).copied()).collect());
            }
            None => row.extend(position.get(name.as_str()).copied()),
        }
    }
    steps.push(row);
    steps.retain(|step| !step.is_empty());
    steps
}

fn buckets(limits: &[LimitConfig]) -> Vec<(LimitConfig, Arc<Bucket>)> {
    let bucket = |l: &LimitConfig| Bucket::with_burst(l.axis, l.amount, l.burst.unwrap_or(l.amount));
    limits.iter().map(|limit| (limit.clone(), Arc::new(bucket(limit)))).collect()
}

fn open_account(
    i: u32,
    config: &AccountConfig,
    domains: &BTreeMap<&str, Domain>,
) -> Result<Account, AccountsError> {
    let backend = match config {
        AccountConfig::OpenaiCompatible(c) => Backend::OpenAi(open_server(c)?),
        AccountConfig::Recorded(c) => Backend::Recorded(
            Recording::load(&c.path)
                .map_err(|source| AccountsError::Recording { id: c.id.clone(), source })?,
        ),
    };
    let placement = config.placement();
    let joined = || placement.domains.iter().filter_map(|id| domains.get(id.as_str()));
    let mut limits = buckets(placement.limits);
    limits.extend(joined().flat_map(|domain| domain.limits.iter().cloned()));
    // Headers are heard by the first that covers a model: the one that says most about it.
    limits.sort_by_key(|(limit, _)| std::cmp::Reverse(limit.family.trim_end_matches('*').len()));
    let purses = joined().filter_map(|domain| domain.purse.clone()).collect();
    Ok(Account {
        id: config.id().to_owned(),
        backend,
        terms: placement.terms,
        tenants: placement.serves_only().into(),
        slot: Arc::new(Slot::new(SlotId(i), placement.price_band, purses, Standing::Active)),
        limits,
        lanes: Kept::default(),
    })
}

fn open_server(c: &OpenAiConfig) -> Result<OpenAi, AccountsError> {
    let key = match (&c.key_env, &c.key_file) {
        (Some(name), _) => Some(Secret::from_env(name)?),
        (None, Some(path)) => Some(Secret::from_file(path)?),
        (None, None) => None,
    };
    let url = c.base_url.parse::<reqwest::Url>().ok();
    let host = url.as_ref().and_then(|u| u.host_str()).unwrap_or_default();
    let port = url.as_ref().and_then(|u| u.port_or_known_default()).unwrap_or_default();
    Ok(OpenAi {
        url: format!("{}/chat/completions", c.base_url.trim_end_matches('/')),
        key,
        models: c.models.clone(),
        output_limit: c.output_limit,
        loopback: host == "localhost" || host == "[::1]" || host.starts_with("127."),
        priced_as: c.provider.clone(),
        provider: format!("{host}:{port}"),
    })
}
