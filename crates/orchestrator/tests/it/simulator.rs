//! The job machine and the store under thousands of random histories: crashes between any two durable steps, lost
//! calls, late answers, cancels.
//!
//! Time, stages and the orchestrator's driver are simulated, so a history is the same every time for its seed. What a
//! node gives is a text made of job, node and slot; answers of attempts that were given up carry a wrong text, so that
//! one which is let in shows up in an input or in a result.

use comfy_graph::event::{JobEventKind, JobStatus};
use comfy_graph::run::{
    CallInput, Effect, Ending, RetryPolicy, Run, Signal, StageCall, StageError, StageEvent,
};
use comfy_graph::{ErrorCode, Input, Link, Literal, NodeId, NodeResult, ValidGraph, ValidNode, Value};
use comfy_orchestrator::store::{
    JobRow, JobStore, JobTexts, NewJob, Place, SqliteStore, Stamp, StoreError, Submitted, Write,
};
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many histories are played unless `COMFY_HISTORIES` says otherwise.
const HISTORIES: u64 = 1_000;

/// Random acts of a history, before everything is let run to its end.
const ACTS: usize = 120;

/// Far more than any history needs when nothing goes wrong any more.
const PATIENCE: usize = 5_000;

const JOBS: usize = 4;

/// Nodes, the stage of each, and what they take.
const GRAPH: [(&str, &str, &[&str]); 7] = [
    ("1", "image", &[]),
    ("2", "sampler", &[]),
    ("3", "sampler", &["1", "2"]),
    ("4", "sampler", &["3", "2"]),
    ("5", "image", &["4", "1"]),
    ("6", "image", &["5"]),
    ("7", "other", &["2"]),
];

fn graph() -> ValidGraph {
    let node = |(id, stage, takes): &(&str, &str, &[&str])| {
        let link = |from: &&str| Input::Link(Link { node: (*from).into(), slot: 0 });
        let node = ValidNode {
            class: format!("Class{id}"),
            stage: (*stage).into(),
            inputs: takes.iter().map(|from| (format!("in{from}"), link(from))).collect(),
            output_types: vec!["LATENT".into()],
            output_node: matches!(*id, "6" | "7"),
            lazy: BTreeSet::new(),
            expands: false,
            fingerprint: Some(BTreeMap::new()),
        };
        (NodeId::from(*id), node)
    };
    ValidGraph { nodes: GRAPH.iter().map(node).collect(), outputs: vec!["6".into(), "7".into()] }
}

fn value(job: &str, node: &NodeId) -> Value {
    Value::Literal(Literal::Text(format!("{job}/{node}")))
}

/// A small random generator (splitmix64), so that a seed means the same history for ever.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }
}

/// The orchestrator was killed.
struct Crash;

/// A call that a stage works on, and what it has still to say.
struct Call {
    job: String,
    stage: String,
    attempt: u64,
    says: VecDeque<StageEvent>,
}

/// What lives in the memory of one orchestrator process.
#[derive(Default)]
struct Life {
    runs: HashMap<String, Run>,
    calls: Vec<Call>,
    timers: Vec<(String, u64)>,
    next_seq: u64,
    reserved_to: u64,
}

struct World {
    seed: u64,
    dice: Dice,
    store: SqliteStore,
    life: Life,
    /// What given-up attempts would still say.
    late: Vec<(String, u64, StageEvent)>,
    submitted: Vec<String>,
    cancelled: BTreeSet<String>,
    attempts: HashMap<String, u64>,
    now: Duration,
    calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let store = SqliteStore::open(Path::new(":memory:")).unwrap();
        Self {
            seed,
            dice: Dice(seed),
            store,
            life: Life::default(),
            late: Vec::new(),
            submitted: Vec::new(),
            cancelled: BTreeSet::new(),
            attempts: HashMap::new(),
            now: Duration::ZERO,
            calm: false,
        }
    }

    fn stamp(&mut self) -> Stamp {
        if self.life.next_seq == self.life.reserved_to {
            self.life.next_seq = self.store.reserve_seqs(16).unwrap();
            self.life.reserved_to = self.life.next_seq + 16;
        }
        let seq = self.life.next_seq;
        self.life.next_seq += 1;
        Stamp { seq, at_ms: 0 }
    }

    /// A point at which the process may die. Nothing but the store outlives it.
    fn fail_point(&mut self) -> Result<(), Crash> {
        if !self.calm && self.dice.one_in(60) { Err(Crash) } else { Ok(()) }
    }

    fn restart(&mut self) {
        for call in std::mem::take(&mut self.life.calls) {
            self.give_up(call);
        }
        self.life = Life::default();
        self.store.requeue_running().unwrap();
    }

    /// The stage does not know yet that nobody listens, and what it says comes out wrong.
    fn give_up(&mut self, call: Call) {
        for mut event in call.says {
            if let StageEvent::NodeDone { result, .. } = &mut event {
                result.outputs.insert(0, Value::Literal(Literal::Text("too late".into())));
            }
            self.late.push((call.job.clone(), call.attempt, event));
        }
    }

    fn record(&mut self, job: &str, writes: &[Write], kind: Option<JobEventKind>) -> Result<(), Crash> {
        self.fail_point()?;
        let stamped = kind.map(|kind| (self.stamp(), kind));
        self.store.record(job, writes, stamped).unwrap();
        self.fail_point()
    }

    fn submit(&mut self) {
        let id = format!("job{}", self.submitted.len());
        let place = if self.dice.one_in(3) { Place::First } else { Place::Last };
        let texts = JobTexts { valid: serde_json::to_string(&graph()).unwrap(), ..JobTexts::default() };
        let job =
            NewJob { id: id.clone(), client_id: String::new(), place, nodes_total: 7, texts, key: None };
        for again in [false, true] {
            let stamp = self.stamp();
            let answer = self.store.submit(&job, stamp).unwrap();
            assert_eq!(matches!(answer, Submitted::Existing(_)), again, "seed {}", self.seed);
        }
        self.submitted.push(id);
    }

    fn claim(&mut self) -> Result<(), Crash> {
        self.fail_point()?;
        let stamp = self.stamp();
        let Some((job, _)) = self.store.claim(stamp).unwrap() else { return Ok(()) };
        let JobRow { id, attempt, texts, .. } = job;
        let graph: ValidGraph = serde_json::from_str(&texts.unwrap().valid).unwrap();
        let known: IndexMap<NodeId, NodeResult> = self.store.job_results(&id).unwrap().into_iter().collect();
        for (node, result) in &known {
            assert_eq!(result.outputs[&0], value(&id, node), "seed {}: a wrong result was kept", self.seed);
        }
        let patient = RetryPolicy {
            attempts: u32::MAX,
            crashes: u32::MAX,
            unreachable_for: Duration::MAX,
            ..RetryPolicy::default()
        };
        let (mut run, _) = Run::new(graph, known, Arc::default(), patient, attempt + 1);
        let effects = run.start();
        self.life.runs.insert(id.clone(), run);
        self.carry_out(&id, effects)
    }

    fn signal(&mut self, job: &str, signal: Signal) -> Result<(), Crash> {
        let now = self.now;
        let Some(run) = self.life.runs.get_mut(job) else { return Ok(()) };
        let effects = run.on(signal, now);
        self.carry_out(job, effects)
    }

    fn carry_out(&mut self, job: &str, effects: Vec<Effect>) -> Result<(), Crash> {
        for effect in effects {
            match effect {
                Effect::StartStage(call) => self.start_call(job, call)?,
                Effect::StopStage { attempt } => {
                    let at = self.life.calls.iter().position(|c| c.job == job && c.attempt == attempt);
                    let call = self.life.calls.swap_remove(at.expect("only a running call is stopped"));
                    self.give_up(call);
                }
                Effect::SetTimer { timer, .. } => self.life.timers.push((job.into(), timer)),
                Effect::Commit { node, result } => {
                    assert_eq!(result.outputs[&0], value(job, &node.id), "seed {}", self.seed);
                    let kind = JobEventKind::NodeDone { node: node.clone(), ui_json: None, memory: None };
                    self.record(job, &[Write::Result { node, key: None, result }], Some(kind))?;
                }
                Effect::Emit(kind) if kind.is_durable() => self.record(job, &[], Some(kind))?,
                Effect::Emit(_) => {}
                Effect::Finish(ending) => self.finish(job, ending)?,
            }
        }
        Ok(())
    }

    fn start_call(&mut self, job: &str, call: StageCall) -> Result<(), Crash> {
        let StageCall { attempt, group_id, stage, nodes } = call;
        let highest = self.attempts.entry(job.into()).or_default();
        assert!(attempt > *highest, "seed {}: attempt {attempt} of {job} was made before", self.seed);
        let started = Write::AttemptStarted { attempt, group_id, stage: stage.clone() };
        self.record(job, &[started], None)?;
        self.attempts.insert(job.into(), attempt);
        assert!(!self.cancelled.contains(job), "seed {}: {job} was cancelled and went on", self.seed);
        let busy = self.life.calls.iter().any(|call| call.job == job && call.stage == stage);
        assert!(!busy, "seed {}: two attempts of {job} on stage {stage}", self.seed);
        let mut says = VecDeque::new();
        for node in nodes {
            for (name, input) in &node.inputs {
                let source = NodeId::from(name.trim_start_matches("in"));
                if let CallInput::Value(got) = input {
                    assert_eq!(*got, value(job, &source), "seed {}: a wrong input", self.seed);
                }
            }
            let outputs = BTreeMap::from([(0, value(job, &node.id))]);
            says.push_back(StageEvent::NodeStarted { node: node.id.clone() });
            says.push_back(StageEvent::NodeDone {
                node: node.id,
                result: NodeResult { outputs, ..NodeResult::default() },
            });
        }
        self.life.calls.push(Call { job: job.into(), stage, attempt, says });
        Ok(())
    }

    fn finish(&mut self, job: &str, ending: Ending) -> Result<(), Crash> {
        let (status, kind) = match ending {
            Ending::Succeeded => (JobStatus::Completed, JobEventKind::Succeeded),
            Ending::Cancelled(node) => (JobStatus::Cancelled, JobEventKind::Cancelled { node }),
            Ending::Failed(error) => panic!("seed {}: {job} failed: {error:?}", self.seed),
        };
        self.life.runs.remove(job);
        self.record(job, &[Write::End { status, error: None }], Some(kind))?;
        if status == JobStatus::Cancelled {
            self.cancelled.insert(job.into());
        }
        let stamp = self.stamp();
        let after = self.store.record(job, &[Write::Requeue], Some((stamp, JobEventKind::Started)));
        assert!(
            matches!(after, Err(StoreError::Ended(_))),
            "seed {}: {job} went on after its end",
            self.seed
        );
        Ok(())
    }

    /// One call says its next word, or ends.
    fn advance(&mut self) -> Result<(), Crash> {
        if self.life.calls.is_empty() {
            return Ok(());
        }
        let at = self.dice.below(self.life.calls.len());
        let lost = !self.calm && self.dice.one_in(12);
        let call = &mut self.life.calls[at];
        let (job, attempt) = (call.job.clone(), call.attempt);
        if !lost && let Some(event) = call.says.pop_front() {
            return self.signal(&job, Signal::Stage { attempt, event });
        }
        let call = self.life.calls.swap_remove(at);
        self.give_up(call);
        let codes = [ErrorCode::Unavailable, ErrorCode::ResourceExhausted, ErrorCode::DeadlineExceeded];
        let code = codes[self.dice.below(codes.len())];
        let result = if lost { Err(StageError { code, message: "lost".into() }) } else { Ok(()) };
        let write = Write::AttemptEnded { attempt, outcome: String::new() };
        self.record(&job, &[write], None)?;
        self.signal(&job, Signal::StageEnded { attempt, result })
    }

    fn fire(&mut self) -> Result<(), Crash> {
        if self.life.timers.is_empty() {
            return Ok(());
        }
        let at = self.dice.below(self.life.timers.len());
        let (job, timer) = self.life.timers.swap_remove(at);
        self.signal(&job, Signal::TimerFired { timer })
    }

    fn deliver_late(&mut self) -> Result<(), Crash> {
        if self.late.is_empty() {
            return Ok(());
        }
        let at = self.dice.below(self.late.len());
        let (job, attempt, event) = self.late.swap_remove(at);
        self.signal(&job, Signal::Stage { attempt, event })
    }

    fn cancel(&mut self) -> Result<(), Crash> {
        if self.submitted.is_empty() {
            return Ok(());
        }
        let job = self.submitted[self.dice.below(self.submitted.len())].clone();
        if self.life.runs.contains_key(&job) {
            return self.signal(&job, Signal::Cancel);
        }
        if self.store.job(&job, false).unwrap().unwrap().status != JobStatus::Queued {
            return Ok(());
        }
        let end = Write::End { status: JobStatus::Cancelled, error: None };
        self.record(&job, &[end], Some(JobEventKind::Cancelled { node: None }))?;
        self.cancelled.insert(job);
        Ok(())
    }

    fn act(&mut self) -> Result<(), Crash> {
        self.now += Duration::from_millis(700);
        match self.dice.below(20) {
            0 if self.submitted.len() < JOBS => {
                self.submit();
                Ok(())
            }
            1 | 2 if self.life.runs.len() < 2 => self.claim(),
            3 | 4 => self.fire(),
            5 => self.deliver_late(),
            6 if self.dice.one_in(6) => self.cancel(),
            _ => self.advance(),
        }
    }

    /// Lets everything run to its end without further faults.
    fn settle(&mut self) {
        self.calm = true;
        while self.submitted.len() < JOBS {
            self.submit();
        }
        self.restart();
        for _ in 0..PATIENCE {
            let jobs = self.jobs();
            if jobs.iter().all(|job| job.status.is_ended()) {
                return;
            }
            let is_calm = self.claim().and_then(|()| self.fire()).and_then(|()| self.deliver_late());
            assert!(is_calm.and_then(|()| self.advance()).is_ok(), "nothing crashes any more");
        }
        panic!("seed {}: jobs do not end: {:?}", self.seed, self.jobs());
    }

    fn jobs(&self) -> Vec<JobRow> {
        self.submitted.iter().map(|id| self.store.job(id, false).unwrap().unwrap()).collect()
    }

    fn check(&self) {
        let seed = self.seed;
        let events = self.store.events(None, 0, u32::MAX >> 1).unwrap();
        assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq), "seed {seed}: numbers out of order");
        for job in self.jobs() {
            let own: Vec<_> = events.iter().filter(|event| event.job_id == job.id).map(|e| &e.kind).collect();
            let ends = own.iter().filter(|kind| kind.is_terminal()).count();
            assert_eq!(ends, 1, "seed {seed}: {} ended {ends} times: {own:?}", job.id);
            assert!(own.last().unwrap().is_terminal(), "seed {seed}: something follows the end");
            let count = |wanted: fn(&JobEventKind) -> bool| own.iter().filter(|kind| wanted(kind)).count();
            assert_eq!(count(|kind| matches!(kind, JobEventKind::Queued { .. })), 1, "seed {seed}");
            assert!(count(|kind| matches!(kind, JobEventKind::Started)) <= 1, "seed {seed}");
            if job.status == JobStatus::Completed {
                let results = self.store.job_results(&job.id).unwrap();
                for output in ["6", "7"] {
                    assert_eq!(results[&NodeId::from(output)].outputs[&0], value(&job.id, &output.into()));
                }
            }
        }
    }
}

#[test]
fn every_history_ends_every_job_once_with_the_right_results() {
    let asked = std::env::var("COMFY_HISTORIES");
    let histories = asked.map_or(HISTORIES, |text| text.parse().expect("COMFY_HISTORIES is a number"));
    let (mut crashes, mut completed, mut cancelled) = (0, 0, 0);
    for seed in 0..histories {
        let mut world = World::new(seed);
        for _ in 0..ACTS {
            if world.act().is_err() {
                crashes += 1;
                world.restart();
            }
        }
        world.settle();
        world.check();
        for job in world.jobs() {
            match job.status {
                JobStatus::Completed => completed += 1,
                _ => cancelled += 1,
            }
        }
    }
    println!("{histories} histories: {crashes} crashes, {completed} jobs completed, {cancelled} cancelled");
    // A simulation in which nothing happens proves nothing.
    assert!(crashes > histories && completed > histories && cancelled > histories / 10);
}
