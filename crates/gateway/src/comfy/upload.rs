//! `POST /upload/image` and `/upload/mask`.

use super::{pictures, view};
use crate::app::Shared;
use crate::error::{ApiError, ComfyError, too_large};
use crate::files::{self, FolderKind, Folders};
use crate::openapi::failures::{Disk, Outside, Refusal, TooLarge, Unknown, Wrong};
use axum::Json;
use axum::extract::multipart::{MultipartError, MultipartRejection};
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::Path;
use utoipa::ToSchema;

/// More copies of one name than this and something is wrong.
const MAX_COPIES: usize = 10_000;

/// The form, for the description.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never made")]
pub struct Upload {
    #[schema(value_type = String, format = Binary)]
    image: Bytes,
    /// `true`: over a file of the same name.
    #[schema(nullable = false)]
    overwrite: Option<String>,
    #[schema(nullable = false)]
    r#type: Option<FolderKind>,
    #[schema(nullable = false)]
    subfolder: Option<String>,
    /// JSON with `filename`, `type` and `subfolder`: the picture that a mask belongs to.
    #[schema(nullable = false)]
    original_ref: Option<String>,
}

/// Where a picture was stored.
#[derive(Serialize, ToSchema)]
pub struct UploadedFile {
    name: String,
    subfolder: String,
    r#type: &'static str,
}

/// The fields of an upload form.
struct Form {
    name: String,
    content: Bytes,
    overwrite: bool,
    kind: FolderKind,
    subfolder: String,
    original_ref: Option<String>,
}

#[utoipa::path(
    post,
    path = "/upload/image",
    tag = "comfyui",
    summary = "Stores a picture.",
    request_body(content = Upload, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The answer.", body = UploadedFile),
        Wrong<Refusal>, Outside<Refusal>, TooLarge<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn image(
    State(app): State<Shared>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Json<UploadedFile>, ComfyError> {
    let form = read_form(form).await?;
    let folders = app.folders.clone();
    Ok(Json(files::blocking(move || store(&folders, &form)).await?))
}

/// Stores the picture that `original_ref` names with the alpha channel of the uploaded mask.
#[utoipa::path(
    post,
    path = "/upload/mask",
    tag = "comfyui",
    summary = "Stores a picture with the alpha of a mask.",
    request_body(content = Upload, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The answer.", body = UploadedFile),
        Wrong<Refusal>, Outside<Refusal>, Unknown<Refusal>, TooLarge<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn mask(
    State(app): State<Shared>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Json<UploadedFile>, ComfyError> {
    let mut form = read_form(form).await?;
    let folders = app.folders.clone();
    let answer = files::blocking(move || {
        let original = std::fs::read(original(&folders, form.original_ref.as_deref())?)?;
        form.content = pictures::with_alpha_of(&original, &form.content)?.into();
        store(&folders, &form)
    })
    .await?;
    Ok(Json(answer))
}

fn original(folders: &Folders, reference: Option<&str>) -> Result<std::path::PathBuf, ApiError> {
    #[derive(Deserialize)]
    struct Reference {
        filename: String,
        #[serde(rename = "type")]
        kind: Option<String>,
        #[serde(default)]
        subfolder: String,
    }
    let reference = reference.ok_or_else(|| ApiError::bad_request("the form has no `original_ref`"))?;
    let reference: Reference = serde_json::from_str(reference)
        .map_err(|error| ApiError::bad_request(format!("`original_ref` cannot be read: {error}")))?;
    view::resolve(folders, &reference.filename, reference.kind.as_deref(), &reference.subfolder)
}

async fn read_form(form: Result<Multipart, MultipartRejection>) -> Result<Form, ApiError> {
    let mut multipart =
        form.map_err(|rejection| ApiError::bad_request(format!("not a form: {}", rejection.body_text())))?;
    let (mut picture, mut overwrite, mut kind, mut subfolder, mut original_ref) =
        (None, false, FolderKind::Input, String::new(), None);
    while let Some(field) = multipart.next_field().await.map_err(bad_form)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "image" {
            let file_name = field.file_name().map(str::to_owned);
            let file_name = file_name.ok_or_else(|| ApiError::bad_request("`image` is not a file"))?;
            picture =
                Some((files::file_name(&file_name)?.to_owned(), field.bytes().await.map_err(bad_form)?));
            continue;
        }
        let text = field.text().await.map_err(bad_form)?;
        match name.as_str() {
            "overwrite" => overwrite = text == "true" || text == "1",
            "type" => {
                kind = FolderKind::parse(&text).ok_or_else(|| {
                    ApiError::bad_request(format!("no type `{text}`, expected one of {}", FolderKind::NAMES))
                })?;
            }
            "subfolder" => subfolder = text,
            "original_ref" => original_ref = Some(text),
            _ => {}
        }
    }
    let (name, content) = picture.ok_or_else(|| ApiError::bad_request("the form has no file `image`"))?;
    Ok(Form { name, content, overwrite, kind, subfolder, original_ref })
}

fn bad_form(error: MultipartError) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => ApiError::bad_request(format!("the form cannot be read: {}", error.body_text())),
    }
}

/// Writes the file: over an older one if that is asked for, else under a new name unless the content is the same.
fn store(folders: &Folders, form: &Form) -> Result<UploadedFile, ApiError> {
    let root = folders.root(form.kind);
    let subfolder = files::relative(&form.subfolder)
        .map_err(|_| ApiError::bad_request(format!("`{}` is not a usable subfolder", form.subfolder)))?;
    let name = if form.overwrite {
        files::write_atomically(&files::for_writing(root, &subfolder.join(&form.name))?, &form.content)?;
        form.name.clone()
    } else {
        store_as_new(root, &subfolder, form)?
    };
    Ok(UploadedFile { name, subfolder: form.subfolder.clone(), r#type: form.kind.name() })
}

fn store_as_new(root: &Path, subfolder: &Path, form: &Form) -> Result<String, ApiError> {
    let (stem, extension) = match form.name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (form.name.as_str(), String::new()),
    };
    for copy in 0..MAX_COPIES {
        let name = if copy == 0 { form.name.clone() } else { format!("{stem} ({copy}){extension}") };
        let path = files::for_writing(root, &subfolder.join(&name))?;
        match std::fs::File::create_new(&path) {
            Ok(mut file) => {
                if let Err(error) = file.write_all(&form.content) {
                    // A half picture must not stay under a good name.
                    let _ = std::fs::remove_file(&path);
                    return Err(error.into());
                }
                return Ok(name);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if path.is_file() && has_content(&path, &form.content)? {
                    return Ok(name);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::bad_request(format!("there are {MAX_COPIES} files named like `{}`", form.name)))
}

fn has_content(path: &Path, content: &[u8]) -> std::io::Result<bool> {
    Ok(std::fs::metadata(path)?.len() == content.len() as u64
        && blake3::hash(&std::fs::read(path)?) == blake3::hash(content))
}
