"""Trains the models that are compared, and draws the rows.

    models.py DIRECTORY

Writes NAME.onnx of each and rows.f32: 4,096 rows of 12 numbers. Needs lightgbm, scikit-learn, skl2onnx, onnxmltools.
"""

import pathlib
import sys
import warnings

import lightgbm
import numpy as np
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor

warnings.filterwarnings("ignore")
COLUMNS, ROWS = 12, 4096

directory = pathlib.Path(sys.argv[1])
draw = np.random.default_rng(11)
x = np.abs(draw.normal(size=(20000, COLUMNS)) * 50).astype(np.float32)
y = x[:, 0] * 2 - x[:, 6] + x[:, 1] * x[:, 8] / 50 + draw.normal(size=len(x))
np.abs(draw.normal(size=(ROWS, COLUMNS)) * 50).astype(np.float32).tofile(directory / "rows.f32")

# The trees are those of `decide` in the bench of the host.
trees = lightgbm.LGBMRegressor(n_estimators=100, max_depth=8, num_leaves=200, verbose=-1, random_state=1, n_jobs=1).fit(x, y)
network = MLPRegressor(hidden_layer_sizes=(64, 32), max_iter=5, random_state=1).fit(x, y)
opset = {"": 17, "ai.onnx.ml": 3}
models = {
    "lightgbm_100_trees": convert_lightgbm(trees, initial_types=[("input", FloatTensorType([None, COLUMNS]))], target_opset=15),
    "linear": to_onnx(LinearRegression().fit(x, y), x[:1], target_opset=opset),
    "network_64_32": to_onnx(network, x[:1], target_opset=opset),
}
for name, model in models.items():
    (directory / f"{name}.onnx").write_bytes(model.SerializeToString())
