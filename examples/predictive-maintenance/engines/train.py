"""What history.toml delivered becomes models/life.onnx. Needs scikit-learn and skl2onnx."""

import glob
import json
import os
import tomllib

import numpy as np
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import GroupKFold

# More than this many flights before its end an engine shows nothing: the target is piecewise linear, as in Heimes (2008).
CAP = 125


def chain(name):
    with open(name, "rb") as file:
        return tomllib.load(file)["streams"]["engines"]["transforms"]


use, history = chain("wasmill.toml"), chain("history.toml")
score = next(at for at, transform in enumerate(use) if transform["plugin"] == "score")
if use[:score] != history:
    raise SystemExit("the chains of history.toml and wasmill.toml differ before `score`: a model would see other numbers")
names = use[score]["config"]["features"]


def value(flight, name):
    for part in name.split("."):
        flight = flight[part]
    return 0 if flight is None else flight


flights = []
for name in sorted(glob.glob("history/*")):
    with open(name, encoding="utf-8") as file:
        flights += [json.loads(line) for line in file]
end = {}
for flight in flights:
    end[flight["unit"]] = max(flight["cycle"], end.get(flight["unit"], 0))
features = np.array([[value(flight, name) for name in names] for flight in flights], dtype=np.float32)
engines = np.array([flight["unit"] for flight in flights])
life = np.array([min(end[flight["unit"]] - flight["cycle"], CAP) for flight in flights], dtype=np.float32)


def model():
    return GradientBoostingRegressor(n_estimators=150, max_depth=4, learning_rate=0.08, min_samples_leaf=20, subsample=0.5,
                                     max_features=0.2, random_state=0)


# Of engines that the model has not seen, all their flights.
missed = []
for seen, unseen in GroupKFold(3).split(features, life, engines):
    missed.append(model().fit(features[seen], life[seen]).predict(features[unseen]) - life[unseen])
print(f"{len(flights)} flights of {len(end)} engines, {len(names)} features; "
      f"held-out engines in turn: RMSE {np.sqrt(np.mean(np.concatenate(missed) ** 2)):.1f} of all flights (at most {CAP})")

onnx = to_onnx(model().fit(features, life), features[:1], target_opset={"": 17, "ai.onnx.ml": 3})
os.makedirs("models", exist_ok=True)
with open("models/life.part", "wb") as file:
    file.write(onnx.SerializeToString())
os.rename("models/life.part", "models/life.onnx")
