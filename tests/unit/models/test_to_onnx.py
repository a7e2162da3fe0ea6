"""What the exporter to ONNX is given instead of what it cannot write."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from cahp.models import to_onnx


class Toy(nn.Module):
    """Embeds tokens, and squeezes a dimension of 1 without saying which."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def _can_set_experts_implementation(self) -> bool:
        return False

    def forward(self, input_ids: Tensor) -> Any:
        return SimpleNamespace(logits=self.table(input_ids).sum(1, keepdim=True).squeeze())


# PyTorch's exporter uses what PyTorch has replaced.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_batch_of_one_and_large_weights_beside_their_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="what runs ONNX files is not installed")
    monkeypatch.setattr(to_onnx, "LARGEST_FILE", 8)
    network, squeeze = Toy(), Tensor.squeeze
    to_onnx.write(network, {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 6]])}, tmp_path / "model.onnx")
    assert Tensor.squeeze is squeeze
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
    assert [axis.dim_param for axis in graph.input[0].type.tensor_type.shape.dim] == ["batch", "length"]
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    for asked in ([[7, 8]], [[1], [2], [3]]):
        (found,) = session.run(["logits"], {"input_ids": np.array(asked)})
        assert found.shape == (len(asked), 4)
        assert np.allclose(found, network.table.weight.detach().numpy()[np.array(asked)].sum(1), atol=1e-6)
