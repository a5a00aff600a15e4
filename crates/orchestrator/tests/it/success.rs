//! Jobs that go well.

use crate::harness::{World, durable};
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::job_event::Kind;
use comfy_testkit::fake_stage::text_to_image;

const WHOLE_RUN: [&str; 16] = [
    "queued",
    "started",
    "cached ",
    "start 1",
    "done 1",
    "start 2",
    "done 2",
    "start 3",
    "done 3",
    "start 4",
    "done 4",
    "start 5",
    "done 5",
    "start 6",
    "done 6",
    "succeeded",
];

#[tokio::test]
async fn a_job_runs_over_two_stages() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let request = pb::SubmitWorkflowRequest {
        workflow_json: text_to_image(7).to_string(),
        client_id: "browser".into(),
        extra_data_json: r#"{"extra_pnginfo":{"workflow":{"x":1}}}"#.into(),
        ..Default::default()
    };
    // Held until the watcher listens, so that it sees what is not replayed.
    world.sampler.hold("Load");
    let id = orchestrator.submit_as(request).await.job_id;
    let watching = orchestrator.client.clone();
    let release = async {
        world.sampler.wait_started("Load", 1).await;
        world.sampler.release("Load");
    };
    let mut watcher = orchestrator;
    let (events, ()) = tokio::join!(watcher.events_after(&id, 0), release);
    drop(watching);

    assert_eq!(durable(&events), WHOLE_RUN);
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert!(events.iter().all(|event| event.job_id == id && event.client_id == "browser" && event.at_ms > 0));
    let progress = events.iter().filter(|event| matches!(event.kind, Some(Kind::NodeProgress(_)))).count();
    let previews = events.iter().filter(|event| matches!(event.kind, Some(Kind::Preview(_)))).count();
    assert_eq!((progress, previews), (2, 1));
    assert_eq!((events[0].queue_remaining, events.last().unwrap().queue_remaining), (1, 0));

    let job = watcher.job(&id).await;
    assert_eq!(job.status(), pb::JobStatus::Completed);
    assert_eq!((job.nodes_total, job.nodes_done), (6, 6));
    assert_eq!(job.outputs.len(), 1);
    assert!(job.outputs[0].ui_json.contains("Save_"), "{:?}", job.outputs);
    assert_eq!(job.durable_events.len(), WHOLE_RUN.len());
    assert_eq!(job.last_seq, events.last().unwrap().seq);
    assert!(job.created_ms <= job.started_ms && job.started_ms <= job.finished_ms);
    assert_eq!(job.output_nodes, ["6"]);

    let (sampler, image) = (world.sampler.calls(), world.image.calls());
    assert_eq!((sampler.len(), image.len()), (1, 1));
    assert_eq!((sampler[0].attempt, image[0].attempt), (1, 2));
    assert_eq!(image[0].extra_pnginfo_json, r#"{"workflow":{"x":1}}"#);
    let prompt: serde_json::Value = serde_json::from_str(&image[0].prompt_json).unwrap();
    assert_eq!(prompt["3"]["inputs"]["seed"], 7);
}

#[tokio::test]
async fn a_running_job_shows_where_it_is() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.hold("Decode");
    let id = orchestrator.submit(&text_to_image(1)).await;
    world.sampler.wait_started("Decode", 1).await;
    let job = loop {
        let job = orchestrator.job(&id).await;
        if job.current_node == "4" {
            break job;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(job.status(), pb::JobStatus::Running);
    assert_eq!((job.nodes_done, job.nodes_total), (3, 6));
    world.sampler.release("Decode");
    assert_eq!(orchestrator.finish(&id).await, WHOLE_RUN);
}

#[tokio::test]
async fn a_seed_keeps_all_its_bits() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let id = orchestrator.submit(&text_to_image(u64::MAX)).await;
    orchestrator.finish(&id).await;
    let calls = world.sampler.calls();
    let node = calls[0].nodes.iter().find(|node| node.class == "Sample").unwrap();
    let expected = comfy_graph::Value::Literal(comfy_graph::Literal::from(u64::MAX));
    let Some(comfy_proto::stage::input_binding::Source::Value(seed)) = node.inputs["seed"].source.clone()
    else {
        panic!("the seed is a constant")
    };
    assert_eq!(comfy_graph::Value::try_from(seed).unwrap(), expected);
}
