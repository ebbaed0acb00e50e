//! The graph of a plan: layers, ancestors, the longest chain, and drawings of it.

mod layout;
mod svg;
mod text;

use std::collections::{BTreeMap, BTreeSet};

pub use svg::svg;
pub use text::text;

use super::Plan;
use crate::{TaskSlug, TaskState};

/// What a drawing shows of tasks beside the plan itself; a task that is missing is drawn without a state.
pub type States = BTreeMap<TaskSlug, TaskState>;

/// The graph of a plan, by the places of its tasks in [`Plan::tasks`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// For each task the tasks it waits for, in ascending order.
    pub before: Vec<Vec<usize>>,
    /// For each task the tasks that wait for it, in ascending order.
    pub after: Vec<Vec<usize>>,
    /// Every task after all it waits for: layer by layer, and by slug within a layer.
    pub order: Vec<usize>,
    /// The layer of each task, from 0: one more than the highest layer of what it waits for.
    pub layer: Vec<usize>,
    /// For each task the length of the longest chain of tasks that begins with it and goes on with what waits for it.
    pub rank: Vec<usize>,
}

impl Graph {
    /// The graph; what the plan does not have is no dependency. The error names the tasks of one circle, each of
    /// which waits for the next.
    pub fn of(plan: &Plan) -> Result<Self, Vec<TaskSlug>> {
        let places: BTreeMap<&TaskSlug, usize> =
            plan.tasks.iter().enumerate().map(|(i, task)| (&task.slug, i)).collect();
        let mut after = vec![Vec::new(); plan.tasks.len()];
        let before: Vec<Vec<usize>> = plan
            .tasks
            .iter()
            .enumerate()
            .map(|(i, task)| {
                let on: BTreeSet<usize> =
                    task.depends_on.iter().filter_map(|slug| places.get(slug).copied()).collect();
                on.iter().for_each(|on: &usize| after[*on].push(i));
                on.into_iter().collect()
            })
            .collect();
        let layer = layers(&before, &after)
            .map_err(|circle| circle.into_iter().map(|i| plan.tasks[i].slug.clone()).collect::<Vec<_>>())?;
        let mut order: Vec<usize> = (0..plan.tasks.len()).collect();
        order.sort_by_key(|i| (layer[*i], &plan.tasks[*i].slug));
        let mut rank = vec![1; plan.tasks.len()];
        for i in order.iter().rev() {
            rank[*i] = 1 + after[*i].iter().map(|next| rank[*next]).max().unwrap_or(0);
        }
        Ok(Self { before, after, order, layer, rank })
    }

    /// How many layers there are.
    pub fn depth(&self) -> usize {
        self.layer.iter().max().map_or(0, |last| last + 1)
    }

    /// How many tasks the fullest layer has: so many can be worked on at once.
    pub fn width(&self) -> usize {
        let mut of_layer = vec![0; self.depth()];
        self.layer.iter().for_each(|layer| of_layer[*layer] += 1);
        of_layer.into_iter().max().unwrap_or(0)
    }

    /// The tasks of the longest chain, first to last; of several the one whose tasks come first by layer and slug.
    pub fn critical_path(&self) -> Vec<usize> {
        let place: BTreeMap<usize, usize> = self.order.iter().enumerate().map(|(n, i)| (*i, n)).collect();
        let longest = |of: &mut dyn Iterator<Item = usize>| {
            of.min_by_key(|i| (std::cmp::Reverse(self.rank[*i]), place.get(i).copied()))
        };
        let mut path = Vec::new();
        let mut next = longest(&mut self.order.iter().copied());
        while let Some(task) = next {
            path.push(task);
            next = longest(&mut self.after[task].iter().copied());
        }
        path
    }

    /// Who waits for whom, directly or not.
    pub(super) fn ancestors(&self) -> Ancestors {
        let words = self.before.len().div_ceil(WORD_BITS);
        let mut bits = vec![0; words * self.before.len()];
        for task in &self.order {
            for on in &self.before[*task] {
                for word in 0..words {
                    bits[task * words + word] |= bits[on * words + word];
                }
                bits[task * words + on / WORD_BITS] |= 1 << (on % WORD_BITS);
            }
        }
        Ancestors { words, bits }
    }
}

const WORD_BITS: usize = u64::BITS as usize;

/// A row of bits for each task: the tasks it waits for.
pub(super) struct Ancestors {
    words: usize,
    bits: Vec<u64>,
}

impl Ancestors {
    /// Whether one of the two waits for the other.
    pub(super) fn ordered(&self, a: usize, b: usize) -> bool {
        self.waits(a, b) || self.waits(b, a)
    }

    fn waits(&self, task: usize, on: usize) -> bool {
        self.bits[task * self.words + on / WORD_BITS] & (1 << (on % WORD_BITS)) != 0
    }
}

/// The layer of each task, by taking away again and again what waits for nothing (Kahn 1962). The error is a circle.
fn layers(before: &[Vec<usize>], after: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut waits: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut layer = vec![0; before.len()];
    let mut free: Vec<usize> = (0..before.len()).filter(|i| waits[*i] == 0).collect();
    let mut taken = 0;
    while let Some(task) = free.pop() {
        taken += 1;
        for next in &after[task] {
            layer[*next] = layer[*next].max(layer[task] + 1);
            waits[*next] -= 1;
            if waits[*next] == 0 {
                free.push(*next);
            }
        }
    }
    if taken == before.len() { Ok(layer) } else { Err(circle(before, &waits)) }
}

/// Whatever is left waits for something that is left too: following it must come back somewhere.
fn circle(before: &[Vec<usize>], waits: &[usize]) -> Vec<usize> {
    let mut seen = vec![None; before.len()];
    let mut path: Vec<usize> = Vec::new();
    let mut next = waits.iter().position(|left| *left > 0);
    while let Some(task) = next {
        if let Some(start) = seen[task] {
            return path.split_off(start);
        }
        seen[task] = Some(path.len());
        path.push(task);
        next = before[task].iter().copied().find(|on| waits[*on] > 0);
    }
    path
}

impl Plan {
    /// Tasks in layers: each depends only on earlier layers. The error names the tasks of a circle.
    pub fn layers(&self) -> Result<Vec<Vec<TaskSlug>>, Vec<TaskSlug>> {
        let graph = Graph::of(self)?;
        let mut layers = vec![Vec::new(); graph.depth()];
        for task in &graph.order {
            layers[graph.layer[*task]].push(self.tasks[*task].slug.clone());
        }
        Ok(layers)
    }
}
