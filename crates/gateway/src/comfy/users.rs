//! `/users`, and whose files a request means.
//!
//! One person is the rule. With `MULTI_USER` the header `comfy-user` names one of the people that `POST /users` has
//! made; it is a name, not a proof.

use crate::app::{App, Shared};
use crate::error::{ApiError, Body, ComfyError, read_object};
use crate::files;
use crate::openapi::failures::{Disk, Refusal, TooLarge};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use utoipa::ToSchema;

/// Id to name.
const FILE: &str = "users.json";

/// The only user of a single-user server, named as in ComfyUI so that its folder can be taken over.
const DEFAULT: &str = "default";

const MAX_USERS: usize = 10_000;
const MAX_NAME_CHARS: usize = 100;

/// A person to add.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described here, read by hand: errors are in ComfyUI's words")]
pub struct Username {
    #[schema(min_length = 1, max_length = 100, pattern = "\\S")]
    username: String,
}

/// Why a person was not added, in ComfyUI's shape for this route.
#[derive(serde::Serialize, ToSchema)]
#[serde(untagged)]
pub enum UserRefused {
    Name { error: String },
    Request(Refusal),
}

/// The folder of the person who asks.
pub struct UserFolder(pub PathBuf);

impl FromRequestParts<Shared> for UserFolder {
    type Rejection = ComfyError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ComfyError> {
        let root = app.config.user_dir.clone();
        if !app.config.multi_user {
            return Ok(Self(root.join(DEFAULT)));
        }
        let id = parts.headers.get("comfy-user").and_then(|id| id.to_str().ok()).unwrap_or(DEFAULT);
        let id = id.to_owned();
        let known = {
            let root = root.clone();
            files::blocking(move || Ok(read(&root)?.contains_key(&id).then_some(id))).await?
        };
        // An id that is known was made here, but the file may have been edited.
        match known {
            Some(id) if files::file_name(&id).is_ok() => Ok(Self(root.join(id))),
            _ => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "unknown_user",
                "the header `comfy-user` names nobody that this server knows",
            )
            .into()),
        }
    }
}

#[utoipa::path(
    get,
    path = "/users",
    tag = "comfyui",
    summary = "Says whether there are several users, and who.",
    responses(
        (status = 200, description = "The answer.", body = Object),
        Disk<Refusal>,
    ),
)]
pub async fn list(State(app): State<Shared>) -> Result<Json<Value>, ComfyError> {
    if !app.config.multi_user {
        return Ok(Json(json!({"storage": "server", "migrated": true})));
    }
    let root = app.config.user_dir.clone();
    let users = files::blocking(move || read(&root)).await?;
    Ok(Json(json!({"storage": "server", "users": users})))
}

/// Adds a person and answers with the id, which is the name made harmless and something unique.
#[utoipa::path(
    post,
    path = "/users",
    tag = "comfyui",
    summary = "Adds a user and gives the id.",
    request_body = Username,
    responses(
        (status = 200, description = "The id.", body = String, content_type = "application/json"),
        (status = 400, description = "The name cannot be used.", body = UserRefused),
        TooLarge<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn add(State(app): State<Shared>, body: Body) -> Result<Response, ComfyError> {
    let body = read_object(body)?;
    let name = body["username"].as_str().map(str::trim).unwrap_or_default().to_owned();
    if name.is_empty() {
        return Ok(refused("username not provided"));
    }
    if name.chars().count() > MAX_NAME_CHARS {
        return Ok(refused(&format!("a username has at most {MAX_NAME_CHARS} characters")));
    }
    Ok(match insert(&app, name).await? {
        Ok(id) => Json(id).into_response(),
        Err(problem) => refused(problem),
    })
}

fn refused(problem: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(UserRefused::Name { error: problem.into() })).into_response()
}

async fn insert(app: &App, name: String) -> Result<Result<String, &'static str>, ApiError> {
    let root = app.config.user_dir.clone();
    // Two people who come at once must not have the same name.
    let _writing = app.settings_writer.lock().await;
    files::blocking(move || {
        let mut users = read(&root)?;
        if users.values().any(|known| known.as_str() == Some(&name)) {
            return Ok(Err("Duplicate username."));
        }
        if users.len() >= MAX_USERS {
            return Ok(Err("this server takes no more users"));
        }
        let id = format!("{}_{}", slug(&name), uuid::Uuid::new_v4());
        users.insert(id.clone(), name.into());
        let text = serde_json::to_vec_pretty(&users).map_err(|e| ApiError::internal(e.to_string()))?;
        std::fs::create_dir_all(&root)?;
        files::write_atomically(&root.join(FILE), &text)?;
        Ok(Ok(id))
    })
    .await
}

fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    name.chars().map(plain).collect::<String>().trim_matches('-').to_owned()
}

fn read(root: &Path) -> Result<Map<String, Value>, ApiError> {
    match std::fs::read(root.join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::internal(format!("`{FILE}` in the user folder is damaged: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain() {
        for (name, expected) in
            [("bob", "bob"), ("../x y", "x-y"), ("a/b\\c", "a-b-c"), ("J\u{f6}rg", "J-rg"), ("..", "")]
        {
            assert_eq!(slug(name), expected, "{name}");
        }
    }
}
