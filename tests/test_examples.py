"""Each example runs as it stands, in a quick form, and does what it says."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lottery
from lottery import registry
from lottery.pruning.scoring import Context
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "recipe_to_compact.ipynb"
PLUGIN = EXAMPLES / "plugin"


def cells() -> list[dict[str, Any]]:
    """The notebook's cells with code."""
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def test_the_notebook_goes_from_a_recipe_to_a_smaller_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parameters, *others = cells()
    assert parameters["metadata"]["tags"] == ["parameters"]
    known: dict[str, Any] = {"SEEDS": 2, "LEVELS": 2, "STEPS": 50, "JOBS": 1}
    assert set(re.findall("[A-Z]{2,}", "".join(parameters["source"]))) == set(known)
    known["__name__"] = "notebook"
    for cell in others:
        lines = [line for line in cell["source"] if not line.startswith("%")]  # what only a notebook knows
        exec(compile("".join(lines), "notebook", "exec"), known)
    assert [round(density, 3) for density in known["means"]["density"]] == [0.5, 0.25]
    assert list(known["claims"]["against"]) == ["reinit"] * 2
    layers = [module for module in known["small"].modules() if isinstance(module, torch.nn.Linear)]
    assert (layers[0].in_features, layers[-1].out_features) == (64, 10)  # it recognized the test set as was printed


def test_the_notebook_is_kept_as_it_ran_from_top_to_bottom() -> None:
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    outputs = [output for cell in cells() for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1


@pytest.mark.slow
def test_the_whole_notebook_runs_in_a_kernel_to_the_verdicts_it_is_kept_with(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `examples`")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra `examples`")

    kept = nbformat.read(NOTEBOOK, 4)
    ran = nbformat.read(NOTEBOOK, 4)
    nbclient.NotebookClient(ran, timeout=3600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    def verdicts(notebook: Any) -> list[str]:
        (cell,) = [cell for cell in notebook.cells if 'view="verdicts"' in cell.source]
        return re.findall("matching|winning|losing|inconclusive|withheld", cell.outputs[0].data["text/plain"])

    assert verdicts(ran) == verdicts(kept)


@pytest.fixture
def masked_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the scripts, from which they import what they share."""
    folder = EXAMPLES / "masked"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    sys.modules.pop("digits", None)


SCRIPTS = {  # what each needs
    "plain_loop": "torch",
    "in_lightning": "lightning",
    "in_accelerate": "accelerate",
    "in_transformers": "transformers",
}
SLOW = {script: () if package == "torch" else pytest.mark.slow for script, package in SCRIPTS.items()}  # to import


@pytest.mark.parametrize("script", [pytest.param(script, marks=SLOW[script]) for script in SCRIPTS])
@pytest.mark.filterwarnings("ignore")  # of other people's packages
def test_a_mask_holds_with_bf16_accumulation_clipping_and_a_schedule_and_without_it_weights_come_back(
    script: str, masked_scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(SCRIPTS[script], reason="needs the extra `examples`")
    runpy.run_path(str(masked_scripts / f"{script}.py"))["main"](2)
    told = re.findall(
        r"^(held|not held): density ([\d.]+), .* ([\d,]+) of ([\d,]+) pruned", capsys.readouterr().out, re.M
    )
    (loose, *of_loose), (held, *of_held) = told
    assert (loose, held) == ("not held", "held")
    assert of_held == ["0.1000", "0", "45,180"]
    assert of_loose[::2] == ["0.1000", "45,180"] and int(of_loose[1].replace(",", "")) > 30_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_plain_loop_and_lightning_train_the_same_weights(masked_scripts: Path) -> None:
    pytest.importorskip("lightning", reason="needs the extra `examples`")
    plain = runpy.run_path(str(masked_scripts / "plain_loop.py"))
    theirs = runpy.run_path(str(masked_scripts / "in_lightning.py"))
    mask = lottery.prune(plain["network"](), 0.9)
    model = plain["network"]()
    optimizer = plain["adamw"](model)
    with lottery.masked(model, mask, optimizer):
        plain["train"](model, optimizer, 1)
    fitted = theirs["fit"](theirs["Classifier"](), 1, theirs["HoldMask"](mask))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, fitted.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_callback_lets_go_of_the_mask_where_a_fit_fails(masked_scripts: Path) -> None:
    pytest.importorskip("lightning", reason="needs the extra `examples`")
    theirs = runpy.run_path(str(masked_scripts / "in_lightning.py"))

    classifier: Any = theirs["Classifier"]

    class Failing(classifier):  # type: ignore[misc]
        def training_step(self, batch: Any, index: int) -> Any:
            if index == 4:
                raise ZeroDivisionError
            return super().training_step(batch, index)

    module = Failing()
    mask = lottery.prune(module.network, 0.9)
    with pytest.raises(ZeroDivisionError):
        theirs["fit"](module, 1, theirs["HoldMask"](mask))
    weight = module.network[0].weight
    weight.sum().backward()
    assert int(weight.grad.count_nonzero()) == weight.numel()  # the hook on the gradient is gone


def pruned_are_zero(model: Any, mask: lottery.Mask) -> bool:
    """Whether each pruned weight is exactly +0.0."""
    state = model.state_dict()
    return all(not state[name][~alive].view(torch.int32).any() for name, alive in mask.items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_fit_of_lightning_goes_on_from_a_checkpoint_under_the_mask_that_stands_there(
    masked_scripts: Path, tmp_path: Path
) -> None:
    lightning = pytest.importorskip("lightning", reason="needs the extra `examples`")
    theirs = runpy.run_path(str(masked_scripts / "in_lightning.py"))
    fit, hold = theirs["fit"], theirs["HoldMask"]
    mask = lottery.prune(theirs["Classifier"]().network, 0.9, "global")

    def once(*more: Any, resume: Path | None = None, **settings: Any) -> Any:
        torch.manual_seed(0)
        return fit(theirs["Classifier"](), 4, *more, resume=resume, **settings)

    keep = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, every_n_epochs=2, save_top_k=-1, filename="{epoch}")
    once(hold(mask), keep, enable_checkpointing=True)
    at = tmp_path / "epoch=1.ckpt"
    state = torch.load(at, weights_only=True)["state_dict"]
    saved = {name.removeprefix("network."): value for name, value in state.items()}
    assert all(not saved[name][~alive].any() for name, alive in mask.items())
    resumed_hold, found = hold(), theirs["Remember"](44)
    resumed = once(resumed_hold, found, resume=at)
    assert resumed_hold.mask == mask and pruned_are_zero(resumed, mask)
    assert all(torch.equal(value, saved[name]) for name, value in found.state.items()) and found.state
    assert not torch.equal(resumed[0].weight, saved["0.weight"])
    with pytest.raises(ValueError, match="the checkpoint was trained under another mask"):
        once(hold(lottery.prune(theirs["Classifier"]().network, 0.5)), resume=at)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("script", ["in_lightning", "in_transformers"])
def test_iterative_pruning_in_other_loops_comes_to_a_ticket_that_is_rewound(script: str, masked_scripts: Path) -> None:
    pytest.importorskip(SCRIPTS[script], reason="needs the extra `examples`")
    theirs = runpy.run_path(str(masked_scripts / f"{script}.py"))
    mask, start = theirs["find_ticket"](1, 3, 0.5)
    assert sum(mask.alive().values()) == 6275  # of 50,200
    first = theirs["Classifier"]()
    first = first.network if script == "in_lightning" else first
    assert all(torch.equal(value, start[name]) for name, value in first.state_dict().items())
    once = lottery.prune(first, 0.875, "global")
    assert once != mask  # it was trained in between
    if script == "in_lightning":
        _, later = theirs["find_ticket"](1, 2, 0.5, 5)
        assert not any(torch.equal(later[name], start[name]) for name in mask)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_average_of_weights_that_lightning_keeps_has_zeros_where_the_mask_has(masked_scripts: Path) -> None:
    pytest.importorskip("lightning", reason="needs the extra `examples`")
    from lightning.pytorch.callbacks import WeightAveraging
    from torch.optim.swa_utils import get_ema_avg_fn

    theirs = runpy.run_path(str(masked_scripts / "in_lightning.py"))
    module = theirs["Classifier"]()
    mask = lottery.prune(module.network, 0.9)
    module.network.load_state_dict(mask.apply(module.network.state_dict()))  # so that the average begins with zeros
    network = theirs["fit"](module, 2, theirs["HoldMask"](mask), WeightAveraging(avg_fn=get_ema_avg_fn(0.9)))
    assert pruned_are_zero(network, mask)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_hugging_face_goes_on_from_a_checkpoint_under_the_mask_beside_it(
    masked_scripts: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="needs the extra `examples`")
    theirs = runpy.run_path(str(masked_scripts / "in_transformers.py"))
    train, classifier = theirs["train"], theirs["Classifier"]
    mask = lottery.prune(classifier(), 0.9, "global")
    train(classifier(), 4, mask, folder=tmp_path, save_strategy="epoch")
    whole = train(classifier(), 4, mask, folder=tmp_path / "nothing", save_strategy="no")
    names = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert len(names) == 4
    for later in ("checkpoint-88", "checkpoint-66"):
        shutil.rmtree(tmp_path / later)
    start, found = lottery.load_ticket(tmp_path / "checkpoint-44" / "mask.ticket", classifier())
    assert found == mask and pruned_are_zero(start, mask)
    resumed = train(classifier(), 4, found, folder=tmp_path, save_strategy="no")
    assert pruned_are_zero(resumed, mask)
    for (name, weight), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(weight, other, msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_callback_of_hugging_faces_trainer_lets_go_where_a_training_fails(masked_scripts: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra `examples`")
    theirs = runpy.run_path(str(masked_scripts / "in_transformers.py"))
    classifier: Any = theirs["Classifier"]

    class Failing(classifier):  # type: ignore[misc]
        steps = 0

        def forward(self, x: Any, labels: Any = None) -> Any:
            self.steps += 1
            if self.steps == 5:
                raise ZeroDivisionError
            return super().forward(x, labels)

    model = Failing()
    with pytest.raises(ZeroDivisionError):
        theirs["train"](model, 1, lottery.prune(model, 0.9))
    weight = model.network[0].weight
    weight.grad = None
    weight.sum().backward()
    assert int(weight.grad.count_nonzero()) == weight.numel()  # the hook on the gradient is gone


@pytest.fixture
def installed(plugs: Plugs, monkeypatch: pytest.MonkeyPatch) -> Plugs:
    """The plugin package, as pip would have installed it: its modules, and what its pyproject.toml announces."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (module,) = {value.partition(".")[0] for value in project["entry-points"]["lottery.plugins"].values()}
    shutil.copytree(PLUGIN / module, plugs.folder / module, ignore=shutil.ignore_patterns("__pycache__"))
    about = plugs.folder / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [f"{name} = {value}" for name, value in project["entry-points"]["lottery.plugins"].items()]
    (about / "entry_points.txt").write_text("\n".join(["[lottery.plugins]", *points]))
    monkeypatch.setattr(registry, "_seen", set())
    return plugs


def test_an_installed_plugin_package_adds_its_entries_without_a_flag(installed: Plugs) -> None:
    assert list(registry.plugins()) == ["lottery_tabular.entries"]
    added = {name: [e.name for e in catalogue if e.code] for name, catalogue in registry.catalogues.items()}
    assert {name: entries for name, entries in added.items() if entries} == {
        "datasets": ["breast_cancer", "labelled_files"],
        "models": ["wide_and_deep"],
        "optimizers": ["signum"],
        "criteria": ["lamp"],
    }


def test_a_recipe_names_the_entries_of_the_plugin_and_runs(installed: Plugs) -> None:
    quick = ["seeds=2", "prune.levels=2", "train.length=40it"]
    recipe = lottery.load_recipe(PLUGIN / "study.yaml", quick)
    outcome = lottery.run(recipe, store="runs", deterministic=True)
    assert set(outcome.ended.values()) == {"done"}
    means = lottery.table(recipe, store="runs")
    assert [round(density, 2) for density in means["density"]] == [0.5, 0.25]
    assert means["dense"].min() > 0.8  # 63 of 100 tumours are benign


def test_the_tests_that_come_with_the_package_hold(installed: Plugs, tmp_path: Path) -> None:
    checks = runpy.run_path(str(PLUGIN / "test_entries.py"))
    folder = tmp_path / "images"
    folder.mkdir()
    ran = [check(folder) if "files" in name else check() for name, check in checks.items() if name.startswith("test_")]
    assert len(ran) == 5
    x = registry.datasets["labelled_files"].make(folder, folder=".", test=2).train_x
    assert (x.dtype, tuple(x.shape)) == (torch.uint8, (10, 1, 6, 6))


def test_signum_steps_by_the_sign_of_an_average_of_gradients(installed: Plugs) -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    optimizer = registry.optimizers["signum"].make(model, lr=0.5, momentum=0.5)
    start, average = model.weight.detach().clone(), torch.zeros(1, 2)
    for gradient in (torch.tensor([[1.0, -4.0]]), torch.tensor([[-3.0, 1.0]])):

        def closure(gradient: torch.Tensor = gradient) -> torch.Tensor:
            model.weight.grad = gradient.clone()
            return torch.tensor(7.0)

        assert float(optimizer.step(closure)) == 7.0
        average = 0.5 * average + 0.5 * gradient
        start -= 0.5 * average.sign()
    assert torch.equal(model.weight.detach(), start)


def test_a_network_of_ones_own_is_named_by_the_recipe_beside_it(plugs: Plugs, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("mynet.py", "study.yaml"):
        shutil.copy(EXAMPLES / "own" / file, plugs.folder)
    monkeypatch.chdir("/")
    quick = ["seeds=1", "prune.levels=1", "train.length=40it"]
    recipe = lottery.load_recipe(plugs.folder / "study.yaml", quick, trust=True)
    outcome = lottery.run(recipe, store=plugs.folder / "runs", device="cpu")
    assert set(outcome.ended.values()) == {"done"}
    runpy.run_path(str(EXAMPLES / "own" / "test_mynet.py"))["test_mynet_does_what_a_study_counts_on"]()


def test_lamp_is_the_square_over_the_sum_of_those_no_smaller(installed: Plugs) -> None:
    lamp = registry.criteria["lamp"].make
    weights = {"fc1.weight": torch.tensor([[3.0, -1.0], [0.0, 2.0]]), "output.weight": torch.zeros(1, 2)}
    scores = lamp(weights, Context(torch.Generator()))
    assert scores["fc1.weight"].tolist() == [[1.0, 1 / 14], [0.0, 4 / 13]]
    assert scores["output.weight"].tolist() == [[0.0, 0.0]]
