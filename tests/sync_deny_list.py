"""Operations that make the host wait for the device, denied by name.

On ``device="meta"`` reading a value raises by itself; what passes there and would still wait on a GPU is denied here:
factorisations that check their result, dynamic shapes, boolean indices, constants uploaded from Python lists.
Operations on CPU tensors alone are nobody's business (Adam's step counter is one).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = ("item", "_local_scalar_dense", "is_nonzero", "equal")
DATA_DEPENDENT_SHAPES = (
    *("nonzero", "nonzero_numpy", "masked_select", "unique_dim", "unique_consecutive", "_unique", "_unique2"),
    *("multinomial", "bincount", "repeat_interleave"),
)
FACTORISATIONS = (
    *("_linalg_check_errors", "_linalg_svd", "_linalg_eigh", "_linalg_eigvals", "linalg_svd", "linalg_svdvals"),
    *("linalg_eig", "linalg_eigh", "linalg_eigvals", "linalg_eigvalsh", "linalg_pinv", "linalg_lstsq"),
    *("linalg_cholesky", "linalg_solve", "linalg_inv", "linalg_matrix_rank", "linalg_qr", "cholesky", "svd"),
)
DENIED = frozenset((*READS, *DATA_DEPENDENT_SHAPES, *FACTORISATIONS))
INDEXING = frozenset(("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"))


class HostVisitError(RuntimeError):
    """The code under test would make the host wait for the device."""


def _tensors(arguments) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]


class SyncDenyList(TorchDispatchMode):
    """Raises ``HostVisitError`` at an operation of the list that touches a tensor off the CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        on_device = [tensor for tensor in tensors if tensor.device.type != "cpu"]
        if on_device:
            name = func.overloadpacket.__name__
            if name in DENIED:
                raise HostVisitError(f"{func} waits for the host")
            if name in INDEXING and any(index.dtype in (torch.bool, torch.uint8) for index in _tensors(args[1])):
                raise HostVisitError(f"{func} with a boolean index has a data-dependent shape")
        self._deny_copies_between_devices(func, tensors, kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def _deny_copies_between_devices(func, tensors, kwargs) -> None:
        name = func.overloadpacket.__name__
        if name == "_to_copy" and kwargs.get("device") is not None:
            source, target = tensors[0].device.type, torch.device(kwargs["device"]).type
        elif name == "copy_" and len(tensors) == 2:
            source, target = tensors[1].device.type, tensors[0].device.type
        else:
            return
        if source != target and tensors[-1].ndim > 0:
            raise HostVisitError(f"{func} copies from {source} to {target}")


@contextmanager
def no_constants_from_lists() -> Iterator[None]:
    """``torch.tensor``, ``as_tensor`` and ``new_tensor`` raise when they would upload Python numbers to a device."""
    originals = [(torch, "tensor"), (torch, "as_tensor"), (torch.Tensor, "new_tensor")]
    originals = [(owner, name, getattr(owner, name)) for owner, name in originals]

    def guarded(name, original):
        def constant(*args, **kwargs):
            data = args[1] if name == "new_tensor" else args[0] if args else kwargs["data"]
            device = args[0].device if name == "new_tensor" else kwargs.get("device")
            if device is not None and torch.device(device).type != "cpu" and not isinstance(data, torch.Tensor):
                raise HostVisitError(f"{name} uploads a host constant to {device}")
            return original(*args, **kwargs)

        return constant

    for owner, name, original in originals:
        setattr(owner, name, guarded(name, original))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


@contextmanager
def no_host_visits() -> Iterator[None]:
    """Everything inside must stay on the device."""
    with no_constants_from_lists(), SyncDenyList():
        yield
