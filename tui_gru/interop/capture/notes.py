"""Notes about a capture: for each common pitfall a name and a sentence."""

from __future__ import annotations

from enum import StrEnum


class Note(StrEnum):
    """A note about a call or a step. `sentence` explains it and says what to do."""

    AUTOCAST = "autocast"
    EVALUATING = "evaluating"
    RECOMPUTED = "recomputed"
    CHANGED_IN_PLACE = "changed in place"
    NO_MASKS = "no masks"
    HEAD_APART = "head apart"
    NOT_UPDATED = "not updated"
    CLEARED = "cleared"
    NOT_CLEARED = "not cleared"
    SCALED_AFTER = "scaled after"
    NOT_IN_OPTIMIZER = "not in optimizer"
    UNSEEN = "unseen"
    LATE = "late"
    CLOSURE = "closure"
    NOT_CAPTURED = "not captured"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Note.AUTOCAST: "torch.autocast computed inside of the GRU in half precision; its outputs agree to about 5e-3 only",
    Note.EVALUATING: "a module in evaluation mode received a gradient: call .train() before training",
    Note.RECOMPUTED: "checkpointing computed it twice; this is the call that received the gradient",
    Note.CHANGED_IN_PLACE: "the script changed the output in place after the call; shown are the values computed by the GRU",
    Note.NO_MASKS: "dropout between layers was drawn on a GPU and cannot be repeated; use the CPU, or dropout 0, to see inside",
    Note.HEAD_APART: "the head did not read the whole output of a GRU, so its logits are not shown",
    Note.NOT_UPDATED: "the optimizer did not run in this step",
    Note.CLEARED: "the gradients were cleared before the optimizer used them; GradScaler skips such a step",
    Note.NOT_CLEARED: "p.grad was not empty before the backward pass: gradients add up, or zero_grad() is missing",
    Note.SCALED_AFTER: "p.grad was scaled after the optimizer had run: a clip there has no effect; clip before optimizer.step()",
    Note.NOT_IN_OPTIMIZER: "a GRU has parameters that the optimizer does not have: they never change",
    Note.UNSEEN: "a GRU received a gradient, but no call of it was captured: begin before torch.compile, and call the module",
    Note.LATE: "a call of an earlier step, whose capture was complete, received a gradient",
    Note.CLOSURE: "the optimizer ran the model itself, in a closure",
    Note.NOT_CAPTURED: "a call on tensors without own numbers (torch.func, fake, shared among ranks) is not kept",
}
