"""What a session on the steps of a script's loop asks of the loop, which stands still meanwhile; `tui_gru.rewind` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tui_gru.analysis.examined import Finding
    from tui_gru.analysis.trials import CureTrial, RateTrial, TriedOption
    from tui_gru.capture.facts import StepWatch


class LiveLoop(Protocol):
    """A loop whose last steps can be computed again; `tui_gru.steps` says more of each."""

    def again(
        self,
        since: int | None = None,
        lr: float | None = None,
        rate: float | None = None,
        clip: float | None = None,
        skip: int | Iterable[int] = (),
        seed: int | None = None,
        weight_decay: float | None = None,
        edit: Callable[[dict[str, Any]], object] | None = None,
        lines: Mapping[int, str] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Any: ...

    def with_parameters(self, values: Mapping[str, Any], words: str) -> Callable[[dict[str, Any]], object]: ...

    def watched(self) -> tuple[StepWatch | None, tuple[float, ...]]: ...

    def adopt(self, trial: Any) -> None: ...

    def edited_lines(self) -> dict[int, str]:
        """Return the lines of the body that are others in the file now. Raises `TuiGruError` if more than lines have changed."""

    @property
    def trials(self) -> tuple[Any, ...]:
        """The trials since the loop stands where it does."""

    @property
    def rate(self) -> float | None:
        """The learning rate; None if the loop has none."""

    def rates(self, *, progress: Callable[[RateTrial], object] | None = None) -> tuple[RateTrial, ...]: ...

    def try_cures(
        self, finding: Finding, *, progress: Callable[[tuple[CureTrial, ...]], object] | None = None
    ) -> tuple[CureTrial, ...]: ...

    def tried_options(
        self, finding: Finding, *, progress: Callable[[tuple[TriedOption, ...]], object] | None = None
    ) -> tuple[TriedOption, ...]: ...
