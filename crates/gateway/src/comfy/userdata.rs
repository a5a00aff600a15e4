//! `/userdata`: the files that the page keeps for a person, such as saved workflows.

use super::users::UserFolder;
use crate::error::{ApiError, Body, ComfyError, read_body};
use crate::extract::comfy::{Path, Query};
use crate::files::{self, PathError};
use crate::openapi::failures::{
    Binary, Conflict, Disk, FileAnswer, NoUser, Outside, Refusal, TooLarge, Unknown, Wrong,
};
use crate::serve_file;
use axum::Json;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path as FsPath, PathBuf};
use std::time::SystemTime;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// The folder.
    #[param(
        required,
        nullable = false,
        min_length = 1,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f\\\\:]*$",
        example = "."
    )]
    dir: Option<String>,
    /// `true`: with folders below.
    #[serde(default)]
    recurse: String,
    /// `true`: objects with size and times instead of paths.
    #[serde(default)]
    full_info: String,
    /// `true`: parts of paths.
    #[serde(default)]
    split: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WriteParams {
    /// `false`: an existing file is an error.
    overwrite: Option<String>,
    /// `true`: objects with size and times instead of paths.
    #[serde(default)]
    full_info: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListV2Params {
    /// The folder.
    #[serde(default)]
    #[param(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f\\\\:]*$")]
    path: String,
}

fn yes(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

impl WriteParams {
    fn overwrite(&self) -> bool {
        self.overwrite.as_deref() != Some("false")
    }
}

#[utoipa::path(
    get,
    path = "/userdata",
    tag = "comfyui",
    summary = "Lists files of the user.",
    params(ListParams),
    responses(
        (status = 200, description = "The answer.", body = Vec<Value>),
        Wrong<Refusal>, NoUser<Refusal>, Outside<Refusal>, Unknown<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn list(
    UserFolder(root): UserFolder,
    Query(params): Query<ListParams>,
) -> Result<Json<Value>, ComfyError> {
    let Some(dir) = params.dir.filter(|dir| !dir.is_empty()) else {
        return Err(ApiError::bad_request("`dir` is missing").into());
    };
    let entries = files::blocking(move || {
        let dir = folder(&root, &dir)?;
        let mut found = Vec::new();
        walk(&dir, FsPath::new(""), yes(&params.recurse), &mut found)?;
        let files = found.into_iter().filter(|entry| !entry.is_dir);
        Ok(files
            .map(|file| match (yes(&params.full_info), yes(&params.split)) {
                (true, _) => file.full_info(),
                (false, true) => {
                    let parts = file.path.split('/').map(Value::from);
                    [Value::from(file.path.clone())].into_iter().chain(parts).collect()
                }
                (false, false) => file.path.into(),
            })
            .collect::<Vec<Value>>())
    })
    .await?;
    Ok(Json(entries.into()))
}

/// Lists folders and files below a folder; a root that does not exist yet is empty.
#[utoipa::path(
    get,
    path = "/v2/userdata",
    tag = "comfyui",
    summary = "Lists files and folders of the user.",
    params(ListV2Params),
    responses(
        (status = 200, description = "The answer.", body = Vec<Value>),
        Wrong<Refusal>, NoUser<Refusal>, Outside<Refusal>, Unknown<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn list_v2(
    UserFolder(root): UserFolder,
    Query(params): Query<ListV2Params>,
) -> Result<Json<Value>, ComfyError> {
    let entries = files::blocking(move || {
        let base = files::relative(&params.path)?;
        if base.as_os_str().is_empty() && !root.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        walk(&folder(&root, &params.path)?, &base, true, &mut found)?;
        found.sort_by_key(|entry| !entry.is_dir);
        Ok(found.iter().map(Entry::v2).collect::<Vec<Value>>())
    })
    .await?;
    Ok(Json(entries.into()))
}

fn folder(root: &FsPath, dir: &str) -> Result<PathBuf, ApiError> {
    let path = match files::without_links(root, &files::relative(dir)?) {
        // `dir=.` of a person who has not saved anything.
        Err(PathError::Missing(_)) if files::relative(dir)?.as_os_str().is_empty() => {
            std::fs::create_dir_all(root)?;
            files::without_links(root, FsPath::new(""))?
        }
        path => path?,
    };
    if path.is_dir() { Ok(path) } else { Err(ApiError::not_found(format!("`{dir}` is not a folder"))) }
}

struct Entry {
    /// Relative to where the listing began, `/` separated.
    path: String,
    is_dir: bool,
    size: u64,
    modified: f64,
    created: f64,
}

impl Entry {
    fn new(path: String, metadata: &std::fs::Metadata) -> Self {
        let seconds = |time: std::io::Result<SystemTime>| {
            time.ok()
                .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
                .map(|age| age.as_secs_f64())
        };
        let modified = seconds(metadata.modified()).unwrap_or(0.0);
        let created = seconds(metadata.created()).unwrap_or(modified);
        Self { path, is_dir: metadata.is_dir(), size: metadata.len(), modified, created }
    }

    fn full_info(&self) -> Value {
        json!({"path": self.path, "size": self.size, "modified": self.modified, "created": self.created})
    }

    fn v2(&self) -> Value {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        if self.is_dir {
            json!({"name": name, "path": self.path, "type": "directory"})
        } else {
            json!({
                "name": name, "path": self.path, "type": "file", "size": self.size, "modified": self.modified,
            })
        }
    }
}

// Links are not followed: what they lead to may be outside.
fn walk(dir: &FsPath, prefix: &FsPath, recurse: bool, found: &mut Vec<Entry>) -> Result<(), ApiError> {
    let mut children: Vec<_> = std::fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    children.sort_by_key(std::fs::DirEntry::file_name);
    for child in children {
        let metadata = child.metadata()?;
        let relative = prefix.join(child.file_name());
        if !metadata.is_symlink() {
            found.push(Entry::new(relative.to_string_lossy().replace('\\', "/"), &metadata));
        }
        if metadata.is_dir() && recurse {
            walk(&child.path(), &relative, recurse, found)?;
        }
    }
    Ok(())
}

#[utoipa::path(
    get,
    path = "/userdata/{file}",
    tag = "comfyui",
    summary = "Gives a file of the user.",
    params(("file" = String, Path, description = "A path in the folder of the user.", pattern = "^[^\\x00-\\x1f\\x7f-\\x9f\\\\:]*$")),
    responses(
        FileAnswer,
        Wrong<Refusal>, NoUser<Refusal>, Outside<Refusal>, Unknown<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn get(
    UserFolder(root): UserFolder,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ComfyError> {
    let path = files::blocking(move || Ok(files::without_links(&root, &files::relative(&file)?)?)).await?;
    Ok(serve_file::serve(&path, method, headers).await?)
}

#[utoipa::path(
    post,
    path = "/userdata/{file}",
    tag = "comfyui",
    summary = "Stores a file of the user.",
    params(("file" = String, Path, description = "A path in the folder of the user.", pattern = "^[^\\x00-\\x1f\\x7f-\\x9f\\\\:]*$"), WriteParams),
    request_body(content = Option<Binary>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The path, or an object with it.", body = Value),
        Wrong<Refusal>, NoUser<Refusal>, Outside<Refusal>, Unknown<Refusal>, Conflict<Refusal>, TooLarge<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn post(
    UserFolder(root): UserFolder,
    Path(file): Path<String>,
    Query(params): Query<WriteParams>,
    body: Body,
) -> Result<Json<Value>, ComfyError> {
    let content = read_body(body)?;
    let answer = files::blocking(move || {
        let relative = files::relative(&file)?;
        let path = target(&root, &relative, params.overwrite())?;
        files::write_atomically(&path, &content)?;
        written(&relative, &path, yes(&params.full_info))
    })
    .await?;
    Ok(Json(answer))
}

#[utoipa::path(
    delete,
    path = "/userdata/{file}",
    tag = "comfyui",
    summary = "Removes a file of the user.",
    params(("file" = String, Path, description = "A path in the folder of the user.", pattern = "^[^\\x00-\\x1f\\x7f-\\x9f\\\\:]*$")),
    responses(
        (status = 204, description = "Done."),
        Wrong<Refusal>, NoUser<Refusal>, Outside<Refusal>, Unknown<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn delete(
    UserFolder(root): UserFolder,
    Path(file): Path<String>,
) -> Result<StatusCode, ComfyError> {
    Ok(files::blocking(move || {
        std::fs::remove_file(only_file(&root, &file)?)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await?)
}

#[utoipa::path(
    post,
    path = "/userdata/{file}/move/{dest}",
    tag = "comfyui",
    summary = "Renames a file of the user.",
    params(("file" = String, Path, description = "A path in the folder of the user.", pattern = "^[^\\x00-\\x1f\\x7f-\\x9f\\\\:]*$"), ("dest" = String, Path, description = "The new path.", pattern = "^[^\\x00-\\x1f\\x7f-\\x9f\\\\:]*$"), WriteParams),
    responses(
        (status = 200, description = "The path, or an object with it.", body = Value),
        Wrong<Refusal>, NoUser<Refusal>, Outside<Refusal>, Unknown<Refusal>, Conflict<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn rename(
    UserFolder(root): UserFolder,
    Path((file, dest)): Path<(String, String)>,
    Query(params): Query<WriteParams>,
) -> Result<Json<Value>, ComfyError> {
    let answer = files::blocking(move || {
        let from = only_file(&root, &file)?;
        let relative = files::relative(&dest)?;
        let to = target(&root, &relative, params.overwrite())?;
        std::fs::rename(from, &to)?;
        written(&relative, &to, yes(&params.full_info))
    })
    .await?;
    Ok(Json(answer))
}

fn only_file(root: &FsPath, file: &str) -> Result<PathBuf, ApiError> {
    let path = files::without_links(root, &files::relative(file)?)?;
    if path.is_file() { Ok(path) } else { Err(ApiError::not_found(format!("`{file}` is not a file"))) }
}

fn target(root: &FsPath, relative: &FsPath, overwrite: bool) -> Result<PathBuf, ApiError> {
    let path = files::for_writing(root, relative)?;
    if path.exists() || path.is_symlink() {
        files::without_links(root, relative)?;
    }
    if let Some(parent) = relative.parent() {
        files::without_links(root, parent)?;
    }
    let name = relative.display();
    if path.is_dir() {
        return Err(ApiError::new(StatusCode::CONFLICT, "already_exists", format!("`{name}` is a folder")));
    }
    if path.exists() && !overwrite {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "already_exists",
            format!("`{name}` exists already"),
        ));
    }
    Ok(path)
}

fn written(relative: &FsPath, path: &FsPath, full_info: bool) -> Result<Value, ApiError> {
    let name = relative.to_string_lossy().replace('\\', "/");
    if full_info { Ok(Entry::new(name, &std::fs::metadata(path)?).full_info()) } else { Ok(name.into()) }
}
