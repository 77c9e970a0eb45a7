"""The exceptions of `pipeline`: one base, one line a subclass.

`transient` tells whether doing the same again may help: it decides between the states failed and invalid.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of every error that `pipeline` raises on purpose."""

    transient: bool = False
    """True where a retry may help (the network, a full disk); False where the input or a setting must change."""


class InvalidScene(PipelineError):
    """The scene's data or metadata cannot be used: missing, truncated, contradictory."""


class InvalidSettings(PipelineError):
    """A parameter is wrong, or does not fit the scene or the checkpoint."""


class SceneRefused(PipelineError):
    """The scene is sound, but too much of it would have to be invented."""


class ReadFailed(PipelineError):
    """Pixels could not be read; the file may be back later."""

    transient = True


class WriteFailed(PipelineError):
    """The product could not be written: disk full, no permission."""

    transient = True


class InUse(WriteFailed):
    """Another run is at work on the product that this one was to make."""

    def __init__(self, product: str) -> None:
        super().__init__(f"{product}: another run is working on it; wait for it, or choose another --output")
        self.product = product
        """Id of the product."""

    def __reduce__(self) -> tuple[type[InUse], tuple[str]]:
        """An exception that is sent to another process is made anew from this."""
        return InUse, (self.product,)


class ClusterFailed(PipelineError):
    """The cluster that was to do the work cannot be reached, or lost its workers; finished blocks are kept."""

    transient = True


class DeviceFailed(PipelineError):
    """A GPU failed, or its memory does not do; finished blocks are kept."""

    transient = True
