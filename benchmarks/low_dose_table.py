"""The section of RESULTS.md that `low_dose.py` fills."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import mean, stdev
from typing import Any

from scipy.stats import spearmanr

from recon.metrics import paired_change

TEXT = """# Low dose

Written by `benchmarks/low_dose.py`, which says what cases, tuning and scores are. Means ± standard deviations over
noise seeds; RMSE in HU without a window, SSIM with a data range of 2000 HU, FSIM in a window of -1000 to 1000 HU, all
2-D in the field of view. References: **clean** is the image of noise-free projections by the same FBP (ramp filter),
**phantom** the object itself, averaged over each pixel. Brackets are 95 % intervals of a paired bootstrap over seeds,
or over objects where there are several. SURE sees neither reference. A share "of the rest" is of the distance to 1.

![Methods side by side, what differs from FBP without noise, and details](../docs/figures/low_dose_methods.png)
"""
BEYOND = """Cuts above 0 are gains. Perona-Malik is the diffusion between whole pixels; "refreshed" takes the variances
again from the restored values, "conjugate" joins each ray with its reverse. PWLS on the image does not reproduce the
ripples that FBP leaves at sharp edges, which are in the clean reference: on the Shepp-Logan head, whose skull is sharp,
it is behind against that and ahead against the phantom.
"""
PUBLISHED = {  # RMSE cut, SSIM gain, FSIM gain of sub-pixel diffusion in per cent, and the kind of object
    "shepp-logan": {"fbp": (69.59, 28.13, 21.08), "gibbs": (18.96, 5.49, 1.78), "tv": (3.90, 0.91, 1.36)},
    "thorax": {"fbp": (26.88, 14.24, 9.61), "gibbs": (9.41, 1.43, 1.78), "tv": (18.39, 7.89, 5.66)},
    "real": {"fbp": (44.60, 19.24, 4.30), "gibbs": (36.84, 15.63, 2.92), "tv": (15.22, 3.68, 0.43)},
}
FAMILIES = ("gibbs", "tv", "spad")
BASELINES = ("fbp", "gibbs", "tv")
BESIDE = {
    "perona-malik tuned": "spad tuned",
    "spad refreshed": "spad sure",
    "spad conjugate": "spad sure",
    "image tv": "auto sure",
    "image tuned": "spad tuned",
}
METRICS = ("rmse", "ssim", "fsim")
REFERENCES = ("clean", "phantom")

Row = dict[str, Any]
Scan = tuple[str, float, int, str]  # case, photons, seed, method


def lines(rows: dict[str, Row]) -> Iterator[str]:
    """Yield the section."""
    found = parsed(rows)
    yield TEXT
    days = sorted({row["date"] for row in found.values()})
    yield f"Measured {' to '.join(unique((days[0], days[-1])))}.\n"
    yield "## Gains of sub-pixel diffusion\n"
    yield from _gains(found)
    yield "\n## Beyond: pixels instead of sub-pixels, refinements, and the image domain\n"
    yield from _beyond(found)
    yield "\n## Choice by SURE\n"
    yield from _choices(found)
    yield "\n## Scores\n"
    for kind in unique(row["kind"] for row in found.values()):
        for photons in unique(key[1] for key, row in found.items() if row["kind"] == kind):
            for name in unique(key[0] for key, row in found.items() if row["kind"] == kind and key[1] == photons):
                yield from _scores(name, photons, {k[2:]: row for k, row in found.items() if k[:2] == (name, photons)})


def times(record: dict[str, Any]) -> Iterator[str]:
    """Yield the section of RESULTS.md that `low_dose_times.py` fills."""
    yield "## Times of low-dose methods\n"
    yield f"`benchmarks/low_dose_times.py`, {record['date']}, {record['cores']} cores, load {record['load']:.1f}.\n"
    body = [
        (row["what"], f"{row['wall']:.2f}", f"{row['cpu']:.2f}", f"{row['goal']:g}", row["note"])
        for row in record["rows"]
    ]
    yield from table(("what", "wall s", "CPU s", "goal s", "note"), body)


def parsed(rows: dict[str, Row]) -> dict[Scan, Row]:
    """Return the rows of scans by case, photons, seed and method."""
    found = {}
    for key, row in rows.items():
        case, photons, seed, method = key.split(" | ")
        if case != "tuning":
            found[case, float(photons), int(seed), method] = row
    return found


def unique(values: Iterable[Any]) -> list[Any]:
    """Return values in order, each once."""
    return list(dict.fromkeys(values))


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table in Markdown."""
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for cells in body:
        yield "| " + " | ".join(cells) + " |"


def _gains(found: dict[Scan, Row]) -> Iterator[str]:
    """Yield what sub-pixel diffusion gains over each baseline, per kind of object and dose."""
    gains = ("RMSE cut %", "SSIM gain %", "FSIM gain %")
    head = ("objects", "photons", "reference", "ours", "over", *gains, "published %")
    body = []
    for kind in unique(row["kind"] for row in found.values()):
        part = {key: row for key, row in found.items() if row["kind"] == kind and "scores" in row}
        for photons in unique(key[1] for key in part):
            for against in REFERENCES:
                for ours in ("spad tuned", "spad sure"):
                    for base in BASELINES:
                        other = base if base == "fbp" else f"{base} {'tuned' if ours == 'spad tuned' else 'sure'}"
                        cells = [_gain(part, photons, ours, other, against, metric) for metric in METRICS]
                        if all(cells):
                            published = " / ".join(f"{value:g}" for value in PUBLISHED[kind][base])
                            body.append((kind, f"{photons:g}", against, ours, other, *cells, published))
    yield from table(head, body)


def _beyond(found: dict[Scan, Row]) -> Iterator[str]:
    """Yield what else was tried, each beside what it would replace."""
    yield BEYOND
    head = ("objects", "photons", "tried", "beside", "RMSE cut %, clean", "RMSE cut %, phantom")
    body = []
    for kind in unique(row["kind"] for row in found.values()):
        part = {key: row for key, row in found.items() if row["kind"] == kind and "scores" in row}
        for photons in unique(key[1] for key in part):
            for tried, beside in BESIDE.items():
                both = {key[:3] for key in part if key[3] == tried} & {key[:3] for key in part if key[3] == beside}
                shared = {key: row for key, row in part.items() if key[:3] in both}
                cells = [_gain(shared, photons, tried, beside, against, "rmse") for against in REFERENCES]
                if all(cells):
                    body.append((kind, f"{photons:g}", tried, beside, *cells))
    yield from table(head, body)


def _gain(part: dict[Scan, Row], photons: float, ours: str, other: str, against: str, metric: str) -> str:
    """Print a relative change with its interval, and what share of the distance to 1 it closes if that is all there is.

    Seeds of one object are cases; where there are several objects, these are, averaged over their seeds.
    """

    def numbers(method: str) -> list[float]:
        runs = {k: row["scores"][against][metric] for k, row in part.items() if k[1] == photons and k[3] == method}
        objects = unique(name for name, *_ in runs)
        if len(objects) == 1:
            return list(runs.values())
        return [mean(value for key, value in runs.items() if key[0] == name) for name in objects]

    values, baseline = numbers(ours), numbers(other)
    if not values or len(values) != len(baseline):
        return ""
    sign = -1 if metric == "rmse" else 1
    gain = sign * 100 * (mean(values) / mean(baseline) - 1)
    text = f"{gain:.1f}"
    if len(values) > 1:
        told = paired_change(values, baseline, seed=0, relative=True)
        low, high = sorted((sign * 100 * told.low, sign * 100 * told.high))
        text += f" [{low:.1f}, {high:.1f}]"
    if metric != "rmse":
        text += f" ({100 * (mean(values) - mean(baseline)) / (1 - mean(baseline)):.0f} % of the rest)"
    return text


def _choices(found: dict[Scan, Row]) -> Iterator[str]:
    """Yield how well SURE ranks the candidates of a method, and how far from the best what it takes is."""
    head = ("case", "photons", "seed", "quanta", "candidates", "rank correlation", "chosen above the best, %")
    body = []
    for name, photons, seed in unique(key[:3] for key in found):
        judged = {}
        for family in FAMILIES:
            truth, chosen = (found.get((name, photons, seed, f"{family} {kind}")) for kind in ("candidates", "sure"))
            if truth is not None and chosen is not None:
                judged[family] = (truth["errors"], chosen["risks"], chosen["scores"]["clean"]["rmse"])
        if len(judged) == len(FAMILIES):
            taken = min(judged.values(), key=lambda each: min(each[1].values()))[2]
            errors, risks = ({k: v for each in judged.values() for k, v in each[i].items()} for i in (0, 1))
            judged["all"] = (errors, risks, taken)
        quanta = next(row["quanta"] for key, row in found.items() if key[:2] == (name, photons))
        for family, (errors, risks, taken) in judged.items():
            rank = float(spearmanr(list(errors.values()), [risks[one] for one in errors]).statistic)
            above = 100 * (taken / min(errors.values()) - 1)
            body.append((name, f"{photons:g}", str(seed), f"{quanta:.3g}", family, f"{rank:.3f}", f"{above:.1f}"))
    yield from table(head, body)


def _scores(name: str, photons: float, rows: dict[tuple[int, str], Row]) -> Iterator[str]:
    """Yield the table of a case at a dose."""
    seeds = unique(seed for seed, _ in rows)
    quanta = next(iter(rows.values()))["quanta"]
    noise = f"{photons:g} photons, {quanta:.3g} behind the darkest ray"
    yield f"\n### {name}, {noise}, seeds {', '.join(map(str, seeds))}\n"
    body = []
    for method in unique(method for _, method in rows):
        runs = [rows[seed, method] for seed in seeds if "scores" in rows.get((seed, method), {})]
        if runs:
            body.append((method, *_cells(runs), "; ".join(unique(run["settings"] for run in runs))))
    names = [f"{metric.upper()} {against}" for against in REFERENCES for metric in METRICS]
    yield from table(("method", *names, "settings"), body)


def _cells(runs: Sequence[Row]) -> Iterator[str]:
    for against in REFERENCES:
        for metric in METRICS:
            values = [run["scores"][against][metric] for run in runs]
            yield spread(values, 1 if metric == "rmse" else 4)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Print a mean and, of several values, their standard deviation."""
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")
