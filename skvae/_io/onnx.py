"""A fitted estimator as ONNX graphs, for runtimes without torch, alone or in a Pipeline that skl2onnx converts."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._data.arrays import to_numpy
from .._data.rows import in_all_columns
from .._model.torch_defaults import torch_defaults
from .._vae import VAETransformer

LEAST_OPSET = 18
FLOAT = 1  # onnx.TensorProto.FLOAT


class OnnxModels(NamedTuple):
    """`transform` and `inverse_transform` as ``onnx.ModelProto``."""

    encoder: Any
    decoder: Any


def to_onnx(estimator: VAETransformer, *, opset: int | None = None) -> OnnxModels:
    """Return the fitted estimator's `transform` and `inverse_transform` as ONNX models.

    They take and return float32 and agree with the estimator's own results for float32 arrays to rounding. Rows must be
    complete, but for columns that `fit` left out: a NaN in a row makes its results NaN. After `register_onnx`,
    ``skl2onnx.to_onnx(pipeline, X)`` also converts the estimator in a scikit-learn Pipeline.

    Parameters
    ----------
    estimator : VAETransformer
    opset : int or None, default=None
        Version of the ONNX operators, 18 or later. None takes torch's default.

    Returns
    -------
    encoder : onnx.ModelProto
        X (n, n_features) -> Z (n, n_components), the posterior means.
    decoder : onnx.ModelProto
        Z -> X, the means of p(x | z).

    Raises
    ------
    ImportError
        If onnx or onnxscript is missing (extra ``onnx``).
    NotFittedError
        If the estimator is not fitted.
    ValueError
        With ``likelihood="gaussian_known"``, whose `transform` needs the errors of the values.
    """
    check_is_fitted(estimator)
    encoder = export_encoder(estimator, opset)
    return OnnxModels(encoder, export(Decoder(estimator), estimator.n_components_, ("Z", "X"), opset))


def export_encoder(estimator: VAETransformer, opset: int | None) -> Any:
    """A fitted estimator's `transform` as an ``onnx.ModelProto``."""
    if not estimator.net_.module_.likelihood.has_noise:
        raise ValueError(
            "likelihood='gaussian_known' has no noise beside X_std, which ONNX models do not take. Fit the errors as "
            "noise, with likelihood='gaussian' or 'gaussian_diag'."
        )
    return export(Encoder(estimator), estimator.n_features_in_, ("X", "Z"), opset)


class Encoder(nn.Module):
    """Map from rows to posterior means."""

    def __init__(self, estimator: VAETransformer) -> None:
        super().__init__()
        self.vae = estimator.net_.module_
        self.columns = ~np.isnan(to_numpy(estimator.mean_))  # that the model knows

    def forward(self, x: Tensor) -> Tensor:
        if not self.columns.all():
            x = x.index_select(1, torch.from_numpy(np.flatnonzero(self.columns)).to(x.device))
        return self.vae.transform(x)


class Decoder(Encoder):
    """Map from latent vectors to means of p(x | z)."""

    def forward(self, x: Tensor) -> Tensor:
        return in_all_columns(self.vae.inverse_transform(x), self.columns)


@torch_defaults()
def export(module: Encoder, n_columns: int, names: tuple[str, str], opset: int | None) -> Any:
    """A module of one input (n, n_columns) as an ``onnx.ModelProto`` for any n."""
    if opset is not None and opset < LEAST_OPSET:
        raise ValueError(f"opset={opset} is too old: torch exports to {LEAST_OPSET} or later.")
    example = torch.zeros(2, n_columns, dtype=torch.float32, device=next(module.buffers()).device)
    program: Any
    with warnings.catch_warnings():  # the exporter's warnings are about torch
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            input_names=names[:1],
            output_names=names[1:],
            opset_version=opset,
            verbose=False,
        )
    return program.model_proto


def register_onnx() -> None:
    """Let skl2onnx convert a `VAETransformer` where it meets one, as in ``skl2onnx.to_onnx(pipeline, X)``.

    Raises
    ------
    ImportError
        If skl2onnx is missing (extra ``onnx``).

    Examples
    --------
    >>> import numpy as np, skvae
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> skvae.register_onnx()  # doctest: +SKIP
    >>> pipeline = make_pipeline(StandardScaler(), skvae.VAETransformer()).fit(X)  # doctest: +SKIP
    >>> model = skl2onnx.to_onnx(pipeline, X[:1].astype(np.float32))  # doctest: +SKIP
    """
    import skl2onnx

    skl2onnx.update_registered_converter(VAETransformer, "SkvaeVAETransformer", _give_shape, _convert)


def _give_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    shape = [operator.inputs[0].get_first_dimension(), operator.raw_operator.n_components_]
    operator.outputs[0].type = FloatTensorType(shape)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the encoder's nodes to those of the Pipeline, under names that are free there."""
    opset = container.target_opset if isinstance(container.target_opset, int) else container.target_opset[""]
    graph = export_encoder(operator.raw_operator, opset).graph
    x = scope.get_unique_variable_name("X")
    container.add_node("Cast", operator.inputs[0].full_name, x, name=scope.get_unique_operator_name("Cast"), to=FLOAT)
    names = {"": "", graph.input[0].name: x, graph.output[0].name: operator.outputs[0].full_name}

    def name(there: str) -> str:
        if there not in names:
            names[there] = scope.get_unique_variable_name(there)
        return names[there]

    for tensor in graph.initializer:
        tensor.name = name(tensor.name)
        container.initializers.append(tensor)
    for node in graph.node:
        node.input[:], node.output[:] = [name(there) for there in node.input], [name(there) for there in node.output]
        node.name = scope.get_unique_operator_name(node.op_type)
        container.nodes.append(node)
        container.node_domain_version_pair_sets.add((node.domain, opset))
