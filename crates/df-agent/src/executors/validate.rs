//! Validate: facts about the finished tree. A failed check is a fact here; policy judges it.

use df_contract::task::{Product, TreeRef};
use df_contract::{AcceptanceCheck, GateFacts, HiddenCheck};

use super::bench::Bench;
use super::checks::{run_check, run_hidden};
use super::stop::Stop;

pub(super) async fn run(
    bench: &Bench<'_>,
    base: &TreeRef,
    head: &TreeRef,
    acceptance: &[AcceptanceCheck],
    hidden: &[HiddenCheck],
) -> Result<Product, Stop> {
    bench.import(base).await?;
    bench.import(head).await?;
    let changed_paths = bench.repo.changed_paths(&base.revision, &head.revision).await?;
    let source = bench.facts(&head.revision).await?;
    let mut facts = GateFacts {
        acceptance: Vec::new(),
        hidden: Vec::new(),
        source,
        changed_paths,
        artefact: head.bundle.clone(),
    };
    for check in acceptance {
        facts.acceptance.push(run_check(bench, &head.revision, check).await?);
    }
    for check in hidden {
        facts.hidden.push(run_hidden(bench, &head.revision, check).await?);
    }
    Ok(Product::Gate { facts })
}
