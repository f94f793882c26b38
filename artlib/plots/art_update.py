"""Figure 2 of ART: one update as boxes and arrows, read off the settings of a training."""

from artlib.plots.diagrams import Box
from artlib.trainings import Art

BLUE, GREEN = "#D6EAF8", "#7CC7A5"  # what attacks the image, what trains the network; apart in grey, too
UPDATE_KEY = {"attacks the image": BLUE, "trains the network": GREEN, "forward pass": "-", "gradient": "--"}
_STATISTICS = {"held": "batch statistics, held", "batch": "batch statistics", "running": "running statistics"}
_SEEN = {"all": "", "mean": "the channels' mean of\n", "magnitude": "the channels' size of\n"}


def art_update(art: Art) -> tuple[dict[str, Box], list[tuple[str, str, str, str]]]:
    """What `diagram` draws of one update of ART (Algorithm 1): boxes by name, and arrows, of all settings but one.

    Left out is `loss_gradient`, what the loss is differentiated by.

    There are boxes for i* of the clean image and for the values that the attack sees only where the settings have them.
    """
    clean, mining = art.negative == "clean", art.mining
    row = 1 if clean else 0  # of the attack's loop; i* of f(x) stands above it
    statistics = _STATISTICS[art.statistics]
    linear = "" if art.threshold is None else f",\nlinear above {art.threshold:g}/β"
    anchor = _SEEN[art.channels] + {"pixels": "x~", "normalized": "normalised x~"}[art.anchor]
    nearer = f"{anchor} is nearer\nto the first gradient\nthan to the second"
    negative = "the runner-up i*" if clean else "i*, the runner-up\nof these logits"
    alpha = f"{255 * art.step_size:.3g}/255"
    boxes = {
        "x": Box(0, row, "image x\nlabel y"),
        "start": Box(1, row, f"x~ = x + uniform\nin ±{255 * art.eps:.3g}/255", BLUE),
        "f": Box(2, row, f"f, ReLU as softplus,\nβ = {art.beta:g}{linear}\n{statistics}"),
        "g": Box(3, row, f"gradients in the image\nof f at y and at\n{negative}"),
        "attr": Box(4, row, f"L_attr (Eq. 5), low where\n{nearer}"),
        "step": Box(2, row + 1, f"{art.steps} times:\nx~ + {alpha} sign,\nback into the ball", BLUE),
        "ce": Box(3, row + 2, "cross-entropy of\nthe ReLU network\nat x~", GREEN),
        "loss": Box(4, row + 2, f"loss = cross-entropy\n+ {art.weight:g} L_attr (Eq. 6)", GREEN),
        "update": Box(4, row + 3, "SGD: new weights", GREEN),
    }
    arrows = [("x", "start", "-", ""), ("start", "f", "-", ""), ("f", "g", "--", ""), ("g", "attr", "-", "")]
    arrows += [("attr", "step", "--", "uphill in x~"), ("step", "f", "-", "x~"), ("step", "ce", "-", "the last x~")]
    arrows += [("attr", "loss", "-", "at x and the last x~,\nthe harder pairs" if mining else "at the last x~")]
    arrows += [("ce", "loss", "-", ""), ("loss", "update", "--", "downhill in the weights")]
    if clean:
        boxes["negative"] = Box(2, 0, f"i* = runner-up of f(x),\nReLU network,\n{statistics}")
        arrows += [("x", "negative", "-", ""), ("negative", "g", "-", "i*")]
    if art.attack_topk:
        words = f"the attack sees {art.attack_topk}\nvalues: the largest of the\nReLU network's gradient"
        boxes["values"] = Box(1, row + 1, words, BLUE)
        arrows += [("start", "values", "--", ""), ("values", "step", "-", "")]
    return boxes, arrows
