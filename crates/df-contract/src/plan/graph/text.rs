//! The graph as text: one row per task, with the lines of what still waits for earlier tasks at its left.

use std::fmt::Write as _;

use super::{Graph, States};
use crate::plan::{Plan, PlanTask};
use crate::{TaskSlug, TaskState};

/// Columns of the widest row.
const COLUMNS: usize = 100;
/// Lines side by side; what finds no room is named in words.
const MAX_LANES: usize = 16;
/// Columns of a slug, and names of a list in words.
const SLUG_COLUMNS: usize = 28;
const NAMES: usize = 3;

/// Draws the plan from top to bottom, each task below all it waits for. Every row is at most 100 columns wide.
pub fn text(plan: &Plan, states: &States) -> String {
    let graph = match Graph::of(plan) {
        Ok(graph) => graph,
        Err(circle) => return format!("  (in a circle: {})\n", names(circle.iter())),
    };
    let path = graph.critical_path();
    let mut lanes = Lanes::new(&graph);
    let rows: Vec<Row> = graph.order.iter().map(|task| lanes.row(*task, path.contains(task))).collect();
    let drawn = rows.iter().map(|row| row.picture.trim_end().chars().count()).max().unwrap_or(0);
    let slugs = plan.tasks.iter().map(|t| t.slug.as_str().len()).max().unwrap_or(0).min(SLUG_COLUMNS);
    let roles = plan.tasks.iter().map(|t| t.role.as_str().len()).max().unwrap_or(0);
    let mut out = String::new();
    let mut layer = None;
    for row in rows {
        let task = &plan.tasks[row.task];
        let here = graph.layer[row.task];
        let wave = if layer.replace(here) == Some(here) { String::new() } else { (here + 1).to_string() };
        let picture: String = row.picture.chars().take(drawn).collect();
        let mut line = format!("{wave:>3}  {picture}  ");
        if !states.is_empty() {
            let _ = write!(line, "{:<9}  ", states.get(&task.slug).map_or("-", |state| shown(*state)));
        }
        let slug = cut(task.slug.as_str(), slugs);
        let _ = write!(line, "{slug:<slugs$}  {:<roles$}  ", task.role.as_str());
        line.push_str(&words(plan, task, &row));
        out.push_str(cut(&line, COLUMNS).trim_end());
        out.push('\n');
    }
    critical(plan, &path, &mut out);
    out
}

/// What a state is called in a drawing.
pub(super) const fn shown(state: TaskState) -> &'static str {
    match state {
        TaskState::Pending => "waiting",
        TaskState::Ready => "ready",
        TaskState::Leased => "running",
        TaskState::Succeeded => "done",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
        TaskState::Skipped => "left out",
    }
}

/// The title, after what could not be drawn.
fn words(plan: &Plan, task: &PlanTask, row: &Row) -> String {
    let agent = task.agent.as_ref().map(|agent| format!("[{agent}] ")).unwrap_or_default();
    let undrawn = match row.undrawn.as_slice() {
        [] => String::new(),
        on => format!("(after {}) ", names(on.iter().map(|i| &plan.tasks[*i].slug))),
    };
    format!("{agent}{undrawn}{}", one_line(&task.title))
}

fn names<'s>(slugs: impl ExactSizeIterator<Item = &'s TaskSlug>) -> String {
    let more = slugs.len().saturating_sub(NAMES);
    let first: Vec<&str> = slugs.take(NAMES).map(TaskSlug::as_str).collect();
    let first = first.join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

fn critical(plan: &Plan, path: &[usize], out: &mut String) {
    let mut line = format!("\n  ◆ the longest chain, {} of {} tasks:", path.len(), plan.tasks.len());
    for (n, task) in path.iter().enumerate() {
        let arrow = if n == 0 { " " } else { " → " };
        let slug = plan.tasks[*task].slug.as_str();
        if width(&line) + width(arrow) + slug.len() > COLUMNS {
            out.push_str(&line);
            line = "\n   ".to_owned();
        }
        line.push_str(arrow);
        line.push_str(slug);
    }
    out.push_str(&line);
    out.push('\n');
}

/// One task, drawn.
struct Row {
    task: usize,
    picture: String,
    /// What it waits for and no line shows.
    undrawn: Vec<usize>,
}

/// The lines from tasks above to tasks below. Each belongs to the task that others still wait for.
struct Lanes<'g> {
    graph: &'g Graph,
    open: [Option<usize>; MAX_LANES],
    /// For each task how many of those that wait for it are still to be drawn.
    left: Vec<usize>,
}

impl<'g> Lanes<'g> {
    fn new(graph: &'g Graph) -> Self {
        Self { graph, open: [None; MAX_LANES], left: graph.after.iter().map(Vec::len).collect() }
    }

    fn row(&mut self, task: usize, critical: bool) -> Row {
        let on = &self.graph.before[task];
        on.iter().for_each(|on| self.left[*on] -= 1);
        let lane_of = |task: &usize| self.open.iter().position(|lane| *lane == Some(*task));
        let joined: Vec<usize> = on.iter().filter_map(lane_of).collect();
        let undrawn: Vec<usize> = on.iter().copied().filter(|on| lane_of(on).is_none()).collect();
        let before = self.open;
        let ends = |lane: &usize| before[*lane].is_some_and(|source| self.left[source] == 0);
        let ended: Vec<usize> = joined.iter().copied().filter(ends).collect();
        // A task stands in the line of what only it still waited for, so that chains are straight.
        let free = || before.iter().position(Option::is_none);
        let place = ended.iter().min().copied().or_else(free).unwrap_or(MAX_LANES);
        ended.iter().for_each(|lane| self.open[*lane] = None);
        if place < MAX_LANES && !self.graph.after[task].is_empty() {
            self.open[place] = Some(task);
        }
        let node = if critical { '◆' } else { '●' };
        let picture = picture(&before, &joined, &ended, place, node);
        Row { task, picture, undrawn }
    }
}

fn picture(
    open: &[Option<usize>; MAX_LANES],
    joined: &[usize],
    ended: &[usize],
    place: usize,
    node: char,
) -> String {
    let low = joined.iter().copied().min().unwrap_or(place).min(place);
    let high = joined.iter().copied().max().unwrap_or(place).max(place);
    let lane = |lane: usize| {
        if lane == place {
            return node;
        }
        match (joined.contains(&lane), ended.contains(&lane), lane > low, lane < high) {
            (true, true, true, true) => '┴',
            (true, true, true, false) => '┘',
            (true, true, false, _) => '└',
            (true, false, true, true) => '┼',
            (true, false, true, false) => '┤',
            (true, false, false, _) => '├',
            (false, _, left, right) => match open.get(lane).is_some_and(Option::is_some) {
                true => '│',
                false if left && right => '─',
                false => ' ',
            },
        }
    };
    let gap = |lane: usize| if lane >= low && lane < high { '─' } else { ' ' };
    (0..=MAX_LANES).flat_map(|n| [lane(n), gap(n)]).collect()
}

/// Titles come from models: a line break, an escape sequence or a turn of the writing direction would draw what is not
/// there.
pub(super) fn one_line(text: &str) -> String {
    let turns = |c: &char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| !turns(c)).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn width(text: &str) -> usize {
    text.chars().filter(|c| !c.is_control()).map(columns).sum()
}

/// Columns of a character in a terminal, near enough: East Asian scripts and pictures take two, marks none.
pub(super) fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x0e31 | 0x0e34..=0x0e3a | 0x0e47..=0x0e4e | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The text, or as much of it as fits with a mark that it goes on.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 1);
    for c in text.chars() {
        used += columns(c);
        if used > limit {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}
