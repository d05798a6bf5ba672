"""Tables with outcomes, drawn at random: what leads are and whether they convert is known here."""

import csv
from pathlib import Path

import numpy as np

Columns = dict[str, list[str]]
CONVERTED = "Converted"
INDUSTRIES = {"Software": 0.8, "Machinery": 0.3, "Retail": -0.6, "Health": 0.0, "Banking": -0.3}


def leads(n: int, seed: int = 0, noise: int = 4) -> tuple[Columns, np.ndarray]:
    """Columns as an export has them (placeholders, typos, thousands) and the outcomes (N).

    `visits` is strong and honest, `Note` differs in every row, the columns of `noise` say nothing.
    """
    rng = np.random.default_rng(seed)
    industry = rng.choice(list(INDUSTRIES), n)
    visits, size = rng.poisson(3, n), np.round(np.exp(rng.normal(4, 1.5, n)))
    effect = np.array([INDUSTRIES[name] for name in industry])
    y = rng.random(n) < 1 / (1 + np.exp(-(-2.6 + 0.5 * visits + effect)))
    columns = {
        "Lead": [f"lead-{number:05d}" for number in range(n)],
        "Industry": [_typed(name, rng) for name in industry],
        "Visits": [str(count) if rng.random() < 0.98 else "" for count in visits],
        "Employees": [f"{int(count):,}" if rng.random() < 0.9 else "NA" for count in size],
        "Note": [f"called back {number}" for number in range(n)],
    }
    for number in range(noise):
        columns[f"number {number}"] = [f"{x:.2f}" for x in rng.normal(size=n)]
        columns[f"word {number}"] = list(rng.choice(["A", "B", "C", "NA", ""], n))
    return columns, y


def _typed(word: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.2:
        return "Select"
    cut = int(rng.integers(1, len(word) - 1)) if rng.random() < 0.03 else -1
    return word if cut < 0 else word[:cut] + word[cut + 1 :]


def drifting(n: int, seed: int = 0) -> tuple[Columns, np.ndarray]:
    """A stream whose base rate rises from the middle on, and whose number loses its meaning."""
    rng = np.random.default_rng(seed)
    time, x = np.arange(n) / n, rng.normal(size=(n, 2))
    source = rng.choice(["mail", "fair", "web"], n)
    rise, weight = 2.2 * np.clip((time - 0.5) / 0.4, 0, 1), np.where(time < 0.7, 1.2, 0.5)
    log_odds = -2 + rise + weight * x[:, 0] + np.where(source == "mail", 0.7, -0.3)
    y = rng.random(n) < 1 / (1 + np.exp(-log_odds))
    columns = {
        "Lead": list(map(str, range(n))), "a": [f"{v:.3f}" for v in x[:, 0]],
        "b": [f"{v:.3f}" for v in x[:, 1]], "source": list(source),
    }  # fmt: skip
    return columns, y


def write(path: Path, columns: Columns, outcome: np.ndarray | None = None) -> Path:
    """The table as CSV, with its outcomes as yes and no."""
    if outcome is not None:
        columns = columns | {CONVERTED: ["yes" if each else "no" for each in outcome]}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def event_rows(leads_: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """(lead, what, when) of leads; the keen ones visit more often, ask for prices and buy."""
    rng = np.random.default_rng(seed)
    rows = []
    for lead in range(leads_):
        keen = rng.random() < 0.3
        day, begin = 0.0, rng.uniform(0, 200)
        for _ in range(int(rng.integers(2, 9))):
            what = "pricing_viewed" if rng.random() < (0.4 if keen else 0.1) else "page_viewed"
            rows.append((f"l{lead}", what, _at(begin + day)))
            day += rng.exponential(2 if keen else 12)
        if rng.random() < (0.7 if keen else 0.1):
            rows.append((f"l{lead}", "bought", _at(begin + day)))
    return rows


def _at(day: float) -> str:
    moment = np.datetime64("2025-01-01T00:00:00") + np.timedelta64(int(day * 86_400), "s")
    return f"{moment}Z"
