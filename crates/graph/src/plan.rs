//! Cuts a graph into the groups of nodes that stages run, leaving out what is already known.
//!
//! A group is as large as it can be, because everything inside it stays in the memory of one stage. Only values
//! that leave a group, and values that cost little to keep, are published.

use crate::event::NodeMemory;
use crate::{Input, Link, NodeId, ValidGraph, ValidNode, Value};
use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What is kept of a node that has run: its published slots and what it shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeResult {
    pub outputs: BTreeMap<u32, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui_json: Option<String>,
    /// What running it took; known only of the run that made the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<NodeMemory>,
}

/// What has to run, and what does not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// In an order in which a group comes after every group it needs.
    pub groups: Vec<Group>,
    /// Every node of the graph that has a known result and need not run, in graph order.
    pub cached: IndexMap<NodeId, NodeResult>,
    /// Whether more has to run than is planned: what that is depends on what planned nodes ask for or expand to.
    pub is_partial: bool,
}

/// Nodes that one stage runs in one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Unique within the plan, and the same for the same nodes: stage and first node.
    pub id: String,
    pub stage: String,
    /// Number of changes of stage on the longest way here; a group needs only groups of smaller waves.
    pub wave: u32,
    /// In topological order.
    pub nodes: Vec<PlannedNode>,
    /// Indices of the groups whose outputs this one takes.
    pub needs: BTreeSet<usize>,
}

/// A node with everything its stage has to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedNode {
    pub id: NodeId,
    pub class: String,
    pub inputs: IndexMap<String, Binding>,
    /// Linked inputs that are left out until the node asks for them.
    pub pending: BTreeSet<String>,
    /// Slots whose values must outlive the call.
    pub publish: BTreeSet<u32>,
}

/// Where the value of an input comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Binding {
    /// A constant, or the stored output of a node that does not run.
    Value(Value),
    /// An output of a node that an earlier group runs.
    Earlier(Link),
    /// An output of an earlier node of the same group.
    Local(Link),
}

/// Plans a graph given the results that are already known (cached, or committed before an interruption).
///
/// A node is left out when its known result holds every slot that running nodes take from it; an output node is
/// left out when its result is known. Everything else that an output depends on runs exactly once.
///
/// What depends on a node that is undecided (see [`ValidNode::is_undecided`]) is left for a later plan.
pub fn plan(graph: &ValidGraph, known: &IndexMap<NodeId, NodeResult>) -> Plan {
    let wanted = running_nodes(graph, known);
    let cached = graph.nodes.keys().filter(|id| !wanted.contains(*id));
    let cached = cached.filter_map(|id| known.get(id).map(|result| (id.clone(), result.clone()))).collect();
    let is_partial = wanted.iter().any(|id| graph.nodes[*id].is_undecided());
    let running = decided_nodes(graph, wanted);
    let membership = Membership::of(graph, &running);
    let publish = published_slots(graph, &running, &membership, is_partial);
    let groups = membership
        .members
        .iter()
        .map(|members| build_group(graph, members, &membership, &publish, known))
        .collect();
    Plan { groups, cached, is_partial }
}

/// The nodes that have to run, in topological order.
fn running_nodes<'a>(graph: &'a ValidGraph, known: &IndexMap<NodeId, NodeResult>) -> IndexSet<&'a NodeId> {
    let mut wanted: HashMap<&NodeId, BTreeSet<u32>> =
        graph.outputs.iter().map(|id| (id, BTreeSet::new())).collect();
    let mut running = Vec::new();
    // Backwards, so that every consumer has been decided before its source.
    for (id, node) in graph.nodes.iter().rev() {
        let Some(slots) = wanted.get(id) else { continue };
        let is_known =
            known.get(id).is_some_and(|result| slots.iter().all(|slot| result.outputs.contains_key(slot)));
        if is_known {
            continue;
        }
        running.push(id);
        for link in node.needed_links() {
            wanted.entry(&link.node).or_default().insert(link.slot);
        }
    }
    running.into_iter().rev().collect()
}

/// The nodes that run whatever undecided nodes say: those that depend on none.
fn decided_nodes<'a>(graph: &'a ValidGraph, wanted: IndexSet<&'a NodeId>) -> IndexSet<&'a NodeId> {
    let mut left_out: HashSet<&NodeId> = HashSet::new();
    let waits = |id: &NodeId, left_out: &HashSet<&NodeId>| {
        graph.nodes[id].needed_links().any(|link| {
            let is_undecided = graph.nodes[&link.node].is_undecided() && wanted.contains(&link.node);
            is_undecided || left_out.contains(&link.node)
        })
    };
    for id in &wanted {
        if waits(id, &left_out) {
            left_out.insert(id);
        }
    }
    wanted.iter().copied().filter(|id| !left_out.contains(id)).collect()
}

/// Which group each running node belongs to.
struct Membership<'a> {
    members: Vec<Vec<&'a NodeId>>,
    waves: HashMap<&'a NodeId, u32>,
    group_of: HashMap<&'a NodeId, usize>,
}

impl<'a> Membership<'a> {
    fn of(graph: &'a ValidGraph, running: &IndexSet<&'a NodeId>) -> Self {
        let waves = waves(graph, running);
        let mut roots = DisjointSets::new(running.len());
        for (index, id) in running.iter().enumerate() {
            let node = &graph.nodes[*id];
            for link in node.needed_links() {
                let Some(source) = running.get_index_of(&link.node) else { continue };
                if graph.nodes[&link.node].stage == node.stage && waves[&link.node] == waves[id] {
                    roots.join(source, index);
                }
            }
        }
        let mut by_root: IndexMap<usize, Vec<&NodeId>> = IndexMap::new();
        for (index, id) in running.iter().enumerate() {
            by_root.entry(roots.root(index)).or_default().push(id);
        }
        let mut members: Vec<Vec<&NodeId>> = by_root.into_values().collect();
        // Stable: groups of one wave keep the order of their first nodes.
        members.sort_by_key(|nodes| waves[nodes[0]]);
        let group_of = members
            .iter()
            .enumerate()
            .flat_map(|(group, nodes)| nodes.iter().map(move |id| (*id, group)))
            .collect();
        Self { members, waves, group_of }
    }
}

fn waves<'a>(graph: &'a ValidGraph, running: &IndexSet<&'a NodeId>) -> HashMap<&'a NodeId, u32> {
    let mut waves: HashMap<&NodeId, u32> = HashMap::new();
    for id in running {
        let node = &graph.nodes[*id];
        let wave = node
            .needed_links()
            .filter_map(|link| {
                let before = waves.get(&link.node)?;
                Some(before + u32::from(graph.nodes[&link.node].stage != node.stage))
            })
            .max()
            .unwrap_or(0);
        waves.insert(id, wave);
    }
    waves
}

fn published_slots<'a>(
    graph: &'a ValidGraph,
    running: &IndexSet<&'a NodeId>,
    membership: &Membership<'a>,
    is_partial: bool,
) -> HashMap<&'a NodeId, BTreeSet<u32>> {
    let mut publish: HashMap<&NodeId, BTreeSet<u32>> =
        running.iter().map(|id| (*id, cheap_slots(&graph.nodes[*id]))).collect();
    // A later plan may take what a node that does not run yet, or an input that is not asked for yet, is linked to.
    let consumers = graph.nodes.keys().filter(|id| is_partial || running.contains(*id));
    for id in consumers {
        let node = &graph.nodes[id];
        for (name, link) in node.inputs.iter().filter_map(|(name, input)| Some((name, input.link()?))) {
            let own = membership.group_of.get(id).filter(|_| !node.lazy.contains(name));
            if membership.group_of.get(&link.node) != own
                && let Some(slots) = publish.get_mut(&link.node)
            {
                slots.insert(link.slot);
            }
        }
    }
    publish
}

/// Slots worth keeping whether or not anything outside takes them: recipes, embeddings and latents are small
/// beside the time they cost, pictures are not.
fn cheap_slots(node: &ValidNode) -> BTreeSet<u32> {
    let is_large = |socket: &str| socket.split(',').all(|one| matches!(one, "IMAGE" | "MASK"));
    (0u32..).zip(&node.output_types).filter(|(_, socket)| !is_large(socket)).map(|(slot, _)| slot).collect()
}

fn build_group(
    graph: &ValidGraph,
    members: &[&NodeId],
    membership: &Membership<'_>,
    publish: &HashMap<&NodeId, BTreeSet<u32>>,
    known: &IndexMap<NodeId, NodeResult>,
) -> Group {
    let first = members[0];
    let own = membership.group_of[first];
    let mut needs = BTreeSet::new();
    let mut bind = |input: &Input| match input {
        Input::Literal(literal) => Binding::Value(Value::Literal(literal.clone())),
        Input::Value(value) => Binding::Value(value.clone()),
        Input::Link(link) => match membership.group_of.get(&link.node) {
            Some(group) if *group == own => Binding::Local(link.clone()),
            Some(group) => {
                needs.insert(*group);
                Binding::Earlier(link.clone())
            }
            None => Binding::Value(known[&link.node].outputs[&link.slot].clone()),
        },
    };
    let nodes = members
        .iter()
        .map(|id| {
            let node = &graph.nodes[*id];
            let asked = node.inputs.iter().filter(|(name, _)| !node.lazy.contains(*name));
            let inputs = asked.map(|(name, input)| (name.clone(), bind(input))).collect();
            PlannedNode {
                id: (*id).clone(),
                class: node.class.clone(),
                inputs,
                pending: node.lazy.clone(),
                publish: publish[id].clone(),
            }
        })
        .collect();
    let stage = graph.nodes[first].stage.clone();
    Group { id: format!("{stage}:{first}"), stage, wave: membership.waves[first], nodes, needs }
}

/// Union-find over indices.
struct DisjointSets(Vec<usize>);

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller index leads, so that the result does not depend on the order of joins.
        let (lead, follow) = (a.min(b), a.max(b));
        self.0[follow] = lead;
    }
}

impl Group {
    /// The part of the group that still has to run after an attempt that committed some of its nodes.
    ///
    /// A committed node runs again only when a node that still has to run takes a slot that was not published. A node
    /// of `asked` has asked for more and waits for the next plan.
    pub fn remaining(&self, done: &IndexMap<NodeId, NodeResult>, asked: &HashSet<NodeId>) -> Group {
        let mut wanted: HashMap<&NodeId, BTreeSet<u32>> = HashMap::new();
        let mut runs: BTreeSet<&NodeId> = BTreeSet::new();
        for node in self.nodes.iter().rev() {
            let slots = wanted.remove(&node.id).unwrap_or_default();
            let is_done = done
                .get(&node.id)
                .is_some_and(|result| slots.iter().all(|slot| result.outputs.contains_key(slot)));
            if is_done || asked.contains(&node.id) {
                continue;
            }
            runs.insert(&node.id);
            for binding in node.inputs.values() {
                if let Binding::Local(link) = binding {
                    wanted.entry(&link.node).or_default().insert(link.slot);
                }
            }
        }
        let rebind = |binding: &Binding| match binding {
            Binding::Local(link) if !runs.contains(&link.node) => Binding::Earlier(link.clone()),
            other => other.clone(),
        };
        let nodes = self.nodes.iter().filter(|node| runs.contains(&node.id)).map(|node| PlannedNode {
            inputs: node.inputs.iter().map(|(name, binding)| (name.clone(), rebind(binding))).collect(),
            ..node.clone()
        });
        Group { nodes: nodes.collect(), ..self.clone() }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
