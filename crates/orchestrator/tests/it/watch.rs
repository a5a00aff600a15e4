//! Following events.

use crate::harness::{PATIENCE, World, durable};
use comfy_proto::orchestrator as pb;
use comfy_testkit::fake_stage::text_to_image;
use futures::StreamExt as _;

#[tokio::test]
async fn events_are_replayed_from_any_number() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let id = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&id).await;
    let all = orchestrator.events_after(&id, 0).await;
    for (index, event) in all.iter().enumerate() {
        let rest = orchestrator.events_after(&id, event.seq).await;
        assert_eq!(rest, all[index + 1..], "after {}", event.seq);
    }
    orchestrator.stop().await;
    let mut orchestrator = world.start().await;
    assert_eq!(orchestrator.events_after(&id, 0).await, all);
    let next = orchestrator.submit(&text_to_image(1)).await;
    let events = orchestrator.events_after(&next, 0).await;
    assert!(events[0].seq > all.last().unwrap().seq, "numbers go on over a restart");
}

#[tokio::test]
async fn a_watcher_of_everything_sees_every_job_in_order() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let before = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&before).await;
    let live = pb::WatchJobRequest { live_only: true, ..Default::default() };
    let mut live = orchestrator.client.watch_job(live).await.unwrap().into_inner();
    let whole = orchestrator.client.watch_job(pb::WatchJobRequest::default()).await.unwrap().into_inner();
    let after = orchestrator.submit(&text_to_image(2)).await;
    orchestrator.finish(&after).await;

    let first = tokio::time::timeout(PATIENCE, live.next()).await.unwrap().unwrap().unwrap().event.unwrap();
    assert_eq!(first.job_id, after);
    let mut seen = Vec::new();
    let mut whole = whole.map(|answer| answer.unwrap().event.unwrap());
    while seen.last().is_none_or(|event: &pb::JobEvent| {
        event.job_id != after || durable(std::slice::from_ref(event)) != ["succeeded"]
    }) {
        seen.push(tokio::time::timeout(PATIENCE, whole.next()).await.unwrap().unwrap());
    }
    assert!(seen.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(durable(&seen).iter().filter(|event| *event == "succeeded").count(), 2);
}

#[tokio::test]
async fn a_slow_watcher_loses_no_durable_event() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let mut workflow = text_to_image(1);
    workflow["3"]["inputs"]["steps"] = 5000.into();
    world.sampler.hold("Load");
    let id = orchestrator.submit(&workflow).await;
    let request = pb::WatchJobRequest { job_id: id.clone(), ..Default::default() };
    let slow = orchestrator.client.watch_job(request).await.unwrap().into_inner();
    world.sampler.release("Load");
    // Nothing is read until everything has happened.
    let expected = orchestrator.finish(&id).await;
    let seen: Vec<pb::JobEvent> = slow.map(|answer| answer.unwrap().event.unwrap()).collect().await;
    assert_eq!(durable(&seen), expected);
    assert!(seen.windows(2).all(|pair| pair[0].seq < pair[1].seq));
}

#[tokio::test]
async fn stopping_ends_every_watch() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let mut everything =
        orchestrator.client.watch_job(pb::WatchJobRequest::default()).await.unwrap().into_inner();
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(8), orchestrator.stop());
    stopped.await.expect("an open watch does not hold the orchestrator up");
    assert!(matches!(everything.next().await, None | Some(Err(_))));
}
