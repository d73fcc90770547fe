"""Checks of `path: resume_state`: a training state of this run, network and optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmlt_arch.options.checks.ownership import is_understood
from lmlt_arch.options.checks.parts import build_on_meta
from lmlt_arch.options.looking import at, path_of, section, whole
from lmlt_arch.options.mistakes import NOTE, Mistake
from lmlt_arch.options.registries import keywords, optimizers

if TYPE_CHECKING:
    from lmlt_arch.checkpoints.sets import Checkpoints

_PLACE = ("path", "resume_state")
# Settings that not all releases of PyTorch have, and that all of them put into a state without them.
_ADDED_LATER = (
    *("params", "foreach", "fused", "maximize", "capturable", "differentiable", "decoupled_weight_decay"),
    *("amsgrad", "nesterov", "has_complex"),
)


def resume_findings(opt: Mapping[str, Any]) -> Iterator[Mistake]:
    """Mistakes and notes about `path: resume_state`, whose file exists.

    Training goes on in the folder of `name`, and takes the networks from there. Nothing that belongs to the
    state may be damaged.
    """
    from lmlt_arch.checkpoints.load import CheckpointError, read_file
    from lmlt_arch.checkpoints.sets import Checkpoints, is_training_state, resumed_networks

    given = at(opt, *_PLACE)
    if not isinstance(given, str) or opt.get("auto_resume"):
        return  # `--auto_resume` looks for one itself and ignores the key
    path = path_of(given)
    # Noted where a training starts; the check looks at the files of all ranks.
    rank = opt["rank"] if isinstance(opt.get("rank"), int) else None
    networks = resumed_networks(opt)
    folders = [root / "experiments" / str(opt.get("name")) / "models" for root in _roots()]
    try:
        state, why = read_file(path, mapped=True), ""
    except CheckpointError as error:
        state, why = None, f" that can be read ({error})"
    if not is_training_state(state):
        home = path.resolve().parent
        older = Checkpoints(home, home.parent / "models", networks).older_whole(path)
        which = older or "one of experiments/.../training_states/*.state"
        yield Mistake(_PLACE, f"{given} is no training state{why}: take {which}")
        return
    files = [f"{network}_{state['iter']}.pth" for network in networks]
    folder = next((f for f in folders if all((f / file).is_file() for file in files)), folders[0])
    checkpoints = Checkpoints(path.parent, folder, networks, rank)
    yield from _folder(opt, path, folders, files, checkpoints)
    if text := misfit(opt, state):
        yield Mistake(_PLACE, f"{given} {text}")
    total = whole(opt, "train", "total_iter")
    if total and state["iter"] >= total:
        text = f"{given} is of iteration {state['iter']}, and total_iter is {total}: nothing is left to train"
        yield Mistake(_PLACE, text, NOTE)


def misfit(opt: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Why a training state does not fit the network or the optimizer of these options; '' if it does."""
    if is_understood(opt) and not _fits(opt, state):
        return "is of another network than network_g: its optimizer has other parameters"
    if is_understood(opt) and (lacking := _settings_lacking(opt, state)):
        text = f"is of another optimizer than {at(opt, 'train', 'optim_g', 'type')}: it has no "
        fix = "write that of its run, or start from pretrain_network_g instead"
        return f"{text}{', '.join(lacking)}. Fix: {fix}"
    return ""


def _folder(
    opt: Mapping[str, Any], path: Path, folders: list[Path], files: list[str], checkpoints: Checkpoints
) -> Iterator[Mistake]:
    """Whether the networks of the state are where training looks for them, and all is as it was written."""
    name, home, folder = str(opt.get("name")), path.resolve().parent, checkpoints.models
    own = home.name == "training_states" and home.parent in [f.parent for f in folders]
    lacking = [file for file in files if not (folder / file).is_file()]
    if lacking:
        whose = "" if own else f"is not of this run, whose name is {name}: "
        text = f"{whose}training takes the networks from {folder}, which lacks {', '.join(lacking)}"
        fix = "copy them there" if own else f"copy them there, or write name: {_name_of(home)}"
        older = checkpoints.older_whole(path)
        fix += f", or resume from {older}, which is whole" if older is not None else ""
        yield Mistake(_PLACE, f"{text}. Fix: {fix}, or start from pretrain_network_g instead")
        return
    if refusal := checkpoints.refusal(path):
        yield Mistake(_PLACE, refusal)
    if not own:
        text = f"is of another folder: the run goes on in experiments/{name}, with the networks there"
        yield Mistake(_PLACE, text, NOTE)


def _roots() -> list[Path]:
    """Where runs are written: below the working directory, or beside BasicSR's package."""
    found = find_spec("basicsr")
    package = [Path(found.origin).resolve().parents[1]] if found and found.origin else []
    return [Path.cwd().resolve(), *package]


def _name_of(home: Path) -> str:
    return home.parent.name if home.name == "training_states" else "that of its run"


def _settings_lacking(opt: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Settings that the first optimizer's class needs and its state lacks, which stops its first step."""
    kind = optimizers().get(str(at(opt, "train", "optim_g", "type")))
    groups = section(state["optimizers"][0] if state["optimizers"] else {}).get("param_groups", ())
    if kind is None or not groups:
        return []
    return [name for name in keywords(kind) or () if name not in _ADDED_LATER and name not in groups[0]]


def _fits(opt: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether the first optimizer's moments have the shapes of the parameters that are trained."""
    try:
        network = build_on_meta(opt, "network_g")
    except Exception:
        return True  # named among the options, or not to be built without memory
    frozen = at(opt, "train", "freeze") or ()
    shapes = [
        tuple(parameter.shape)
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and not any(name == f or name.startswith(f"{f}.") for f in frozen)
    ]
    optimizer = state["optimizers"][0] if state["optimizers"] else {}
    order = [number for group in section(optimizer).get("param_groups", ()) for number in group["params"]]
    if len(order) != len(shapes):
        return False
    moments = section(optimizer, "state")
    return all(
        tuple(moment.shape) == shape
        for number, shape in zip(order, shapes, strict=True)
        for key, moment in section(moments, number).items()
        if key in ("exp_avg", "exp_avg_sq", "momentum_buffer") and moment is not None
    )
