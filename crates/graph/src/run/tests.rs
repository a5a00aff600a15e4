//! Tests of the job machine: examples, and properties under random signals.

use super::*;
use crate::testing::{graph, text_to_image};
use crate::{Literal, ValidGraph, Value};
use indexmap::IndexMap;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

mod growing;

const NOW: Duration = Duration::from_secs(1);

fn start(graph: &ValidGraph) -> (Run, Vec<Effect>) {
    let known = IndexMap::new();
    let (mut run, _) = Run::new(graph.clone(), known, Arc::default(), RetryPolicy::default(), 1);
    let effects = run.start();
    (run, effects)
}

fn only_call(effects: &[Effect]) -> StageCall {
    match effects {
        [Effect::StartStage(call)] => call.clone(),
        other => panic!("expected one call, got {other:?}"),
    }
}

fn done(attempt: u64, node: &CallNode) -> Signal {
    let outputs =
        node.publish.iter().map(|slot| (*slot, Value::Literal(Literal::Text(format!("{}.{slot}", node.id)))));
    let result = NodeResult { outputs: outputs.collect(), ..NodeResult::default() };
    Signal::Stage { attempt, event: StageEvent::NodeDone { node: node.id.clone(), result } }
}

fn started(attempt: u64, node: &CallNode) -> Signal {
    Signal::Stage { attempt, event: StageEvent::NodeStarted { node: node.id.clone() } }
}

fn ended(attempt: u64, code: ErrorCode) -> Signal {
    Signal::StageEnded { attempt, result: Err(StageError { code, message: "so it is".into() }) }
}

fn finish_call(run: &mut Run, call: &StageCall) -> Vec<Effect> {
    for node in &call.nodes {
        let effects = run.on(done(call.attempt, node), NOW);
        assert!(matches!(effects.as_slice(), [Effect::Commit { .. }]), "{effects:?}");
    }
    run.on(Signal::StageEnded { attempt: call.attempt, result: Ok(()) }, NOW)
}

#[test]
fn a_job_runs_its_groups_in_order_and_succeeds() {
    let (mut run, effects) = start(&text_to_image());
    let sampler = only_call(&effects);
    assert_eq!((sampler.stage.as_str(), sampler.attempt), ("sampler", 1));
    let image = only_call(&finish_call(&mut run, &sampler));
    assert_eq!((image.stage.as_str(), image.attempt), ("image", 2));
    let picture = CallInput::Value(Value::Literal(Literal::Text("8.0".into())));
    assert_eq!(image.nodes[0].inputs["in0"], picture);
    assert_eq!(finish_call(&mut run, &image), [Effect::Finish(Ending::Succeeded)]);
    assert!(run.is_ended());
    assert!(run.on(Signal::Cancel, NOW).is_empty());
}

#[test]
fn nothing_to_run_succeeds_at_once() {
    let (_, effects) = start(&ValidGraph::default());
    assert_eq!(effects, [Effect::Finish(Ending::Succeeded)]);
}

#[test]
fn a_lost_stage_is_called_again_for_what_is_left() {
    let (mut run, effects) = start(&text_to_image());
    let first = only_call(&effects);
    for node in &first.nodes[..4] {
        run.on(done(1, node), NOW);
    }
    let wait = run.on(ended(1, ErrorCode::Unavailable), NOW);
    assert_eq!(wait, [Effect::SetTimer { timer: 1, after: Duration::from_millis(500) }]);
    let second = only_call(&run.on(Signal::TimerFired { timer: 1 }, NOW));
    assert_eq!(second.attempt, 2);
    assert_eq!(second.nodes.iter().map(|n| n.id.as_str()).collect::<Vec<_>>(), ["3", "8"]);
    assert!(run.on(done(1, &second.nodes[0]), NOW).is_empty(), "attempt 1 is fenced off");
    assert!(run.on(Signal::TimerFired { timer: 1 }, NOW).is_empty());
    only_call(&finish_call(&mut run, &second));
}

#[test]
fn a_connection_lost_after_the_last_result_needs_no_retry() {
    let (mut run, effects) = start(&text_to_image());
    let first = only_call(&effects);
    for node in &first.nodes {
        run.on(done(1, node), NOW);
    }
    assert_eq!(only_call(&run.on(ended(1, ErrorCode::Unavailable), NOW)).stage, "image");
}

#[test]
fn what_cannot_get_better_is_not_tried_again() {
    for code in ErrorCode::ALL.into_iter().filter(|code| !code.is_retryable()) {
        let (mut run, effects) = start(&text_to_image());
        let call = only_call(&effects);
        run.on(started(1, &call.nodes[0]), NOW);
        let node = Some(NodeRef { id: "4".into(), class: "Class4".into() });
        let error = JobError { code, message: "so it is".into(), node };
        assert_eq!(run.on(ended(1, code), NOW), [Effect::Finish(Ending::Failed(error))], "{code}");
    }
}

#[test]
fn a_node_that_failed_is_named_even_when_the_call_breaks() {
    let (mut run, _) = start(&text_to_image());
    let error = StageError { code: ErrorCode::InvalidArgument, message: "bad width".into() };
    run.on(Signal::Stage { attempt: 1, event: StageEvent::NodeFailed { node: "5".into(), error } }, NOW);
    let effects = run.on(ended(1, ErrorCode::Unavailable), NOW);
    let [Effect::Finish(Ending::Failed(error))] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::InvalidArgument, "bad width"));
    assert_eq!(error.node.as_ref().map(|node| node.id.as_str()), Some("5"));
}

#[test]
fn running_out_of_memory_or_time_is_bounded_by_attempts() {
    for code in [ErrorCode::ResourceExhausted, ErrorCode::DeadlineExceeded] {
        let (mut run, _) = start(&text_to_image());
        for attempt in 1..3 {
            run.on(ended(attempt, code), NOW);
            run.on(Signal::TimerFired { timer: attempt }, NOW);
        }
        let effects = run.on(ended(3, code), NOW);
        let [Effect::Finish(Ending::Failed(error))] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(error.message, "stage `sampler` failed 3 times: so it is");
    }
}

#[test]
fn an_unreachable_stage_is_waited_for_and_then_given_up() {
    let (mut run, _) = start(&text_to_image());
    let mut waits = Vec::new();
    let mut now = Duration::ZERO;
    for attempt in 1.. {
        match run.on(ended(attempt, ErrorCode::Unavailable), now).as_slice() {
            [Effect::SetTimer { after, .. }] => {
                waits.push(after.as_millis());
                now += *after;
                run.on(Signal::TimerFired { timer: attempt }, now);
            }
            [Effect::Finish(Ending::Failed(error))] => {
                assert_eq!(error.message, "stage `sampler` stayed away for 600 s: so it is");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits[..6], [500, 1000, 2000, 4000, 8000, 15000]);
    assert!(now >= Duration::from_secs(600) && now < Duration::from_secs(616));
}

#[test]
fn a_node_that_kills_its_stage_is_given_up() {
    let (mut run, effects) = start(&text_to_image());
    let call = only_call(&effects);
    for attempt in 1..5 {
        run.on(started(attempt, &call.nodes[0]), NOW);
        run.on(ended(attempt, ErrorCode::Unavailable), NOW);
        run.on(Signal::TimerFired { timer: attempt }, NOW);
    }
    run.on(started(5, &call.nodes[0]), NOW);
    let effects = run.on(ended(5, ErrorCode::Unavailable), NOW);
    assert!(matches!(effects.as_slice(), [Effect::Finish(Ending::Failed(_))]), "{effects:?}");
}

#[test]
fn groups_of_different_stages_run_side_by_side_and_those_of_one_in_turn() {
    let graph = graph(
        &[("1", "a", &["LATENT"], &[]), ("2", "b", &["LATENT"], &[]), ("3", "a", &["LATENT"], &[])],
        &["1", "2", "3"],
    );
    let (mut run, effects) = start(&graph);
    let stages: Vec<_> = effects
        .iter()
        .map(|effect| match effect {
            Effect::StartStage(call) => (call.stage.as_str(), call.nodes[0].id.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(stages, [("a", "1"), ("b", "2")]);
    let Effect::StartStage(first) = &effects[0] else { unreachable!() };
    let next = only_call(&finish_call(&mut run, first));
    assert_eq!(next.nodes[0].id.as_str(), "3");

    let failed = run.on(ended(next.attempt, ErrorCode::InvalidArgument), NOW);
    assert!(matches!(
        failed.as_slice(),
        [Effect::StopStage { attempt: 2 }, Effect::Finish(Ending::Failed(_))]
    ));
}

#[test]
fn a_cancelled_job_stops_its_stages_and_says_where_it_was() {
    let (mut run, effects) = start(&text_to_image());
    run.on(started(1, &only_call(&effects).nodes[1]), NOW);
    let node = Some(NodeRef { id: "5".into(), class: "Class5".into() });
    let expected = [Effect::StopStage { attempt: 1 }, Effect::Finish(Ending::Cancelled(node))];
    assert_eq!(run.on(Signal::Cancel, NOW), expected);
    assert!(run.on(Signal::StageEnded { attempt: 1, result: Ok(()) }, NOW).is_empty());
}

#[test]
fn a_stage_that_breaks_the_protocol_fails_the_job() {
    let (mut run, _) = start(&text_to_image());
    let event = StageEvent::NodeDone { node: "4".into(), result: NodeResult::default() };
    let effects = run.on(Signal::Stage { attempt: 1, event }, NOW);
    let [Effect::StopStage { .. }, Effect::Finish(Ending::Failed(error))] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::Internal, "stage `sampler` left output 0 out")
    );
}

/// A random thing that the outside world does.
#[derive(Debug, Clone)]
enum Act {
    Done(prop::sample::Index),
    Started(prop::sample::Index),
    Ended(prop::sample::Index, Option<ErrorCode>),
    Timer(prop::sample::Index),
    Cancel,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let pick = any::<prop::sample::Index>;
    let code = prop::option::of(prop::sample::select(ErrorCode::ALL.to_vec()));
    let act = prop_oneof![
        8 => pick().prop_map(Act::Done),
        3 => pick().prop_map(Act::Started),
        4 => (pick(), code).prop_map(|(pick, code)| Act::Ended(pick, code)),
        3 => pick().prop_map(Act::Timer),
        1 => Just(Act::Cancel),
    ];
    prop::collection::vec(act, 0..120)
}

/// Sees every effect and checks the invariants of a job.
#[derive(Default)]
struct Witness {
    calls: Vec<StageCall>,
    timers: Vec<u64>,
    committed: HashSet<NodeId>,
    live: HashMap<u64, String>,
    finished: usize,
}

impl Witness {
    fn see(&mut self, graph: &ValidGraph, effects: &[Effect]) -> Result<(), TestCaseError> {
        for effect in effects {
            prop_assert_eq!(self.finished, 0, "an effect after the end: {:?}", effect);
            match effect {
                Effect::StartStage(call) => {
                    prop_assert!(self.calls.iter().all(|earlier| earlier.attempt < call.attempt));
                    prop_assert!(
                        self.live.values().all(|stage| *stage != call.stage),
                        "two attempts on a stage"
                    );
                    self.live.insert(call.attempt, call.stage.clone());
                    let own: HashSet<&NodeId> = call.nodes.iter().map(|node| &node.id).collect();
                    for node in &call.nodes {
                        for link in graph.nodes[&node.id].links() {
                            let ready = own.contains(&link.node) || self.committed.contains(&link.node);
                            prop_assert!(ready, "{} started before {}", node.id, link.node);
                        }
                    }
                    self.calls.push(call.clone());
                }
                Effect::StopStage { attempt } => {
                    prop_assert!(self.live.remove(attempt).is_some());
                }
                Effect::Commit { node, .. } => {
                    self.committed.insert(node.id.clone());
                }
                Effect::SetTimer { timer, .. } => self.timers.push(*timer),
                Effect::Emit(kind) => prop_assert!(!kind.is_terminal()),
                Effect::Finish(ending) => {
                    self.finished += 1;
                    let everything = graph.outputs.iter().all(|output| self.committed.contains(output));
                    prop_assert!(*ending != Ending::Succeeded || everything, "success without every output");
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_job_keeps_its_promises_whatever_happens(acts in acts()) {
        let graph = graph(
            &[
                ("1", "image", &["IMAGE"], &[]),
                ("2", "sampler", &["MODEL", "VAE"], &[]),
                ("3", "sampler", &["LATENT"], &[("1", 0), ("2", 1)]),
                ("4", "sampler", &["IMAGE"], &[("3", 0), ("2", 1)]),
                ("5", "image", &["IMAGE"], &[("4", 0), ("1", 0)]),
                ("6", "image", &[], &[("5", 0)]),
                ("7", "other", &[], &[("2", 0)]),
            ],
            &["6", "7"],
        );
        let (mut run, effects) = start(&graph);
        let mut witness = Witness::default();
        witness.see(&graph, &effects)?;
        let mut now = Duration::ZERO;
        for act in acts {
            now += Duration::from_secs(7);
            let call = |pick: &prop::sample::Index, witness: &Witness| {
                (!witness.calls.is_empty()).then(|| witness.calls[pick.index(witness.calls.len())].clone())
            };
            let signal = match &act {
                Act::Cancel => Signal::Cancel,
                Act::Timer(pick) if !witness.timers.is_empty() => {
                    Signal::TimerFired { timer: witness.timers[pick.index(witness.timers.len())] }
                }
                Act::Timer(_) => continue,
                Act::Done(pick) | Act::Started(pick) => {
                    let Some(call) = call(pick, &witness) else { continue };
                    let node = &call.nodes[pick.index(call.nodes.len())];
                    if matches!(act, Act::Done(_)) { done(call.attempt, node) } else { started(call.attempt, node) }
                }
                Act::Ended(pick, code) => {
                    let Some(call) = call(pick, &witness) else { continue };
                    witness.live.remove(&call.attempt);
                    match code {
                        Some(code) => ended(call.attempt, *code),
                        None => Signal::StageEnded { attempt: call.attempt, result: Ok(()) },
                    }
                }
            };
            let was_ended = run.is_ended();
            let effects = run.on(signal, now);
            prop_assert!(!was_ended || effects.is_empty(), "an effect after the end");
            witness.see(&graph, &effects)?;
        }
        // Whatever happened before, the job still ends, once.
        for attempt in 0..200u64 {
            if run.is_ended() { break; }
            let live: Vec<StageCall> = witness.calls.iter().filter(|call| witness.live.contains_key(&call.attempt)).cloned().collect();
            let mut signals: Vec<Signal> = Vec::new();
            for call in live {
                witness.live.remove(&call.attempt);
                signals.extend(call.nodes.iter().map(|node| done(call.attempt, node)));
                signals.push(Signal::StageEnded { attempt: call.attempt, result: Ok(()) });
            }
            signals.extend(witness.timers.iter().map(|timer| Signal::TimerFired { timer: *timer }));
            for signal in signals {
                let effects = run.on(signal, now);
                witness.see(&graph, &effects)?;
            }
            prop_assert!(attempt < 199, "the job never ends");
        }
        prop_assert_eq!(witness.finished, 1);
    }
}
