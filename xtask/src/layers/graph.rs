//! The workspace as a graph of packages; third-party crates are left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata};

/// Whether an edge ends up in a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EdgeKind {
    /// A normal or build dependency.
    Shipped,
    /// A dev-dependency.
    Dev,
}

impl EdgeKind {
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Shipped => "dependency",
            Self::Dev => "dev-dependency",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub from: String,
    pub to: String,
    pub kind: EdgeKind,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    pub packages: BTreeSet<String>,
    pub edges: BTreeSet<Edge>,
}

impl Graph {
    /// Reads declared dependencies, not resolved ones: an optional or platform-specific edge is an edge.
    pub(super) fn from_metadata(metadata: &Metadata) -> Self {
        let members = metadata.workspace_packages();
        let packages: BTreeSet<String> = members.iter().map(|package| package.name.to_string()).collect();
        let mut edges = BTreeSet::new();
        for package in members {
            for dependency in package.dependencies.iter().filter(|dep| packages.contains(&dep.name)) {
                let kind = match dependency.kind {
                    DependencyKind::Development => EdgeKind::Dev,
                    // An unknown kind is treated as shipped: the stricter reading.
                    DependencyKind::Normal | DependencyKind::Build | DependencyKind::Unknown => {
                        EdgeKind::Shipped
                    }
                };
                edges.insert(Edge { from: package.name.to_string(), to: dependency.name.clone(), kind });
            }
        }
        Self { packages, edges }
    }

    /// Everything `start` ships, each with one shortest path from `start`, for the message.
    pub(super) fn closure(&self, start: &str) -> BTreeMap<String, Vec<String>> {
        let mut reached: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut queue = VecDeque::from([vec![start.to_owned()]]);
        while let Some(path) = queue.pop_front() {
            let last = &path[path.len() - 1];
            let shipped = |edge: &&Edge| edge.from == *last && edge.kind == EdgeKind::Shipped;
            for edge in self.edges.iter().filter(shipped) {
                if !reached.contains_key(&edge.to) {
                    let longer: Vec<String> = path.iter().chain([&edge.to]).cloned().collect();
                    reached.insert(edge.to.clone(), longer.clone());
                    queue.push_back(longer);
                }
            }
        }
        reached
    }
}
