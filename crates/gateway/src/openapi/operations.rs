//! The table of operations.

use Answer as A;

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    pub summary: &'static str,
    /// Parameters of the query with what they mean.
    pub query: &'static [(&'static str, &'static str)],
    pub headers: &'static [(&'static str, &'static str)],
    /// The schema of the body, if it takes one.
    pub body: Option<&'static str>,
    pub body_is_optional: bool,
    pub answer: Answer,
    pub errors: &'static [u16],
}

/// What a good answer is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// JSON of a named schema.
    Json(u16, &'static str),
    Empty(u16),
    File(&'static str),
    Events,
    Socket,
}

const fn row(method: &'static str, path: &'static str, answer: Answer, summary: &'static str) -> Operation {
    Operation {
        method,
        path,
        summary,
        query: &[],
        headers: &[],
        body: None,
        body_is_optional: false,
        answer,
        errors: &[],
    }
}

const fn get(path: &'static str, schema: &'static str, summary: &'static str) -> Operation {
    row("get", path, A::Json(200, schema), summary)
}

const fn post(path: &'static str, body: &'static str, answer: Answer, summary: &'static str) -> Operation {
    Operation { body: Some(body), errors: &[400, 413], ..row("post", path, answer, summary) }
}

impl Operation {
    const fn query(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Self { query, ..self }
    }

    const fn headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    const fn errors(self, errors: &'static [u16]) -> Self {
        Self { errors, ..self }
    }

    const fn optional_body(self) -> Self {
        Self { body_is_optional: true, ..self }
    }

    fn is_v1(&self) -> bool {
        self.path.starts_with("/v1/") || self.path.ends_with("z")
    }

    pub fn tag(&self) -> &'static str {
        if self.is_v1() { "v1" } else { "comfyui" }
    }

    pub fn error_schema(&self) -> &'static str {
        match self.path {
            path if path.starts_with("/api/jobs") => "JobsError",
            _ if self.is_v1() => "Error",
            _ => "ComfyError",
        }
    }

    /// A name for generated functions, such as `get_v1_jobs_id`.
    pub fn id(&self) -> String {
        let words = self.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        std::iter::once(self.method).chain(words).collect::<Vec<_>>().join("_")
    }
}

/// What a status means here.
pub(super) fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is wrong; the answer says where.",
        401 => "The user is not known.",
        403 => "The name leads out of its folder.",
        404 => "There is no such thing.",
        409 => "It cannot be done in this state.",
        413 => "The body is larger than allowed.",
        422 => "The idempotency key was used for another request.",
        503 => "A service that is needed is away.",
        _ => "The request failed.",
    }
}

const KEY: &[(&str, &str)] =
    &[("Idempotency-Key", "Sent again with the same request, no second job is made.")];
const PAGE: (&str, &str) = ("offset", "How many to leave out.");
const FULL: (&str, &str) = ("full_info", "`true`: objects with size and times instead of paths.");
const OVERWRITE: (&str, &str) = ("overwrite", "`false`: an existing file is an error.");

/// Every operation.
pub(super) fn all() -> &'static [Operation] {
    OPERATIONS
}

static OPERATIONS: &[Operation] = &[
    get("/v1/nodes", "NodeList", "Lists the nodes that the stages offer.").errors(&[503]),
    post("/v1/workflows", "Workflow", A::Json(202, "Submitted"), "Queues a workflow.")
        .headers(KEY)
        .errors(&[400, 413, 422, 503]),
    post(
        "/v1/workflows/convert",
        "Workflow",
        A::Json(200, "Object"),
        "Turns a drawn workflow into API format.",
    ),
    get("/v1/jobs", "JobList", "Lists jobs, newest first.")
        .query(&[("status", "Statuses, joined by commas."), ("limit", "1 to 1000, 100 if left out."), PAGE])
        .errors(&[400, 503]),
    get("/v1/jobs/{id}", "Job", "Shows a job.").errors(&[404]),
    row("delete", "/v1/jobs/{id}", A::Empty(204), "Removes an ended job.").errors(&[404, 409]),
    row("post", "/v1/jobs/{id}/cancel", A::Json(200, "Job"), "Cancels a job that has not ended.")
        .errors(&[404]),
    post("/v1/jobs/{id}/move", "JobMove", A::Json(200, "Job"), "Moves a job that waits to another place.")
        .errors(&[400, 404, 409]),
    row("get", "/v1/jobs/{id}/output", A::File("image/png"), "Gives a picture that the job made.")
        .query(&[("index", "Which one, from 0.")])
        .errors(&[400, 404]),
    row("get", "/v1/events", A::Events, "Streams events; a reconnecting client loses none.")
        .query(&[("job_id", "Only of this job."), ("after", "Only after this number.")])
        .headers(&[("Last-Event-ID", "As `after`; browsers send it themselves.")])
        .errors(&[400, 404]),
    get("/v1/checkpoints", "CheckpointList", "Lists checkpoint files and what they are.").errors(&[503]),
    get("/v1/system", "System", "Shows the services and the queue."),
    get("/healthz", "Status", "Says that the process is alive."),
    get("/readyz", "Status", "Says that requests can be served.").errors(&[503]),
    row("get", "/ws", A::Socket, "Follows the jobs of a client.")
        .query(&[("clientId", "Who listens; made up when left out.")]),
    get("/prompt", "QueueLength", "Says how many jobs are queued or running."),
    post("/prompt", "Prompt", A::Json(200, "PromptAccepted"), "Queues a graph.")
        .headers(KEY)
        .errors(&[400, 413, 422, 503]),
    post("/interrupt", "PromptId", A::Empty(200), "Cancels the running job, or the named one if it runs.")
        .optional_body(),
    post("/free", "Free", A::Empty(200), "Forgets loaded models, and reusable results.").optional_body(),
    get("/queue", "Queue", "Shows running and waiting jobs."),
    post("/queue", "QueueChange", A::Empty(200), "Takes waiting jobs out of the queue."),
    get("/history", "Object", "Shows ended jobs by id.")
        .query(&[("max_items", "How many."), ("offset", "From which on; -1: the last ones.")])
        .errors(&[400]),
    post("/history", "QueueChange", A::Empty(200), "Removes ended jobs."),
    get("/history/{id}", "Object", "Shows one ended job; empty when there is none."),
    get("/object_info", "Object", "Describes every node class."),
    get("/object_info/{class}", "Object", "Describes a node class; empty when there is none."),
    get("/embeddings", "Texts", "Lists embeddings without their endings."),
    get("/models", "Texts", "Lists the model folders."),
    get("/models/{folder}", "Texts", "Lists the files of a model folder.").errors(&[404]),
    get("/experiment/models", "Any", "Lists the model folders as objects."),
    get("/experiment/models/{folder}", "Any", "Lists the files of a model folder as objects.").errors(&[404]),
    row(
        "get",
        "/experiment/models/preview/{folder}/{place}/{*name}",
        A::File("image/webp"),
        "Gives the cover picture of a model file.",
    )
    .errors(&[404]),
    get("/view_metadata/{folder}", "Object", "Gives what the author of a safetensors file wrote into it.")
        .query(&[("filename", "The file.")])
        .errors(&[404]),
    row("get", "/view", A::File("image/png"), "Gives a picture, as it is or re-encoded.")
        .query(&[
            ("filename", "The file."),
            ("type", "`input`, `output` or `temp`."),
            ("subfolder", "Where in the folder."),
            ("preview", "`webp;90` or `jpeg;90`."),
            ("channel", "`rgba`, `rgb` or `a`."),
        ])
        .errors(&[400, 403, 404]),
    get("/system_stats", "Object", "Shows memory and devices."),
    get("/features", "Object", "Says what this server can do."),
    get("/extensions", "Texts", "Lists scripts that extend the page."),
    get("/users", "Object", "Says whether there are several users, and who."),
    post("/users", "Username", A::Json(200, "Any"), "Adds a user and gives the id."),
    get("/workflow_templates", "Object", "Lists templates of custom nodes: none."),
    get("/i18n", "Object", "Lists translations of custom nodes: none."),
    get("/global_subgraphs", "Object", "Lists shared subgraphs: none."),
    get("/global_subgraphs/{id}", "Any", "Gives a shared subgraph: null."),
    get("/node_replacements", "Object", "Lists replacements of old nodes: none."),
    get("/internal/logs", "Any", "Gives the last lines of the log as a text."),
    get("/internal/logs/raw", "Object", "Gives the last lines of the log."),
    Operation {
        body: Some("LogSubscription"),
        ..row(
            "patch",
            "/internal/logs/subscribe",
            A::Empty(200),
            "Follows the log over the WebSocket, or no longer.",
        )
    }
    .errors(&[400]),
    get("/internal/folder_paths", "Object", "Names the model folders; places on disk are not told."),
    get("/internal/files/{kind}", "Texts", "Lists a picture folder, newest first.").errors(&[400]),
    get("/settings", "Object", "Gives every setting of the user.").errors(&[401]),
    post("/settings", "Object", A::Empty(200), "Changes settings.").errors(&[400, 401, 413]),
    get("/settings/{id}", "Any", "Gives a setting, or null.").errors(&[401]),
    post("/settings/{id}", "Any", A::Empty(200), "Changes a setting.").errors(&[400, 401, 413]),
    get("/userdata", "Any", "Lists files of the user.")
        .query(&[
            ("dir", "The folder."),
            ("recurse", "`true`: with folders below."),
            ("split", "`true`: parts of paths."),
            FULL,
        ])
        .errors(&[400, 401, 403, 404]),
    get("/v2/userdata", "Any", "Lists files and folders of the user.")
        .query(&[("path", "The folder.")])
        .errors(&[401, 403, 404]),
    post("/upload/image", "Upload", A::Json(200, "UploadedFile"), "Stores a picture."),
    post(
        "/upload/mask",
        "Upload",
        A::Json(200, "UploadedFile"),
        "Stores a picture with the alpha of a mask.",
    )
    .errors(&[400, 403, 404, 413]),
    row("get", "/userdata/{file}", A::File("application/octet-stream"), "Gives a file of the user.")
        .errors(&[401, 403, 404]),
    post("/userdata/{file}", "Bytes", A::Json(200, "Any"), "Stores a file of the user.")
        .query(&[OVERWRITE, FULL])
        .errors(&[400, 401, 403, 409, 413]),
    row("delete", "/userdata/{file}", A::Empty(204), "Removes a file of the user.").errors(&[401, 403, 404]),
    row("post", "/userdata/{file}/move/{dest}", A::Json(200, "Any"), "Renames a file of the user.")
        .query(&[OVERWRITE, FULL])
        .errors(&[401, 403, 404, 409]),
    get("/api/jobs", "Object", "Lists jobs as later versions of ComfyUI do.")
        .query(&[
            ("status", "`pending`, `in_progress`, `completed`, `failed`, `cancelled`, joined by commas."),
            ("workflow_id", "Only of this drawn workflow."),
            ("sort_by", "`created_at` or `execution_duration`."),
            ("sort_order", "`asc` or `desc`."),
            ("limit", "How many."),
            PAGE,
        ])
        .errors(&[400]),
    post("/api/jobs/cancel", "JobIds", A::Json(200, "Object"), "Cancels several jobs."),
    get("/api/jobs/{id}", "Object", "Shows a job with its graph.").errors(&[404]),
    row("post", "/api/jobs/{id}/cancel", A::Json(200, "Object"), "Cancels a job.").errors(&[404]),
    row("get", "/api/assets", A::Json(503, "Object"), "Says that there is no asset library."),
    row("get", "/api/assets/{*rest}", A::Json(503, "Object"), "Says that there is no asset library."),
];
