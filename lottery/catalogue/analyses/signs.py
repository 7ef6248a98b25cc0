"""Signs of weights that two networks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.registry import analyses

if TYPE_CHECKING:
    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject


@analyses.register(
    "signs",
    source="Zhou et al. 2019; Gadhikar & Burkholz 2024",
    looks_at="pair",
    units={"signs_kept": "fraction"},
    passes=lambda arguments: 0,
)
def signs(subject: Subject, memo: Memo) -> Measurement:
    """The share of the weights that survive in both states whose sign is the same in both.

    Of a dense network and a ticket: how many of the ticket's weights end with the sign that they ended with before any
    pruning. One half is what chance gives for independent signs; a weight that is exactly 0 in either state has no sign
    to keep and counts as lost. Under a weight normalization the signs are those of the parameter that is masked. The
    profile has the share by layer. No example is looked at.
    """
    import torch

    from lottery.landscape.evaluate import check_alike, check_distinct
    from lottery.landscape.subject import Measurement
    from lottery.network.build import prunable
    from lottery.network.names import layer_name

    check_alike(subject.states)
    check_distinct(subject.states)
    profile: list[dict[str, float | str]] = []
    for name in prunable(subject.network()):
        one, other = (state.weights[name].sign() for state in subject.states)
        alive = torch.ones_like(one, dtype=torch.bool)
        for state in subject.states:
            alive = alive if state.mask is None else alive & state.mask[name].to(alive.device)
        count = int(alive.sum())
        kept = int((alive & (one * other > 0)).sum())
        profile.append({"layer": layer_name(name), "weights": count, "kept": kept})
    total = sum(int(row["weights"]) for row in profile)
    share = sum(int(row["kept"]) for row in profile) / total if total else float("nan")
    return Measurement({"signs_kept": share}, profile)
