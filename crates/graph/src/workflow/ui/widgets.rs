//! Gives the saved widget values of a node back to its inputs.

use super::sheet::UiNode;
use crate::dynamic::nested_name;
use crate::{InputGroup, InputSpec, NodeSpec, Widget};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::iter::Peekable;

/// What the page may do to a seed after each run; it saves the choice as a value of its own after the seed.
const CONTROL_CHOICES: [&str; 4] = ["fixed", "increment", "decrement", "randomize"];

/// The widget values of a node by input name, in the page's order. A value that was not saved is the default.
///
/// Without a spec only values saved by name can be told.
pub(super) fn values<'a>(node: &UiNode<'a>, spec: Option<&'a NodeSpec>) -> Vec<Saved<'a>> {
    let saved = node.json.get("widgets_values");
    let named = node.json.get("widgets_values_named").or(saved).and_then(Value::as_object);
    let positional = saved.and_then(Value::as_array).map_or(&[][..], |values| &values[..]);
    match (spec, named) {
        (Some(spec), Some(named)) => by_name(spec, named),
        (Some(spec), None) => {
            let mut found = Vec::new();
            by_position(&spec.inputs, None, &mut positional.iter().peekable(), &mut found);
            found
        }
        (None, Some(named)) => {
            let saved = |(name, value): (&'a String, &'a Value)| (name.into(), Cow::Borrowed(value));
            named.iter().map(saved).collect()
        }
        (None, None) => Vec::new(),
    }
}

/// The name of an input and its value.
type Saved<'a> = (Cow<'a, str>, Cow<'a, Value>);

fn by_name<'a>(spec: &'a NodeSpec, named: &'a Map<String, Value>) -> Vec<Saved<'a>> {
    // A choice that was not saved is the default one.
    let mut choices: HashMap<String, String> = HashMap::new();
    loop {
        let live = spec.live_inputs(|name| choices.get(name).map(String::as_str));
        let undecided = live.iter().filter(|input| !input.dynamic_options().is_empty());
        let decide =
            |input: &InputSpec| Some((input.name.clone(), named_value(input, named)?.as_str()?.to_owned()));
        let found: HashMap<String, String> = undecided.filter_map(decide).collect();
        if found.len() == choices.len() {
            let value =
                |input: &InputSpec| Some((Cow::Owned(input.name.clone()), named_value(input, named)?));
            return widget_inputs(&live).filter_map(value).collect();
        }
        choices = found;
    }
}

fn named_value<'a>(input: &InputSpec, named: &'a Map<String, Value>) -> Option<Cow<'a, Value>> {
    let saved = named.get(&input.name).map(Cow::Borrowed);
    saved.or_else(|| default(input))
}

/// Gives values to inputs in order. `combo` is the choice that brings them, if one does.
fn by_position<'a>(
    inputs: &'a [InputSpec],
    combo: Option<&str>,
    saved: &mut Peekable<std::slice::Iter<'a, Value>>,
    found: &mut Vec<Saved<'a>>,
) {
    for slot in slots(inputs) {
        match slot {
            Slot::Widget(input) => {
                let name = match combo {
                    Some(combo) => Cow::Owned(nested_name(combo, &input.name)),
                    None => Cow::Borrowed(&*input.name),
                };
                let Some(value) = saved.next().map(Cow::Borrowed).or_else(|| default(input)) else {
                    continue;
                };
                let option = value.as_str().and_then(|key| input.dynamic_option(key));
                found.push((name.clone(), value));
                if let Some(option) = option {
                    by_position(&option.inputs, Some(&name), saved, found);
                }
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
}

fn default<'a>(input: &InputSpec) -> Option<Cow<'a, Value>> {
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

fn slots(inputs: &[InputSpec]) -> Vec<Slot<'_>> {
    let mut slots = Vec::new();
    for group in [InputGroup::Required, InputGroup::Optional] {
        let mut button = None;
        let mut inputs = widget_inputs(inputs).filter(|input| input.group == group).peekable();
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
fn widget_inputs(inputs: &[InputSpec]) -> impl Iterator<Item = &InputSpec> {
    let of = |group| {
        let has_widget =
            move |input: &&InputSpec| input.group == group && !input.force_input && input.widget.is_some();
        inputs.iter().filter(has_widget)
    };
    of(InputGroup::Required).chain(of(InputGroup::Optional))
}
