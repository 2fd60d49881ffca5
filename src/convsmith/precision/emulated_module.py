"""A torch network that trains and runs under a plan, its source unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convsmith.errors import UnsupportedError, UsageError
from convsmith.precision.counters import Counters
from convsmith.precision.interception import Call, Interceptor
from convsmith.precision.matching import Assignment, decide, require_exempt, require_matches, table
from convsmith.precision.operators import CLOSED, MOVES
from convsmith.precision.parameter_reading import Reader
from convsmith.precision.plan import Plan
from convsmith.precision.processes import check_process, summed
from convsmith.precision.quantizer import Quantizer
from convsmith.precision.rule import LEARNED, Role, Rule
from convsmith.precision.schedule import Clock
from convsmith.precision.site import Site
from convsmith.precision.streams import Moment
from convsmith.precision.survey import LOSS, Loss, check_example, kept_generators, plain_name, survey, unique
from convsmith.precision.written_out import written_out

INPUT = Assignment("input", "Input", "activation", "output", None)


class EmulatedModule(nn.Module):
    """Computes as ``network`` would with the plan's formats, forward and backward. The parameters are the network's own.

    ``assignments`` says what each tensor became; ``counters.rows`` what rounding did to it. Random bits are keyed by (seed, tensor,
    update, pass, index), so that a run repeats itself with any number of threads; ``state_dict`` holds all that a resume needs.
    ``process`` is this process's number and how many of them train together: numbers of images then have random bits of their process,
    weights those of all, and dynamic ranges move by what all have counted, after each update.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        example: Any,
        *,
        seed: int = 0,
        loss: Loss | None = None,
        count_every: int = 0,
        process: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        check_process(process)
        self.plan, self.counters = plan, Counters(count_every)
        self.moment = Moment(seed, process=process[0], processes=process[1])
        self.clock = Clock(tuple(phase.start for phase in plan.phases))
        self.learned_steps = nn.ParameterDict()
        self._quantizers: dict[tuple[int, str], Quantizer] = {}
        self._passes = {True: 0, False: 0}
        self._device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        inputs = check_example(network, example)
        self._by_name = dict(network.named_parameters())
        self._names = {id(parameter): name for name, parameter in self._by_name.items()}
        self._sites = survey(network, inputs, loss)
        self._taken = {site.layer for site in self._sites.values()}
        self._found = [INPUT, *(tensor for site in self._sites.values() for tensor in self._tensors(site))]
        require_exempt(plan.exempt, self._found)
        for phase in reversed(range(len(plan.phases) + 1)):
            require_matches(plan.rules_of(phase), self._found, f"phase {phase}, " if phase else "")
            self._bind(phase)
        self.network = network
        self._interceptor = Interceptor(network, self._call)
        if len(self.learned_steps):
            self._begin_steps(inputs)

    @property
    def assignments(self) -> tuple[Assignment, ...]:
        """Every tensor of every layer with the rule that decides it in the phase that is on."""
        rules = self.plan.rules_of(self.clock.phase)
        return tuple(self._decided(rules, tensor) for tensor in self._found)

    def table(self) -> str:
        """Return what each tensor of each layer is now, one line each."""
        return table(self.assignments)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.moment.training = self.training and torch.is_grad_enabled()
        self.moment.call = self._passes[self.moment.training]
        self._passes[self.moment.training] += 1
        inputs, named = [self._enter(x) for x in args], {name: self._enter(x) for name, x in kwargs.items()}
        with self._interceptor.listening():
            return self.network(*inputs, **named)

    @contextmanager
    def loss(self) -> Iterator[None]:
        """Compute the loss in this block under the plan, where its rules say moment ``operation``; otherwise it stays float32."""
        with self._interceptor.listening(LOSS):
            yield

    def quantizers_of(self, parameter: nn.Parameter) -> dict[Role, Quantizer]:
        """Return what rounds a parameter, its gradient, update and momentum in the phase that is on, in the layer that reads it first."""
        name = self._names.get(id(parameter))
        mine = [tensor for tensor in self._found if tensor.tensor == name]
        found = {tensor.role: self._quantizer(self.clock.phase, tensor) for tensor in mine if tensor.layer == mine[0].layer}
        return {role: quantizer for role, quantizer in found.items() if quantizer is not None}

    @torch.no_grad()
    def write_learned(self) -> None:
        """Put into the network the weights that its layers read by what was learned: from then on it is a network without a plan for them.

        Weights of learned magnitudes have three values then, those of learned steps multiples of these.
        """
        for parameter in self._by_name.values():
            found = self.quantizers_of(parameter).get("weight")
            if found is not None and found.step_size is not None:
                parameter.copy_(found.learned(parameter))

    def advance(self) -> None:
        """Count an update, and go on to the phase that it begins."""
        self._agree()
        self.moment.step += 1
        self._passes = {True: 0, False: 0}
        before = self.clock.phase
        if self.clock.at_step(self.moment.step) != before:
            self._bind(self.clock.phase)

    def _agree(self) -> None:
        """Move the dynamic ranges of numbers of images by what all processes have counted."""
        if self.moment.processes == 1:
            return
        ranges = [q.dynamic for _, q in sorted(self._quantizers.items()) if q.dynamic is not None and q.of_images]
        if ranges:
            totals = summed(torch.tensor([moving.counted() for moving in ranges], dtype=torch.int64))
            for moving, counts in zip(ranges, totals.tolist(), strict=True):
                moving.agree(counts, self.moment.processes)

    def end_epoch(self, loss: float) -> None:
        """Count an epoch and take note of its loss; a phase may begin."""
        before = self.clock.phase
        if self.clock.after_epoch(loss) != before:
            self._bind(self.clock.phase)

    def get_extra_state(self) -> dict[str, Any]:
        moving = {f"{phase}:{name}": q.state() for (phase, name), q in self._quantizers.items() if q.dynamic is not None}
        return {
            "step": self.moment.step,
            "passes": [self._passes[True], self._passes[False]],
            "clock": self.clock.state(),
            "ranges": moving,
            "counts": self.counters.to_list(),
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self.moment.step = state["step"]
        self._passes = dict(zip((True, False), state["passes"], strict=True))
        self.clock.load(state["clock"])
        self.counters.load(state["counts"])
        for (phase, name), quantizer in self._quantizers.items():
            if quantizer.dynamic is not None:
                quantizer.load(state["ranges"][f"{phase}:{name}"])
        self._bind(self.clock.phase)

    def _enter(self, x: Any) -> Any:
        """Return an input of the network as the plan has it; the caller's own tensor is not touched."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        if x.dtype != torch.float32:
            raise UsageError(f"the network computes in float32, as emulation carries every format; got {x.dtype} images: call .float()")
        quantizer = self._input
        return x if quantizer is None else quantizer.rounded(x)

    def _call(self, call: Call, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        site = self._sites.get(call) or self._meet(call)
        if site.readers:
            args, kwargs = site.replaced(args, kwargs)
        if site.inside is not None:
            result = self._inside(site, function, args, kwargs)
        else:
            result = function(*args, **kwargs)
        if site.activation is None and site.error is None:
            return result
        if isinstance(result, Tensor):
            return site.store(result) if result.is_floating_point() and not _same(result, args, function) else result
        if isinstance(result, tuple):
            return tuple(site.store(y) if isinstance(y, Tensor) and y.is_floating_point() else y for y in result)
        return result

    @staticmethod
    def _inside(site: Site, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert site.inside is not None
        try:
            return site.inside(function, args, kwargs)
        except UnsupportedError as error:
            raise UnsupportedError(f"layer {site.layer!r}: {error}") from None

    def _meet(self, call: Call) -> Site:
        """Make a site for a call that the dry run did not see; rules hold for it by its name."""
        site = self._sites[call] = Site(*call)
        site.computes = site.operator not in MOVES
        module = self.network.get_submodule(site.path) if site.path and site.path != LOSS else None
        site.layer = unique(plain_name(site, module, 2), self._taken)
        self._found += self._tensors(site)
        self._bind_site(site, self.clock.phase)
        return site

    def _tensors(self, site: Site) -> list[Assignment]:
        return site.tensors(self._by_name)

    def _bind(self, phase: int) -> None:
        for site in self._sites.values():
            self._bind_site(site, phase)
        self._input = self._quantizer(phase, INPUT)

    def _bind_site(self, site: Site, phase: int) -> None:
        found = {(tensor.role, tensor.tensor): self._quantizer(phase, tensor) for tensor in self._tensors(site)}
        activation, error = found.get(("activation", "output")), found.get(("error", "output"))
        if site.path == LOSS:
            # the loss is not stored in the network's formats: only rules for single operations speak of it
            activation, error = (q if q is not None and q.rule.moment == "operation" else None for q in (activation, error))
        sums, statistics = found.get(("accumulator", "sums")), found.get(("norm_statistics", "statistics"))
        if sums is not None and site.operator in CLOSED:
            raise UnsupportedError(
                f"layer {site.layer!r}: the sums of {site.operator} are not emulated, torch adds them in float32; keep the layer out by a "
                f"rule after the accumulator's, Rule({site.layer!r}, 'accumulator', None, moment='operation'), or write it with matmul"
            )
        site.inside = written_out(site.operator, activation, error, sums, statistics)
        if site.inside is not None:
            # operations inside store by themselves; what is left is the layer's one store
            activation, error = (q if q is not None and q.rule.moment == "layer" else None for q in (activation, error))
        site.activation, site.error = activation, error
        readers = []
        for place, name in site.parameters.items():
            value = found.get(("weight", name)) or found.get(("bias", name))
            gradient = found.get(("weight_gradient", name))
            gradient = gradient if gradient is not None and gradient.rule.moment == "layer" else None
            if value is not None or gradient is not None:
                readers.append((place, Reader(value, gradient)))
        site.readers = tuple(readers)

    def _decided(self, rules: tuple[Rule, ...], tensor: Assignment) -> Assignment:
        return decide(rules, self.plan.exempt, tensor)

    def _quantizer(self, phase: int, tensor: Assignment) -> Quantizer | None:
        name = f"{tensor.layer}:{tensor.role}:{tensor.tensor}"
        if (phase, name) in self._quantizers:
            return self._quantizers[phase, name]
        rule = self._decided(self.plan.rules_of(phase), tensor).rule
        if rule is None or rule.is_float32:
            return None
        made = self._quantizers[phase, name] = Quantizer(tensor, rule, self.moment, self.counters)
        if rule.pseudo_gradient in LEARNED:
            key = f"{phase}:{name}".replace(".", "/")
            shape = 2 if rule.pseudo_gradient == "ttq" else ()
            self.learned_steps[key] = nn.Parameter(torch.zeros(shape, device=self._device))
            made.step_size = self.learned_steps[key]
        return made

    def _begin_steps(self, inputs: tuple[Tensor, ...]) -> None:
        """Let every learned step see values once, so that all of them are there before an optimizer asks."""
        with torch.no_grad():
            training, state = self.network.training, {name: value.clone() for name, value in self.network.state_dict().items()}
            with kept_generators(self.network):
                self.eval()(*inputs)
            self.network.load_state_dict(state)
            self.train(training)
        self._passes = {True: 0, False: 0}


def _same(result: Tensor, args: tuple[Any, ...], function: Any) -> bool:
    """Tell whether a function gave back the memory of its first argument unchanged, as dropout does in evaluation."""
    first = args[0] if args else None
    if not isinstance(first, Tensor) or first.data_ptr() != result.data_ptr():
        return False
    return str(function.__name__) in (
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alpha_dropout",
        "feature_alpha_dropout",
        "drop_path",
    )
