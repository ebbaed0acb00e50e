//! One conformance suite for every backend, and what only a database can show.

mod bench;
mod database;
mod differential;
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
                a_lease_whose_claim_was_never_answered_comes_back,
                overdue_and_silent_attempts_are_reaped,
                progress_is_fenced_and_kept_once,
                progress_of_a_job_is_bounded,
                events_have_no_gaps,
                every_version_has_audit_records_that_verify,
                effects_wait_in_the_outbox,
                spend_moves_the_cursor_with_it,
                jobs_are_listed_in_pages,
                keys_are_found_by_hash,
                subscribers_hear_of_changes,
                a_closed_store_says_so,
                everything_survives_reopening,
            ]
        );
    };
}

conformance!(memory, super::bench::Bench::memory());
conformance!(sqlite, super::bench::Bench::sqlite());
