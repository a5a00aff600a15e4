//! Requests and what they are answered.

use crate::harness::World;
use comfy_proto::orchestrator as pb;
use comfy_proto::stage::ListModelsRequest;
use comfy_testkit::fake_stage::text_to_image;
use serde_json::{Value, json};

async fn rejected(world: &World, workflow: Value) -> (Value, Value) {
    let mut orchestrator = world.start().await;
    let request = pb::SubmitWorkflowRequest { workflow_json: workflow.to_string(), ..Default::default() };
    let answer = orchestrator.client.submit_workflow(request).await.unwrap().into_inner();
    orchestrator.stop().await;
    let Some(pb::submit_workflow_response::Result::Rejected(rejected)) = answer.result else {
        panic!("{answer:?}")
    };
    let parse = |text: &str| serde_json::from_str(text).unwrap();
    (parse(&rejected.error_json), parse(&rejected.node_errors_json))
}

#[tokio::test]
async fn a_wrong_workflow_is_answered_in_comfyuis_shape() {
    let world = World::new();
    let mut workflow = text_to_image(1);
    workflow["3"]["inputs"].as_object_mut().unwrap().remove("model");
    let (error, nodes) = rejected(&world, workflow).await;
    assert_eq!(error["type"], "prompt_outputs_failed_validation");
    assert!(error["message"].is_string() && error["details"].is_string() && error["extra_info"].is_object());
    assert_eq!(nodes["3"]["class_type"], "Sample");
    assert_eq!(nodes["3"]["dependent_outputs"], json!(["6"]));
    assert_eq!(nodes["3"]["errors"][0]["type"], "required_input_missing");
    assert_eq!(nodes["3"]["errors"][0]["extra_info"]["input_name"], "model");

    let (error, nodes) = rejected(&world, json!({"1": {"class_type": "Nothing", "inputs": {}}})).await;
    assert_eq!((error["type"].as_str(), nodes), (Some("invalid_prompt"), json!({})));
}

#[tokio::test]
async fn one_bad_output_does_not_stop_the_good_one() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let mut workflow = text_to_image(1);
    workflow["7"] = json!({"class_type": "Save", "inputs": {"prefix": "x"}});
    let request = pb::SubmitWorkflowRequest { workflow_json: workflow.to_string(), ..Default::default() };
    let accepted = orchestrator.submit_as(request).await;
    let errors: Value = serde_json::from_str(&accepted.node_errors_json).unwrap();
    assert_eq!(errors["7"]["errors"][0]["type"], "required_input_missing");
    assert_eq!(orchestrator.finish(&accepted.job_id).await.last().unwrap(), "succeeded");
    assert_eq!(orchestrator.job(&accepted.job_id).await.output_nodes, ["6"]);
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let ok = pb::SubmitWorkflowRequest { workflow_json: text_to_image(1).to_string(), ..Default::default() };
    let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
    let many: serde_json::Map<String, Value> =
        (0..10_001).map(|i| (i.to_string(), json!({"class_type": "Load", "inputs": {"name": ""}}))).collect();
    let cases = [
        (
            pb::SubmitWorkflowRequest { workflow_json: "{".into(), ..ok.clone() },
            "`workflow_json` is not JSON",
        ),
        (pb::SubmitWorkflowRequest { workflow_json: deep, ..ok.clone() }, "recursion limit"),
        (
            pb::SubmitWorkflowRequest { workflow_json: " ".repeat((16 << 20) + 1), ..ok.clone() },
            "at most 16777216",
        ),
        (
            pb::SubmitWorkflowRequest { workflow_json: Value::Object(many).to_string(), ..ok.clone() },
            "10001 nodes",
        ),
        (pb::SubmitWorkflowRequest { extra_data_json: "[]".into(), ..ok.clone() }, "is not an object"),
        (pb::SubmitWorkflowRequest { number: Some(f64::NAN), ..ok.clone() }, "no place in a queue"),
        (pb::SubmitWorkflowRequest { job_id: "\n".into(), ..ok.clone() }, "`job_id`"),
    ];
    for (request, expected) in cases {
        let error = orchestrator.client.submit_workflow(request).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
        assert!(error.message().contains(expected), "{error}");
    }
    let error =
        orchestrator.client.watch_job(pb::WatchJobRequest { job_id: "x".into(), ..Default::default() }).await;
    assert_eq!(error.unwrap_err().code(), tonic::Code::NotFound);
    let statuses = pb::ListJobsRequest { statuses: vec![77], ..Default::default() };
    assert_eq!(
        orchestrator.client.list_jobs(statuses).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
}

#[tokio::test]
async fn an_unknown_class_is_no_fault_while_a_stage_was_never_reached() {
    let mut world = World::new();
    world.image.kill();
    let mut orchestrator = world.start().await;
    let request =
        pb::SubmitWorkflowRequest { workflow_json: text_to_image(1).to_string(), ..Default::default() };
    let error = orchestrator.client.submit_workflow(request.clone()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    assert!(
        error.message().contains("`Invert`") && error.message().contains("`stage-image` at http://"),
        "{error}"
    );

    world.image.restart();
    let id = orchestrator.submit_as(request.clone()).await.job_id;
    assert_eq!(orchestrator.finish(&id).await.last().unwrap(), "succeeded");

    // Once it was reached, its nodes stay known while it is away.
    world.image.kill();
    let id = orchestrator.submit_as(request).await.job_id;
    assert_eq!(orchestrator.finish(&id).await.last().unwrap(), "succeeded");
}

#[tokio::test]
async fn the_stages_are_described() {
    let mut world = World::new();
    let mut orchestrator = world.start().await;
    let nodes = orchestrator.client.list_nodes(pb::ListNodesRequest {}).await.unwrap().into_inner().nodes;
    let named: Vec<(&str, &str)> =
        nodes.iter().map(|node| (node.stage.as_str(), node.spec.as_ref().unwrap().class.as_str())).collect();
    let expected = [
        ("sampler", "Load"),
        ("sampler", "Encode"),
        ("sampler", "Sample"),
        ("sampler", "Decode"),
        ("image", "Invert"),
        ("image", "Save"),
    ];
    assert_eq!(named, expected);

    let models =
        orchestrator.client.list_models(ListModelsRequest::default()).await.unwrap().into_inner().models;
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["sampler.safetensors", "image.safetensors"]);

    world.image.kill();
    let system = orchestrator.client.get_system(pb::GetSystemRequest {}).await.unwrap().into_inner();
    let states: Vec<(&str, bool)> = system.services.iter().map(|s| (s.name.as_str(), s.serving)).collect();
    assert_eq!(states, [("stage-sampler", true), ("stage-image", false)]);
    assert!(system.services[1].detail.contains("stage `stage-image`"), "{:?}", system.services[1]);
    assert_eq!((system.running, system.pending), (0, 0));
}

#[tokio::test]
async fn a_workflow_drawn_on_the_page_runs_and_travels_with_its_pictures() {
    let world = World::new();
    let mut orchestrator = world.start().await;
    let drawn = json!({
        "last_node_id": 6, "last_link_id": 6, "version": 0.4,
        "nodes": [
            {"id": 1, "type": "Load", "inputs": [], "widgets_values": ["tiny"],
             "outputs": [{"name": "MODEL", "type": "MODEL", "links": [1]}, {"name": "CLIP", "type": "CLIP", "links": [2]},
                         {"name": "VAE", "type": "VAE", "links": [3]}]},
            {"id": 2, "type": "Encode", "inputs": [{"name": "clip", "type": "CLIP", "link": 2}], "widgets_values": ["a cat"],
             "outputs": [{"name": "CONDITIONING", "type": "CONDITIONING", "links": [4]}]},
            {"id": 3, "type": "Sample", "widgets_values": [5, "fixed", 2],
             "inputs": [{"name": "model", "type": "MODEL", "link": 1}, {"name": "positive", "type": "CONDITIONING", "link": 4}],
             "outputs": [{"name": "LATENT", "type": "LATENT", "links": [5]}]},
            {"id": 4, "type": "Decode", "widgets_values": [],
             "inputs": [{"name": "samples", "type": "LATENT", "link": 5}, {"name": "vae", "type": "VAE", "link": 3}],
             "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [6]}]},
            {"id": 6, "type": "Save", "widgets_values": ["out"], "inputs": [{"name": "images", "type": "IMAGE", "link": 6}],
             "outputs": []},
        ],
        "links": [[1, 1, 0, 3, 0, "MODEL"], [2, 1, 1, 2, 0, "CLIP"], [3, 1, 2, 4, 1, "VAE"],
                  [4, 2, 0, 3, 1, "CONDITIONING"], [5, 3, 0, 4, 0, "LATENT"], [6, 4, 0, 6, 0, "IMAGE"]],
    });
    let request = pb::ConvertWorkflowRequest { workflow_json: drawn.to_string() };
    let converted = orchestrator.client.convert_workflow(request).await.unwrap().into_inner().graph_json;
    let graph: Value = serde_json::from_str(&converted).unwrap();
    assert_eq!(graph["3"]["inputs"]["seed"], 5);
    assert_eq!(graph["3"]["inputs"]["positive"], json!(["2", 0]));

    let id = orchestrator.submit(&drawn).await;
    assert_eq!(orchestrator.finish(&id).await.last().unwrap(), "succeeded");
    let info: Value = serde_json::from_str(&world.image.calls()[0].extra_pnginfo_json).unwrap();
    assert_eq!(info["workflow"], drawn);
}
