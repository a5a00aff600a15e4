//! The gRPC face of the orchestrator.

use crate::context::Context;
use crate::error::OrchestratorError;
use crate::ledger::{Cancelling, Ledger};
use crate::store::{JobFilter, JobRow};
use crate::submit;
use crate::watch::{From as WatchFrom, Watcher};
use crate::wire::{self, Snapshot};
use comfy_graph::JobStatus;
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::orchestrator_service_server::OrchestratorService;
use comfy_proto::stage::{
    GetModelMetadataRequest, GetModelMetadataResponse, ListModelsRequest, ListModelsResponse,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Longest wait for a running job to stop; its stages are told at once and need no time to be told.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Most durable events that a snapshot of a job shows.
const SNAPSHOT_EVENTS: u32 = 100_000;

/// Answers `comfy.orchestrator.v1.OrchestratorService`.
pub struct Service {
    context: Arc<Context>,
}

impl Service {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn job(&self, id: &str) -> Result<pb::Job, OrchestratorError> {
        let id = id.to_owned();
        let snapshot = self
            .context
            .ledger
            .call(move |ledger| {
                let job = ledger.store().job(&id, true)?.ok_or(OrchestratorError::NoSuchJob(id))?;
                snapshot(ledger, job)
            })
            .await?;
        Ok(wire::job(snapshot))
    }
}

fn snapshot(ledger: &mut Ledger, job: JobRow) -> Result<Snapshot, OrchestratorError> {
    let shown = ledger.store().shown(&job.id)?;
    let live = ledger.live(&job.id);
    let events = match job.texts {
        Some(_) => ledger.store().events(Some(&job.id), 0, SNAPSHOT_EVENTS)?,
        None => Vec::new(),
    };
    Ok(Snapshot { job, shown, live, events })
}

#[tonic::async_trait]
impl OrchestratorService for Service {
    async fn submit_workflow(
        &self,
        request: Request<pb::SubmitWorkflowRequest>,
    ) -> Result<Response<pb::SubmitWorkflowResponse>, Status> {
        Ok(Response::new(submit::submit(&self.context, request.into_inner()).await?))
    }

    async fn get_job(
        &self,
        request: Request<pb::GetJobRequest>,
    ) -> Result<Response<pb::GetJobResponse>, Status> {
        let job = self.job(&request.into_inner().job_id).await?;
        Ok(Response::new(pb::GetJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let by_duration = match pb::JobOrder::try_from(request.order) {
            Ok(pb::JobOrder::Unspecified) => false,
            Ok(pb::JobOrder::Duration) => true,
            Err(_) => {
                let message = format!("`order` holds `{}`, which is no order of jobs", request.order);
                return Err(OrchestratorError::Invalid("order", message).into());
            }
        };
        let filter = JobFilter {
            statuses: request.statuses.into_iter().map(read_status).collect::<Result<_, _>>()?,
            limit: (request.limit > 0).then_some(request.limit),
            offset: request.offset,
            newest_first: request.newest_first,
            detail: request.detail,
            workflow_id: (!request.workflow_id.is_empty()).then_some(request.workflow_id),
            by_duration,
        };
        let (snapshots, total) = self
            .context
            .ledger
            .call(move |ledger| {
                let (jobs, total) = ledger.store().jobs(&filter)?;
                let snapshots =
                    jobs.into_iter().map(|job| snapshot(ledger, job)).collect::<Result<Vec<_>, _>>()?;
                Ok::<_, OrchestratorError>((snapshots, total))
            })
            .await?;
        let jobs = snapshots.into_iter().map(wire::job).collect();
        Ok(Response::new(pb::ListJobsResponse { jobs, total }))
    }

    async fn cancel_job(
        &self,
        request: Request<pb::CancelJobRequest>,
    ) -> Result<Response<pb::CancelJobResponse>, Status> {
        let id = request.into_inner().job_id;
        let wanted = id.clone();
        let asked = self.context.ledger.call(move |ledger| ledger.cancel(&wanted)).await?;
        let had_ended = matches!(asked, Cancelling::AlreadyEnded);
        if let Cancelling::Asked(done) = asked {
            // Whether it came in time is read from the job below.
            let _ = tokio::time::timeout(CANCEL_TIMEOUT, done).await;
        }
        let job = self.job(&id).await?;
        let cancelled = !had_ended && job.status() == pb::JobStatus::Cancelled;
        Ok(Response::new(pb::CancelJobResponse { job: Some(job), cancelled }))
    }

    async fn move_job(
        &self,
        request: Request<pb::MoveJobRequest>,
    ) -> Result<Response<pb::MoveJobResponse>, Status> {
        let pb::MoveJobRequest { job_id, before_job_id } = request.into_inner();
        let id = job_id.clone();
        let before = (!before_job_id.is_empty()).then_some(before_job_id);
        self.context.ledger.call(move |ledger| ledger.move_job(&id, before.as_deref())).await?;
        Ok(Response::new(pb::MoveJobResponse { job: Some(self.job(&job_id).await?) }))
    }

    async fn delete_jobs(
        &self,
        request: Request<pb::DeleteJobsRequest>,
    ) -> Result<Response<pb::DeleteJobsResponse>, Status> {
        let request = request.into_inner();
        let ids = (!request.all).then_some(request.job_ids);
        let deleted = self.context.ledger.call(move |ledger| ledger.store().delete(ids.as_deref())).await;
        let deleted = deleted.map_err(OrchestratorError::Store)?;
        Ok(Response::new(pb::DeleteJobsResponse { deleted }))
    }

    type WatchJobStream = BoxStream<'static, Result<pb::WatchJobResponse, Status>>;

    async fn watch_job(
        &self,
        request: Request<pb::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let request = request.into_inner();
        let job_id = (!request.job_id.is_empty()).then_some(request.job_id);
        let from = if request.live_only { WatchFrom::Now } else { WatchFrom::Seq(request.after_seq) };
        let watcher = Watcher::start(self.context.clone(), job_id, from).await?;
        let events = futures::stream::unfold(watcher, |mut watcher| async move {
            let event = watcher.next().await?;
            let event = event.map_err(|error| Status::from(OrchestratorError::Store(error)));
            let event = event.map(|event| {
                let event = Arc::unwrap_or_clone(event);
                pb::WatchJobResponse { event: Some(wire::event(event)) }
            });
            Some((event, watcher))
        });
        Ok(Response::new(events.boxed()))
    }

    async fn list_nodes(
        &self,
        _request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let catalog = self.context.stages.refresh().await;
        let nodes = catalog
            .iter()
            .map(|node| pb::CatalogNode { stage: node.stage.clone(), spec: Some((&node.spec).into()) })
            .collect();
        Ok(Response::new(pb::ListNodesResponse { nodes }))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(self.context.stages.list_models(request.get_ref()).await?))
    }

    async fn get_model_metadata(
        &self,
        request: Request<GetModelMetadataRequest>,
    ) -> Result<Response<GetModelMetadataResponse>, Status> {
        Ok(Response::new(self.context.stages.model_metadata(request.get_ref()).await?))
    }

    async fn free_memory(
        &self,
        request: Request<pb::FreeMemoryRequest>,
    ) -> Result<Response<pb::FreeMemoryResponse>, Status> {
        let request = request.into_inner();
        let mut answer = pb::FreeMemoryResponse::default();
        if request.unload_models {
            answer.freed_bytes = self.context.stages.free_memory().await;
        }
        if request.forget_results {
            let forgotten = self.context.ledger.call(|ledger| ledger.store().forget_results()).await;
            answer.forgotten_results = forgotten.map_err(OrchestratorError::Store)?;
        }
        Ok(Response::new(answer))
    }

    async fn convert_workflow(
        &self,
        request: Request<pb::ConvertWorkflowRequest>,
    ) -> Result<Response<pb::ConvertWorkflowResponse>, Status> {
        let graph_json = submit::convert(&self.context, request.into_inner().workflow_json).await?;
        Ok(Response::new(pb::ConvertWorkflowResponse { graph_json }))
    }

    async fn get_system(
        &self,
        _request: Request<pb::GetSystemRequest>,
    ) -> Result<Response<pb::GetSystemResponse>, Status> {
        let states = self.context.stages.clients().iter().map(|client| async move {
            let health = client.health().await;
            pb::ServiceState {
                name: client.name().into(),
                address: client.address().into(),
                serving: health.is_ok(),
                detail: health.err().unwrap_or_default(),
            }
        });
        let services = futures::future::join_all(states).await;
        let counts = self.context.ledger.call(|ledger| ledger.store().counts()).await;
        let (running, pending) = counts.map_err(OrchestratorError::Store)?;
        let version = env!("CARGO_PKG_VERSION").into();
        Ok(Response::new(pb::GetSystemResponse { version, services, running, pending }))
    }
}

fn read_status(value: i32) -> Result<JobStatus, Status> {
    wire::read_status(value).ok_or_else(|| {
        Status::invalid_argument(format!("`statuses` holds `{value}`, which is no job status"))
    })
}
