//! `Data` to and from the wire form of a value: small things inline, tensors in the artifact store.

use crate::data::{Conditioning, ConditioningEntry, Data, Latent};
use crate::node::NodeError;
use comfy_artifacts::{Bundle, HostTensor, Store};
use comfy_graph::Value;
use serde_json::{Map, Value as Json, json};

/// Publishes a value: writes its tensors to the store and returns what a message may carry.
///
/// # Errors
/// When the store fails.
pub async fn publish(data: &Data, store: &Store) -> Result<Value, NodeError> {
    let bundle = match data {
        Data::Literal(literal) => return Ok(Value::Literal(literal.clone())),
        Data::Recipe(recipe) => return Ok(Value::Recipe(recipe.clone())),
        Data::Image(tensor) | Data::Mask(tensor) => single(data.kind(), tensor),
        Data::Latent(latent) => write_latent(latent),
        Data::Conditioning(conditioning) => write_conditioning(conditioning),
    };
    Ok(Value::Artifact(store.put_bundle(&bundle).await?))
}

/// Fetches a value that another stage published.
///
/// # Errors
/// When the artifact is lost, damaged or not what its description says.
pub async fn fetch(value: &Value, store: &Store) -> Result<Data, NodeError> {
    let artifact = match value {
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
    for (i, entry) in entries.iter().enumerate() {
        bundle.tensors.insert(format!("{i}.embedding"), entry.embedding.clone());
        if let Some(pooled) = &entry.pooled {
            bundle.tensors.insert(format!("{i}.pooled"), pooled.clone());
        }
        for (name, tensor) in &entry.tensors {
            bundle.tensors.insert(format!("{i}.extra.{name}"), tensor.clone());
        }
    }
    let extras: Vec<_> = entries.iter().map(|e| Json::Object(e.extras.clone())).collect();
    bundle.description.insert("entries".into(), extras.into());
    bundle
}

fn read_conditioning(mut bundle: Bundle) -> Result<Data, NodeError> {
    let Some(Json::Array(entries)) = bundle.description.remove("entries") else {
        return Err(NodeError::internal("broken conditioning description"));
    };
    let mut conditioning = Vec::with_capacity(entries.len());
    for (i, extras) in entries.into_iter().enumerate() {
        let Json::Object(extras) = extras else {
            return Err(NodeError::internal("broken conditioning description"));
        };
        let mut entry = ConditioningEntry::new(bundle.take(&format!("{i}.embedding"))?, None);
        entry.pooled = bundle.tensors.remove(&format!("{i}.pooled"));
        entry.extras = extras;
        let prefix = format!("{i}.extra.");
        let names: Vec<_> = bundle.tensors.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
        for name in names {
            let tensor = bundle.take(&name)?;
            entry.tensors.insert(name[prefix.len()..].to_owned(), tensor);
        }
        conditioning.push(entry);
    }
    Ok(Data::Conditioning(conditioning))
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
        let mut latent = Latent::new(tensor(&[2, 4, 8, 8], 0.1));
        latent.noise_mask = Some(tensor(&[1, 64, 64], 1.0));
        latent.batch_index = Some(vec![3, 5]);
        for data in [
            Data::Literal(Literal::Int(u64::MAX.into())),
            Data::Recipe(json!({"part": "vae"})),
            Data::Image(tensor(&[1, 2, 2, 3], 0.25)),
            Data::Mask(tensor(&[1, 2, 2], 0.75)),
            Data::Latent(latent),
            Data::Conditioning(vec![entry, ConditioningEntry::new(tensor(&[1, 77, 8], 2.0), None)]),
        ] {
            let value = publish(&data, &store).await.unwrap();
            assert_eq!(fetch(&value, &store).await.unwrap(), data);
        }
    }
}
