"""Data sets as two tensors: `load` one by name, iterate over it with `batches`, augment with `Augment`."""

from artlib.data.augment import Augment
from artlib.data.images import ImageSet, batches, mean_std, send
from artlib.data.loading import load
from artlib.data.sets import AUGMENT, SETS, SetInfo

__all__ = ["AUGMENT", "SETS", "Augment", "ImageSet", "SetInfo", "batches", "load", "mean_std", "send"]
