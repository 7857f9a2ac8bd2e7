"""Trains models with scikit-learn and LightGBM, exports them as ONNX, and writes what they and ONNX Runtime say of rows.

    train.py DIRECTORY

For each model NAME.onnx, and NAME.json: {"columns": .., "rows": [.., null for no number], "runtime": {OUTPUT: {"shape", "values"}},
"trainer": {OUTPUT: {"shape", "values"}}}. Networks in the layout of PyTorch's exporter are put together with the package
`onnx`: PyTorch itself is too large for a test.
"""

import json
import pathlib
import sys
import warnings

import lightgbm
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

warnings.filterwarnings("ignore")
COLUMNS, TRAINED, ASKED = 20, 1500, 2000


def rows(count, seed):
    return np.random.default_rng(seed).normal(size=(count, COLUMNS)).astype(np.float32)


def shaped(values):
    values = np.asarray(values)
    listed = values.astype(str if values.dtype.kind in "OSU" else values.dtype).reshape(-1).tolist()
    return {"shape": list(values.shape), "values": listed}


def of_runtime(value):
    """A ZipMap gives a map of each row."""
    if isinstance(value, list):
        return np.array([list(row.values()) for row in value], dtype=np.float32)
    return value


def write(directory, name, model, asked, trainer):
    onnx.checker.check_model(model)
    encoded = model.SerializeToString()
    (directory / f"{name}.onnx").write_bytes(encoded)
    session = onnxruntime.InferenceSession(encoded, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    said = session.run(names, {session.get_inputs()[0].name: asked})
    runtime = {output: shaped(of_runtime(value)) for output, value in zip(names, said)}
    # What the trainer says has the order of the outputs.
    said = {output: shaped(value) for output, value in zip(names, trainer)}
    numbers = [None if np.isnan(number) else number for number in asked.reshape(-1).tolist()]
    text = {"columns": asked.shape[1], "rows": numbers, "runtime": runtime, "trainer": said}
    (directory / f"{name}.json").write_text(json.dumps(text))


def of_scikit(directory, x, asked, regression, two, three, texts):
    regressors = {
        "linear": LinearRegression(),
        "ridge": make_pipeline(StandardScaler(), Ridge()),
        "boosted": GradientBoostingRegressor(n_estimators=100, max_depth=6, random_state=1),
        "forest": RandomForestRegressor(50, max_depth=9, random_state=1),
        "extra_trees": ExtraTreesRegressor(30, max_depth=7, random_state=1),
        "network": make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(64, 32), max_iter=40, random_state=1)
        ),
    }
    for name, model in regressors.items():
        model.fit(x, regression)
        exported = to_onnx(model, x[:1], target_opset={"": 17, "ai.onnx.ml": 3})
        write(directory, f"scikit_{name}", exported, asked, [model.predict(asked).reshape(-1, 1)])
    logistic = lambda: LogisticRegression(max_iter=500)
    classifiers = {
        "logistic": (logistic(), two),
        "logistic_of_three": (logistic(), three),
        "logistic_of_texts": (logistic(), texts),
        "boosted": (GradientBoostingClassifier(n_estimators=100, max_depth=6, random_state=1), two),
        "boosted_of_three": (GradientBoostingClassifier(n_estimators=20, max_depth=3, random_state=1), three),
        "forest": (RandomForestClassifier(50, max_depth=8, random_state=1), two),
        "forest_of_three": (RandomForestClassifier(50, max_depth=8, random_state=1), three),
        "tree_of_texts": (DecisionTreeClassifier(max_depth=6, random_state=1), texts),
        "network": (
            make_pipeline(MinMaxScaler(), MLPClassifier(hidden_layer_sizes=(64, 32), max_iter=40, random_state=1)),
            two,
        ),
        "network_of_three": (
            MLPClassifier(hidden_layer_sizes=(64,), activation="tanh", max_iter=40, random_state=1),
            three,
        ),
        "prepared": (make_pipeline(SimpleImputer(), RobustScaler(), Normalizer(), logistic()), two),
        "prepared_otherwise": (make_pipeline(MaxAbsScaler(), Normalizer("l1"), Binarizer(threshold=0.01), logistic()), three),
        "descent": (SGDClassifier(loss="log_loss", random_state=1), two),
    }
    for name, (model, labels) in classifiers.items():
        model.fit(x, labels)
        trainer = [model.predict(asked), model.predict_proba(asked)]
        for zipped in (True, False):
            options = {id(model): {"zipmap": zipped}}
            exported = to_onnx(model, x[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3})
            suffix = "_zipped" if zipped else ""
            write(directory, f"scikit_{name}{suffix}", exported, asked, trainer)


def of_lightgbm(directory, x, asked, regression, two, three):
    settings = {"verbose": -1, "random_state": 1, "deterministic": True, "n_jobs": 1}
    takes = [("input", FloatTensorType([None, COLUMNS]))]
    model = lightgbm.LGBMRegressor(n_estimators=100, max_depth=6, **settings).fit(x, regression)
    exported = convert_lightgbm(model, initial_types=takes, target_opset=15)
    write(directory, "lightgbm_regressor", exported, asked, [model.predict(asked).reshape(-1, 1)])
    holed = asked.copy()
    holed[::3, 0] = np.nan
    # Where values are missing in training, every node says which way they go.
    missing = x.copy()
    missing[::4, 0] = np.nan
    model = lightgbm.LGBMRegressor(n_estimators=30, **settings).fit(missing, regression)
    exported = convert_lightgbm(model, initial_types=takes, target_opset=15)
    write(directory, "lightgbm_missing", exported, holed, [model.predict(holed).reshape(-1, 1)])
    for name, labels in (("two", two), ("three", three)):
        model = lightgbm.LGBMClassifier(n_estimators=30, **settings).fit(x, labels)
        trainer = [model.predict(asked), model.predict_proba(asked)]
        for zipped in (True, False):
            exported = convert_lightgbm(model, initial_types=takes, zipmap=zipped, target_opset=15)
            suffix = "_zipped" if zipped else ""
            write(directory, f"lightgbm_{name}{suffix}", exported, asked, trainer)


def of_pytorch(directory, asked):
    """As `torch.onnx.export` writes Linear, BatchNorm1d, LayerNorm, Dropout (in evaluation) and activations."""
    generator = np.random.default_rng(3)
    for last in ("Sigmoid", "Softmax", None):
        constants, nodes, value, width = [], [], "input", COLUMNS

        def constant(name, array):
            constants.append(numpy_helper.from_array(np.asarray(array, dtype=np.float32), name))
            return name

        def node(operator, inputs, **attributes):
            nonlocal value
            output = f"/{len(nodes)}/{operator}_output_0"
            nodes.append(helper.make_node(operator, inputs, [output], name=f"/{len(nodes)}/{operator}", **attributes))
            value = output

        for number, (size, activation) in enumerate([(64, "Relu"), (32, "Gelu"), (3, None)]):
            weight = constant(f"{number}.weight", generator.normal(size=(size, width)) / np.sqrt(width))
            bias = constant(f"{number}.bias", generator.normal(size=size))
            node("Gemm", [value, weight, bias], alpha=1.0, beta=1.0, transB=1)
            if number == 0:
                parts = ["weight", "bias", "running_mean", "running_var"]
                arrays = [generator.uniform(0.5, 1.5, size) for _ in parts]
                names = [constant(f"norm.{part}", array) for part, array in zip(parts, arrays)]
                node("BatchNormalization", [value, *names], epsilon=1e-5, momentum=0.9)
                node("Relu", [value])
            if number == 1:
                names = [constant(f"layer.{part}", generator.uniform(0.5, 1.5, size)) for part in ("weight", "bias")]
                node("LayerNormalization", [value, *names], axis=-1, epsilon=1e-5)
                # Gelu of versions before 20, as the exporter writes it.
                before = value
                node("Div", [value, constant("root", 1.4142135)])
                node("Erf", [value])
                node("Add", [value, constant("one", 1.0)])
                node("Mul", [before, value])
                node("Mul", [value, constant("half", 0.5)])
            width = size
        if last:
            node(last, [value], **({"axis": 1} if last == "Softmax" else {}))
        nodes[-1].output[0] = "output"
        takes = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", COLUMNS])
        gives = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])
        graph = helper.make_graph(nodes, "main_graph", [takes], [gives], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="pytorch")
        model.ir_version = 8
        write(directory, f"pytorch_{(last or 'plain').lower()}", model, asked, [])


def main():
    directory = pathlib.Path(sys.argv[1])
    x, asked = rows(TRAINED, 7), rows(ASKED, 8)
    noise = np.random.default_rng(9).normal(size=TRAINED) * 0.1
    regression = (x[:, 0] * 2 + x[:, 1] ** 2 - x[:, 2] * x[:, 3] + noise).astype(np.float32)
    two = (regression > 0.5).astype(int)
    three = np.digitize(regression, [-1, 1.5])
    texts = np.array(["honest", "fraud"])[two]
    of_scikit(directory, x, asked, regression, two, three, texts)
    of_lightgbm(directory, x, asked, regression, two, three)
    of_pytorch(directory, asked)


if __name__ == "__main__":
    main()
