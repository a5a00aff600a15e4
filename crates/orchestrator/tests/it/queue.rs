//! Order and history of jobs.

use crate::harness::World;
use comfy_proto::orchestrator as pb;
use comfy_testkit::fake_stage::{PEAK_BYTES, text_to_image};

fn request(seed: u64) -> pb::SubmitWorkflowRequest {
    pb::SubmitWorkflowRequest { workflow_json: text_to_image(seed).to_string(), ..Default::default() }
}

#[tokio::test]
async fn jobs_run_in_queue_order() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.hold("Sample");
    let first = orchestrator.submit_as(request(1)).await;
    world.sampler.wait_started("Sample", 1).await;
    let second = orchestrator.submit_as(request(2)).await;
    let front = orchestrator.submit_as(pb::SubmitWorkflowRequest { front: true, ..request(3) }).await;
    let between = orchestrator.submit_as(pb::SubmitWorkflowRequest { number: Some(0.5), ..request(4) }).await;
    let last = orchestrator.submit_as(request(5)).await;
    let numbers = [&first, &second, &front, &between, &last].map(|job| job.number);
    assert_eq!(numbers, [0.0, 1.0, -2.0, 0.5, 3.0]);

    let queued = pb::ListJobsRequest { statuses: vec![pb::JobStatus::Queued.into()], ..Default::default() };
    let listed = orchestrator.client.list_jobs(queued).await.unwrap().into_inner();
    let expected = [&front, &between, &second, &last].map(|job| job.job_id.clone());
    assert_eq!(listed.jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(listed.total, 4);

    world.sampler.release("Sample");
    orchestrator.finish(&last.job_id).await;
    let mut ran: Vec<String> = world.sampler.calls().into_iter().map(|call| call.job_id).collect();
    ran.dedup();
    assert_eq!(ran[0], first.job_id);
    assert_eq!(ran[1..], expected);
}

#[tokio::test]
async fn waiting_jobs_are_moved_and_stay_there_over_a_restart() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    world.sampler.hold("Sample");
    let mut ids = Vec::new();
    for seed in 0..5 {
        ids.push(orchestrator.submit(&text_to_image(seed)).await);
    }
    world.sampler.wait_started("Sample", 1).await;
    let move_to =
        |id: &str, before: &str| pb::MoveJobRequest { job_id: id.into(), before_job_id: before.into() };
    let queued = pb::ListJobsRequest { statuses: vec![pb::JobStatus::Queued.into()], ..Default::default() };
    for (request, expected) in [
        (move_to(&ids[4], &ids[2]), [1, 4, 2, 3]),
        (move_to(&ids[1], ""), [4, 2, 3, 1]),
        (move_to(&ids[3], &ids[4]), [3, 4, 2, 1]),
        (move_to(&ids[3], &ids[4]), [3, 4, 2, 1]),
    ] {
        let moved = orchestrator.client.move_job(request.clone()).await.unwrap().into_inner().job.unwrap();
        assert_eq!(moved.id, request.job_id);
        let listed = orchestrator.client.list_jobs(queued.clone()).await.unwrap().into_inner().jobs;
        let order: Vec<usize> =
            listed.iter().map(|job| ids.iter().position(|id| *id == job.id).unwrap()).collect();
        assert_eq!(order, expected);
        assert!(listed.iter().all(|job| job.ordinal as usize == order_of(&ids, &job.id) + 1), "names stay");
        assert!(listed.windows(2).all(|pair| pair[0].number < pair[1].number));
    }
    let events = orchestrator.job(&ids[3]).await.durable_events;
    let moved: Vec<f64> = events
        .iter()
        .filter_map(|event| match &event.kind {
            Some(pb::job_event::Kind::Moved(moved)) => Some(moved.number),
            _ => None,
        })
        .collect();
    assert_eq!(moved.len(), 1, "a move to where the job is says nothing");

    for (request, code, message) in [
        (move_to("x", ""), tonic::Code::NotFound, "there is no job `x`".to_owned()),
        (move_to(&ids[1], "x"), tonic::Code::NotFound, "there is no job `x`".to_owned()),
        (
            move_to(&ids[0], ""),
            tonic::Code::FailedPrecondition,
            format!("job `{}` is running, only jobs that wait can be ordered", ids[0]),
        ),
        (
            move_to(&ids[1], &ids[0]),
            tonic::Code::FailedPrecondition,
            format!("job `{}` is running, only jobs that wait can be ordered", ids[0]),
        ),
    ] {
        let error = orchestrator.client.move_job(request).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, message.as_str()));
    }

    orchestrator.kill();
    let mut orchestrator = world.start().await;
    let late = orchestrator.submit(&text_to_image(9)).await;
    world.sampler.release("Sample");
    orchestrator.finish(&late).await;
    let mut ran: Vec<String> = world.sampler.calls().into_iter().map(|call| call.job_id).collect();
    ran.dedup();
    // The one that ran when the process died goes on first.
    let mut expected = [0, 3, 4, 2, 1].map(|index| ids[index].clone()).to_vec();
    expected.push(late);
    assert_eq!(ran, expected);
    let error = orchestrator.client.move_job(move_to(&ids[1], "")).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
}

fn order_of(ids: &[String], id: &str) -> usize {
    ids.iter().position(|known| known == id).unwrap()
}

#[tokio::test]
async fn the_memory_of_nodes_is_kept() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let id = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&id).await;
    orchestrator.kill();
    let mut orchestrator = world.start().await;
    let memory = |job: pb::Job| -> Vec<(String, String, u64)> {
        let done = |event: pb::JobEvent| match event.kind {
            Some(pb::job_event::Kind::NodeDone(done)) => Some((done.node_id, done.stage, done.peak_bytes)),
            _ => None,
        };
        job.durable_events.into_iter().filter_map(done).collect()
    };
    let mut kept = memory(orchestrator.job(&id).await);
    kept.sort();
    let expected: Vec<(String, String, u64)> = (1..=6)
        .map(|node| {
            let stage = if node < 5 { "sampler" } else { "image" };
            (node.to_string(), stage.to_owned(), PEAK_BYTES)
        })
        .collect();
    assert_eq!(kept, expected);

    // What comes from the cache took nothing.
    let again = orchestrator.submit(&text_to_image(1)).await;
    orchestrator.finish(&again).await;
    assert_eq!(memory(orchestrator.job(&again).await), []);
}

#[tokio::test]
async fn the_same_job_can_be_submitted_again() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let named = |seed| pb::SubmitWorkflowRequest { job_id: "mine".into(), ..request(seed) };
    let first = orchestrator.submit_as(named(1)).await;
    let again = orchestrator.submit_as(named(1)).await;
    assert_eq!((first.job_id.as_str(), first.number), (again.job_id.as_str(), again.number));
    orchestrator.finish("mine").await;
    assert_eq!(world.sampler.calls().len(), 1);
    let error = orchestrator.client.submit_workflow(named(2)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert_eq!(error.message(), "job `mine` exists already, with other content");
}

#[tokio::test]
async fn history_is_listed_and_deleted() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let mut ids = Vec::new();
    for seed in 0..3 {
        let id = orchestrator.submit(&text_to_image(seed)).await;
        orchestrator.finish(&id).await;
        ids.push(id);
    }
    let page = pb::ListJobsRequest { limit: 2, offset: 1, newest_first: true, ..Default::default() };
    let listed = orchestrator.client.list_jobs(page).await.unwrap().into_inner();
    let listed_ids: Vec<&str> = listed.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!((listed_ids, listed.total), (vec![ids[1].as_str(), ids[0].as_str()], 3));
    assert!(listed.jobs.iter().all(|job| job.graph_json.is_empty() && job.outputs.len() == 1));

    let detail = pb::ListJobsRequest { detail: true, ..Default::default() };
    let listed = orchestrator.client.list_jobs(detail).await.unwrap().into_inner();
    assert!(
        listed.jobs.iter().all(|job| job.graph_json.contains("Sample") && !job.durable_events.is_empty())
    );

    world.sampler.hold("Sample");
    let running = orchestrator.submit(&text_to_image(9)).await;
    world.sampler.wait_started("Sample", 4).await;
    let one =
        pb::DeleteJobsRequest { job_ids: vec![ids[0].clone(), running.clone(), "x".into()], all: false };
    assert_eq!(orchestrator.client.delete_jobs(one).await.unwrap().into_inner().deleted, 1);
    let gone = orchestrator.client.get_job(pb::GetJobRequest { job_id: ids[0].clone() }).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
    let all = pb::DeleteJobsRequest { all: true, ..Default::default() };
    assert_eq!(orchestrator.client.delete_jobs(all).await.unwrap().into_inner().deleted, 2);
    world.sampler.release("Sample");
    assert_eq!(orchestrator.finish(&running).await.last().unwrap(), "succeeded");
}

#[tokio::test]
async fn old_history_is_forgotten() {
    let world = World::new();
    let config = comfy_orchestrator::Config { history_limit: 2, ..world.config() };
    let mut orchestrator = world.start_with(config).await;
    let mut ids = Vec::new();
    for seed in 0..4 {
        let id = orchestrator.submit(&text_to_image(seed)).await;
        orchestrator.finish(&id).await;
        ids.push(id);
    }
    let listed = orchestrator.client.list_jobs(pb::ListJobsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>(), ids[2..]);
}
