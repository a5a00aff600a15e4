"""How large a node's picture must become, found by following the graph back to where its size comes from."""

import math

# Nodes whose result is as large as what comes in by this input.
THROUGH = {
    "KSampler": "latent_image",
    "KSamplerAdvanced": "latent_image",
    "SamplerCustom": "latent_image",
    "VAEDecode": "samples",
    "Canny": "image",
    "FeatherMask": "mask",
    "ImageCompare": "image_a",
    "ImageCompositeMasked": "destination",
    "ImageToMask": "image",
    "InvertMask": "mask",
    "MaskComposite": "destination",
    "MaskPreview": "mask",
    "MaskToImage": "mask",
    "PreviewImage": "images",
    "SaveImage": "images",
    "ThresholdMask": "mask",
}
# Nodes whose result is as large as their widgets say.
STATED = ("EmptyImage", "ImageScale", "SolidMask")
CELL = 8
UPSCALER = 4


def cells(pixels):
    """Pixels that a latent of the picture has: whole cells only."""
    return pixels // CELL * CELL


def size_of(graph, node_id, input_picture):
    """Width and height in pixels; latents are counted in the pixels that they become."""
    node = graph[node_id]
    kind, inputs = node["class_type"], node["inputs"]

    def of(name):
        return size_of(graph, inputs[name][0], input_picture)

    if kind in THROUGH:
        return of(THROUGH[kind])
    if kind in STATED:
        return inputs["width"], inputs["height"]
    if kind in ("EmptyLatentImage", "LatentUpscale"):
        return cells(inputs["width"]), cells(inputs["height"])
    if kind == "LoadImage":
        return input_picture
    if kind == "LatentUpscaleBy":
        return tuple(round(side // CELL * inputs["scale_by"]) * CELL for side in of("samples"))
    if kind == "ImageScaleBy":
        return tuple(round(side * inputs["scale_by"]) for side in of("image"))
    if kind == "ImageScaleToTotalPixels":
        width, height = of("image")
        factor = math.sqrt(inputs["megapixels"] * 1024 * 1024 / (width * height))
        return round(width * factor), round(height * factor)
    if kind == "ResizeImageMaskNode" and inputs["resize_type"] == "scale dimensions":
        return inputs["resize_type.width"], inputs["resize_type.height"]
    if kind == "ImageUpscaleWithModel":
        return tuple(side * UPSCALER for side in of("image"))
    if kind == "ImagePadForOutpaint":
        width, height = of("image")
        return width + inputs["left"] + inputs["right"], height + inputs["top"] + inputs["bottom"]
    if kind in ("VAEEncode", "VAEEncodeForInpaint"):
        return tuple(cells(side) for side in of("pixels"))
    raise LookupError(f"it is not known how large a picture `{kind}` makes; say so in {__file__}")
