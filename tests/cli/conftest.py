import pytest

from tests.networks import TinyTestNetwork


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    """The commands of these tests get the test network by the name ``test``; other names are looked up as ever."""
    from rfp.cli import match, networks

    for command in (networks, match):
        load_network = command.load_network
        monkeypatch.setattr(
            command,
            "load_network",
            lambda name, load=load_network: TinyTestNetwork().eval() if name == "test" else load(name),
        )
