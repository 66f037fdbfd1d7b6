"""Do seglab's verdicts hold what they say? Simulated runs: false positives, coverage and power, and those of common habits.

    python benchmarks/verdicts.py [--pairs 1000]

Each image has a difficulty that all runs share, a share of classes, and perhaps a clip with its neighbours; each run has a
luck of its seed, as a whole and per class, and its own luck on each image. Scores are mIoU of counts summed over images.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from seglab.stats.difference import Difference
from seglab.stats.scores import Scores, headline
from seglab.stats.verdicts import judge

AREA = np.array([6000.0, 2500.0, 800.0, 300.0, 120.0])  # pixels of a class in an image that shows it
SHOWN = np.array([1.0, 0.9, 0.6, 0.4, 0.15])  # how many images show it
EASE = np.array([3.0, 2.0, 1.2, 0.6, 0.2])  # logit of the share of its pixels that are found
SCORED = range(len(AREA))
CHUNK = 50
DRAWS = 300  # of the bootstraps


@dataclass(frozen=True)
class World:
    """Where runs come from; spreads are standard deviations of logits."""

    images: int = 30
    seeds: int = 3
    clip: int = 1  # images of one clip
    seed: float = 0.06
    seed_class: float = 0.08
    luck: float = 0.25  # seed x image
    model: float = 0.0  # model x image, x clip and x class: the two sides are other models, equal on average
    unequal: float = 1.0  # seeds of B spread so many times as those of A
    effect: float = 0.0  # A is better by this logit


WORLDS = {
    "same model": World(),
    "same, noisy seeds": World(seed=0.2, seed_class=0.25),
    "same, B's seeds x 3": World(seed=0.07, seed_class=0.09, unequal=3.0),
    "other model": World(model=0.4),
    "other, B's seeds x 3": World(model=0.4, seed=0.07, seed_class=0.09, unequal=3.0),
    "other, clips of 5": World(model=0.4, clip=5),
}


def draw(world: World, pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Counts of pairs of groups, int (pairs, 2, S, N, K, 3), and the clip of each image (N,)."""
    n, s, k, g = world.images, world.seeds, len(AREA), rng.standard_normal
    clip = np.arange(n) // world.clip
    clips = clip[-1] + 1
    alike = (rng.random((pairs, clips, k)) < SHOWN)[:, clip]
    own = rng.random((pairs, n, k)) < SHOWN
    shown = np.where(rng.random((pairs, n, k)) < 0.7, alike, own)
    shown[..., 0] = True
    truth = shown * AREA * np.exp(0.5 * g((pairs, n, k)))
    truth = np.round(truth * (10000 / truth.sum(-1, keepdims=True)))[:, None, None]
    logit = EASE + 0.8 * g((pairs, n, 1)) + 0.5 * g((pairs, n, k)) + (0.5 * g((pairs, clips, 1)) * (world.clip > 1))[:, clip]
    spread = np.array([1.0, world.unequal])[:, None, None, None]
    seeds = world.seed * g((pairs, 2, s, 1, 1)) + world.seed_class * g((pairs, 2, s, 1, k))
    luck = world.luck * 0.7 * (g((pairs, 2, s, n, 1)) + g((pairs, 2, s, n, k)))
    models = world.model * 0.7 * (g((pairs, 2, 1, n, 1)) + g((pairs, 2, 1, n, k)))
    if world.clip > 1:
        models = models + world.model * 0.7 * g((pairs, 2, 1, clips, 1))[:, :, :, clip]
    logit = logit[:, None, None] + spread * seeds + luck + models
    logit[:, 0] += world.effect
    tp = np.round(truth / (1 + np.exp(-logit)))
    fn = truth - tp
    taker = np.where(shown, 1.0, 0.03) * np.sqrt(AREA)  # to which classes the missed pixels go
    taker = (taker / taker.sum(-1, keepdims=True))[:, None, None]
    fp = np.round((fn.sum(-1, keepdims=True) - fn) * taker)
    return np.stack([tp, fp, fn], -1).astype(np.int32), clip


def image_t(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Paired t-test over the scores of single images, those of all seeds pooled: (difference, half)."""
    d = (headline(a, SCORED) - headline(b, SCORED)).reshape(-1)
    return d.mean(), student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))


def deviations(points_a: np.ndarray, points_b: np.ndarray) -> tuple[float, float]:
    """mean +- std of each side: they differ if the bars do not overlap."""
    return points_a.mean() - points_b.mean(), points_a.std(ddof=1) + points_b.std(ddof=1)


def bootstraps(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals (low, high) of the difference: images resampled, and seeds x images resampled."""
    both = np.concatenate([a, b]).astype(np.float32)  # 2S N K 3
    seeds, images = len(a), both.shape[1]
    weights = rng.multinomial(images, np.full(images, 1 / images), DRAWS).astype(np.float32)
    totals = np.einsum("bn,nq->bq", weights, both.swapaxes(0, 1).reshape(images, -1), optimize=True)
    scores = headline(totals.reshape(DRAWS, 2, seeds, len(AREA), 3), SCORED)
    plain = scores[:, 0].mean(-1) - scores[:, 1].mean(-1)
    chosen = np.take_along_axis(scores, rng.integers(0, seeds, scores.shape), -1)
    nested = chosen[:, 0].mean(-1) - chosen[:, 1].mean(-1)
    return np.quantile(plain, [0.025, 0.975]), np.quantile(nested, [0.025, 0.975])


def one_t(difference: Difference) -> tuple[float, float]:
    """The same variances with one t, of Satterthwaite's degrees of freedom for their sum: (difference, half)."""
    parts = [v[0] / n for v, n in zip(difference.single, difference.runs, strict=True)] + [difference.images[0]]
    known = [max(1, df) for df in difference.known] + [difference.image_df[0]]
    df = sum(parts) ** 2 / sum(v**2 / n for v, n in zip(parts, known, strict=True))
    return difference.value[0], student.ppf(0.975, df) * np.sqrt(sum(parts))


HABITS = ("one t", "image t-test", "bootstrap", "mean+-std", "seeds x images")


def study(world: World, pairs: int, habits: bool = True, truth: float = 0.0) -> dict[str, float]:
    """Shares in percent over many pairs: `seglab` and each habit: how often the interval misses the truth; and more."""
    rng = np.random.default_rng(7)
    missed: dict[str, list[float]] = {}

    def note(name: str, low: float, high: float, target: float) -> None:
        missed.setdefault(name, []).append(not low <= target <= high)

    for _ in range(0, pairs, CHUNK):
        counts, clip = draw(world, CHUNK, rng)
        for a, b in counts:
            groups = [Scores.of(x, SCORED, clip) for x in (a, b)]
            difference = Difference.of(*groups)
            verdicts = judge([difference], 0.005)[0]
            first = verdicts[0]
            note("seglab", first.low, first.high, truth)
            half = difference.half()[1:]
            wrong = np.abs(difference.value[1:]) > half
            missed.setdefault("classes", []).append(np.mean(wrong[np.isfinite(half)]))
            missed.setdefault("family", []).append(any(v.word in ("better", "worse") for v in verdicts[1:]))
            for word in ("better", "worse", "equivalent", "unclear"):
                missed.setdefault(word, []).append(first.word == word)
            missed.setdefault("detectable", []).append(first.detectable / 100)
            missed.setdefault("se", []).append(difference.value[0])
            if habits:
                d, one = one_t(difference)
                note("one t", d - one, d + one, truth)
                d, half_t = image_t(a, b)
                note("image t-test", d - half_t, d + half_t, truth)
                (low, high), nested = bootstraps(a, b, rng)
                note("bootstrap", low, high, truth)
                note("seeds x images", *nested, truth)
                if world.seeds > 1:
                    d, bars = deviations(groups[0].points[:, 0], groups[1].points[:, 0])
                    note("mean+-std", d - bars, d + bars, truth)
    return {
        name: 100 * float(np.std(v) if name == "se" else np.median(v) * 100 if name == "detectable" else np.mean(v))
        for name, v in missed.items()
    }


def planted(world: World, points: float) -> tuple[World, float]:
    """The world in which A is better by so many points, and the difference of mIoU that 4,000 pairs show there."""

    def shift(effect: float) -> float:
        """Expected gain by an effect: the same draws with and without it."""
        gains = []
        for seed in range(4000 // (CHUNK * world.seeds)):
            with_it, without = (
                draw(replace(world, effect=e), CHUNK, np.random.default_rng(seed))[0][:, 0] for e in (effect, 0.0)
            )
            gains.append((headline(with_it.sum(-3), SCORED) - headline(without.sum(-3), SCORED)).mean())
        return float(np.mean(gains))

    effect = points / 100 / (shift(0.1) / 0.1)
    return replace(world, effect=effect), shift(effect)


def chosen(world: World, groups: int, repeats: int) -> list[float]:
    """Any false verdict in percent where the best of some groups by 30 other images is the baseline: as judged, and over G - 1 pairs."""
    rng, runs = np.random.default_rng(0), groups * world.seeds
    wrong = np.zeros(2)
    for _ in range(0, repeats, 20):
        counts, _ = draw(replace(world, images=world.images + 30, seeds=runs // 2), 20, rng)
        for sides in counts:
            group = sides.reshape(groups, world.seeds, world.images + 30, len(AREA), 3)
            best = int(headline(group[:, :, :30].sum(2), SCORED).mean(1).argmax())
            scores = [Scores.of(g[:, 30:], SCORED) for g in group]
            pairs = [Difference.of(scores[n], scores[best]) for n in range(groups) if n != best]
            for n, family in enumerate((groups * (groups - 1) // 2, groups - 1)):
                wrong[n] += any(v[0].word in ("better", "worse") for v in judge(pairs, 0.005, pairs=family))
    return (100 * wrong / repeats).tolist()


def main() -> None:
    """Print the tables of docs/compare.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    args = parser.parse_args()
    sizes = [(s, n) for s in (2, 3, 5) for n in (30, 200)]

    print(
        "False positives in percent at a nominal 5, where no difference is there; coverage of the interval where A is better by 3 points.\n"
    )
    print("| pairs | seeds | images | sd | **seglab** | **coverage** | a class | any of 5 | " + " | ".join(HABITS) + " |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|" + "--:|" * len(HABITS))
    for name, world in WORLDS.items():
        for s, n in sizes:
            r = study(replace(world, seeds=s, images=n), args.pairs)
            made, truth = planted(replace(world, seeds=s, images=n), 3.0)
            covered = 100 - study(made, args.pairs, habits=False, truth=truth)["seglab"]
            ours = f"{r['se']:.1f} | **{r['seglab']:.1f}** | **{covered:.1f}** | {r['classes']:.1f} | {r['family']:.1f}"
            print(f"| {name} | {s} | {n} | {ours} | " + " | ".join(f"{r[h]:.1f}" for h in HABITS) + " |", flush=True)

    print("\nWhat is said where A is better by some points (other model), in percent of the pairs.\n")
    print("| seeds | images | points | better | worse | equivalent | cannot tell | median detectable, points |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for s, n in [(1, 30), (1, 200), *sizes]:
        for points in (0.3, 1.0, 3.0, 6.0):
            made, _ = planted(replace(WORLDS["other model"], seeds=s, images=n), points)
            r = study(made, args.pairs, habits=False)
            words = " | ".join(f"{r[w]:.1f}" for w in ("better", "worse", "equivalent", "unclear"))
            print(f"| {s} | {n} | {points:g} | {words} | {r['detectable']:.1f} |", flush=True)

    print("\nAny false verdict in percent, where groups are one model and the best by val is the baseline (100 test images).\n")
    print("| pairs | groups | seeds | **corrected over all pairs** | over those with the baseline |")
    print("|---|--:|--:|--:|--:|")
    for name in ("same model", "same, noisy seeds"):
        for groups, s in ((4, 2), (4, 3), (4, 5), (10, 3)):
            ours, plain = chosen(replace(WORLDS[name], seeds=s, images=100), groups, args.pairs)
            print(f"| {name} | {groups} | {s} | **{ours:.1f}** | {plain:.1f} |", flush=True)


if __name__ == "__main__":
    main()
