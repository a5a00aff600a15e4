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

/// A [`FnNode`] with lazy inputs.
pub struct LazyNode<S> {
    /// Describes the node; see [`Node::spec`].
    pub spec: fn() -> NodeSpec,
    /// Says which lazy inputs are needed, made or not; see [`Node::wants`].
    pub wants: fn(&Inputs) -> Result<Vec<&'static str>, NodeError>,
    /// Does the work; see [`Node::run`].
    pub run: fn(&Inputs, &Ctx<'_, S>) -> Result<Outputs, NodeError>,
}

impl<S> Node<S> for LazyNode<S> {
    fn spec(&self) -> NodeSpec {
        (self.spec)()
    }

    fn wants(&self, inputs: &Inputs, pending: &[String]) -> Result<Vec<String>, NodeError> {
        let wanted = (self.wants)(inputs)?;
        Ok(pending.iter().filter(|name| wanted.contains(&name.as_str())).cloned().collect())
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, S>) -> Result<Outputs, NodeError> {
        (self.run)(inputs, ctx)
    }
}

impl<S> Node<S> for FnNode<S> {
    fn spec(&self) -> NodeSpec {
        (self.spec)()
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, S>) -> Result<Outputs, NodeError> {
        (self.run)(inputs, ctx)
    }
}
