"""Any PyTorch classifier audited: how accurate it is under attack, and how far an attack moves its explanations.

import torchvision
from artlib import audit

net = torchvision.models.squeezenet1_1(weights="DEFAULT")
found = audit.audit(net, "photographs", mean=audit.IMAGENET[0], std=audit.IMAGENET[1], size=224)
found.save("audit-of-squeezenet")  # report.html and report.json
"""

from artlib.audit.door import IMAGENET, classifier, image_set
from artlib.audit.report import SCHEMA, Audit, beside
from artlib.audit.run import Questions, audit, estimate

__all__ = [
    "IMAGENET",
    "SCHEMA",
    "Audit",
    "Questions",
    "audit",
    "beside",
    "classifier",
    "estimate",
    "image_set",
]
