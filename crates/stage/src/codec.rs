//! `Data` to and from the wire form of a value: small things inline, tensors in the artifact store.

use crate::data::{ClipVisionOutput, Conditioning, ConditioningEntry, Data, Guider, Latent};
use crate::node::NodeError;
use comfy_artifacts::{Bundle, HostTensor, Store};
use comfy_graph::Value;
use serde_json::{Map, Value as Json, json};

/// Publishes a value: writes its tensors to the store and returns what a message may carry.
///
/// # Errors
/// When the store fails.
pub async fn publish(data: &Data, store: &Store) -> Result<Value, NodeError> {
    let Data::List(items) = data else { return publish_one(data, store).await };
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        values.push(publish_one(item, store).await?);
    }
    Ok(Value::List(values))
}

async fn publish_one(data: &Data, store: &Store) -> Result<Value, NodeError> {
    let bundle = match data {
        Data::List(_) => return Err(NodeError::internal("a list cannot hold lists")),
        Data::Blocked(message) => return Ok(Value::Blocked(message.clone())),
        Data::Literal(literal) => return Ok(Value::Literal(literal.clone())),
        Data::Recipe(recipe) => return Ok(Value::Recipe(recipe.clone())),
        Data::Image(tensor) | Data::Mask(tensor) => single(data.kind(), tensor),
        Data::Latent(latent) => write_latent(latent),
        Data::Conditioning(conditioning) => write_conditioning(conditioning),
        Data::Guider(guider) => write_guider(guider),
        Data::ClipVisionOutput(output) => write_clip_vision_output(output),
    };
    Ok(Value::Artifact(store.put_bundle(&bundle).await?))
}

/// Fetches a value that another stage published.
///
/// # Errors
/// When the artifact is lost, damaged or not what its description says.
pub async fn fetch(value: &Value, store: &Store) -> Result<Data, NodeError> {
    let Value::List(values) = value else { return fetch_one(value, store).await };
    let mut items = Vec::with_capacity(values.len());
    for value in values {
        items.push(fetch_one(value, store).await?);
    }
    Ok(Data::List(items))
}

async fn fetch_one(value: &Value, store: &Store) -> Result<Data, NodeError> {
    let artifact = match value {
        Value::List(_) => return Err(NodeError::internal("a list cannot hold lists")),
        Value::Blocked(message) => return Ok(Data::Blocked(message.clone())),
        Value::Literal(literal) => return Ok(Data::Literal(literal.clone())),
        Value::Recipe(recipe) => return Ok(Data::Recipe(recipe.clone())),
        Value::Artifact(artifact) => artifact,
    };
    let mut bundle = store.get_bundle(artifact).await?;
    let kind = bundle.description.get("kind").and_then(Json::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "IMAGE" => Ok(Data::Image(bundle.take("tensor")?)),
        "MASK" => Ok(Data::Mask(bundle.take("tensor")?)),
        "LATENT" => read_latent(bundle),
        "CONDITIONING" => read_conditioning(bundle),
        "GUIDER" => read_guider(bundle),
        "CLIP_VISION_OUTPUT" => read_clip_vision_output(bundle),
        other => Err(NodeError::internal(format!(
            "artifact `{}` holds an unknown kind `{other}`",
            artifact.digest
        ))),
    }
}

fn description(kind: &str) -> Map<String, Json> {
    Map::from_iter([("kind".to_owned(), kind.into())])
}

fn single(kind: &str, tensor: &HostTensor) -> Bundle {
    let tensors = [("tensor".to_owned(), tensor.clone())].into();
    Bundle { tensors, principal: "tensor".into(), description: description(kind) }
}

fn write_latent(latent: &Latent) -> Bundle {
    let mut bundle =
        Bundle { principal: "samples".into(), description: description("LATENT"), ..Bundle::default() };
    bundle.tensors.insert("samples".into(), latent.samples.clone());
    if let Some(mask) = &latent.noise_mask {
        bundle.tensors.insert("noise_mask".into(), mask.clone());
    }
    if let Some(index) = &latent.batch_index {
        bundle.description.insert("batch_index".into(), json!(index));
    }
    bundle
}

fn read_latent(mut bundle: Bundle) -> Result<Data, NodeError> {
    let batch_index = bundle.description.remove("batch_index").map(serde_json::from_value).transpose();
    Ok(Data::Latent(Latent {
        samples: bundle.take("samples")?,
        noise_mask: bundle.tensors.remove("noise_mask"),
        batch_index: batch_index
            .map_err(|e| NodeError::internal(format!("broken latent description: {e}")))?,
    }))
}

fn write_conditioning(entries: &Conditioning) -> Bundle {
    let mut bundle = Bundle {
        principal: "0.embedding".into(),
        description: description("CONDITIONING"),
        ..Bundle::default()
    };
    let extras = write_entries(entries, "", &mut bundle);
    bundle.description.insert("entries".into(), extras);
    bundle
}

fn read_conditioning(mut bundle: Bundle) -> Result<Data, NodeError> {
    let extras = bundle.description.remove("entries").unwrap_or_default();
    Ok(Data::Conditioning(read_entries(extras, "", &mut bundle)?))
}

fn write_guider(guider: &Guider) -> Bundle {
    let mut bundle = Bundle { description: description("GUIDER"), ..Bundle::default() };
    let mut sides = Map::new();
    for (name, entries) in &guider.sides {
        sides.insert(name.clone(), write_entries(entries, &format!("{name}/"), &mut bundle));
    }
    bundle.principal = bundle.tensors.keys().next().cloned().unwrap_or_default();
    bundle.description.insert("recipe".into(), guider.recipe.clone());
    bundle.description.insert("sides".into(), sides.into());
    bundle
}

fn read_guider(mut bundle: Bundle) -> Result<Data, NodeError> {
    let recipe = bundle.description.remove("recipe");
    let (Some(recipe), Some(Json::Object(descriptions))) = (recipe, bundle.description.remove("sides"))
    else {
        return Err(NodeError::internal("broken guider description"));
    };
    let mut sides = std::collections::BTreeMap::new();
    for (name, extras) in descriptions {
        let entries = read_entries(extras, &format!("{name}/"), &mut bundle)?;
        sides.insert(name, entries);
    }
    Ok(Data::Guider(Guider { recipe, sides }))
}

const LAST_STATE: &str = "last_hidden_state";
const STATE_BEFORE: &str = "penultimate_hidden_states";
const EMBEDS: &str = "image_embeds";

fn write_clip_vision_output(output: &ClipVisionOutput) -> Bundle {
    let tensors = [
        (LAST_STATE, &output.last_hidden_state),
        (STATE_BEFORE, &output.penultimate_hidden_states),
        (EMBEDS, &output.image_embeds),
    ];
    let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    Bundle { tensors, principal: EMBEDS.into(), description: description("CLIP_VISION_OUTPUT") }
}

fn read_clip_vision_output(mut bundle: Bundle) -> Result<Data, NodeError> {
    Ok(Data::ClipVisionOutput(ClipVisionOutput {
        last_hidden_state: bundle.take(LAST_STATE)?,
        penultimate_hidden_states: bundle.take(STATE_BEFORE)?,
        image_embeds: bundle.take(EMBEDS)?,
    }))
}

/// Puts the tensors of entries into a bundle under a prefix and returns their extras.
fn write_entries(entries: &Conditioning, prefix: &str, bundle: &mut Bundle) -> Json {
    for (i, entry) in entries.iter().enumerate() {
        bundle.tensors.insert(format!("{prefix}{i}.embedding"), entry.embedding.clone());
        if let Some(pooled) = &entry.pooled {
            bundle.tensors.insert(format!("{prefix}{i}.pooled"), pooled.clone());
        }
        for (name, tensor) in &entry.tensors {
            bundle.tensors.insert(format!("{prefix}{i}.extra.{name}"), tensor.clone());
        }
    }
    entries.iter().map(|e| Json::Object(e.extras.clone())).collect()
}

fn read_entries(extras: Json, prefix: &str, bundle: &mut Bundle) -> Result<Conditioning, NodeError> {
    let Json::Array(entries) = extras else {
        return Err(NodeError::internal("broken conditioning description"));
    };
    let mut conditioning = Vec::with_capacity(entries.len());
    for (i, extras) in entries.into_iter().enumerate() {
        let Json::Object(extras) = extras else {
            return Err(NodeError::internal("broken conditioning description"));
        };
        let mut entry = ConditioningEntry::new(bundle.take(&format!("{prefix}{i}.embedding"))?, None);
        entry.pooled = bundle.tensors.remove(&format!("{prefix}{i}.pooled"));
        entry.extras = extras;
        let prefix = format!("{prefix}{i}.extra.");
        let names: Vec<_> = bundle.tensors.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
        for name in names {
            let tensor = bundle.take(&name)?;
            entry.tensors.insert(name[prefix.len()..].to_owned(), tensor);
        }
        conditioning.push(entry);
    }
    Ok(conditioning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use comfy_graph::Literal;

    #[tokio::test]
    async fn every_kind_survives_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let tensor = |shape: &[usize], v| HostTensor::full(shape.to_vec(), v);
        let mut entry = ConditioningEntry::new(tensor(&[1, 77, 8], 0.5), Some(tensor(&[1, 8], 1.0)));
        entry.tensors.insert("mask".into(), tensor(&[1, 4, 4], 0.0));
        entry.extras.insert("strength".into(), json!(0.7));
        let plain = ConditioningEntry::new(tensor(&[1, 77, 8], 3.0), None);
        let sides = [("negative", vec![]), ("positive", vec![entry.clone(), plain])];
        let sides = sides.into_iter().map(|(name, entries)| (name.to_owned(), entries)).collect();
        let guider = Guider { recipe: json!({"cfg": 7.5}), sides };
        let mut latent = Latent::new(tensor(&[2, 4, 8, 8], 0.1));
        latent.noise_mask = Some(tensor(&[1, 64, 64], 1.0));
        latent.batch_index = Some(vec![3, 5]);
        for data in [
            Data::Literal(Literal::Int(u64::MAX.into())),
            Data::Recipe(json!({"part": "vae"})),
            Data::Image(tensor(&[1, 2, 2, 3], 0.25)),
            Data::Mask(tensor(&[1, 2, 2], 0.75)),
            Data::Latent(latent),
            Data::Guider(guider),
            Data::ClipVisionOutput(ClipVisionOutput {
                last_hidden_state: tensor(&[1, 5, 8], 0.1),
                penultimate_hidden_states: tensor(&[1, 5, 8], 0.2),
                image_embeds: tensor(&[1, 4], 0.3),
            }),
            Data::Guider(Guider { recipe: Json::Null, sides: Default::default() }),
            Data::Conditioning(vec![entry, ConditioningEntry::new(tensor(&[1, 77, 8], 2.0), None)]),
            Data::List(vec![Data::Image(tensor(&[1, 2, 2, 3], 0.5)), Data::Blocked(None)]),
            Data::List(Vec::new()),
            Data::Blocked(Some("no picture".into())),
        ] {
            let value = publish(&data, &store).await.unwrap();
            assert_eq!(fetch(&value, &store).await.unwrap(), data);
        }
    }
}
