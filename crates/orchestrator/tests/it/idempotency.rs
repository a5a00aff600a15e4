//! Submitting the same thing twice.

use crate::harness::{Orchestrator, World};
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::submit_workflow_response::Result as Answer;
use comfy_testkit::fake_stage::text_to_image;

fn request(key: &str, seed: u64) -> pb::SubmitWorkflowRequest {
    pb::SubmitWorkflowRequest {
        workflow_json: text_to_image(seed).to_string(),
        idempotency_key: key.into(),
        ..Default::default()
    }
}

async fn answer(orchestrator: &mut Orchestrator, request: pb::SubmitWorkflowRequest) -> Answer {
    orchestrator.client.submit_workflow(request).await.unwrap().into_inner().result.unwrap()
}

async fn jobs(orchestrator: &mut Orchestrator) -> u32 {
    orchestrator.client.list_jobs(pb::ListJobsRequest::default()).await.unwrap().into_inner().total
}

#[tokio::test]
async fn one_key_makes_one_job_over_restarts() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let first = orchestrator.submit_as(request("k1", 1)).await;
    assert_eq!(orchestrator.submit_as(request("k1", 1)).await, first);
    orchestrator.kill();
    let mut orchestrator = world.start().await;
    // Whose connection it is does not count.
    let again = pb::SubmitWorkflowRequest { client_id: "other".into(), ..request("k1", 1) };
    assert_eq!(orchestrator.submit_as(again).await, first);
    assert_eq!(orchestrator.finish(&first.job_id).await.last().unwrap(), "succeeded");
    assert_eq!(orchestrator.submit_as(request("k1", 1)).await, first, "also when the job has ended");
    let other = orchestrator.submit_as(request("k2", 1)).await;
    assert_ne!(other.job_id, first.job_id);
    assert_eq!(jobs(&mut orchestrator).await, 2);
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let first = orchestrator.submit_as(request("k1", 1)).await;
    let reused = Answer::KeyReused(pb::KeyReused { job_id: first.job_id.clone() });
    assert_eq!(answer(&mut orchestrator, request("k1", 2)).await, reused);
    let front = pb::SubmitWorkflowRequest { front: true, ..request("k1", 1) };
    assert_eq!(answer(&mut orchestrator, front).await, reused);
    assert_eq!(jobs(&mut orchestrator).await, 1);
}

#[tokio::test]
async fn a_refused_workflow_uses_no_key_and_a_deleted_job_frees_its_key() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let wrong = pb::SubmitWorkflowRequest { workflow_json: "{}".into(), ..request("k1", 1) };
    assert!(matches!(answer(&mut orchestrator, wrong).await, Answer::Rejected(_)));
    let first = orchestrator.submit_as(request("k1", 1)).await;
    orchestrator.finish(&first.job_id).await;
    let all = pb::DeleteJobsRequest { job_ids: Vec::new(), all: true };
    orchestrator.client.delete_jobs(all).await.unwrap();
    let second = orchestrator.submit_as(request("k1", 2)).await;
    assert_ne!(second.job_id, first.job_id);
}

#[tokio::test]
async fn many_at_once_make_one_job() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let submissions = (0..16).map(|_| {
        let mut client = orchestrator.client.clone();
        async move { client.submit_workflow(request("k1", 1)).await.unwrap().into_inner().result.unwrap() }
    });
    let answers = futures::future::join_all(submissions).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(jobs(&mut orchestrator).await, 1);
}

#[tokio::test]
async fn what_is_wrong_is_named_by_field() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    for (request, field) in [
        (pb::SubmitWorkflowRequest { idempotency_key: "a\nb".into(), ..request("", 1) }, "idempotency_key"),
        (pb::SubmitWorkflowRequest { number: Some(f64::NAN), ..request("", 1) }, "number"),
        (pb::SubmitWorkflowRequest { extra_data_json: "[".into(), ..request("", 1) }, "extra_data_json"),
    ] {
        let status = orchestrator.client.submit_workflow(request).await.unwrap_err();
        assert_eq!(comfy_proto::status::wrong_field(&status).as_deref(), Some(field), "{status:?}");
    }
}

#[tokio::test]
async fn memory_is_freed_and_results_forgotten_on_request() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let job = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&job).await;
    let sampled = world.sampler.started("Sample");
    let unload = pb::FreeMemoryRequest { unload_models: true, forget_results: false };
    let answer = orchestrator.client.free_memory(unload).await.unwrap().into_inner();
    assert_eq!((answer.freed_bytes, answer.forgotten_results), (2000, 0), "both stages answered");
    let job = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&job).await;
    assert_eq!(world.sampler.started("Sample"), sampled, "results are kept");
    let forget = pb::FreeMemoryRequest { unload_models: false, forget_results: true };
    let answer = orchestrator.client.free_memory(forget).await.unwrap().into_inner();
    assert!(answer.freed_bytes == 0 && answer.forgotten_results > 0, "{answer:?}");
    let job = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&job).await;
    assert_eq!(world.sampler.started("Sample"), sampled + 1);
}
