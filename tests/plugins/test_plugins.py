"""Entries from outside the package: their source is part of the key, and what is wrong with them is said in a line."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import lottery
from lottery import registry
from lottery.cli import main
from lottery.errors import RecipeError, UsageError
from lottery.plan.expand import plan
from lottery.plan.jobs import Plan
from lottery.plugins import signature as signature_module
from lottery.recipe.load import parse_recipe
from tests.support.calls import Call, call
from tests.support.micro import micro, micro_text
from tests.support.plugs import HEAD, Plugs, plugs
from tests.support.studies import TEXT

__all__ = ["call", "plugs"]

ENTRIES = {  # catalogue: an entry of each, with a comment that an edit changes
    "datasets": 'def f(root):\n    """One."""\n    from lottery.registry import datasets\n\n'
    '    return datasets["digits"].make(root)\n',
    "models": "def f(input_shape, classes):\n    from torch import nn\n\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))  # one\n",
    "inits": "def f(model, generator):\n    pass  # one\n",
    "normalizations": "def f(channels, spatial):\n    from torch import nn\n\n    return nn.Identity()  # one\n",
    "activations": "def f():\n    from torch import nn\n\n    return nn.GELU()  # one\n",
    "optimizers": "def f(model, *, lr: float):\n    import torch\n\n"
    "    return torch.optim.SGD(model.parameters(), lr)  # one\n",
    "schedules": "def f(step, total):\n    return 1.0  # one\n",
    "criteria": "def f(weights, context):\n    return {name: w.abs() for name, w in weights.items()}  # one\n",
    "branches": "def f(level, generator):\n    return level.start  # one\n",
    "analyses": "def f(subject, memo):\n    return Measurement({})  # one\n",
}
NAMED = {
    "datasets": "data={name: mine, validation: 100}",
    "models": "model=mine",
    "inits": "init=mine",
    "normalizations": "model.norm=mine",
    "activations": "model.activation=mine",
    "optimizers": "train.optimizer={name: mine, lr: 0.1}",
    "schedules": "train.schedule=mine",
    "criteria": "prune.criterion=mine",
    "branches": "branches=[mine]",
    "analyses": "analyses=[mine]",
}
NESTED = {
    "an optimizer inside another": ("optimizers", "train.optimizer={name: sam, lr: 0.1, optimizer: mine}"),
    "an optimizer of a branch": ("optimizers", "branches=[{name: retrain, optimizer: {name: mine, lr: 0.1}}]"),
    "a schedule of a branch": (
        "schedules",
        "branches=[{name: retrain, optimizer: {name: sgd, lr: 0.1}, schedule: mine}]",
    ),
}
SPARES = {  # kinds whose keys stay
    "criteria": {"rewind", "dense"},
    "branches": {"rewind", "dense", "ticket"},
    "analyses": {"rewind", "dense", "ticket"},
}


def registered(catalogue: str) -> str:
    return f'\n\n@{catalogue}.register("mine", source="me")\n{ENTRIES[catalogue]}'


def planned(*overrides: str) -> Plan:
    return plan(parse_recipe(TEXT, "hand.yaml", overrides), "f" * 64)


def keys(*overrides: str) -> dict[str, str]:
    """The keys of a study with these overrides by kind."""
    return {f"{job.kind} {job.seed}": job.key for job in planned(*overrides)}


@pytest.mark.parametrize("catalogue", ENTRIES)
def test_an_edited_entry_of_each_catalogue_gives_new_keys_to_what_depends_on_it(plugs: Plugs, catalogue: str) -> None:
    text = registered(catalogue)
    plugs.load(text=text)
    before = keys(NAMED[catalogue])
    plugs.load(text=text)
    assert keys(NAMED[catalogue]) == before  # the same source: found again
    plugs.load(text=text.replace("one", "two").replace("One", "Two"))
    after = keys(NAMED[catalogue])
    same = {key for key in before if before[key] == after[key]}
    assert {key.split()[0] for key in same} == SPARES.get(catalogue, set())
    assert {key.split()[0] for key in before.keys() - same}  # something is new


@pytest.mark.parametrize("where", NESTED)
def test_an_edited_entry_inside_another_gives_new_keys(plugs: Plugs, where: str) -> None:
    catalogue, override = NESTED[where]
    text = registered(catalogue)
    plugs.load(text=text)
    before = keys(override)
    plugs.load(text=text.replace("one", "two"))
    assert keys(override)["branch 0" if "branch" in where else "dense 0"] not in before.values()


def test_what_names_no_entry_of_a_plugin_has_the_same_keys_with_and_without_it(plugs: Plugs) -> None:
    without = keys()
    plugs.load(text="".join(map(registered, ENTRIES)))
    assert keys() == without
    assert [entry.name for catalogue in registry.catalogues.values() for entry in catalogue if entry.code] == (
        ["mine"] * len(ENTRIES)
    )


def test_two_plugins_under_one_name_do_not_share_keys_and_one_source_in_two_places_does(
    plugs: Plugs, tmp_path: Path
) -> None:
    text = registered("models")
    plugs.load(text=text)
    first = keys("model=mine")
    assert registry.models["mine"].code == hashlib.sha256(f"/ {_sha(HEAD + text)}\n".encode()).hexdigest()[:16]
    plugs.load("other", text)
    assert keys("model=mine") == first  # another module, the same source
    plugs.load("third", text.replace("nn.Flatten()", "nn.Flatten(1)"))
    assert not set(keys("model=mine").values()) & set(first.values())
    plugs.forget()
    plugs.write("fourth.py", (HEAD + text).replace("\n", "\r\n"))
    plugs.load("fourth")
    assert keys("model=mine") == first  # another system's line ends


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


USES = "import helper\nfrom lottery.registry import models\n\n\n"
USES += (
    '@models.register("mine", source="me")\ndef f(input_shape, classes):\n    return helper.net(input_shape, classes)\n'
)
LAYOUTS = {  # the plugin's module, its files, those whose edits count, those whose do not
    "a file beside it": (
        "mine",
        {"mine.py": USES, "helper.py": "import deeper\n", "deeper.py": "", "other.py": ""},
        ("mine.py", "helper.py", "deeper.py"),
        ("other.py",),
    ),
    "a package": (
        "lab.mine",
        {
            "lab/__init__.py": "",
            "lab/mine.py": USES.replace("import helper", "from . import helper"),
            "lab/helper.py": "",
            "lab/sub/__init__.py": "",
            "lab/sub/late.py": "",
            "lab/no-package/note.py": "",
            "beside.py": "",
        },
        ("lab/__init__.py", "lab/mine.py", "lab/helper.py", "lab/sub/late.py"),
        ("beside.py", "lab/no-package/note.py", "lab/.hidden.py"),
    ),
    "a folder that is no package": (
        "place.mine",
        {
            "place/mine.py": USES.replace("import helper", "from . import helper"),
            "place/helper.py": "",
            "place/other.py": "",
        },
        ("place/mine.py", "place/helper.py"),
        ("place/other.py",),
    ),
    "an import at the call": (
        "mine",
        {
            "mine.py": USES.replace("import helper\n", "", 1).replace("    return", "    import helper\n    return"),
            "helper.py": "",
            "site-packages/third.py": "",
        },
        ("mine.py", "helper.py"),
        ("site-packages/third.py",),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_source_is_the_package_and_what_it_imports_that_is_not_installed(plugs: Plugs, layout: str) -> None:
    module, files, counted, others = LAYOUTS[layout]
    for name, text in files.items():
        plugs.write(name, text)
    plugs.load(module)
    first = registry.models["mine"].code
    for name in (*counted, *others):
        plugs.write(name, f"{files.get(name, '')}# edited\n")
        plugs.load(module)
        assert (registry.models["mine"].code != first) is (name in counted), name
        plugs.write(name, files.get(name, ""))
    plugs.load(module)
    assert registry.models["mine"].code == first


def test_a_link_that_leads_back_into_the_package_is_followed_once(plugs: Plugs) -> None:
    plugs.write("lab/__init__.py", "")
    plugs.write("lab/mine.py", HEAD + registered("models"))
    plugs.load("lab.mine")
    first = registry.models["mine"].code
    (plugs.folder / "lab" / "back").symlink_to(plugs.folder / "lab")
    plugs.load("lab.mine")
    assert registry.models["mine"].code == first


def test_an_installed_package_that_a_plugin_imports_is_not_its_source(
    plugs: Plugs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(plugs.folder / "site-packages"))
    plugs.write("site-packages/helper.py", "")
    plugs.write("mine.py", USES)
    plugs.load()
    first = registry.models["mine"].code
    plugs.write("site-packages/helper.py", "# another version\n")
    plugs.load()
    assert registry.models["mine"].code == first


def test_an_entry_whose_source_is_in_no_file_is_refused(plugs: Plugs) -> None:
    scope = {"__name__": "notebook"}
    with pytest.raises(UsageError) as caught:
        exec(HEAD + registered("models"), scope)
    assert str(caught.value) == (
        "plugin notebook: model 'mine': its source is in no file, so that an edit of it could not be seen; put it into "
        "a module"
    )
    assert "mine" not in registry.models


def model(parameters: str) -> str:
    return f'\n\n@models.register("mine", source="me")\ndef f({parameters}):\n    pass\n'


FAULTS = {
    "input_shape, classes, *, width=8": "the parameter 'width' has no type; write `width: int = 8`",
    "input_shape, classes, *, width": "the parameter 'width' has no type; write `width: int`",
    "input_shape, classes, *, rate=0.5, kind=None": (
        "the parameter 'rate' has no type; write `rate: float = 0.5`; "
        "the parameter 'kind' has no type; write `kind: int | None = None`"
    ),
    "input_shape, classes, *, width: 'Wide' = 8": (
        "the type of the parameter 'width', 'Wide', cannot be read: name 'Wide' is not defined; import what it names "
        "at the top of the module"
    ),
    "input_shape, classes, *, width: Plain = None": (
        "the parameter 'width' is of type Plain, which no recipe can write; use int, float, bool, str, tuples, lists "
        "or dicts of them, Literal or Component"
    ),
    "input_shape": "it takes 1 positional arguments; it is called as f(input_shape, classes, *, key=value)",
    "input_shape, classes, width: int = 8": (
        "its parameter 'width' is no key of a recipe; write `*` before it: it is called as f(input_shape, classes, *, "
        "key=value)"
    ),
    "input_shape, classes, *, code: int = 8": (
        "its parameter 'code' has a name that means something else there; give it another"
    ),
}


@pytest.mark.parametrize("parameters", FAULTS)
def test_a_signature_that_cannot_work_is_told_at_the_line_that_names_the_entry(plugs: Plugs, parameters: str) -> None:
    plugs.load(text="\n\nclass Plain:\n    pass\n" + model(parameters) + registered("schedules"))
    planned("train.schedule=mine")  # the others of the module can be used
    with pytest.raises(RecipeError) as caught:
        parse_recipe(micro_text("model=mine"), "hand.yaml")
    assert caught.value.problems == [f"hand.yaml:3:1: model: plugin mine: model 'mine': {FAULTS[parameters]}"]


@pytest.mark.parametrize(
    ("catalogue", "signature", "called"),
    [
        ("optimizers", "", "f(model, *, key=value)"),
        ("inits", "model", "f(model, generator, *, key=value)"),
        ("schedules", "step", "f(step, total, *, key=value)"),
        ("criteria", "weights", "f(weights, context, *, key=value)"),
        ("branches", "level", "f(level, generator, *, key=value)"),
        ("datasets", "", "f(root, *, key=value)"),
        ("normalizations", "channels", "f(channels, spatial, *, key=value)"),
    ],
)
def test_each_catalogue_says_how_it_calls_an_entry(plugs: Plugs, catalogue: str, signature: str, called: str) -> None:
    plugs.load(text=f'\n\n@{catalogue}.register("mine", source="me")\ndef f({signature}):\n    pass\n')
    (fault,) = registry.catalogues[catalogue].faults("mine")
    assert fault.endswith(f"positional arguments; it is called as {called}")
    with pytest.raises(RecipeError, match="positional arguments"):
        planned(NAMED[catalogue].replace(", lr: 0.1", ""))


def test_every_shipped_entry_is_called_as_its_catalogue_says() -> None:
    for catalogue in registry.catalogues.values():
        for entry in catalogue:
            called = entry.traits.positional(catalogue.called)
            assert list(signature_module.faults(entry.make, called, catalogue.taken)) == [], entry.name
            assert (entry.code, entry.module.partition(".")[0]) == ("", "lottery")


IMPORTS = {
    "raise ValueError('no\\n luck')\n": "plugin mine: cannot be imported: {file}:1: ValueError: no luck",
    "def f(:\n": "plugin mine: cannot be imported: {file}:1: invalid syntax",
    "\nimport nothing_of_that_name\n": (
        "plugin mine: cannot be imported: {file}:2: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    ),
    "raise SystemExit(0)\n": "plugin mine: cannot be imported: {file}:1: SystemExit: 0",
    f'{HEAD}@optimizers.register("adam", source="me")\ndef f(model):\n    pass\n': (
        "plugin mine: optimizer 'adam': there is one already, of lottery.catalogue.optimizers.first_order; register "
        "yours under another name"
    ),
}


@pytest.mark.parametrize("text", IMPORTS)
def test_a_plugin_that_cannot_be_imported_is_told_in_a_line_with_its_place(plugs: Plugs, text: str) -> None:
    file = plugs.write("mine.py", text)
    with pytest.raises(UsageError) as caught:
        registry.plug_in("mine")
    assert str(caught.value) == IMPORTS[text].format(file=file)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("nowhere", "there is no module nowhere in {folder} or among what is installed"),
        ("mine.py", "there is no module mine.py in {folder} or among what is installed; write mine"),
        ("./mine.py", "it is no module's name; write `module` or `package.module`, and no path"),
    ],
)
def test_a_plugin_that_is_not_there_is_told_with_the_way_out(plugs: Plugs, module: str, said: str) -> None:
    plugs.write("mine.py", "")
    with pytest.raises(UsageError) as caught:
        registry.plug_in(module)
    assert str(caught.value) == f"plugin {module}: cannot be imported: {said.format(folder=plugs.folder)}"


def test_a_plugin_that_fails_leaves_none_of_its_entries_behind(plugs: Plugs) -> None:
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        plugs.load(text=f"{registered('models')}\n1 / 0\n")
    assert "mine" not in registry.models and registry.plugins() == {}


def install(plugs: Plugs, module: str, distribution: str) -> None:
    """A distribution that announces the module as a plugin, as pip would have left it."""
    folder = plugs.folder / f"{distribution}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[lottery.plugins]\nany = {module}\n")


def test_a_plugin_of_an_installed_package_needs_no_flag(plugs: Plugs, monkeypatch: pytest.MonkeyPatch) -> None:
    install(plugs, "theirs", "their-nets")
    plugs.write("theirs.py", HEAD + registered("models"))
    monkeypatch.setattr(registry, "_seen", set())
    assert planned("model=mine").recipe.model.name == "mine"
    assert registry.plugins() == {"theirs": registry.models["mine"].code}
    registry.plug_in("theirs")  # the flag as well: nothing is registered twice


def test_a_broken_plugin_of_an_installed_package_breaks_only_what_names_its_entries(
    plugs: Plugs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(plugs, "broken", "their-nets")
    install(plugs, "whole", "our-nets")
    file = plugs.write("broken.py", f"{HEAD}{registered('models')}\n1 / 0\n")
    plugs.write("whole.py", HEAD + registered("schedules"))
    monkeypatch.setattr(registry, "_seen", set())
    line = len(file.read_text().splitlines())
    said = (
        f"plugin broken: cannot be imported: {file}:{line}: ZeroDivisionError: division by zero; this plugin is left "
        "out: update or uninstall their-nets, which brings it"
    )
    planned("train.schedule=mine")
    assert caplog.messages == [said]
    with pytest.raises(RecipeError) as caught:
        planned("model=mine")
    assert caught.value.problems[0].endswith(f"(lottery list models); {said}")
    assert caplog.messages == [said]  # once


STUDY = (
    "data={name: digits, limit: 64, validation: 64}",
    "model=mine",
    "train={optimizer: {name: sgd, lr: 0.1}, batch_size: 32, length: 4it, evaluate_every: 2it}",
    "prune.levels=1",
    "seeds=2",
    "branches=[shuffle]",
)


def test_results_of_another_source_are_told_of_and_never_taken(
    plugs: Plugs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text, store = registered("models"), tmp_path / "runs"
    plugs.load(text=text)
    old = registry.models["mine"].code
    first = lottery.run(micro(*STUDY), store=store, device="cpu")
    assert first.count("done") == 8 and caplog.messages == []
    plugs.load(text=text.replace("nn.Linear(64, classes)", "nn.Linear(64, classes), nn.Tanh()"))
    new = registry.models["mine"].code
    second = lottery.run(micro(*STUDY), store=store, device="cpu")
    assert (second.count("done"), second.count("found")) == (8, 0)
    kept = min(first.ended)
    assert caplog.messages == [
        f"plugin mine (now {new}): 8 finished jobs are of the source {old}, and what is missing here differs from them "
        "in nothing else; put back the files to use them, or run the recipe for results of the new source (the old "
        f"stay: lottery show {kept[:12]})"
    ]
    third = lottery.run(micro(*STUDY), store=store, device="cpu")
    assert third.count("found") == 8 and len(caplog.messages) == 1  # all is there: nothing to say
    plugs.load(text=text)
    assert lottery.run(micro(*STUDY), store=store, device="cpu").ended == dict.fromkeys(first.ended, "found")


def test_an_edited_criterion_tells_of_tickets_and_controls_only(plugs: Plugs, tmp_path: Path) -> None:
    from lottery.results.plugin_edits import other_sources
    from lottery.store.store import Store

    text, changes = registered("criteria"), (*STUDY, "model={name: lenet, widths: [8]}", "prune.criterion=mine")
    plugs.load(text=text)
    lottery.run(micro(*changes), store=tmp_path / "runs", device="cpu")
    plugs.load(text=text.replace("one", "two"))
    job = next(iter(Store(tmp_path / "runs").manifests()))
    edited = plan(micro(*changes), _fingerprint(tmp_path / "runs"))
    (said,) = other_sources(edited, Store(tmp_path / "runs"))
    assert said.startswith(f"plugin mine (now {registry.criteria['mine'].code}): 4 finished jobs are of the source ")
    assert "plugin mine" in "".join(job.environment)
    shutil.rmtree(tmp_path / "runs" / "jobs")
    assert other_sources(edited, Store(tmp_path / "runs")) == []


def _fingerprint(store: Path) -> str:
    (folder,) = (store / "data").iterdir()
    (name,) = folder.iterdir()
    return name.name


def command(plugs: Plugs, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(lottery.__file__).parent.parent
    path = os.pathsep.join([str(plugs.folder), str(root)])
    return subprocess.run(
        [sys.executable, "-m", "lottery", *arguments],
        cwd=plugs.folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


COUNTED = '''

@analyses.register("weights", source="me", units={"weights": ""})
def weights(subject, memo):
    """Number of weights and biases that are left."""
    from lottery.landscape.subject import Measurement

    return Measurement({"weights": subject.surface(subject.states[0].mask, 10).size})
'''


def test_workers_have_the_plugins_of_installed_packages_and_an_edit_is_seen_by_a_table(
    plugs: Plugs, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    from lottery.plan.kinds import MEASUREMENT_FILE, Kind
    from lottery.store.store import Store

    install(plugs, "theirs", "their-nets")
    text = f"{HEAD}{registered('models')}{COUNTED}"
    plugs.write("theirs.py", text)
    plugs.write("r.yaml", micro_text(*STUDY, "seeds=1", "analyses=[weights]"))
    done = command(plugs, "run", "r.yaml", "--jobs", "2", "--device", "cpu")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "6 done"), done.stderr
    store = Store(plugs.folder / "runs")
    found = [store.read_json(each.key, MEASUREMENT_FILE) for each in store.manifests() if each.kind == Kind.ANALYSIS]
    assert sorted(each["values"]["weights"] for each in found) == [64 * 10 // 2 + 10, 64 * 10 + 10]
    plugs.write("theirs.py", f"{text}# edited\n")
    monkeypatch.setattr(registry, "_seen", set())
    missing, edited = call("table", "r.yaml").err.splitlines()
    assert missing == f"3 trainings are missing in {store.name}; lottery run r.yaml runs them"
    assert edited.startswith("plugin theirs (now ") and "): 6 finished jobs are of the source " in edited


def test_a_plugin_that_fails_when_it_is_called_is_named_and_not_taken_for_a_bug_of_ours(
    plugs: Plugs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = plugs.write("mine.py", f"{HEAD}{model('input_shape, classes').replace('pass', 'return 1 / 0')}")
    plugs.write("r.yaml", micro_text(*STUDY))
    monkeypatch.setattr(sys, "argv", ["lottery", "plan", "r.yaml", "--plugin", "mine"])
    monkeypatch.setattr(tempfile, "tempdir", str(plugs.folder))
    monkeypatch.setattr(signal, "signal", lambda *given: None)
    with pytest.raises(SystemExit) as left:
        main.main()
    line = len(file.read_text().splitlines())
    said = f"lottery: the plugin mine failed: {file}:{line}: ZeroDivisionError: division by zero; its traceback is in "
    assert (left.value.code, capsys.readouterr().err.startswith(said)) == (2, True)


def test_a_ticket_of_an_edited_plugin_is_neither_exported_nor_read(plugs: Plugs, tmp_path: Path) -> None:
    from lottery.store.store import Store
    from lottery.tickets import checks, export
    from lottery.tickets import file as ticketfile

    text, store = registered("models"), tmp_path / "runs"
    plugs.load(text=text)
    old = registry.models["mine"].code
    lottery.run(micro(*STUDY, "seeds=1"), store=store, device="cpu")
    (key,) = [manifest.key for manifest in Store(store).manifests() if manifest.kind == "ticket"]
    file = tmp_path / "my.ticket"
    file.write_bytes(export.export(Store(store), key, Path("nowhere")))
    assert all(fine for _, fine, _ in checks.checks(ticketfile.read(file)))
    plugs.load(text=text.replace("one", "two"))
    way = (
        f"was trained with a plugin whose source has the hash {old}; name it as --plugin, its files as they were then "
        f"(loaded: mine {registry.models['mine'].code})"
    )
    for place, use in [
        (key[:12], lambda: export.export(Store(store), key, Path("nowhere"))),
        (str(file), lambda: ticketfile.read(file)),
    ]:
        with pytest.raises(UsageError) as caught:
            use()
        assert str(caught.value) == f"{place}: {way}"
