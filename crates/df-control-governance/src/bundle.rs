//! Policy bundles: Rego packs, checked and tested when they are loaded, evaluated in process without a clock,
//! randomness or a network.
//!
//! A pack is the files under one folder, in the package `devfactory.<folder>`. What it must define, and how to write
//! and test one: docs/governance.md.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use df_contract::canonical::CanonicalError;
use df_contract::{Action, Digest, Reason, Role, Scope, digest_json};
use regorus::utils::limits::ExecutionTimerConfig;

use crate::authorise::{Access, Denial, authorise};
use crate::facts::{JobFacts, OperatorLimits};
use crate::obligations::Tightening;

mod embedded;
mod output;
mod syntax;

pub use embedded::{default_bundle, default_files};

/// Files in one bundle.
pub const MAX_FILES: usize = 256;
/// Bytes of one policy file.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
/// Wall time of one rule. Far above what any honest rule needs: it ends loops, and ending one refuses the job.
pub const EVALUATION_LIMIT: Duration = Duration::from_secs(20);
/// Units of work between two looks at the time.
const TIMER_INTERVAL: NonZeroU32 = NonZeroU32::new(1024).unwrap();

/// Why a bundle is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("{what} is {got}, the limit is {limit}")]
    TooLarge { what: String, got: usize, limit: usize },
    #[error("`{path}` must be <pack>/<name>.rego, with a pack name of lower-case letters, digits and `_`")]
    Path { path: String },
    #[error("`{path}` belongs to the base pack, which cannot be changed or added to")]
    BasePack { path: String },
    #[error("`{path}` does not parse: {why}")]
    Syntax { path: String, why: String },
    #[error("`{path}` is in package `{package}`; files under `{pack}/` are in `devfactory.{pack}`")]
    Package { path: String, package: String, pack: String },
    #[error("`{path}` line {line}: `{name}` is not allowed in a policy ({why})")]
    Forbidden { path: String, line: u64, name: String, why: &'static str },
    #[error("`{path}` line {line}: there is no fact `{fact}`")]
    UnknownFact { path: String, line: u64, fact: String },
    #[error("pack `{pack}` defines none of {}", output::OUTPUTS.join(", "))]
    NoOutput { pack: String },
    #[error(
        "pack `{pack}` has no tests: put rules named test_* into {pack}/*_test.rego, package devfactory.{pack}_test"
    )]
    NoTests { pack: String },
    #[error("policy tests failed: {}", .0.join("; "))]
    TestsFailed(Vec<String>),
    #[error("the bundle cannot be prepared: {0}")]
    Prepare(String),
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

/// A loaded bundle. Immutable; evaluating it from several threads gives the same bytes.
#[derive(Clone)]
pub struct PolicyBundle {
    engine: regorus::Engine,
    packs: Vec<Pack>,
    digest: Digest,
    tests: usize,
}

/// One pack and which of the known outputs it defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pack {
    pub(crate) name: String,
    pub(crate) outputs: BTreeSet<String>,
}

/// What all packs together said about a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Judgement {
    pub(crate) reasons: Vec<Reason>,
    pub(crate) tightenings: Vec<Tightening>,
}

impl std::fmt::Debug for PolicyBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyBundle")
            .field("digest", &self.digest)
            .field("packs", &self.packs)
            .finish_non_exhaustive()
    }
}

impl PolicyBundle {
    /// Loads the base pack and `files` (path → text, paths like `privacy/privacy.rego`), checks them and runs every
    /// pack's tests.
    pub fn load(files: BTreeMap<String, String>) -> Result<Self, BundleError> {
        let mut all = embedded::base_files();
        for (path, text) in files {
            let in_base = path.starts_with("base/");
            match all.get(&path) {
                Some(same) if *same == text => {}
                Some(_) => return Err(BundleError::BasePack { path }),
                None if in_base => return Err(BundleError::BasePack { path }),
                None => {
                    all.insert(path, text);
                }
            }
        }
        Self::load_exactly(&all)
    }

    /// Loads `files` and nothing else.
    pub(crate) fn load_exactly(files: &BTreeMap<String, String>) -> Result<Self, BundleError> {
        sizes(files)?;
        let digests: BTreeMap<&String, Digest> =
            files.iter().map(|(path, text)| (path, Digest::of(text.as_bytes()))).collect();
        let digest = digest_json(&digests)?;
        let (policies, tests): (Vec<_>, Vec<_>) =
            files.iter().partition(|(path, _)| !path.ends_with("_test.rego"));
        let mut engine = engine();
        add(&mut engine, &policies)?;
        let mut with_tests = engine.clone();
        add(&mut with_tests, &tests)?;
        let modules = syntax::read(&with_tests)?;
        let packs = syntax::check(&modules)?;
        let tests = run_tests(&mut with_tests, &packs, &modules)?;
        // The first evaluation prepares the engine; later clones share that work.
        for pack in &packs {
            for output in &pack.outputs {
                engine.set_input(regorus::Value::new_object());
                let _ = engine.eval_rule(format!("data.devfactory.{}.{output}", pack.name));
            }
        }
        Ok(Self { engine, packs, digest, tests })
    }

    /// SHA-256 over the canonical JSON of (path → SHA-256 of the file).
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Names of the packs, in order.
    pub fn packs(&self) -> impl Iterator<Item = &str> {
        self.packs.iter().map(|p| p.name.as_str())
    }

    /// How many policy tests passed when the bundle was loaded.
    pub fn tests_passed(&self) -> usize {
        self.tests
    }

    /// Asks every pack about a job. An undefined, failing or misshapen answer is a reason `policy.error` that refuses.
    pub(crate) fn judge(&self, facts: &JobFacts, limits: &OperatorLimits) -> Judgement {
        let input = serde_json::json!({ "job": facts, "limits": limits });
        let mut judgement = Judgement::default();
        for pack in &self.packs {
            for output in pack.outputs.iter().filter(|o| o.as_str() != output::ACCESS) {
                let value = self.evaluate(pack, output, &input);
                match value.and_then(|v| output::read(pack, output, v)) {
                    Ok(part) => {
                        judgement.reasons.extend(part.reasons);
                        judgement.tightenings.extend(part.tightenings);
                    }
                    Err(why) => judgement.reasons.push(output::policy_error(pack, output, &why)),
                }
            }
        }
        judgement
    }

    /// [`authorise`], tightened by the packs that define `deny_access`. A pack can only take away.
    pub fn authorise(&self, role: Role, action: Action, scope: Scope) -> Access {
        if let Access::Denied(denial) = authorise(role, action, scope) {
            return Access::Denied(denial);
        }
        let input = serde_json::json!({ "access": { "role": role, "action": action, "scope": scope } });
        for pack in self.packs.iter().filter(|p| p.outputs.contains(output::ACCESS)) {
            let value = self.evaluate(pack, output::ACCESS, &input);
            match value.and_then(|v| output::read(pack, output::ACCESS, v)) {
                Ok(part) => {
                    if let Some(reason) = part.reasons.into_iter().next() {
                        return Access::Denied(Denial { rule: reason.rule, message: reason.message });
                    }
                }
                Err(why) => {
                    let error = output::policy_error(pack, output::ACCESS, &why);
                    return Access::Denied(Denial { rule: error.rule, message: error.message });
                }
            }
        }
        Access::Allowed
    }

    fn evaluate(
        &self,
        pack: &Pack,
        output: &str,
        input: &serde_json::Value,
    ) -> Result<serde_json::Value, String> {
        let mut engine = self.engine.clone();
        engine.set_input(regorus::Value::from(input.clone()));
        match engine.eval_rule(format!("data.devfactory.{}.{output}", pack.name)) {
            Ok(regorus::Value::Undefined) => Err("it is undefined for this job".to_owned()),
            Ok(value) => serde_json::to_value(&value).map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }
}

fn engine() -> regorus::Engine {
    let mut engine = regorus::Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_gather_prints(true);
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: EVALUATION_LIMIT,
        check_interval: TIMER_INTERVAL,
    });
    engine
}

fn sizes(files: &BTreeMap<String, String>) -> Result<(), BundleError> {
    let too_large = |what: String, got, limit| Err(BundleError::TooLarge { what, got, limit });
    if files.len() > MAX_FILES {
        return too_large("the number of policy files".into(), files.len(), MAX_FILES);
    }
    match files.iter().find(|(_, text)| text.len() > MAX_FILE_BYTES) {
        Some((path, text)) => too_large(format!("`{path}`"), text.len(), MAX_FILE_BYTES),
        None => Ok(()),
    }
}

fn add(engine: &mut regorus::Engine, files: &[(&String, &String)]) -> Result<(), BundleError> {
    for (path, text) in files {
        engine
            .add_policy((*path).clone(), (*text).clone())
            .map_err(|e| BundleError::Syntax { path: (*path).clone(), why: e.to_string() })?;
    }
    Ok(())
}

fn run_tests(
    engine: &mut regorus::Engine,
    packs: &[Pack],
    modules: &[syntax::Module],
) -> Result<usize, BundleError> {
    let tests: BTreeSet<String> = modules.iter().flat_map(syntax::Module::tests).collect();
    for pack in packs {
        let prefix = format!("data.devfactory.{}_test.", pack.name);
        if !tests.iter().any(|t| t.starts_with(&prefix)) {
            return Err(BundleError::NoTests { pack: pack.name.clone() });
        }
    }
    let failed: Vec<String> = tests
        .iter()
        .filter_map(|test| match engine.eval_rule(test.clone()) {
            Ok(regorus::Value::Bool(true)) => None,
            Ok(value) => Some(format!("{test} is {value}")),
            Err(e) => Some(format!("{test}: {e}")),
        })
        .collect();
    if failed.is_empty() { Ok(tests.len()) } else { Err(BundleError::TestsFailed(failed)) }
}

#[cfg(test)]
mod tests;
