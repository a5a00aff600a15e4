//! Gives the saved widget values of a node back to its inputs.

use super::sheet::UiNode;
use crate::{InputGroup, InputSpec, NodeSpec, Widget};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// What the page may do to a seed after each run; it saves the choice as a value of its own after the seed.
const CONTROL_CHOICES: [&str; 4] = ["fixed", "increment", "decrement", "randomize"];

/// The widget values of a node by input name, in the page's order. A value that was not saved is the default.
///
/// Without a spec only values saved by name can be told.
pub(super) fn values<'a>(node: &UiNode<'a>, spec: Option<&'a NodeSpec>) -> Vec<(&'a str, Cow<'a, Value>)> {
    let saved = node.json.get("widgets_values");
    let named = node.json.get("widgets_values_named").or(saved).and_then(Value::as_object);
    let positional = saved.and_then(Value::as_array).map_or(&[][..], |values| &values[..]);
    match (spec, named) {
        (Some(spec), Some(named)) => by_name(spec, named),
        (Some(spec), None) => by_position(spec, positional),
        (None, Some(named)) => named.iter().map(|(name, value)| (&**name, Cow::Borrowed(value))).collect(),
        (None, None) => Vec::new(),
    }
}

fn by_name<'a>(spec: &'a NodeSpec, named: &'a Map<String, Value>) -> Vec<(&'a str, Cow<'a, Value>)> {
    let value = |input: &'a InputSpec| {
        let saved = named.get(&input.name).map(Cow::Borrowed);
        Some((&*input.name, saved.or_else(|| default(input))?))
    };
    widget_inputs(spec).filter_map(value).collect()
}

fn by_position<'a>(spec: &'a NodeSpec, saved: &'a [Value]) -> Vec<(&'a str, Cow<'a, Value>)> {
    let mut saved = saved.iter().peekable();
    let mut found = Vec::new();
    for slot in slots(spec) {
        match slot {
            Slot::Widget(input) => {
                let value = saved.next().map(Cow::Borrowed).or_else(|| default(input));
                found.extend(value.map(|value| (&*input.name, value)));
            }
            Slot::Control { next_is_bool } => {
                saved.next_if(|value| match value {
                    // The earliest pages saved whether the seed changes, not how.
                    Value::Bool(_) => !next_is_bool,
                    value => value.as_str().is_some_and(|text| CONTROL_CHOICES.contains(&text)),
                });
            }
            Slot::Upload(kind) => {
                saved.next_if(|value| value.as_str() == Some(kind));
            }
        }
    }
    found
}

fn default(input: &InputSpec) -> Option<Cow<'_, Value>> {
    input.widget.as_ref()?.default_literal().map(|literal| Cow::Owned(literal.to_json()))
}

/// A place in the list of saved values.
enum Slot<'a> {
    Widget(&'a InputSpec),
    /// What happens to the seed before; saved by most versions of the page.
    Control {
        next_is_bool: bool,
    },
    /// The caption of an upload button; saved by most versions of the page.
    Upload(&'a str),
}

fn slots(spec: &NodeSpec) -> Vec<Slot<'_>> {
    let mut slots = Vec::new();
    for group in [InputGroup::Required, InputGroup::Optional] {
        let mut button = None;
        let mut inputs = widget_inputs(spec).filter(|input| input.group == group).peekable();
        while let Some(input) = inputs.next() {
            slots.push(Slot::Widget(input));
            match &input.widget {
                Some(Widget::Int { control_after_generate, .. })
                    if *control_after_generate || matches!(&*input.name, "seed" | "noise_seed") =>
                {
                    let next = inputs.peek().and_then(|next| next.widget.as_ref());
                    slots.push(Slot::Control { next_is_bool: matches!(next, Some(Widget::Bool { .. })) });
                }
                Some(Widget::Combo { upload: Some(kind), .. }) => button = Some(Slot::Upload(kind)),
                _ => {}
            }
        }
        slots.extend(button);
    }
    slots
}

/// The inputs that have a widget on the page: required ones first.
fn widget_inputs(spec: &NodeSpec) -> impl Iterator<Item = &InputSpec> {
    let of = |group| {
        let has_widget =
            move |input: &&InputSpec| input.group == group && !input.force_input && input.widget.is_some();
        spec.inputs.iter().filter(has_widget)
    };
    of(InputGroup::Required).chain(of(InputGroup::Optional))
}
