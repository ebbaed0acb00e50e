//! The packs that ship with the binary.

use std::collections::BTreeMap;

use super::{BundleError, PolicyBundle};

macro_rules! packs {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../policies/", $path)))),+]
    };
}

const FILES: &[(&str, &str)] = packs![
    "base/base.rego",
    "base/base_test.rego",
    "base/misuse.rego",
    "base/text.rego",
    "base/words.rego",
    "cost/cost.rego",
    "cost/cost_test.rego",
    "deployment/deployment.rego",
    "deployment/deployment_test.rego",
    "privacy/privacy.rego",
    "privacy/privacy_test.rego",
];

/// All packs that ship with the binary, by path. Add to these and give the whole to [`PolicyBundle::load`].
pub fn default_files() -> BTreeMap<String, String> {
    FILES.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// The base pack, which every bundle has.
pub(super) fn base_files() -> BTreeMap<String, String> {
    default_files().into_iter().filter(|(path, _)| path.starts_with("base/")).collect()
}

/// The bundle that ships with the binary.
pub fn default_bundle() -> Result<PolicyBundle, BundleError> {
    PolicyBundle::load(default_files())
}
