//! Node specs in the JSON shape of ComfyUI's `/object_info`.

use crate::{CatalogNode, DynamicOption, InputGroup, InputSpec, OutputSpec, Widget};
use serde_json::{Map, Value, json};

/// The socket type of inputs and outputs that have one type between them, as ComfyUI names it.
const MATCH_TYPE: &str = "COMFY_MATCHTYPE_V3";

/// Describes one node class as ComfyUI's `/object_info/{class}` does.
///
/// # Source
/// Key names, tuple forms and which keys are left out when empty match ComfyUI 0.3.64. `python_module` is `nodes`
/// for every class, as it is for ComfyUI's own core nodes: pages use it only to mark custom nodes.
pub fn object_info(node: &CatalogNode) -> Value {
    let spec = &node.spec;
    let (input, input_order) = inputs(&spec.inputs);
    let each = |of: fn(&OutputSpec) -> Value| spec.outputs.iter().map(of).collect::<Value>();
    let mut info = Map::new();
    let mut set = |key: &str, value: Value| info.insert(key.to_owned(), value);
    set("input", input);
    set("input_order", input_order);
    set("output", each(|output| json!(output.matches.as_ref().map_or(&*output.socket, |_| MATCH_TYPE))));
    set("output_is_list", each(|output| json!(output.is_list)));
    set("output_name", each(|output| json!(output.name)));
    set("name", json!(spec.class));
    set("display_name", json!(spec.display_name));
    set("description", json!(spec.description));
    set("python_module", json!("nodes"));
    set("category", json!(spec.category));
    set("output_node", json!(spec.output_node));
    if spec.outputs.iter().any(|output| output.matches.is_some()) {
        set("output_matchtypes", each(|output| json!(output.matches)));
    }
    if spec.outputs.iter().any(|output| output.tooltip.is_some()) {
        set("output_tooltips", each(|output| json!(output.tooltip)));
    }
    // Not in 0.3.64; later pages read it, and for other nodes it may be left out.
    if spec.input_is_list {
        set("is_input_list", json!(true));
    }
    if spec.deprecated {
        set("deprecated", json!(true));
    }
    if spec.experimental {
        set("experimental", json!(true));
    }
    Value::Object(info)
}

/// The inputs by group, and their names in order. `required` is always there, the others only when not empty.
fn inputs(inputs: &[InputSpec]) -> (Value, Value) {
    let groups = [
        ("required", InputGroup::Required),
        ("optional", InputGroup::Optional),
        ("hidden", InputGroup::Hidden),
    ];
    let (mut configs, mut order) = (Map::new(), Map::new());
    for (key, group) in groups {
        let members: Vec<&InputSpec> = inputs.iter().filter(|input| input.group == group).collect();
        if members.is_empty() && group != InputGroup::Required {
            continue;
        }
        let config = |input: &InputSpec| match group {
            InputGroup::Hidden => json!(input.socket),
            InputGroup::Required | InputGroup::Optional => input_config(input),
        };
        let by_name: Map<String, Value> =
            members.iter().map(|input| (input.name.clone(), config(input))).collect();
        configs.insert(key.to_owned(), Value::Object(by_name));
        order.insert(key.to_owned(), members.iter().map(|input| json!(input.name)).collect());
    }
    (Value::Object(configs), Value::Object(order))
}

/// Describes one input as the tuple `[type, options]`, or `[type]` when there are no options.
pub fn input_config(input: &InputSpec) -> Value {
    let mut options = input.widget.as_ref().map(widget_options).unwrap_or_default();
    if input.force_input {
        options.insert("forceInput".into(), json!(true));
    }
    if input.lazy {
        options.insert("lazy".into(), json!(true));
    }
    insert_some(&mut options, "tooltip", input.tooltip.as_ref());
    if let Some(name) = &input.matches {
        options.insert("template".into(), json!({"template_id": name, "allowed_types": input.socket}));
    }
    let kind = match &input.widget {
        Some(Widget::Combo { options, .. }) => json!(options),
        _ if input.matches.is_some() => json!(MATCH_TYPE),
        _ => json!(input.socket),
    };
    if options.is_empty() { json!([kind]) } else { json!([kind, options]) }
}

fn insert_some<T: serde::Serialize>(options: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        options.insert(key.to_owned(), json!(value));
    }
}

/// The options of a widget. Those that a page assumes anyway (empty text, step 1, false) are left out.
fn widget_options(widget: &Widget) -> Map<String, Value> {
    let mut options = Map::new();
    let flag = |value: &bool| value.then_some(true);
    match widget {
        Widget::Int { default, min, max, step, control_after_generate, display } => {
            insert_some(&mut options, "default", Some(integer(*default)));
            insert_some(&mut options, "min", Some(integer(*min)));
            insert_some(&mut options, "max", Some(integer(*max)));
            insert_some(&mut options, "step", (*step != 1).then(|| integer(*step)));
            insert_some(&mut options, "control_after_generate", flag(control_after_generate));
            insert_some(&mut options, "display", display.as_ref());
        }
        Widget::Float { default, min, max, step, round, display } => {
            insert_some(&mut options, "default", Some(default));
            insert_some(&mut options, "min", min.as_ref());
            insert_some(&mut options, "max", max.as_ref());
            insert_some(&mut options, "step", Some(step));
            // `false` is how a page is told not to round.
            let round = round.map(|grid| if grid == 0.0 { json!(false) } else { json!(grid) });
            insert_some(&mut options, "round", round);
            insert_some(&mut options, "display", display.as_ref());
        }
        Widget::Text { default, multiline, dynamic_prompts, .. } => {
            insert_some(&mut options, "default", (!default.is_empty()).then_some(default));
            insert_some(&mut options, "multiline", flag(multiline));
            insert_some(&mut options, "dynamicPrompts", flag(dynamic_prompts));
        }
        Widget::Bool { default, label_on, label_off } => {
            insert_some(&mut options, "default", Some(default));
            insert_some(&mut options, "label_on", label_on.as_ref());
            insert_some(&mut options, "label_off", label_off.as_ref());
        }
        Widget::Combo { default, upload, .. } => {
            insert_some(&mut options, "default", default.as_ref());
            if let Some(kind) = upload {
                options.insert(format!("{kind}_upload"), json!(true));
            }
        }
        Widget::DynamicCombo { options: choices } => {
            let choice =
                |choice: &DynamicOption| json!({"key": choice.key, "inputs": inputs(&choice.inputs).0});
            options.insert("options".into(), choices.iter().map(choice).collect());
        }
    }
    options
}

fn integer(value: i128) -> Value {
    crate::Literal::Int(value).to_json()
}
