//! Cancelling.

use crate::harness::World;
use comfy_proto::orchestrator as pb;
use comfy_testkit::fake_stage::text_to_image;

#[tokio::test]
async fn a_queued_job_never_starts_once_cancelled() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.hold("Sample");
    let running = orchestrator.submit(&text_to_image(1)).await;
    let queued = orchestrator.submit(&text_to_image(2)).await;
    world.sampler.wait_started("Sample", 1).await;
    let answer = orchestrator.cancel(&queued).await;
    assert!(answer.cancelled);
    assert_eq!(answer.job.unwrap().status(), pb::JobStatus::Cancelled);
    world.sampler.release("Sample");
    assert_eq!(orchestrator.finish(&running).await.last().unwrap(), "succeeded");
    assert_eq!(orchestrator.finish(&queued).await, ["queued", "cancelled "]);
    assert!(world.sampler.calls().iter().all(|call| call.job_id == running));
}

#[tokio::test]
async fn a_running_job_stops_where_it_is() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.hold("Sample");
    let id = orchestrator.submit(&text_to_image(1)).await;
    world.sampler.wait_started("Sample", 1).await;
    // The stage has said so; the orchestrator may not have heard it yet.
    while orchestrator.job(&id).await.current_node != "3" {
        tokio::task::yield_now().await;
    }
    let answer = orchestrator.cancel(&id).await;
    assert!(answer.cancelled);
    assert_eq!(answer.job.unwrap().status(), pb::JobStatus::Cancelled);
    let events = orchestrator.finish(&id).await;
    assert_eq!(events.last().unwrap(), "cancelled 3");
    assert!(!orchestrator.cancel(&id).await.cancelled);

    // The next job is not held up.
    world.sampler.release("Sample");
    let next = orchestrator.submit(&text_to_image(2)).await;
    assert_eq!(orchestrator.finish(&next).await.last().unwrap(), "succeeded");
    assert_eq!(world.image.calls().len(), 1, "the cancelled job started no other stage");
}

#[tokio::test]
async fn only_a_job_that_exists_can_be_cancelled() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let error =
        orchestrator.client.cancel_job(pb::CancelJobRequest { job_id: "x".into() }).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (tonic::Code::NotFound, "there is no job `x`"));
}
