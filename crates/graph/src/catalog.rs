//! The merged node lists of every stage.

use crate::NodeSpec;
use indexmap::IndexMap;

/// A node class and the stage that runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogNode {
    pub spec: NodeSpec,
    /// The name the stage gave itself.
    pub stage: String,
    /// Whatever else changes the stage's results (device, dtype, engine version); part of cache keys.
    pub stage_fingerprint: String,
}

/// Every node class the running stages offer, in the order they were described.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    nodes: IndexMap<String, CatalogNode>,
}

impl Catalog {
    /// Adds the nodes of one stage. A class that another stage already has is left out and returned: the first
    /// stage configured wins, and the caller logs the rest.
    pub fn add_stage(&mut self, stage: &str, fingerprint: &str, specs: Vec<NodeSpec>) -> Vec<String> {
        let mut clashes = Vec::new();
        for spec in specs {
            match self.nodes.entry(spec.class.clone()) {
                indexmap::map::Entry::Occupied(entry) => clashes.push(entry.key().clone()),
                indexmap::map::Entry::Vacant(entry) => {
                    let (stage, stage_fingerprint) = (stage.to_owned(), fingerprint.to_owned());
                    entry.insert(CatalogNode { spec, stage, stage_fingerprint });
                }
            }
        }
        clashes
    }

    pub fn get(&self, class: &str) -> Option<&CatalogNode> {
        self.nodes.get(class)
    }

    pub fn iter(&self) -> impl Iterator<Item = &CatalogNode> {
        self.nodes.values()
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}
