//! Accounts and routes: who may answer for a model and a tenant, and who is out for a while and why.
//!
//! Gives [`crate::select`] its members and tiers. A route is built for a model when that is first asked for; its tiers
//! share accounts and limits with all others.

mod build;
mod failure;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use df_contract::{DurationMs, TenantId};
use serde::Serialize;

pub(crate) use failure::{Failure, Refusal, Retry, classify, classify_in_stream};

use crate::config::{ANY_MODEL, ConfigError, LimitConfig, Models, OutputLimit, Secret, Terms};
use crate::recording::{Recording, RecordingError};
use crate::select::{At, Bucket, Cause, Lane, Member, Slot, SlotId, Tier, Upstream};

/// Most models for which routes are kept; with one more, those nobody asks for are let go.
const MAX_BUILT: usize = 256;

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
    terms: Terms,
    /// The only tenants it serves; empty = all.
    tenants: Box<[TenantId]>,
    slot: Arc<Slot>,
    /// Most particular first.
    limits: Vec<(LimitConfig, Arc<Bucket>)>,
    lanes: Kept<String, Lane>,
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
    /// Whose prices it has.
    pub(crate) priced_as: Option<String>,
    /// Host and port: who is overloaded when it is overloaded.
    provider: String,
}

/// What is shared as long as somebody uses it.
#[derive(Debug)]
struct Kept<K, V>(Mutex<BTreeMap<K, Weak<V>>>);

impl<K: Ord, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord, V> Kept<K, V> {
    fn get_or(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        kept.retain(|_, value| value.strong_count() > 0);
        let made = Arc::new(make());
        kept.insert(key, Arc::downgrade(&made));
        made
    }

    fn all(&self) -> Vec<Arc<V>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values().filter_map(Weak::upgrade).collect()
    }
}

impl Account {
    /// What `model` is called there; none if it does not serve it.
    fn upstream_name<'a>(&'a self, model: &'a str) -> Option<&'a str> {
        match &self.backend {
            Backend::OpenAi(server) => server.models.upstream_name(model),
            Backend::Recorded(_) => Some(model),
        }
    }

    pub(crate) fn view(&self, now: At) -> AccountView {
        let limited = || self.lanes.all().iter().filter_map(|lane| lane.rate_limited(now)).max();
        let out = self.slot.cooling(now).or_else(|| limited().map(|until| (until, Cause::Rate)));
        AccountView {
            id: self.id.clone(),
            kind: match &self.backend {
                Backend::OpenAi(_) => "openai-compatible",
                Backend::Recorded(_) => "recorded",
            },
            terms: self.terms,
            tenants: self.tenants.clone(),
            in_flight: self.slot.in_flight(),
            health_percent: (self.slot.health(now) * 100.0).round() as u8,
            out_because: out.map(|(_, cause)| cause),
            out_for: out.map(|(until, _)| DurationMs(until.ms_since(now))),
        }
    }
}

/// An account in `GET /admin/v1/accounts`. Holds no secret.
#[derive(Debug, Serialize)]
pub(crate) struct AccountView {
    pub(crate) id: String,
    kind: &'static str,
    terms: Terms,
    /// Empty = all.
    tenants: Box<[TenantId]>,
    in_flight: u32,
    health_percent: u8,
    /// Absent = it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    out_because: Option<Cause>,
    /// Milliseconds until it is asked again.
    #[serde(skip_serializing_if = "Option::is_none", rename = "out_for_ms")]
    out_for: Option<DurationMs>,
}

/// Who is asked for one model, step by step.
#[derive(Debug)]
pub(crate) struct Route {
    steps: Vec<Step>,
}

/// One pool: accounts for everybody, and those for some tenants alone.
#[derive(Debug, Default)]
struct Step {
    common: Option<Tier>,
    own: BTreeMap<TenantId, Tier>,
}

impl Route {
    /// A tenant's own accounts of a pool before the common ones.
    pub(crate) fn tiers(&self, tenant: &TenantId) -> impl Iterator<Item = &Tier> {
        self.steps.iter().flat_map(|step| step.own.get(tenant).into_iter().chain(&step.common))
    }

    fn all(&self) -> impl Iterator<Item = &Tier> {
        self.steps.iter().flat_map(|step| step.own.values().chain(&step.common))
    }
}

/// All accounts and routes; the accounts are fixed after the start.
#[derive(Debug)]
pub(crate) struct Pool {
    accounts: Vec<Account>,
    /// Steps of positions in `accounts`.
    routes: BTreeMap<String, Vec<Vec<usize>>>,
    built: ArcSwap<HashMap<String, Arc<Route>>>,
    upstreams: Kept<(String, String), Upstream>,
}

impl Pool {
    fn members(&self, model: &str) -> Option<&[Vec<usize>]> {
        self.routes.get(model).or_else(|| self.routes.get(ANY_MODEL)).map(Vec::as_slice)
    }

    /// Whether somebody serves `model`.
    pub(crate) fn serves(&self, model: &str) -> bool {
        let steps = self.members(model).unwrap_or_default();
        steps.iter().flatten().any(|&i| self.accounts[i].upstream_name(model).is_some())
    }

    /// The route of `model`, built if it is asked for the first time; none if nobody serves it.
    pub(crate) fn route(&self, model: &str) -> Option<Arc<Route>> {
        if let Some(route) = self.built.load().get(model) {
            return Some(Arc::clone(route));
        }
        if !self.serves(model) {
            return None;
        }
        let steps = self.members(model)?.iter().map(|step| self.step(model, step)).collect();
        let route = Arc::new(Route { steps });
        self.built.rcu(|known| {
            let keep = |name: &String| known.len() < MAX_BUILT || self.routes.contains_key(name);
            let kept = known.iter().filter(|(name, _)| keep(name)).map(|(n, r)| (n.clone(), Arc::clone(r)));
            kept.chain([(model.to_owned(), Arc::clone(&route))]).collect::<HashMap<_, _>>()
        });
        Some(route)
    }

    fn step(&self, model: &str, members: &[usize]) -> Step {
        let (mut common, mut own) = (Vec::new(), BTreeMap::<TenantId, Vec<Member>>::new());
        for &i in members {
            let account = &self.accounts[i];
            let Some(lane) = self.lane(account, model) else { continue };
            let member = Member::new(Arc::clone(&account.slot), lane);
            for tenant in &account.tenants {
                own.entry(tenant.clone()).or_default().push(member.clone());
            }
            if account.tenants.is_empty() {
                common.push(member);
            }
        }
        Step {
            common: (!common.is_empty()).then(|| Tier::new(common)),
            own: own.into_iter().map(|(tenant, members)| (tenant, Tier::new(members))).collect(),
        }
    }

    fn lane(&self, account: &Account, model: &str) -> Option<Arc<Lane>> {
        let name = account.upstream_name(model)?;
        let provider = match &account.backend {
            Backend::OpenAi(server) => server.provider.clone(),
            // A recording fails for itself alone.
            Backend::Recorded(_) => account.id.clone(),
        };
        Some(account.lanes.get_or(name.to_owned(), || {
            let upstream = self.upstreams.get_or((provider, name.to_owned()), Upstream::default);
            let limits = account.limits.iter().filter(|(limit, _)| limit.covers(name));
            Lane::new(limits.map(|(_, bucket)| Arc::clone(bucket)).collect(), upstream)
        }))
    }

    /// The account behind a slot of one of its tiers.
    pub(crate) fn account(&self, id: SlotId) -> Option<&Account> {
        self.accounts.get(id.0 as usize)
    }

    pub(crate) fn find(&self, id: &str) -> Option<SlotId> {
        self.accounts.iter().find(|account| account.id == id).map(|account| account.slot.id())
    }

    /// Models that have a route of their own.
    pub(crate) fn routed_models(&self) -> Vec<String> {
        self.routes.keys().filter(|model| *model != ANY_MODEL).cloned().collect()
    }

    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Whether requests must be normalised at all.
    pub(crate) fn replays(&self) -> bool {
        self.accounts.iter().any(|a| matches!(a.backend, Backend::Recorded(_)))
    }

    /// Weighs the members of all tiers anew if what was learnt calls for it. Not for the path of a call.
    pub(crate) fn refresh(&self) {
        let stale = self.upstreams.all().iter().filter(|upstream| upstream.take_stale()).count();
        if stale > 0 {
            self.built.load().values().flat_map(|route| route.all()).for_each(Tier::rebuild);
        }
    }
}
