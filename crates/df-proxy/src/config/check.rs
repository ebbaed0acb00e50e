//! What must hold of a configuration before anything starts.

use std::collections::BTreeSet;

use super::{AccountConfig, Config, ConfigError, MAX_ACCOUNTS, OpenAiConfig};

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
        for (model, members) in &self.routes {
            if members.is_empty() {
                return Err(invalid(format!("the route `{model}` names no account")));
            }
            for id in members {
                if !ids.contains(id.as_str()) {
                    return Err(invalid(format!("the route `{model}` names the unknown account `{id}`")));
                }
            }
        }
        self.check_limits()
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
