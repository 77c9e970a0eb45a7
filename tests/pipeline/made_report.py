"""A document of report.json with figures drawn by a generator: as large as asked, with everything that the page has to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

METRICS = ("rmse", "psnr", "mae", "sam", "cc", "ssim_same", "ssim_valid")
METHODS = {
    "default": 0.018,
    "unguided": 0.021,
    "first guess": 0.023,
    "identity": 0.21,
    "mean fill": 0.06,
    "telea": 0.05,
    "nearest date": 0.024,
    "mean of dates": 0.026,
    "linear in time": 0.025,
    "least-cloudy composite": 0.033,
    "median composite": 0.03,
    "skips the hard ones": 0.004,
}
"""Name -> typical RMSE."""
FEWER = "skips the hard ones"
"""A method that has nothing to say of two images in three."""
REGIONS = {"all": 0.8, "cloudy": 1.0, "clear_input": 0.02, "clear_target": 0.5, "shadow": 0.9}
COVERS = ("thin", "to 30 %", "30-70 %", "over 70 %", "full")
GROUNDS = ("water", "snow", "vegetation", "built-up or bare")
PROTOCOLS = ("pair", "pair+dates", "synthetic", "synthetic+dates", "seed")
BAND_SETS = {
    "13 bands": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
    "4 bands": ("B02", "B03", "B04", "B08"),
}
HOSTILE = '<script>alert("id")</script>&amp;<!--data-->'
"""An id as no file should have it."""


def scores(rmse: float, rng: np.random.Generator) -> dict[str, float | None]:
    if rmse == 0:
        return {**dict.fromkeys(METRICS, 0.0), "psnr": None, "cc": None, "ssim_same": 1.0, "ssim_valid": 1.0}
    return {
        "rmse": rmse,
        "psnr": float(-20 * np.log10(rmse)),
        "mae": 0.7 * rmse,
        "sam": 150 * rmse,
        "cc": float(np.clip(1 - 4 * rmse, -1, 1)),
        "ssim_same": float(np.clip(1 - 5 * rmse + rng.normal(0, 0.01), 0, 1)),
        "ssim_valid": float(np.clip(1 - 6 * rmse, 0, 1)),
    }


def row(
    part: tuple[str, str, str, str, str, str, str], rmse: float, rng: np.random.Generator, images: int
) -> dict[str, Any]:
    mean = scores(rmse, rng)
    names = ("protocol", "bands", "cover", "sky", "ground", "region", "method")
    counts = {
        "images": images,
        "groups": 3,
        "not_finite": 0,
        "identical": images if rmse == 0 else 0,
        "undefined": 1 if part[6] == "telea" else 0,
    }
    spread = {
        side: {k: None if v is None else v * factor for k, v in mean.items()}
        for side, factor in (("low", 0.9), ("high", 1.1))
    }
    pooled = {k: None if v is None else 1.05 * v for k, v in mean.items()}
    return {**dict(zip(names, part, strict=True)), **counts, "mean": mean, **spread, "pooled": pooled}


def made_document(
    images: int = 24,
    *,
    seed: int = 0,
    scenes: int = 1,
    protocols: Sequence[str] = ("pair", "seed"),
    covers: Sequence[str] = ("thin",),
    grounds: Sequence[str] = ("water",),
) -> dict[str, Any]:
    """A document of `images` images, one after the other over the protocols and band sets, with rows of the covers and grounds."""
    rng = np.random.default_rng(seed)
    listed = [made_image(index, rng, protocols) for index in range(images)]
    rows, per_band = [], []
    for protocol in protocols:
        for bands, members in BAND_SETS.items():
            for region, factor in REGIONS.items():
                for method, typical in METHODS.items():
                    error = 0.0 if (method, region) == ("identity", "clear_input") else typical * factor
                    parts = [("any", "any"), *((cover, "any") for cover in covers), *(("any", g) for g in grounds)]
                    rows += [
                        row(
                            (protocol, bands, cover, "", ground, region, method),
                            error * rng.uniform(0.9, 1.1),
                            rng,
                            2 if method == FEWER else 6,
                        )
                        for cover, ground in parts
                    ]
                    per_band += [
                        {
                            "protocol": protocol,
                            "bands": bands,
                            "region": region,
                            "method": method,
                            "band": band,
                            "rmse": error * rng.uniform(0.5, 1.5),
                            "mae": error,
                            "psnr": None,
                            "ssim_valid": 0.9,
                        }
                        for band in members
                    ]
    return {
        "schema_version": 1,
        "kind": "declouder evaluation",
        "created": "2026-11-22T19:25:40+00:00",
        "software": {"declouder": "0.1.0", "torch": "2.13.0"},
        "checkpoint": checkpoint("default", "error_feedback"),
        "compared": [checkpoint("unguided", "none")],
        "tables": [{"file": "sen12mscr.parquet", "layout": "sen12mscr", "split_hash": "ab" * 32}],
        "split": "test",
        "split_hash": "cd" * 32,
        "splits_from": "public_splits.yaml",
        "mask": ["s2cloudless", "scl"],
        "ssim": {
            "ssim_same": "Gaussian 11 x 11, sigma 1.5, zero padding",
            "ssim_valid": "the same, windows inside the image only",
        },
        "settings": {"references": 2, "window": 30, "seed": 0},
        "seconds": 151.2,
        "chips": {
            "rows": images + 2,
            "used": images,
            "unread": 0,
            "left_out": [{"id": HOSTILE, "reason": "no truth"}, {"id": "p9", "reason": "band B10 is missing"}],
        },
        "rows": rows,
        "per_band": per_band,
        "confidence": made_confidence(rng),
        "images": listed,
        "scenes": [
            {
                "id": f"T29RKH scene {number}",
                "truth": "S2B_29RKH_20220813",
                "clouds_of": "S2A_29RKH_20220818",
                "cover": 0.43,
                "bands": "12 bands",
                "rows": [
                    row(("scene", "12 bands", "any", "", "any", region, method), typical * factor, rng, 1)
                    for region, factor in REGIONS.items()
                    for method, typical in list(METHODS.items())[:4]
                ],
                "seconds": 75.0,
                "pictures": {},
            }
            for number in range(scenes)
        ],
    }


def made_image(index: int, rng: np.random.Generator, protocols: Sequence[str]) -> dict[str, Any]:
    protocol = protocols[index % len(protocols)]
    bands = list(BAND_SETS)[(index // len(protocols)) % len(BAND_SETS)]
    cover = float(rng.uniform(0.02, 1))
    hard = float(rng.lognormal(0, 0.5)) * (0.4 + cover)
    chip = HOSTILE if index == 0 else f"ROIs1158_spring_39_p{index}"
    return {
        "id": f"{chip}.{protocol}.{bands}",
        "chip": chip,
        "group": f"ROIs1158_spring_{index % 3}",
        "protocol": protocol,
        "bands": bands,
        "cover": cover,
        "cover_class": COVERS[min(int(cover * 5), 4)],
        "sky": "cirrus" if protocol.startswith("synthetic") else "",
        "ground": GROUNDS[index % 4],
        "scores": {
            method: {
                region: scores(typical * factor * hard * rng.uniform(0.8, 1.25), rng)
                for region, factor in REGIONS.items()
            }
            for method, typical in METHODS.items()
        },
        "pictures": {},
    }


def made_confidence(rng: np.random.Generator) -> dict[str, Any]:
    steps = np.linspace(0.05, 0.95, 10)
    groups = {
        name: {
            "reliability": [
                {"said": float(s), "found": float(np.clip(s + lean * s * (1 - s), 0, 1)), "share": float(share)}
                for s, share in zip(steps, rng.dirichlet(np.ones(10)), strict=True)
            ],
            "expected_error": 0.012,
            "found_error": 0.011,
        }
        for name, lean in {"VIS": 0.1, "red edge": -0.1, "NIR": 0.3, "SWIR": -0.3}.items()
    }
    risk = [
        {"coverage": float(c), "rmse_by_confidence": 0.02 * c**0.6, "rmse_oracle": 0.02 * c, "rmse_random": 0.02}
        for c in np.linspace(0.05, 1, 20)
    ]
    return {"groups": groups, "risk_coverage": risk}


def checkpoint(name: str, guidance: str) -> dict[str, Any]:
    return {"name": name, "digest": "9f" * 32, "parameters": 6_103_000, "size": "small", "guidance": guidance}
