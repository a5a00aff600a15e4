//! Compares the frames with what a running ComfyUI sent for the same course of events.

use super::*;
use comfy_proto::orchestrator as pb;

const PREVIEW: &[u8] = b"\xff\xd8\xff\xe0jpeg";

/// The frames of a recorded run as `(type, data)`; timestamps dropped, binary frames as `preview`.
fn recorded(name: &str) -> Vec<(String, Value)> {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let frames: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    frames
        .into_iter()
        .map(|frame| match frame.get("binary") {
            Some(head) => ("preview".into(), head.clone()),
            None => (frame["type"].as_str().unwrap().into(), without_timestamp(frame["data"].clone())),
        })
        .collect()
}

fn without_timestamp(mut data: Value) -> Value {
    if let Some(data) = data.as_object_mut() {
        data.remove("timestamp");
    }
    data
}

struct Run {
    frames: JobFrames,
    seq: u64,
    metadata: bool,
    sent: Vec<(String, Value)>,
}

impl Run {
    fn new(prompt_id: &str, metadata: bool) -> Self {
        let first = JobEvent { job_id: prompt_id.into(), client_id: "cA".into(), ..Default::default() };
        Self { frames: JobFrames::new(&first), seq: 0, metadata, sent: Vec::new() }
    }

    fn on(&mut self, queue_remaining: u32, kind: Kind) -> &mut Self {
        self.seq += 1;
        let event =
            JobEvent { seq: self.seq, at_ms: 1000, queue_remaining, kind: Some(kind), ..Default::default() };
        for frame in self.frames.on(&event) {
            self.sent.push(match frame {
                Frame::Status { queue_remaining } => ("status".into(), status_data(queue_remaining, None)),
                Frame::Message { kind, data } => (kind.into(), without_timestamp(data)),
                Frame::Preview(preview) => {
                    let bytes = preview.encode(self.metadata).unwrap();
                    assert!(bytes.ends_with(PREVIEW));
                    let head: String = bytes[..8].iter().map(|b| format!("{b:02x}")).collect();
                    ("preview".into(), head.into())
                }
            });
        }
        self
    }

    fn begin(&mut self, cached: &[(&str, &str)]) -> &mut Self {
        let node = |(id, ui): &(&str, &str)| CachedNode {
            node_id: (*id).into(),
            class: String::new(),
            ui_json: (*ui).into(),
        };
        self.on(1, Kind::Queued(pb::Queued::default()))
            .on(1, Kind::Started(pb::Started {}))
            .on(1, Kind::Cached(pb::Cached { nodes: cached.iter().map(node).collect() }))
    }

    fn start(&mut self, id: &str) -> &mut Self {
        self.on(1, Kind::NodeStarted(pb::NodeStarted { node_id: id.into(), class: String::new() }))
    }

    fn done(&mut self, id: &str, ui_json: &str) -> &mut Self {
        self.on(
            1,
            Kind::NodeDone(NodeDone { node_id: id.into(), ui_json: ui_json.into(), ..Default::default() }),
        )
    }

    fn node(&mut self, id: &str) -> &mut Self {
        self.start(id).done(id, "")
    }

    fn steps(&mut self, id: &str, count: u64) -> &mut Self {
        for value in 1..=count {
            self.on(1, Kind::NodeProgress(pb::NodeProgress { node_id: id.into(), value, max: count }));
            let (node_id, mime, data) = (id.into(), "image/jpeg".into(), PREVIEW.to_vec());
            self.on(1, Kind::Preview(pb::Preview { node_id, mime, data }));
        }
        self
    }

    fn succeed(&mut self) -> &mut Self {
        self.on(0, Kind::Succeeded(pb::Succeeded {}))
    }

    fn check(&self, name: &str) {
        let recorded = recorded(name);
        for (index, (sent, recorded)) in self.sent.iter().zip(&recorded).enumerate() {
            assert_eq!(sent, recorded, "{name}: frame {index}");
        }
        assert_eq!(self.sent.len(), recorded.len(), "{name}");
    }
}

fn ui(file: &str) -> String {
    format!(r#"{{"images":[{{"filename":"{file}","subfolder":"","type":"output"}}]}}"#)
}

#[test]
fn a_fresh_run_sends_what_comfyui_sends() {
    let mut run = Run::new("pid-a", false);
    run.begin(&[]).node("4").node("5").node("7").node("6").start("3").steps("3", 3).done("3", "").node("8");
    run.start("9").done("9", &ui("gold_00001_.png")).succeed().check("a_txt2img");
}

#[test]
fn a_cached_run_sends_what_comfyui_sends() {
    let mut run = Run::new("pid-b", false);
    let saved = ui("gold_00002_.png");
    let cached = [("3", ""), ("4", ""), ("5", ""), ("6", ""), ("7", ""), ("8", ""), ("9", saved.as_str())];
    run.begin(&cached).succeed().check("b_same_again");
}

#[test]
fn a_partly_cached_run_sends_what_comfyui_sends() {
    let mut run = Run::new("pid-c", false);
    run.begin(&[("4", ""), ("5", ""), ("6", ""), ("7", "")]).start("3").steps("3", 3).done("3", "").node("8");
    run.start("9").done("9", &ui("gold_00003_.png")).succeed().check("c_seed_changed");
}

#[test]
fn an_interrupted_run_sends_what_comfyui_sends() {
    let mut run = Run::new("pid-d", false);
    run.begin(&[("4", ""), ("6", ""), ("7", "")]).node("5").start("3");
    run.on(0, Kind::Cancelled(Cancelled { node_id: "3".into(), class: "KSampler".into() }))
        .check("d_interrupt");
}

#[test]
fn a_failed_run_ends_like_one_of_comfyui() {
    let mut run = Run::new("pid-g", false);
    let error = JobError {
        code: WireCode::InvalidArgument.into(),
        message: "not a picture".into(),
        node_id: "1".into(),
        class: "LoadImage".into(),
    };
    run.begin(&[]).start("1").on(0, Kind::Failed(pb::Failed { error: Some(error) }));
    let (recorded, sent) = (recorded("g_runtime_error"), &run.sent);
    let kinds = |frames: &[(String, Value)]| frames.iter().map(|(kind, _)| kind.clone()).collect::<Vec<_>>();
    assert_eq!(kinds(sent), kinds(&recorded));
    let keys = |data: &Value| data.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let at = sent.iter().position(|(kind, _)| kind == "execution_error").unwrap();
    assert_eq!(keys(&sent[at].1), keys(&recorded[at].1));
    assert_eq!(sent[at].1["node_type"], "LoadImage");
    assert_eq!(sent[at].1["exception_type"], "invalid_argument");
}

#[test]
fn a_job_that_never_started_leaves_quietly() {
    let mut run = Run::new("pid", false);
    run.on(2, Kind::Queued(pb::Queued::default())).on(1, Kind::Cancelled(Cancelled::default()));
    let kinds: Vec<&str> = run.sent.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["status", "status"]);
}

#[test]
fn replayed_events_make_no_frames() {
    let mut frames = JobFrames::new(&JobEvent::default());
    let event = JobEvent { seq: 7, kind: Some(Kind::Started(pb::Started {})), ..Default::default() };
    assert_eq!(frames.on(&event).len(), 2);
    assert_eq!(frames.on(&event), []);
}

#[test]
fn the_current_node_is_remembered_until_it_ends() {
    let mut run = Run::new("pid", false);
    run.begin(&[]).start("3");
    assert_eq!(run.frames.current_node(), Some("3"));
    run.done("3", "");
    assert_eq!(run.frames.current_node(), None);
}

#[test]
fn previews_carry_metadata_for_clients_that_can_read_it() {
    let preview = Preview {
        prompt_id: "pid-a2".into(),
        node_id: "3".into(),
        mime: "image/jpeg".into(),
        data: PREVIEW.to_vec().into(),
    };
    let bytes = preview.encode(true).unwrap();
    let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let metadata: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(bytes[..4], 4u32.to_be_bytes());
    let recorded = json!({
        "node_id": "3", "prompt_id": "pid-a2", "display_node_id": "3", "parent_node_id": null,
        "real_node_id": "3", "image_type": "image/jpeg",
    });
    assert_eq!(metadata, recorded);
    assert_eq!(bytes[8 + length..], *PREVIEW);
    let webp = Preview { mime: "image/webp".into(), ..preview };
    assert_eq!(webp.encode(false), None);
}
