"""Ticket files of no study: written and loaded by hand, and never taken for the tickets of one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lottery
from lottery.cli.main import main
from lottery.errors import DamagedFile, LotteryError, UsageError
from lottery.files.tensors import decode, encode
from lottery.pruning.mask import Mask
from lottery.tickets.container import sealed
from lottery.tickets.file import read
from lottery.tickets.own import read_own


class Net(nn.Module):
    """Convolution, attention, buffers and a weight that two layers share."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).flatten(2).permute(2, 0, 1)
        out: Tensor = self.second(self.first(self.attention(x, x, x)[0])).mean(0)
        return out


def trained(seed: int = 0) -> tuple[Net, dict[str, Tensor], Mask]:
    """A network after a few masked steps, where it began, and its mask."""
    model = Net(seed)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    mask = lottery.prune(model, 0.75, "global")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with lottery.masked(model, mask, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(5, 1, 5, 5)).square().sum().backward()
            optimizer.step()
    return model, start, mask


def run(monkeypatch: pytest.MonkeyPatch, *argv: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lottery", "ticket", *map(str, argv)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_a_network_comes_back_as_it_was_saved_with_its_buffers_and_its_mask(tmp_path: Path) -> None:
    model, start, mask = trained()
    lottery.save_ticket(tmp_path / "a.ticket", mask, start, model, note="found by hand")
    for weights, state in (("start", mask.apply(Net(0).state_dict())), ("trained", model.state_dict())):
        for given in (Net(1), nn.DataParallel(Net(1))):
            loaded, found = lottery.load_ticket(tmp_path / "a.ticket", given, weights=weights)  # type: ignore[arg-type]
            assert found == mask and loaded is given
            inner = given.module if isinstance(given, nn.DataParallel) else given
            assert all(torch.equal(value, state[name]) for name, value in inner.state_dict().items())
    assert (tmp_path / "a.ticket").stat().st_size < 8000


def test_only_the_start_may_be_saved(tmp_path: Path) -> None:
    _, start, mask = trained()
    lottery.save_ticket(tmp_path / "a.ticket", mask, start)
    lottery.load_ticket(tmp_path / "a.ticket", Net(1))
    with pytest.raises(UsageError, match="has no trained weights; those that training starts from are"):
        lottery.load_ticket(tmp_path / "a.ticket", Net(1), weights="trained")
    with pytest.raises(UsageError, match="weights 'end': there are start and trained"):
        lottery.load_ticket(tmp_path / "a.ticket", Net(1), weights="end")  # type: ignore[arg-type]


def test_without_a_network_it_is_said_which_one_to_hand_over(tmp_path: Path) -> None:
    lottery.save_ticket(tmp_path / "a.ticket", lottery.prune(Net(), 0.5), Net())
    with pytest.raises(UsageError, match="of a network of its maker's own, Net; hand over one with these names and"):
        lottery.load_ticket(tmp_path / "a.ticket")


def test_another_network_is_refused_by_the_first_difference(tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    lottery.save_ticket(path, lottery.prune(nn.Linear(3, 2), 0.5), nn.Linear(3, 2))
    for other, says in (
        (nn.Linear(4, 2), r"weight is of shape \(2, 3\), in Linear of \(2, 4\)"),
        (nn.Linear(3, 2, bias=False), "has bias, which Linear has not"),
        (nn.Sequential(nn.Linear(3, 2)), "has no 0.weight, which Sequential has; there is weight"),
        (nn.BatchNorm1d(3), "has no running_mean, which BatchNorm1d has"),
    ):
        before = {name: value.clone() for name, value in other.state_dict().items()}
        with pytest.raises(UsageError, match=says):
            lottery.load_ticket(path, other)
        assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_shared_weight_may_go_by_any_of_its_names_but_not_by_two(tmp_path: Path) -> None:
    path, state = tmp_path / "a.ticket", {name: value.clone() for name, value in Net().state_dict().items()}
    bits = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    lottery.save_ticket(path, Mask({"second.weight": bits}), state)
    model: Any = Net(1)
    _, mask = lottery.load_ticket(path, model)
    assert list(mask) == ["first.weight"] and torch.equal(model.second.weight, state["second.weight"] * bits)
    lottery.save_ticket(path, Mask({"first.weight": bits, "second.weight": bits}), state)
    with pytest.raises(
        UsageError, match=r"its mask names \w+\.weight, a weight that layers share, by another name too"
    ):
        lottery.load_ticket(path, Net(1))


@pytest.mark.parametrize(
    ("start", "after", "says"),
    [
        ({"weight": torch.ones(2, 3)}, {"weight": torch.ones(2, 3), "bias": torch.ones(2)}, "bias is not in both"),
        ({"weight": torch.ones(3, 2)}, None, r"start: weight is of shape \(3, 2\), in the mask of \(2, 3\)"),
        ({"bias": torch.ones(3)}, None, "the mask has weight of shape"),
        ({"weight": torch.ones(2, 3), "_extra_state": {}}, None, "start: _extra_state is a dict, and a ticket file"),
    ],
)
def test_states_that_do_not_fit_the_mask_are_refused(start: Any, after: Any, says: str, tmp_path: Path) -> None:
    mask = lottery.prune(nn.Linear(3, 2), 0.5)
    (tmp_path / "a.ticket").write_bytes(b"old")
    with pytest.raises(UsageError, match=says):
        lottery.save_ticket(tmp_path / "a.ticket", mask, start, after)
    assert (tmp_path / "a.ticket").read_bytes() == b"old"


def test_it_is_shown_but_neither_verified_nor_retrained_as_a_ticket_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.ticket"
    lottery.save_ticket(path, lottery.prune(Net(), 0.5), Net(), note="from the paper\nok     key: proven\x1b[8m")
    assert run(monkeypatch, "show", path) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        "origin       no study\nnetwork      Net\nnote         from the paper ok     key: proven [8m\n"
    )
    assert "density      50 %, 58 weights" in shown
    for again in ((), ("--again", "--data", tmp_path)):
        assert run(monkeypatch, "verify", path, *again) == 1
        told = capsys.readouterr()
        assert [line.split()[0] for line in told.out.splitlines()] == ["ok", "said"]
        assert told.err.endswith(
            "is of no study: it proves nothing about training, so that there is nothing to verify\n"
        )
    assert run(monkeypatch, "retrain", path, "--data", tmp_path) == 2
    assert "is a ticket file of no study, which proves nothing about training" in capsys.readouterr().err
    with pytest.raises(UsageError, match="of no study"):
        read(path)


def test_a_file_of_no_study_that_says_it_is_of_one_is_no_ticket(tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    lottery.save_ticket(path, lottery.prune(Net(), 0.5), Net())
    tensors, head = decode(path.read_bytes())
    head |= {"format": "lottery ticket", "version": "2"}
    del head["sha256"]
    path.write_bytes(sealed(tensors, head))
    with pytest.raises(DamagedFile, match="is no ticket that lottery ticket export has written"):
        read(path)


def test_every_changed_byte_and_every_cut_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    lottery.save_ticket(path, lottery.prune(nn.Linear(3, 2), 0.5), nn.Linear(3, 2))
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        for content in (whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], whole[:place]):
            path.write_bytes(content)
            with pytest.raises(LotteryError) as caught:
                lottery.load_ticket(path, nn.Linear(3, 2))
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"about": "{}"}, {"about": "3"}, {"about": "["}, {"shapes": "[]"}, {"shapes": "3"}])
def test_what_is_no_ticket_inside_is_one_line(change: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    lottery.save_ticket(path, lottery.prune(nn.Linear(3, 2), 0.5), nn.Linear(3, 2))
    tensors, head = decode(path.read_bytes())
    del head["sha256"]
    path.write_bytes(sealed(tensors, head | change))
    with pytest.raises(DamagedFile, match=r"is no ticket that lottery\.save_ticket has written") as caught:
        lottery.load_ticket(path, nn.Linear(3, 2))
    assert "\n" not in str(caught.value)


def test_equal_content_is_the_same_weights_in_the_file(tmp_path: Path) -> None:
    model, start, mask = trained()
    for name in ("a", "b"):
        lottery.save_ticket(tmp_path / name, mask, start, model)
    one, other = (decode((tmp_path / name).read_bytes()) for name in ("a", "b"))
    assert encode(one[0]) == encode(other[0])
    assert json.loads(one[1]["about"])["versions"].keys() == {"lottery", "torch"}
    assert repr(read_own(tmp_path / "a")).startswith("Ticket of no study: 25.0 % of 116 weights")
