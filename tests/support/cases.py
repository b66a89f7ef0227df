"""The table of models that the tests export: every cell, wiring, mode and mapping, each small, each with its seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from ncps.torch import LTC, CfC
from ncps.wirings import NCP, AutoNCP, FullyConnected, Random, Wiring
from torch import nn

INPUTS = 5


@dataclass(frozen=True)
class Case:
    """One model: its name, how to make it, and its seed."""

    name: str
    make: Callable[[], nn.Module]
    seed: int = 7

    def build(self) -> nn.Module:
        torch.manual_seed(self.seed)
        module = self.make()
        with torch.no_grad():  # away from initial values that hide mistakes: ones, zeros and equal biases
            for name, parameter in module.named_parameters():
                if "mask" not in name and "erev" not in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        if self.name == "ltc-explicit":
            _clip(module)
        return module

    def __str__(self) -> str:
        return f"{self.name}-seed{self.seed}"


def ring(units: int = 9) -> Wiring:
    """A user's own wiring: a ring of neurons, two of them motors, each input on one neuron."""
    wiring = Wiring(units)
    wiring.set_output_dim(2)
    wiring.build(INPUTS)
    for k in range(units):
        wiring.add_synapse(k, (k + 1) % units, 1 if k % 2 else -1)
    for k in range(INPUTS):
        wiring.add_sensory_synapse(k, k, 1)
    return wiring


CASES = [
    Case("ltc-units", lambda: LTC(INPUTS, 8)),
    Case("ltc-units-large", lambda: LTC(INPUTS, 48)),  # enough synapses for the grid form
    Case("ltc-autoncp", lambda: LTC(INPUTS, AutoNCP(16, 3))),
    Case("ltc-ncp", lambda: LTC(INPUTS, NCP(6, 4, 2, 3, 2, 2, 3))),
    Case("ltc-random", lambda: LTC(INPUTS, Random(10, 2, sparsity_level=0.6))),
    Case("ltc-fully", lambda: LTC(INPUTS, FullyConnected(8, 2))),
    Case("ltc-own-wiring", lambda: LTC(INPUTS, ring())),
    Case("ltc-linear-maps", lambda: LTC(INPUTS, AutoNCP(12, 2), input_mapping="linear", output_mapping="linear")),
    Case("ltc-no-maps", lambda: LTC(INPUTS, AutoNCP(12, 2), input_mapping=None, output_mapping=None)),
    Case("ltc-unfolds", lambda: LTC(INPUTS, AutoNCP(12, 2), ode_unfolds=2, epsilon=1e-3)),
    Case("ltc-explicit", lambda: LTC(INPUTS, AutoNCP(12, 2), implicit_param_constraints=False)),
    Case("ltc-mixed", lambda: LTC(INPUTS, AutoNCP(12, 2), mixed_memory=True)),
    Case("cfc-units", lambda: CfC(INPUTS, 8, backbone_units=16)),
    Case("cfc-autoncp", lambda: CfC(INPUTS, AutoNCP(16, 3))),
    Case("cfc-ncp", lambda: CfC(INPUTS, NCP(6, 4, 2, 3, 2, 2, 3))),
    Case("cfc-fully", lambda: CfC(INPUTS, FullyConnected(8, 2))),
    Case("cfc-no-gate", lambda: CfC(INPUTS, 8, mode="no_gate", backbone_units=16)),
    Case("cfc-pure", lambda: CfC(INPUTS, 8, mode="pure", backbone_units=16)),
    Case("cfc-pure-autoncp", lambda: CfC(INPUTS, AutoNCP(16, 3), mode="pure")),
    Case("cfc-no-gate-autoncp", lambda: CfC(INPUTS, AutoNCP(16, 3), mode="no_gate")),
    Case("cfc-proj", lambda: CfC(INPUTS, 8, proj_size=3, backbone_units=16)),
    Case("cfc-proj-autoncp", lambda: CfC(INPUTS, AutoNCP(16, 3), proj_size=2)),
    Case("cfc-backbone-0", lambda: CfC(INPUTS, 8, backbone_layers=0)),
    Case("cfc-backbone-2", lambda: CfC(INPUTS, 8, backbone_units=16, backbone_layers=2, backbone_dropout=0.5)),
    Case("cfc-backbone-3", lambda: CfC(INPUTS, 8, backbone_units=16, backbone_layers=3)),
    Case("cfc-relu", lambda: CfC(INPUTS, 8, backbone_units=16, activation="relu")),
    Case("cfc-tanh", lambda: CfC(INPUTS, 8, backbone_units=16, activation="tanh")),
    Case("cfc-silu", lambda: CfC(INPUTS, 8, backbone_units=16, activation="silu")),
    Case("cfc-gelu", lambda: CfC(INPUTS, 8, backbone_units=16, backbone_layers=2, activation="gelu")),
    Case("cfc-mixed", lambda: CfC(INPUTS, 8, mixed_memory=True, backbone_units=16)),
    Case("cfc-mixed-autoncp", lambda: CfC(INPUTS, AutoNCP(16, 3), mixed_memory=True)),
    Case("cfc-time-first", lambda: CfC(INPUTS, 8, batch_first=False, backbone_units=16)),
    Case("ltc-last-step", lambda: LTC(INPUTS, AutoNCP(12, 2), return_sequences=False)),
    Case("cfc-float64", lambda: CfC(INPUTS, 8, backbone_units=16).double()),
]
BY_NAME = {case.name: case for case in CASES}


def _clip(module: nn.Module) -> None:
    """Raw parameters as training leaves them after clipping: some capacitances, weights and leaks exactly zero."""
    cell = module.rnn_cell
    with torch.no_grad():
        cell.gleak.clamp_(min=0.1)
        cell.cm[3] = -1.0
        cell.gleak[4] = -1.0
        cell.w[cell.w < 0.2] = -1.0
    cell.apply_weight_constraints()
