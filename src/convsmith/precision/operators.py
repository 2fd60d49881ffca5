"""Torch functions by what they do to the values of a tensor."""

from __future__ import annotations

from typing import Any, Final

from convsmith.precision.rule import Role

QUESTIONS: Final = frozenset(
    (
        "__get__ __set__ __len__ __bool__ __repr__ __format__ __hash__ __contains__ size dim ndimension numel nelement stride "
        "storage_offset element_size item tolist numpy data_ptr is_contiguous is_floating_point is_complex is_nonzero is_pinned "
        "requires_grad_ register_hook retain_grad detach detach_ get_device type untyped_storage argmax argmin eq ne lt le gt ge "
        "isnan isinf isfinite any all allclose equal bincount argsort nonzero manual_seed is_tensor is_storage numpy_T "
        "result_type can_cast backward"
    ).split()
)
"""Functions that compute no number of a network: they ask for a property, or choose an index."""

MOVES: Final = frozenset(
    (
        "view reshape view_as reshape_as flatten unflatten squeeze unsqueeze permute transpose t swapaxes swapdims movedim "
        "moveaxis mT contiguous clone to float cpu cuda expand expand_as repeat repeat_interleave tile narrow select split chunk "
        "unbind tensor_split getitem slice index_select gather take masked_fill masked_select where index index_put setitem copy "
        "pad roll flip rot90 cat concat concatenate stack hstack vstack unfold pixel_shuffle pixel_unshuffle channel_shuffle "
        "native_channel_shuffle max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "max_pool2d_with_indices amax amin max min maximum minimum topk sort identity zeros ones empty full zeros_like ones_like "
        "empty_like full_like new_zeros new_ones new_empty new_full zero fill rand randn rand_like randn_like tensor as_tensor "
        "from_numpy arange bernoulli bernoulli_ new_tensor detach_copy broadcast_to broadcast_tensors ravel tril triu diagonal"
    ).split()
)
"""Functions that choose, move or make values: what they give has been rounded already, or is exact."""

FUSED: Final = frozenset({"relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "clip"})
"""Activations that the layer before them applies before it stores its result."""

PRODUCTS: Final = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear matmul mm addmm bmm baddbmm mv dot inner einsum "
    "scaled_dot_product_attention".split()
)
"""Sums of products: where an accumulator is."""

CLOSED: Final = frozenset(
    "conv_tbc bilinear addbmm addmv addr tensordot chain_matmul multi_dot multi_head_attention_forward rnn_tanh rnn_relu lstm gru "
    "rnn_tanh_cell rnn_relu_cell lstm_cell gru_cell cumsum logcumsumexp logsumexp norm vector_norm matrix_norm cosine_similarity "
    "lp_pool1d lp_pool2d lp_pool3d grid_sample".split()
)
"""Sums that are not written out: an accumulator's rule is refused there, for torch would add in float32."""

SUMS: Final = frozenset(
    "mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d batch_norm instance_norm "
    "layer_norm group_norm rms_norm local_response_norm var std var_mean std_mean softmax log_softmax cross_entropy".split()
)
"""Sums of values: an accumulator too."""

NORMS: Final = frozenset({"batch_norm", "instance_norm"})
"""Functions with running statistics."""

BIASED: Final = frozenset({"add", "sub"})
"""Functions whose parameter is what is added, a bias."""


def operator_name(function: Any) -> str:
    """Return the plain name of a torch function: ``add`` for ``add_`` and ``__iadd__``."""
    name = str(getattr(function, "__name__", function))
    if name in QUESTIONS:
        return name
    plain = name.strip("_")
    return {"iadd": "add", "radd": "add", "imul": "mul", "rmul": "mul", "truediv": "div", "isub": "sub", "itruediv": "div"}.get(
        plain, plain
    )


def parameter_role(operator: str, place: int | str, name: str) -> Role:
    """Return whether the parameter ``name`` in that place of a call is a weight or a bias."""
    if operator == "linear" or operator.startswith("conv"):
        return "bias" if place in (2, "bias") else "weight"
    if operator in BIASED or (operator == "addmm" and place == 0):
        return "bias"
    return "bias" if place == "bias" or "bias" in name.rsplit(".", 1)[-1] else "weight"
