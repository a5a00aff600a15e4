//! Crashes and restarts of the orchestrator itself.

use crate::harness::{World, count, endings};
use comfy_proto::orchestrator as pb;
use comfy_testkit::fake_stage::text_to_image;

#[tokio::test]
async fn a_job_survives_a_crash_of_the_orchestrator() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.hold("Sample");
    let running = orchestrator.submit(&text_to_image(1)).await;
    let waiting = orchestrator.submit(&text_to_image(2)).await;
    world.sampler.wait_started("Sample", 1).await;
    let before = orchestrator.wait_done(&running, 2).await;
    orchestrator.kill();
    world.sampler.release("Sample");

    let mut orchestrator = world.start().await;
    let events = orchestrator.finish(&running).await;
    assert_eq!(endings(&events), 1, "{events:?}");
    assert_eq!(events.last().unwrap(), "succeeded");
    assert_eq!((count(&events, "queued"), count(&events, "started"), count(&events, "cached")), (1, 1, 1));
    assert_eq!(count(&events, "done"), 6);
    assert_eq!(world.sampler.started("Encode"), 1, "a committed node is not run again");
    let job = orchestrator.job(&running).await;
    assert_eq!((job.nodes_done, job.started_ms, job.number), (6, before.started_ms, before.number));
    assert!(job.last_seq > before.last_seq);

    let events = orchestrator.finish(&waiting).await;
    assert_eq!((events.last().unwrap().as_str(), endings(&events)), ("succeeded", 1));
    let attempts: Vec<u64> =
        world.sampler.calls().iter().filter(|call| call.job_id == running).map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2], "attempts go on where they were");
}

#[tokio::test]
async fn stopping_puts_the_running_job_back_in_front() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.hold("Sample");
    let running = orchestrator.submit(&text_to_image(1)).await;
    world.sampler.wait_started("Sample", 1).await;
    let front = pb::SubmitWorkflowRequest {
        workflow_json: text_to_image(2).to_string(),
        number: Some(-100.0),
        ..Default::default()
    };
    orchestrator.submit_as(front).await;
    orchestrator.stop().await;

    let mut orchestrator = world.start().await;
    world.sampler.wait_started("Sample", 2).await;
    assert_eq!(orchestrator.job(&running).await.status(), pb::JobStatus::Running);
    world.sampler.release("Sample");
    let events = orchestrator.finish(&running).await;
    assert_eq!((events.last().unwrap().as_str(), endings(&events)), ("succeeded", 1));
}

#[tokio::test]
async fn a_second_orchestrator_cannot_take_the_same_database() {
    let world = World::new();
    let _first = world.start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second =
        comfy_orchestrator::run_with(world.config(), world.volume.clone(), listener, std::future::pending());
    let error = tokio::time::timeout(crate::harness::PATIENCE, second).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the database cannot be opened");
}
