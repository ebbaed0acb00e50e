//! The graph as a picture: a self-contained SVG without scripts, from left to right.

use std::fmt::Write as _;

use super::layout::{Layout, Line};
use super::text::{cut, one_line, shown};
use super::{Graph, States};
use crate::TaskState;
use crate::plan::{Plan, PlanTask};

const BOX_WIDTH: usize = 216;
const BOX_HEIGHT: usize = 52;
const COLUMN_WIDTH: usize = 292;
const MARGIN: usize = 24;
const HEAD: usize = 64;
const FOOT: usize = 44;
/// Columns of text that fit into a box.
const SLUG_COLUMNS: usize = 24;
const TITLE_COLUMNS: usize = 31;
const SUMMARY_COLUMNS: usize = 110;
/// A picture is at least so wide that its heading fits.
const MIN_WIDTH: usize = 720;

const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;fill:#1f2933}\
.slug{font:600 13px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}\
.small{font-size:11px;fill:#52606d}.head{font-size:15px;font-weight:600}\
.box{stroke:#9aa5b1;stroke-width:1.2}.line{fill:none;stroke:#9aa5b1;stroke-width:1.4}\
.critical.box{stroke:#b44d12;stroke-width:2.6}.critical.line{stroke:#b44d12;stroke-width:2.6}";

/// Draws the plan from left to right: a column per layer, a box per task, the longest chain in bold.
pub fn svg(plan: &Plan, states: &States) -> String {
    let graph = match Graph::of(plan) {
        Ok(graph) => graph,
        Err(circle) => {
            let slugs: Vec<&str> = circle.iter().map(crate::TaskSlug::as_str).collect();
            return alone(&format!("The plan cannot be drawn: {} wait for each other.", slugs.join(", ")));
        }
    };
    let layout = Layout::of(&graph);
    let path = graph.critical_path();
    let drawn = 2 * MARGIN + graph.depth().max(1) * COLUMN_WIDTH - (COLUMN_WIDTH - BOX_WIDTH);
    let width = drawn.max(MIN_WIDTH);
    let bottom = HEAD + layout.height.ceil() as usize;
    let mut out = opening(width, bottom + FOOT, &format!("Plan: {}", plan.summary));
    let _ = writeln!(
        out,
        r#"<text class="head" x="{MARGIN}" y="28">{}</text>"#,
        escaped(&cut(&one_line(&plan.summary), width.min(940) * SUMMARY_COLUMNS / 940))
    );
    for layer in 0..graph.depth() {
        let _ = writeln!(out, r#"<text class="small" x="{}" y="52">wave {}</text>"#, x_of(layer), layer + 1);
    }
    let on_path = |from: usize, to: usize| path.windows(2).any(|pair| pair == [from, to]);
    // The bold lines last, so that they lie on top.
    for bold in [false, true] {
        for line in layout.lines.iter().filter(|line| on_path(line.from, line.to) == bold) {
            draw_line(&mut out, &graph, &layout, line, bold);
        }
    }
    for task in &graph.order {
        let at = (x_of(graph.layer[*task]), HEAD as f64 + layout.y[*task]);
        let state = states.get(&plan.tasks[*task].slug).copied();
        draw_task(&mut out, &plan.tasks[*task], state, at, path.contains(task));
    }
    legend(&mut out, states, bottom + 28, path.len());
    out.push_str("</svg>\n");
    out
}

fn x_of(layer: usize) -> usize {
    MARGIN + layer * COLUMN_WIDTH
}

fn opening(width: usize, height: usize, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        escaped(&one_line(title))
    )
}

fn alone(words: &str) -> String {
    let mut out = opening(MIN_WIDTH, HEAD, words);
    let _ = writeln!(out, r#"<text class="head" x="{MARGIN}" y="28">{}</text>"#, escaped(&cut(words, 90)));
    out.push_str("</svg>\n");
    out
}

fn draw_line(out: &mut String, graph: &Graph, layout: &Layout, line: &Line, bold: bool) {
    let y = |middle: f64| HEAD as f64 + middle;
    let mut at = (x_of(graph.layer[line.from]) + BOX_WIDTH, y(layout.y[line.from]));
    let mut path = format!("M{} {:.1}", at.0, at.1);
    let mut bend = |to: (usize, f64)| {
        let middle = usize::midpoint(at.0, to.0);
        let _ = write!(path, " C{middle} {:.1} {middle} {:.1} {} {:.1}", at.1, to.1, to.0, to.1);
        at = to;
    };
    for (layer, middle) in &line.through {
        bend((x_of(*layer), y(*middle)));
        // Past the boxes of the column in a straight line.
        bend((x_of(*layer) + BOX_WIDTH, y(*middle)));
    }
    bend((x_of(graph.layer[line.to]), y(layout.y[line.to])));
    let class = if bold { "critical line" } else { "line" };
    let _ = writeln!(out, r#"<path class="{class}" d="{path}"/>"#);
}

fn draw_task(out: &mut String, task: &PlanTask, state: Option<TaskState>, at: (usize, f64), bold: bool) {
    let (x, top) = (at.0, at.1 - BOX_HEIGHT as f64 / 2.0);
    let class = if bold { "critical box" } else { "box" };
    let who = match &task.agent {
        Some(agent) => agent.to_string(),
        None => task.role.as_str().to_owned(),
    };
    let detail = match state {
        Some(state) => format!("{who} · {}", shown(state)),
        None => who,
    };
    let (title, right) = (one_line(&task.title), x + BOX_WIDTH);
    let _ = writeln!(
        out,
        "<g><title>{slug}: {full}</title>\
         <rect class=\"{class}\" x=\"{x}\" y=\"{top:.1}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"7\" fill=\"{fill}\"/>\
         <text class=\"slug\" x=\"{text_x}\" y=\"{y1:.1}\">{short}</text>\
         <text class=\"small\" x=\"{text_x}\" y=\"{y2:.1}\">{what}</text>\
         <text class=\"small\" x=\"{text_x}\" y=\"{y3:.1}\">{detail}</text></g>",
        slug = escaped(task.slug.as_str()),
        full = escaped(&title),
        fill = fill(state),
        text_x = right - BOX_WIDTH + 10,
        y1 = top + 17.0,
        short = escaped(&cut(task.slug.as_str(), SLUG_COLUMNS)),
        y2 = top + 31.0,
        what = escaped(&cut(&title, TITLE_COLUMNS)),
        y3 = top + 45.0,
        detail = escaped(&cut(&detail, TITLE_COLUMNS)),
    );
}

const fn fill(state: Option<TaskState>) -> &'static str {
    match state {
        None => "#f5f7fa",
        Some(TaskState::Pending) => "#f5f7fa",
        Some(TaskState::Ready) => "#fff7d6",
        Some(TaskState::Leased) => "#dbeafe",
        Some(TaskState::Succeeded) => "#dcf5e3",
        Some(TaskState::Failed) => "#fbdcdc",
        Some(TaskState::Cancelled | TaskState::Skipped) => "#e4e7eb",
    }
}

/// What the colours mean, for the states that occur.
fn legend(out: &mut String, states: &States, y: usize, chain: usize) {
    let mut x = MARGIN;
    let _ = writeln!(
        out,
        "<path class=\"critical line\" d=\"M{x} {line} h24\"/><text class=\"small\" x=\"{text_x}\" y=\"{y}\">longest chain: {chain} tasks</text>",
        line = y - 4,
        text_x = x + 32,
    );
    x += 176;
    for state in TaskState::ALL.iter().filter(|state| states.values().any(|s| s == *state)) {
        let _ = writeln!(
            out,
            "<rect class=\"box\" x=\"{x}\" y=\"{top}\" width=\"14\" height=\"14\" rx=\"3\" fill=\"{fill}\"/><text class=\"small\" x=\"{text_x}\" y=\"{y}\">{name}</text>",
            top = y - 11,
            fill = fill(Some(*state)),
            text_x = x + 20,
            name = shown(*state),
        );
        x += 92;
    }
}

/// Text for SVG: nothing in it can end an element or an attribute, and what XML does not allow is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
