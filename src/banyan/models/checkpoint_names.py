"""One name for a tensor of a vision-language model, however its checkpoint was laid out.

Pure. Used by `banyan.models.loading` for the decoder and by `banyan.models.vision` for the tower.

Released Qwen2-VL checkpoints keep `visual.` beside the decoder's `model.`; LLaVA ones keep a whole
decoder under `language_model.` and the tower under `vision_tower.vision_model.`. Those saved since
put everything under `model.`, the decoder under `model.language_model.`.
"""

_PARTS = ("visual.", "vision_tower.", "multi_modal_projector.", "language_model.")

_MOVED = (
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("language_model.", "model."),
    ("vision_tower.vision_model.", "vision_tower."),
)


def plain_name(name: str) -> str:
    """Give the name here of a stored tensor.

    The decoder's are those of a model that only writes: `model.layers...`, `lm_head.weight`. The
    tower's begin with `visual.`, or with `vision_tower.` and `multi_modal_projector.`.
    """
    inner = name.removeprefix("model.")
    if inner.startswith(_PARTS):
        name = inner
    for stored, plain in _MOVED:
        if name.startswith(stored):
            return plain + name.removeprefix(stored)
    return name
