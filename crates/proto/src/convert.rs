//! Conversions between wire messages and core types. Reading can fail, writing cannot.

use crate::graph as pb;
use comfy_graph::spec::{ComboOption, InputGroup, InputSpec, Mentions, NodeSpec, OutputSpec, Widget};
use comfy_graph::{ArtifactRef, DType, Digest, DynamicOption, ErrorCode, Literal, Media, Value};

/// A message that lacks a part or holds one that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{field}` holds `{value}`")]
    Bad { field: &'static str, value: String },
}

impl From<BadMessage> for tonic::Status {
    fn from(error: BadMessage) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

fn none_if_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<&Literal> for pb::Literal {
    fn from(literal: &Literal) -> Self {
        use pb::literal::Value as V;
        let value = match literal {
            Literal::Bool(b) => V::Boolean(*b),
            Literal::Int(i) => match (i64::try_from(*i), u64::try_from(*i)) {
                (Ok(i), _) => V::Int(i),
                (_, Ok(u)) => V::Uint(u),
                _ => V::Float(*i as f64),
            },
            Literal::Float(f) => V::Float(*f),
            Literal::Text(s) => V::Text(s.clone()),
        };
        Self { value: Some(value) }
    }
}

impl TryFrom<pb::Literal> for Literal {
    type Error = BadMessage;
    fn try_from(literal: pb::Literal) -> Result<Self, BadMessage> {
        use pb::literal::Value as V;
        Ok(match literal.value.ok_or(BadMessage::Missing("literal.value"))? {
            V::Int(i) => Literal::Int(i.into()),
            V::Uint(u) => Literal::Int(u.into()),
            V::Float(f) => Literal::Float(f),
            V::Boolean(b) => Literal::Bool(b),
            V::Text(s) => Literal::Text(s),
        })
    }
}

impl From<&ArtifactRef> for pb::ArtifactRef {
    fn from(artifact: &ArtifactRef) -> Self {
        use pb::artifact_ref::Media as M;
        let media = match &artifact.media {
            Media::Tensor { dtype, shape } => {
                M::Tensor(pb::TensorMedia { dtype: dtype.as_str().into(), shape: shape.clone() })
            }
            Media::Png => M::Png(pb::PngMedia {}),
            Media::Json => M::Json(pb::JsonMedia {}),
        };
        Self { digest: artifact.digest.to_string(), bytes: artifact.bytes, media: Some(media) }
    }
}

impl TryFrom<pb::ArtifactRef> for ArtifactRef {
    type Error = BadMessage;
    fn try_from(artifact: pb::ArtifactRef) -> Result<Self, BadMessage> {
        use pb::artifact_ref::Media as M;
        let media = match artifact.media.ok_or(BadMessage::Missing("artifact.media"))? {
            M::Tensor(tensor) => Media::Tensor {
                dtype: DType::parse(&tensor.dtype)
                    .ok_or(BadMessage::Bad { field: "artifact.media.dtype", value: tensor.dtype })?,
                shape: tensor.shape,
            },
            M::Png(_) => Media::Png,
            M::Json(_) => Media::Json,
        };
        let digest = Digest::try_from(artifact.digest)
            .map_err(|bad| BadMessage::Bad { field: "artifact.digest", value: bad.0 })?;
        Ok(Self { digest, bytes: artifact.bytes, media })
    }
}

impl From<&Value> for pb::Value {
    fn from(value: &Value) -> Self {
        use pb::value::Value as V;
        let value = match value {
            Value::Literal(literal) => V::Literal(literal.into()),
            Value::Artifact(artifact) => V::Artifact(artifact.into()),
            Value::Recipe(recipe) => V::RecipeJson(recipe.to_string()),
            Value::List(values) => V::List(pb::ValueList { items: values.iter().map(Into::into).collect() }),
            Value::Blocked(message) => {
                V::Blocked(pb::Blocked { message: message.clone().unwrap_or_default() })
            }
        };
        Self { value: Some(value) }
    }
}

impl TryFrom<pb::Value> for Value {
    type Error = BadMessage;
    fn try_from(value: pb::Value) -> Result<Self, BadMessage> {
        use pb::value::Value as V;
        Ok(match value.value.ok_or(BadMessage::Missing("value.value"))? {
            V::Literal(literal) => Value::Literal(literal.try_into()?),
            V::Artifact(artifact) => Value::Artifact(artifact.try_into()?),
            V::RecipeJson(json) => Value::Recipe(
                serde_json::from_str(&json)
                    .map_err(|_| BadMessage::Bad { field: "value.recipe_json", value: json })?,
            ),
            V::List(list) => {
                let nested = |item: &pb::Value| matches!(item.value, Some(V::List(_)));
                if list.items.iter().any(nested) {
                    return Err(BadMessage::Bad { field: "value.list", value: "a list in a list".into() });
                }
                Value::List(list.items.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
            V::Blocked(blocked) => Value::Blocked(none_if_empty(blocked.message)),
        })
    }
}

impl From<&NodeSpec> for pb::NodeSpec {
    fn from(spec: &NodeSpec) -> Self {
        Self {
            class: spec.class.clone(),
            display_name: spec.display_name.clone(),
            description: spec.description.clone(),
            category: spec.category.clone(),
            version: spec.version,
            inputs: spec.inputs.iter().map(Into::into).collect(),
            outputs: spec.outputs.iter().map(Into::into).collect(),
            output_node: spec.output_node,
            deprecated: spec.deprecated,
            experimental: spec.experimental,
            not_cacheable: spec.not_cacheable,
            input_is_list: spec.input_is_list,
            expands: spec.expands,
        }
    }
}

impl TryFrom<pb::NodeSpec> for NodeSpec {
    type Error = BadMessage;
    fn try_from(spec: pb::NodeSpec) -> Result<Self, BadMessage> {
        Ok(Self {
            class: spec.class,
            display_name: spec.display_name,
            description: spec.description,
            category: spec.category,
            version: spec.version,
            inputs: spec.inputs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            outputs: spec.outputs.into_iter().map(Into::into).collect(),
            output_node: spec.output_node,
            deprecated: spec.deprecated,
            experimental: spec.experimental,
            not_cacheable: spec.not_cacheable,
            input_is_list: spec.input_is_list,
            expands: spec.expands,
        })
    }
}

impl From<&InputSpec> for pb::InputSpec {
    fn from(input: &InputSpec) -> Self {
        let group = match input.group {
            InputGroup::Required => pb::InputGroup::Required,
            InputGroup::Optional => pb::InputGroup::Optional,
            InputGroup::Hidden => pb::InputGroup::Hidden,
        };
        Self {
            name: input.name.clone(),
            group: group.into(),
            r#type: input.socket.clone(),
            tooltip: input.tooltip.clone().unwrap_or_default(),
            force_input: input.force_input,
            lazy: input.lazy,
            matches: input.matches.clone().unwrap_or_default(),
            widget: input.widget.as_ref().map(write_widget),
        }
    }
}

impl TryFrom<pb::InputSpec> for InputSpec {
    type Error = BadMessage;
    fn try_from(input: pb::InputSpec) -> Result<Self, BadMessage> {
        let group = match pb::InputGroup::try_from(input.group) {
            Ok(pb::InputGroup::Required) => InputGroup::Required,
            Ok(pb::InputGroup::Optional) => InputGroup::Optional,
            Ok(pb::InputGroup::Hidden) => InputGroup::Hidden,
            _ => return Err(BadMessage::Bad { field: "input.group", value: input.group.to_string() }),
        };
        Ok(Self {
            name: input.name,
            group,
            socket: input.r#type,
            tooltip: none_if_empty(input.tooltip),
            force_input: input.force_input,
            lazy: input.lazy,
            matches: none_if_empty(input.matches),
            widget: input.widget.map(read_widget).transpose()?,
        })
    }
}

fn write_widget(widget: &Widget) -> pb::input_spec::Widget {
    use pb::input_spec::Widget as W;
    let int = |i: &i128| Some((&Literal::Int(*i)).into());
    match widget {
        Widget::Int { default, min, max, step, control_after_generate, display } => W::Int(pb::IntWidget {
            default: int(default),
            min: int(min),
            max: int(max),
            step: int(step),
            control_after_generate: *control_after_generate,
            display: display.clone().unwrap_or_default(),
        }),
        Widget::Float { default, min, max, step, round, display } => W::Float(pb::FloatWidget {
            default: *default,
            min: *min,
            max: *max,
            step: *step,
            round: *round,
            display: display.clone().unwrap_or_default(),
        }),
        Widget::Text { default, multiline, dynamic_prompts, mentions } => W::Text(pb::TextWidget {
            default: default.clone(),
            multiline: *multiline,
            dynamic_prompts: *dynamic_prompts,
            mentions: mentions.as_ref().map(|mentions| pb::Mentions {
                keyword: mentions.keyword.clone(),
                folder: mentions.folder.clone(),
                files: mentions.files.iter().map(write_option).collect(),
            }),
        }),
        Widget::Bool { default, label_on, label_off } => W::Boolean(pb::BoolWidget {
            default: *default,
            label_on: label_on.clone().unwrap_or_default(),
            label_off: label_off.clone().unwrap_or_default(),
        }),
        Widget::Combo { options, default, folder, upload, open } => W::Combo(pb::ComboWidget {
            options: options.iter().map(write_option).collect(),
            default: default.clone(),
            folder: folder.clone().unwrap_or_default(),
            upload: upload.clone().unwrap_or_default(),
            open: *open,
        }),
        Widget::DynamicCombo { options } => W::DynamicCombo(pb::DynamicComboWidget {
            options: options.iter().map(write_dynamic_option).collect(),
        }),
    }
}

fn write_dynamic_option(option: &DynamicOption) -> pb::DynamicOption {
    pb::DynamicOption { key: option.key.clone(), inputs: option.inputs.iter().map(Into::into).collect() }
}

fn read_dynamic_option(option: pb::DynamicOption) -> Result<DynamicOption, BadMessage> {
    let inputs = option.inputs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    Ok(DynamicOption { key: option.key, inputs })
}

fn write_option(option: &ComboOption) -> pb::ComboOption {
    pb::ComboOption {
        value: option.value.clone(),
        fingerprint: option.fingerprint.clone().unwrap_or_default(),
    }
}

fn read_option(option: pb::ComboOption) -> ComboOption {
    ComboOption { value: option.value, fingerprint: none_if_empty(option.fingerprint) }
}

fn read_widget(widget: pb::input_spec::Widget) -> Result<Widget, BadMessage> {
    use pb::input_spec::Widget as W;
    let int = |literal: Option<pb::Literal>, field| match literal.map(Literal::try_from) {
        Some(Ok(Literal::Int(i))) => Ok(i),
        _ => Err(BadMessage::Missing(field)),
    };
    Ok(match widget {
        W::Int(w) => Widget::Int {
            default: int(w.default, "widget.default")?,
            min: int(w.min, "widget.min")?,
            max: int(w.max, "widget.max")?,
            step: int(w.step, "widget.step")?,
            control_after_generate: w.control_after_generate,
            display: none_if_empty(w.display),
        },
        W::Float(w) => Widget::Float {
            default: w.default,
            min: w.min,
            max: w.max,
            step: w.step,
            round: w.round,
            display: none_if_empty(w.display),
        },
        W::Text(w) => Widget::Text {
            default: w.default,
            multiline: w.multiline,
            dynamic_prompts: w.dynamic_prompts,
            mentions: w.mentions.map(|mentions| Mentions {
                keyword: mentions.keyword,
                folder: mentions.folder,
                files: mentions.files.into_iter().map(read_option).collect(),
            }),
        },
        W::Boolean(w) => Widget::Bool {
            default: w.default,
            label_on: none_if_empty(w.label_on),
            label_off: none_if_empty(w.label_off),
        },
        W::Combo(w) => Widget::Combo {
            options: w.options.into_iter().map(read_option).collect(),
            default: w.default,
            folder: none_if_empty(w.folder),
            upload: none_if_empty(w.upload),
            open: w.open,
        },
        W::DynamicCombo(w) => Widget::DynamicCombo {
            options: w.options.into_iter().map(read_dynamic_option).collect::<Result<_, _>>()?,
        },
    })
}

impl From<&OutputSpec> for pb::OutputSpec {
    fn from(output: &OutputSpec) -> Self {
        Self {
            name: output.name.clone(),
            r#type: output.socket.clone(),
            is_list: output.is_list,
            tooltip: output.tooltip.clone().unwrap_or_default(),
            matches: output.matches.clone().unwrap_or_default(),
        }
    }
}

impl From<pb::OutputSpec> for OutputSpec {
    fn from(output: pb::OutputSpec) -> Self {
        Self {
            name: output.name,
            socket: output.r#type,
            is_list: output.is_list,
            tooltip: none_if_empty(output.tooltip),
            matches: none_if_empty(output.matches),
        }
    }
}

impl From<ErrorCode> for pb::ErrorCode {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidArgument => Self::InvalidArgument,
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::FailedPrecondition => Self::FailedPrecondition,
            ErrorCode::ResourceExhausted => Self::ResourceExhausted,
            ErrorCode::Unavailable => Self::Unavailable,
            ErrorCode::DeadlineExceeded => Self::DeadlineExceeded,
            ErrorCode::Cancelled => Self::Cancelled,
            ErrorCode::Internal => Self::Internal,
        }
    }
}

/// Reads an error code; one this version does not know is `Internal`, because nothing can be done about it.
impl From<pb::ErrorCode> for ErrorCode {
    fn from(code: pb::ErrorCode) -> Self {
        ErrorCode::ALL.into_iter().find(|c| pb::ErrorCode::from(*c) == code).unwrap_or(ErrorCode::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_and_values_survive_the_wire() {
        let spec = NodeSpec {
            class: "KSampler".into(),
            version: 3,
            inputs: vec![
                InputSpec::socket("model", "MODEL").tooltip("which model"),
                InputSpec::seed("seed"),
                InputSpec::float("cfg", 8.0, (0.0, 100.0), 0.1, Some(0.01)),
                InputSpec::combo("sampler_name", &["euler", "heun"]).choose("heun"),
                InputSpec::prompt("text").optional(),
                InputSpec::boolean("flag", true),
                InputSpec::file("ckpt_name", "checkpoints"),
            ],
            outputs: vec![OutputSpec::of("LATENT"), OutputSpec::of("IMAGE").list()],
            output_node: true,
            input_is_list: true,
            expands: true,
            ..NodeSpec::default()
        };
        assert_eq!(NodeSpec::try_from(pb::NodeSpec::from(&spec)).unwrap(), spec);

        let media = Media::Tensor { dtype: DType::F32, shape: vec![1, 4, 64, 64] };
        for value in [
            Value::Literal(Literal::Int(u64::MAX.into())),
            Value::Literal(Literal::Int(-5)),
            Value::Artifact(ArtifactRef { digest: Digest::of(b"x"), bytes: 1, media }),
            Value::Recipe(serde_json::json!({"part": "model"})),
            Value::List(vec![Value::Literal(Literal::Int(1)), Value::Blocked(None)]),
            Value::List(Vec::new()),
            Value::Blocked(Some("no mask".into())),
        ] {
            assert_eq!(Value::try_from(pb::Value::from(&value)).unwrap(), value);
        }
    }

    #[test]
    fn bad_messages_say_what_is_wrong() {
        let message = Value::try_from(pb::Value { value: None }).unwrap_err().to_string();
        assert_eq!(message, "`value.value` is missing");
        let nested = Value::List(vec![Value::List(Vec::new())]);
        let message = Value::try_from(pb::Value::from(&nested)).unwrap_err().to_string();
        assert_eq!(message, "`value.list` holds `a list in a list`");
    }
}
