"""Floor plan of the package, drawn from its imports: `python docs/draw_floor_plan.py` writes docs/images/floor-plan.svg.

Each box is a package or module directly under `src/protoformer`. Imports are read from the syntax tree, including those
inside functions and under `TYPE_CHECKING`. A package stands one floor above the highest package it imports. Only the
transitive reduction of the import graph is drawn; an import cycle is an error. The data behind the picture is stored in its
`<metadata>`, where a test compares it with the sources.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from html import escape, unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "protoformer"
PICTURE = ROOT / "docs" / "images" / "floor-plan.svg"

FOUNDATION = ("errors", "atomic", "processes")  # importable from everywhere: drawn as the ground floor, without arrows
FRAMEWORKS = {
    "torch": ("torch", "torchmetrics"),
    "lightning": ("lightning",),
    "hydra": ("hydra", "omegaconf"),
}
WINGS = {  # colour groups; a package that is not listed is drawn grey
    "models": ("blocks", "models", "optim", "modules", "decoding", "incontext"),
    "data": ("text", "batches", "data", "sample", "scoring", "hub"),
    "running": ("config", "runs", "distributed", "assembly", "training"),
    "using": ("inference", "reporting", "planning", "views", "complexity"),
    "commands": ("commands", "cli"),
}
LEGEND = {
    "models": "layers, models, objectives",
    "data": "text, data, scores",
    "running": "configuration and training",
    "using": "use of finished runs",
    "commands": "command line",
}


@dataclass
class Package:
    """A package or module directly under the root package."""

    lines: int = 0
    files: int = 0
    imports: set[str] = field(default_factory=set)  # other packages
    frameworks: set[str] = field(default_factory=set)  # imported directly by the package's files


# ---------------------------------------------------------------- reading the sources


def read_packages(source: Path = SOURCE) -> dict[str, Package]:
    """Packages by name. The root `__init__.py` belongs to none."""
    names = {path.stem for path in source.iterdir() if (path / "__init__.py").is_file() or path.suffix == ".py"}
    packages = {name: Package() for name in sorted(names - {"__init__", "__main__"})}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[0] not in packages:
            continue
        package, text = packages[parts[0]], path.read_text(encoding="utf-8")
        package.lines += len(text.splitlines())
        package.files += 1
        for module in _imported_modules(ast.parse(text), (source.name, *parts)):
            top, *rest = module.split(".")
            if top == source.name and rest and rest[0] in packages and rest[0] != parts[0]:
                package.imports.add(rest[0])
            package.frameworks |= {name for name, tops in FRAMEWORKS.items() if top in tops}
    return packages


def _imported_modules(tree: ast.Module, module: tuple[str, ...]) -> Iterable[str]:
    """Dotted names that a file imports; `from package import name` gives `package.name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module[: -node.level]) + "." if node.level else ""
            yield from (f"{base}{node.module or ''}.{alias.name}".replace("..", ".") for alias in node.names)


def facts(packages: dict[str, Package]) -> dict[str, dict[str, Any]]:
    """What the picture is drawn from, as plain data."""
    return {
        name: {key: sorted(value) if isinstance(value, set) else value for key, value in asdict(package).items()}
        for name, package in packages.items()
    }


def facts_of_picture(picture: Path = PICTURE) -> dict[str, dict[str, Any]]:
    """`facts` at the time when the picture was drawn."""
    found = re.search(r"<metadata>(.*?)</metadata>", picture.read_text(encoding="utf-8"), re.S)
    return json.loads(unescape(found[1])) if found else {}


# ---------------------------------------------------------------- floors, arrows, order


def floors_of(graph: dict[str, set[str]]) -> dict[str, int]:
    """Floor of each package: 0 imports nothing, n imports at least one package of floor n - 1 and none above it."""
    floors: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            sys.exit(f"import cycle: {' -> '.join((*path[path.index(name) :], name))}")
        if name not in floors:
            floors[name] = max((visit(other, (*path, name)) + 1 for other in sorted(graph[name])), default=0)
        return floors[name]

    for name in graph:
        visit(name, ())
    return floors


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Transitive reduction: the graph without arrows that a longer path implies."""

    def reachable(name: str) -> set[str]:
        return set().union(*({other} | reachable(other) for other in graph[name]))

    below = {name: reachable(name) for name in graph}
    return {name: {o for o in others if not any(o in below[p] for p in others - {o})} for name, others in graph.items()}


def in_layers(graph: dict[str, set[str]], floors: dict[str, int]) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """Packages floor by floor, and links between adjacent floors: a long arrow passes through joints, `a>b@floor`."""
    layers: list[list[str]] = [[] for _ in range(max(floors.values()) + 1)]
    for name, floor in floors.items():
        layers[floor].append(name)
    links: list[tuple[str, str]] = []
    for name, others in graph.items():
        for other in sorted(others):
            joints = [f"{name}>{other}@{floor}" for floor in range(floors[name] - 1, floors[other], -1)]
            for floor, joint in zip(range(floors[name] - 1, floors[other], -1), joints, strict=True):
                layers[floor].append(joint)
            path = [name, *joints, other]
            links += list(pairwise(path))
    return layers, links


def crossings(layers: list[list[str]], links: list[tuple[str, str]]) -> int:
    """Number of pairs of links that cross."""
    rank = {name: i for layer in layers for i, name in enumerate(layer)}
    floor = {name: i for i, layer in enumerate(layers) for name in layer}
    count = 0
    for level in range(1, len(layers)):
        pairs = [(rank[a], rank[b]) for a, b in links if floor[a] == level]
        count += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(pairs) for c, d in pairs[:i])
    return count


def ordered(layers: list[list[str]], links: list[tuple[str, str]]) -> list[list[str]]:
    """Floors sorted so that few arrows cross: barycentre sweeps, then swaps of neighbours while they help."""
    above: dict[str, list[str]] = {name: [] for layer in layers for name in layer}
    below: dict[str, list[str]] = {name: [] for layer in layers for name in layer}
    for a, b in links:
        below[a].append(b)
        above[b].append(a)
    best = [list(layer) for layer in layers]
    now = [list(layer) for layer in layers]
    for sweep in range(24):
        towards, levels = (below, range(1, len(now))) if sweep % 2 == 0 else (above, range(len(now) - 2, -1, -1))
        for level in levels:
            rank = {name: i for layer in now for i, name in enumerate(layer)}
            mean = {
                n: sum(rank[o] for o in towards[n]) / len(towards[n]) if towards[n] else rank[n] for n in now[level]
            }
            now[level].sort(key=lambda name: (mean[name], name))
        if crossings(now, links) < crossings(best, links):
            best = [list(layer) for layer in now]
    improved = True
    while improved:
        improved = False
        for layer in best:
            for i in range(len(layer) - 1):
                before = crossings(best, links)
                layer[i], layer[i + 1] = layer[i + 1], layer[i]
                if crossings(best, links) < before:
                    improved = True
                else:
                    layer[i], layer[i + 1] = layer[i + 1], layer[i]
    return best


# ---------------------------------------------------------------- coordinates

WIDTH, HEIGHT, GAP, RISE, MARGIN = 150.0, 58.0, 14.0, 46.0, 30.0


def _half(name: str) -> float:
    return 3.0 if ">" in name else WIDTH / 2


def positions(layers: list[list[str]], links: list[tuple[str, str]]) -> dict[str, float]:
    """Horizontal centre of each package and joint: near its neighbours, in the given order, without overlaps."""
    neighbours: dict[str, list[str]] = {name: [] for layer in layers for name in layer}
    for a, b in links:
        neighbours[a].append(b)
        neighbours[b].append(a)
    x: dict[str, float] = {}
    for layer in layers:
        total = sum(2 * _half(n) + GAP for n in layer)
        left = -total / 2
        for name in layer:
            x[name] = left + GAP / 2 + _half(name)
            left += 2 * _half(name) + GAP
    for sweep in range(60):
        for layer in layers if sweep % 2 else reversed(layers):
            wanted = [sum(x[o] for o in neighbours[n]) / len(neighbours[n]) if neighbours[n] else x[n] for n in layer]
            for name, value in zip(layer, _spread(layer, wanted), strict=True):
                x[name] = value
    left = min(x[name] - _half(name) for name in x)
    return {name: value - left + MARGIN for name, value in x.items()}


def _spread(layer: list[str], wanted: list[float]) -> list[float]:
    """Least-squares centres that keep order and distances (isotonic regression by pooling neighbours)."""
    offsets, at = [], 0.0
    for i, name in enumerate(layer):
        at += (_half(layer[i - 1]) + GAP + _half(name)) if i else 0.0
        offsets.append(at)
    pools: list[tuple[float, int]] = []  # mean, count
    for value, offset in zip(wanted, offsets, strict=True):
        pools.append((value - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (m2, n2), (m1, n1) = pools.pop(), pools.pop()
            pools.append(((m1 * n1 + m2 * n2) / (n1 + n2), n1 + n2))
    flat = [mean for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=True)]


# ---------------------------------------------------------------- drawing

STYLE = """
  .page { fill: #fbfaf7; } .floor { stroke: #e7e3da; stroke-width: 1; }
  text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #2b2a27; }
  .name { font-size: 15px; font-weight: 600; } .count { font-size: 11px; fill: #6d6a62; }
  .note { font-size: 12px; fill: #6d6a62; } .title { font-size: 20px; font-weight: 600; }
  .box { fill: #ffffff; stroke-width: 1.4; } .arrow { fill: none; stroke-width: 1.5; stroke-opacity: .62; }
  .models { stroke: #b4532a; } .data { stroke: #2f7d5b; } .running { stroke: #3563a8; }
  .using { stroke: #7c4a9e; } .commands { stroke: #9a7412; } .other { stroke: #77736a; }
  .bar.models { fill: #b4532a; } .bar.data { fill: #2f7d5b; } .bar.running { fill: #3563a8; }
  .bar.using { fill: #7c4a9e; } .bar.commands { fill: #9a7412; } .bar.other { fill: #77736a; }
  .bar { stroke: none; } .tip { stroke: none; fill-opacity: .8; }
  .torch { fill: #e4572e; } .lightning { fill: #7b3ff2; } .hydra { fill: #1f9ac0; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1d1f24; } .floor { stroke: #30333b; } text { fill: #e8e6e1; }
    .count, .note { fill: #a5a29a; } .box { fill: #272a31; }
    .models { stroke: #e38a5f; } .data { stroke: #63bd93; } .running { stroke: #7ba6ea; }
    .using { stroke: #c08fe0; } .commands { stroke: #d9b24c; } .other { stroke: #a5a29a; }
    .bar.models { fill: #e38a5f; } .bar.data { fill: #63bd93; } .bar.running { fill: #7ba6ea; }
    .bar.using { fill: #c08fe0; } .bar.commands { fill: #d9b24c; } .bar.other { fill: #a5a29a; }
  }
"""


def wing_of(name: str) -> str:
    return next((wing for wing, names in WINGS.items() if name in names), "other")


def draw(packages: dict[str, Package]) -> str:
    """The picture, as SVG text."""
    graph = {n: package.imports - set(FOUNDATION) for n, package in packages.items() if n not in FOUNDATION}
    floors = floors_of(graph)
    layers, links = in_layers(reduced(graph), floors)
    layers = ordered(layers, links)
    x = positions(layers, links)
    width = max(value + _half(name) for name, value in x.items()) + MARGIN
    top = 96.0
    y = {
        name: top + (len(layers) - 1 - level) * (HEIGHT + RISE) for level, layer in enumerate(layers) for name in layer
    }
    ground = top + len(layers) * (HEIGHT + RISE) - RISE / 2
    height = ground + HEIGHT + 88

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        'aria-label="Floor plan of the package protoformer">',
        f"<metadata>{escape(json.dumps(facts(packages), sort_keys=True), quote=False)}</metadata>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width:.0f}" height="{height:.0f}" rx="14"/>',
        f'<text class="title" x="{MARGIN:.0f}" y="46">protoformer: {len(packages)} packages, '
        f"{sum(package.lines for package in packages.values()) / 1000:.1f}k lines, imports run downwards</text>",
        f'<text class="note" x="{MARGIN:.0f}" y="68">An arrow leads from a package to one that it imports; arrows implied '
        "by a longer path are left out. The bar shows the number of lines.</text>",
    ]
    for level in range(len(layers)):
        line = top + (len(layers) - 1 - level) * (HEIGHT + RISE) + HEIGHT / 2
        out.append(f'<path class="floor" d="M{MARGIN / 2:.0f} {line:.0f}H{width - MARGIN / 2:.0f}"/>')
    out += [_arrow(a, b, x, y, links) for a, b in _arrows(links)]
    largest = max(package.lines for package in packages.values())
    for name in graph:
        out.append(_box(name, packages[name], x[name] - WIDTH / 2, y[name], WIDTH, largest))
    shown = [name for name in FOUNDATION if name in packages]
    each = (width - 2 * MARGIN - GAP * (len(shown) - 1)) / max(len(shown), 1)
    for i, name in enumerate(shown):
        out.append(_box(name, packages[name], MARGIN + i * (each + GAP), ground, each, largest))
    out += _legend(ground + HEIGHT + 40)
    return "\n".join([*out, "</svg>"]) + "\n"


def _box(name: str, package: Package, left: float, top: float, width: float, largest: int) -> str:
    wing = wing_of(name)
    counts = f"{package.lines:,} lines" + (f" in {package.files} files" if package.files > 1 else "")
    counts += "; may be imported by every package" if name in FOUNDATION else ""
    used = [key for key in FRAMEWORKS if key in package.frameworks]
    marks = "".join(
        f'<circle class="{key}" cx="{left + width - 14 - 12 * i:.1f}" cy="{top + 15:.1f}" r="4"/>'
        for i, key in enumerate(used)
    )
    bar = max(3.0, (WIDTH - 24) * package.lines / largest)
    return (
        f'<g><rect class="box {wing}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{HEIGHT:.0f}" rx="7"/>'
        f'<text class="name" x="{left + 12:.1f}" y="{top + 21:.1f}">{name}</text>'
        f'<text class="count" x="{left + 12:.1f}" y="{top + 38:.1f}">{counts}</text>'
        f'<rect class="bar {wing}" x="{left + 12:.1f}" y="{top + 46:.1f}" width="{bar:.1f}" height="4" rx="2"/>{marks}</g>'
    )


def _arrows(links: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(a.split(">")[0], a.split(">")[1].split("@")[0]) if ">" in a else (a, b) for a, b in links if ">" not in b]


def _arrow(a: str, b: str, x: dict[str, float], y: dict[str, float], links: list[tuple[str, str]]) -> str:
    """Curve from the lower edge of box `a` to the upper edge of box `b`, through its joints."""
    joints = [lower for _, lower in links if lower.startswith(f"{a}>{b}@")]  # from above to below
    start, end = _port(a, joints[0] if joints else b, x, links, 0), _port(b, joints[-1] if joints else a, x, links, 1)
    d, at = f"M{start:.1f} {y[a] + HEIGHT:.1f}", (start, y[a] + HEIGHT)
    for joint in joints:
        d += _curve(at, (x[joint], y[joint]))
        d += f"V{y[joint] + HEIGHT:.1f}"
        at = (x[joint], y[joint] + HEIGHT)
    tip = (end, y[b] - 7)
    d += _curve(at, tip)
    wing = wing_of(a)
    head = f"M{end - 4.5:.1f} {y[b] - 8:.1f}h9l-4.5 8z"
    return f'<path class="arrow {wing}" d="{d}"/><path class="tip bar {wing}" d="{head}"/>'


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    middle = (start[1] + end[1]) / 2
    return f"C{start[0]:.1f} {middle:.1f} {end[0]:.1f} {middle:.1f} {end[0]:.1f} {end[1]:.1f}"


def _port(name: str, other: str, x: dict[str, float], links: list[tuple[str, str]], side: int) -> float:
    """Where an arrow leaves a box (side 0, below) or enters it (side 1, above): arrows are spread over its width."""
    others = sorted((link[1 - side] for link in links if link[side] == name), key=lambda other: x[other])
    return x[name] - WIDTH / 2 + WIDTH * (others.index(other) + 1) / (len(others) + 1)


def _legend(top: float) -> list[str]:
    out: list[str] = []
    frameworks = [
        (key, "imports " + " or ".join(names[:2] if key == "hydra" else names[:1])) for key, names in FRAMEWORKS.items()
    ]
    left = MARGIN
    for wing in WINGS:
        out.append(f'<rect class="bar {wing}" x="{left:.0f}" y="{top - 8:.0f}" width="16" height="8" rx="2"/>')
        out.append(f'<text class="note" x="{left + 22:.0f}" y="{top:.0f}">{LEGEND[wing]}</text>')
        left += 48 + 6.4 * len(LEGEND[wing])
    left = MARGIN
    for key, label in frameworks:
        out.append(f'<circle class="{key}" cx="{left + 8:.0f}" cy="{top + 20:.0f}" r="4"/>')
        out.append(f'<text class="note" x="{left + 22:.0f}" y="{top + 24:.0f}">{label} directly</text>')
        left += 48 + 6.4 * len(label + " directly")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the floor plan of the package from its imports.")
    parser.add_argument("--out", type=Path, default=PICTURE, help="the SVG file to write")
    options = parser.parse_args()
    options.out.write_text(draw(read_packages()), encoding="utf-8")
    print(options.out)


if __name__ == "__main__":
    main()
