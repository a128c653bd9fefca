"""What the tests of the commands for other tasks share."""

from rfp.cli import main, networks
from tests.networks import TinyTestNetwork


def give_test_networks(monkeypatch):
    """The commands get test networks by the names ``test`` and ``other``; other names are looked up as ever."""
    load_network = networks.load_network
    seeds = {"test": 0, "other": 1}
    monkeypatch.setattr(
        networks,
        "load_network",
        lambda name: TinyTestNetwork(seed=seeds[name]).eval() if name in seeds else load_network(name),
    )


def error_of(arguments, capsys):
    """The one line that the command says on stderr, besides where it runs."""
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("device: ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("rfp: error: ")
    return lines[0]
