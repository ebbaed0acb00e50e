//! People: those who meddle, and those who help a job to its end.

use std::collections::BTreeSet;

use df_contract::{JobState, NanoUsd, Role, TaskSlug, Tokens};
use df_control_machine::step::over_budget;
use df_control_machine::{Caps, CommandBody};

use crate::shapes;
use crate::world::World;

impl World {
    fn vote(&mut self, job: usize, who: &str, approve: bool) -> bool {
        let roles = BTreeSet::from([Role::Approver]);
        let body = CommandBody::Vote {
            approve,
            roles,
            seen: df_control_machine::Seen::default(),
            comment: String::new(),
        };
        self.send(job, who, body).is_ok()
    }

    /// Anything a person may do at any time.
    pub(crate) fn meddle(&mut self, job: usize) {
        let by = self.rng.one_of(&["alice", "bob", "carol"]).unwrap();
        let body = match self.rng.below(24) {
            0..5 => CommandBody::Pause { cause: "somebody wants to look".into() },
            5..10 => CommandBody::Resume,
            10 => CommandBody::Cancel { cause: "not wanted".into() },
            11..14 => CommandBody::Message { by: by.into(), text: format!("note {}", self.fresh()) },
            14..16 => self.more_budget(job, by),
            16..18 => CommandBody::SetPriority { priority: self.rng.below(201) as i8 },
            18..21 => {
                let approve = self.rng.chance(70);
                self.vote(job, by, approve);
                return;
            }
            _ => CommandBody::Rollback { to: self.merged(job) },
        };
        // Refused where it does not fit; that is the machine's to say.
        let _fits = self.send(job, by, body);
    }

    fn merged(&mut self, job: usize) -> Option<TaskSlug> {
        let merged = self.jobs[job].record.integrated();
        self.rng.one_of(&merged).filter(|_| self.rng.chance(80))
    }

    fn more_budget(&mut self, job: usize, by: &str) -> CommandBody {
        let record = &self.jobs[job].record;
        let caps = record.caps().unwrap_or(Caps { tokens: Tokens(0), money_nano_usd: None });
        let more = 1 + self.rng.next() % 5_000;
        let caps = Caps {
            tokens: caps.tokens.saturating_add(Tokens(more)),
            money_nano_usd: caps.money_nano_usd.map(|cap| cap.saturating_add(NanoUsd(20 * more))),
        };
        let expires_at = self.now().plus(df_contract::DurationMs(1 + self.rng.next() % 5_000_000));
        CommandBody::RequestBudget { by: by.into(), caps, rule: shapes::rule(&mut self.rng), expires_at }
    }

    /// What waits for people is given, and what is paused goes on.
    pub(crate) fn agree(&mut self, job: usize) {
        for who in ["bob", "carol", "dave"] {
            self.vote(job, who, true);
        }
        if self.jobs[job].record.state != JobState::Paused {
            return;
        }
        if over_budget(&self.jobs[job].record) {
            let body = self.more_budget(job, "bob");
            let _asked = self.send(job, "bob", body);
            for who in ["carol", "dave"] {
                self.vote(job, who, true);
            }
        }
        if self.jobs[job].record.state == JobState::Paused {
            let _resumed = self.send(job, "bob", CommandBody::Resume);
        }
    }
}
