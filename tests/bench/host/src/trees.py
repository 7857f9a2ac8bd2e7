"""Trains what `decide` scores with: 100 trees of LightGBM over 12 numbers, the past of a card among them.

    trees.py FILE
"""

import pathlib
import sys
import warnings

import lightgbm
import numpy as np
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

warnings.filterwarnings("ignore")
COLUMNS = 12

draw = np.random.default_rng(11)
x = np.abs(draw.normal(size=(20000, COLUMNS)) * 50).astype(np.float32)
y = x[:, 0] * 2 - x[:, 6] + x[:, 1] * x[:, 8] / 50 + draw.normal(size=len(x))
trees = lightgbm.LGBMRegressor(n_estimators=100, max_depth=8, num_leaves=200, verbose=-1, random_state=1, n_jobs=1).fit(x, y)
model = convert_lightgbm(trees, initial_types=[("input", FloatTensorType([None, COLUMNS]))], target_opset=15)
pathlib.Path(sys.argv[1]).write_bytes(model.SerializeToString())
