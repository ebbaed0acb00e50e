use super::*;
use crate::layers::graph::Edge;

/// Lines of `a -> b` (shipped) and `a ~> b` (dev).
fn graph(text: &str) -> Graph {
    let mut graph = Graph::default();
    for (package, _) in table::RULES.forbidden {
        graph.packages.insert((*package).to_owned());
    }
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let kind = if words[1] == "~>" { EdgeKind::Dev } else { EdgeKind::Shipped };
        let (from, to) = (words[0].to_owned(), words[2].to_owned());
        graph.packages.extend([from.clone(), to.clone()]);
        graph.edges.insert(Edge { from, to, kind });
    }
    graph
}

fn problems(text: &str) -> Vec<String> {
    check(&graph(text), &table::RULES)
}

#[test]
fn an_allowed_graph_passes() {
    let none: Vec<String> = Vec::new();
    assert_eq!(
        problems(
            "devfactoryd -> df-gateway
             df-gateway -> df-orchestration
             df-orchestration -> df-store
             df-store -> df-control-audit
             df-store ~> df-testkit
             df-testkit -> df-store
             df-testkit -> df-sandbox"
        ),
        none
    );
}

#[test]
fn a_direct_edge_outside_the_table_is_refused() {
    let found = problems("df-contract -> df-scan");
    assert_eq!(found, ["df-contract may not have a dependency on df-scan; a new edge needs an RFC"]);
}

#[test]
fn a_dev_edge_outside_the_table_is_refused_too() {
    let found = problems("df-scan ~> df-store");
    assert_eq!(found, ["df-scan may not have a dev-dependency on df-store; a new edge needs an RFC"]);
}

#[test]
fn the_test_kit_is_refused_as_a_shipped_dependency() {
    let found = problems("df-store -> df-testkit");
    assert_eq!(found, ["df-store may not have a dependency on df-testkit; a new edge needs an RFC"]);
}

#[test]
fn a_package_without_a_row_is_refused() {
    let found = problems("df-surprise -> df-contract");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("df-surprise has no row"));
}

/// The closure rule must not lean on the table: here each single edge is judged by the closure alone.
#[test]
fn every_forbidden_closure_is_refused_through_any_number_of_steps() {
    for (package, forbidden) in table::RULES.forbidden {
        for target in *forbidden {
            let direct = graph(&format!("{package} -> {target}"));
            let distant = graph(&format!("{package} -> x\nx -> y\ny -> {target}"));
            assert_eq!(
                check_closures(&direct, &table::RULES),
                [format!("{package} must never contain {target}: {package} -> {target}")]
            );
            assert_eq!(
                check_closures(&distant, &table::RULES),
                [format!("{package} must never contain {target}: {package} -> x -> y -> {target}")]
            );
        }
    }
}

#[test]
fn a_dev_edge_does_not_count_towards_a_closure() {
    let graph = graph("devfactoryd ~> df-testkit\ndf-testkit -> df-agent");
    assert!(check_closures(&graph, &table::RULES).is_empty());
}

#[test]
fn a_renamed_process_does_not_escape_its_closure_rule() {
    let mut graph = graph("");
    graph.packages.remove("devfactoryd");
    let found = check_closures(&graph, &table::RULES);
    assert_eq!(found, ["devfactoryd is guarded by a closure rule but is not in the workspace"]);
}

#[test]
fn cycles_end() {
    let graph = graph("a -> b\nb -> a");
    assert_eq!(graph.closure("a").len(), 2);
}

#[test]
fn a_pure_crate_that_reaches_a_runtime_is_refused() {
    let closure: BTreeSet<String> = ["serde", "tokio", "rand"].map(str::to_owned).into();
    assert_eq!(check_pure("df-contract", &closure, &table::RULES).len(), 2);
    let excused = check_pure("df-control-governance", &closure, &table::RULES);
    assert_eq!(excused.len(), 1, "the exception names rand and nothing else: {excused:?}");
}

#[test]
fn the_real_workspace_is_read() {
    let workspace = Workspace::locate().unwrap();
    let graph = Graph::from_metadata(&workspace.metadata().unwrap());
    assert!(graph.packages.contains("df-contract"));
    assert!(graph.closure("devfactoryd").contains_key("df-contract"));
    let tree = third_party_closure(&workspace, "df-contract").unwrap();
    assert!(tree.contains("serde"), "{tree:?}");
}
