//! The daemon's configuration: one TOML file, and arguments over it.

use std::path::{Path, PathBuf};

use df_contract::{ErrorCode, Problem};
use df_orchestration::{OperatorLimits, OrchestrationConfig};
use serde::{Deserialize, Serialize};

use crate::args::ConfigArgs;

/// Largest configuration file, in bytes.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Address of the API. Port 0 takes a free one.
    pub(crate) listen: String,
    /// Store, blobs, secrets. One daemon per directory.
    pub(crate) data_dir: PathBuf,
    /// Log filter: `info`, or `info,df_orchestration=debug`.
    pub(crate) log: String,
    pub(crate) proxy: ProxySection,
    pub(crate) orchestration: OrchestrationConfig,
    pub(crate) limits: OperatorLimits,
}

/// How the daemon reaches the proxy's administration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProxySection {
    /// Address without `/v1`.
    pub(crate) url: String,
    /// File with the proxy's administration token; relative to the data directory.
    pub(crate) admin_token_file: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8460".to_owned(),
            data_dir: PathBuf::from(".devfactory/daemon"),
            log: "info".to_owned(),
            proxy: ProxySection::default(),
            orchestration: OrchestrationConfig::default(),
            limits: OperatorLimits::default(),
        }
    }
}

impl Default for ProxySection {
    fn default() -> Self {
        Self {
            url: OrchestrationConfig::default().proxy_url,
            admin_token_file: PathBuf::from("proxy-admin.token"),
        }
    }
}

/// The configuration in force, and the text of the file it came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) file: toml::Table,
}

impl Config {
    /// Reads the file, if one is named, and puts the arguments over it.
    pub(crate) fn load(args: &ConfigArgs) -> Result<Loaded, Problem> {
        let text = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let at = args.config.as_deref().map_or("the defaults".to_owned(), |p| p.display().to_string());
        let file: toml::Table = toml::from_str(&text).map_err(|e| invalid(&at, &e))?;
        // From the text, not the table: only so do errors name the line.
        let mut config: Config = toml::from_str(&text).map_err(|e| invalid(&at, &e))?;
        config.orchestration.validate().map_err(|e| invalid(&at, &e))?;
        if let Some(dir) = &args.data_dir {
            config.data_dir.clone_from(dir);
        }
        if let Some(listen) = &args.listen {
            config.listen.clone_from(listen);
        }
        Ok(Loaded { config, file })
    }

    /// The proxy's token file, as an absolute or working-directory path.
    pub(crate) fn admin_token_file(&self) -> PathBuf {
        self.data_dir.join(&self.proxy.admin_token_file)
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let fail = |e: std::io::Error| invalid(&path.display().to_string(), &e);
    let bytes = std::fs::metadata(path).map_err(fail)?.len();
    if bytes > MAX_CONFIG_BYTES {
        return Err(invalid(
            &path.display().to_string(),
            &format!("it has {bytes} bytes, the limit is {MAX_CONFIG_BYTES}"),
        ));
    }
    std::fs::read_to_string(path).map_err(fail)
}

pub(crate) fn invalid(at: &str, why: &dyn std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::ConfigInvalid, format!("{at}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Problem> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let args = ConfigArgs { config: Some(file.path().to_owned()), ..ConfigArgs::default() };
        Config::load(&args).map(|loaded| loaded.config)
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        assert_eq!(load("").unwrap(), Config::default());
    }

    #[test]
    fn sections_are_read_and_the_rest_keeps_its_default() {
        let config =
            load("listen = \"127.0.0.1:0\"\n[orchestration]\ndefault_model = \"m\"\n[limits]\ntokens = 5\n");
        let config = config.unwrap();
        assert_eq!(
            (config.listen.as_str(), config.orchestration.default_model.as_str()),
            ("127.0.0.1:0", "m")
        );
        assert_eq!(config.limits.tokens.0, 5);
        assert_eq!(config.log, "info");
    }

    #[test]
    fn what_is_not_known_is_refused_by_name_and_line() {
        for text in [
            "lisen = \"x\"",
            "[orchestration]\nmodle = \"m\"",
            "[limits]\ntoken = 1",
            "[proxy]\nuri = \"x\"",
            "listen",
        ] {
            let problem = load(text).unwrap_err();
            assert_eq!(problem.code, ErrorCode::ConfigInvalid);
            assert!(problem.detail.contains("line "), "{}", problem.detail);
        }
    }

    #[test]
    fn weights_and_caps_out_of_bounds_are_refused_by_name() {
        let text = "[orchestration.scheduling]\nmax_per_job = 4\ntenant_weights = { acme = 3 }\n";
        let scheduling = load(text).unwrap().orchestration.scheduling;
        assert_eq!((scheduling.max_per_job, scheduling.tenant_weights.len()), (Some(4), 1));
        let problem = load(&text.replace('3', "0")).unwrap_err();
        assert_eq!(problem.code, ErrorCode::ConfigInvalid);
        assert!(problem.detail.contains("scheduling.tenant_weights.acme"), "{}", problem.detail);
    }

    #[test]
    fn arguments_go_before_the_file() {
        let args = ConfigArgs { listen: Some("127.0.0.1:1".to_owned()), ..ConfigArgs::default() };
        assert_eq!(Config::load(&args).unwrap().config.listen, "127.0.0.1:1");
    }
}
