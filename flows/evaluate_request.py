"""`EvaluateRequest`: everything that an evaluation was asked for; the command line and the form in Prefect make the same one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from flows.evaluate_bounds import Bound, Side, parse_bound
from flows.request import DeviceName, one_line
from pipeline.errors import InvalidSettings

Split = Literal["train", "val", "test", "other", "all"]
Bands = Literal["all", "13", "12", "4"]


class EvaluateRequest(BaseModel):
    """An evaluation: what is scored, on what, into which folder, and what it has to reach."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: tuple[str, ...] = Field(min_length=1, description="Pair tables (.parquet, as `decloud pairs` writes them)")
    output: Path = Field(description="Folder of report.json, report.html and pictures; made where it is missing")
    checkpoint: str = Field("default", min_length=1, description="A .safetensors file with its card, or `default`")
    split: Split = Field("test", description="Rows that are scored: train, val, test, other or all")
    splits: str | None = Field(
        None, description="YAML or JSON file {group: train|val|test|other}, instead of the tables' own splits"
    )
    compare: tuple[str, ...] | None = Field(
        None,
        description="Further checkpoints, scored on the same pixels; empty: beside `default` its twin without guidance, `unguided`",
    )
    bands: Bands = Field("all", description="Bands that the network is given: all three sets, or 13, 12 or 4 bands")
    limit: int | None = Field(
        None, ge=1, description="At most so many chips, one of each group before a second of any; empty: all"
    )
    scenes: str | None = Field(
        None,
        min_length=1,
        description="Static STAC catalogue whose clear scenes are declouded whole, under other dates' clouds",
    )
    trials: int = Field(
        1, ge=1, description="With `scenes`: at most so many clear scenes, each under one other date's clouds"
    )
    predictions: Path | None = Field(None, description="Folder for every prediction as a GeoTIFF under its chip's name")
    device: DeviceName = Field("auto", description="auto, cpu, cuda or cuda:N")
    workers: int = Field(0, ge=0, description="Chips scored side by side on a CPU; 0 = one for each core")
    fail_below: tuple[str, ...] = Field(
        (), description="Scores to reach, [PROTOCOL.][REGION.]METRIC=VALUE: psnr, cc, ssim; like psnr=27"
    )
    fail_above: tuple[str, ...] = Field(
        (),
        description="Errors not to exceed, [PROTOCOL.][REGION.]METRIC=VALUE: rmse, mae, sam; like pair.cloudy.rmse=0.06",
    )

    @field_validator("fail_below", "fail_above")
    @classmethod
    def _bounds_fit(cls, texts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        try:
            for text in texts:
                parse_bound(text, "below" if info.field_name == "fail_below" else "above")
        except InvalidSettings as error:
            raise ValueError(str(error)) from None
        return texts

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the checkpoints beside which this one is scored."""
        if self.compare is not None:
            return self.compare
        return ("unguided",) if self.checkpoint == "default" else ()

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """What has to be reached."""
        below = tuple(parse_bound(text, "below") for text in self.fail_below)
        return below + tuple(parse_bound(text, "above") for text in self.fail_above)


def make_evaluate_request(values: dict[str, Any]) -> EvaluateRequest:
    """A request from plain values. Raises InvalidSettings, one line that names the option."""
    sides: tuple[Side, ...] = ("below", "above")
    for side in sides:
        # Told by themselves, in words that need no option's name in front of them.
        for text in values.get(f"fail_{side}") or ():
            parse_bound(str(text), side)
    try:
        return EvaluateRequest.model_validate(values)
    except ValidationError as error:
        raise InvalidSettings(one_line(error)) from None
