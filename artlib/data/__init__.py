"""Data sets as two tensors: `load` one by name, iterate over it with `batches`, augment with `Augment`."""

from artlib.data.images import AUGMENT, SETS, Augment, ImageSet, SetInfo, batches, load, mean_std, send

__all__ = ["AUGMENT", "SETS", "Augment", "ImageSet", "SetInfo", "batches", "load", "mean_std", "send"]
