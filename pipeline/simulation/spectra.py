"""Surface reflectance of simulated ground, by class and band, and the optics of simulated cloud.

The values are plausible, not measured for this project: they follow the shape of the spectra in the USGS spectral
library (version 7) and of clear Sentinel-2 L2A scenes of central Europe in summer.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

SIMULATED_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""Bands of an L2A product: all of the instrument but B10. The columns of every table here."""

SPECTRA = MappingProxyType(
    {
        name: np.array(values, np.float32)
        for name, values in {
            #            B01    B02    B03    B04    B05    B06    B07    B08    B8A    B09    B11    B12
            "river":    (0.040, 0.050, 0.072, 0.050, 0.045, 0.028, 0.027, 0.022, 0.020, 0.017, 0.009, 0.007),
            "lake":     (0.030, 0.038, 0.052, 0.026, 0.022, 0.014, 0.013, 0.011, 0.010, 0.009, 0.005, 0.004),
            "gravel":   (0.130, 0.150, 0.180, 0.200, 0.212, 0.220, 0.226, 0.232, 0.238, 0.240, 0.265, 0.230),
            "broadleaf": (0.016, 0.021, 0.042, 0.022, 0.075, 0.250, 0.320, 0.340, 0.350, 0.352, 0.160, 0.070),
            "conifer":  (0.014, 0.017, 0.029, 0.018, 0.048, 0.155, 0.195, 0.210, 0.220, 0.225, 0.095, 0.040),
            "meadow":   (0.029, 0.037, 0.074, 0.046, 0.115, 0.285, 0.355, 0.380, 0.395, 0.398, 0.240, 0.130),
            "maize":    (0.021, 0.028, 0.058, 0.030, 0.098, 0.340, 0.435, 0.455, 0.468, 0.470, 0.215, 0.098),
            "beet":     (0.022, 0.030, 0.072, 0.029, 0.112, 0.385, 0.500, 0.528, 0.540, 0.541, 0.245, 0.108),
            "sunflower": (0.031, 0.040, 0.084, 0.054, 0.130, 0.335, 0.415, 0.438, 0.450, 0.452, 0.250, 0.132),
            "vine":     (0.041, 0.051, 0.080, 0.078, 0.122, 0.215, 0.255, 0.275, 0.288, 0.291, 0.258, 0.178),
            "cereal":   (0.056, 0.071, 0.110, 0.142, 0.182, 0.225, 0.258, 0.282, 0.300, 0.308, 0.355, 0.245),
            "stubble":  (0.070, 0.088, 0.126, 0.162, 0.196, 0.226, 0.248, 0.270, 0.286, 0.293, 0.365, 0.285),
            "soil":     (0.052, 0.064, 0.088, 0.113, 0.132, 0.150, 0.164, 0.179, 0.190, 0.195, 0.262, 0.222),
            "loess":    (0.076, 0.095, 0.134, 0.172, 0.197, 0.218, 0.234, 0.252, 0.264, 0.270, 0.345, 0.298),
            "asphalt":  (0.076, 0.083, 0.094, 0.100, 0.105, 0.112, 0.117, 0.123, 0.128, 0.130, 0.155, 0.140),
            "concrete": (0.132, 0.148, 0.172, 0.190, 0.200, 0.210, 0.218, 0.228, 0.234, 0.236, 0.272, 0.245),
            "tile":     (0.055, 0.064, 0.088, 0.142, 0.165, 0.180, 0.190, 0.202, 0.212, 0.216, 0.262, 0.232),
            "slate":    (0.096, 0.106, 0.117, 0.122, 0.127, 0.133, 0.138, 0.144, 0.148, 0.150, 0.180, 0.168),
            "hall":     (0.300, 0.330, 0.350, 0.360, 0.366, 0.370, 0.373, 0.378, 0.380, 0.380, 0.352, 0.318),
            "garden":   (0.034, 0.043, 0.070, 0.057, 0.108, 0.215, 0.258, 0.278, 0.290, 0.292, 0.202, 0.122),
        }.items()
    }
)  # fmt: skip
"""Class name -> reflectance 0..1, (bands,) in the order of `SIMULATED_BANDS`."""

DIRECT = np.array((0.60, 0.64, 0.69, 0.73, 0.75, 0.78, 0.80, 0.82, 0.83, 0.84, 0.91, 0.94), np.float32)
"""Share of the light on the ground that comes straight from the sun in clear air, (bands,): a full shadow keeps the rest,
which is the blue sky and the light that neighbouring clouds scatter."""

CLOUD_ALBEDO = np.array((0.99, 1.0, 1.0, 1.0, 1.0, 0.99, 0.985, 0.985, 0.975, 0.93, 0.80, 0.66), np.float32)
"""Factor on the reflectance of water cloud, (bands,): droplets and vapour absorb beyond 0.9 micrometres."""

VEIL_THICKNESS = np.array((1.10, 1.06, 1.02, 0.98, 0.97, 0.95, 0.94, 0.92, 0.91, 0.90, 0.62, 0.52), np.float32)
"""Optical thickness of an ice veil relative to 0.6 micrometres, (bands,): nearly grey, then absorbed by ice."""
