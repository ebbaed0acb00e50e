//! The installation at a glance.

use df_contract::Timestamp;
use df_contract::api::{BreakerState, BreakerView, ReconcilerView, SystemView};

use super::{client, show};
use crate::args::Cli;

pub(crate) async fn status(cli: &Cli) -> anyhow::Result<()> {
    let system: SystemView = client(cli)?.get("/v1/system").await?;
    show(cli, &system, page)
}

fn page(system: &SystemView) -> String {
    let proxy = if system.proxy_reachable { "answers" } else { "does not answer" };
    let mut out = format!("devfactory {}; the proxy {proxy}\n", system.version);
    if system.model_accounts == Some(0) {
        out.push_str("no model: the proxy has no account and no recording; see devfactory doctor\n");
    }
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
    if !system.breakers.is_empty() {
        out.push_str("\nagents that have failed of late, by worker and tenant\n");
        system.breakers.iter().for_each(|view| out.push_str(&breaker(view)));
    }
    out.push_str("\nwhat runs by itself        rounds    last       did last  took      state\n");
    // Some run every second, so the last of all is about now, by the daemon's own clock.
    let now = system.reconcilers.iter().filter_map(|view| view.last_started.max(view.last_ended)).max();
    system.reconcilers.iter().for_each(|view| out.push_str(&reconciler(view, now)));
    out
}

fn breaker(view: &BreakerView) -> String {
    let left = view.open_for_ms.map_or(0, |left| left.0.div_ceil(1_000));
    let state = match view.state {
        BreakerState::Closed => format!("{} failures in a row", view.failures),
        BreakerState::Open => format!("gets no work for {left} s; opened {} times", view.trips),
        BreakerState::HalfOpen => "one task is out to see whether it works again".to_owned(),
    };
    let agent = format!("{} ({})", view.agent, view.runtime);
    format!("  {:<28} {:<16} {agent:<28} {state}\n", view.worker, view.tenant)
}

fn reconciler(view: &ReconcilerView, now: Option<Timestamp>) -> String {
    let last = match (view.last_started, now) {
        (Some(last), Some(now)) => format!("{} s ago", now.since(last).0 / 1_000),
        (None, _) | (_, None) => "-".to_owned(),
    };
    let took = match (view.last_started, view.last_ended) {
        (Some(from), Some(to)) if from <= to => format!("{} ms", to.since(from).0),
        (Some(_), Some(_) | None) => "runs now".to_owned(),
        (None, _) => "-".to_owned(),
    };
    let state = view.last_error.as_deref().unwrap_or(if view.runs == 0 { "has not run yet" } else { "well" });
    let every = format!("{} every {} s", view.name, view.every_ms.0 / 1_000);
    format!("  {every:<24} {:<9} {last:<10} {:<9} {took:<9} {state}\n", view.runs, view.last_did)
}

#[cfg(test)]
mod tests {
    use df_contract::DurationMs;

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
        let shown: Vec<String> =
            reconciler(&view, Some(Timestamp(8_000))).split_whitespace().map(str::to_owned).collect();
        assert_eq!(shown.join(" "), expect);
    }

    #[test]
    fn a_breaker_says_whom_it_shuts_off_and_how_long() {
        let check = |state, left: Option<u64>, expect: &str| {
            let view = BreakerView {
                worker: "w1".to_owned(),
                tenant: "acme".parse().unwrap(),
                runtime: "builtin".to_owned(),
                agent: "backend".parse().unwrap(),
                state,
                failures: 3,
                trips: 2,
                open_for_ms: left.map(DurationMs),
            };
            let shown: Vec<String> = breaker(&view).split_whitespace().map(str::to_owned).collect();
            assert_eq!(shown.join(" "), format!("w1 acme backend (builtin) {expect}"));
        };
        check(BreakerState::Closed, None, "3 failures in a row");
        check(BreakerState::Open, Some(29_500), "gets no work for 30 s; opened 2 times");
        check(BreakerState::HalfOpen, None, "one task is out to see whether it works again");
    }

    #[test]
    fn a_reconciler_says_how_it_goes() {
        check(0, None, None, "jobs every 60 s 0 - 3 - has not run yet");
        check(1, None, None, "jobs every 60 s 1 7 s ago 3 runs now well");
        check(2, Some(1_005), None, "jobs every 60 s 2 7 s ago 3 5 ms well");
        check(2, Some(1_005), Some("no store"), "jobs every 60 s 2 7 s ago 3 5 ms no store");
    }
}
