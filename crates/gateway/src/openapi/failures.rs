//! What an answer looks like when it is not the wanted one, for the descriptions beside the handlers.

use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};

/// Why a request to `/v1` was refused.
#[derive(Serialize, ToSchema)]
pub struct Error {
    pub error: Reason,
    /// What is wrong with which node of a refused workflow.
    #[schema(value_type = Option<Object>, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_errors: Option<Value>,
}

/// A code for programs, and words for people.
#[derive(Serialize, ToSchema)]
#[schema(as = ErrorReason)]
pub struct Reason {
    pub code: String,
    pub message: String,
    pub details: String,
}

/// The same as ComfyUI's page reads it.
#[derive(Serialize, ToSchema)]
#[schema(as = ComfyError)]
pub struct Refusal {
    pub error: ComfyReason,
    #[schema(value_type = Object)]
    pub node_errors: Value,
}

/// A type for programs, and words for people.
#[derive(Serialize, ToSchema)]
#[schema(as = ComfyErrorReason)]
pub struct ComfyReason {
    pub r#type: String,
    pub message: String,
    pub details: String,
    #[schema(value_type = Object)]
    pub extra_info: Value,
}

/// The same in the shape of ComfyUI's later routes.
#[derive(Serialize, ToSchema)]
#[schema(as = JobsError)]
pub struct JobsRefusal {
    /// Words, or an object with words.
    pub error: Value,
    /// Those of several ids that are none.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_ids: Option<Vec<Value>>,
}

/// Refusals of the layers around every route.
pub const OF_LAYERS: [(&str, &str); 3] = [
    ("401", "The server has API keys and the request carries none."),
    ("403", "The request comes from another site's page, or the API key is not good for this."),
    ("429", "The client asks too often."),
];

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $text:literal,)+ })+) => {$(
        $(#[$doc])*
        pub struct $name<E>(PhantomData<E>);

        impl<E: ToSchema> IntoResponses for $name<E> {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([$(($status.to_owned(), failure::<E>($text)),)+])
            }
        }
    )+};
}

failures! {
    /// The request is malformed.
    Wrong { "400": "The request is wrong; the answer says where.", }
    /// `MULTI_USER` is on and the header names nobody.
    NoUser { "401": "The user is not known.", }
    /// A path as text leads out of its folder.
    Outside { "403": "The name leads out of its folder.", }
    /// What was named is not there.
    Unknown { "404": "There is no such thing.", }
    /// Right, but not now.
    Conflict { "409": "It cannot be done in this state.", }
    /// More than the limits of the configuration.
    TooLarge {
        "408": "The body did not arrive in time.",
        "413": "The body is larger than allowed.",
    }
    /// An idempotency key met another request.
    KeyReused { "422": "The idempotency key was used for another request.", }
    /// The services behind the gateway.
    Away {
        "429": "There is too much to do already.",
        "500": "The request failed.",
        "503": "A service that is needed is away.",
        "504": "A service that is needed did not answer in time.",
    }
    /// The disk of the gateway.
    Disk {
        "429": "The disk is full.",
        "500": "The disk failed.",
    }
}

fn failure<E: ToSchema>(text: &str) -> RefOr<Response> {
    let schema = RefOr::from(Ref::from_schema_name(E::name()));
    let response = ResponseBuilder::new()
        .description(text)
        .content("application/json", Content::new(Some(schema)))
        .build();
    RefOr::T(response)
}

/// The bytes of a file, whole or in part.
pub struct FileAnswer;

impl IntoResponses for FileAnswer {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let schema = || Content::new(Some(Binary::schema()));
        let bytes = |text: &str| ResponseBuilder::new().description(text).content("*/*", schema());
        let empty = |text: &str| ResponseBuilder::new().description(text);
        [
            ("200", bytes("The file.")),
            ("206", bytes("The part that `Range` asked for.")),
            ("304", empty("The copy that the client has is the newest.")),
            ("412", empty("The file has changed.")),
            ("416", empty("The file has no such part.")),
        ]
        .into_iter()
        .map(|(status, response)| (status.to_owned(), RefOr::T(response.build())))
        .collect()
    }
}

/// Bytes.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Binary(#[expect(dead_code, reason = "described, never made")] Vec<u8>);
