//! Where the tasks of a plan stand in a drawing from left to right: layers as columns, ordered and lined up so that
//! lines are short and cross seldom (Sugiyama, Tagawa and Toda 1981, with barycentres). A line over several layers
//! passes through places of its own, so that it never runs behind a task.

use super::Graph;

/// Times the columns are put in a better order, and lined up.
const SWEEPS: usize = 8;
/// Places for lines that pass a layer; with more, long lines are drawn straight.
const MAX_PASSES: usize = 20_000;

/// Height of a task and of a line that passes, with the room around it.
const TASK_HEIGHT: f64 = 68.0;
const PASS_HEIGHT: f64 = 14.0;

/// A place in a column: a task, or a line that passes.
#[derive(Debug, Clone)]
struct Place {
    task: Option<usize>,
    layer: usize,
    left: Vec<usize>,
    right: Vec<usize>,
    /// The middle, in pixels from the top.
    y: f64,
}

/// A line from one task to another: the middles it passes, each with its layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) through: Vec<(usize, f64)>,
}

/// The finished layout.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// The middle of each task, in pixels from the top.
    pub(super) y: Vec<f64>,
    pub(super) lines: Vec<Line>,
    pub(super) height: f64,
}

impl Layout {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut net = Net::of(graph);
        for sweep in 0..SWEEPS {
            net.reorder(sweep % 2 == 0);
        }
        net.stack();
        for sweep in 0..SWEEPS {
            net.line_up(sweep % 2 == 0);
        }
        net.finish(graph)
    }
}

struct Net {
    places: Vec<Place>,
    /// The places of each layer, from the top.
    columns: Vec<Vec<usize>>,
    /// The places of each line, ends included.
    lines: Vec<Vec<usize>>,
}

impl Net {
    fn of(graph: &Graph) -> Self {
        let place = |task: Option<usize>, layer| Place { task, layer, left: vec![], right: vec![], y: 0.0 };
        let mut places: Vec<Place> = (0..graph.layer.len()).map(|t| place(Some(t), graph.layer[t])).collect();
        let edges =
            || graph.order.iter().flat_map(|to| graph.before[*to].iter().map(move |from| (*from, *to)));
        let passes: usize = edges().map(|(from, to)| graph.layer[to] - graph.layer[from] - 1).sum();
        let mut lines = Vec::new();
        for (from, to) in edges() {
            let mut line = vec![from];
            if passes <= MAX_PASSES {
                for layer in graph.layer[from] + 1..graph.layer[to] {
                    line.push(places.len());
                    places.push(place(None, layer));
                }
            }
            line.push(to);
            for ends in line.windows(2) {
                places[ends[0]].right.push(ends[1]);
                places[ends[1]].left.push(ends[0]);
            }
            lines.push(line);
        }
        let mut columns = vec![Vec::new(); graph.depth()];
        for task in &graph.order {
            columns[graph.layer[*task]].push(*task);
        }
        for (at, place) in places.iter().enumerate().skip(graph.layer.len()) {
            columns[place.layer].push(at);
        }
        Self { places, columns, lines }
    }

    /// Sorts each column by the mean position of its neighbours in the one before (or behind).
    fn reorder(&mut self, forward: bool) {
        let mut position = vec![0.0; self.places.len()];
        for column in &self.columns {
            column.iter().enumerate().for_each(|(n, at)| position[*at] = n as f64);
        }
        for column in Self::directed(self.columns.len(), forward) {
            let mut wanted: Vec<(f64, usize)> = self.columns[column]
                .iter()
                .map(|at| (mean(self.neighbours(*at, forward), &position).unwrap_or(position[*at]), *at))
                .collect();
            wanted.sort_by(|a, b| a.0.total_cmp(&b.0));
            self.columns[column] = wanted.into_iter().map(|(_, at)| at).collect();
            self.columns[column].iter().enumerate().for_each(|(n, at)| position[*at] = n as f64);
        }
    }

    fn directed(columns: usize, forward: bool) -> Box<dyn Iterator<Item = usize>> {
        if forward { Box::new(0..columns) } else { Box::new((0..columns).rev()) }
    }

    fn neighbours(&self, at: usize, forward: bool) -> &[usize] {
        if forward { &self.places[at].left } else { &self.places[at].right }
    }

    fn height(&self, at: usize) -> f64 {
        if self.places[at].task.is_some() { TASK_HEIGHT } else { PASS_HEIGHT }
    }

    /// Puts each column together, its middle at zero.
    fn stack(&mut self) {
        for column in &self.columns {
            let total: f64 = column.iter().map(|at| self.height(*at)).sum();
            let mut top = -total / 2.0;
            for at in column {
                let height = self.height(*at);
                self.places[*at].y = top + height / 2.0;
                top += height;
            }
        }
    }

    /// Moves each place towards the mean of its neighbours as far as the order of its column allows: places that
    /// would overlap move together, by the mean of what they want (pool adjacent violators).
    fn line_up(&mut self, forward: bool) {
        for column in Self::directed(self.columns.len(), forward) {
            let column = &self.columns[column];
            // Blocks of (sum of wanted tops of the block, members, height).
            let mut blocks: Vec<(f64, usize, f64)> = Vec::new();
            for at in column {
                let y: Vec<f64> = self.neighbours(*at, forward).iter().map(|n| self.places[*n].y).collect();
                let wanted =
                    if y.is_empty() { self.places[*at].y } else { y.iter().sum::<f64>() / y.len() as f64 };
                let height = self.height(*at);
                let mut block = (wanted - height / 2.0, 1, height);
                while let Some((sum, members, tall)) = blocks.last().copied() {
                    if sum / members as f64 + tall <= block.0 / block.1 as f64 {
                        break;
                    }
                    // What the members below want of the block's top is less by what stands above them.
                    block = (sum + block.0 - tall * block.1 as f64, members + block.1, tall + block.2);
                    blocks.pop();
                }
                blocks.push(block);
            }
            let mut places = column.iter();
            for (sum, members, _) in blocks {
                let mut top = sum / members as f64;
                for at in places.by_ref().take(members) {
                    let height = self.height(*at);
                    self.places[*at].y = top + height / 2.0;
                    top += height;
                }
            }
        }
    }

    fn finish(self, graph: &Graph) -> Layout {
        let all = || (0..self.places.len()).map(|at| (self.places[at].y, self.height(at) / 2.0));
        let top = all().map(|(y, half)| y - half).fold(f64::INFINITY, f64::min);
        let bottom = all().map(|(y, half)| y + half).fold(f64::NEG_INFINITY, f64::max);
        let y = |at: usize| self.places[at].y - top;
        let through = |line: &[usize]| {
            line[1..line.len() - 1].iter().map(|at| (self.places[*at].layer, y(*at))).collect()
        };
        let line =
            |line: &Vec<usize>| Line { from: line[0], to: line[line.len() - 1], through: through(line) };
        Layout {
            y: (0..graph.layer.len()).map(y).collect(),
            lines: self.lines.iter().map(line).collect(),
            height: if graph.layer.is_empty() { 0.0 } else { bottom - top },
        }
    }
}

fn mean(of: &[usize], position: &[f64]) -> Option<f64> {
    let sum: f64 = of.iter().map(|at| position[*at]).sum();
    (!of.is_empty()).then(|| sum / of.len() as f64)
}
