//! The order in which ComfyUI runs nodes, so that progress looks the same.

use super::check::CheckedNode;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Orders everything that `outputs` need so that a node comes after what it depends on.
///
/// Of the nodes that could run next, an output node comes first, then one that feeds an output node, then one two
/// links away from an output node, then the others; equals in the order in which a depth-first walk from the
/// outputs meets them.
///
/// # Source
/// Order of execution observed on ComfyUI 0.3.64.
pub(super) fn execution_order(
    checked: &[Option<CheckedNode>],
    outputs: &[usize],
    is_output: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let sources = |node: usize| {
        let edges = checked[node].as_ref().map_or(&[][..], |node| &node.edges[..]);
        edges.iter().map(|edge| edge.source)
    };
    let met = walk(checked.len(), outputs, &sources);
    let mut waits_for = vec![0_usize; checked.len()];
    let mut consumers: Vec<Vec<usize>> = vec![Vec::new(); checked.len()];
    let mut rank = vec![0_usize; checked.len()];
    for (place, &node) in met.iter().enumerate() {
        rank[node] = place;
        for source in sources(node) {
            waits_for[node] += 1;
            consumers[source].push(node);
        }
    }
    let feeds = |node: usize, test: &dyn Fn(usize) -> bool| consumers[node].iter().any(|&to| test(to));
    let mut distance = vec![3_u8; checked.len()];
    for &node in &met {
        if is_output(node) {
            distance[node] = 0;
        } else if feeds(node, &is_output) {
            distance[node] = 1;
        }
    }
    let near = distance.clone();
    for &node in &met {
        if near[node] == 3 && feeds(node, &|to| near[to] == 1) {
            distance[node] = 2;
        }
    }
    let mut ready: BinaryHeap<Reverse<(u8, usize)>> = BinaryHeap::new();
    let ready_entry = |node: usize| Reverse((distance[node], rank[node]));
    ready.extend(met.iter().filter(|&&node| waits_for[node] == 0).map(|&node| ready_entry(node)));
    let mut order = Vec::with_capacity(met.len());
    while let Some(Reverse((_, place))) = ready.pop() {
        let node = met[place];
        order.push(node);
        for &consumer in &consumers[node] {
            waits_for[consumer] -= 1;
            if waits_for[consumer] == 0 {
                ready.push(ready_entry(consumer));
            }
        }
    }
    order
}

/// Every node that the outputs reach, in the order of a depth-first walk that takes the last link first.
fn walk<I: Iterator<Item = usize>>(
    count: usize,
    outputs: &[usize],
    sources: &impl Fn(usize) -> I,
) -> Vec<usize> {
    let mut is_met = vec![false; count];
    let mut met = Vec::new();
    for &output in outputs {
        let mut stack = vec![output];
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut is_met[node], true) {
                met.push(node);
                stack.extend(sources(node));
            }
        }
    }
    met
}
