//! Graphs that grow while they run: lazy inputs and nodes that expand.

use super::*;
use crate::{ExpandedInput, ExpandedNode, InputSpec, NodeSpec};

/// Two pictures (1, 2), a node (3) that takes `in0` and `in1`, and an end (4).
fn two_into_one() -> ValidGraph {
    graph(
        &[
            ("1", "sampler", &["IMAGE"], &[]),
            ("2", "sampler", &["IMAGE"], &[]),
            ("3", "image", &["IMAGE"], &[("1", 0), ("2", 0)]),
            ("4", "image", &[], &[("3", 0)]),
        ],
        &["4"],
    )
}

fn ids(call: &StageCall) -> Vec<&str> {
    call.nodes.iter().map(|node| node.id.as_str()).collect()
}

#[test]
fn a_lazy_input_is_made_when_it_is_asked_for_and_only_then() {
    let mut graph = two_into_one();
    graph.nodes[2].lazy = ["in0".to_owned(), "in1".to_owned()].into();
    let (mut run, effects) = start(&graph);
    let asking = only_call(&effects);
    assert_eq!(ids(&asking), ["3"]);
    let wants = |attempt, name: &str| Signal::Stage {
        attempt,
        event: StageEvent::NodeWants { node: "3".into(), inputs: [name.to_owned()].into() },
    };
    assert!(run.on(wants(1, "in1"), NOW).is_empty());
    let made = only_call(&run.on(Signal::StageEnded { attempt: 1, result: Ok(()) }, NOW));
    assert_eq!((made.stage.as_str(), ids(&made)), ("sampler", vec!["2"]));
    let chosen = only_call(&finish_call(&mut run, &made));
    assert_eq!(ids(&chosen), ["3"]);
    assert_eq!(chosen.nodes[0].inputs.keys().collect::<Vec<_>>(), ["in1"]);
    assert_eq!(chosen.nodes[0].pending, ["in0".to_owned()].into());
    let end = only_call(&finish_call(&mut run, &chosen));
    assert_eq!(ids(&end), ["4"]);
    assert_eq!(finish_call(&mut run, &end), [Effect::Finish(Ending::Succeeded)]);

    // Asking for what is there, or for what nobody linked, would go on for ever.
    for name in ["in1", "in7"] {
        graph.nodes[2].lazy = ["in0".to_owned()].into();
        let (mut run, effects) = start(&graph);
        let made = only_call(&effects);
        finish_call(&mut run, &made);
        let effects = run.on(wants(2, name), NOW);
        let [Effect::StopStage { attempt: 2 }, Effect::Finish(Ending::Failed(error))] = effects.as_slice()
        else {
            panic!("{effects:?}")
        };
        assert_eq!((error.code, error.node.as_ref().unwrap().id.as_str()), (ErrorCode::Internal, "3"));
    }
}

/// One node of an expansion: id, class, inputs.
type InnerRow<'a> = (&'a str, &'a str, &'a [(&'a str, ExpandedInput)]);

fn expansion(nodes: &[InnerRow<'_>], outputs: Vec<ExpandedInput>) -> Expansion {
    let node = |(id, class, inputs): &InnerRow<'_>| ExpandedNode {
        id: (*id).into(),
        class: (*class).into(),
        inputs: inputs.iter().map(|(name, input)| ((*name).into(), input.clone())).collect(),
    };
    Expansion { nodes: nodes.iter().map(node).collect(), outputs, ui_json: Some("{}".into()) }
}

fn link(node: &str) -> ExpandedInput {
    ExpandedInput::Link { node: node.into(), slot: 0 }
}

/// A run of [`two_into_one`] in which node 3 may expand, up to the call of 3.
fn about_to_expand() -> (Run, StageCall) {
    let mut graph = two_into_one();
    graph.nodes[2].expands = true;
    let mut catalog = Catalog::default();
    let blur = NodeSpec::new("Blur", "test", vec![InputSpec::socket("picture", "IMAGE")], &["IMAGE"]);
    let show = NodeSpec::new("Show", "test", vec![InputSpec::socket("picture", "IMAGE")], &[]).ending();
    catalog.add_stage("image", "", vec![blur, show]);
    let known = IndexMap::new();
    let (mut run, _) = Run::new(graph, known, Arc::new(catalog), RetryPolicy::default(), 1);
    let effects = run.start();
    let first = only_call(&effects);
    let second = only_call(&finish_call(&mut run, &first));
    let call = only_call(&finish_call(&mut run, &second));
    assert_eq!(ids(&call), ["3"]);
    (run, call)
}

#[test]
fn an_expanded_node_is_replaced_and_done_when_what_stands_for_it_is() {
    let (mut run, call) = about_to_expand();
    let picture = ExpandedInput::Value(Value::Recipe(serde_json::json!({"of": 1})));
    let nodes: &[InnerRow<'_>] = &[
        ("a", "Blur", &[("picture", picture)]),
        ("b", "Blur", &[("picture", link("a"))]),
        ("c", "Show", &[("picture", link("a"))]),
    ];
    let event = StageEvent::NodeExpanded { node: "3".into(), expansion: expansion(nodes, vec![link("b")]) };
    assert!(run.on(Signal::Stage { attempt: call.attempt, event }, NOW).is_empty());
    let end = Signal::StageEnded { attempt: call.attempt, result: Ok(()) };
    let inner = only_call(&run.on(end, NOW));
    assert_eq!(ids(&inner), ["3~a", "3~b", "3~c", "4"]);
    assert_eq!(inner.nodes.iter().map(|node| node.id.shown()).collect::<Vec<_>>(), ["3", "3", "3", "4"]);
    assert_eq!(inner.nodes[3].inputs["in0"], CallInput::Local(crate::Link { node: "3~b".into(), slot: 0 }));
    let mut committed = Vec::new();
    for node in &inner.nodes {
        for effect in run.on(done(inner.attempt, node), NOW) {
            let Effect::Commit { node, result } = effect else { panic!("{effect:?}") };
            committed.push((node.id.0, result.ui_json.is_some()));
        }
    }
    let expected = [("3~a", false), ("3~b", false), ("3~c", false), ("3", true), ("4", false)];
    assert_eq!(committed.iter().map(|(id, ui)| (id.as_str(), *ui)).collect::<Vec<_>>(), expected);
    let end = Signal::StageEnded { attempt: inner.attempt, result: Ok(()) };
    assert_eq!(run.on(end, NOW), [Effect::Finish(Ending::Succeeded)]);
}

#[test]
fn a_faulty_expansion_fails_its_node() {
    let one = || ExpandedInput::Value(Value::Literal(Literal::Int(1)));
    let picture = || [("picture", one())];
    let cases: [(&[InnerRow<'_>], Vec<ExpandedInput>, &str); 7] = [
        (&[("a", "Blurr", &[])], vec![one()], "class `Blurr`, which no stage offers"),
        (&[("a", "Blur", &[])], vec![one()], "node `a` of its graph lacks input `picture`"),
        (&[("a", "Blur", &[("picture", one()), ("x", one())])], vec![one()], "has no input `x`"),
        (&[("a", "Blur", &[("picture", link("b"))])], vec![one()], "`a.picture` of its graph links to `b.0`"),
        (&[("a", "Blur", &picture()), ("a", "Blur", &picture())], vec![one()], "two nodes `a`"),
        (&[], vec![link("a")], "`output 0` of its graph links to `a.0`"),
        (&[], vec![], "it gives 0 outputs, its spec says 1"),
    ];
    for (nodes, outputs, expected) in cases {
        let (mut run, call) = about_to_expand();
        let event = StageEvent::NodeExpanded { node: "3".into(), expansion: expansion(nodes, outputs) };
        let effects = run.on(Signal::Stage { attempt: call.attempt, event }, NOW);
        let Some(Effect::Finish(Ending::Failed(error))) = effects.last() else { panic!("{effects:?}") };
        assert!(error.message.contains(expected), "{}", error.message);
        assert_eq!(error.node.as_ref().unwrap().id.as_str(), "3");
    }
}
