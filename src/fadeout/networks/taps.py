"""Every weighted sum of any JAX function, seen while its loss is differentiated.

`loss(parameters, *data)` is traced and its jaxpr walked. Each `dot_general`, convolution or lookup
in which something made of parameters alone meets data is a *weighted sum*. Its output gets a tap,
a zero that is added and by which the loss is differentiated as well: that gradient is
delta = dL/dz. No framework is patched, so that Flax, Equinox, Haiku and plain JAX are the same.

`jit`, `remat`, `scan` and `cond` are walked into. A kernel that is scanned over is a stack of
layers; one that stands still while data is scanned has a time axis. What is not seen (inside of
functions with gradients of their own, and of `while`) is named.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jaxtyping import Array, Float

from fadeout.networks.activations import value_and_vjp
from fadeout.networks.jaxprs import ELEMENTWISE, INLINED, as_closed, scan_counts
from fadeout.registry import FadeoutError

OUTPUT = "fadeout: a network's output"
"""The name (`jax.ad_checkpoint.checkpoint_name`) behind which no activation is looked for."""

_KINDS = {"dot_general": "dense", "conv_general_dilated": "convolution", "gather": "embedding"}
_KEEPING = frozenset(
    ("convert_element_type", "reshape", "squeeze", "expand_dims", "copy", "copy_p",
     "broadcast_in_dim", "sharding_constraint")
)  # fmt: skip
"""Behind these, what has as many elements is the parameter itself, in its order."""
_ADDS = frozenset(("add", "add_any"))
_GRID = 61
"""Points between -3 and 3, at least, among which an activation's steepest slope is looked for."""


class _Made(NamedTuple):
    """The parameters that make a value which no data enters.

    Attributes:
      leaves: the parameters.
      plain: whether it is one of them as it is, in another shape at most.
      sliced: the loops in whose turns it differs, counted from the outermost.
    """

    leaves: frozenset[int] = frozenset()
    plain: bool = False
    sliced: frozenset[int] = frozenset()


_Kind = _Made | None
"""None of data."""


class WeightedSum(NamedTuple):
    """One place in a function where a parameter weighs data.

    Attributes:
      leaves: the parameters of which its kernel is made, by number.
      bias: likewise, of what is added to the sum; None where nothing is.
      kind: dense, convolution or embedding.
      loops: of all loops around it, from the outermost: `layer`, where each turn has a kernel of
        its own; `time` or `time reversed`, where data is carried from turn to turn; else `turn`.
      shape: of its output, in one turn.
      equation: of the jaxpr.
      data: which of its operands is data, 0 or 1.
      plain: whether its kernel is the parameter as it is.
      activated: whether an activation function follows.
      cut: how much of its place in the tree of sums leads to the outermost loop of layers.
    """

    leaves: tuple[int, ...]
    bias: int | None
    kind: str
    loops: tuple[str, ...]
    shape: tuple[int, ...]
    equation: Any
    data: int
    plain: bool
    activated: bool
    cut: int

    @property
    def leaf(self) -> int:
        """The first of the parameters."""
        return self.leaves[0]

    @property
    def layer_axes(self) -> list[int]:
        """The loops whose turns are layers."""
        return [n for n, word in enumerate(self.loops) if word == "layer"]

    @property
    def other_axes(self) -> list[int]:
        """The loops whose turns count as examples."""
        return [n for n, word in enumerate(self.loops) if word != "layer"]


class Seen(NamedTuple):
    """The values that passed through a weighted sum; before all axes of one turn stand those of the
    loops.

    Attributes:
      x: what is weighed.
      z: the sum, with its bias.
      kernel: None where it is a parameter as it is.
      activation, slope: phi(z) and phi'(z), where an activation function follows.
      lowest, highest: the least and the largest phi' between -3 and 3.
    """

    x: Array
    z: Array
    kernel: Array | None = None
    activation: Array | None = None
    slope: Array | None = None
    lowest: Array | None = None
    highest: Array | None = None


class Trace(NamedTuple):
    """A function that was traced, with its weighted sums in their order.

    Attributes:
      sums: a tree of lists: a list for each loop or call that is walked into.
      zeros: taps that add nothing, a tree as `sums`.
      elsewhere: parameters that enter also in other ways (a penalty on weights).
    """

    program: core.ClosedJaxpr
    kinds: list[_Kind]
    sums: list
    zeros: list
    elsewhere: frozenset[int]

    def run(self, arguments: Sequence[Array], taps: list) -> tuple[list[Array], list]:
        """Returns the outputs, and what was seen, a tree as `sums`.

        Args:
          taps: to be added, a tree as `sums`.
        """
        walk = _Walk()
        return walk.run(self.program, self.kinds, list(arguments), taps, [], _Around())


def trace_sums(function: Callable, parameters: int, fixed: int, arguments: Sequence[Any]) -> Trace:
    """Traces a function of flat arguments: parameters, a network's other state, and data.

    Args:
      parameters, fixed: how many of the arguments are parameters, and other state.

    Raises:
      FadeoutError: no parameter meets data in a weighted sum.
    """
    program = _inlined(jax.make_jaxpr(function)(*arguments))
    kinds: list[_Kind] = [_Made(frozenset([leaf]), True) for leaf in range(parameters)]
    kinds += [_Made()] * fixed
    kinds += [None] * (len(program.jaxpr.invars) - parameters - fixed)
    walk = _Walk()
    sums: list = []
    _, seen = jax.eval_shape(
        lambda *own: walk.run(program, kinds, list(own), None, sums, _Around()),
        *(jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in program.jaxpr.invars),
    )
    if not any(isinstance(s, WeightedSum) for s in flatten(sums)):
        raise FadeoutError(
            "no weighted sum of parameters and data was found: the first argument of the loss must "
            "be the parameters, as arrays, and the data must be other arguments"
        )
    return Trace(program, kinds, sums, _zeros_for(seen), frozenset(walk.elsewhere))


def flatten(tree: Any) -> list:
    """The entries of nested lists, in order."""
    return [x for part in tree for x in flatten(part)] if isinstance(tree, list) else [tree]


def places(tree: list, before: tuple = ()) -> Iterator[tuple]:
    """The place of each entry of nested lists, in the order of `flatten`."""
    for number, part in enumerate(tree):
        own = (*before, number)
        if isinstance(part, list):
            yield from places(part, own)
        else:
            yield own


def _zeros_for(seen: list) -> list:
    """Makes taps for what was seen: zeros in the shapes of the sums."""
    return [
        _zeros_for(own) if isinstance(own, list) else jnp.zeros(own.z.shape, own.z.dtype)
        for own in seen
    ]


# --- programs inside of programs


def _called(equation: Any) -> core.ClosedJaxpr | None:
    """The program that an equation calls with its own operands, or None. What has a rule of its own
    for gradients is not walked into: its gradients would be others."""
    if equation.primitive.name.startswith("custom_"):
        return None
    inner = equation.params.get(INLINED.get(equation.primitive.name, ""))
    if inner is None or len(as_closed(inner).jaxpr.invars) != len(equation.invars):
        return None
    return as_closed(inner)


def _bind(equation: Any, values: Sequence[Any]) -> list:
    given = equation.primitive.get_bind_params(equation.params)
    subfunctions, parameters = ((), given) if isinstance(given, dict) else given  # before jax 0.10
    found = equation.primitive.bind(*subfunctions, *values, **parameters)
    return list(found) if equation.primitive.multiple_results else [found]


def _inlined(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """The same program without calls of jitted functions."""

    def run(closed, values) -> list:
        known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        known.update(zip(closed.jaxpr.invars, values, strict=True))

        def read(v):
            return v.val if isinstance(v, core.Literal) else known[v]

        for e in closed.jaxpr.eqns:
            own = [read(v) for v in e.invars]
            jitted = e.primitive.name in ("jit", "pjit", "closed_call", "core_call")
            inner = _called(e) if jitted else None
            found = _bind(e, own) if inner is None else run(inner, own)
            known.update(zip(e.outvars, found, strict=True))
        return [read(v) for v in closed.jaxpr.outvars]

    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
    return jax.make_jaxpr(lambda *values: run(closed, values))(*shapes)


def _scan_counts(equation: Any) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are carried."""
    given, made = ([v.aval.shape for v in own] for own in (equation.invars, equation.outvars))
    return scan_counts(given, made, as_closed(equation.params["jaxpr"]).jaxpr)


# --- what a value is made of


def _joined(kinds: Sequence[_Kind]) -> _Kind:
    if any(kind is None for kind in kinds):
        return None
    known = [kind for kind in kinds if kind is not None]
    leaves = frozenset().union(*(kind.leaves for kind in known))
    return _Made(leaves, False, frozenset().union(*(kind.sliced for kind in known)))


def _kinds_after(equation: Any, kinds: Sequence[_Kind]) -> list[_Kind]:
    made = _joined(kinds)
    if made is not None and equation.primitive.name in _KEEPING:
        source = kinds[0]
        whole = equation.invars[0].aval.size == equation.outvars[0].aval.size
        made = made._replace(plain=source is not None and source.plain and whole)
    return [made] * len(equation.outvars)


def _operands(equation: Any, kinds: Sequence[_Kind]) -> int | None:
    """Returns which of a weighted sum's first two operands is data; None of other equations."""
    if equation.primitive.name not in _KINDS:
        return None
    first, second = kinds[:2]
    if equation.primitive.name == "gather":
        return 1 if first and first.leaves and second is None else None
    if first is None and second is not None and second.leaves:
        return 0
    convolves = equation.primitive.name == "conv_general_dilated"
    if second is None and first is not None and first.leaves and not convolves:
        return 1
    return None


class _Around(NamedTuple):
    """The surroundings of a program that is walked into.

    Attributes:
      loops: around it, from the outermost: a word for each, and how much of a place leads there.
      nest: how many lists it lies in.
      after: whether a weighted sum outside depends on its results.
    """

    loops: tuple[tuple[str, int], ...] = ()
    nest: int = 0
    after: bool = False


class _Move(NamedTuple):
    """A reshape of a sum, or with an order a transpose."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    order: tuple[int, ...] | None

    def undo(self, x: Array) -> Array:
        if self.order is None:
            return x.reshape(self.before)
        return x.transpose([self.order.index(axis) for axis in range(len(self.order))])

    def do(self, x: Array) -> Array:
        return x.reshape(self.after) if self.order is None else x.transpose(self.order)


class _Plan(NamedTuple):
    """A weighted sum of one jaxpr: its equation, the variable of z with its bias, how the sum
    became that, and what applies to z element by element."""

    number: int
    data: int
    z: Any
    bias: int | None
    moves: list[_Move]
    phi: tuple[list, Any, Any, list] | None

    def as_sum(self, x: Array) -> Array:
        """An array of the shape of z, in the order of the sum's axes."""
        for move in reversed(self.moves):
            x = move.undo(x)
        return x

    def as_z(self, x: Array) -> Array:
        """An array of the shape of the sum, in the order of the axes of z."""
        for move in self.moves:
            x = move.do(x)
        return x


class _Walk:
    """Evaluates a jaxpr, and whatever it calls that has a weighted sum inside."""

    def __init__(self):
        self.elsewhere: set[int] = set()

    def kinds(self, closed: core.ClosedJaxpr, kinds: Sequence[_Kind], depth: int):
        """Finds what all variables of a jaxpr are made of, and how many weighted sums each
        equation has inside."""
        known: dict[Any, _Kind] = dict.fromkeys(closed.jaxpr.constvars, _Made())
        known.update(zip(closed.jaxpr.invars, kinds, strict=True))
        counts: dict[int, int] = {}
        for number, e in enumerate(closed.jaxpr.eqns):
            own = [_kind_of(known, v) for v in e.invars]
            name, inner = e.primitive.name, _called(e)
            if name == "scan":
                after, counts[number] = self.scan_kinds(e, own, depth)[1:]
            elif name == "cond":
                inside = [self.outs(as_closed(b), own[1:], depth) for b in e.params["branches"]]
                counts[number] = sum(count for _, count in inside)
                after = [
                    _joined([own[0], *outs]) for outs in zip(*(o for o, _ in inside), strict=True)
                ]
            elif inner is not None:
                after, counts[number] = self.outs(inner, own, depth)
            else:
                counts[number] = int(_operands(e, own) is not None)
                after = _kinds_after(e, own)
                if not counts[number] and any(kind is None for kind in after):
                    self.elsewhere |= {
                        leaf for kind in own if kind is not None for leaf in kind.leaves
                    }
            known.update(zip(e.outvars, after, strict=True))
        return known, counts

    def outs(self, closed, kinds, depth) -> tuple[list[_Kind], int]:
        known, counts = self.kinds(closed, kinds, depth)
        return [_kind_of(known, v) for v in closed.jaxpr.outvars], sum(counts.values())

    def scan_kinds(self, equation, kinds, depth) -> tuple[list[_Kind], list[_Kind], int]:
        """Returns the kinds of the body's arguments and of the results, and the number of sums."""
        constants, carry = _scan_counts(equation)
        ends = constants + carry
        sliced = [
            kind if kind is None else kind._replace(sliced=kind.sliced | {depth})
            for kind in kinds[ends:]
        ]
        counters = [  # which differ from turn to turn
            kind._replace(sliced=kind.sliced | {depth}) if kind == _Made() else kind
            for kind in kinds[constants:ends]
        ]
        own = [*kinds[:constants], *counters, *sliced]
        body = as_closed(equation.params["jaxpr"])
        for _ in range(carry + 1):  # a carry is data where the body makes it so
            after, _ = _Walk().outs(body, own, depth + 1)
            carried = list(map(_both, own[constants:ends], after[:carry]))
            if carried == own[constants:ends]:
                break
            own[constants:ends] = carried
        after, count = self.outs(body, own, depth + 1)
        return own, [*own[constants:ends], *after[carry:]], count

    # --- one jaxpr

    def plan(self, closed, kinds, around: _Around) -> tuple[dict, dict, dict]:
        jaxpr = closed.jaxpr
        known, counts = self.kinds(closed, kinds, len(around.loops))
        users: dict[Any, list] = {}
        for e in jaxpr.eqns:
            for v in e.invars:
                if isinstance(v, core.Var):
                    users.setdefault(v, []).append(e)
        results = {v for v in jaxpr.outvars if isinstance(v, core.Var)}
        marked = any(_is_output(e) for e in jaxpr.eqns)
        plans: dict[Any, _Plan] = {}
        for number, e in enumerate(jaxpr.eqns):
            own = [_kind_of(known, v) for v in e.invars]
            data = _operands(e, own)
            if data is None:
                continue
            z, bias, moves = _bias_after(e.outvars[0], users, results, known)
            phi = None
            if marked or _goes_on(jaxpr, [z], counts, around.after):
                starts = [z, *_normalised_after(jaxpr, z, known)]
                tried = (_activation_after(jaxpr, start, known, results) for start in starts)
                phi = next(filter(None, tried), None)
            plans[z] = _Plan(number, data, z, bias, moves, phi)
        return known, counts, plans

    def run(
        self,
        closed: core.ClosedJaxpr,
        kinds: Sequence[_Kind],
        arguments: list,
        taps: list | None,
        notes: list,
        around: _Around,
    ) -> tuple[list, list]:
        """Evaluates a jaxpr with taps.

        Args:
          taps: consumed from the front, an entry for each weighted sum or program inside.
          notes: gets the weighted sums.
        """
        jaxpr = closed.jaxpr
        known, counts, plans = self.plan(closed, kinds, around)
        values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))
        left = None if taps is None else list(taps)
        order: list = []

        def read(v):
            return v.val if isinstance(v, core.Literal) else values[v]

        for number, e in enumerate(jaxpr.eqns):
            own = [read(v) for v in e.invars]
            kinds_in = [_kind_of(known, v) for v in e.invars]
            inside = counts[number] and _operands(e, kinds_in) is None
            if inside:
                tap = None if left is None else left.pop(0)
                inner_notes: list = []
                later = {n: count for n, count in counts.items() if n > number}
                goes_on = _goes_on(jaxpr, e.outvars, later, around.after)
                inner = around._replace(nest=around.nest + 1, after=goes_on)
                found, seen = self.step_into(e, own, kinds_in, tap, inner_notes, inner)
                notes.append(inner_notes)
                order.append(seen)
            else:
                found = _bind(e, own)
            values.update(zip(e.outvars, found, strict=True))
            for v in e.outvars:
                if v in plans:
                    if left is not None:
                        values[v] = values[v] + plans[v].as_z(left.pop(0))
                    notes.append(self.note(jaxpr, plans[v], known, around))
                    order.append(plans[v])
        seen = [
            self.see(jaxpr, entry, notes[n], read) if isinstance(entry, _Plan) else entry
            for n, entry in enumerate(order)
        ]
        return [read(v) for v in jaxpr.outvars], seen

    def note(self, jaxpr, plan: _Plan, known, around: _Around) -> WeightedSum:
        e = jaxpr.eqns[plan.number]
        made = _kind_of(known, e.invars[1 - plan.data])
        assert made is not None
        words = tuple(
            "layer" if depth in made.sliced else word
            for depth, (word, _) in enumerate(around.loops)
        )
        cuts = (cut for word, (_, cut) in zip(words, around.loops, strict=True) if word == "layer")
        return WeightedSum(
            tuple(sorted(made.leaves)), plan.bias, _KINDS[e.primitive.name], words,
            e.outvars[0].aval.shape, e, plan.data, made.plain, plan.phi is not None, next(cuts, 0),
        )  # fmt: skip

    def see(self, jaxpr, plan: _Plan, note: WeightedSum, read) -> Seen:
        e = jaxpr.eqns[plan.number]
        z = read(plan.z)
        x, kernel = read(e.invars[plan.data]), read(e.invars[1 - plan.data])
        seen = Seen(x, plan.as_sum(z), None if note.plain else kernel)
        if plan.phi is None:
            return seen
        equations, start, h, constants = plan.phi
        fixed = [read(v) for v in constants]
        phi = _subprogram([start, *constants], equations, [h])
        at = read(start)
        value, slope = value_and_vjp(lambda z: phi(z, *fixed)[0], at)
        parts = math.ceil(_GRID / max(at.size, 1))  # z may have fewer elements than the grid
        grid = jnp.linspace(-3, 3, parts * at.size, dtype=at.dtype).reshape(parts, *at.shape)
        slopes = lax.map(lambda z: value_and_vjp(lambda z: phi(z, *fixed)[0], z)[1], grid)
        return seen._replace(
            activation=plan.as_sum(value), slope=plan.as_sum(slope),
            lowest=jnp.min(slopes), highest=jnp.max(slopes),
        )  # fmt: skip

    def step_into(self, equation, values, kinds, taps, notes, around) -> tuple[list, list]:
        name, parameters = equation.primitive.name, equation.params
        if name == "scan":
            return self.scan(equation, values, kinds, taps, notes, around)
        if name == "cond":
            return self.cond(equation, values, kinds, taps, notes, around)
        inner = _inlined(_called(equation))

        def call(values, taps):
            notes.clear()
            return self.run(inner, kinds, values, taps, notes, around)

        if "checkpoint" in name or "remat" in name:
            call = jax.checkpoint(
                call, policy=parameters["policy"], prevent_cse=parameters["prevent_cse"]
            )
        return call(values, taps)

    def scan(self, equation, values, kinds, taps, notes, around) -> tuple[list, list]:
        constants, carry = _scan_counts(equation)
        ends = constants + carry
        own, _, _ = self.scan_kinds(equation, kinds, len(around.loops))
        body = _inlined(as_closed(equation.params["jaxpr"]))
        word = "turn"
        if any(kind is None for kind in own[constants:ends]):
            word = "time reversed" if equation.params["reverse"] else "time"
        inner = around._replace(loops=(*around.loops, (word, around.nest)), after=True)

        def step(carried, given):
            xs, taps = given
            notes.clear()
            arguments = [*values[:constants], *carried, *xs]
            outs, seen = self.run(body, own, arguments, taps, notes, inner)
            return outs[:carry], (outs[carry:], seen)

        options = {name: equation.params[name] for name in ("length", "reverse", "unroll")}
        start, xs = values[constants:ends], values[ends:]
        carried, (results, seen) = lax.scan(step, start, (xs, taps), **options)
        return [*carried, *results], seen

    def cond(self, equation, values, kinds, taps, notes, around) -> tuple[list, list]:
        branches = [_inlined(as_closed(branch)) for branch in equation.params["branches"]]
        index, operands = values[0], values[1:]
        found: list[list] = [[] for _ in branches]

        def run(number, operands, taps):
            found[number].clear()
            own = None if taps is None else taps[number]
            inner = around._replace(nest=around.nest + 1)
            return self.run(branches[number], kinds[1:], operands, own, found[number], inner)

        shapes = [
            jax.eval_shape(partial(run, number), operands, taps)[1] for number in range(len(found))
        ]

        def branch(number):
            def call(operands, taps):
                outs, seen = run(number, operands, taps)
                absent = [jax.tree.map(_absent, other) for other in shapes]
                return outs, [*absent[:number], seen, *absent[number + 1 :]]

            return call

        result = lax.switch(index, [branch(number) for number in range(len(found))], operands, taps)
        notes[:] = found
        return result


def _absent(like: Any) -> Array:
    """Returns what a branch that was not taken shows."""
    blank = jnp.nan if jnp.issubdtype(like.dtype, jnp.inexact) else 0
    return jnp.full(like.shape, blank, like.dtype)


def _kind_of(known: dict[Any, _Kind], v: Any) -> _Kind:
    return _Made() if isinstance(v, core.Literal) else known[v]


def _both(a: _Kind, b: _Kind) -> _Kind:
    return a if a == b else _joined([a, b])


# --- what stands after a weighted sum


def _bias_after(
    z: Any, users: dict, results: set, known: dict
) -> tuple[Any, int | None, list[_Move]]:
    """The variable that is a sum with its bias, the bias, and the moves from the sum to it; without
    a bias, the sum itself, moved as far as it only is."""
    at, moves = z, list[_Move]()
    moved, until = z, 0
    while at not in results and len(users.get(at, [])) == 1:
        (e,) = users[at]
        name, after = e.primitive.name, e.outvars[0]
        if after.aval.size != z.aval.size:
            break
        if name in _ADDS:
            (other,) = (
                (v for v in e.invars if v is not at) if e.invars[0] is not e.invars[1] else (at,)
            )
            kind = _kind_of(known, other)
            if kind is not None and kind.leaves:
                bias = min(kind.leaves) if len(kind.leaves) == 1 else None
                return after, bias, [*moves, _Move(at.aval.shape, after.aval.shape, None)]
            break
        if name not in ("convert_element_type", "reshape", "squeeze", "expand_dims", "transpose"):
            break
        moves.append(_Move(at.aval.shape, after.aval.shape, e.params.get("permutation")))
        at = after
        if name != "convert_element_type":
            moved, until = at, len(moves)
    return moved, None, moves[:until]


def _is_output(equation: Any) -> bool:
    return equation.primitive.name == "name" and equation.params.get("name") == OUTPUT


def _goes_on(jaxpr: Any, starts: Sequence[Any], counts: dict[int, int], after: bool) -> bool:
    """Returns whether a later weighted sum depends on some variables: a head's loss is no
    activation function.

    Args:
      counts: of weighted sums, by equation.
      after: whether one outside depends on the results.
    """
    moving = set(starts)
    for number, e in enumerate(jaxpr.eqns):
        if any(isinstance(v, core.Var) and v in moving for v in e.invars):
            if counts.get(number):
                return True
            moving |= set(e.outvars)
    return after and any(isinstance(v, core.Var) and v in moving for v in jaxpr.outvars)


def _normalised_after(jaxpr: Any, z: Any, known: dict) -> list:
    """The variables, in order, of the shape of z that depend on z alone: a batch norm's result."""
    inside, found = {z}, []
    for e in jaxpr.eqns:
        used = {v for v in e.invars if isinstance(v, core.Var) and known[v] is None}
        if used and used <= inside and not _is_output(e):
            inside |= set(e.outvars)
            found += [
                v
                for v in e.outvars
                if v.aval.shape == z.aval.shape and jnp.issubdtype(v.aval.dtype, jnp.floating)
            ]
    return found


def _activation_after(
    jaxpr: Any, z: Any, known: dict, results: set
) -> tuple[list, Any, Any, list] | None:
    """The equations that apply to z element by element, z, their one result, and what else they
    use; None where z goes through nothing of the kind."""
    inside, equations = {z}, []
    for e in jaxpr.eqns:
        used = [v for v in e.invars if isinstance(v, core.Var)]
        if not inside & set(used) or _is_output(e):
            continue
        if any(known[v] is None and v not in inside for v in used):
            continue
        if {v.aval.shape for v in e.outvars} == {z.aval.shape} and _is_elementwise(e, inside):
            inside |= set(e.outvars)
            equations.append(e)
    after = {
        v
        for e in jaxpr.eqns
        if not any(e is own for own in equations)
        for v in e.invars
        if isinstance(v, core.Var) and v in inside
    } | (inside & results)
    if len(after) != 1 or z in after:
        return None
    (h,) = after
    if not jnp.issubdtype(h.aval.dtype, jnp.floating):
        return None
    constants = dict.fromkeys(
        v for e in equations for v in e.invars if isinstance(v, core.Var) and v not in inside
    )
    return equations, z, h, list(constants)


def _is_elementwise(equation: Any, moving: set) -> bool:
    """Returns whether an equation, and what it calls, works element by element on what depends on
    z."""
    name = equation.primitive.name
    if name in ELEMENTWISE or name == "name":
        return True
    called = equation.params.get(INLINED.get(name, ""))
    if called is None:
        return False
    jaxpr = as_closed(called).jaxpr
    pairs = zip(equation.invars, jaxpr.invars, strict=True)
    inner = {own for v, own in pairs if isinstance(v, core.Var) and v in moving}
    for e in jaxpr.eqns:
        if any(isinstance(v, core.Var) and v in inner for v in e.invars):
            if not _is_elementwise(e, inner):
                return False
            inner |= set(e.outvars)
    return True


def _subprogram(arguments: list, equations: list, results: list) -> Callable:
    """A function of some variables of a jaxpr, by some of its equations."""
    about = core.DebugInfo("part", "part of a network", None, None)
    own = core.Jaxpr([], arguments, results, equations, debug_info=about)
    return core.jaxpr_as_fun(core.ClosedJaxpr(own, []))


# --- as matrices


def dimensions(note: WeightedSum) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """How the axes of a sum's output are ordered as examples and units, and its units.

    Returns:
      The axes of examples, those of units, and the number of units.
    """
    e = note.equation
    if note.kind == "dense":
        (left, right), (batch, _) = e.params["dimension_numbers"]
        operands = [v.aval.shape for v in e.invars]
        free = [
            len(shape) - len(c) - len(batch)
            for shape, c in zip(operands, (left, right), strict=True)
        ]
        first = tuple(range(len(batch), len(batch) + free[0]))
        second = tuple(range(len(batch) + free[0], len(note.shape)))
        examples, units = (first, second) if note.data == 0 else (second, first)
        units = (*range(len(batch)), *units)
    elif note.kind == "convolution":
        feature = e.params["dimension_numbers"].out_spec[1]
        units = (feature,)
        examples = tuple(axis for axis in range(len(note.shape)) if axis != feature)
    else:
        units = tuple(e.params["dimension_numbers"].offset_dims)
        examples = tuple(axis for axis in range(len(note.shape)) if axis not in units)
    return examples, units, math.prod(note.shape[axis] for axis in units)


def as_rows(note: WeightedSum, signal: Float[Array, "..."]) -> Float[Array, "*layer example unit"]:
    """A signal in the shape of z as a matrix for each layer: positions of sequences and images, and
    steps in time, count as examples."""
    examples, units, width = dimensions(note)
    loops = len(note.loops)
    layers, others = note.layer_axes, note.other_axes
    order = [*layers, *others, *(loops + axis for axis in (*examples, *units))]
    shape = tuple(signal.shape[n] for n in layers)
    return jnp.transpose(signal, order).reshape(*shape, -1, width)


def kernel_gradients(note: WeightedSum, seen: Seen, delta: Array, kernel: Any) -> Array:
    """dL/dkernel of this one sum, x^T delta, for each layer, in the shape of the kernel.

    Args:
      kernel: its shape and dtype, in one turn.
    """
    e = note.equation

    def of_turn(x, delta):
        def weigh(kernel):
            operands = (x, kernel) if note.data == 0 else (kernel, x)
            return _bind(e, operands)[0]

        return jax.linear_transpose(weigh, kernel)(delta.astype(e.outvars[0].aval.dtype))[0]

    found = of_turn
    for _ in note.loops:
        found = jax.vmap(found)
    gradient = found(seen.x, delta)
    return jnp.sum(gradient, tuple(note.other_axes))


def kernel_as_matrix(note: WeightedSum, kernel: Array) -> Float[Array, "fan_in fan_out"]:
    """A kernel of one turn, in its shape in the equation, with its units last."""
    e = note.equation
    if note.kind == "dense":
        contracted, batched = (own[1 - note.data] for own in e.params["dimension_numbers"])
        free = [n for n in range(kernel.ndim) if n not in (*contracted, *batched)]
        order, rows = (*contracted, *batched, *free), len(contracted)
    elif note.kind == "convolution":
        feature = e.params["dimension_numbers"].rhs_spec[0]
        order, rows = (*(n for n in range(kernel.ndim) if n != feature), feature), kernel.ndim - 1
    else:
        order, rows = tuple(range(kernel.ndim)), 1
    shape = [kernel.shape[n] for n in order]
    return jnp.transpose(kernel, order).reshape(math.prod(shape[:rows]), math.prod(shape[rows:]))
