import pytest
import torch

from rfp.cli.device import choose_device
from rfp.records import InputError


def test_auto_is_the_cpu_without_cuda_and_says_why(capsys, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    assert capsys.readouterr().err == "device: cpu (auto: torch sees no CUDA device)\n"


def test_auto_is_the_cpu_where_cuda_is_there_but_not_usable(capsys, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("the driver is too old\nsecond line")

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", refuse)
    assert choose_device("auto") == torch.device("cpu")
    assert "cuda is not usable: the driver is too old)" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_is_cuda_where_it_is_usable(capsys):
    assert choose_device("auto") == torch.device("cuda")
    assert "is usable" in capsys.readouterr().err


def test_the_cpu_can_be_asked_for():
    assert choose_device("cpu") == torch.device("cpu")


def test_a_device_that_is_asked_for_and_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:3", "mps"):
        with pytest.raises(InputError, match=f"--device {name}: .*; pass --device cpu"):
            choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "meta", "xla", "cuda:x"])
def test_names_that_are_no_device_are_one_line(name):
    with pytest.raises(InputError, match="expected auto, cpu, cuda"):
        choose_device(name)
