//! The installation at a glance.

use df_contract::api::{ReconcilerView, SystemView};

use super::{client, show};
use crate::args::Cli;

pub(crate) async fn status(cli: &Cli) -> anyhow::Result<()> {
    let system: SystemView = client(cli)?.get("/v1/system").await?;
    show(cli, &system, page)
}

fn page(system: &SystemView) -> String {
    let proxy = if system.proxy_reachable { "answers" } else { "does not answer" };
    let mut out = format!("devfactory {}; the proxy {proxy}\n", system.version);
    for (state, count) in &system.jobs_by_state {
        out.push_str(&format!("  {:<20} {count}\n", state.as_str()));
    }
    out.push_str(&format!("\nworkers: {}\n", system.workers.len()));
    for worker in &system.workers {
        let class = format!("{:?}", worker.class).to_lowercase();
        out.push_str(&format!(
            "  {:<28} {class:<8} {} of {} leases\n",
            worker.name, worker.held, worker.capacity
        ));
    }
    out.push_str("\nwhat runs by itself        rounds    did last  took      state\n");
    system.reconcilers.iter().for_each(|view| out.push_str(&reconciler(view)));
    out
}

fn reconciler(view: &ReconcilerView) -> String {
    let took = match (view.last_started, view.last_ended) {
        (Some(from), Some(to)) if from <= to => format!("{} ms", to.since(from).0),
        (Some(_), Some(_) | None) => "runs now".to_owned(),
        (None, _) => "-".to_owned(),
    };
    let state = view.last_error.as_deref().unwrap_or(if view.runs == 0 { "has not run yet" } else { "well" });
    let every = format!("{} every {} s", view.name, view.every_ms.0 / 1_000);
    format!("  {every:<24} {:<9} {:<9} {took:<9} {state}\n", view.runs, view.last_did)
}

#[cfg(test)]
mod tests {
    use df_contract::{DurationMs, Timestamp};

    use super::*;

    fn check(runs: u64, ended: Option<u64>, error: Option<&str>, expect: &str) {
        let view = ReconcilerView {
            name: "jobs".to_owned(),
            every_ms: DurationMs(60_000),
            runs,
            last_started: (runs > 0).then_some(Timestamp(1_000)),
            last_ended: ended.map(Timestamp),
            last_error: error.map(str::to_owned),
            last_did: 3,
        };
        let shown: Vec<String> = reconciler(&view).split_whitespace().map(str::to_owned).collect();
        assert_eq!(shown.join(" "), expect);
    }

    #[test]
    fn a_reconciler_says_how_it_goes() {
        check(0, None, None, "jobs every 60 s 0 3 - has not run yet");
        check(1, None, None, "jobs every 60 s 1 3 runs now well");
        check(2, Some(1_005), None, "jobs every 60 s 2 3 5 ms well");
        check(2, Some(1_005), Some("no store"), "jobs every 60 s 2 3 5 ms no store");
    }
}
