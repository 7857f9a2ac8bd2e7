"""Makes the models of the case folders, which are checked in: small ones, so that the cases need no Python.

    models.py plugins/score/cases

Made with scikit-learn 1.9.1, skl2onnx 1.20.0, lightgbm 4.7.0, onnxmltools 1.16.0 and onnx 1.23.2; the network has the layout in
which PyTorch's exporter writes Linear, ReLU and Softmax.
"""

import pathlib
import sys

import lightgbm
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

cases = pathlib.Path(sys.argv[1])
draw = np.random.default_rng(5)


def write(case, model):
    (cases / case / "files").mkdir(parents=True, exist_ok=True)
    (cases / case / "files/model.onnx").write_bytes(model.SerializeToString())


x = draw.normal(size=(400, 3)).astype(np.float32)
fraud = np.where(x[:, 0] + x[:, 1] * x[:, 2] > 0.5, "fraud", "honest")
boosted = GradientBoostingClassifier(n_estimators=8, max_depth=3, random_state=1).fit(x, fraud)
opset = {"": 17, "ai.onnx.ml": 3}
write("boosted-trees-with-labels", to_onnx(boosted, x[:1], options={id(boosted): {"zipmap": True}}, target_opset=opset))
ridge = make_pipeline(StandardScaler(), Ridge()).fit(x[:, :2], x[:, 0] * 3 - x[:, 1])
for case in ("linear-with-nested-features", "missing-is-a-number", "error-other-number-of-columns"):
    write(case, to_onnx(ridge, x[:1, :2], target_opset=opset))
holed = x.copy()
holed[::4, 0] = np.nan
grown = lightgbm.LGBMRegressor(n_estimators=8, num_leaves=6, verbose=-1, random_state=1, deterministic=True, n_jobs=1)
grown.fit(holed, x[:, 0] + x[:, 2])
write("lightgbm-missing-is-nan", convert_lightgbm(grown, initial_types=[("input", FloatTensorType([None, 3]))], target_opset=15))

constants = {"0.weight": draw.normal(size=(8, 3)), "0.bias": draw.normal(size=8), "2.weight": draw.normal(size=(3, 8)), "2.bias": draw.normal(size=3)}
constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
nodes = [
    helper.make_node("Gemm", ["input", "0.weight", "0.bias"], ["/0/Gemm_output_0"], name="/0/Gemm", alpha=1.0, beta=1.0, transB=1),
    helper.make_node("Relu", ["/0/Gemm_output_0"], ["/1/Relu_output_0"], name="/1/Relu"),
    helper.make_node("Gemm", ["/1/Relu_output_0", "2.weight", "2.bias"], ["/2/Gemm_output_0"], name="/2/Gemm", alpha=1.0, beta=1.0, transB=1),
    helper.make_node("Softmax", ["/2/Gemm_output_0"], ["output"], name="/3/Softmax", axis=1),
]
takes = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])
gives = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])
network = helper.make_model(helper.make_graph(nodes, "main_graph", [takes], [gives], constants), opset_imports=[helper.make_opsetid("", 17)])
network.ir_version = 8
for case in ("network-of-a-vector", "error-no-such-score"):
    write(case, network)
