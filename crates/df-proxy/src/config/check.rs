//! What must hold of a configuration before anything starts.

use std::collections::BTreeSet;

use super::{AccountConfig, Config, ConfigError, LimitConfig, MAX_ACCOUNTS, OpenAiConfig, Terms};

/// Most domains of one account.
const MAX_DOMAINS: usize = 4;
/// Most limits of one domain or account.
const MAX_LIMITS: usize = 64;

fn invalid(text: String) -> ConfigError {
    ConfigError::Invalid(text)
}

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.grant_key.is_some() == self.grant_key_file.is_some() {
            return Err(invalid("give exactly one of grant_key and grant_key_file".into()));
        }
        if self.accounts.len() > MAX_ACCOUNTS {
            return Err(invalid(format!("more than {MAX_ACCOUNTS} accounts")));
        }
        let mut ids = BTreeSet::new();
        for account in &self.accounts {
            check_id(account.id())?;
            if !ids.insert(account.id()) {
                return Err(invalid(format!("two accounts are called `{}`", account.id())));
            }
            match account {
                AccountConfig::OpenaiCompatible(c) => check_openai(c)?,
                AccountConfig::Recorded(_) => {}
            }
        }
        self.check_domains()?;
        for account in &self.accounts {
            self.check_placement(account)?;
        }
        self.check_routes(ids)?;
        super::price::check(&self.prices)?;
        self.check_limits()
    }

    fn check_domains(&self) -> Result<(), ConfigError> {
        let mut ids = BTreeSet::new();
        for domain in &self.domains {
            check_id(&domain.id)?;
            if !ids.insert(domain.id.as_str()) {
                return Err(invalid(format!("two domains are called `{}`", domain.id)));
            }
            check_amounts(&domain.id, &domain.limits)?;
        }
        Ok(())
    }

    fn check_placement(&self, account: &AccountConfig) -> Result<(), ConfigError> {
        let (id, placement) = (account.id(), account.placement());
        check_amounts(id, placement.limits)?;
        if placement.domains.len() > MAX_DOMAINS {
            return Err(invalid(format!("account `{id}`: more than {MAX_DOMAINS} domains")));
        }
        for name in placement.domains {
            if !self.domains.iter().any(|domain| domain.id == *name) {
                return Err(invalid(format!("account `{id}` names the unknown domain `{name}`")));
            }
        }
        if placement.terms == Terms::Personal {
            let Some(owner) = placement.owner else {
                return Err(invalid(format!("account `{id}`: a personal subscription needs an owner")));
            };
            if placement.tenants.iter().any(|tenant| tenant != owner) {
                return Err(invalid(format!(
                    "account `{id}`: a personal subscription serves only its owner"
                )));
            }
        }
        Ok(())
    }

    /// `ids` are those of the accounts; a pool may not be called like one.
    fn check_routes<'a>(&'a self, mut ids: BTreeSet<&'a str>) -> Result<(), ConfigError> {
        let known = ids.clone();
        let members = |what: &str, name: &str, members: &[String], known: &BTreeSet<&str>| {
            if members.is_empty() {
                return Err(invalid(format!("the {what} `{name}` names no account")));
            }
            match members.iter().find(|id| !known.contains(id.as_str())) {
                Some(id) => Err(invalid(format!("the {what} `{name}` names the unknown account `{id}`"))),
                None => Ok(()),
            }
        };
        for pool in &self.pools {
            check_id(&pool.id)?;
            if !ids.insert(&pool.id) {
                return Err(invalid(format!(
                    "`{}` is the name of two pools, or of a pool and an account",
                    pool.id
                )));
            }
            members("pool", &pool.id, &pool.accounts, &known)?;
        }
        self.routes.iter().try_for_each(|(model, names)| members("route", model, names, &ids))
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let l = &self.limits;
        let positive = [
            ("max_in_flight", l.max_in_flight as u64),
            ("max_request_bytes", l.max_request_bytes as u64),
            ("body_timeout_ms", l.body_timeout_ms),
            ("default_output_tokens", l.default_output_tokens),
            ("request_timeout_ms", l.request_timeout_ms),
            ("idle_timeout_ms", l.idle_timeout_ms),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(invalid(format!("limits.{name} must be more than 0"))),
            None => Ok(()),
        }
    }
}

fn check_id(id: &str) -> Result<(), ConfigError> {
    let fine = !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fine { Ok(()) } else { Err(invalid(format!("`{id}` is no account id: use letters, digits, - _ ."))) }
}

fn check_amounts(id: &str, limits: &[LimitConfig]) -> Result<(), ConfigError> {
    if limits.len() > MAX_LIMITS {
        return Err(invalid(format!("`{id}` has more than {MAX_LIMITS} limits")));
    }
    match limits.iter().find(|limit| limit.amount == 0 || limit.burst == Some(0) || limit.family.is_empty()) {
        Some(_) => {
            Err(invalid(format!("`{id}`: a limit needs a family, an amount and a burst of more than 0")))
        }
        None => Ok(()),
    }
}

fn check_openai(c: &OpenAiConfig) -> Result<(), ConfigError> {
    let url: reqwest::Url =
        c.base_url.parse().map_err(|_| invalid(format!("account `{}`: base_url is no URL", c.id)))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(invalid(format!("account `{}`: base_url must be http:// or https://", c.id)));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(format!(
            "account `{}`: put the key in key_env or key_file, not in base_url",
            c.id
        )));
    }
    if c.key_env.is_some() && c.key_file.is_some() {
        return Err(invalid(format!("account `{}`: give one of key_env and key_file", c.id)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HEAD: &str = "listen = '127.0.0.1:0'\ndata_dir = 'data'\n";

    #[track_caller]
    fn refuse(text: &str, expect: &str) {
        let error = Config::parse(&format!("{HEAD}{text}"), Path::new("/base")).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn every_mistake_is_named() {
        refuse("", "exactly one of grant_key");
        refuse("grant_key = 'a'\ngrant_key_file = 'b'", "exactly one of grant_key");
        refuse("grant_key = 'a'\nlisten_on = 'b'", "unknown field `listen_on`");
        refuse("grant_key = 'a'\n[[accounts]]\nkind = 'recorded'\nid = 'a b'\npath = 'x'", "no account id");
        refuse(
            "grant_key = 'a'\n[[accounts]]\nkind = 'recorded'\nid = 'a'\npath = 'x'\nkey = 'sk-1'",
            "unknown field",
        );
        refuse("grant_key = 'a'\n[routes]\n'*' = ['gone']", "unknown account `gone`");
        refuse("grant_key = 'a'\n[routes]\n'*' = []", "names no account");
        let recorded = "grant_key = 'a'\n[[accounts]]\nkind = 'recorded'\nid = 'r'\npath = 'x'\n";
        refuse(&format!("{recorded}[[pools]]\nid = 'r'\naccounts = ['r']"), "a pool and an account");
        refuse(
            &format!("{recorded}[[pools]]\nid = 'p'\naccounts = ['q']"),
            "pool `p` names the unknown account",
        );
        let live =
            "grant_key = 'a'\n[[accounts]]\nkind = 'openai-compatible'\nid = 'a'\nbase_url = 'http://x/'\n";
        refuse(&format!("{live}domains = ['d']"), "unknown domain `d`");
        refuse(&format!("{live}terms = 'personal'"), "needs an owner");
        refuse(&format!("{live}terms = 'personal'\nowner = 'me'\ntenants = ['me', 'you']"), "only its owner");
        refuse(&format!("{live}limits = [{{ axis = 'requests_per_minute', amount = 0 }}]"), "more than 0");
        refuse(&format!("{live}limits = [{{ axis = 'requests', amount = 1 }}]"), "unknown variant");
        let account = "grant_key = 'a'\n[[accounts]]\nkind = 'openai-compatible'\nid = 'a'\n";
        refuse(&format!("{account}base_url = 'ftp://x/'"), "http:// or https://");
        refuse(&format!("{account}base_url = 'http://u:p@x/'"), "not in base_url");
        refuse(&format!("{account}base_url = 'http://x/'\nkey_env = 'A'\nkey_file = 'b'"), "one of key_env");
        refuse("grant_key = 'a'\n[limits]\nmax_in_flight = 0", "limits.max_in_flight");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = format!(
            "{HEAD}grant_key_file = 'k'\n[[accounts]]\nkind = 'recorded'\nid = 'r'\npath = 'r.jsonl'\n[routes]\n'*' = ['r']"
        );
        let config = Config::parse(&text, Path::new("/base")).unwrap();
        assert_eq!(config.data_dir, Path::new("/base/data"));
        assert_eq!(config.admin_token_path(), Path::new("/base/data/admin.token"));
        let AccountConfig::Recorded(recorded) = &config.accounts[0] else { panic!("wrong kind") };
        assert_eq!(recorded.path, Path::new("/base/r.jsonl"));
    }
}
