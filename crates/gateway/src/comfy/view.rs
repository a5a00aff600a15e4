//! `GET /view`: a picture of the input, output or temp folder, as it is or re-encoded.

use super::pictures::{self, Channel, PreviewFormat};
use crate::app::Shared;
use crate::error::{ApiError, ComfyError};
use crate::extract::comfy::Query;
use crate::files::{self, FolderKind, Folders};
use crate::openapi::failures::{Disk, FileAnswer, Outside, Refusal, Unknown, Wrong};
use crate::serve_file;
use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::path::PathBuf;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// The file.
    #[param(min_length = 1, example = "example.png", pattern = "^[^\\x00-\\x1f\\x7f-\\x9f\\\\:]*$")]
    filename: Option<String>,
    /// The folder, `output` if left out.
    #[serde(rename = "type")]
    #[param(value_type = Option<FolderKind>, example = "input")]
    kind: Option<String>,
    /// Where in the folder.
    #[serde(default)]
    #[param(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f\\\\:]*$")]
    subfolder: String,
    /// `webp;90` or `jpeg;90`.
    preview: Option<String>,
    /// `rgba`, `rgb` or `a`.
    channel: Option<String>,
}

#[utoipa::path(
    get,
    path = "/view",
    tag = "comfyui",
    summary = "Gives a picture, as it is or re-encoded.",
    params(Params),
    responses(
        FileAnswer,
        Wrong<Refusal>, Outside<Refusal>, Unknown<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn get(
    State(app): State<Shared>,
    Query(params): Query<Params>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ComfyError> {
    let Some(filename) = params.filename else {
        return Err(ApiError::not_found("`filename` is missing").into());
    };
    let folders = app.folders.clone();
    let path =
        files::blocking(move || resolve(&folders, &filename, params.kind.as_deref(), &params.subfolder))
            .await?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let channel = Channel::parse(params.channel.as_deref());
    let rendered = match (params.preview, channel) {
        (Some(preview), channel) => {
            let format = PreviewFormat::parse(&preview, params.channel.as_deref().unwrap_or_default())?;
            files::blocking(move || pictures::preview(&read(&path)?, format, channel)).await?
        }
        (None, Channel::All) => return Ok(serve_file::serve(&path, method, headers).await?),
        (None, channel) => files::blocking(move || pictures::channel(&read(&path)?, channel)).await?,
    };
    let response = ([(header::CONTENT_TYPE, rendered.mime)], rendered.bytes).into_response();
    Ok(serve_file::harmless(response, &name))
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, ApiError> {
    Ok(std::fs::read(path)?)
}

/// Finds the file of a picture reference.
///
/// # Errors
/// 400 for a name that leaves its folder or an unknown type, 403 for such a subfolder, 404 when nothing is there.
pub fn resolve(
    folders: &Folders,
    filename: &str,
    kind: Option<&str>,
    subfolder: &str,
) -> Result<PathBuf, ApiError> {
    let (filename, annotated) = split_annotation(filename);
    if filename.is_empty() || filename.starts_with('/') || filename.contains("..") {
        return Err(files::PathError::Invalid(filename.escape_debug().to_string()).into());
    }
    let kind = match annotated {
        Some(kind) => kind,
        None => {
            let name = kind.unwrap_or(FolderKind::Output.name());
            FolderKind::parse(name).ok_or_else(|| {
                ApiError::bad_request(format!("no type `{name}`, expected one of {}", FolderKind::NAMES))
            })?
        }
    };
    // Only the last component of the name counts, folders are named by `subfolder`.
    let base = files::relative(filename)?;
    let Some(base) = base.file_name() else {
        return Err(files::PathError::Missing(filename.into()).into());
    };
    let path = files::existing(folders.root(kind), &files::relative(subfolder)?.join(base))?;
    if path.is_file() { Ok(path) } else { Err(files::PathError::Missing(filename.into()).into()) }
}

// `name.png [input]` is how nodes write a picture of another folder.
fn split_annotation(filename: &str) -> (&str, Option<FolderKind>) {
    if let Some((name, rest)) = filename.rsplit_once(" [")
        && let Some(kind) = rest.strip_suffix(']').and_then(FolderKind::parse)
    {
        return (name, Some(kind));
    }
    (filename, None)
}
