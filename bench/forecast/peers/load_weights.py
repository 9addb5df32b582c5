"""Loads one of our model files into torch.nn.LSTM and says what its members make of some windows.

`load_weights.py MODEL.safetensors EXPECTED.json [TOLERANCE]` compares with what our kernel says (`bench-forecast models DIR` writes both) and ends
with 1 where they differ by more. The file may be a global model's or a ticker's: in both the weights stand under `members.N.` with PyTorch's names.
`members(path)` is all that another program needs.
"""

import json
import sys

import safetensors.torch
import torch


def members(path):
    """The networks of a model file: pairs of torch.nn.LSTM and torch.nn.Linear."""
    tensors = safetensors.torch.load_file(path)
    count = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("members."))
    return [member(tensors, f"members.{number}.") for number in range(count)]


def member(tensors, prefix):
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    rows, inputs = own["lstm.weight_ih_l0"].shape
    outputs, hidden = own["head.weight"].shape
    lstm = torch.nn.LSTM(inputs, hidden, batch_first=True)
    # PyTorch adds two biases; ours has one.
    weights = {"weight_ih_l0": own["lstm.weight_ih_l0"], "weight_hh_l0": own["lstm.weight_hh_l0"], "bias_ih_l0": own["lstm.bias_ih_l0"]}
    lstm.load_state_dict({**weights, "bias_hh_l0": torch.zeros(rows)})
    head = torch.nn.Linear(hidden, outputs)
    head.load_state_dict({"weight": own["head.weight"], "bias": own["head.bias"]})
    return lstm, head


@torch.no_grad()
def said(network, windows):
    """Centre, scale and degrees of freedom of each window's Student-t; windows: [n, look_back, inputs]."""
    lstm, head = network
    raw = head(lstm(windows)[0][:, -1]).double()
    nu = 2.6 + torch.nn.functional.softplus(raw[:, 2] + 1.5)
    return torch.stack([0.3 * raw[:, 0], torch.exp(0.5 * raw[:, 1]), nu], dim=1)


def main():
    path, expected, *rest = sys.argv[1:]
    tolerance = float(rest[0]) if rest else 1e-5
    with open(expected) as file:
        ours = json.load(file)
    windows = torch.tensor(ours["windows"]).view(-1, ours["look_back"], ours["inputs"])
    networks = members(path)
    if len(networks) != len(ours["said"]):
        sys.exit(f"{path} has {len(networks)} members, {expected} speaks of {len(ours['said'])}")
    theirs = torch.stack([said(network, windows) for network in networks])
    worst = (theirs - torch.tensor(ours["said"], dtype=torch.float64)).abs().max().item()
    print(f"{path}: PyTorch and our kernel agree to {worst:.1e}", file=sys.stderr)
    # A NaN is no agreement.
    if not worst <= tolerance:
        sys.exit(f"{path}: more than {tolerance:.0e} apart")


if __name__ == "__main__":
    main()
