"""Trains models, and measures ONNX Runtime on one thread whenever it is asked to.

    beside.py DIRECTORY

Writes NAME.onnx of each model and rows.f32: 1,000 rows of 20 numbers. Then, for each line "NAME ROWS SECONDS" that comes in, it runs
the model over the first ROWS rows again and again for so long, and writes how many rows it did in a second.
"""

import pathlib
import sys
import time
import warnings

import lightgbm
import numpy as np
import onnxruntime
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.neural_network import MLPRegressor

warnings.filterwarnings("ignore")
COLUMNS, ROWS = 20, 1000

directory = pathlib.Path(sys.argv[1])
draw = np.random.default_rng(11)
x = draw.normal(size=(8000, COLUMNS)).astype(np.float32)
y = x[:, 0] * 2 + x[:, 1] ** 2 - x[:, 2] * x[:, 3] + draw.normal(size=len(x)) * 0.1
rows = draw.normal(size=(ROWS, COLUMNS)).astype(np.float32)
rows.tofile(directory / "rows.f32")

grown = lightgbm.LGBMRegressor(n_estimators=100, max_depth=8, num_leaves=200, verbose=-1, random_state=1, n_jobs=1).fit(x, y)
boosted = GradientBoostingRegressor(n_estimators=100, max_depth=6, random_state=1).fit(x, y)
network = MLPRegressor(hidden_layer_sizes=(64, 32), max_iter=10, random_state=1).fit(x, y)
opset = {"": 17, "ai.onnx.ml": 3}
models = {
    "lightgbm_100_trees_depth_8": convert_lightgbm(grown, initial_types=[("input", FloatTensorType([None, COLUMNS]))], target_opset=15),
    "scikit_100_trees_depth_6": to_onnx(boosted, x[:1], target_opset=opset),
    "scikit_network_64_32": to_onnx(network, x[:1], target_opset=opset),
}
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
sessions = {}
for name, model in models.items():
    encoded = model.SerializeToString()
    (directory / f"{name}.onnx").write_bytes(encoded)
    sessions[name] = onnxruntime.InferenceSession(encoded, options, providers=["CPUExecutionProvider"])
print(" ".join(models), flush=True)

for line in sys.stdin:
    name, count, seconds = line.split()
    count, seconds = int(count), float(seconds)
    session = sessions[name]
    # Bound once, so that little of what is measured is Python's.
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, np.ascontiguousarray(rows[:count]))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    session.run_with_iobinding(binding)
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            session.run_with_iobinding(binding)
        calls += 10
    print(calls * count / (time.perf_counter() - start), flush=True)
