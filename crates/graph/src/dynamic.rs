//! Dynamic combos: choices that bring inputs of their own.

use crate::{InputSpec, NodeSpec, Widget};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The socket type of a dynamic combo, as ComfyUI names it.
pub const DYNAMIC_COMBO: &str = "COMFY_DYNAMICCOMBO_V3";

/// One choice of a dynamic combo, with the inputs that a node has while it is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DynamicOption {
    pub key: String,
    pub inputs: Vec<InputSpec>,
}

impl DynamicOption {
    pub fn new(key: &str, inputs: Vec<InputSpec>) -> Self {
        Self { key: key.into(), inputs }
    }
}

impl InputSpec {
    /// A choice that brings inputs of its own; workflows name them `choice.input`.
    pub fn dynamic_combo(name: &str, options: Vec<DynamicOption>) -> Self {
        let widget = Some(Widget::DynamicCombo { options });
        Self { name: name.into(), socket: DYNAMIC_COMBO.into(), widget, ..Self::default() }
    }

    /// The options of a dynamic combo; none for another input.
    pub fn dynamic_options(&self) -> &[DynamicOption] {
        match &self.widget {
            Some(Widget::DynamicCombo { options }) => options,
            _ => &[],
        }
    }

    /// The option of a dynamic combo that has this key.
    pub fn dynamic_option(&self, key: &str) -> Option<&DynamicOption> {
        self.dynamic_options().iter().find(|option| option.key == key)
    }
}

/// The name that a workflow gives to an input that a choice brings.
pub(crate) fn nested_name(combo: &str, input: &str) -> String {
    format!("{combo}.{input}")
}

impl NodeSpec {
    /// The inputs that the node has when its dynamic combos stand as `chosen` says: what a choice brings follows it,
    /// under its name in workflows. A combo without a choice, or with one that it does not have, brings nothing.
    pub fn live_inputs<'a>(&self, chosen: impl Fn(&str) -> Option<&'a str>) -> Cow<'_, [InputSpec]> {
        if self.inputs.iter().all(|input| input.dynamic_options().is_empty()) {
            return Cow::Borrowed(&self.inputs);
        }
        let mut live = Vec::new();
        let mut waiting: Vec<InputSpec> = self.inputs.iter().rev().cloned().collect();
        while let Some(input) = waiting.pop() {
            if let Some(option) = chosen(&input.name).and_then(|key| input.dynamic_option(key)) {
                let nested = |nested: &InputSpec| InputSpec {
                    name: nested_name(&input.name, &nested.name),
                    ..nested.clone()
                };
                waiting.extend(option.inputs.iter().rev().map(nested));
            }
            live.push(input);
        }
        Cow::Owned(live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> NodeSpec {
        let mode = InputSpec::dynamic_combo(
            "mode",
            vec![
                DynamicOption::new("still", vec![]),
                DynamicOption::new("moving", vec![InputSpec::float("fps", 6.0, (0.01, 1000.0), 0.01, None)]),
            ],
        );
        let format = InputSpec::dynamic_combo(
            "format",
            vec![
                DynamicOption::new("png", vec![InputSpec::combo("depth", &["8-bit", "16-bit"])]),
                DynamicOption::new("avif", vec![InputSpec::int("crf", 18, (1, 63), 1), mode]),
            ],
        );
        NodeSpec::new(
            "Save",
            "test",
            vec![InputSpec::text("prefix", ""), format, InputSpec::boolean("last", true)],
            &[],
        )
    }

    fn names(choices: &[(&str, &'static str)]) -> Vec<String> {
        let chosen = |name: &str| choices.iter().find(|(combo, _)| *combo == name).map(|(_, key)| *key);
        spec().live_inputs(chosen).iter().map(|input| input.name.clone()).collect()
    }

    #[test]
    fn a_choice_brings_its_inputs_right_behind_it() {
        assert_eq!(names(&[]), ["prefix", "format", "last"]);
        assert_eq!(names(&[("format", "tiff")]), ["prefix", "format", "last"]);
        assert_eq!(names(&[("format", "png")]), ["prefix", "format", "format.depth", "last"]);
        assert_eq!(
            names(&[("format", "avif"), ("format.mode", "moving")]),
            ["prefix", "format", "format.crf", "format.mode", "format.mode.fps", "last"]
        );
    }

    #[test]
    fn a_node_without_choices_keeps_its_inputs() {
        let plain = NodeSpec::new("Plain", "test", vec![InputSpec::text("prefix", "")], &[]);
        assert!(matches!(plain.live_inputs(|_| Some("png")), Cow::Borrowed(_)));
    }

    #[test]
    fn the_json_for_people_survives_the_way_there_and_back() {
        let json = serde_json::to_value(spec()).unwrap();
        assert_eq!(json["inputs"][1]["widget"]["kind"], "dynamic_combo");
        assert_eq!(json["inputs"][1]["widget"]["options"][1]["inputs"][0]["widget"]["default"], 18);
        assert_eq!(serde_json::from_value::<NodeSpec>(json).unwrap(), spec());
    }
}
