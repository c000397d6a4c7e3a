"""Train the score's network: features of a region -> (log2 of its blur, log of how uncertain that is)."""

import argparse
from pathlib import Path

import numpy as np
import torch
from bank import BANK
from dataset import NAMES
from torch import nn

from experiments.people import people
from workbench.scores.blur_network import PIXEL, REGIONS, SHARE, WEIGHTS_FILE

HIDDEN = (56, 28)
BATCH, EPOCHS = 64, 50
JITTER = 0.1  # noise on the features, in their standard deviations
FALSE_GAIN = 2.0  # saying of a spoilt picture that it is sharper than the same unspoilt one, this much more
SEVERITY = {"unsharp": 9.0, "local_contrast": 9.0, "noise": 8.0}  # and more so after these
STEP = 0.3  # weight of seeing how much softer the softer version is
AGREE = 0.1  # weight of agreeing on a picture and its spoilt versions, against being right


def target(sigma: np.ndarray) -> np.ndarray:
    return 0.5 * np.log2(sigma**2 + PIXEL)


def load() -> dict[str, np.ndarray]:
    """All examples: x (n, 2 + SPOILT, 4, F), sigma (n, 4), extra, spoilt, kind, and which are of people who are held out."""
    held_out = {person.name for person in people() if person.held_out}
    parts: dict[str, list[np.ndarray]] = {"x": [], "sigma": [], "extra": [], "spoilt": [], "kind": [], "held": []}
    for path in sorted(BANK.glob("set_*.npz")):
        kind = path.stem[4:].rpartition("_")[0]
        with np.load(path) as file:
            for name in ("x", "sigma", "extra", "spoilt"):
                parts[name].append(file[name])
            parts["kind"].append(np.full(len(file["x"]), kind))
            parts["held"].append(np.full(len(file["x"]), kind in held_out))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def network(inputs: int) -> nn.Sequential:
    a, b = HIDDEN
    return nn.Sequential(nn.Linear(inputs, a), nn.SiLU(), nn.Linear(a, b), nn.SiLU(), nn.Linear(b, 2))


def fit(data: dict[str, np.ndarray], seed: int, everybody: bool, epochs: int = EPOCHS) -> dict[str, np.ndarray]:
    """One network; without `everybody` those who are held out are not learnt from, and what it says of them is printed."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(data["x"])  # (examples, 2 + SPOILT, regions, features)
    sigma = np.repeat(data["sigma"][:, None], x.shape[1], axis=1)
    sigma[:, 1] = np.hypot(sigma[:, 1], data["extra"][:, None])
    y = torch.from_numpy(target(sigma).astype(np.float32))
    flat = x.flatten(0, 2)
    mean, scale = flat.mean(0), flat.std(0) + 1e-3
    mean[-len(REGIONS) :], scale[-len(REGIONS) :] = 0, 1
    x = ((x - mean) / scale).clamp(-4, 4)
    costs = np.array([SEVERITY.get(name, 1.0) for name in NAMES], np.float32)
    severity = torch.from_numpy(np.maximum(data["spoilt"][:, 2:] * costs, 1.0).max(-1))[..., None]
    held = torch.from_numpy(data["held"])
    net = network(x.shape[-1])
    train = np.arange(len(held)) if everybody else torch.where(~held)[0].numpy()
    steps = epochs * (len(train) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), 4e-3, weight_decay=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    share = torch.tensor(SHARE, dtype=torch.float32)
    for _ in range(steps):
        batch = rng.choice(train, BATCH, replace=False)
        out = net(x[batch] + JITTER * torch.randn(BATCH, *x.shape[1:]))
        level, spread = out[..., 0], nn.functional.softplus(out[..., 1]) + 0.03
        error = y[batch] - level
        # a Laplacian likelihood: one mislabelled corner must not pull the rest
        loss = ((error.abs() / spread + spread.log()) * spread.detach() ** 0.5).mean()
        for said, true in (
            (level, y[batch]),
            ((level * share).sum(-1, keepdim=True), (y[batch] * share).sum(-1, keepdim=True)),
        ):
            fall = (said[:, 1] - said[:, 0]) - (true[:, 1] - true[:, 0])
            loss = loss + STEP * fall.abs().mean()
            gain = said[:, :1] - said[:, 2:]
            false = FALSE_GAIN * severity[batch] * gain.clamp(min=0)
            loss = loss + AGREE * (gain.abs() + false).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.inference_mode():
        level = net(x[held])[..., 0]
        face = (level * share).sum(-1)
        false = float((face[:, :1] - face[:, 2:] > 0.1).float().mean())
        known = "learnt, too" if everybody else "never seen"
        print(
            f"seed {seed}, people held out ({known}): mean |error| of log2 sigma {(level - y[held]).abs().mean():.3f}, "
            f"spoilt pictures called sharper by > 0.1: {false:.3f}"
        )
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    weights = {f"w{i}": layer.weight.detach().numpy().T for i, layer in enumerate(linear)}
    biases = {f"b{i}": layer.bias.detach().numpy() for i, layer in enumerate(linear)}
    return {"mean": mean.numpy(), "scale": scale.numpy(), **weights, **biases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--everybody", action="store_true", help="learn from those who are held out, too")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--output", type=Path, default=WEIGHTS_FILE)
    options = parser.parse_args()
    data = load()
    print({str(kind): int((data["kind"] == kind).sum()) for kind in np.unique(data["kind"])}, NAMES)
    fitted = [fit(data, seed, options.everybody, options.epochs) for seed in range(options.seeds)]
    np.savez_compressed(
        options.output, **{name: np.stack([f[name] for f in fitted]).astype(np.float32) for name in fitted[0]}
    )


if __name__ == "__main__":
    main()
