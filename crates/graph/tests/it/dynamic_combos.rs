//! Choices that bring inputs of their own: what is checked, kept apart in cache keys, shown and read from the page.

use comfy_graph::object_info::object_info;
use comfy_graph::validate::validate;
use comfy_graph::{
    Catalog, DynamicOption, Input, InputSpec, Literal, NodeId, NodeSpec, OutputSpec, Validation, cache_keys,
    workflow,
};
use serde_json::{Value, json};

/// A node that resizes pictures or masks, and what is around it.
fn catalog() -> Catalog {
    let crop = || InputSpec::combo("crop", &["disabled", "center"]).choose("center");
    let options = vec![
        DynamicOption::new("sides", vec![InputSpec::int("width", 512, (0, 1024), 1), crop()]),
        DynamicOption::new("factor", vec![InputSpec::float("multiplier", 1.0, (0.01, 8.0), 0.01, None)]),
        DynamicOption::new("like", vec![InputSpec::socket("match", "IMAGE,MASK"), crop().optional()]),
        DynamicOption::new(
            "deep",
            vec![InputSpec::dynamic_combo(
                "mode",
                vec![
                    DynamicOption::new("still", vec![]),
                    DynamicOption::new(
                        "moving",
                        vec![InputSpec::float("fps", 6.0, (0.01, 1000.0), 0.01, None)],
                    ),
                ],
            )],
        ),
    ];
    let inputs = vec![
        InputSpec::socket("input", "IMAGE,MASK").matching("kind"),
        InputSpec::dynamic_combo("resize", options),
        InputSpec::combo("method", &["area", "lanczos"]),
    ];
    let mut resize = NodeSpec::new("Resize", "test", inputs, &[]);
    resize.outputs = vec![OutputSpec::new("resized", "IMAGE,MASK").matching("kind")];
    let save = |class: &str, socket: &str| {
        NodeSpec::new(class, "test", vec![InputSpec::socket("images", socket)], &[]).ending()
    };
    let specs = vec![
        NodeSpec::new("Load", "test", vec![], &["IMAGE", "MASK", "LATENT", "*"]),
        resize,
        save("Save", "IMAGE"),
        save("SaveMask", "MASK"),
    ];
    let mut catalog = Catalog::default();
    catalog.add_stage("test", "test", specs);
    catalog
}

/// A resize of a picture with some inputs, saved.
fn prompt(inputs: Value) -> Value {
    let mut all = json!({"input": ["1", 0], "method": "area"});
    all.as_object_mut().unwrap().extend(inputs.as_object().unwrap().clone());
    json!({
        "1": {"class_type": "Load", "inputs": {}},
        "2": {"class_type": "Resize", "inputs": all},
        "3": {"class_type": "Save", "inputs": {"images": ["2", 0]}},
    })
}

fn check(prompt: &Value) -> Validation {
    let catalog = catalog();
    validate(&workflow::read(prompt, &catalog).unwrap(), &catalog, &[])
}

/// The errors of the resize, as kind, details and the input that they name.
#[track_caller]
fn check_errors(inputs: Value, expected: &[(&str, &str, &str)]) {
    let validation = check(&prompt(inputs));
    let Some(node) = validation.node_errors.get(&NodeId::from("2")) else {
        assert!(expected.is_empty(), "no errors");
        return;
    };
    let name = |error: &comfy_graph::NodeError| error.extra_info["input_name"].as_str().unwrap().to_owned();
    let found: Vec<_> = node.errors.iter().map(|e| (e.kind.clone(), e.details.clone(), name(e))).collect();
    let found: Vec<_> = found.iter().map(|(kind, details, name)| (&**kind, &**details, &**name)).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_a_choice_brings_is_checked_under_its_full_name() {
    check_errors(json!({"resize": "factor", "resize.multiplier": 2}), &[]);
    check_errors(
        json!({"resize": "factor", "resize.width": 2}),
        &[("required_input_missing", "resize.multiplier", "resize.multiplier")],
    );
    check_errors(
        json!({"resize": "sides", "resize.width": 2000}),
        &[
            ("value_bigger_than_max", "resize.width", "resize.width"),
            ("required_input_missing", "resize.crop", "resize.crop"),
        ],
    );
    check_errors(json!({"resize": "like", "resize.match": ["1", 1]}), &[]);
    check_errors(
        json!({"resize": "like", "resize.match": ["1", 2]}),
        &[(
            "return_type_mismatch",
            "resize.match, received_type(LATENT) mismatch input_type(IMAGE,MASK)",
            "resize.match",
        )],
    );
    check_errors(
        json!({"resize": "deep", "resize.mode": "moving"}),
        &[("required_input_missing", "resize.mode.fps", "resize.mode.fps")],
    );
}

#[test]
fn an_unknown_choice_is_told_the_choices() {
    check_errors(
        json!({"resize": "area", "resize.width": 2}),
        &[("value_not_in_list", "resize: 'area' not in ['sides', 'factor', 'like', 'deep']", "resize")],
    );
    check_errors(json!({}), &[("required_input_missing", "resize", "resize")]);
    // The choice has to be known before anything runs.
    check_errors(
        json!({"resize": ["1", 3]}),
        &[(
            "return_type_mismatch",
            "resize, received_type(*) mismatch input_type(COMFY_DYNAMICCOMBO_V3)",
            "resize",
        )],
    );
}

#[test]
fn a_node_gets_only_what_its_choice_brings() {
    let graph =
        check(&prompt(json!({"resize.width": 7, "resize.multiplier": 2, "resize": "factor"}))).graph.unwrap();
    let node = &graph.nodes[&NodeId::from("2")];
    let names: Vec<&str> = node.inputs.keys().map(String::as_str).collect();
    assert_eq!(names, ["input", "resize", "resize.multiplier", "method"]);
    assert_eq!(node.inputs["resize.multiplier"], Input::Literal(Literal::Float(2.0)));
}

#[test]
fn results_are_kept_apart_by_nested_values() {
    let key = |inputs: Value| {
        let graph = check(&prompt(inputs)).graph.unwrap();
        cache_keys(&graph)[&NodeId::from("2")].clone().unwrap()
    };
    let two = key(json!({"resize": "factor", "resize.multiplier": 2}));
    assert_ne!(two, key(json!({"resize": "factor", "resize.multiplier": 3})));
    assert_eq!(two, key(json!({"resize": "factor", "resize.multiplier": 2.0})));
    // What another choice would have brought does not matter.
    assert_eq!(two, key(json!({"resize": "factor", "resize.multiplier": 2, "resize.width": 5})));
}

#[test]
fn an_output_has_the_type_of_the_input_that_it_matches() {
    let chain = |slot: u32, save: &str| {
        let mut prompt = prompt(json!({"resize": "factor", "resize.multiplier": 2}));
        prompt["2"]["inputs"]["input"] = json!(["1", slot]);
        prompt["4"] = prompt["2"].clone();
        prompt["4"]["inputs"]["input"] = json!(["2", 0]);
        prompt["3"] = json!({"class_type": save, "inputs": {"images": ["4", 0]}});
        check(&prompt)
    };
    for (slot, save, socket) in [(0, "Save", "IMAGE"), (1, "SaveMask", "MASK")] {
        let graph = chain(slot, save).graph.unwrap();
        assert_eq!(graph.nodes[&NodeId::from("4")].output_types, [socket]);
    }
    for (slot, save, received) in [(0, "SaveMask", "IMAGE"), (1, "Save", "MASK")] {
        let validation = chain(slot, save);
        let error = &validation.node_errors[&NodeId::from("3")].errors[0];
        assert_eq!(
            (&*error.kind, &error.extra_info["received_type"]),
            ("return_type_mismatch", &json!(received))
        );
    }
    // A resize of itself is a cycle, and looking for its type comes to an end.
    let mut circle = prompt(json!({"resize": "factor", "resize.multiplier": 2}));
    circle["2"]["inputs"]["input"] = json!(["2", 0]);
    assert_eq!(check(&circle).node_errors[&NodeId::from("2")].errors[0].kind, "exception_during_validation");
}

#[test]
fn object_info_has_the_names_of_comfyui() {
    let catalog = catalog();
    let info = object_info(catalog.get("Resize").unwrap());
    let input = &info["input"]["required"];
    let template = json!({"template": {"template_id": "kind", "allowed_types": "IMAGE,MASK"}});
    assert_eq!(input["input"], json!(["COMFY_MATCHTYPE_V3", template]));
    assert_eq!(input["resize"][0], "COMFY_DYNAMICCOMBO_V3");
    let options = &input["resize"][1]["options"];
    let multiplier = json!(["FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0, "step": 0.01}]);
    assert_eq!(options[1], json!({"key": "factor", "inputs": {"required": {"multiplier": multiplier}}}));
    assert_eq!(options[2]["inputs"]["optional"]["crop"][0], json!(["disabled", "center"]));
    assert_eq!(info["input_order"]["required"], json!(["input", "resize", "method"]));
    assert_eq!(
        (&info["output"], &info["output_matchtypes"]),
        (&json!(["COMFY_MATCHTYPE_V3"]), &json!(["kind"]))
    );
    assert!(object_info(catalog.get("Save").unwrap()).get("output_matchtypes").is_none());
}

/// Widget values of a resize as the page saves them, and the inputs that they become.
#[track_caller]
fn check_widgets(values: Value, expected: Value) {
    let workflow = json!({
        "nodes": [{"id": 2, "type": "Resize", "mode": 0, "inputs": [], "outputs": [], "widgets_values": values}],
        "links": [],
    });
    let graph = workflow::read(&workflow, &catalog()).unwrap();
    assert_eq!(json!(graph.nodes[&NodeId::from("2")].inputs), expected);
}

#[test]
fn saved_values_go_to_the_inputs_of_the_choice() {
    check_widgets(
        json!(["sides", 640, "disabled", "lanczos"]),
        json!({"resize": "sides", "resize.width": 640, "resize.crop": "disabled", "method": "lanczos"}),
    );
    check_widgets(
        json!(["factor", 1.5, "lanczos"]),
        json!({"resize": "factor", "resize.multiplier": 1.5, "method": "lanczos"}),
    );
    check_widgets(
        json!(["deep", "moving", 24, "area"]),
        json!({"resize": "deep", "resize.mode": "moving", "resize.mode.fps": 24, "method": "area"}),
    );
    check_widgets(
        json!(["deep", "still", "area"]),
        json!({"resize": "deep", "resize.mode": "still", "method": "area"}),
    );
    // A socket takes no value, and what was not saved is the default.
    check_widgets(json!(["like"]), json!({"resize": "like", "resize.crop": "center", "method": "area"}));
    check_widgets(
        json!({"resize": "deep", "resize.mode": "moving", "resize.width": 3}),
        json!({"resize": "deep", "resize.mode": "moving", "resize.mode.fps": 6.0, "method": "area"}),
    );
}

#[test]
fn links_into_what_a_choice_brings_keep_their_names() {
    let input = |name: &str, link: u32| json!({"name": name, "type": "IMAGE", "link": link});
    let workflow = json!({
        "nodes": [
            {"id": 1, "type": "Load", "mode": 0, "inputs": [], "outputs": [], "widgets_values": []},
            {"id": 2, "type": "Resize", "mode": 0, "inputs": [input("input", 1), input("resize.match", 2)],
                "outputs": [], "widgets_values": ["like", "disabled", "area"]},
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 1, 1, 2, 1, "MASK"]],
    });
    let graph = workflow::read(&workflow, &catalog()).unwrap();
    let inputs = json!(graph.nodes[&NodeId::from("2")].inputs);
    let expected = json!({
        "input": ["1", 0], "resize": "like", "resize.match": ["1", 1], "resize.crop": "disabled", "method": "area",
    });
    assert_eq!(inputs, expected);
}
