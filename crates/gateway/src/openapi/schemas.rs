//! The shapes that operations name.

use serde_json::{Value, json};

/// Every named shape.
pub(super) fn all() -> Value {
    let text = || json!({"type": "string"});
    let count = || json!({"type": "integer", "minimum": 0});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let object = |properties: Value, required: &[&str]| json!({"type": "object", "properties": properties, "required": required});
    let statuses = ["queued", "running", "completed", "failed", "cancelled"];
    json!({
        "Any": {},
        "Object": {"type": "object"},
        "Texts": texts(),
        "Bytes": {"type": "string", "format": "binary"},
        "Upload": object(json!({
            "image": {"type": "string", "format": "binary"}, "overwrite": text(), "type": text(), "subfolder": text(),
            "original_ref": text(),
        }), &["image"]),
        "UploadedFile": object(json!({"name": text(), "subfolder": text(), "type": text()}), &["name", "subfolder", "type"]),
        "Error": object(json!({
            "error": object(json!({"code": text(), "message": text(), "details": text()}), &["code", "message", "details"]),
            "node_errors": {"type": "object"},
        }), &["error"]),
        "ComfyError": object(json!({
            "error": object(
                json!({"type": text(), "message": text(), "details": text(), "extra_info": {"type": "object"}}),
                &["type", "message", "details", "extra_info"],
            ),
            "node_errors": {"type": "object"},
        }), &["error", "node_errors"]),
        "JobsError": {"type": "object", "properties": {"error": {}}, "required": ["error"]},
        "Workflow": {"type": "object", "description": "A graph in API format, a drawn workflow, or an object with \
            `prompt` or `workflow`, and `client_id` and `extra_data`."},
        "Submitted": object(json!({
            "job_id": text(), "status": {"const": "queued"}, "number": {"type": "number"},
            "node_errors": {"type": "object"},
        }), &["job_id", "status", "number", "node_errors"]),
        "Picture": object(json!({
            "node_id": text(), "filename": text(), "subfolder": text(), "type": text(), "url": text(),
        }), &["node_id", "filename", "subfolder", "type", "url"]),
        "Job": object(json!({
            "id": text(), "status": {"enum": statuses}, "number": {"type": "number"}, "ordinal": count(),
            "created_at_ms": count(), "started_at_ms": count(), "finished_at_ms": count(),
            "nodes_total": count(), "nodes_done": count(), "current_node": text(),
            "progress": object(json!({"node_id": text(), "value": count(), "max": count()}), &["node_id", "value", "max"]),
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Picture"}},
            "texts": {"type": "array", "items": object(json!({"node_id": text(), "text": texts()}), &["node_id", "text"])},
            "memory": object(json!({
                "peak_bytes": count(),
                "stages": {"type": "array", "items": object(json!({"stage": text(), "peak_bytes": count()}), &["stage", "peak_bytes"])},
                "nodes": {"type": "array", "items": object(
                    json!({"node_id": text(), "stage": text(), "peak_bytes": count()}),
                    &["node_id", "stage", "peak_bytes"],
                )},
            }), &["peak_bytes", "stages", "nodes"]),
            "error": object(json!({
                "code": text(), "message": text(), "node_id": text(), "class_type": text(),
            }), &["code", "message"]),
        }), &["id", "status", "number", "created_at_ms", "nodes_total", "nodes_done", "outputs"]),
        "JobList": object(json!({
            "jobs": {"type": "array", "items": {"$ref": "#/components/schemas/Job"}}, "total": count(),
        }), &["jobs", "total"]),
        "JobMove": object(json!({
            "before": {"type": ["string", "null"], "description": "A job that waits; null: to the end of the queue."},
        }), &["before"]),
        "NodeList": object(json!({"nodes": {"type": "array", "items": {"type": "object"}}}), &["nodes"]),
        "CheckpointList": object(json!({
            "checkpoints": {"type": "array", "items": object(json!({
                "name": text(), "bytes": count(), "family": text(), "usable": {"type": "boolean"},
                "default": {"type": "boolean"}, "reason": text(), "note": text(), "cover": text(),
            }), &["name", "bytes", "family", "usable", "default"])},
            "note": text(),
        }), &["checkpoints"]),
        "System": object(json!({
            "version": text(),
            "services": {"type": "array", "items": object(json!({
                "name": text(), "status": text(), "address": text(), "detail": text(),
            }), &["name", "status", "address"])},
            "queue": object(json!({"running": count(), "pending": count()}), &["running", "pending"]),
        }), &["version", "services", "queue"]),
        "Status": object(json!({"status": text()}), &["status"]),
        "Prompt": object(json!({
            "prompt": {"type": "object"}, "client_id": text(), "prompt_id": text(), "extra_data": {"type": "object"},
            "number": {"type": "number"}, "front": {"type": "boolean"}, "partial_execution_targets": texts(),
        }), &["prompt"]),
        "PromptAccepted": object(json!({
            "prompt_id": text(), "number": {"type": "number"}, "node_errors": {"type": "object"},
        }), &["prompt_id", "number", "node_errors"]),
        "QueueLength": object(json!({
            "exec_info": object(json!({"queue_remaining": count()}), &["queue_remaining"]),
        }), &["exec_info"]),
        "QueueItem": {"type": "array", "description": "Number, id, graph, extra data, output nodes."},
        "Queue": object(json!({
            "queue_running": {"type": "array", "items": {"$ref": "#/components/schemas/QueueItem"}},
            "queue_pending": {"type": "array", "items": {"$ref": "#/components/schemas/QueueItem"}},
        }), &["queue_running", "queue_pending"]),
        "QueueChange": object(json!({"clear": {"type": "boolean"}, "delete": texts()}), &[]),
        "PromptId": object(json!({"prompt_id": text()}), &[]),
        "Free": object(json!({
            "unload_models": {"type": "boolean"}, "free_memory": {"type": "boolean"},
        }), &[]),
        "LogSubscription": object(json!({
            "clientId": text(), "enabled": {"type": "boolean"},
        }), &["clientId", "enabled"]),
        "Username": object(json!({"username": text()}), &["username"]),
        "JobIds": object(json!({"job_ids": texts()}), &["job_ids"]),
    })
}
