"""Small networks that once came out wrong, or are like one that did, each with what is right.

A case is the layers of a block and how a network uses it. What is right is said for the IR: every
operation of each use of the block, with what feeds it. That the text does the same is for the
tests to show.
"""

from __future__ import annotations

from typing import NamedTuple

import yaml

from resnet_spec.ir import Instance, Network
from resnet_spec.language.library import Library
from resnet_spec.language.load import load
from resnet_spec.lower import lower


class Case(NamedTuple):
    """`layers` and `args` of the block b, `uses` of it as stages, and what is right."""

    layers: str
    right: tuple[str, ...]  # of each use: "name(inputs) …", x is the input of the block
    args: str = "{}"
    uses: str = "[{}]"
    blocks: str = "{}"
    lets: str = "{}"
    defaults: str = "{}"


def spec_of(case: Case) -> str:
    """The whole spec of a case."""
    own = {"description": "B", "layers": yaml.safe_load(case.layers)}
    for key, text in (("args", case.args), ("let", case.lets)):
        if given := yaml.safe_load(text):
            own[key] = given
    defaults = {"defaults": found} if (found := yaml.safe_load(case.defaults)) else {}
    stages = [
        {"name": f"l{number}", "block": "b", **use}
        for number, use in enumerate(yaml.safe_load(case.uses), 1)
    ]
    spec = {
        "spec_version": 1,
        "name": "right",
        "description": "A case",
        "input": {"height": 8, "width": 8},
        "classes": 4,
        **defaults,
        "blocks": {"b": own, **yaml.safe_load(case.blocks)},
        "stem": [{"conv": "stem", "filters": 8, "kernel": 3}],
        "stages": stages,
        "head": [{"global_avg_pool": "pool"}, {"linear": "fc", "features": "classes"}],
    }
    return yaml.safe_dump(spec, sort_keys=False)


def network_of(case: Case) -> Network:
    return lower(load("case.yaml", Library(), text=spec_of(case).encode()))


def wiring(instance: Instance) -> str:
    """Every operation of one use of a block with what feeds it, in its order."""
    names = {0: "x"}
    shown = []
    for step in instance.steps:
        inputs = ", ".join(names[number] for number in step.inputs)
        shown.append(f"{step.name}({inputs})")
        parts = len(step.outputs) > 1
        for position, number in enumerate(step.outputs):
            names[number] = f"{step.name}[{position}]" if parts else step.name
    return " ".join([*shown, "->", names[instance.result]])


def uses_of(network: Network) -> tuple[str, ...]:
    """The wiring of each stage's first block."""
    steps = [network.root.steps[stage.steps[0]].node for stage in network.stages]
    return tuple(wiring(each) for each in steps if isinstance(each, Instance))


CASES = {
    "an element of a list is the next input": Case(
        """
        - {conv: c, filters: in_channels, kernel: 3, as: out.0}
        - {norm: bn}
        - {act: act, as: out.1}
        - {concat: out}
        """,
        ("c(x) bn(c) act(bn) concat(c, act) -> concat",),
    ),
    "an element of a list is the next input, in a loop": Case(
        """
        - for: k
          count: 2
          layers:
            - {conv: "c.{k}", filters: 4, kernel: 3, as: "out.{k}"}
            - {norm: "bn.{k}"}
            - {act: "act.{k}", as: y}
        - {concat: [out, y, x]}
        """,
        (
            "c.0(x) bn.0(c.0) act.0(bn.0) c.1(act.0) bn.1(c.1) act.1(bn.1)"
            " concat(c.0, c.1, act.1, x) -> concat",
        ),
    ),
    "an argument has the name of one that the compiler's own functions take": Case(
        "- {conv: c, filters: 8 * function, kernel: arguments, groups: keywords}",
        ("c(x) -> c", "c(x) -> c", "c(x) -> c"),
        args="{function: 1, arguments: {type: int}, keywords: 1}",
        uses="[{arguments: 3}, {arguments: 1, function: 2}, {arguments: 1, keywords: 8}]",
    ),
    "elements of a list say their channels each in its own way": Case(
        """
        - {conv: a, filters: "max(f * 2, 4)", kernel: 3, as: out.0}
        - {conv: b, filters: f * 2, kernel: 3, from: x, as: out.1}
        - {add: [out]}
        - {norm: bn}
        """,
        ("a(x) b(x) add(a, b) bn(add) -> bn",),
        args="{f: int}",
        uses="[{f: classes}]",
    ),
    "an element of a list is sized by a counter, which means nothing behind its loop": Case(
        """
        - for: k
          count: 2
          layers:
            - {conv: "a.{k}", filters: "max(f - 1, k)", kernel: 3, from: x, as: "out.{k}"}
        - {conv: b, filters: "min(f * 2 - 5, f - 1)", kernel: 3, from: x, as: out.2}
        - {add: [out]}
        - {norm: bn}
        """,
        ("a.0(x) a.1(x) b(x) add(a.0, a.1, b) bn(add) -> bn",),
        args="{f: int}",
        uses="[{f: classes}]",
    ),
    "a layer that begins otherwise stands under one of two conditions": Case(
        """
        - {conv: "a.b.{f}", filters: 8, kernel: 3, init: zeros, when: "f > 2 or g > 2"}
        - {conv: d, filters: 8, kernel: 3}
        """,
        ("d(x) -> d", "a.b.3(x) d(a.b.3) -> d", "a.b.1(x) d(a.b.1) -> d"),
        args="{f: int, g: int}",
        uses="[{f: 1, g: 1}, {f: 3, g: 1}, {f: 1, g: 3}]",
    ),
    "channels behind a loop follow from its last turn": Case(
        """
        - {conv: a, filters: f, kernel: 1}
        - for: k
          count: 2
          layers:
            - {conv: "c.{k}", filters: f + k, kernel: 1}
        """,
        ("a(x) c.0(a) c.1(c.0) -> c.1",),
        args="{f: int}",
        uses="[{f: classes}]",
    ),
    "channels follow from a long condition on the classes": Case(
        f"""
        - {{conv: a, filters: f * 3, kernel: 1, when: "f > 1{" and f != 99" * 12}"}}
        - {{norm: bn}}
        """,
        ("a(x) bn(a) -> bn",),
        args="{f: int}",
        uses="[{f: classes}]",
    ),
    "an element of a list is what a block reads": Case(
        """
        - {conv: c, filters: 12, kernel: 1, as: l.0}
        - {block: narrow, name: n}
        - {act: a, as: l.1}
        - {concat: l}
        """,
        ("c(x) n(c) a(n) concat(c, a) -> concat",),
        blocks="{narrow: {description: N, layers: [{conv: c, filters: 4, kernel: 1}]}}",
    ),
    "a counter is called like the input": Case(
        """
        - {conv: c1, filters: 8, kernel: 3}
        - {for: x, count: 2, layers: [{act: "a.{x}", as: y}]}
        - {add: [y, x]}
        """,
        ("c1(x) a.0(c1) a.1(a.0) add(a.1, x) -> add",),
    ),
    "a counter is called like a value and like a list": Case(
        """
        - {conv: c1, filters: 8, kernel: 3, as: y}
        - {act: a, as: l.0}
        - {for: y, count: 2, layers: [{act: "p.{y}", from: x}]}
        - {for: l, count: 2, layers: [{act: "q.{l}"}]}
        - {add: [y, l]}
        """,
        ("c1(x) a(c1) p.0(x) p.1(x) q.0(p.1) q.1(q.0) add(c1, a) -> add",),
    ),
    "names that Python, PyTorch and Keras use themselves": Case(
        """
        - {conv: torch, filters: len, kernel: 1, as: sum}
        - {act: nn, as: layers}
        - for: range
          count: math
          layers: [{conv: "F.{range}", filters: len, kernel: 1, as: keras}]
        - {add: [sum, layers, keras], as: self}
        - {conv: last, filters: list, kernel: 1}
        """,
        (
            "torch(x) nn(torch) F.0(nn) F.1(F.0) add(torch, nn, F.1) last(add) -> last",
            "torch(x) nn(torch) F.0(nn) add(torch, nn, F.0) last(add) -> last",
        ),
        args="{math: 2, list: 8}",
        lets="{len: list * math}",
        uses="[{}, {math: 1, list: 12}]",
    ),
    "a block without weights between two convolutions": Case(
        """
        - {conv: c1, filters: in_channels * 6, kernel: 1}
        - {block: twice}
        - {conv: c2, filters: 16, kernel: 1}
        """,
        ("c1(x) twice(c1) c2(twice) -> c2",) * 2,
        uses="[{}, {}]",
        blocks="{twice: {description: T, layers: [{rescale: scale, factor: 2}]}}",
    ),
    "blocks without weights, repeated and one within the other": Case(
        """
        - {conv: c1, filters: in_channels + 4, kernel: 1}
        - {block: outer, name: o, repeat: 2}
        - {conv: c2, filters: 8, kernel: 1}
        """,
        ("c1(x) o.0(c1) o.1(o.0) c2(o.1) -> c2",) * 2,
        uses="[{}, {repeat: 2}]",
        blocks="""
        outer: {description: O, layers: [{block: inner}, act]}
        inner: {description: I, layers: [{rescale: scale, factor: 2}]}
        """,
    ),
    "an element of the turn before, but for the first turn": Case(
        """
        - {split: s, parts: 2, as: part}
        - for: k
          count: 2
          layers:
            - {add: ["out.{k - 1}", "part.{k}"], when: k > 0, else: "part.{k}"}
            - {conv: "c.{k}", filters: 4, kernel: 3, as: "out.{k}"}
        - {concat: out}
        """,
        ("s(x) c.0(s[0]) add.1(c.0, s[1]) c.1(add.1) concat(c.0, c.1) -> concat",),
    ),
    "an element that is not there where it is not read": Case(
        """
        - {act: a, as: l.0}
        - for: k
          count: 3
          layers:
            - {add: [x, x], name: "m.{k}", when: k > 0, else: "l.{k}"}
        """,
        ("a(x) m.1(x, x) m.2(x, x) -> m.2",),
    ),
    "branches that are summed in a chain": Case(
        """
        - for: k
          count: branches
          layers: [{conv: "conv.{k}", from: x, filters: 8, kernel: 3, as: "out.{k}"}]
        - {conv: scale, from: x, filters: 8, kernel: 1, when: first, as: sum.0}
        - for: k
          count: branches
          layers:
            - {add: ["sum.{k}", "out.{k}"], when: k > 0 or first, else: "out.{k}",
               as: "sum.{k + 1}"}
        - {conv: last, from: "sum.{branches}", filters: 8, kernel: 1}
        """,
        (
            "conv.0(x) conv.1(x) scale(x) add.0(scale, conv.0) add.1(add.0, conv.1) last(add.1)"
            " -> last",
            "conv.0(x) conv.1(x) conv.2(x) add.1(conv.0, conv.1) add.2(add.1, conv.2) last(add.2)"
            " -> last",
        ),
        args="{branches: 2, first: true}",
        uses="[{}, {branches: 3, first: false}]",
    ),
    "pools without a name in two loops": Case(
        """
        - {for: j, count: 2, layers: [{max_pool: , kernel: 3, stride: 1}]}
        - {for: k, count: 2, layers: [{max_pool: , kernel: 5, stride: 1}]}
        """,
        (
            "max_pool.0(x) max_pool.1(max_pool.0) max_pool2.0(max_pool.1) max_pool2.1(max_pool2.0)"
            " -> max_pool2.1",
        ),
    ),
    "a layer without a name that runs in some uses": Case(
        """
        - {relu: , when: flag}
        - {conv: c, filters: 8, kernel: 1}
        - relu
        - {conv: last, filters: 8, kernel: 1}
        """,
        (
            "relu(x) c(relu) relu2(c) last(relu2) -> last",
            "c(x) relu2(c) last(relu2) -> last",
        ),
        args="{flag: true}",
        uses="[{}, {flag: false}]",
    ),
    "a layer of a chain that runs on a condition with a choice in it": Case(
        """
        - {conv: 0, filters: 8, kernel: 1}
        - {relu: 1, when: a if b else c}
        """,
        ("0(x) 1(0) -> 1", "0(x) -> 0"),
        args="{a: {default: false}, b: {default: false}, c: {default: true}}",
        uses="[{}, {b: true}]",
    ),
    "a list that nothing reads": Case(
        """
        - {act: a, as: l.0}
        - {conv: last, filters: 8, kernel: 1}
        """,
        ("a(x) last(a) -> last",),
    ),
    "a list and a value, added and multiplied": Case(
        """
        - {act: a, as: l.0}
        - {act: a2, as: l.1}
        - {add: [l, x], as: s}
        - {multiply: [l, s], as: m.0}
        - {multiply: m}
        - {conv: last, filters: 8, kernel: 1}
        """,
        (
            "a(x) a2(a) add(a, a2, x) multiply(a, a2, add) multiply2(multiply) last(multiply2)"
            " -> last",
        ),
    ),
    "a sum of one is no new value": Case(
        """
        - {conv: c, filters: 8, kernel: 1, as: y}
        - {add: [y]}
        - {act: a, as: z}
        - {concat: [y, z]}
        """,
        ("c(x) add(c) a(add) concat(c, a) -> concat",),
    ),
    "a statement that never runs, in a loop": Case(
        """
        - {split: s, parts: 2, as: p}
        - for: j
          count: 3
          layers: [{identity: "i.{j}", from: p.1, as: a, when: in_channels > 99}]
        - {add: [p.0, a]}
        - {conv: last, filters: 8, kernel: 1}
        """,
        ("s(x) add(s[0], s[1]) last(add) -> last",),
    ),
    "two values that change places": Case(
        """
        - {conv: c, filters: 8, kernel: 1, as: a}
        - {conv: d, from: x, filters: 8, kernel: 1, as: b}
        - for: k
          count: 3
          layers:
            - {identity: , from: a, as: kept}
            - {add: [a, b], name: "m.{k}", as: a}
            - {identity: , from: kept, as: b}
        - {concat: [a, b]}
        """,
        (
            "c(x) d(x) identity.0(c) m.0(c, d) identity2.0(identity.0) identity.1(m.0)"
            " m.1(m.0, identity2.0) identity2.1(identity.1) identity.2(m.1) m.2(m.1, identity2.1)"
            " identity2.2(identity.2) concat(m.2, identity2.2) -> concat",
        ),
    ),
    "a value of two turns before": Case(
        """
        - {act: a0, as: l.0}
        - {act: a1, as: l.1}
        - for: k
          count: 3
          layers:
            - {conv: "c.{k}", from: "l.{k}", filters: 8, kernel: 1, as: "l.{k + 2}"}
        - {concat: l}
        """,
        ("a0(x) a1(a0) c.0(a0) c.1(a1) c.2(c.0) concat(a0, a1, c.0, c.1, c.2) -> concat",),
    ),
    "channels that grow from turn to turn": Case(
        """
        - for: k
          count: depth
          layers:
            - {conv: "c.{k}", filters: 4, kernel: 3, as: new}
            - {concat: [x, new], name: "j.{k}", as: x}
        - {conv: last, filters: 8, kernel: 1}
        """,
        (
            "c.0(x) j.0(x, c.0) c.1(j.0) j.1(j.0, c.1) last(j.1) -> last",
            "c.0(x) j.0(x, c.0) c.1(j.0) j.1(j.0, c.1) c.2(j.1) j.2(j.1, c.2) last(j.2) -> last",
        ),
        args="{depth: 2}",
        uses="[{}, {depth: 3}]",
    ),
    "a list in some uses, a value in others": Case(
        """
        - {conv: conv, filters: 4, kernel: 3}
        - {split: split, parts: parts, as: part, when: parts > 1}
        - {add: part, when: parts > 1}
        """,
        ("conv(x) -> conv", "conv(x) split(conv) add(split[0], split[1]) -> add"),
        args="{parts: int}",
        uses="[{parts: 1}, {parts: 2}]",
    ),
    "a loop with no turn in some uses": Case(
        """
        - {conv: c, filters: 8, kernel: 1, as: y}
        - {for: k, count: depth - 1, layers: [{conv: "d.{k}", filters: 8, kernel: 3, as: y}]}
        - {add: [y, x]}
        """,
        ("c(x) add(c, x) -> add", "c(x) d.0(c) d.1(d.0) add(d.1, x) -> add"),
        args="{depth: 1}",
        uses="[{}, {depth: 3}]",
    ),
    "a list that is begun again in each turn": Case(
        """
        - for: k
          count: 2
          layers:
            - {conv: "c.{k}", filters: 4, kernel: 1, as: l.0}
            - {conv: "d.{k}", filters: 4, kernel: 1, as: l.1}
            - {concat: l, name: "j.{k}"}
        - {concat: [l, x]}
        """,
        (
            "c.0(x) d.0(c.0) j.0(c.0, d.0) c.1(j.0) d.1(c.1) j.1(c.1, d.1) concat(c.1, d.1, x)"
            " -> concat",
        ),
    ),
    "names of any form": Case(
        """
        - {conv: "0", filters: 8, kernel: 1}
        - {conv: a.b.c.d, filters: 8, kernel: 1}
        - {conv: "width{width}", filters: 8, kernel: 1}
        - for: j
          count: 2
          layers:
            - for: k
              count: j + 1
              layers:
                - {conv: "g.{j}.h.{k}", filters: width, kernel: 1}
                - {norm: "{j}{k}", when: k > 0}
        - {block: c, name: items, repeat: 2, names: "keys.{i + 1}.pop"}
        - {block: c, name: last, repeat: 2, names: "b{i}", filters: 8}
        """,
        tuple(
            f"0(x) a.b.c.d(0) width{n}(a.b.c.d) g.0.h.0(width{n}) g.1.h.0(g.0.h.0)"
            " g.1.h.1(g.1.h.0) 11(g.1.h.1) items.keys.1.pop(11)"
            " items.keys.2.pop(items.keys.1.pop) last.b0(items.keys.2.pop) last.b1(last.b0)"
            " -> last.b1"
            for n in (4, 6)
        ),
        args="{width: 4}",
        uses="[{}, {width: 6}]",
        blocks="{c: {description: C, args: {filters: 4}, "
        "layers: [{conv: conv, filters: filters, kernel: 1}]}}",
    ),
    "a layer that one use calls as another use calls another": Case(
        """
        - {conv: conv0, filters: 16 * ratio, kernel: 1, when: ratio > 1}
        - {norm: bn1, when: ratio > 1}
        - {conv: conv, filters: 16, kernel: 3}
        - {norm: "bn{2 if ratio > 1 else 1}"}
        """,
        ("conv(x) bn1(conv) -> bn1", "conv0(x) bn1(conv0) conv(bn1) bn2(conv) -> bn2"),
        args="{ratio: 1}",
        uses="[{}, {ratio: 2}]",
    ),
    "elements of a list with other channels": Case(
        """
        - {conv: d, filters: 2 * f, kernel: 1, as: p.0}
        - {conv: e, filters: 4, kernel: 1, as: p.1}
        - {conv: g, from: p.0, filters: 5, kernel: 1, as: q}
        - {concat: [p, q]}
        """,
        ("d(x) e(d) g(d) concat(d, e, g) -> concat",) * 2,
        args="{f: 4}",
        uses="[{}, {f: 6}]",
    ),
    "a block whose channels no expression gives": Case(
        """
        - {block: grow, name: gr, k: k}
        - {conv: c, filters: 8, kernel: 1}
        """,
        ("gr(x) c(gr) -> c",) * 3,
        args="{k: 1}",
        uses="[{}, {k: 2}, {k: 3}]",
        blocks="""
        grow:
          description: G
          args: {k: 1}
          layers:
            - {relu: r, as: y}
            - {for: j, count: k, layers: [{concat: [y, x], as: y}]}
        """,
    ),
    "a negation": Case(
        """
        - {conv: c, filters: in_channels, kernel: 1}
        - {rescale: minus, factor: -1, offset: 0.0, as: residual}
        - {add: [residual, x]}
        """,
        ("c(x) minus(c) add(minus, x) -> add",),
    ),
    "a layer that scales by one": Case(
        """
        - {rescale: one, factor: 1}
        - {conv: c, filters: 8, kernel: 1}
        """,
        ("one(x) c(one) -> c",),
    ),
    "layers below a name, one of them in some uses": Case(
        """
        - {conv: short.0, filters: 8, kernel: 1, when: flag, as: y}
        - {norm: short.1, from: y}
        """,
        ("short.0(x) short.1(short.0) -> short.1", "short.1(x) -> short.1"),
        args="{flag: true}",
        uses="[{}, {flag: false}]",
    ),
    "a call is before 'defaults', and these are before the argument": Case(
        """
        - {act: own, when: k == 1}
        - {norm: usual, when: k == 2}
        - {conv: called, filters: 8, kernel: 1, when: k == 3}
        - {conv: c, filters: 8, kernel: 1}
        """,
        ("usual(x) c(usual) -> c", "called(x) c(called) -> c"),
        args="{k: 1}",
        uses="[{}, {k: 3}]",
        defaults="{b: {k: 2}}",
    ),
    "a let stands on those before it": Case(
        """
        - {norm: n, when: r == 9}
        - {act: a, when: r != 9}
        - {conv: c, filters: r, kernel: 1}
        """,
        ("n(x) c(n) -> c",),
        lets="{p: 3, q: p * 2, r: q + p}",
    ),
    "a block sees the channels of its own input": Case(
        """
        - {act: odd, when: in_channels % 2 == 1}
        - {conv: c, filters: f, kernel: 1}
        """,
        ("c(x) -> c", "odd(x) c(odd) -> c"),
        args="{f: 7}",
        uses="[{}, {f: 8}]",
    ),
    "the last layer is left out": Case(
        """
        - {conv: c, filters: 8, kernel: 1}
        - {dropout: d, rate: 0.5, when: flag}
        """,
        ("c(x) -> c", "c(x) d(c) -> d"),
        args="{flag: false}",
        uses="[{}, {flag: true}]",
    ),
    "a truth in a sum is a number": Case(
        """
        - {conv: c, filters: "(k > 0) + 0", kernel: "1 * (k > 0)", stride: "(k > 0) ** 1"}
        - {block: inner, name: b, f: "(k > 1) + (k - k) + 1"}
        """,
        ("c(x) b(c) -> b",) * 2,
        args="{k: 1}",
        uses="[{}, {k: 2}]",
        blocks="""
        inner:
          description: I
          args: {f: 4}
          layers:
            - {conv: c, filters: f, kernel: 1}
        """,
    ),
    "a condition that gives true or false": Case(
        """
        - {for: j, count: k, layers: [{act: "a.{j}", when: true if j > 0 else false}]}
        - {conv: c, filters: 8, kernel: 1}
        """,
        ("a.1(x) c(a.1) -> c", "a.1(x) a.2(a.1) c(a.2) -> c"),
        args="{k: 2}",
        uses="[{}, {k: 3}]",
    ),
    "loops that end with the same layer": Case(
        """
        - {act: a}
        - for: h
          count: 1
          layers:
            - for: j
              count: 2
              layers:
                - for: k
                  count: 2
                  layers:
                    - {identity: "i.{h}.{j}.{k}", as: before}
                    - {conv: "c.{h}.{j}.{k}", filters: 8, kernel: 1, from: x, as: kept}
                    - {add: [kept, before], name: "s.{h}.{j}.{k}"}
                    - {conv: "d.{h}.{j}.{k}", filters: 8, kernel: 1}
                - {identity: "t.{h}.{j}", as: x}
        """,
        (
            "a(x) i.0.0.0(a) c.0.0.0(x) s.0.0.0(c.0.0.0, i.0.0.0) d.0.0.0(s.0.0.0) "
            "i.0.0.1(d.0.0.0) c.0.0.1(x) s.0.0.1(c.0.0.1, i.0.0.1) d.0.0.1(s.0.0.1) "
            "t.0.0(d.0.0.1) "
            "i.0.1.0(t.0.0) c.0.1.0(t.0.0) s.0.1.0(c.0.1.0, i.0.1.0) d.0.1.0(s.0.1.0) "
            "i.0.1.1(d.0.1.0) c.0.1.1(t.0.0) s.0.1.1(c.0.1.1, i.0.1.1) d.0.1.1(s.0.1.1) "
            "t.0.1(d.0.1.1) -> t.0.1",
        ),
    ),
    "layers in a row under one condition": Case(
        """
        - {conv: a, filters: 8, kernel: 1}
        - {conv: b, filters: 8, kernel: 1, init: zeros, when: flag}
        - {act: c.1, when: flag}
        - {norm: n, init: zeros, when: flag}
        - {conv: d, filters: 8, kernel: 1}
        """,
        ("a(x) d(a) -> d", "a(x) b(a) c.1(b) n(c.1) d(n) -> d"),
        args="{flag: false}",
        uses="[{}, {flag: true}]",
    ),
    "a branch that reads what another value takes the place of": Case(
        """
        - {conv: a, filters: 8, kernel: 1, as: kept}
        - {max_pool: p, kernel: 3, stride: 1}
        - {conv: q, filters: 8, kernel: 1, when: flag, else: kept}
        - {act: r, when: flag}
        - {conv: d, filters: 8, kernel: 1}
        """,
        ("a(x) p(a) d(a) -> d", "a(x) p(a) q(p) r(q) d(r) -> d"),
        args="{flag: false}",
        uses="[{}, {flag: true}]",
    ),
    "two values that change places where a branch is not taken": Case(
        """
        - {conv: a, filters: 8, kernel: 1, as: one}
        - {conv: b, filters: 8, kernel: 1, as: two}
        - {conv: c, filters: 8, kernel: 1, from: one, when: flag, else: two, as: other}
        - {conv: d, filters: 8, kernel: 1, from: two, when: flag, else: one, as: two}
        - {identity: i, from: other, as: one}
        - {conv: e, filters: 8, kernel: 1, from: one, as: first}
        - {conv: f, filters: 8, kernel: 1, from: two, as: last}
        - {concat: [last, first], name: both}
        """,
        (
            "a(x) b(a) i(b) e(i) f(a) both(f, e) -> both",
            "a(x) b(a) c(a) d(b) i(c) e(i) f(d) both(f, e) -> both",
        ),
        args="{flag: false}",
        uses="[{}, {flag: true}]",
    ),
    "a block that ends with a branch": Case(
        """
        - {conv: a, filters: 8, kernel: 1}
        - {conv: b, filters: 8, kernel: 1, when: flag}
        - {act: c, when: flag}
        """,
        ("a(x) -> a", "a(x) b(a) c(b) -> c"),
        args="{flag: false}",
        uses="[{}, {flag: true}]",
    ),
    "a block that ends with a branch or another value": Case(
        """
        - {conv: a, filters: 8, kernel: 1, as: kept}
        - {max_pool: p, kernel: 3, stride: 1, when: flag}
        - {conv: b, filters: 8, kernel: 1, when: flag}
        - {act: c, when: flag, else: kept, as: out}
        """,
        ("a(x) -> a", "a(x) p(a) b(p) c(b) -> c"),
        args="{flag: false}",
        uses="[{}, {flag: true}]",
    ),
    "what stands in for a value under a condition": Case(
        """
        - {conv: a, filters: 8, kernel: 1, as: one}
        - {conv: b, filters: 8, kernel: 1, as: two}
        - {identity: i, from: two, when: flag, else: one}
        - {act: c, when: flag}
        - {conv: d, filters: 8, kernel: 1, as: last}
        - {concat: [one, two, last], name: all}
        """,
        ("a(x) b(a) d(a) all(a, b, d) -> all", "a(x) b(a) i(b) c(i) d(c) all(a, b, d) -> all"),
        args="{flag: false}",
        uses="[{}, {flag: true}]",
    ),
    "an attribute that makes another layer of an operation": Case(
        """
        - {conv: c, filters: 8, kernel: 3, standardize: flag}
        - {max_pool: m, kernel: 3, stride: 2, ceil: flag}
        - {avg_pool: a, kernel: 2, padding: 0, ceil: flag}
        - {softmax: s, groups: "2 if flag else 0"}
        """,
        ("c(x) m(c) a(m) s(a) -> s",) * 2,
        args="{flag: false}",
        uses="[{}, {flag: true}]",
    ),
    "an attribute that makes another layer in each turn": Case(
        """
        - {for: j, count: 2, layers: [{conv: "c.{j}", filters: 8, kernel: 3, standardize: j == k}]}
        """,
        ("c.0(x) c.1(c.0) -> c.1",) * 2,
        args="{k: 0}",
        uses="[{}, {k: 1}]",
    ),
}
