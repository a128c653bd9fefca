"""Two-view geometry: pure batched functions on tensors, without randomness, state or options.

Conventions, those of kornia: ``X2 = R @ X1 + t``, ``x2ᵀ E x1 = 0``, ``E = [t]× R``; points are normalised unless their
name ends in ``_px``; pixel (0, 0) is the centre of the top-left pixel.
"""
