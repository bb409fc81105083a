"""Which models can be cut at all; what is wrong with the others is told before anything runs."""

from torch import Tensor, nn

from secateur.core.errors import SubjectError

_WRAPPERS = {
    "DataParallel": "model.module",
    "DistributedDataParallel": "model.module",
    "FullyShardedDataParallel": "the model before it is wrapped",
    "OptimizedModule": "model._orig_mod, and compile again afterwards",
    "RecursiveScriptModule": "the model before it is scripted",
}


def check_subject(model: object) -> nn.Module:
    """The model, if it is one that can be cut.

    Raises:
        SubjectError: it is no module; it is a wrapper; it is quantized; its parameters overlap in memory; names them.
    """
    if not isinstance(model, nn.Module):
        raise SubjectError(
            f"a {type(model).__name__} has no channels", where="Channels", mend="give it a torch.nn.Module"
        )
    for name, module in model.named_modules():
        kind = type(module).__name__
        where = f"module {name!r}" if name else "the model"
        if kind in _WRAPPERS:
            raise SubjectError(f"a {kind} cannot be cut", where=where, mend=f"prune {_WRAPPERS[kind]}")
        if "quantized" in type(module).__module__:
            raise SubjectError(f"a quantized {kind} cannot be cut", where=where, mend="prune first, quantize then")
    _check_memory(model)
    return model


def _check_memory(model: nn.Module) -> None:
    owners: dict[int, tuple[str, Tensor]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.is_leaf:
            raise SubjectError(
                "a parameter is computed from others", where=f"parameter {name!r}", mend="detach it, or fold it in"
            )
        if parameter.is_meta or not parameter.numel():
            continue
        place = parameter.untyped_storage().data_ptr()
        other = owners.setdefault(place, (name, parameter))
        if other[1] is not parameter:
            raise SubjectError(
                f"two parameters share memory: {other[0]!r} and {name!r}",
                where=type(model).__name__,
                mend="tie them by giving both names one Parameter, or clone one of them",
            )
