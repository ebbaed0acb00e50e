//! `cargo xtask layers`: the edges between packages are the architecture, so the build refuses the others.
//!
//! Three rules, all data in [`table`]: a direct edge must be in the table; a process's closure must not
//! contain the planes it is kept apart from; a pure crate must not reach a clock, a random source or a socket
//! through a third-party crate.

use std::collections::BTreeSet;

use crate::{outcome::Outcome, workspace::Workspace};

mod graph;
mod table;

use graph::{EdgeKind, Graph};
use table::{May, Rules};

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    let graph = Graph::from_metadata(&workspace.metadata()?);
    let mut problems = check(&graph, &table::RULES);
    for package in table::RULES.pure {
        let closure = third_party_closure(workspace, package)?;
        problems.extend(check_pure(package, &closure, &table::RULES));
    }
    let summary = format!(
        "layers: {} packages, {} workspace edges, all allowed",
        graph.packages.len(),
        graph.edges.len()
    );
    Ok(Outcome { problems, summary, ..Outcome::default() })
}

fn check(graph: &Graph, rules: &Rules) -> Vec<String> {
    let mut problems = check_edges(graph, rules);
    problems.extend(check_closures(graph, rules));
    problems
}

fn check_edges(graph: &Graph, rules: &Rules) -> Vec<String> {
    let mut problems = Vec::new();
    for package in &graph.packages {
        if rules.may(package).is_none() {
            problems.push(format!(
                "{package} has no row in the table of allowed edges (xtask/src/layers/table.rs)"
            ));
        }
    }
    for edge in &graph.edges {
        let dev_only = rules.dev_only.contains(&edge.to.as_str());
        let allowed = match (rules.may(&edge.from), edge.kind) {
            (_, EdgeKind::Shipped) if dev_only => false,
            (_, EdgeKind::Dev) if dev_only => true,
            (Some(May::Any), _) => true,
            (Some(May::Only(list)), _) => list.contains(&edge.to.as_str()),
            (None, _) => false,
        };
        if !allowed {
            let kind = edge.kind.noun();
            problems
                .push(format!("{} may not have a {kind} on {}; a new edge needs an RFC", edge.from, edge.to));
        }
    }
    problems
}

fn check_closures(graph: &Graph, rules: &Rules) -> Vec<String> {
    let mut problems = Vec::new();
    for (package, forbidden) in rules.forbidden {
        if !graph.packages.contains(*package) {
            problems.push(format!("{package} is guarded by a closure rule but is not in the workspace"));
        }
        for (reached, path) in graph.closure(package) {
            if forbidden.contains(&reached.as_str()) {
                problems.push(format!("{package} must never contain {reached}: {}", path.join(" -> ")));
            }
        }
    }
    problems
}

fn check_pure(package: &str, closure: &BTreeSet<String>, rules: &Rules) -> Vec<String> {
    let excused =
        |name: &str| rules.pure_excused.iter().any(|(owner, dep, _)| *owner == package && *dep == name);
    rules
        .ambient
        .iter()
        .filter(|name| closure.contains(**name) && !excused(name))
        .map(|name| format!("{package} is pure but reaches {name} (cargo tree -p {package} -i {name})"))
        .collect()
}

/// Names of all crates in a package's shipped closure. `cargo tree` and not `cargo metadata`, because
/// metadata unifies features over the whole workspace and would blame a crate for what another one enabled.
fn third_party_closure(workspace: &Workspace, package: &str) -> anyhow::Result<BTreeSet<String>> {
    let tree = workspace.output(
        "cargo",
        &["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"],
    )?;
    Ok(tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
