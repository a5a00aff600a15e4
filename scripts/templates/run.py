"""Runs ComfyUI's templates for Stable Diffusion 1.5, 2 and XL on the stack at COMFY_URL, with tiny random models.

    run.py RANDOM_CHECKPOINT MODELS_DIR INPUT_DIR PACKAGE...

A template is run if the stack knows all its nodes and `models.KINDS` all its files. Sizes are divided by 8 and steps
limited, nothing else is changed. Each must succeed and give pictures of the right size that are not of one colour.
"""

import collections
import json
import os
import pathlib
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib

from models import KINDS, files_of
from sizes import size_of

URL = os.environ["COMFY_URL"]
# Nodes of the page, which do not reach the server.
VIRTUAL = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
LENGTHS = {"width", "height", "x", "y", "left", "top", "right", "bottom", "feathering", "grow_mask_by"}
SHRINK = 8
STEPS = 3
MEGAPIXELS = 0.01
INPUT_PICTURE = (96, 64)
OUTPUTS = ("SaveImage", "PreviewImage", "MaskPreview")
LIMIT_SECONDS = 120


def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{path}: {error.code} {error.read().decode(errors='replace')}") from None


def classes_of(workflow):
    """The classes of all nodes, those inside subgraphs too."""
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    inside = {subgraph["id"] for subgraph in subgraphs}
    nodes = [node for part in [workflow, *subgraphs] for node in part["nodes"]]
    return {node["type"] for node in nodes} - inside - VIRTUAL


def asked_for(workflow):
    """Names of model files anywhere in a workflow."""
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    nodes = [node for part in [workflow, *subgraphs] for node in part["nodes"]]
    return {model["name"] for node in nodes for model in node.get("properties", {}).get("models") or []}


def smallest(known, node, name):
    """The least value that a node takes for an input."""
    groups = known[node["class_type"]]["input"].values()
    described = next((group[name] for group in groups if name in group), [])
    return described[1].get("min", 0) if len(described) > 1 else 0


def shrink(graph, known):
    """Makes a graph cheap: smaller pictures and fewer steps."""
    for node in graph.values():
        inputs = node["inputs"]
        for name, value in inputs.items():
            if name in LENGTHS and isinstance(value, int) and value > 0:
                inputs[name] = max(8, round(value / SHRINK / 8) * 8, smallest(known, node, name))
            elif name == "megapixels":
                inputs[name] = MEGAPIXELS
        steps = inputs.get("steps")
        if isinstance(steps, int) and steps > STEPS:
            inputs["steps"] = STEPS
            for name in ("start_at_step", "end_at_step"):
                if isinstance(inputs.get(name), int) and inputs[name] <= steps:
                    inputs[name] = round(inputs[name] * STEPS / steps)
    return graph


def write_picture(path):
    """A pattern with a transparent rectangle, which loading turns into a mask."""
    width, height = INPUT_PICTURE

    def pixel(x, y):
        hole = width // 4 <= x < width * 3 // 4 and height // 4 <= y < height * 3 // 4
        return bytes([(5 * x + 3 * y) % 256, (2 * x + 7 * y) % 256, (x * x // 16 + y) % 256, 0 if hole else 255])

    rows = b"".join(b"\0" + b"".join(pixel(x, y) for x in range(width)) for y in range(height))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    framed = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))


def provide(graph, program, models, inputs):
    """Puts the files of a graph in place."""
    for file in files_of(graph):
        path = models / file
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        twin = next((models / other for other, kind in KINDS.items() if kind == KINDS[file] and (models / other).exists()), None)
        if twin:
            path.hardlink_to(twin)
        else:
            subprocess.run([program, KINDS[file], path], check=True)
    for node in graph.values():
        if node["class_type"] == "LoadImage" and not (inputs / node["inputs"]["image"]).exists():
            write_picture(inputs / node["inputs"]["image"])


def run(graph):
    """Runs a graph and returns what its history says."""
    job = json.loads(call("/v1/workflows", graph))["job_id"]
    started = time.monotonic()
    while True:
        found = json.loads(call(f"/v1/jobs/{job}"))
        if found["status"] not in ("queued", "running"):
            break
        if time.monotonic() - started > LIMIT_SECONDS:
            raise RuntimeError(f"not ended after {LIMIT_SECONDS} seconds")
        time.sleep(0.05)
    if found["status"] != "completed":
        raise RuntimeError(f"{found['status']}: {json.dumps(found.get('error'))}")
    return json.loads(call(f"/history/{job}"))[job]["outputs"]


def look_at(png, drawn):
    """The size of a picture; one that was drawn must not be of one colour."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise RuntimeError("the picture is no PNG")
    size, at, packed = struct.unpack(">II", png[16:24]), 8, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IDAT":
            packed += png[at + 8 : at + 8 + length]
        at += length + 12
    if drawn and len(set(zlib.decompress(packed))) < 32:
        raise RuntimeError("the picture is of one colour")
    return size


def comes_from_sampler(graph, node_id):
    """Whether a sampler is among what a node depends on."""
    inputs = graph[node_id]["inputs"]
    links = [value[0] for value in inputs.values() if isinstance(value, list)]
    return "latent_image" in inputs or any(comes_from_sampler(graph, link) for link in links)


def check(graph, outputs):
    """Whether every node that shows pictures gave them, in the right size. Returns the sizes."""
    sizes = []
    for node_id, node in graph.items():
        if node["class_type"] not in OUTPUTS:
            continue
        images = outputs.get(node_id, {}).get("images") or []
        if not images:
            raise RuntimeError(f"node {node_id} gave no picture")
        expected = size_of(graph, node_id, INPUT_PICTURE)
        for image in images:
            found = look_at(call("/view?" + urllib.parse.urlencode(image)), comes_from_sampler(graph, node_id))
            if found != expected:
                raise RuntimeError(f"node {node_id} gave a picture of {found}, expected {expected}")
            sizes.append("x".join(map(str, found)))
    if not sizes:
        raise RuntimeError("it shows no picture")
    return sizes


def main(program, models, inputs, *packages):
    known = json.loads(call("/object_info"))
    stand_ins = {file.split("/", 1)[1] for file in KINDS}
    ran, failed, unknown = 0, 0, collections.Counter()
    for package in packages:
        for file in sorted(pathlib.Path(package).glob("*/templates/*.json")):
            workflow = json.loads(file.read_text())
            if "nodes" not in workflow:
                continue
            missing = classes_of(workflow) - set(known)
            if missing:
                names = asked_for(workflow)
                unknown["with models of Stable Diffusion" if names and names <= stand_ins else "with others"] += 1
                if names and names <= stand_ins:
                    print(f"left out {file.stem}: unknown nodes {', '.join(sorted(missing))}", flush=True)
                continue
            started = time.monotonic()
            try:
                graph = shrink(json.loads(call("/v1/workflows/convert", workflow)), known)
                others = files_of(graph) - set(KINDS)
                if others:
                    print(f"left out {file.stem}: files of other families, {', '.join(sorted(others))}", flush=True)
                    continue
                provide(graph, program, pathlib.Path(models), pathlib.Path(inputs))
                sizes = check(graph, run(graph))
                ran += 1
                print(f"ran {file.stem}: {', '.join(sizes)} ({time.monotonic() - started:.1f}s)", flush=True)
            except (RuntimeError, LookupError) as error:
                failed += 1
                print(f"FAILED {file.stem}: {error}", flush=True)
    print(f"left out for unknown nodes: {', '.join(f'{count} {what}' for what, count in sorted(unknown.items()))}")
    print(f"{ran} templates ran, {failed} failed")
    sys.exit(1 if failed or not ran else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
