"""Synthetic training pairs: shapes, label maps, random contrasts, artefacts and known deformations, in 2D and 3D.

Every random number comes from a ``torch.Generator`` of the CPU that the caller gives, so a seed fixes the result and a
GPU makes the same pairs as a CPU. Tensors are (B, C, *shape), displacements as in :mod:`regnet.spatial`.
"""
