"""The Triton kernels, run by Triton's interpreter on a processor, bit for bit against array rounding and exact fractions."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from convsmith import formats, precision
from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats import Format
from convsmith.formats.constants import constants
from convsmith.kernels import convolution_shape, rounded_convolution
from convsmith.kernels.arithmetic import ORDERS, Arithmetic
from convsmith.kernels.rounded import matmul
from convsmith.precision import Plan, Rule, tensor_products, triton_launch
from convsmith.precision import rounding as tensor_rounding
from convsmith.precision.memory import as_tensor_scale

pytestmark = pytest.mark.extra
TEXTS = (
    "fp16 bf16 tf32 fp32 e5m2 e4m3fn e2m1 e3m1:flush e4m0 e4m0:bias=6 e6m9:flush e2m23:bias=-50 "
    "e4m3fnuz ue5m3extended int8 uint4 q8.8 int4:symmetric fixed<-2,6> fixed<8,-3> fixed<10,15> ufixed<24,0> fixed<-80,100> fixed<110,-100>"
).split()


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> Iterator[None]:
    """Triton decides when the kernels are imported whether it interprets them."""
    pytest.importorskip("triton")
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    forget()
    triton_launch.products()
    yield
    forget()
    if before is None:
        del os.environ["TRITON_INTERPRET"]
    else:
        os.environ["TRITON_INTERPRET"] = before


def forget() -> None:
    triton_launch.kernels.cache_clear()
    triton_launch.products.cache_clear()
    for name in ("triton_kernels", "triton_products"):
        sys.modules.pop(f"convsmith.precision.{name}", None)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let products take the way of CUDA; Triton's interpreter then computes them."""
    on_processor = tensor_products._on_processor
    monkeypatch.setattr(tensor_products, "_on_processor", lambda a, b: on_processor(a, b) and False)
    monkeypatch.setattr(triton_launch, "_TILE", 4)
    with np.errstate(all="ignore"):  # the interpreter is NumPy, which speaks of NaN
        yield


def bits(x: Tensor | NDArray[np.float32]) -> NDArray[np.uint32]:
    array = x.numpy() if isinstance(x, Tensor) else x
    assert array.dtype == np.float32
    return np.ascontiguousarray(array).view(np.uint32)


def modes_of(fmt: Format) -> Iterator[tuple[formats.Rounding, formats.Overflow]]:
    overflows: list[formats.Overflow] = ["saturate"]
    if fmt.kind != "float" and not fmt.symmetric:
        overflows.append("wrap")
    if fmt.specials != "finite":
        overflows.append("infinity")
    yield from itertools.product(formats.ROUNDINGS, overflows)


def telling(fmt: Format) -> Tensor:
    """Random patterns, numbers of all sizes of the format, its values' neighbourhood, both ends, midpoints, special values."""
    rng = np.random.default_rng(7)
    top, least = formats.max_value(fmt), formats.smallest_positive(fmt)
    spread = np.exp2(rng.uniform(np.log2(least) - 3, np.log2(top) + 3, 400))
    with np.errstate(over="ignore", invalid="ignore"):
        patterns = rng.integers(0, 1 << 32, 600, dtype=np.uint32).view(np.float32)
        ends = top * (1 + np.arange(-6, 7) * formats.epsilon(fmt) / 4)
        around = np.concatenate([least * np.arange(0, 40, 0.25), formats.smallest_normal(fmt) * (1 + np.arange(-8, 9) / 16)])
        x = np.concatenate([spread, ends, around, [0, np.inf, np.nan, 1e-45, 3e38]]).astype(np.float32)
        return torch.from_numpy(np.concatenate([x, -x, patterns]))


@pytest.mark.parametrize("text", TEXTS)
def test_rounding_in_all_modes_equals_that_of_arrays(text: str) -> None:
    fmt = formats.parse(text)
    x = telling(fmt)
    assert x.numel() % 64, "a part of a block at the end"
    for number, (rounding, overflow) in enumerate(modes_of(fmt)):
        if rounding != "stochastic" and (number + TEXTS.index(text)) % 2:
            continue  # every second pair of modes, the others for the next format
        for random_bits in (1, 7, 24) if rounding == "stochastic" else (24,):
            modes, key = (rounding, overflow), {"seed": (1 << 63) + 5, "stream": (1 << 40) + 9}
            want = formats.round_array(x.numpy(), fmt, *modes, **key, random_bits=random_bits)
            got = torch.full_like(x, 7)
            triton_launch.round_flat(x, got, constants(fmt, *modes, random_bits), *key.values(), None)
            wrong = np.flatnonzero(bits(got) != bits(want))
            assert wrong.size == 0, (modes, random_bits, x[wrong[:3]], got[wrong[:3]], want[wrong[:3]])


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
def test_scales_layouts_and_places_go_the_way_of_cuda(rounding: formats.Rounding) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5, 6, 7)).astype(np.float32) * 40)
    fmt = Format.integer(8)
    for layout, (scale, axis) in itertools.product(
        (x, x.contiguous(memory_format=torch.channels_last), x.permute(2, 0, 3, 1), x[:, ::2]), ((None, None), (0.3, None), (True, 1))
    ):
        factors = torch.linspace(0.1, 3, layout.shape[1]) if scale is True else scale
        call = tensor_rounding._Call(fmt, rounding, "saturate", 3, 4, 24, None, None, False)
        place = as_tensor_scale(factors, axis, layout)
        got, _ = tensor_rounding._round_in_memory(tensor_rounding._run_triton, layout, layout, call, place, None)
        options = {"scale": None if factors is None else np.asarray(factors), "axis": axis}
        want = formats.round_array(layout.numpy(), fmt, rounding, seed=3, stream=4, **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(bits(got), bits(want))
        own = layout.clone()
        tensor_rounding._round_in_memory(tensor_rounding._run_triton, own, own, call, place, own)
        np.testing.assert_array_equal(bits(own), bits(want))
    large = torch.from_numpy(np.random.default_rng(1).normal(size=5000).astype(np.float32) * 40)  # more than one program
    got = torch.empty_like(large)
    triton_launch.round_flat(large, got, constants(fmt, rounding, "saturate", 24), 1, 2, None)
    np.testing.assert_array_equal(bits(got), bits(formats.round_array(large.numpy(), fmt, rounding, seed=1, stream=2)))
    triton_launch.round_flat(x[:0], x[:0], constants(fmt, rounding, "saturate", 24), 0, 0, None)


def factors(fmt: Format, m: int, k: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers whose products and sums lie inside, at the ends of and beyond the range, some zeros and, in every third pair, a NaN."""
    rng, spread = np.random.default_rng(seed), formats.max_value(fmt) ** 0.5 / 2
    found = []
    for shape in ((m, k), (k, n)):
        x = rng.normal(size=shape) * spread * np.exp2(-rng.integers(0, 9, shape)) * (rng.random(shape) > 0.1)
        found.append(torch.from_numpy(formats.round_array(x.astype(np.float32), fmt)))
    if seed % 3 == 2:
        found[0][0, -1], found[1][0, 0] = np.nan, np.inf
    return found[0], found[1]


PRODUCTS = "fp16 e4m3fn e3m1:flush e5m0 e4m3fnuz ue5m3 q8.8 int8 fixed<10,15>".split()


def arithmetics(text: str) -> Iterator[Arithmetic]:
    """Some of all orders with all roundings and overflows, others for each format; all ways of products in turns."""
    fmt, wide = formats.parse(text), formats.parse("e8m12")
    for number, ((rounding, overflow), order) in enumerate(itertools.product(modes_of(fmt), ORDERS)):
        if (number + 2 * PRODUCTS.index(text)) % 13:
            continue
        kinds = ("same", wide, "same") if order == "pairwise" else ("same", wide, None)
        product = kinds[number % 3] if overflow == "saturate" or number % 3 != 1 else "same"
        yield Arithmetic(fmt, product, rounding, overflow, (8, 3, 13, 24)[number % 4], order, block=3)


@pytest.mark.parametrize("text", PRODUCTS)
def test_products_of_every_order_and_mode_have_the_bits_of_the_processor(elsewhere: None, text: str) -> None:
    for number, arithmetic in enumerate(arithmetics(text)):
        m, k, n = ((2, 5, 5), (1, 1, 2), (3, 4, 2), (1, 7, 1))[number % 4]
        a, b = factors(formats.parse(text), m, k, n, number)
        key = {"seed": (1 << 63) + number, "stream": (1 << 40) + 9}
        want = matmul(a.numpy(), b.numpy(), arithmetic, **key)
        got = tensor_products.multiply(a, b, arithmetic, **key)
        np.testing.assert_array_equal(bits(got), bits(want), err_msg=str(arithmetic))
    turned = tensor_products.multiply(a.t(), b.t(), arithmetic, transpose_a=True, transpose_b=True, **key)
    np.testing.assert_array_equal(bits(turned), bits(want))


def test_convolutions_and_their_gradients_have_the_bits_of_the_processor(elsewhere: None) -> None:
    rng = np.random.default_rng(0)
    x, w = (torch.from_numpy(rng.normal(size=size).astype(np.float32)) for size in ((2, 4, 3, 2), (4, 2, 2, 1)))
    given = {"strides": (2, 1), "pads": (1, 0, 1, 0), "dilations": (1, 2), "group": 2}
    shape = convolution_shape(tuple(x.shape), tuple(w.shape), given)
    error, key = torch.from_numpy(rng.normal(size=shape.output).astype(np.float32)), {"seed": 5, "stream": 6}
    for name, order, pair in (
        ("convolve", "pairwise", (x, w)),
        ("input_gradient", "sequential", (error, w)),
        ("weight_gradient", "kahan", (x, error)),
    ):
        arithmetic = Arithmetic(formats.parse("fp16"), rounding="stochastic", order=order)  # type: ignore[arg-type]
        want = getattr(rounded_convolution, name)(*(each.numpy() for each in pair), shape, arithmetic, **key)
        got = getattr(tensor_products, name)(*pair, shape, arithmetic, **key)
        np.testing.assert_array_equal(bits(got), bits(want), err_msg=name)


def test_sums_of_many_bits_are_rounded_once(elsewhere: None) -> None:
    # 1 + 2^-10 + 2^-11 lies halfway between two fp16 numbers, of which the higher is even; the product misses it by 2^-57.
    fp16, least, unit = formats.CATALOGUE["fp16"], 2.0**-140, 2.0**-23
    fused = Arithmetic(fp16, None)
    a = torch.tensor([[1 + 2**-10, 2**-11 * (1 + unit)]])
    for last, want in ((1 - unit, 1 + 2**-10), (1.0, 1 + 2**-9)):
        assert tensor_products.multiply(a, torch.tensor([[1.0], [last]]), fused).item() == want
    wide = torch.tensor([[1.0, least]]), torch.tensor([[1.0], [1.0]])
    assert tensor_products.multiply(*wide, Arithmetic(fp16, None, "up")).item() == 1 + 2**-10
    assert tensor_products.multiply(*wide, Arithmetic(fp16, None, "toward_zero")).item() == 1.0
    wide[0][0, 1] = -least
    assert tensor_products.multiply(*wide, Arithmetic(fp16, None, "toward_zero")).item() == 1 - 2**-11
    no_number = tensor_products.multiply(torch.tensor([[torch.inf]]), torch.zeros(1, 1), fused)
    assert bits(no_number).item() == 0x7FC00000
    assert tensor_products.multiply(torch.ones(2, 0), torch.ones(0, 3), fused).tolist() == [[0.0] * 3] * 2


def test_whole_steps_beyond_float64_keep_their_low_bits_when_they_wrap(elsewhere: None) -> None:
    # 2^40 (2^23 + 1) steps and 1: their float64 sum has lost the 1, of which int8 keeps everything
    int8 = Arithmetic(formats.parse("int8"), None, overflow="wrap")
    a, b = torch.tensor([[1.0, 2.0**23 + 1]]), torch.tensor([[1.0], [2.0**40]])
    assert tensor_products.multiply(a, b, int8).item() == matmul(a.numpy(), b.numpy(), int8).item() == 1.0


def test_products_that_cannot_be_are_refused(elsewhere: None) -> None:
    fp16, one = Arithmetic(formats.CATALOGUE["fp16"]), torch.ones(2, 2)
    with pytest.raises(UsageError, match=r"the products do not pair up: a has k = 2, b has k = 3"):
        tensor_products.multiply(one, torch.ones(3, 2), fp16)
    with pytest.raises(UsageError, match=r"takes float32 tensors, which carry the values of every format; got torch.float64"):
        tensor_products.multiply(one, one.double(), fp16)
    with pytest.raises(UsageError, match=r"both factors of a product must be on one device; got cpu and meta"):
        tensor_products.multiply(one, one.to("meta"), fp16)


def test_a_network_trains_as_on_the_processor(monkeypatch: pytest.MonkeyPatch, elsewhere: None) -> None:
    """Three updates with every operation rounded, products, sums and stores by Triton: the weights of the native core, bit for bit."""
    fmt = Format.fixed(4, 8)
    rules = [Rule("*", role, fmt, rounding="stochastic", random_bits=8) for role in ("weight", "bias", "weight_gradient")]  # type: ignore[arg-type]
    rules += [Rule("*", role, fmt, "operation", random_bits=8) for role in ("activation", "error", "update", "accumulator")]  # type: ignore[arg-type]
    ends = []
    for by_triton in (False, True):
        with monkeypatch.context() as here:
            if by_triton:
                here.setattr(tensor_rounding, "_run_native", lambda _, *rest: tensor_rounding._run_triton(*rest))
            else:
                here.setattr(tensor_products, "_on_processor", lambda a, b: True)
            torch.manual_seed(0)
            net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 2))
            emulated = precision.emulate(net, Plan(tuple(rules), master=False), torch.zeros(2, 1, 3, 3), seed=3)
            optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=0.25), emulated)
            for step in range(2):
                optimizer.zero_grad()
                emulated(torch.linspace(-1, 1, 18).roll(step).reshape(2, 1, 3, 3)).square().sum().backward()
                optimizer.step()
            ends.append(torch.cat([p.detach().reshape(-1) for p in net.parameters()]))
    np.testing.assert_array_equal(bits(ends[1]), bits(ends[0]))


COMPILER = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from convsmith import formats
from convsmith.formats.constants import constants
from convsmith.precision import triton_kernels, triton_launch, triton_products

def compiled(kernel, pointers, constexprs):
    names = kernel.arg_names
    types = {name: pointers.get(name, "constexpr" if name in constexprs else "i64") for name in names}
    source = ASTSource(kernel, types, {(names.index(name),): value for name, value in constexprs.items()})
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": False})
    ptx = made.asm["ptx"]
    assert made.asm["cubin"] and not any(word in ptx for word in (".ftz", "fma.", ".approx", "mad.f")), ptx

fp16 = constants(formats.CATALOGUE["fp16"], "stochastic", "infinity", 8)
drawn, plain = (triton_launch.compiled_in(constants(formats.CATALOGUE["fp16"], mode, "infinity", 8), 52) for mode in ("stochastic", "up"))
compiled(triton_kernels.round_kernel, dict.fromkeys(("x_ptr", "y_ptr", "factors_ptr"), "*fp32"),
         {"SCALED": True, "BLOCKS": 8, "SPEC": triton_launch.compiled_in(fp16, 23)})
tables = "a_rows a_terms b_columns column_y column_x b_terms term_y term_x out_rows out_columns".split()
pointers = dict.fromkeys(("a_ptr", "b_ptr", "out_ptr"), "*fp32") | {"scratch_ptr": "*fp64"} | dict.fromkeys(tables, "*i64")
for order, wide in ((0, drawn), (1, plain)):
    compiled(triton_products.product_kernel, pointers, {"ROWS": 8, "COLUMNS": 16, "ORDER": order, "LEVELS": 9 if order == 1 else 0,
             "WIDTH": 8, "ROUND_PRODUCTS": True, "PRODUCTS": wide, "SUMS": wide, "FLOAT32": triton_launch._float32()})
print("compiled")
"""


@pytest.mark.slow
def test_kernels_compile_for_a_gpu_and_neither_flush_nor_contract(tmp_path: Path) -> None:
    """The compiler needs no GPU: machine code for compute capability 8.0, without flushing, contraction and approximation."""
    pytest.importorskip("triton.backends.nvidia")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    (tmp_path / "compile.py").write_text(COMPILER)
    done = subprocess.run([sys.executable, str(tmp_path / "compile.py")], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stdout == "compiled\n", done.stderr[-2000:]


def test_a_device_is_checked_before_it_gives_results(monkeypatch: pytest.MonkeyPatch, elsewhere: None) -> None:
    for check in (triton_launch.check_rounding, triton_launch.check_products):
        check.cache_clear()
        check(torch.device("cpu"))
        check.cache_clear()
    monkeypatch.setattr(triton_launch, "constants", lambda fmt, mode, *rest: constants(fmt, "up", *rest))
    with pytest.raises(UnsupportedError, match=r"the Triton kernels give other bits on cpu than the processor for \d+ of 1000 numbers"):
        triton_launch.check_rounding(torch.device("cpu"))
    with pytest.raises(UnsupportedError, match=r"give other bits on cpu than the processor for \d+ of 15 numbers; move the tensors"):
        triton_launch.check_products(torch.device("cpu"))


def test_without_triton_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    triton_launch.kernels.cache_clear()
    with pytest.raises(UnsupportedError, match=r"needs Triton: pip install 'convsmith\[gpu\]'"):
        triton_launch.kernels()
