"""Any PyTorch classifier audited: how accurate it is under attack, and how far an attack moves its explanations.

import torchvision
from artlib import audit

net = torchvision.models.squeezenet1_1(weights="DEFAULT")
found = audit.audit(net, "photographs", mean=audit.IMAGENET[0], std=audit.IMAGENET[1], size=224)
found.save("audit-of-squeezenet")  # report.html and report.json

Attention has second derivatives inside `classifier`, so that attacks.ifia(audit.classifier(vit), x, y, ...) works, too;
another way is to run the attack inside torch.nn.attention.sdpa_kernel(SDPBackend.MATH).
"""

from artlib.audit.door import IMAGENET, Classifier, classifier
from artlib.audit.images import image_set
from artlib.audit.questions import Questions, Targeted, attacks
from artlib.audit.report import SCHEMA, Audit, beside
from artlib.audit.run import audit, estimate

__all__ = [
    "IMAGENET",
    "SCHEMA",
    "Audit",
    "Classifier",
    "Questions",
    "Targeted",
    "attacks",
    "audit",
    "beside",
    "classifier",
    "estimate",
    "image_set",
]
