"""Public Python clients of ComfyUI, unmodified, against the stack at COMFY_URL.

Each queues the workflow with a seed of its own, follows the run, and downloads the picture.
"""

import json
import os
import pathlib
import random
import unittest
import urllib.parse
import urllib.request
import uuid

import websocket
from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper
from comfy_toolkit import ComfyClient

URL = os.environ["COMFY_URL"]
HOST = URL.removeprefix("http://")
FILE = pathlib.Path(__file__).with_name("workflow.json")


def seed():
    """A seed that no earlier run used, so that the sampler has something to do."""
    return random.randrange(2**50)


def workflow():
    graph = json.loads(FILE.read_text())
    graph["5"]["inputs"]["seed"] = seed()
    return graph


class Clients(unittest.TestCase):
    def check_picture(self, png):
        self.assertEqual(png[:8], b"\x89PNG\r\n\x1a\n")
        size = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
        self.assertEqual(size, (64, 64))

    def test_comfy_api_simplified(self):
        api = ComfyApiWrapper(URL)
        graph = ComfyWorkflowWrapper(str(FILE))
        graph.set_node_param("Sampler", "seed", seed())
        client = str(uuid.uuid4())
        prompt = api.queue_prompt(graph, client)["prompt_id"]
        follow(client, prompt)
        images = api.get_history(prompt)[prompt]["outputs"][graph.get_node_id("Save")]["images"]
        self.assertEqual(len(images), 1)
        self.check_picture(api.get_image(images[0]["filename"], images[0]["subfolder"], images[0]["type"]))
        self.assertIn("devices", api.get_system_stats())
        self.assertIn("KSampler", api.get_object_info("KSampler"))

    def test_comfy_api_simplified_waits_by_itself(self):
        graph = ComfyWorkflowWrapper(str(FILE))
        graph.set_node_param("Sampler", "seed", seed())
        # This client takes previews, where it gets some, for the pictures.
        pictures = ComfyApiWrapper(URL).queue_and_wait_images(graph, "Save")
        self.assertGreater(len(pictures), 0)

    def test_comfy_toolkit(self):
        client = ComfyClient(URL)
        self.assertTrue(client.is_online())
        prompt = client.submit(workflow())
        images = client.wait_for_images(prompt, max_wait=120)
        self.check_picture(client.download(images[0]))

    def test_comfy_toolkit_follows_the_socket(self):
        result = ComfyClient(URL).submit_and_track(workflow())
        self.assertEqual(result["status"], "completed")
        self.check_picture(ComfyClient(URL).download(result["images"][0]))

    def test_documented_flow(self):
        """Connect, queue, wait for `executing` without a node, read the history, view the files."""
        client = str(uuid.uuid4())
        socket = websocket.create_connection(f"ws://{HOST}/ws?clientId={client}", timeout=120)
        body = json.dumps({"prompt": workflow(), "client_id": client}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{URL}/prompt", data=body)) as reply:
            prompt = json.load(reply)["prompt_id"]
        nodes = read_until_done(socket, prompt)
        # What an earlier test computed is reused; the new seed makes these run.
        self.assertEqual(nodes[-3:], ["5", "6", "7"])
        with urllib.request.urlopen(f"{URL}/history/{prompt}") as reply:
            outputs = json.load(reply)[prompt]["outputs"]
        for image in outputs["7"]["images"]:
            with urllib.request.urlopen(f"{URL}/view?{urllib.parse.urlencode(image)}") as reply:
                self.check_picture(reply.read())


def follow(client, prompt):
    """Waits on a socket opened after queueing, as clients do that queue first."""
    socket = websocket.create_connection(f"ws://{HOST}/ws?clientId={client}", timeout=120)
    with urllib.request.urlopen(f"{URL}/history/{prompt}") as reply:
        if json.load(reply):
            return
    read_until_done(socket, prompt)


def read_until_done(socket, prompt):
    """The nodes that were said to run, in order."""
    nodes = []
    while True:
        frame = socket.recv()
        if isinstance(frame, bytes):
            continue
        message = json.loads(frame)
        if message["type"] == "executing" and message["data"].get("prompt_id") == prompt:
            if message["data"]["node"] is None:
                socket.close()
                return nodes
            nodes.append(message["data"]["node"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
