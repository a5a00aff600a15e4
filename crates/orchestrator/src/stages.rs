//! The stage services: how to reach them and what they offer.

mod call;
mod client;

pub use call::CallContext;
pub use client::StageClient;

use crate::config::Config;
use crate::error::OrchestratorError;
use comfy_graph::{Catalog, ErrorCode};
use comfy_proto::stage as pb;
use std::sync::{Arc, Mutex, PoisonError};

/// Every configured stage, and the catalog that they make together.
pub struct Stages {
    clients: Vec<Arc<StageClient>>,
    catalog: Mutex<Arc<Catalog>>,
}

impl Stages {
    /// Prepares connections; nothing is contacted yet.
    ///
    /// # Errors
    /// When an address is not one.
    pub fn new(config: &Config) -> Result<Self, OrchestratorError> {
        let clients = config
            .stages()
            .into_iter()
            .map(|(name, address)| StageClient::new(name, address).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { clients, catalog: Mutex::new(Arc::default()) })
    }

    pub fn clients(&self) -> &[Arc<StageClient>] {
        &self.clients
    }

    /// Asks every stage what it offers, all at once and not for long. A stage that does not answer keeps what it
    /// offered before.
    pub async fn refresh(&self) -> Arc<Catalog> {
        let changed = futures::future::join_all(self.clients.iter().map(|client| client.describe())).await;
        let mut current = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.contains(&true) {
            *current = Arc::new(self.merged());
        }
        current.clone()
    }

    fn merged(&self) -> Catalog {
        let mut catalog = Catalog::default();
        for client in &self.clients {
            let Some(offer) = client.offer() else { continue };
            let clashes = catalog.add_stage(&offer.stage, &offer.fingerprint, offer.specs.clone());
            if !clashes.is_empty() {
                tracing::warn!(stage = %offer.stage, classes = ?clashes, "node classes are offered by an earlier stage");
            }
        }
        catalog
    }

    /// The stages that have never said what they offer, as `name at address`.
    pub fn never_reached(&self) -> Vec<String> {
        let unknown = self.clients.iter().filter(|client| client.offer().is_none());
        unknown.map(|client| format!("`{}` at {}", client.name(), client.address())).collect()
    }

    /// The client of the stage that gave itself this name.
    pub async fn client(&self, stage: &str) -> Option<Arc<StageClient>> {
        let find =
            || self.clients.iter().find(|client| client.offer().is_some_and(|offer| offer.stage == stage));
        if let Some(client) = find() {
            return Some(client.clone());
        }
        // After a restart of ours while the stage was away.
        self.refresh().await;
        find().cloned()
    }

    /// Asks one stage after the other what the author of a model file wrote into it.
    ///
    /// # Errors
    /// `NotFound` when every stage that answers says so, else what the last one said.
    pub async fn model_metadata(
        &self,
        request: &pb::GetModelMetadataRequest,
    ) -> Result<pb::GetModelMetadataResponse, OrchestratorError> {
        let mut failure = None;
        for client in &self.clients {
            match client.model_metadata(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.code() == ErrorCode::NotFound => {
                    failure.get_or_insert(error);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| OrchestratorError::Unavailable("there are no stages".into())))
    }

    /// Lets every stage that answers forget its models. Returns how many bytes that freed.
    pub async fn free_memory(&self) -> u64 {
        let answers = futures::future::join_all(self.clients.iter().map(|client| client.free_memory())).await;
        let said = |(answer, client): (Result<u64, OrchestratorError>, &Arc<StageClient>)| {
            answer.unwrap_or_else(|error| {
                tracing::warn!(stage = client.name(), %error, "stage does not forget its models");
                0
            })
        };
        answers.into_iter().zip(&self.clients).map(said).sum()
    }

    /// Merges the model lists of every stage that answers.
    ///
    /// # Errors
    /// When none answers.
    pub async fn list_models(
        &self,
        request: &pb::ListModelsRequest,
    ) -> Result<pb::ListModelsResponse, OrchestratorError> {
        let answers =
            futures::future::join_all(self.clients.iter().map(|client| client.list_models(request))).await;
        let mut merged: Option<pb::ListModelsResponse> = None;
        let mut failure = None;
        for answer in answers {
            match answer {
                Ok(answer) => merged.get_or_insert_default().models.extend(answer.models),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match (merged, failure) {
            (Some(merged), _) => Ok(merged),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(pb::ListModelsResponse::default()),
        }
    }
}
