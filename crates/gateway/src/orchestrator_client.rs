//! Calls to the orchestrator, each with a time limit and errors as [`ApiError`].

use crate::error::{ApiError, object_or_empty};
use axum::http::StatusCode;
use comfy_graph::ErrorCode;
use comfy_proto::MAX_MESSAGE_BYTES;
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use comfy_proto::stage::{GetModelMetadataRequest, ListModelsRequest, ModelFile};
use serde_json::Value;
use std::error::Error as _;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status, Streaming};

/// Listing nodes may make the orchestrator ask every stage, which is the slowest call.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Jobs asked for at a time; workflows of a few hundred kilobytes stay far below the limit of a message.
const JOBS_PER_ANSWER: u32 = 32;

/// A connection to the orchestrator that is made, and made again, when needed. Clones share it.
#[derive(Debug, Clone)]
pub struct Orchestrator {
    client: OrchestratorServiceClient<Channel>,
    address: String,
}

impl Orchestrator {
    /// Prepares a connection; nothing is sent yet.
    pub fn new(address: Uri) -> Self {
        // A peer that vanished without closing is noticed within the interval and the time-out.
        let endpoint = Endpoint::from(address.clone())
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true);
        let client = OrchestratorServiceClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, address: address.to_string().trim_end_matches('/').to_owned() }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    async fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, ApiError> {
        match tokio::time::timeout(CALL_LIMIT, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.explain(status)),
            Err(_) => Err(ApiError::from_code(
                ErrorCode::DeadlineExceeded,
                format!("the orchestrator did not answer within {} s", CALL_LIMIT.as_secs()),
            )),
        }
    }

    // tonic's own text for a refused connection ("transport error") tells a person nothing. A status that the
    // orchestrator sent, about a stage for example, has no source and says what is wrong itself.
    fn explain(&self, status: Status) -> ApiError {
        let is_own = status.source().is_some();
        let error = ApiError::from(status);
        if is_own && error.code == ErrorCode::Unavailable.as_str() {
            let message = format!("the orchestrator at `{}` cannot be reached", self.address);
            return ApiError {
                details: error.message,
                message,
                ..ApiError::from_code(ErrorCode::Unavailable, "")
            };
        }
        error
    }

    pub async fn submit(&self, request: pb::SubmitWorkflowRequest) -> Result<pb::Accepted, ApiError> {
        use pb::submit_workflow_response::Result as R;
        match self.call(self.client.clone().submit_workflow(request)).await?.result {
            Some(R::Accepted(accepted)) => Ok(accepted),
            Some(R::Rejected(rejected)) => {
                Err(ApiError::rejected(&rejected.error_json, &rejected.node_errors_json))
            }
            Some(R::KeyReused(pb::KeyReused { job_id })) => Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                format!("this idempotency key was used for job `{job_id}`, which was another request"),
            )),
            None => Err(ApiError::internal("the orchestrator answered a submission with nothing")),
        }
    }

    pub async fn job(&self, id: &str) -> Result<pb::Job, ApiError> {
        let request = pb::GetJobRequest { job_id: id.into() };
        self.call(self.client.clone().get_job(request)).await?.job.ok_or_else(|| unknown_job(id))
    }

    pub async fn jobs(&self, request: pb::ListJobsRequest) -> Result<pb::ListJobsResponse, ApiError> {
        self.call(self.client.clone().list_jobs(request)).await
    }

    /// Lists all jobs that a request names, in as many answers as it takes: each holds whole workflows, so one for all
    /// may be larger than a message.
    pub async fn all_jobs(&self, request: pb::ListJobsRequest) -> Result<Vec<pb::Job>, ApiError> {
        let (mut jobs, mut page) = (Vec::new(), JOBS_PER_ANSWER);
        loop {
            let request = pb::ListJobsRequest { limit: page, offset: jobs.len() as u32, ..request.clone() };
            match self.jobs(request).await {
                Ok(answer) => {
                    let last = answer.jobs.len() < page as usize;
                    jobs.extend(answer.jobs);
                    if last {
                        return Ok(jobs);
                    }
                }
                Err(error) if page > 1 && error.code == ErrorCode::Internal.as_str() => {
                    page = (page / 4).max(1)
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub async fn cancel(&self, id: &str) -> Result<pb::Job, ApiError> {
        self.try_cancel(id).await?.job.ok_or_else(|| unknown_job(id))
    }

    /// Cancels a job and says whether it had not ended yet.
    pub async fn try_cancel(&self, id: &str) -> Result<pb::CancelJobResponse, ApiError> {
        let request = pb::CancelJobRequest { job_id: id.into() };
        self.call(self.client.clone().cancel_job(request)).await
    }

    /// Moves a job that waits before another one, or to the end of the queue.
    pub async fn move_job(&self, id: &str, before: Option<String>) -> Result<pb::Job, ApiError> {
        let request = pb::MoveJobRequest { job_id: id.into(), before_job_id: before.unwrap_or_default() };
        self.call(self.client.clone().move_job(request)).await?.job.ok_or_else(|| unknown_job(id))
    }

    pub async fn delete(&self, request: pb::DeleteJobsRequest) -> Result<u32, ApiError> {
        Ok(self.call(self.client.clone().delete_jobs(request)).await?.deleted)
    }

    /// Starts to watch; the time limit covers the start only.
    pub async fn watch(
        &self,
        request: pb::WatchJobRequest,
    ) -> Result<Streaming<pb::WatchJobResponse>, ApiError> {
        self.call(self.client.clone().watch_job(request)).await
    }

    pub async fn nodes(&self) -> Result<Vec<pb::CatalogNode>, ApiError> {
        Ok(self.call(self.client.clone().list_nodes(pb::ListNodesRequest {})).await?.nodes)
    }

    /// Lists the model files of a folder; one that no stage knows is empty.
    pub async fn models(&self, folder: &str) -> Result<Vec<ModelFile>, ApiError> {
        let request = ListModelsRequest { folder: folder.into() };
        match self.call(self.client.clone().list_models(request)).await {
            Ok(response) => Ok(response.models),
            Err(error) if error.code == ErrorCode::NotFound.as_str() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What the author of a model file wrote into it.
    pub async fn model_metadata(&self, folder: &str, name: &str) -> Result<Value, ApiError> {
        let request = GetModelMetadataRequest { folder: folder.into(), name: name.into(), cover: false };
        let answer = self.call(self.client.clone().get_model_metadata(request)).await?;
        Ok(object_or_empty(&answer.metadata_json))
    }

    /// The picture beside a model file or, where there is none, what its author wrote into the file.
    pub async fn model_cover(&self, folder: &str, name: &str) -> Result<(Vec<u8>, Value), ApiError> {
        let request = GetModelMetadataRequest { folder: folder.into(), name: name.into(), cover: true };
        let answer = self.call(self.client.clone().get_model_metadata(request)).await?;
        Ok((answer.cover, object_or_empty(&answer.metadata_json)))
    }

    pub async fn free_memory(&self, request: pb::FreeMemoryRequest) -> Result<(), ApiError> {
        self.call(self.client.clone().free_memory(request)).await?;
        Ok(())
    }

    pub async fn convert(&self, workflow_json: String) -> Result<String, ApiError> {
        let request = pb::ConvertWorkflowRequest { workflow_json };
        Ok(self.call(self.client.clone().convert_workflow(request)).await?.graph_json)
    }

    pub async fn system(&self) -> Result<pb::GetSystemResponse, ApiError> {
        self.call(self.client.clone().get_system(pb::GetSystemRequest {})).await
    }
}

fn unknown_job(id: &str) -> ApiError {
    ApiError::not_found(format!("no job `{id}`"))
}
