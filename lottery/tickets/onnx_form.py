"""A ticket's network as an ONNX file, tried against torch before anybody gets it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lottery.errors import UsageError
from lottery.network.build import own_parameters
from lottery.network.layout import Layout
from lottery.pruning.mask import Mask
from lottery.structure.compact import pruned
from lottery.words import listed

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
BATCHES = (1, 3, 8)  # sizes that are tried: the file is made with none of them
TOLERANCE = 1e-5  # of an output, relative to the largest one where that is above 1
INPUT, OUTPUT = "input", "output"
_TRACED = 2  # examples that the network is followed with


def onnx_bytes(
    model: nn.Module, mask: Mask, shape: Sequence[int], about: Mapping[str, str] | None = None
) -> tuple[bytes, str]:
    """Return the network under the mask as ONNX, in evaluation mode, for batches of any size, and a line about it.

    Weight normalizations are replaced by the weights that they compute, and pruned weights are 0. Its outputs on random
    inputs are compared with torch's before it is returned (https://docs.pytorch.org/docs/stable/onnx.html).

    Args:
        model: The network; it is not changed.
        mask: Bool tensors by name, True where a weight survives.
        shape: Shape of an input without the batch.
        about: What the file says of itself, as its metadata.

    Raises:
        UsageError: A package is missing, torch cannot export the network, or the file computes something else.
    """
    if lacking := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(f"--form onnx: needs {', '.join(lacking)}, not installed here: pip install 'lottery[onnx]'")
    network = pruned(model, mask).cpu().eval()
    own_parameters(network, [name for name in Layout.of(network).weights if name in mask])
    content = _exported(network, shape, about or {})
    furthest, sizes = _furthest(network, content, shape), listed([str(size) for size in BATCHES])
    return content, f"onnxruntime computes what torch does, within {furthest:.1g} on batches of {sizes}"


def _exported(network: nn.Module, shape: Sequence[int], about: Mapping[str, str]) -> bytes:
    example, batch = torch.zeros(_TRACED, *shape), torch.export.Dim("batch")
    logger, said = logging.getLogger("torch.onnx"), io.StringIO()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: batch},),
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
        for name, value in about.items():
            proto.metadata_props.add(key=name, value=value)
        content: bytes = proto.SerializeToString()
    except Exception as error:  # whatever torch meets in the code of a model
        why = str(error).strip().partition("\n")[0][:300]
        raise UsageError(
            f"{type(network).__name__}: torch cannot export it to ONNX ({type(error).__name__}: {why}); "
            "export the form dense"
        ) from error
    finally:
        logger.setLevel(before)
    return content


@torch.no_grad()
def _furthest(network: nn.Module, content: bytes, shape: Sequence[int]) -> float:
    """Return the largest difference between onnxruntime's outputs and torch's.

    Raises:
        UsageError: It is above the tolerance, or onnxruntime cannot run the file.
    """
    import onnxruntime

    draws = torch.Generator().manual_seed(0)
    furthest = 0.0
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        for size in BATCHES:
            x = torch.randn(size, *shape, generator=draws)
            expected: Tensor = network(x)
            (outputs,) = session.run([OUTPUT], {INPUT: x.numpy()})
            found = torch.from_numpy(outputs)
            if found.shape != expected.shape:
                raise UsageError(f"onnx: gives outputs of shape {tuple(found.shape)}, torch {tuple(expected.shape)}")
            furthest = max(furthest, float((found - expected).abs().max() / max(1.0, float(expected.abs().max()))))
    except UsageError:
        raise
    except Exception as error:  # onnxruntime's own have no common base
        why = str(error).strip().partition("\n")[0][:300]
        raise UsageError(
            f"{type(network).__name__}: onnxruntime cannot run it ({why}); export the form dense"
        ) from error
    if not furthest <= TOLERANCE:
        raise UsageError(
            f"{type(network).__name__}: as ONNX its outputs differ from torch's by {furthest:.1g}, more than "
            f"{TOLERANCE:g}; nothing was written; export the form dense"
        )
    return furthest
