"""Runs the SD1.5 networks in PyTorch (diffusers modules, scaled-dot-product attention, f32) for benches/cpu.py.

Started as `torch_peer.py CHECKPOINT PART THREADS`; PART is `unet` or `vae`. Then answers each line on stdin,
`BATCH HEIGHT WIDTH [FILE]` in latent cells, with one line of JSON. FILE gets the result as raw f32.
"""

import json
import sys
import time

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as names

from inputs import wave


def load(path, part):
    prefix = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}[part]
    # Read and not mapped: pages of a mapped file would count as memory of this process.
    state = {}
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for key, entry in header.items():
            if key.startswith(prefix):
                begin, end = entry["data_offsets"]
                file.seek(8 + length + begin)
                dtype = {"F16": torch.float16, "F32": torch.float32}[entry["dtype"]]
                values = torch.frombuffer(bytearray(file.read(end - begin)), dtype=dtype)
                state[key] = values.reshape(entry["shape"]).float()
    with torch.device("meta"):
        if part == "unet":
            model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
            state = names.convert_ldm_unet_checkpoint(state, dict(model.config))
        else:
            levels = (128, 256, 512, 512)
            down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
            model = AutoencoderKL(
                down_block_types=down, up_block_types=up, block_out_channels=levels, layers_per_block=2,
            )
            state = names.convert_ldm_vae_checkpoint(state, dict(model.config))
    model.load_state_dict(state, assign=True)
    return model.eval()


def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def profile(function):
    from torch.profiler import ProfilerActivity, profile as profiler

    with profiler(activities=[ProfilerActivity.CPU]) as run:
        function()
    print(run.key_averages().table(sort_by="self_cpu_time_total", row_limit=16), file=sys.stderr)


@torch.inference_mode()
def main():
    path, part, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    model = load(path, part)
    print(json.dumps({"loaded": True, "peak": peak()}), flush=True)
    for line in sys.stdin:
        batch, height, width, *rest = line.split()
        batch, height, width = int(batch), int(height), int(width)
        x = torch.from_numpy(wave((batch, 4, height, width), 0.1))
        context = torch.from_numpy(wave((batch, 77, 768), 0.7))

        def run():
            if part == "vae":
                return model.decode(x).sample
            return model(x, torch.full((batch,), 500), context).sample

        started, cpu = time.perf_counter(), time.process_time()
        y = run()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        if rest == ["profile"]:
            profile(run)
        elif rest:
            y.contiguous().numpy().tofile(rest[0])
        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak()}), flush=True)


main()
