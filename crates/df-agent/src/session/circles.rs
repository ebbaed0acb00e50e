//! Notices an agent that goes round in circles, across turns: the same call with the same result, or two such calls
//! in turn.

use std::sync::LazyLock;

use df_contract::Digest;
use regex::Regex;

/// Equal steps in a row before a nudge, and before the end.
const SAME_NUDGE: usize = 3;
const SAME_END: usize = 5;
/// Steps of the form A B A B ... before a nudge, and before the end.
const TURN_NUDGE: usize = 6;
const TURN_END: usize = 8;

/// What the last steps look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Circle {
    None,
    /// Worth telling the agent, once.
    Nudge,
    /// Beyond hope.
    End,
}

/// The digests of the last steps.
#[derive(Debug, Default)]
pub(super) struct Circles {
    steps: Vec<Digest>,
}

impl Circles {
    pub(super) fn observe(&mut self, tool: &str, arguments: &str, result: &str) -> Circle {
        let step = format!("{tool}\0{arguments}\0{}", without_times(result));
        self.steps.push(Digest::of(step.as_bytes()));
        self.steps.drain(..self.steps.len().saturating_sub(TURN_END));
        let same = self.run_with_period(1);
        // A run of one and the same step alternates too; it is judged by its own limits.
        let turn = if same > 1 { 0 } else { self.run_with_period(2) };
        if same >= SAME_END || turn >= TURN_END {
            Circle::End
        } else if same == SAME_NUDGE || turn == TURN_NUDGE {
            Circle::Nudge
        } else {
            Circle::None
        }
    }

    /// How many of the last steps repeat with this period.
    fn run_with_period(&self, period: usize) -> usize {
        let steps = &self.steps;
        let repeats = (period..steps.len()).rev().take_while(|i| steps[*i] == steps[*i - period]).count();
        if repeats == 0 { 1 } else { repeats + period }
    }
}

/// Test runners print how long they took; that alone makes no step a new one.
fn without_times(text: &str) -> String {
    static TIMES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\d+\.\d+|\d+ ?ms").ok());
    TIMES.as_ref().map_or_else(|| text.to_owned(), |times| times.replace_all(text, "#").into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: &str, expect: &str) {
        let mut circles = Circles::default();
        let got: String = steps
            .chars()
            .map(|step| match circles.observe("read", &step.to_string(), "same") {
                Circle::None => '.',
                Circle::Nudge => 'n',
                Circle::End => 'X',
            })
            .collect();
        assert_eq!(got, expect, "{steps}");
    }

    #[test]
    fn repeated_steps_are_noticed() {
        check("aaaaa", "..n.X");
        check("aabaab", "......");
        check("aabbaa", "......");
        check("abababab", ".....n.X");
        check("xababab", "......n");
        check("abcabcabc", ".........");
        check("aaabaaa", "..n...n");
    }

    #[test]
    fn a_duration_makes_no_step_new_but_a_result_does() {
        let mut circles = Circles::default();
        for (n, expect) in [Circle::None, Circle::None, Circle::Nudge].into_iter().enumerate() {
            assert_eq!(circles.observe("exec", "t", &format!("Ran 3 tests in 0.00{n}s")), expect);
        }
        assert_eq!(circles.observe("exec", "t", "Ran 4 tests in 0.001s"), Circle::None);
    }
}
