"""Times ours against PyTorch on a CPU: `cpu.py --python PYTHON --ours BINARY CHECKPOINT [--part unet] [--sizes 2x64x64]`.

The programs stay loaded and take turns, so that other work on the machine meets both alike. Prints medians, ratios,
peak memory and the largest difference between the results.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile

import numpy

HERE = os.path.dirname(os.path.abspath(__file__))

# Counted for SD1.5: multiplications and additions of one call, batch 2 at 64x64 (UNet), batch 1 at 64x64 (decoder).
FLOPS = {"unet": (1.607e12, 2 * 64 * 64), "vae": (2.515e12, 64 * 64)}


class Peer:
    def __init__(self, name, command, threads):
        self.name = name
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.loaded = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}")
        return json.loads(line)

    def run(self, size, file=""):
        self.process.stdin.write(f"{size[0]} {size[1]} {size[2]} {file}\n")
        self.process.stdin.flush()
        return self.answer()


def compare(a, b):
    a, b = (numpy.fromfile(file, numpy.float32).astype(numpy.float64) for file in (a, b))
    return numpy.abs(a - b).max(), numpy.abs(b).max(), a @ b / numpy.sqrt((a @ a) * (b @ b))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--python", required=True, help="a Python with torch and diffusers")
    parser.add_argument("--ours", required=True, help="the example `speed_peer`, built for release")
    parser.add_argument("--part", choices=["unet", "vae"], default="unet")
    parser.add_argument("--sizes", nargs="+", default=["2x64x64"], help="batch x height x width, in latent cells")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    arguments = [options.checkpoint, options.part, str(options.threads)]
    ours = Peer("ours", [options.ours, *arguments], options.threads)
    torch = Peer("torch", [options.python, os.path.join(HERE, "torch_peer.py"), *arguments], options.threads)
    print(f"{options.part}, {options.threads} threads, {options.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    print("| batch x latent | ours s | torch s | ratio of medians | of pairs | processor s | ratio | ours GFLOP/s | largest difference | cosine |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for text in options.sizes:
        size = [int(number) for number in text.split("x")]
        with tempfile.TemporaryDirectory() as folder:
            files = [os.path.join(folder, peer.name) for peer in (ours, torch)]
            for peer, file in zip((ours, torch), files):
                peer.run(size, file)
            difference, largest, cosine = compare(*files)
        answers = [[peer.run(size) for peer in (ours, torch)] for _ in range(options.rounds)]
        times = [[answer["seconds"] for answer in pair] for pair in answers]
        a, b = (statistics.median(column) for column in zip(*times))
        cpu = [statistics.median(column) for column in zip(*([answer["cpu"] for answer in pair] for pair in answers))]
        pairs = sorted(theirs / mine for mine, theirs in times)
        flops, cells = FLOPS[options.part]
        rate = flops * size[0] * size[1] * size[2] / cells / a / 1e9
        print(f"| {text} | {a:.3f} | {b:.3f} | {b / a:.2f} | {pairs[0]:.2f}..{pairs[-1]:.2f}"
              f" | {cpu[0]:.2f}, {cpu[1]:.2f} | {cpu[1] / cpu[0]:.2f} | {rate:.0f}"
              f" | {difference:.1e} of {largest:.2f} | {cosine:.9f} |", flush=True)
    for peer in (ours, torch):
        peak = peer.run([1, 8, 8])["peak"]
        print(f"{peer.name}: {peer.loaded['peak'] / 2**30:.2f} GiB at the end of loading, {peak / 2**30:.2f} GiB at most")
    for peer in (ours, torch):
        peer.process.stdin.close()
        peer.process.wait()


main()
