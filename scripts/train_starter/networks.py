"""UNet, text encoder and autoencoder of Stable Diffusion 1.x in PyTorch, with its key names and narrower widths.

Written from the published layout: a module's attribute path is the tensor's name in the checkpoint.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

WIDTHS = (64, 64, 128, 128)
CONTEXT = 64
HEADS = 8


def group_norm(channels, eps=1e-5):
    return nn.GroupNorm(32, channels, eps=eps)


def zero(layer):
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def conv(a, b, size=3, stride=1):
    return nn.Conv2d(a, b, size, stride, padding=size // 2)


class ResBlock(nn.Module):
    def __init__(self, a, b, emb):
        super().__init__()
        self.in_layers = nn.Sequential(group_norm(a), nn.SiLU(), conv(a, b))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, b))
        self.out_layers = nn.Sequential(group_norm(b), nn.SiLU(), nn.Dropout(0.0), zero(conv(b, b)))
        self.skip_connection = conv(a, b, 1) if a != b else nn.Identity()

    def forward(self, x, emb):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


def attend(q, k, v):
    """Plain attention: on a CPU and with heads this narrow, faster than the fused operator and its backward pass."""
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v


class Attention(nn.Module):
    def __init__(self, width, context):
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x, context):
        split = lambda t: t.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        out = attend(split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context)))
        return self.to_out(out.transpose(1, 2).flatten(2))


class Geglu(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, -1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(Geglu(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x):
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn1, self.attn2 = Attention(width, width), Attention(width, CONTEXT)
        self.ff = FeedForward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x, context):
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = group_norm(width, 1e-6)
        self.proj_in = conv(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width)])
        self.proj_out = zero(conv(width, width, 1))

    def forward(self, x, context):
        h = self.proj_in(self.norm(x))
        tokens = self.transformer_blocks[0](h.flatten(2).transpose(1, 2), context)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.op = conv(width, width, stride=2)

    def forward(self, x):
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = conv(width, width)

    def forward(self, x, size=None):
        return self.conv(F.interpolate(x, size=size or [2 * side for side in x.shape[2:]], mode="nearest"))


class UNet(nn.Module):
    """Predicts the noise in (N, 4, h, w) at integer timesteps (N) under text (N, 77, CONTEXT)."""

    def __init__(self):
        super().__init__()
        emb = 4 * WIDTHS[0]
        self.time_embed = nn.Sequential(nn.Linear(WIDTHS[0], emb), nn.SiLU(), nn.Linear(emb, emb))
        last = len(WIDTHS) - 1
        width = WIDTHS[0]
        self.input_blocks = nn.ModuleList([nn.ModuleList([conv(4, width)])])
        skips = [width]
        for level, wide in enumerate(WIDTHS):
            for _ in range(2):
                parts = [ResBlock(width, wide, emb)] + ([SpatialTransformer(wide)] if level < last else [])
                self.input_blocks.append(nn.ModuleList(parts))
                width = wide
                skips.append(width)
            if level < last:
                self.input_blocks.append(nn.ModuleList([Downsample(width)]))
                skips.append(width)
        self.middle_block = nn.ModuleList([ResBlock(width, width, emb), SpatialTransformer(width), ResBlock(width, width, emb)])
        self.output_blocks = nn.ModuleList()
        for level, wide in reversed(list(enumerate(WIDTHS))):
            for i in range(3):
                parts = [ResBlock(width + skips.pop(), wide, emb)] + ([SpatialTransformer(wide)] if level < last else [])
                width = wide
                if level > 0 and i == 2:
                    parts.append(Upsample(width))
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.Sequential(group_norm(width), nn.SiLU(), zero(conv(width, 4)))

    @staticmethod
    def _run(parts, x, emb, context, size=None):
        for part in parts:
            if isinstance(part, ResBlock):
                x = part(x, emb)
            elif isinstance(part, SpatialTransformer):
                x = part(x, context)
            elif isinstance(part, Upsample):
                x = part(x, size)
            else:
                x = part(x)
        return x

    def forward(self, x, timesteps, context):
        half = WIDTHS[0] // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angles = timesteps[:, None].float() * rates
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], -1))
        skips = []
        for parts in self.input_blocks:
            x = self._run(parts, x, emb, context)
            skips.append(x)
        x = self._run(self.middle_block, x, emb, context)
        for parts in self.output_blocks:
            x = torch.cat([x, skips.pop()], 1)
            # An odd side is rounded up on the way down, so the way up goes by the size of what comes next.
            x = self._run(parts, x, emb, context, skips[-1].shape[2:] if skips else None)
        return self.out(x)


class ClipLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.self_attn = nn.ModuleDict({f"{n}_proj": nn.Linear(width, width) for n in ("k", "v", "q", "out")})
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x):
        h = self.layer_norm1(x)
        q, k, v = (self.self_attn[f"{n}_proj"](h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for n in "qkv")
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.self_attn["out_proj"](h)
        h = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](h * torch.sigmoid(1.702 * h))


class TextEncoder(nn.Module):
    """CLIP's text transformer: token ids (N, 77) to (N, 77, CONTEXT)."""

    def __init__(self, layers=2):
        super().__init__()
        self.embeddings = nn.ModuleDict({
            "token_embedding": nn.Embedding(49408, CONTEXT), "position_embedding": nn.Embedding(77, CONTEXT)})
        nn.init.normal_(self.embeddings["token_embedding"].weight, std=0.3)
        nn.init.normal_(self.embeddings["position_embedding"].weight, std=0.1)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(ClipLayer(CONTEXT, 4) for _ in range(layers))})
        self.final_layer_norm = nn.LayerNorm(CONTEXT)

    def forward(self, ids):
        x = self.embeddings["token_embedding"](ids) + self.embeddings["position_embedding"].weight
        for layer in self.encoder["layers"]:
            x = layer(x)
        return self.final_layer_norm(x)


class VaeBlock(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.norm1, self.conv1 = group_norm(a, 1e-6), conv(a, b)
        self.norm2, self.conv2 = group_norm(b, 1e-6), conv(b, b)
        if a != b:
            self.nin_shortcut = conv(a, b, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class VaeAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = group_norm(width, 1e-6)
        self.q, self.k, self.v, self.proj_out = (conv(width, width, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (f(h).flatten(2).transpose(1, 2)[:, None] for f in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.proj_out(out)


def _middle(width):
    return nn.ModuleDict({"block_1": VaeBlock(width, width), "attn_1": VaeAttention(width), "block_2": VaeBlock(width, width)})


def _run_middle(mid, x):
    return mid["block_2"](mid["attn_1"](mid["block_1"](x)))


class Decoder(nn.Module):
    """(N, 4, h, w) to pictures (N, 3, 8h, 8w) in -1..1."""

    def __init__(self):
        super().__init__()
        width = WIDTHS[-1]
        self.conv_in, self.mid = conv(4, width), _middle(width)
        levels = []
        for level, wide in reversed(list(enumerate(WIDTHS))):
            blocks = nn.ModuleList(VaeBlock(width if i == 0 else wide, wide) for i in range(3))
            parts = {"block": blocks}
            if level > 0:
                parts["upsample"] = Upsample(wide)
            levels.insert(0, nn.ModuleDict(parts))
            width = wide
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = group_norm(width, 1e-6), conv(width, 3)

    def forward(self, z):
        x = _run_middle(self.mid, self.conv_in(z))
        for level in reversed(self.up):
            for block in level["block"]:
                x = block(x)
            if "upsample" in level:
                x = level["upsample"](x)
        return self.conv_out(F.silu(self.norm_out(x)))


class VaeDownsample(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Encoder(nn.Module):
    """Pictures (N, 3, 8h, 8w) to mean and log-variance (N, 8, h, w)."""

    def __init__(self):
        super().__init__()
        width = WIDTHS[0]
        self.conv_in = conv(3, width)
        self.down = nn.ModuleList()
        for level, wide in enumerate(WIDTHS):
            parts = {"block": nn.ModuleList(VaeBlock(width if i == 0 else wide, wide) for i in range(2))}
            if level < len(WIDTHS) - 1:
                parts["downsample"] = VaeDownsample(wide)
            self.down.append(nn.ModuleDict(parts))
            width = wide
        self.mid = _middle(width)
        self.norm_out, self.conv_out = group_norm(width, 1e-6), conv(width, 8)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down:
            for block in level["block"]:
                x = block(x)
            if "downsample" in level:
                x = level["downsample"](x)
        return self.conv_out(F.silu(self.norm_out(_run_middle(self.mid, x))))


class Latent2Picture(nn.Module):
    """The decoder with the 1x1 convolution before it, under the names they have below `first_stage_model.`."""

    def __init__(self):
        super().__init__()
        self.post_quant_conv, self.decoder = conv(4, 4, 1), Decoder()

    def forward(self, z):
        return self.decoder(self.post_quant_conv(z))


class Picture2Latent(nn.Module):
    """The encoder with the 1x1 convolution after it."""

    def __init__(self):
        super().__init__()
        self.encoder, self.quant_conv = Encoder(), conv(8, 8, 1)

    def forward(self, pictures):
        return self.quant_conv(self.encoder(pictures))


class Denoiser(nn.Module):
    """UNet and text encoder, which train together."""

    def __init__(self):
        super().__init__()
        self.text, self.unet = TextEncoder(), UNet()

    def forward(self, noisy, timesteps, ids):
        return self.unet(noisy, timesteps, self.text(ids))


def alphas_cumprod():
    """Stable Diffusion's noise schedule: 1000 steps, square roots of the betas linear from 0.00085 to 0.012."""
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()
