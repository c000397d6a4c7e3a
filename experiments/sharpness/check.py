"""What the network knows of people it was not trained with: the mean error, region by region, of clean and spoilt crops."""

import numpy as np
import torch
from train import fit, load, target

from workbench.scores.blur_network import REGIONS


def predict(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """(n, 2 + SPOILT, regions) of log2 sigma."""
    h = np.clip((x - weights["mean"]) / weights["scale"], -4, 4)
    for layer in (0, 1):
        h = h @ weights[f"w{layer}"] + weights[f"b{layer}"]
        h = h / (1 + np.exp(-h))
    return (h @ weights["w2"] + weights["b2"])[..., 0]


def main() -> None:
    torch.set_num_threads(1)
    data = load()
    weights = fit(data, seed=0, everybody=False)
    said = predict(weights, data["x"][data["held"]])
    truth = target(data["sigma"][data["held"]])[:, None, :]
    for name, rows in (("clean", said[:, :1]), ("spoilt", said[:, 2:])):
        error = np.abs(rows - truth).mean(axis=(0, 1))
        fits = [
            np.corrcoef(rows[..., r].ravel(), np.broadcast_to(truth, rows.shape)[..., r].ravel())[0, 1]
            for r in range(len(REGIONS))
        ]
        parts = ", ".join(f"{n} {e:.2f} (r {c:.2f})" for n, e, c in zip(REGIONS, error, fits, strict=True))
        print(f"  {name:<7} mean |error| of log2 sigma: {parts}")


if __name__ == "__main__":
    main()
