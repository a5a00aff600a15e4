//! What a node is: its inputs, widgets and outputs, as its stage describes it.

use crate::{DynamicOption, Literal};
use serde::{Deserialize, Serialize};

/// Describes a node class: the equivalent of a ComfyUI node's `INPUT_TYPES` and return types.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeSpec {
    pub class: String,
    pub display_name: String,
    pub description: String,
    pub category: String,
    /// Raised whenever the same inputs give other results; part of the cache key.
    pub version: u32,
    pub inputs: Vec<InputSpec>,
    pub outputs: Vec<OutputSpec>,
    /// Whether the node takes every input as a whole list and runs once, instead of once per element.
    #[serde(default)]
    pub input_is_list: bool,
    /// Whether the node may answer with nodes that take its place.
    #[serde(default)]
    pub expands: bool,
    /// Whether the node is an end of the graph, such as a node that saves.
    pub output_node: bool,
    #[serde(default)]
    pub deprecated: bool,
    #[serde(default)]
    pub experimental: bool,
    /// Whether equal inputs may give unequal results, so that nothing may be reused.
    #[serde(default)]
    pub not_cacheable: bool,
}

impl NodeSpec {
    /// Describes version 1 of a class whose outputs are named after their types.
    pub fn new(class: &str, category: &str, inputs: Vec<InputSpec>, outputs: &[&str]) -> Self {
        Self {
            class: class.into(),
            display_name: class.into(),
            category: category.into(),
            version: 1,
            inputs,
            outputs: outputs.iter().map(|socket| OutputSpec::of(socket)).collect(),
            ..Self::default()
        }
    }

    /// Sets the name that people see, where it is not the class.
    pub fn titled(mut self, display_name: &str) -> Self {
        self.display_name = display_name.into();
        self
    }

    /// Says what the node does.
    pub fn about(mut self, description: &str) -> Self {
        self.description = description.into();
        self
    }

    /// Names the outputs, where their types do not.
    pub fn naming(mut self, names: &[&str]) -> Self {
        self.outputs.iter_mut().zip(names).for_each(|(output, name)| output.name = (*name).into());
        self
    }

    /// Makes it an end of the graph.
    pub fn ending(mut self) -> Self {
        self.output_node = true;
        self
    }

    /// Finds an input by name.
    pub fn input(&self, name: &str) -> Option<&InputSpec> {
        self.inputs.iter().find(|input| input.name == name)
    }
}

/// Whether a workflow must, may or cannot give an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputGroup {
    #[default]
    Required,
    Optional,
    /// Filled by the stack: `PROMPT`, `EXTRA_PNGINFO`, `UNIQUE_ID`.
    Hidden,
}

/// Describes one input of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InputSpec {
    pub name: String,
    pub group: InputGroup,
    /// The socket type: `MODEL`, `INT`, `COMBO`, `*`, or several joined by commas.
    #[serde(rename = "type")]
    pub socket: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tooltip: Option<String>,
    /// Whether the input is a socket although its type has a widget.
    #[serde(default)]
    pub force_input: bool,
    /// Whether the node decides at run time if it needs the input.
    #[serde(default)]
    pub lazy: bool,
    /// A name that inputs and outputs share when they must have one type between them, such as IMAGE or MASK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widget: Option<Widget>,
}

/// How a person enters the value of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Widget {
    Int {
        #[serde(deserialize_with = "crate::literal::wide_int")]
        default: i128,
        #[serde(deserialize_with = "crate::literal::wide_int")]
        min: i128,
        #[serde(deserialize_with = "crate::literal::wide_int")]
        max: i128,
        #[serde(deserialize_with = "crate::literal::wide_int")]
        step: i128,
        /// Whether the page may change the value after each run (seeds).
        #[serde(default)]
        control_after_generate: bool,
        /// `slider`, `number` or none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display: Option<String>,
    },
    Float {
        default: f64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
        step: f64,
        /// The grid that the page rounds to; 0 for none, and the step's if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        round: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display: Option<String>,
    },
    Text {
        default: String,
        #[serde(default)]
        multiline: bool,
        /// Whether the page expands `{a|b}` choices before it sends the text.
        #[serde(default)]
        dynamic_prompts: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mentions: Option<Mentions>,
    },
    Bool {
        default: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label_on: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label_off: Option<String>,
    },
    Combo {
        options: Vec<ComboOption>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<String>,
        /// Where the options come from when they are files, as ComfyUI names its folders.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<String>,
        /// `image` when the page may upload a file for this input.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upload: Option<String>,
        /// Whether the node itself decides about values outside the list.
        #[serde(default)]
        open: bool,
    },
    /// A choice that brings inputs of its own.
    DynamicCombo { options: Vec<DynamicOption> },
}

/// Files that a text may name, such as the embeddings of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mentions {
    /// What stands before a name: `embedding:`.
    pub keyword: String,
    /// The folder, as ComfyUI names its folders.
    pub folder: String,
    /// The files of the folder; the stage fills them in when it describes itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ComboOption>,
}

impl Mentions {
    /// The files that `text` may name, with or without their extension. Names that begin alike may be among them.
    pub fn in_text(&self, text: &str) -> impl Iterator<Item = &ComboOption> {
        // Parentheses that are meant as such are written with a backslash.
        let text = text.replace("\\(", "(").replace("\\)", ")");
        let named = move |file: &&ComboOption| {
            let stem = file.value.rsplit_once('.').map_or(file.value.as_str(), |(stem, _)| stem);
            text.contains(&format!("{}{stem}", self.keyword))
        };
        self.files.iter().filter(named)
    }
}

/// One choice of a combo. In JSON for people it is its plain value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComboOption {
    pub value: String,
    /// Changes whenever the file behind the option changes; part of cache keys.
    pub fingerprint: Option<String>,
}

impl Serialize for ComboOption {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.value)
    }
}

impl<'de> Deserialize<'de> for ComboOption {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { value: String::deserialize(deserializer)?, fingerprint: None })
    }
}

impl From<&str> for ComboOption {
    fn from(value: &str) -> Self {
        Self { value: value.into(), fingerprint: None }
    }
}

/// Describes one output of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OutputSpec {
    pub name: String,
    #[serde(rename = "type")]
    pub socket: String,
    /// Whether the node gives a list of values, over which the nodes that follow run one by one.
    #[serde(default)]
    pub is_list: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tooltip: Option<String>,
    /// The name that it shares with the input whose type it takes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
}

/// Builders, so that a node's spec reads like a table.
impl InputSpec {
    fn new(name: &str, socket: &str, widget: Option<Widget>) -> Self {
        Self { name: name.into(), socket: socket.into(), widget, ..Self::default() }
    }

    /// A socket that only a link can fill.
    pub fn socket(name: &str, socket: &str) -> Self {
        Self::new(name, socket, None)
    }

    /// A whole number in `min..=max`.
    pub fn int(name: &str, default: i128, (min, max): (i128, i128), step: i128) -> Self {
        let widget = Widget::Int { default, min, max, step, control_after_generate: false, display: None };
        Self::new(name, "INT", Some(widget))
    }

    /// A seed: any `u64`, changed by the page after each run if the person wants.
    pub fn seed(name: &str) -> Self {
        let widget = Widget::Int {
            default: 0,
            min: 0,
            max: u64::MAX.into(),
            step: 1,
            control_after_generate: true,
            display: None,
        };
        Self::new(name, "INT", Some(widget))
    }

    /// A number in `min..=max`; `round` is the grid that the page rounds to.
    pub fn float(name: &str, default: f64, (min, max): (f64, f64), step: f64, round: Option<f64>) -> Self {
        let widget = Widget::Float { default, min: Some(min), max: Some(max), step, round, display: None };
        Self::new(name, "FLOAT", Some(widget))
    }

    /// A number that the page must not round.
    pub fn exact_float(name: &str, default: f64, range: (f64, f64), step: f64) -> Self {
        Self::float(name, default, range, step, Some(0.0))
    }

    /// A text field.
    pub fn text(name: &str, default: &str) -> Self {
        let default = default.into();
        let widget = Widget::Text { default, multiline: false, dynamic_prompts: false, mentions: None };
        Self::new(name, "STRING", Some(widget))
    }

    /// A text area for prompts.
    pub fn prompt(name: &str) -> Self {
        let default = String::new();
        let widget = Widget::Text { default, multiline: true, dynamic_prompts: true, mentions: None };
        Self::new(name, "STRING", Some(widget))
    }

    /// Says that a text may name files of a folder behind a keyword, so that results depend on them.
    pub fn mentioning(mut self, keyword: &str, folder: &str) -> Self {
        if let Some(Widget::Text { mentions, .. }) = &mut self.widget {
            *mentions = Some(Mentions { keyword: keyword.into(), folder: folder.into(), files: Vec::new() });
        }
        self
    }

    /// A switch.
    pub fn boolean(name: &str, default: bool) -> Self {
        Self::new(name, "BOOLEAN", Some(Widget::Bool { default, label_on: None, label_off: None }))
    }

    /// A choice between fixed values.
    pub fn combo(name: &str, options: &[&str]) -> Self {
        let options = options.iter().map(|&o| o.into()).collect();
        let widget = Widget::Combo { options, default: None, folder: None, upload: None, open: false };
        Self::new(name, "COMBO", Some(widget))
    }

    /// A choice between the files of a folder; the stage fills the options in when it describes itself.
    pub fn file(name: &str, folder: &str) -> Self {
        let widget = Widget::Combo {
            options: Vec::new(),
            default: None,
            folder: Some(folder.into()),
            upload: None,
            open: false,
        };
        Self::new(name, "COMBO", Some(widget))
    }

    pub fn optional(mut self) -> Self {
        self.group = InputGroup::Optional;
        self
    }

    /// Lets the node decide when it runs whether what is linked here is made at all.
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// A hidden input that the stack fills: `PROMPT`, `EXTRA_PNGINFO` or `UNIQUE_ID`.
    pub fn hidden(name: &str, socket: &str) -> Self {
        Self { group: InputGroup::Hidden, ..Self::socket(name, socket) }
    }

    /// Gives every output and input of the same name the type of what is linked here.
    pub fn matching(mut self, name: &str) -> Self {
        self.matches = Some(name.into());
        self
    }

    pub fn tooltip(mut self, text: &str) -> Self {
        self.tooltip = Some(text.into());
        self
    }

    /// Sets the default of a combo.
    pub fn choose(mut self, value: &str) -> Self {
        if let Some(Widget::Combo { default, .. }) = &mut self.widget {
            *default = Some(value.into());
        }
        self
    }
}

impl OutputSpec {
    pub fn new(name: &str, socket: &str) -> Self {
        Self { name: name.into(), socket: socket.into(), ..Self::default() }
    }

    /// An output named after its type, as most are.
    pub fn of(socket: &str) -> Self {
        Self::new(socket, socket)
    }

    /// Says that the output has the type of what is linked to the input of this name.
    pub fn matching(mut self, name: &str) -> Self {
        self.matches = Some(name.into());
        self
    }

    /// Says that the output is a list of values.
    pub fn list(mut self) -> Self {
        self.is_list = true;
        self
    }
}

/// The literal default of a widget, as a node gets it when a workflow leaves an optional input out.
impl Widget {
    pub fn default_literal(&self) -> Option<Literal> {
        match self {
            Widget::Int { default, .. } => Some(Literal::Int(*default)),
            Widget::Float { default, .. } => Some(Literal::Float(*default)),
            Widget::Text { default, .. } => Some(Literal::Text(default.clone())),
            Widget::Bool { default, .. } => Some(Literal::Bool(*default)),
            Widget::Combo { default, options, .. } => {
                default.clone().or_else(|| options.first().map(|o| o.value.clone())).map(Literal::Text)
            }
            Widget::DynamicCombo { options } => options.first().map(|o| Literal::Text(o.key.clone())),
        }
    }
}
