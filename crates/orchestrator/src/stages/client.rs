//! One stage service.

use crate::error::OrchestratorError;
use comfy_graph::NodeSpec;
use comfy_proto::stage::stage_runner_service_client::StageRunnerServiceClient;
use comfy_proto::{MAX_MESSAGE_BYTES, stage as pb, status::from_status};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait for an answer to a question that takes no computing.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a quiet connection is tried, and how long the answer may take. A stage that computes on every core
/// answers late, so this is generous; a process that dies closes its connection at once.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(30));

/// What a stage said about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    pub stage: String,
    pub fingerprint: String,
    pub specs: Vec<NodeSpec>,
}

/// Reaches one stage. The connection is made when it is needed and made again when it was lost.
pub struct StageClient {
    name: &'static str,
    address: String,
    channel: Channel,
    offer: Mutex<Option<Arc<Offer>>>,
    pub(super) turn: Arc<Semaphore>,
}

impl StageClient {
    pub(super) fn new(name: &'static str, address: &str) -> Result<Self, OrchestratorError> {
        let endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(|_| {
                OrchestratorError::Invalid("address", format!("`{address}` is not the address of a stage"))
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_lazy();
        // One call at a time: a stage has one device, and jobs that wait must not use up their time.
        let turn = Arc::new(Semaphore::new(1));
        Ok(Self { name, address: address.into(), channel, offer: Mutex::new(None), turn })
    }

    /// The name under which the stage is configured.
    pub fn name(&self) -> &str {
        self.name
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the stage offered when it was last reached.
    pub fn offer(&self) -> Option<Arc<Offer>> {
        self.offer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn rpc(&self) -> StageRunnerServiceClient<Channel> {
        StageRunnerServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Asks what the stage offers. Returns whether that has changed.
    pub(super) async fn describe(&self) -> bool {
        let mut rpc = self.rpc();
        let answer = self.ask(rpc.describe_nodes(pb::DescribeNodesRequest {})).await;
        let offer = answer.and_then(|answer| self.read_offer(answer));
        let offer = match offer {
            Ok(offer) => offer,
            Err(error) => {
                tracing::debug!(stage = self.name, error = %error, "stage does not describe itself");
                return false;
            }
        };
        let mut current = self.offer.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_deref() == Some(&offer) {
            return false;
        }
        tracing::info!(stage = %offer.stage, nodes = offer.specs.len(), "stage described itself");
        *current = Some(Arc::new(offer));
        true
    }

    fn read_offer(&self, answer: pb::DescribeNodesResponse) -> Result<Offer, OrchestratorError> {
        let specs = answer.nodes.into_iter().map(NodeSpec::try_from).collect::<Result<_, _>>();
        let specs = specs.map_err(|error| OrchestratorError::Stage {
            code: comfy_graph::ErrorCode::Internal,
            message: format!("stage `{}` describes a node badly: {error}", self.name),
        })?;
        let stage = if answer.stage.is_empty() { self.name.to_owned() } else { answer.stage };
        Ok(Offer { stage, fingerprint: answer.fingerprint, specs })
    }

    pub(super) async fn list_models(
        &self,
        request: &pb::ListModelsRequest,
    ) -> Result<pb::ListModelsResponse, OrchestratorError> {
        let mut rpc = self.rpc();
        self.ask(rpc.list_models(request.clone())).await
    }

    pub(super) async fn model_metadata(
        &self,
        request: &pb::GetModelMetadataRequest,
    ) -> Result<pb::GetModelMetadataResponse, OrchestratorError> {
        let mut rpc = self.rpc();
        self.ask(rpc.get_model_metadata(request.clone())).await
    }

    pub(super) async fn free_memory(&self) -> Result<u64, OrchestratorError> {
        let mut rpc = self.rpc();
        Ok(self.ask(rpc.free_memory(pb::FreeMemoryRequest {})).await?.freed_bytes)
    }

    /// Asks for the stage's health. `Err` says what is wrong.
    pub async fn health(&self) -> Result<(), String> {
        let mut health = HealthClient::new(self.channel.clone());
        let answer = self.ask(health.check(HealthCheckRequest::default())).await;
        match answer.map(|answer| answer.status()) {
            Ok(ServingStatus::Serving) => Ok(()),
            Ok(other) => Err(format!("the stage says {}", other.as_str_name())),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, OrchestratorError> {
        match tokio::time::timeout(QUESTION_TIMEOUT, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                let message = format!("stage `{}` at {}: {}", self.name, self.address, status.message());
                Err(OrchestratorError::Stage { code: from_status(&status), message })
            }
            Err(_) => Err(OrchestratorError::Unavailable(format!(
                "stage `{}` at {} did not answer within {} s",
                self.name,
                self.address,
                QUESTION_TIMEOUT.as_secs()
            ))),
        }
    }
}
