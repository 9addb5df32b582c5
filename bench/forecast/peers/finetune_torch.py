"""PyTorch's side of the trainings: lines `NAME COUNT` come in, a JSON line with the processor time of each repetition goes out.

The names are small, large and product, each with `_default` (torch.optim.Adam()) or `_fused` (Adam(fused=True)).
"""

import json
import math
import sys
import time

import torch

LOOK_BACK = 15


def ramp(n, limit):
    """The same numbers as our side's: between -limit and limit, without a pattern."""
    return limit * ((torch.arange(n) * 7919 % 2003).float() / 1001.5 - 1.0)


def walk(n):
    """Closes that wander, scaled to 0 to 1."""
    at, closes = 0.0, []
    for step in ramp(n, 1.0).tolist():
        at = 0.98 * at + step
        closes.append(at)
    closes = torch.tensor(closes)
    return (closes - closes.min()) / (closes.max() - closes.min())


class Network(torch.nn.Module):
    """One LSTM layer and a linear one on its last state."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.lstm = torch.nn.LSTM(inputs, hidden, batch_first=True)
        self.head = torch.nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def univariate(hidden, windows, epochs, batch=32, learning_rate=1e-4):
    closes = walk(windows + LOOK_BACK)
    x = closes.unfold(0, LOOK_BACK, 1)[:windows].unsqueeze(2).contiguous()
    y = closes[LOOK_BACK:].unsqueeze(1)

    def prepare():
        return Network(1, hidden, 1)

    def train(network, fused):
        adam = torch.optim.Adam(network.parameters(), lr=learning_rate, **fused)
        for _ in range(epochs):
            for first in range(0, windows, batch):
                adam.zero_grad()
                said = network(x[first : first + batch])
                torch.nn.functional.mse_loss(said, y[first : first + batch]).backward()
                adam.step()

    return prepare, train


def negative_log_density(raw, y):
    """Of a Student-t given by three raw outputs, as our recipe reads them."""
    mu, log_s, nu = 0.3 * raw[:, 0], 0.5 * raw[:, 1], 2.6 + torch.nn.functional.softplus(raw[:, 2] + 1.5)
    z = (y - mu) * torch.exp(-log_s)
    constants = torch.lgamma(0.5 * nu) - torch.lgamma(0.5 * (nu + 1)) + 0.5 * torch.log(nu * math.pi) + log_s
    return (constants + 0.5 * (nu + 1) * torch.log1p(z * z / nu)).mean()


def product(windows=2485, inputs=5):
    """Three members, 250 newest windows and 250 older ones, twice, in another order each time, 64 at a time."""
    x = ramp((windows + LOOK_BACK) * inputs, 1.5).view(-1, inputs).unfold(0, LOOK_BACK, 1)[:windows].transpose(1, 2).contiguous()
    y = ramp(windows + LOOK_BACK, 1.5)[LOOK_BACK:]

    def prepare():
        return [Network(inputs, 20, 3) for _ in range(3)]

    def train(members, fused):
        for network in members:
            adam = torch.optim.Adam(network.parameters(), lr=3e-4, **fused)
            older = torch.randperm(windows - 250)[:250]
            picked = torch.cat([torch.arange(windows - 250, windows), older])
            for _ in range(2):
                for some in picked[torch.randperm(len(picked))].split(64):
                    adam.zero_grad()
                    negative_log_density(network(x[some]), y[some]).backward()
                    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                    adam.step()

    return prepare, train


def main():
    torch.set_num_threads(1)
    torch.manual_seed(7)
    kinds = {"small": univariate(20, 110, 5), "large": univariate(64, 2485, 1), "product": product()}
    optimisers = {"default": {}, "fused": {"fused": True}}
    for line in sys.stdin:
        name, count = line.split()
        kind, optimiser = name.rsplit("_", 1)
        prepare, train = kinds[kind]
        values = []
        for _ in range(int(count)):
            fresh = prepare()
            start = time.process_time()
            train(fresh, optimisers[optimiser])
            values.append(time.process_time() - start)
        print(json.dumps({"name": name, "values": values}), flush=True)


if __name__ == "__main__":
    main()
