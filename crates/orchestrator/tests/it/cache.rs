//! What is not computed twice.

use crate::harness::World;
use comfy_graph::{ArtifactRef, Value};
use comfy_testkit::fake_stage::text_to_image;

const EVERYTHING_CACHED: [&str; 4] = ["queued", "started", "cached 1,2,3,4,5,6", "succeeded"];

#[tokio::test]
async fn the_same_workflow_runs_once_even_over_a_restart() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let first = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&first).await;
    let shown = orchestrator.job(&first).await.outputs;

    let second = orchestrator.submit(&text_to_image(1)).await;
    let events = orchestrator.finish(&second).await;
    // Decode gave its picture to the other stage, Invert kept its own to itself; Save is known, so neither is asked.
    assert_eq!(events, ["queued", "started", "cached 1,2,3,4,5,6", "succeeded"]);
    assert_eq!(orchestrator.job(&second).await.outputs, shown);
    orchestrator.stop().await;

    let mut orchestrator = world.start().await;
    let third = orchestrator.submit(&text_to_image(1)).await;
    assert_eq!(orchestrator.finish(&third).await, EVERYTHING_CACHED);
    assert_eq!(orchestrator.job(&third).await.outputs, shown);
    assert_eq!((world.sampler.calls().len(), world.image.calls().len()), (1, 1));
}

#[tokio::test]
async fn a_changed_seed_reuses_what_comes_before() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let first = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&first).await;
    let second = orchestrator.submit(&text_to_image(2)).await;
    let events = orchestrator.finish(&second).await;
    assert_eq!(events[2], "cached 1,2");
    assert_eq!(world.sampler.started("Encode"), 1);
    assert_eq!(world.sampler.started("Sample"), 2);
}

#[tokio::test]
async fn lost_files_and_blobs_are_made_again() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let first = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&first).await;

    // The saved file is gone: what it was made from is taken from the store as far as it was kept.
    world.volume.all_files_lost.store(true, std::sync::atomic::Ordering::SeqCst);
    let second = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&second).await;
    assert_eq!((world.sampler.calls().len(), world.image.calls().len()), (1, 2));

    // The decoded picture is gone too: it is decoded again, but not sampled again.
    let picture = world.image.calls()[0].nodes[0].inputs["image"].clone();
    let Some(comfy_proto::stage::input_binding::Source::Value(value)) = picture.source else {
        panic!("{picture:?}")
    };
    let Value::Artifact(ArtifactRef { digest, .. }) = Value::try_from(value).unwrap() else {
        panic!("a picture")
    };
    world.volume.lose(digest.as_str());
    let third = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&third).await;
    assert_eq!(world.sampler.started("Decode"), 2);
    assert_eq!(world.sampler.started("Sample"), 1);
}

#[tokio::test]
async fn another_device_shares_no_results() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let first = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&first).await;
    world.sampler.set_fingerprint("another device");
    let second = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&second).await;
    assert_eq!(world.sampler.started("Sample"), 2);
}
