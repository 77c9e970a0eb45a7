"""What the card of a trained checkpoint says: its data, its settings, its scores and its calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from srgan.calibration import calibration_card
from srgan.dataset import SampleMaker
from srgan.state import TrainState


def release_card(
    state: TrainState, makers: Mapping[str, SampleMaker], scores: Mapping[str, float], run: Mapping[str, Any]
) -> dict[str, Any]:
    """The card of the moving average of `state` as it is now, JSON types only.

    makers: by the name of their split. scores: of the validation. run: step, steps and devices.
    """
    chips = {
        name: (len(maker.clear), sorted({chip.group for chip, _ in maker.clear})) for name, maker in makers.items()
    }
    return {
        "training": {
            "data": "; ".join(
                f"{name}: {dates} clear dates of {', '.join(groups)}" for name, (dates, groups) in chips.items()
            ),
            "split_hash": state.material.split_hash,
            "settings": state.settings.model_dump(mode="json"),
            **run,
            "skipped": state.skipped,
        },
        "calibration": calibration_card(state.average, state.settings.validation_samples, state.settings.crop),
        "scores": {
            "validation": {name: value for name, value in scores.items() if math.isfinite(value)},
            "validation_rmse_cloudy_before_training": state.first,
        },
    }


def trained_on(card: Mapping[str, Any]) -> set[str]:
    """Groups (ROIs, tiles) of the split `train` that a card names as its training data; none where it does not say.

    >>> sorted(trained_on({"training": {"data": "train: 3 clear dates of 29RKH, 33TWL; val: 1 clear dates of 31UFS"}}))
    ['29RKH', '33TWL']
    """
    training = card.get("training")
    told = str(training.get("data", "")) if isinstance(training, Mapping) else ""
    part = next((part for part in told.split("; ") if part.startswith("train: ")), "")
    return set(filter(None, part.partition(" clear dates of ")[2].split(", ")))
