//! Tests of the planner: examples, and properties over random graphs.

use super::*;
use crate::Literal;
use crate::testing::{graph, text_to_image};
use proptest::prelude::*;

fn known(ids: &[(&str, &[u32])]) -> IndexMap<NodeId, NodeResult> {
    ids.iter().map(|(id, slots)| ((*id).into(), result(slots))).collect()
}

fn result(slots: &[u32]) -> NodeResult {
    let value = |slot: &u32| (*slot, Value::Literal(Literal::Int((*slot).into())));
    NodeResult { outputs: slots.iter().map(value).collect(), ..NodeResult::default() }
}

/// Writes a plan as one line per group: `stage[wave] node>published...`.
fn lines(plan: &Plan) -> Vec<String> {
    plan.groups
        .iter()
        .map(|group| {
            let node = |node: &PlannedNode| {
                let slots: Vec<String> = node.publish.iter().map(u32::to_string).collect();
                format!("{}>{}", node.id, slots.join(","))
            };
            let nodes: Vec<String> = group.nodes.iter().map(node).collect();
            format!("{}[{}] {}", group.stage, group.wave, nodes.join(" "))
        })
        .collect()
}

#[test]
fn text_to_image_is_two_groups() {
    let plan = plan(&text_to_image(), &IndexMap::new());
    assert_eq!(lines(&plan), ["sampler[0] 4>0,1,2 5>0 6>0 7>0 3>0 8>0", "image[1] 9>"]);
    assert_eq!(plan.groups[1].needs, BTreeSet::from([0]));
    assert!(plan.cached.is_empty());
}

#[test]
fn known_results_cut_the_graph() {
    let graph = text_to_image();
    let everything_but_the_sampler = known(&[("4", &[0, 1, 2]), ("5", &[0]), ("6", &[0]), ("7", &[0])]);
    let changed_seed = plan(&graph, &everything_but_the_sampler);
    assert_eq!(lines(&changed_seed), ["sampler[0] 3>0 8>0", "image[1] 9>"]);
    assert_eq!(changed_seed.cached.len(), 4);

    let only_save = plan(&graph, &known(&[("8", &[0])]));
    assert_eq!(lines(&only_save), ["image[0] 9>"]);

    let nothing = plan(&graph, &known(&[("9", &[])]));
    assert!(nothing.groups.is_empty());
    assert_eq!(nothing.cached.keys().map(NodeId::as_str).collect::<Vec<_>>(), ["9"]);
}

#[test]
fn a_result_without_the_needed_slot_is_not_used() {
    let plan = plan(&text_to_image(), &known(&[("8", &[])]));
    assert_eq!(plan.groups.len(), 2);
    assert!(!plan.cached.contains_key(&NodeId::from("8")));
}

#[test]
fn a_stage_is_left_and_entered_again() {
    // load (image) -> encode (sampler) -> decode (sampler) -> save (image); the loader of weights needs nothing.
    let graph = graph(
        &[
            ("1", "image", &["IMAGE", "MASK"], &[]),
            ("2", "sampler", &["VAE"], &[]),
            ("3", "sampler", &["LATENT"], &[("1", 0), ("2", 0)]),
            ("4", "sampler", &["IMAGE"], &[("3", 0), ("2", 0)]),
            ("5", "image", &[], &[("4", 0)]),
        ],
        &["5"],
    );
    let plan = plan(&graph, &IndexMap::new());
    assert_eq!(lines(&plan), ["image[0] 1>0", "sampler[0] 2>0", "sampler[1] 3>0 4>0", "image[2] 5>"]);
}

#[test]
fn a_group_shrinks_to_what_was_not_committed() {
    let plan = plan(&text_to_image(), &IndexMap::new());
    let left = |group: &Group, ids: &[(&str, &[u32])]| group.remaining(&known(ids), &HashSet::new());
    let ids = |group: &Group| group.nodes.iter().map(|n| n.id.to_string()).collect::<Vec<_>>();
    let sampler = &plan.groups[0];

    let half = left(sampler, &[("4", &[0, 1, 2]), ("5", &[0]), ("6", &[0]), ("7", &[0])]);
    assert_eq!(ids(&half), ["3", "8"]);
    assert!(matches!(half.nodes[0].inputs["in0"], Binding::Earlier(_)));
    assert!(matches!(half.nodes[1].inputs["in0"], Binding::Local(_)));

    let lost_slot = left(sampler, &[("4", &[0, 1]), ("5", &[0]), ("6", &[0]), ("7", &[0])]);
    assert_eq!(ids(&lost_slot), ["4", "3", "8"]);
    let all: &[(&str, &[u32])] = &[("3", &[0]), ("4", &[2]), ("5", &[]), ("6", &[]), ("7", &[]), ("8", &[])];
    assert!(left(sampler, all).nodes.is_empty());
    let asked = HashSet::from([NodeId::from("8")]);
    assert!(sampler.remaining(&known(&all[..5]), &asked).nodes.is_empty());
}

#[derive(Debug, Clone)]
struct Case {
    graph: ValidGraph,
    known: IndexMap<NodeId, NodeResult>,
}

fn cases() -> impl Strategy<Value = Case> {
    let node = (0usize..3, 0usize..3, prop::collection::vec((any::<prop::sample::Index>(), 0u32..2), 0..4));
    let known = prop::collection::vec(
        (any::<prop::sample::Index>(), prop::collection::btree_set(0u32..2, 0..3)),
        0..6,
    );
    (prop::collection::vec(node, 1..24), known, any::<bool>()).prop_map(|(nodes, known, pictures)| {
        let names: Vec<String> = (0..nodes.len()).map(|i| i.to_string()).collect();
        let stages = ["sampler", "image", "other"];
        let rows: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(index, (stage, _, links))| {
                let links: Vec<(&str, u32)> = links
                    .iter()
                    .filter(|_| index > 0)
                    .map(|(pick, slot)| (names[pick.index(index)].as_str(), *slot))
                    .collect();
                (names[index].as_str(), stages[*stage], links)
            })
            .collect();
        let sockets: &[&str] = if pictures { &["IMAGE", "MASK"] } else { &["LATENT", "IMAGE"] };
        let outputs: Vec<&str> = (0..nodes.len())
            .filter(|index| nodes[*index].1 == 0 || index + 1 == nodes.len())
            .map(|index| names[index].as_str())
            .collect();
        let table: Vec<_> =
            rows.iter().map(|(id, stage, links)| (*id, *stage, sockets, links.as_slice())).collect();
        let known = known
            .iter()
            .map(|(pick, slots)| {
                let slots: Vec<u32> = slots.iter().copied().collect();
                (names[pick.index(names.len())].as_str().into(), result(&slots))
            })
            .collect();
        Case { graph: graph(&table, &outputs), known }
    })
}

proptest! {
    #[test]
    fn every_plan_keeps_its_promises(case in cases()) {
        let plan = plan(&case.graph, &case.known);
        let mut place: HashMap<&NodeId, (usize, usize)> = HashMap::new();
        for (group_index, group) in plan.groups.iter().enumerate() {
            prop_assert!(!group.nodes.is_empty());
            for (node_index, node) in group.nodes.iter().enumerate() {
                prop_assert_eq!(&case.graph.nodes[&node.id].stage, &group.stage);
                prop_assert!(place.insert(&node.id, (group_index, node_index)).is_none(), "node runs twice");
                prop_assert!(!plan.cached.contains_key(&node.id), "node runs and is cached");
            }
        }
        for output in &case.graph.outputs {
            prop_assert!(place.contains_key(output) || plan.cached.contains_key(output));
        }
        for (group_index, group) in plan.groups.iter().enumerate() {
            for (node_index, node) in group.nodes.iter().enumerate() {
                prop_assert_eq!(node.inputs.len(), case.graph.nodes[&node.id].inputs.len());
                for (name, binding) in &node.inputs {
                    match binding {
                        Binding::Value(_) => if let Input::Link(link) = &case.graph.nodes[&node.id].inputs[name] {
                            prop_assert!(!place.contains_key(&link.node), "a stored value of a node that runs");
                        },
                        Binding::Local(link) => {
                            let (group, index) = place[&link.node];
                            prop_assert!(group == group_index && index < node_index);
                        }
                        Binding::Earlier(link) => {
                            let (group, index) = place[&link.node];
                            prop_assert!(group < group_index && group_index > 0);
                            prop_assert!(group_needs(&plan, group_index, group));
                            prop_assert!(plan.groups[group].wave < plan.groups[group_index].wave);
                            prop_assert!(plan.groups[group].nodes[index].publish.contains(&link.slot));
                        }
                    }
                }
            }
        }
        let mut ids: Vec<&str> = plan.groups.iter().map(|group| group.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), plan.groups.len(), "group ids are unique");
    }
}

fn group_needs(plan: &Plan, group: usize, earlier: usize) -> bool {
    plan.groups[group].needs.contains(&earlier)
}

#[test]
fn what_depends_on_an_undecided_node_is_planned_later() {
    // A switch (3) between two pictures (1, 2) of which it has asked for none; 4 is needed whatever it says.
    let mut graph = graph(
        &[
            ("1", "sampler", &["IMAGE"], &[]),
            ("2", "sampler", &["IMAGE"], &[]),
            ("4", "image", &["IMAGE"], &[]),
            ("3", "image", &["IMAGE"], &[("1", 0), ("2", 0)]),
            ("5", "image", &[], &[("3", 0), ("4", 0)]),
        ],
        &["5"],
    );
    let lazy = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let switch = NodeId::from("3");
    graph.nodes[&switch].lazy = lazy(&["in0", "in1"]);
    let first = plan(&graph, &IndexMap::new());
    // A later plan takes the picture of 4 although it costs too much to be kept otherwise.
    assert_eq!(lines(&first), ["image[0] 4>0", "image[0] 3>0"]);
    assert!(first.is_partial && first.groups[1].nodes[0].inputs.is_empty());
    assert_eq!(first.groups[1].nodes[0].pending, lazy(&["in0", "in1"]));

    graph.nodes[&switch].lazy = lazy(&["in0"]);
    let known = known(&[("4", &[0])]);
    let second = plan(&graph, &known);
    assert_eq!(lines(&second), ["sampler[0] 2>0", "image[1] 3>0"]);
    assert!(second.is_partial);
    graph.nodes[&switch].lazy.clear();
    let third = plan(&graph, &known);
    assert!(!third.is_partial && third.groups.iter().flat_map(|group| &group.nodes).count() == 4);
}
