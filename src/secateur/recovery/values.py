"""New values of a subject's tensors while a repair goes from layer to layer."""

from torch import Tensor

from secateur.core import Member


class Values:
    """New values by name, in float64 until they are told; what was not changed yet is the live tensor."""

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}
        self._live: dict[str, Tensor] = {}
        self.weights: list[str] = []

    def of(self, member: Member) -> Tensor:
        """The present value of a weight."""
        name = member.group.name
        if name not in self._live:
            self.weights.append(name)
        return self.named(name, member.tensor)

    def named(self, name: str, live: Tensor) -> Tensor:
        """The present value of any tensor."""
        self._live.setdefault(name, live)
        return self._values.get(name, live.detach().double())

    def __getitem__(self, name: str) -> Tensor:
        return self._values.get(name, self._live[name].detach().double())

    def __setitem__(self, name: str, value: Tensor) -> None:
        self._values[name] = value

    def told(self) -> dict[str, Tensor]:
        """What was changed, in the dtypes of the subject."""
        return {name: value.to(self._live[name].dtype) for name, value in self._values.items()}
