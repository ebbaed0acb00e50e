//! The key with which a person signs what they register: 32 bytes as hex, in a file that nobody else can read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use df_contract::{ErrorCode, Problem};

/// Where it is when nobody says otherwise, below the configuration directory.
const PLACE: &str = "devfactory/signing.key";

/// A signing key, and whether it was made just now.
pub(crate) struct SigningKey {
    pub(crate) seed: [u8; 32],
    pub(crate) path: PathBuf,
    pub(crate) is_new: bool,
}

/// Reads the key, or makes one at its first use.
pub(crate) fn read_or_make(given: Option<&Path>) -> anyhow::Result<SigningKey> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => default_path()?,
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(SigningKey { seed: parse(&path, &text)?, path, is_new: false }),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Ok(SigningKey { seed: make(&path)?, path, is_new: true })
        }
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
    }
}

fn default_path() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let missing = "neither XDG_CONFIG_HOME nor HOME is set; name the signing key with --signing-key";
    Ok(config.ok_or_else(|| wrong(missing.to_owned()))?.join(PLACE))
}

fn wrong(told: String) -> Problem {
    Problem::new(ErrorCode::ConfigInvalid, told)
}

fn parse(path: &Path, text: &str) -> anyhow::Result<[u8; 32]> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        let told = format!(
            "{} has mode {:04o}: others can read it; run chmod 600 on it, or sign with another key",
            path.display(),
            mode & 0o7777
        );
        return Err(wrong(told).into());
    }
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed)
        .map_err(|_| wrong(format!("{} does not hold a key of 64 hex digits", path.display())))?;
    Ok(seed)
}

fn make(path: &Path) -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut seed);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(format!("{}\n", hex::encode(seed)).as_bytes())?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("writing the signing key {}", path.display()))?;
    Ok(seed)
}
