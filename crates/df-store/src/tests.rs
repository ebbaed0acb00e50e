//! One conformance suite for every backend, and what only a database can show.

mod agents;
mod agents_migrated;
pub(crate) mod bench;
mod cached;
mod clocks;
mod cost;
mod database;
mod differential;
mod faulty;
mod migrated;
mod scheduled;
mod suite;
mod torture;

/// Runs the whole suite against one backend.
macro_rules! store_test_suite {
    ($backend:ident, $bench:expr, [$($test:ident),+ $(,)?]) => {
        mod $backend {
            $(
                #[tokio::test]
                async fn $test() {
                    super::suite::$test($bench).await;
                }
            )+
        }
    };
}

macro_rules! conformance {
    ($backend:ident, $bench:expr) => {
        store_test_suite!(
            $backend,
            $bench,
            [
                a_job_runs_to_completion,
                a_repeated_command_returns_its_first_outcome,
                a_command_id_is_bound_to_its_body_and_job,
                a_refused_command_writes_nothing,
                a_batch_takes_each_command_on_its_own,
                an_old_epoch_is_refused,
                claims_race_for_distinct_tasks,
                claims_respect_class_capacity_and_time,
                claims_prefer_priority_then_age,
                one_change_is_merged_at_a_time,
                heartbeats_extend_and_name_lost_leases,
                dead_sessions_are_reaped,
                a_clock_that_goes_back_keeps_no_dead_session,
                a_lease_whose_claim_was_never_answered_comes_back,
                overdue_and_silent_attempts_are_reaped,
                progress_is_fenced_and_kept_once,
                progress_of_a_job_is_bounded,
                a_wild_progress_number_is_refused,
                a_panic_undoes_one_operation,
                a_stale_result_leaves_a_trace_and_nothing_else,
                what_all_attempts_left_is_kept,
                events_have_no_gaps,
                every_version_has_audit_records_that_verify,
                effects_wait_in_the_outbox,
                spend_moves_the_cursor_with_it,
                jobs_are_listed_in_pages,
                keys_are_found_by_hash,
                subscribers_hear_of_changes,
                a_closed_store_says_so,
                everything_survives_reopening,
                timers_follow_the_record,
                open_jobs_come_in_pages_and_are_counted,
                done_effects_are_forgotten_when_they_are_old,
                every_blob_that_a_job_names_is_found,
            ]
        );
    };
}

conformance!(memory, super::bench::Bench::memory());
conformance!(sqlite, super::bench::Bench::sqlite());

/// A job whose row is damaged is passed over: the others are leased, reaped and charged as before.
#[tokio::test]
async fn a_damaged_job_does_not_hold_up_the_others() {
    use df_contract::WorkerClass;
    use df_contract::decision::Verdict;
    use df_control_machine::CommandBody;

    let mut bench = bench::Bench::sqlite();
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(bench.submit(0).await);
        bench.advance(jobs[jobs.len() - 1], Verdict::Approved).await;
    }
    let (first, second, third) = (jobs[0], jobs[1], jobs[2]);
    let session = bench.session(WorkerClass::Trusted, 8).await;
    assert_eq!(
        bench.claim(session, 1).await[0].job,
        first,
        "the oldest goes first, and is damaged while leased"
    );
    let file = bench.dir.as_ref().unwrap().path().join(crate::sqlite::FILE);
    let connection = rusqlite::Connection::open(file).unwrap();
    let damage = |job: df_contract::JobId| {
        connection.execute("UPDATE jobs SET body = '{' WHERE id = ?1", [job.to_string()]).unwrap();
    };
    damage(first);
    damage(second);
    // What the writer has at hand does not show the damage.
    bench.reopen().await;
    let leased = bench.claim(session, 1).await;
    assert_eq!(leased[0].job, third);
    let body = CommandBody::RecordSpend {
        slug: "intake".parse().unwrap(),
        spend: df_contract::api::Spend { calls: 1, ..Default::default() },
        through: 9,
    };
    let batch = vec![bench.command(first, "daemon", body.clone()), bench.command(third, "daemon", body)];
    let outcomes = bench.store.commit_spend(0, 9, batch).await.unwrap().unwrap();
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
    bench.sleep(bench::WALL);
    let returned = bench.reap(8).await.returned;
    assert_eq!(returned.iter().map(|lease| lease.0).collect::<Vec<_>>(), [third]);
}

macro_rules! registry_conformance {
    ($backend:ident, $bench:expr) => {
        mod $backend {
            use super::agents;

            #[tokio::test]
            async fn agents_have_versions_and_a_current_one() {
                agents::agents_have_versions_and_a_current_one($bench).await;
            }
            #[tokio::test]
            async fn a_name_is_its_first_registrants() {
                agents::a_name_is_its_first_registrants($bench).await;
            }
            #[tokio::test]
            async fn an_identity_is_kept_to_its_first_key() {
                agents::an_identity_is_kept_to_its_first_key($bench).await;
            }
            #[tokio::test]
            async fn versions_are_switched_and_pinned() {
                agents::versions_are_switched_and_pinned($bench).await;
            }
            #[tokio::test]
            async fn tenants_may_use_one_name() {
                agents::tenants_may_use_one_name($bench).await;
            }
        }
    };
}

registry_conformance!(registry_memory, super::bench::Bench::memory());
registry_conformance!(registry_sqlite, super::bench::Bench::sqlite());
