//! Failures of stages.

use crate::harness::{World, count, endings};
use comfy_graph::ErrorCode;
use comfy_orchestrator::Config;
use comfy_proto::orchestrator as pb;
use comfy_testkit::fake_stage::text_to_image;
use std::time::Duration;

#[tokio::test]
async fn an_unavailable_stage_is_asked_again() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.fail_next("Sample", ErrorCode::Unavailable, "shutting down");
    let id = orchestrator.submit(&text_to_image(1)).await;
    let events = orchestrator.finish(&id).await;
    assert_eq!(events.last().unwrap(), "succeeded");
    assert_eq!(world.sampler.started("Sample"), 2);
    assert_eq!(world.sampler.started("Encode"), 1, "a committed node is not run again");
    let attempts: Vec<u64> = world.sampler.calls().iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2]);
}

#[tokio::test]
async fn a_wrong_input_is_not_tried_again() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.fail_next("Sample", ErrorCode::InvalidArgument, "`steps` is too large");
    let id = orchestrator.submit(&text_to_image(1)).await;
    let events = orchestrator.finish(&id).await;
    assert_eq!(events.last().unwrap(), "failed 3 InvalidArgument: `steps` is too large");
    assert_eq!(world.sampler.calls().len(), 1);
    let job = orchestrator.job(&id).await;
    assert_eq!(job.status(), pb::JobStatus::Failed);
    assert_eq!(job.error.unwrap().class, "Sample");
}

#[tokio::test]
async fn a_stage_that_crashes_and_comes_back_costs_no_job() {
    let mut world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.hold("Sample");
    let id = orchestrator.submit(&text_to_image(1)).await;
    world.sampler.wait_started("Sample", 1).await;
    orchestrator.wait_done(&id, 2).await;
    world.sampler.kill();
    world.sampler.release("Sample");
    world.sampler.restart();
    let events = orchestrator.finish(&id).await;
    assert_eq!(events.last().unwrap(), "succeeded");
    assert_eq!(endings(&events), 1);
    assert_eq!(count(&events, "done"), 6);
    assert_eq!((world.sampler.started("Load"), world.sampler.started("Sample")), (1, 2));
}

#[tokio::test]
async fn a_stage_that_is_away_is_waited_for() {
    let mut world = World::new();
    let mut orchestrator = world.start().await;
    world.image.kill();
    let id = orchestrator.submit(&text_to_image(1)).await;
    world.sampler.wait_started("Decode", 1).await;
    world.image.restart();
    assert_eq!(orchestrator.finish(&id).await.last().unwrap(), "succeeded");
}

#[tokio::test]
async fn a_stage_that_stays_away_fails_the_job() {
    let mut world = World::new();
    let config = Config { stage_unreachable_limit: Duration::from_millis(600), ..world.config() };
    let mut orchestrator = world.start_with(config).await;
    world.image.kill();
    let id = orchestrator.submit(&text_to_image(1)).await;
    let events = orchestrator.finish(&id).await;
    let last = events.last().unwrap();
    assert!(last.starts_with("failed  Unavailable: stage `image` stayed away"), "{last}");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up() {
    let world = World::new();
    let config = Config { stage_timeout: Duration::from_millis(200), ..world.config() };
    let mut orchestrator = world.start_with(config).await;
    world.sampler.hold("Sample");
    let id = orchestrator.submit(&text_to_image(1)).await;
    let events = orchestrator.finish(&id).await;
    let last = events.last().unwrap();
    assert!(last.starts_with("failed 3 DeadlineExceeded: stage `sampler` failed 3 times"), "{last}");
    assert!(last.contains("did not finish within 0.2 s"), "{last}");
    assert_eq!(world.sampler.calls().len(), 3);
}
