"""CLIP's byte-pair tokenizer, just enough for lower-case captions in ASCII."""

import functools
import re
from pathlib import Path

MERGES = Path(__file__).parents[2] / "crates/diffusion/assets/clip_merges.txt"
START, END, LENGTH = 49406, 49407, 77


@functools.cache
def _tables():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    names = letters + [letter + "</w>" for letter in letters]
    pairs = [tuple(line.split(" ")) for line in MERGES.read_text(encoding="utf-8").splitlines()]
    names += [left + right for left, right in pairs]
    return {name: i for i, name in enumerate(names)}, {pair: rank for rank, pair in enumerate(pairs)}


@functools.cache
def _word(word):
    ids, ranks = _tables()
    parts = [*word[:-1], word[-1] + "</w>"]
    while len(parts) > 1:
        best = min(zip(parts, parts[1:]), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        i, merged = 0, []
        while i < len(parts):
            if tuple(parts[i:i + 2]) == best:
                merged.append(parts[i] + parts[i + 1])
                i += 2
            else:
                merged.append(parts[i])
                i += 1
        parts = merged
    return [ids[part] for part in parts]


def encode(text):
    """Start, tokens and end tokens up to 77 ids, as Stable Diffusion 1.x pads them."""
    words = re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower())
    ids = [START, *(i for word in words for i in _word(word))][:LENGTH - 1]
    return ids + [END] * (LENGTH - len(ids))
