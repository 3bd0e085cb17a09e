"""torch.compile with inductor, the backend that people use: compiled equals eager.

That every method compiles into one graph is in `test_methods_contract.py`, by a backend that needs
no compiler. Here C++ is generated and built, half a minute a method.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _a_compiler() -> None:
    """Inductor builds C++ against Python's headers."""
    from torch._inductor import cpp_builder, exc  # a second that collecting tests need not wait

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        pytest.skip("no C++ compiler on this machine")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("no Python.h on this machine")


@pytest.fixture(autouse=True)
def _caches_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was compiled before, by whatever version, is not what is tested."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()


def step(vit: nn.Module, parameters: dict[str, nn.Parameter]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradient of each parameter."""
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(2))
    logits = vit(images)
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 3]))
    return logits.detach(), dict(
        zip(parameters, torch.autograd.grad(loss, parameters.values()), strict=True)
    )


@pytest.mark.parametrize("name", ["lora", "tucker3"])
def test_compiled_equals_eager(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": 48, "depth": 1, "num_heads": 3}
    adapted = adapters.attach(VisionTransformer(num_classes=5, **sizes), name)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.adapter_parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    parameters = adapted.trainable_parameters
    expected = step(adapted.vit, parameters)
    compiled = step(torch.compile(adapted.vit, fullgraph=True), parameters)
    torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-6)
    assert all(gradient.abs().sum() > 0 for gradient in expected[1].values())
    assert list(tmp_path.rglob("*.so")), "nothing was compiled"
