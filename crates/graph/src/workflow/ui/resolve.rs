//! Finds what a link really brings: through reroutes, primitives, bypassed nodes and subgraph borders.

use super::layout::Scope;
use super::sheet::{Mode, UiNode};
use serde_json::Value;
use std::collections::HashMap;

/// What an input gets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// The link leads nowhere: the input is as if it had none.
    Nothing,
    /// The link leads to a muted node: the input vanishes, even its widget value.
    Removed,
    /// The value of a primitive node or of a promoted widget.
    Value(&'a Value),
    Output {
        scope: usize,
        node: &'a str,
        slot: usize,
    },
}

/// A link, by its scope and its id there.
type Place<'a> = (usize, &'a str);

enum Step<'a> {
    Found(Source<'a>),
    Follow(Place<'a>),
}

/// Resolves links, each at most once.
pub(super) struct Resolver<'a> {
    pub scopes: &'a [Scope<'a>],
    /// `None` while a link is being followed.
    known: HashMap<Place<'a>, Option<Source<'a>>>,
}

impl<'a> Resolver<'a> {
    pub fn new(scopes: &'a [Scope<'a>]) -> Self {
        Self { scopes, known: HashMap::new() }
    }

    /// What the link brings, or `None` when it goes round in a circle.
    pub fn resolve(&mut self, scope: usize, link: &'a str) -> Option<Source<'a>> {
        let mut place = (scope, link);
        let mut path = Vec::new();
        let source = loop {
            if let Some(known) = self.known.get(&place) {
                break (*known)?;
            }
            self.known.insert(place, None);
            path.push(place);
            match self.step(place) {
                Step::Found(source) => break source,
                Step::Follow(next) => place = next,
            }
        };
        self.known.extend(path.into_iter().map(|place| (place, Some(source))));
        Some(source)
    }

    fn step(&self, (index, link): Place<'a>) -> Step<'a> {
        let scope = &self.scopes[index];
        let Some(link) = scope.sheet.links.get(link) else { return Step::Found(Source::Nothing) };
        if scope.sheet.input_node.as_ref() == Some(&link.origin) {
            return self.leave_subgraph(scope, link.slot);
        }
        let Some((id, node)) = scope.sheet.nodes.get_key_value(&link.origin) else {
            return Step::Found(Source::Nothing);
        };
        match (node.mode, node.kind) {
            (Mode::Mute, _) => Step::Found(Source::Removed),
            (Mode::Bypass, _) => follow(index, bypass(node, link.slot)),
            (Mode::Run, "Reroute") => {
                follow(index, node.inputs.first().and_then(|input| input.link.as_deref()))
            }
            (Mode::Run, "PrimitiveNode") => {
                let value = node.json.get("widgets_values").and_then(|values| values.get(0));
                Step::Found(value.map_or(Source::Nothing, Source::Value))
            }
            (Mode::Run, "Note" | "MarkdownNote") => Step::Found(Source::Nothing),
            (Mode::Run, _) => match scope.children.get(id.as_str()) {
                Some(child) => {
                    follow(*child, self.scopes[*child].sheet.output_links.get(&link.slot).map(|l| &**l))
                }
                None => Step::Found(Source::Output { scope: index, node: id, slot: link.slot }),
            },
        }
    }

    /// Goes from an input of a subgraph to what its instance gives for it.
    fn leave_subgraph(&self, scope: &'a Scope<'a>, slot: usize) -> Step<'a> {
        let Some((parent, instance)) = scope.parent else { return Step::Found(Source::Nothing) };
        let name = scope.sheet.inputs.get(slot).copied().unwrap_or_default();
        let by_name = instance.inputs.iter().find(|input| input.name == name);
        // An input that was renamed keeps its place; one that only has another input's place is not it.
        let renamed = || instance.inputs.get(slot).filter(|input| !scope.sheet.inputs.contains(&input.name));
        let input = by_name.or_else(renamed);
        match input.and_then(|input| input.link.as_deref()) {
            Some(link) => Step::Follow((parent, link)),
            None => Step::Found(
                scope.input_values.get(name).map_or(Source::Nothing, |value| Source::Value(value)),
            ),
        }
    }
}

fn follow<'a>(scope: usize, link: Option<&'a str>) -> Step<'a> {
    link.map_or(Step::Found(Source::Nothing), |link| Step::Follow((scope, link)))
}

/// The link of the input that stands in for an output of a bypassed node: the input of the same number if its type
/// fits, else the first of exactly that type, else the first that fits.
fn bypass<'a>(node: &'a UiNode<'a>, slot: usize) -> Option<&'a str> {
    let socket = node.outputs.get(slot).copied().unwrap_or("*");
    let same_number = node.inputs.get(slot).filter(|input| fits(input.socket, socket));
    let exact = || node.inputs.iter().find(|input| input.socket == socket);
    let any = || node.inputs.iter().find(|input| fits(input.socket, socket));
    same_number.or_else(exact).or_else(any)?.link.as_deref()
}

/// Whether the page would let the two types be linked.
fn fits(a: &str, b: &str) -> bool {
    let is_any = |socket: &str| socket.is_empty() || socket == "*";
    let common = || a.split(',').any(|x| b.split(',').any(|y| x.trim().eq_ignore_ascii_case(y.trim())));
    is_any(a) || is_any(b) || common()
}
