//! A node without a type of its own.

use crate::node::{Node, NodeError, Outputs};
use crate::{Ctx, Inputs};
use comfy_graph::NodeSpec;

/// A node made of two functions, so that a category of small nodes reads like a table.
pub struct FnNode<S> {
    /// Describes the node; see [`Node::spec`].
    pub spec: fn() -> NodeSpec,
    /// Does the work; see [`Node::run`].
    pub run: fn(&Inputs, &Ctx<'_, S>) -> Result<Outputs, NodeError>,
}

impl<S> Node<S> for FnNode<S> {
    fn spec(&self) -> NodeSpec {
        (self.spec)()
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, S>) -> Result<Outputs, NodeError> {
        (self.run)(inputs, ctx)
    }
}
