"""Robust estimation for a batch of problems at once, on their device: samples, scores, refinement, RANSAC.

Nothing here waits for the host, and no gradient flows through it.
"""
