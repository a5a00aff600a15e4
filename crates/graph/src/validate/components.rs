//! Strongly connected components of the nodes that were checked: the cycles, and an order for everything else.

use super::check::CheckedNode;

/// Nodes grouped so that two are together exactly when each depends on the other. Sources come before consumers.
pub(super) struct Components {
    members: Vec<Vec<usize>>,
    of: Vec<usize>,
    cyclic: Vec<bool>,
}

impl Components {
    pub fn count(&self) -> usize {
        self.members.len()
    }

    pub fn members(&self, component: usize) -> &[usize] {
        &self.members[component]
    }

    /// The component of a node that was checked.
    pub fn of(&self, node: usize) -> usize {
        self.of[node]
    }

    /// Every checked node; outside cycles a node comes after what it depends on.
    pub fn sources_first(&self) -> impl Iterator<Item = usize> {
        self.members.iter().flatten().copied()
    }

    /// The components whose nodes depend on themselves.
    pub fn cycles(&self) -> impl Iterator<Item = &[usize]> {
        self.members.iter().zip(&self.cyclic).filter(|(_, cyclic)| **cyclic).map(|(members, _)| &members[..])
    }
}

const UNSEEN: usize = usize::MAX;

/// Finds the components in linear time.
///
/// # Source
/// Tarjan 1972, "Depth-first search and linear graph algorithms", with its recursion turned into a stack.
pub(super) fn components(checked: &[Option<CheckedNode>]) -> Components {
    let count = checked.len();
    let mut found = Components { members: Vec::new(), of: vec![UNSEEN; count], cyclic: Vec::new() };
    let mut search =
        Search { seen: vec![UNSEEN; count], low: vec![UNSEEN; count], open: Vec::new(), next: 0 };
    let sources = |node: usize| checked[node].as_ref().map_or(&[][..], |node| &node.edges[..]);
    for root in (0..count).filter(|&node| checked[node].is_some()) {
        if search.seen[root] != UNSEEN {
            continue;
        }
        search.enter(root);
        let mut path = vec![(root, 0)];
        while let Some((node, next_edge)) = path.last_mut() {
            let node = *node;
            if let Some(edge) = sources(node).get(*next_edge) {
                *next_edge += 1;
                if search.seen[edge.source] == UNSEEN {
                    search.enter(edge.source);
                    path.push((edge.source, 0));
                } else if found.of[edge.source] == UNSEEN {
                    search.low[node] = search.low[node].min(search.seen[edge.source]);
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                search.low[*parent] = search.low[*parent].min(search.low[node]);
            }
            if search.low[node] == search.seen[node] {
                let mut members = search.close(node);
                let links_itself = sources(node).iter().any(|edge| edge.source == node);
                found.cyclic.push(members.len() > 1 || links_itself);
                for member in &members {
                    found.of[*member] = found.members.len();
                }
                members.sort_unstable();
                found.members.push(members);
            }
        }
    }
    found
}

struct Search {
    /// When each node was entered.
    seen: Vec<usize>,
    /// The earliest entered node that each node is known to reach.
    low: Vec<usize>,
    /// Entered nodes that belong to no component yet.
    open: Vec<usize>,
    next: usize,
}

impl Search {
    fn enter(&mut self, node: usize) {
        (self.seen[node], self.low[node]) = (self.next, self.next);
        self.next += 1;
        self.open.push(node);
    }

    /// Takes the nodes entered since `first` out of the open ones.
    fn close(&mut self, first: usize) -> Vec<usize> {
        let start = self.open.iter().rposition(|node| *node == first).unwrap_or(0);
        self.open.split_off(start)
    }
}
