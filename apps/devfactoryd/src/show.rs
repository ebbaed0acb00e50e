//! Commands that look and change nothing.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context as _;

use crate::args::ConfigArgs;
use crate::config::Config;

/// `devfactoryd config show`: every value in force as `name = value`, with where it comes from.
pub(crate) fn config(args: &ConfigArgs) -> anyhow::Result<()> {
    let loaded = Config::load(args)?;
    let effective = toml::Value::try_from(&loaded.config).context("the configuration as TOML")?;
    let mut lines = Vec::new();
    flatten("", &effective, &mut lines);
    let given = [("data_dir", args.data_dir.is_some()), ("listen", args.listen.is_some())];
    let mut out = std::io::stdout().lock();
    for (name, value) in lines {
        let origin = if given.contains(&(name.as_str(), true)) {
            "argument"
        } else if is_in(&loaded.file, &name) {
            "file"
        } else {
            "default"
        };
        writeln!(out, "{name} = {value}  # {origin}").context("printing")?;
    }
    Ok(())
}

fn flatten(prefix: &str, value: &toml::Value, lines: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (name, inner) in table {
                let dotted = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&dotted, inner, lines);
            }
        }
        leaf => lines.push((prefix.to_owned(), leaf.to_string())),
    }
}

/// Whether the file itself sets the dotted `name`.
fn is_in(file: &toml::Table, name: &str) -> bool {
    let mut parts = name.split('.');
    let first = parts.next().and_then(|part| file.get(part));
    parts.try_fold(first, |at, part| Some(at?.get(part))).flatten().is_some()
}

/// `devfactoryd audit-export`: one JSON object per line.
pub(crate) fn audit_export(data_dir: &Path, out: Option<&Path>) -> anyhow::Result<()> {
    let lines = df_store::audit_export(data_dir)
        .with_context(|| format!("opening the store in {}", data_dir.display()))?;
    let mut out: Box<dyn Write> = match out {
        Some(path) => Box::new(File::create(path).with_context(|| format!("creating {}", path.display()))?),
        None => Box::new(std::io::stdout().lock()),
    };
    let mut writer = BufWriter::new(&mut out);
    for line in lines {
        serde_json::to_writer(&mut writer, &line.context("reading the audit log")?)
            .context("writing a line")?;
        writer.write_all(b"\n").context("writing a line")?;
    }
    writer.flush().context("writing the export")
}
