"""Trains a small network with PyTorch and exports it with both of its exporters, for `tests/pytorch.rs`.

    pip install torch onnxscript onnx && python export.py

Its results lie beside it, so that no test needs PyTorch, which is too large for that: `dynamo.onnx` and `traced.onnx`, and
`rows.json` with rows and what the network says of them. They were made with PyTorch 2.15.0.
"""

import json

import numpy as np
import onnx
import torch

COLUMNS = 6
torch.manual_seed(7)
random = np.random.default_rng(3)
asked = random.normal(size=(40, COLUMNS)).astype(np.float32)
model = torch.nn.Sequential(
    torch.nn.Linear(COLUMNS, 8),
    torch.nn.BatchNorm1d(8),
    torch.nn.ReLU(),
    torch.nn.Dropout(0.2),
    torch.nn.Linear(8, 4),
    torch.nn.LayerNorm(4),
    torch.nn.GELU(),
    torch.nn.Linear(4, 1),
    torch.nn.Sigmoid(),
)
optimizer = torch.optim.Adam(model.parameters(), 0.01)
x = torch.from_numpy(random.normal(size=(500, COLUMNS)).astype(np.float32))
y = ((x[:, 0] * x[:, 1] + x[:, 2]) > 0).float().unsqueeze(1)
model.train()
for _ in range(100):
    optimizer.zero_grad()
    torch.nn.functional.binary_cross_entropy(model(x), y).backward()
    optimizer.step()
model.eval()
names = {"input_names": ["input"], "output_names": ["output"]}
rows = torch.zeros(2, COLUMNS)
batch = ({0: torch.export.Dim("batch")},)
torch.onnx.export(model, rows, "dynamo.onnx", dynamic_shapes=batch, external_data=False, **names)
# Without its notes of where in the script each node comes from.
exported = onnx.load("dynamo.onnx")
for node in exported.graph.node:
    node.ClearField("metadata_props")
onnx.save(exported, "dynamo.onnx")
torch.onnx.export(model, rows, "traced.onnx", dynamo=False, dynamic_axes={"input": {0: "batch"}}, **names)
said = model(torch.from_numpy(asked)).detach().reshape(-1).tolist()
with open("rows.json", "w", encoding="utf-8") as file:
    json.dump({"columns": COLUMNS, "rows": asked.reshape(-1).tolist(), "output": said}, file)
