"""Every built-in layer and activation of Keras 2, Addons and Keras 3, with arguments that matter.

The table is plain data, so the page of the documentation can be written anywhere::

    python -m tests.conversion.builtin_layers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.conversion.layer_rows import New, Row, a, each, new, rows, state, x

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"

VECTOR = x(6)
SEQUENCE = x(7, 4)
ANY_SEQUENCE = x(None, 4)
IMAGE = x(8, 9, 4)
ANY_IMAGE = x(None, None, 4)
VOLUME = x(5, 6, 4, 2)
ANY_VOLUME = x(None, None, None, 2)
PHOTO = x(9, 12, 3, values="image")
ANY_PHOTO = x(None, None, 3, values="image")
BYTES = x(9, 12, 3, dtype="uint8", values="image")
MASK = x(7, dtype="bool", values=(True, True, False))
IDS = x(7, dtype="int32", values=9)
WORDS = ("cat", "dog", "ant", "", "🐈 cat")
STRINGS = x(5, dtype="string", values=WORDS)


# Why a row is refused, in the words of the message.
RANDOM = "its numbers would not be those of TensorFlow"
STATEFUL = "an ONNX model keeps no state between its runs"
HASH = "ONNX has no such hash"
TEXT = "ONNX has no operators on the characters of strings"
SPARSE = "only dense tensors have an ONNX form"
UNKNOWN_SIZE = "of images whose size is not known before they come"
NO_DATA_YET = "that takes its scale from the first data (data_init=True) and has seen none"
UNTRACEABLE = "cannot be traced for inputs"


def words(text: str) -> list[str]:
    return text.split()


def _masked(layer: Any, sequence: Any, mask: Any) -> Any:
    return layer(sequence, mask=mask)


def _training(layer: Any, inputs: Any) -> Any:
    return layer(inputs, training=True)


def _query_value(layer: Any, query: Any, value: Any) -> Any:
    return layer(query, value)


def _causal(layer: Any, query: Any, value: Any) -> Any:
    return layer(query, value, use_causal_mask=True)


def _attention_mask(layer: Any, query: Any, value: Any, mask: Any) -> Any:
    return layer(query, value, attention_mask=mask, return_attention_scores=True)


def _list_masks(layer: Any, query: Any, value: Any, mask: Any) -> Any:
    return layer([query, value], mask=[mask, mask])


def _list_causal(layer: Any, query: Any, value: Any) -> Any:
    return layer([query, value], use_causal_mask=True)


def _cell(layer: Any, inputs: Any, *states: Any) -> Any:
    return layer(inputs, list(states))


def _initial_state(layer: Any, inputs: Any, *states: Any) -> Any:
    return layer(inputs, initial_state=list(states))


def _inside_lambda(layer: Any, inputs: Any) -> Any:
    """For a layer that returns its very input, which a functional model takes for a loop."""
    return New("Lambda", (layer.call,))(name=layer.name)(inputs)


def _as_feature(layer: Any, inputs: Any) -> Any:
    return layer({"a": inputs})


def _count_weights(layer: Any, ids: Any, weights: Any) -> Any:
    return layer(ids, count_weights=weights)


RECURRENT = (
    a(3),
    a(3, return_sequences=True, use_bias=False),
    a(3, return_sequences=True, return_state=True),
    a(3, go_backwards=True, return_sequences=True),
    a(3, unroll=True),
    a(3, activation="relu", return_sequences=True),
)
GATED = (
    *RECURRENT,
    a(3, recurrent_activation="hard_sigmoid"),
    a(3, activation="elu", recurrent_activation="tanh"),
    a(3, dropout=0.3, recurrent_dropout=0.3),
)

BOTH: tuple[Row, ...] = (
    *rows(
        "Activation",
        VECTOR,
        *map(
            a,
            words(
                "elu exponential gelu hard_sigmoid linear mish relu selu sigmoid softmax softplus "
                "softsign swish tanh"
            ),
        ),
    ),
    *rows("ActivityRegularization", VECTOR, a(l1=0.1, l2=0.2)),
    *each(("Add", "Average", "Maximum", "Minimum", "Multiply"), (x(4, 5), x(1, 5), x(4, 1))),
    *each(("Add", "Maximum", "Multiply"), (x(4, dtype="int32", values=9),) * 2),
    *rows("Subtract", (SEQUENCE, SEQUENCE)),
    *rows("AdditiveAttention", (SEQUENCE, x(5, 4)), a(), a(use_scale=False)),
    *rows("AdditiveAttention", (SEQUENCE, SEQUENCE, MASK), call=_list_masks, note=" with masks"),
    *rows("Attention", (SEQUENCE, x(5, 4), x(5, 4)), a(), a(use_scale=True)),
    *rows("Attention", (SEQUENCE, x(5, 4)), a(score_mode="concat")),
    *rows("Attention", (ANY_SEQUENCE, ANY_SEQUENCE), call=_list_causal, note=" causal"),
    *rows("Attention", (SEQUENCE, SEQUENCE, MASK), call=_list_masks, note=" with masks"),
    *rows("AlphaDropout", VECTOR, a(0.3)),
    *rows("Dropout", VECTOR, a(0.3)),
    *rows("GaussianDropout", VECTOR, a(0.3)),
    *rows("GaussianNoise", VECTOR, a(0.3)),
    *rows("SpatialDropout1D", SEQUENCE, a(0.3)),
    *rows("SpatialDropout2D", IMAGE, a(0.3)),
    *rows("SpatialDropout3D", VOLUME, a(0.3)),
    *each(
        ("AveragePooling1D", "MaxPooling1D"),
        ANY_SEQUENCE,
        a(2),
        a(3, strides=2, padding="same"),
        a(3, strides=1, padding="same"),
    ),
    *each(
        ("AveragePooling2D", "MaxPooling2D"),
        IMAGE,
        a(2),
        a((3, 2), strides=2, padding="same"),
        a(3, strides=1, padding="same"),
    ),
    *each(("AveragePooling2D", "MaxPooling2D"), ANY_IMAGE, a(3, strides=2, padding="same")),
    *each(
        ("AveragePooling3D", "MaxPooling3D"), VOLUME, a(2), a(3, strides=(1, 2, 1), padding="same")
    ),
    *each(
        ("GlobalAveragePooling1D", "GlobalMaxPooling1D"),
        ANY_SEQUENCE,
        a(),
        a(keepdims=True),
        a(data_format="channels_first"),
    ),
    *rows("GlobalAveragePooling1D", SEQUENCE, before=(new("Masking"),)),
    *each(
        ("GlobalAveragePooling2D", "GlobalMaxPooling2D"),
        ANY_IMAGE,
        a(),
        a(keepdims=True),
        a(data_format="channels_first"),
    ),
    *each(("GlobalAveragePooling3D", "GlobalMaxPooling3D"), ANY_VOLUME, a(), a(keepdims=True)),
    *rows("BatchNormalization", VECTOR, a(), a(scale=False), a(center=False, epsilon=0.1)),
    *rows("BatchNormalization", ANY_SEQUENCE),
    *rows("BatchNormalization", IMAGE, a(), a(axis=1), a(scale=False, center=False)),
    *rows("BatchNormalization", ANY_IMAGE),
    *rows("BatchNormalization", VOLUME, a(), a(axis=2)),
    *rows("BatchNormalization", IMAGE, call=_training, note=" training=True"),
    *rows("BatchNormalization", SEQUENCE, call=_training, note=" training=True"),
    *rows(
        "Bidirectional",
        ANY_SEQUENCE,
        *(a(new("LSTM", 3, return_sequences=True), merge_mode=m) for m in ("concat", "sum", "mul")),
        *(a(new("GRU", 3), merge_mode=m) for m in ("ave", None)),
        a(new("SimpleRNN", 3, return_sequences=True)),
        a(new("LSTM", 3, return_state=True)),
        a(new("LSTM", 3), backward_layer=new("GRU", 3, go_backwards=True)),
    ),
    *rows(
        "Bidirectional",
        IDS,
        a(new("LSTM", 3, return_sequences=True)),
        a(new("GRU", 3)),
        before=(new("Embedding", 9, 4, mask_zero=True),),
    ),
    *rows(
        "CategoryEncoding",
        x(4, dtype="int64", values=5),
        *(a(num_tokens=5, output_mode=mode) for mode in ("multi_hot", "count")),
    ),
    *rows(
        "CategoryEncoding",
        x(1, dtype="int32", values=5),
        a(num_tokens=5, output_mode="one_hot"),
    ),
    *rows(
        "CategoryEncoding",
        (x(4, dtype="int32", values=5), x(4)),
        a(num_tokens=5, output_mode="count"),
        call=_count_weights,
        note=" with count_weights",
    ),
    *rows("CenterCrop", PHOTO, a(5, 4), a(12, 10), a(9, 12)),
    *rows("CenterCrop", x(None, None, 3), a(5, 4)),
    *rows("Concatenate", (SEQUENCE, SEQUENCE, ANY_SEQUENCE), a(axis=1)),
    *rows("Concatenate", (SEQUENCE, x(7, 2)), a()),
    *rows("Concatenate", (IDS, IDS)),
    *rows(
        "Conv1D",
        ANY_SEQUENCE,
        a(6, 3),
        a(6, 3, strides=2, padding="same", activation="relu", use_bias=False),
        a(6, 3, padding="causal", dilation_rate=2),
        a(6, 2, padding="same", dilation_rate=3),
        a(6, 3, groups=2),
    ),
    *rows(
        "Conv2D",
        IMAGE,
        a(6, 3),
        a(6, (3, 2), strides=2, padding="same", activation="relu", use_bias=False),
        a(6, 4, strides=(1, 2), padding="same"),
        a(6, 3, dilation_rate=(2, 3)),
        a(6, 3, padding="same", dilation_rate=2),
        a(6, 3, groups=2, padding="same"),
        a(6, 3, groups=2, strides=2, activation="gelu"),
        a(6, 1),
    ),
    *rows(
        "Conv2D",
        ANY_IMAGE,
        a(6, 3, strides=2, padding="same"),
        a(6, 3, padding="same", dilation_rate=2),
        a(4, 3, groups=4),
    ),
    *rows(
        "Conv3D",
        VOLUME,
        a(4, 3),
        a(4, 3, strides=(2, 1, 2), padding="same", use_bias=False),
        a(4, 2, padding="same", dilation_rate=2),
        a(4, 3, groups=2),
    ),
    *rows(
        "Conv1DTranspose",
        SEQUENCE,
        a(6, 3),
        a(6, 3, strides=2, padding="same"),
        a(6, 3, strides=2, output_padding=1, use_bias=False),
        a(6, 3, strides=3),
    ),
    *rows(
        "Conv1DTranspose",
        SEQUENCE,
        a(6, 3, dilation_rate=2),
        needs_onednn=("Keras 2", "Keras 3"),
    ),
    *rows("Conv1DTranspose", ANY_SEQUENCE, a(6, 3, strides=2, padding="same"), a(6, 2, strides=3)),
    *rows("Conv3DTranspose", ANY_VOLUME, a(4, 3, strides=2, padding="same")),
    *rows(
        "Conv2DTranspose",
        IMAGE,
        a(6, 3),
        a(6, 3, strides=2, padding="same", activation="relu"),
        a(6, (3, 4), strides=(2, 3)),
        a(6, 3, strides=2, padding="same", output_padding=1),
        a(6, 3, strides=2, padding="same", output_padding=0),
        a(6, 5, strides=3, output_padding=(1, 2), use_bias=False),
    ),
    *rows(
        "Conv2DTranspose",
        IMAGE,
        a(6, 3, dilation_rate=2),
        a(6, 3, padding="same", dilation_rate=2),
        needs_onednn=("Keras 3",),
    ),
    *rows(
        "Conv2DTranspose",
        ANY_IMAGE,
        a(6, 3),
        a(6, 4, strides=2, padding="same"),
        a(6, 3, strides=2, padding="valid"),
        a(6, 3, strides=2, output_padding=1),
        a(6, 3, strides=3, padding="same", output_padding=1),
        a(6, 2, strides=3),
    ),
    *rows(
        "Conv3DTranspose",
        VOLUME,
        a(4, 3),
        a(4, 3, strides=2, padding="same"),
        a(4, 3, strides=(1, 2, 1), use_bias=False),
        a(4, 3, strides=2, padding="same", output_padding=1),
    ),
    *rows(
        "ConvLSTM1D",
        x(3, 7, 2),
        a(3, 3),
        a(3, 3, padding="same", return_sequences=True, return_state=True),
    ),
    *rows(
        "ConvLSTM2D",
        x(3, 6, 7, 2),
        a(3, 3),
        a(3, 3, padding="same", return_sequences=True, go_backwards=True),
        a(3, 3, strides=2, activation="relu", recurrent_activation="sigmoid", use_bias=False),
        a(3, 2, dilation_rate=2, return_sequences=True),
    ),
    *rows("ConvLSTM3D", x(3, 4, 5, 4, 2), a(3, 3), a(2, 2, padding="same", return_sequences=True)),
    *rows("Cropping1D", ANY_SEQUENCE, a(1), a((2, 1))),
    *rows("Cropping2D", ANY_IMAGE, a(1), a(((2, 1), (0, 3)))),
    *rows("Cropping2D", x(2, 8, 9), a(((2, 1), (0, 3)), data_format="channels_first")),
    *rows("Cropping3D", VOLUME, a(1), a(((2, 1), (0, 3), (1, 0)))),
    *rows("Dense", VECTOR, a(5), a(5, use_bias=False, activation="tanh")),
    *rows("Dense", ANY_SEQUENCE, a(5)),
    *rows("Dense", IMAGE, a(5, activation="softmax")),
    *rows(
        "DepthwiseConv1D",
        SEQUENCE,
        a(3),
        a(3, strides=2, padding="same", depth_multiplier=2, use_bias=False),
        a(3, dilation_rate=2),
    ),
    *rows(
        "DepthwiseConv2D",
        IMAGE,
        a(3),
        a((3, 2), padding="same", depth_multiplier=3, activation="relu"),
        a(3, strides=2, padding="same", use_bias=False),
        a(3, dilation_rate=2),
        a(3, dilation_rate=(2, 2), padding="same", depth_multiplier=2),
    ),
    *rows("DepthwiseConv2D", ANY_IMAGE, a(3, strides=2, padding="same")),
    *rows(
        "Discretization",
        x(5),
        a(bin_boundaries=[-1.0, 0.0, 0.5]),
        a(bin_boundaries=[-1.0, 0.0, 0.5], output_mode="multi_hot"),
        a(bin_boundaries=[-1.0, 0.0, 0.5], output_mode="count"),
    ),
    *rows("Discretization", x(1), a(bin_boundaries=[-1.0, 0.5], output_mode="one_hot")),
    *rows("Discretization", IDS, a(bin_boundaries=[2.0, 3.0, 5.5])),
    *rows("Dot", (SEQUENCE, x(7, 3)), a(axes=1), a(axes=(1, 1), normalize=True)),
    *rows("Dot", (SEQUENCE, x(4, 5)), a(axes=(2, 1))),
    *rows("Dot", (VECTOR, VECTOR), a(axes=1), a(axes=-1, normalize=True)),
    *rows("ELU", VECTOR, a(), a(alpha=0.3)),
    *rows(
        "EinsumDense",
        SEQUENCE,
        a("abc,cd->abd", output_shape=(None, 5), bias_axes="d"),
        a("abc,bcd->abd", output_shape=(7, 5)),
        a("...x,xy->...y", output_shape=5, activation="relu"),
        a("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"),
    ),
    *rows("EinsumDense", IMAGE, a("abcd,cde->abe", output_shape=(8, 5), bias_axes="e")),
    *rows("Embedding", IDS, a(9, 4)),
    *rows("Embedding", x(None, dtype="int64", values=9), a(9, 4, mask_zero=True)),
    *rows("Embedding", x(3, values=(0, 1, 2)), a(9, 4)),
    *rows("Flatten", IMAGE, a(), a(data_format="channels_first")),
    *rows("Flatten", ANY_SEQUENCE),
    *each(("Flatten", "RandomFlip"), BYTES),
    *rows("Permute", BYTES, a((2, 1, 3))),
    *each(("Cropping2D", "ZeroPadding2D"), BYTES, a(1)),
    *each(("MaxPooling2D", "UpSampling2D"), BYTES, a(2)),
    *rows("Concatenate", (x(4, dtype="bool", values=(True, False)),) * 2),
    *each(("Average", "Minimum", "Subtract"), (x(4, dtype="int64", values=9),) * 2),
    *rows("GRU", ANY_SEQUENCE, *GATED[:4], *GATED[5:], a(3, reset_after=False)),
    *rows("GRU", SEQUENCE, GATED[4], a(3, reset_after=False, return_sequences=True)),
    *rows("GRU", (SEQUENCE, state(3)), a(3), call=_initial_state, note=" with initial state"),
    *each(
        ("GRU", "LSTM", "SimpleRNN"),
        IDS,
        a(3, return_sequences=True),
        a(3, go_backwards=True),
        before=(new("Embedding", 9, 4, mask_zero=True),),
    ),
    *each(
        ("GRU", "LSTM", "SimpleRNN"),
        x(7, 4, batch=2),
        a(3, stateful=True),
        refused=STATEFUL,
    ),
    *rows("GRUCell", (x(4), state(3)), a(3), a(3, reset_after=False, use_bias=False), call=_cell),
    *rows("LSTM", ANY_SEQUENCE, *GATED[:4], *GATED[5:], a(3, unit_forget_bias=False)),
    *rows("LSTM", SEQUENCE, GATED[4]),
    *rows(
        "LSTM",
        (SEQUENCE, state(3), state(3)),
        a(3),
        call=_initial_state,
        note=" with initial state",
    ),
    *rows(
        "LSTMCell",
        (x(4), state(3), state(3)),
        a(3),
        a(3, activation="relu", use_bias=False),
        call=_cell,
    ),
    *rows("SimpleRNN", ANY_SEQUENCE, *RECURRENT[:4], *RECURRENT[5:]),
    *rows("SimpleRNN", SEQUENCE, RECURRENT[4]),
    *rows(
        "SimpleRNNCell", (x(4), state(3)), a(3), a(3, activation="relu", use_bias=False), call=_cell
    ),
    *rows(
        "RNN",
        ANY_SEQUENCE,
        *(a(new(f"{kind}Cell", 3)) for kind in ("SimpleRNN", "GRU", "LSTM")),
        a([new("LSTMCell", 3), new("GRUCell", 2)], return_sequences=True),
        a(new("GRUCell", 3), go_backwards=True, return_state=True),
    ),
    *rows("RNN", x(7, 4, batch=2), a(new("LSTMCell", 3), stateful=True), refused=STATEFUL),
    *rows(
        "StackedRNNCells",
        (x(4), state(3), state(2)),
        a([new("GRUCell", 3), new("SimpleRNNCell", 2)]),
        call=_cell,
    ),
    *rows("GroupNormalization", IMAGE, a(2), a(-1), a(1)),
    *rows("GroupNormalization", x(6, 8), a(4, scale=False), a(3, axis=1)),
    *rows(
        "HashedCrossing",
        (x(1, dtype="int64", values=9), x(1, dtype="int64", values=9)),
        a(num_bins=5),
        refused=HASH,
    ),
    *rows("Hashing", STRINGS, a(num_bins=3), refused=HASH),
    *rows("Hashing", IDS, a(num_bins=3), a(num_bins=3, salt=7), refused=HASH),
    *rows("Identity", SEQUENCE),
    *rows(
        "IntegerLookup",
        x(4, dtype="int64", values=20),
        a(vocabulary=[3, 5, 12]),
        a(vocabulary=[3, 5, 12], mask_token=0),
        a(vocabulary=[3, 5, 12], num_oov_indices=3),
        a(vocabulary=[3, 5, 12], output_mode="multi_hot"),
        a(vocabulary=[3, 5, 12], output_mode="count"),
        a(vocabulary=[3, 5, 12], output_mode="tf_idf", idf_weights=[0.5, 1.0, 2.0]),
    ),
    *rows(
        "IntegerLookup", x(1, dtype="int64", values=20), a(vocabulary=[3, 5], output_mode="one_hot")
    ),
    *rows("IntegerLookup", x(4, dtype="int64", values=3), a(vocabulary=[3, 5, 12], invert=True)),
    *rows(
        "IntegerLookup", x(4, dtype="int64", values=(3, 5)), a(vocabulary=[3, 5], num_oov_indices=0)
    ),
    *rows("Lambda", VECTOR, a(abs)),
    *rows("LayerNormalization", ANY_SEQUENCE, a(), a(scale=False), a(axis=-1, epsilon=0.1)),
    *rows("LayerNormalization", IMAGE, a(axis=[1, 2]), a(axis=[1, 2, 3], center=False)),
    *rows("Masking", SEQUENCE, a(), a(mask_value=1.5)),
    *rows(
        "MultiHeadAttention",
        (SEQUENCE, x(5, 4)),
        a(2, 3),
        a(2, 3, value_dim=4, use_bias=False, output_shape=5),
        a(2, 3, dropout=0.2),
        call=_query_value,
    ),
    *rows("MultiHeadAttention", (ANY_SEQUENCE, ANY_SEQUENCE), a(2, 3), call=_query_value),
    *rows("MultiHeadAttention", (SEQUENCE, SEQUENCE), a(2, 3), call=_causal, note=" causal"),
    *rows("MultiHeadAttention", (IMAGE, IMAGE), a(2, 3, attention_axes=(2,)), call=_query_value),
    *rows(
        "MultiHeadAttention",
        (SEQUENCE, x(5, 4), x(7, 5, dtype="bool", values=(True, False, True))),
        a(2, 3),
        call=_attention_mask,
        note=" with a mask, returning scores",
    ),
    *rows(
        "Normalization", VECTOR, a(mean=0.3, variance=2.0), a(mean=0.3, variance=2.0, invert=True)
    ),
    *rows("Normalization", SEQUENCE, a(axis=None, mean=1.0, variance=0.5)),
    *rows("Normalization", SEQUENCE, a(axis=1, mean=[1.0] * 7, variance=[0.5] * 7)),
    *rows("Normalization", IDS, a(axis=None, mean=3.0, variance=4.0)),
    *rows("PReLU", IMAGE, a(), a(shared_axes=[1, 2])),
    *rows("PReLU", VECTOR),
    *rows("Permute", IMAGE, a((3, 1, 2))),
    *rows("Permute", ANY_SEQUENCE, a((2, 1))),
    *each(("RandomBrightness", "RandomContrast"), PHOTO, a(0.2)),
    *rows("RandomCrop", PHOTO, a(5, 6), a(12, 9)),
    *rows("RandomFlip", PHOTO),
    *rows("RandomRotation", PHOTO, a(0.2)),
    *rows("RandomTranslation", PHOTO, a(0.2, 0.2)),
    *rows("RandomZoom", PHOTO, a(0.2)),
    *each(("RandomHeight", "RandomWidth"), PHOTO, a(0.2)),
    *rows(
        "ReLU",
        VECTOR,
        a(),
        a(max_value=1.0),
        a(negative_slope=0.2),
        a(threshold=0.5),
        a(max_value=6.0),
        a(max_value=2.0, negative_slope=0.1, threshold=0.7),
    ),
    *rows("RepeatVector", VECTOR, a(3)),
    *rows("Rescaling", BYTES, a(1 / 127.5, offset=-1)),
    *rows("Rescaling", VECTOR, a([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])),
    *rows("Reshape", x(3, 4), a((2, -1)), a((12,)), a((2, 3, 2))),
    *rows("Reshape", ANY_SEQUENCE, a((-1, 2))),
    *rows(
        "Resizing",
        PHOTO,
        *(
            a(*size, interpolation=kind)
            for kind in ("bilinear", "nearest", "bicubic")
            for size in ((5, 7), (14, 20), (18, 6))
        ),
        *(
            a(*size, interpolation=kind)
            for kind in ("lanczos3", "lanczos5")
            for size in ((5, 7), (14, 20))
        ),
        a(6, 6, crop_to_aspect_ratio=True),
    ),
    *rows("Resizing", ANY_PHOTO, a(6, 7), a(6, 7, interpolation="nearest")),
    *rows("Resizing", ANY_PHOTO, a(6, 7, interpolation="bicubic"), refused=UNKNOWN_SIZE),
    *rows(
        "SeparableConv1D",
        SEQUENCE,
        a(6, 3),
        a(6, 3, strides=2, padding="same", depth_multiplier=2, use_bias=False),
        a(6, 3, dilation_rate=2),
        a(6, 2),
    ),
    *rows(
        "SeparableConv2D",
        IMAGE,
        a(6, 3),
        a(6, 3, strides=2, padding="same", depth_multiplier=2, use_bias=False),
        a(6, 3, dilation_rate=2, activation="relu"),
    ),
    *rows("Softmax", SEQUENCE, a(), a(axis=1), a(axis=[1, 2])),
    *rows(
        "Softmax",
        (SEQUENCE, x(7, 4, dtype="bool", values=(True, False, True))),
        a(),
        call=_masked,
        note=" with a mask",
    ),
    *rows("SpectralNormalization", IMAGE, a(new("Conv2D", 3, 2))),
    *rows("SpectralNormalization", VECTOR, a(new("Dense", 3))),
    *rows(
        "StringLookup",
        STRINGS,
        a(vocabulary=["cat", "dog"]),
        a(vocabulary=["cat", "dog"], mask_token=""),
        a(vocabulary=["cat", "dog"], output_mode="multi_hot"),
        a(vocabulary=["cat", "dog"], output_mode="count"),
    ),
    *rows(
        "StringLookup",
        x(1, dtype="string", values=WORDS),
        a(vocabulary=["cat"], output_mode="one_hot"),
    ),
    *rows("StringLookup", x(4, dtype="int64", values=3), a(vocabulary=["cat", "dog"], invert=True)),
    *rows(
        "StringLookup",
        STRINGS,
        a(vocabulary=["cat", "dog"], num_oov_indices=2),
        refused=HASH,
    ),
    *rows(
        "TextVectorization",
        x(dtype="string", values=WORDS),
        a(vocabulary=["cat", "dog"]),
        refused=TEXT,
    ),
    *rows(
        "TextVectorization",
        x(dtype="string", values=WORDS),
        a(vocabulary=["cat", "dog"], standardize=None, split=None),
    ),
    *rows("TimeDistributed", x(3, 8, 9, 4), a(new("Conv2D", 3, 2)), a(new("MaxPooling2D"))),
    *rows("TimeDistributed", x(3, 5, 4), a(new("LSTM", 3)), a(new("Dense", 3))),
    *rows("TimeDistributed", ANY_SEQUENCE, a(new("Dense", 3))),
    *rows("TimeDistributed", x(None, 8, 9, 4), a(new("Conv2D", 3, 2))),
    *rows("UnitNormalization", SEQUENCE, a(), a(axis=1)),
    *rows("UnitNormalization", IMAGE, a(axis=[1, 3])),
    *rows("UpSampling1D", ANY_SEQUENCE, a(2), a(3)),
    *rows(
        "UpSampling2D",
        IMAGE,
        a(2),
        a((3, 2)),
        a(2, interpolation="bilinear"),
        a((2, 3), interpolation="bicubic"),
        a(2, interpolation="lanczos3"),
    ),
    *rows("UpSampling2D", ANY_IMAGE, a(2)),
    *rows("UpSampling3D", VOLUME, a(2), a((1, 2, 3))),
    *rows("ZeroPadding1D", ANY_SEQUENCE, a(1), a((0, 2))),
    *rows("ZeroPadding2D", ANY_IMAGE, a(1), a(((2, 1), (0, 3)))),
    *rows("ZeroPadding2D", x(2, 8, 9), a(((2, 1), (0, 3)), data_format="channels_first")),
    *rows("ZeroPadding3D", VOLUME, a(1), a(((2, 1), (0, 3), (1, 0)))),
)

KERAS_2: tuple[Row, ...] = (
    *each(("LeakyReLU", "ELU"), VECTOR, a(), a(alpha=0.05)),
    *rows("LeakyReLU", VECTOR, a(alpha=1.5)),
    *rows("UpSampling2D", ANY_IMAGE, a(2, interpolation="bilinear")),
    *rows("ThresholdedReLU", VECTOR, a(), a(theta=0.3)),
    *each(
        ("LocallyConnected1D",),
        SEQUENCE,
        *(a(5, 3, strides=2, implementation=i) for i in (1, 2, 3)),
    ),
    *each(("LocallyConnected2D",), IMAGE, *(a(5, (3, 2), implementation=i) for i in (1, 2, 3))),
    *rows("BatchNormalization", IMAGE, a(fused=False)),
    *rows(
        "Resizing",
        PHOTO,
        *(
            a(*size, interpolation=kind)
            for kind in ("area", "gaussian", "mitchellcubic")
            for size in ((5, 7), (14, 20))
        ),
    ),
    *rows(
        "UpSampling2D",
        IMAGE,
        *(a(2, interpolation=k) for k in ("area", "gaussian", "lanczos5", "mitchellcubic")),
    ),
    *rows("LSTM", SEQUENCE, a(3, time_major=True, return_sequences=True)),
    *rows("SpatialDropout2D", IMAGE, a(0.3, data_format="channels_first")),
    *rows(
        "CategoryEncoding",
        x(4, dtype="int32", values=5),
        a(num_tokens=5, sparse=True),
        refused=SPARSE,
    ),
    *rows(
        "DenseFeatures",
        VECTOR,
        a([new("feature_column.numeric_column", "a", shape=(6,))]),
        call=_as_feature,
    ),
    *rows("Resizing", BYTES, a(5, 7)),
    *each(
        ("Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
        VECTOR,
        a(0.3),
        call=_training,
        note=" training=True",
        refused=RANDOM,
    ),
    *rows("RandomFlip", PHOTO, call=_training, note=" training=True", refused=RANDOM),
    *rows("layers.experimental.SyncBatchNormalization", IMAGE),
    *rows("layers.experimental.RandomFourierFeatures", VECTOR, a(5), a(5, "laplacian", scale=2.0)),
)


def _indices(layer: Any, updates: Any) -> Any:
    import tensorflow as tf

    pooled, indices = tf.nn.max_pool_with_argmax(updates, 2, 2, "SAME")
    return layer(pooled, indices)


ADDONS: tuple[Row, ...] = (
    *each(
        ("tfa.layers.AdaptiveAveragePooling1D", "tfa.layers.AdaptiveMaxPooling1D"), x(6, 4), a(3)
    ),
    *each(
        ("tfa.layers.AdaptiveAveragePooling2D", "tfa.layers.AdaptiveMaxPooling2D"),
        x(8, 9, 4),
        a((4, 3)),
    ),
    *each(
        ("tfa.layers.AdaptiveAveragePooling3D", "tfa.layers.AdaptiveMaxPooling3D"),
        x(4, 6, 8, 2),
        a((2, 3, 2)),
    ),
    *rows("tfa.layers.CRF", SEQUENCE, a(3), a(3, use_boundary=False)),
    *rows(
        "tfa.layers.ESN", SEQUENCE, a(5, connectivity=0.5), a(5, leaky=0.7, return_sequences=True)
    ),
    *rows("tfa.layers.FilterResponseNormalization", IMAGE, a(), a(learned_epsilon=True)),
    *rows("tfa.layers.GELU", VECTOR, a(), a(approximate=False)),
    *rows("tfa.layers.GroupNormalization", IMAGE, a(2)),
    *rows("tfa.layers.InstanceNormalization", IMAGE),
    *rows("tfa.layers.MaxUnpooling2D", x(8, 6, 4), call=_indices),
    *rows("tfa.layers.MaxUnpooling2DV2", x(8, 6, 4, batch=2), a((2, 8, 6, 4)), call=_indices),
    *rows("tfa.layers.Maxout", VECTOR, a(3)),
    *rows("tfa.layers.Maxout", IMAGE, a(2, axis=-1)),
    *rows(
        "tfa.layers.MultiHeadAttention",
        (SEQUENCE, x(5, 4)),
        a(3, 2),
        a(3, 2, output_size=5, return_attn_coef=True),
    ),
    *rows("tfa.layers.NoisyDense", VECTOR, a(5), a(5, use_factorised=False)),
    *rows("tfa.layers.PoincareNormalize", SEQUENCE, a(), a(axis=2)),
    *rows("tfa.layers.PolynomialCrossing", (VECTOR, VECTOR), a(), a(projection_dim=2)),
    *rows("tfa.layers.Snake", VECTOR),
    *rows("tfa.layers.Sparsemax", VECTOR),
    *rows("tfa.layers.Sparsemax", SEQUENCE, a(), a(axis=1)),
    *rows("tfa.layers.SpatialPyramidPooling2D", IMAGE, a([1, 2]), a([[2, 3]])),
    *rows("tfa.layers.SpectralNormalization", IMAGE, a(new("Conv2D", 3, 2))),
    *rows("tfa.layers.StochasticDepth", (IMAGE, IMAGE), a(0.7)),
    *rows("tfa.layers.TLU", VECTOR, a(), a(affine=True)),
    *rows("tfa.layers.WeightNormalization", IMAGE, a(new("Conv2D", 3, 2)), refused=NO_DATA_YET),
    *rows("tfa.layers.WeightNormalization", IMAGE, a(new("Conv2D", 3, 2), data_init=False)),
    *rows("tfa.layers.WeightNormalization", VECTOR, a(new("Dense", 3), data_init=False)),
    *rows(
        "RNN",
        SEQUENCE,
        *(
            a(new(f"tfa.rnn.{cell}", 4), return_sequences=True)
            for cell in (
                "ESNCell",
                "LayerNormLSTMCell",
                "LayerNormSimpleRNNCell",
                "NASCell",
                "PeepholeLSTMCell",
            )
        ),
    ),
    *rows("RNN", SEQUENCE, a(new("tfa.rnn.NASCell", 4, projection=3), return_sequences=True)),
    *rows("tfa.activations.gelu", VECTOR, a(), a(approximate=False)),
    *each(
        ("tfa.activations.hardshrink", "tfa.activations.softshrink"),
        VECTOR,
        a(),
        a(lower=-1.0, upper=0.2),
    ),
    *each(("tfa.activations.lisht", "tfa.activations.mish", "tfa.activations.tanhshrink"), VECTOR),
    *rows("tfa.activations.rrelu", VECTOR, a(), a(lower=0.2, upper=0.4)),
    *rows("tfa.activations.rrelu", VECTOR, a(training=True), refused=RANDOM),
    *rows("tfa.activations.snake", VECTOR, a(), a(2.0)),
    *rows("tfa.activations.sparsemax", SEQUENCE, a(), a(axis=1)),
)

BOTH_ACTIVATIONS: tuple[Row, ...] = (
    *each(
        (
            f"activations.{name}"
            for name in words(
                "exponential hard_sigmoid linear mish selu sigmoid softplus softsign swish tanh"
            )
        ),
        VECTOR,
    ),
    *rows("activations.elu", VECTOR, a(), a(alpha=0.4)),
    *rows("activations.gelu", VECTOR, a(), a(approximate=True)),
    *rows("activations.relu", VECTOR, a(), a(max_value=2.0), a(threshold=0.5)),
    *rows("activations.softmax", SEQUENCE, a(), a(axis=1)),
)

KERAS_3: tuple[Row, ...] = (
    *rows(
        "Activation",
        VECTOR,
        *map(
            a,
            words(
                "celu hard_shrink hard_silu hard_swish hard_tanh leaky_relu log_sigmoid "
                "log_softmax relu6 silu soft_shrink sparse_plus sparse_sigmoid sparsemax "
                "squareplus tanh_shrink"
            ),
        ),
    ),
    *each(
        (
            f"activations.{name}"
            for name in words(
                "glu hard_silu hard_swish hard_tanh log_sigmoid log_softmax relu6 silu "
                "sparse_plus sparse_sigmoid sparsemax tanh_shrink"
            )
        ),
        VECTOR,
    ),
    *rows("activations.glu", IMAGE, a(axis=1)),
    *rows("activations.log_softmax", SEQUENCE, a(axis=1)),
    *rows("activations.sparsemax", SEQUENCE, a(axis=1)),
    *rows("activations.celu", VECTOR, a(), a(alpha=0.4)),
    *each(("activations.hard_shrink", "activations.soft_shrink"), VECTOR, a(), a(1.3)),
    *rows("activations.leaky_relu", VECTOR, a(), a(negative_slope=0.05)),
    *rows("activations.squareplus", VECTOR, a(), a(b=1)),
    *rows("activations.threshold", VECTOR, a(0.5, -1.0)),
    *rows("activations.relu", VECTOR, a(negative_slope=0.3, max_value=1.0, threshold=-0.2)),
    *rows("LeakyReLU", VECTOR, a(), a(negative_slope=0.05), a(negative_slope=1.5)),
    *rows("ThresholdedReLU", VECTOR, a(), a(theta=0.3)),
    *each(("AdaptiveAveragePooling1D", "AdaptiveMaxPooling1D"), x(7, 4), a(3), a(7)),
    *each(("AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D"), IMAGE, a((4, 5)), a(3)),
    *each(("AdaptiveAveragePooling3D", "AdaptiveMaxPooling3D"), VOLUME, a((2, 4, 3))),
    *rows("AutoContrast", PHOTO),
    *rows("AugMix", PHOTO),
    *rows(
        "ContrastLimitedAdaptiveHistogramEqualization",
        x(16, 16, 3, values="image"),
        a(tile_grid_size=(2, 2)),
    ),
    *rows("CutMix", PHOTO),
    *rows("Equalization", PHOTO, call=_inside_lambda),
    *rows("MixUp", PHOTO),
    *rows("Solarization", PHOTO, a(), a(addition_factor=0.3, threshold_factor=0.4)),
    *rows("MaxNumBoundingBoxes", PHOTO, a(3)),
    *rows(
        "Pipeline", PHOTO, a([new("Rescaling", 0.1), new("RandomFlip"), new("CenterCrop", 5, 5)])
    ),
    *each(
        (
            "RandAugment",
            "RandomColorJitter",
            "RandomElasticTransform",
            "RandomErasing",
            "RandomGaussianBlur",
            "RandomGrayscale",
            "RandomInvert",
            "RandomPerspective",
            "RandomShear",
        ),
        PHOTO,
    ),
    *each(
        ("RandomColorDegeneration", "RandomHue", "RandomSaturation", "RandomSharpness"),
        PHOTO,
        a(0.3),
    ),
    *rows("RandomPosterization", PHOTO, a(4)),
    *rows(
        "GroupQueryAttention",
        (SEQUENCE, x(5, 4)),
        a(3, 4, 2),
        a(3, 2, 1, use_bias=False),
        call=_query_value,
    ),
    *rows(
        "GroupQueryAttention",
        (SEQUENCE, SEQUENCE),
        a(3, 4, 2),
        a(3, 4, 2, use_gate=True),
        a(3, 4, 2, sliding_window=3),
        call=_causal,
        note=" causal",
    ),
    *rows(
        "GroupQueryAttention",
        (SEQUENCE, x(5, 4), x(7, 5, dtype="bool", values=(True, False, True))),
        a(3, 4, 2),
        call=_attention_mask,
        note=" with a mask, returning scores",
    ),
    *rows("RMSNormalization", SEQUENCE, a(), a(epsilon=0.1)),
    *rows("LayerNormalization", SEQUENCE, a(rms_scaling=True)),
    *rows("ReversibleEmbedding", IDS, a(9, 4)),
    *rows(
        "ReversibleEmbedding",
        SEQUENCE,
        a(9, 4),
        a(9, 4, tie_weights=False, logit_soft_cap=2.0),
        call=lambda layer, inputs: layer(inputs, reverse=True),
        note=" reverse=True",
    ),
    *rows(
        "MelSpectrogram",
        x(400),
        a(fft_length=64, sequence_stride=32, num_mel_bins=16, sampling_rate=2000),
        a(
            fft_length=64,
            sequence_stride=32,
            sequence_length=50,
            num_mel_bins=8,
            sampling_rate=2000,
            power_to_db=False,
        ),
    ),
    *rows(
        "STFTSpectrogram",
        x(400, 1),
        a(frame_length=64, window=None),
        *(
            a(
                mode=mode,
                frame_length=64,
                frame_step=16,
                fft_length=128,
                window=None,
                padding="same",
            )
            for mode in ("magnitude", "psd", "real", "imag", "angle", "log", "stft")
        ),
        a(frame_length=64, window=None, scaling="spectrum", expand_dims=True),
    ),
    *rows("TFSMLayer", VECTOR, a(new("saved_model"), call_endpoint="serve")),
    *rows("UpSampling2D", ANY_IMAGE, a(2, interpolation="bilinear"), refused=UNTRACEABLE),
    *rows(
        "Resizing",
        PHOTO,
        a(6, 6, pad_to_aspect_ratio=True, fill_value=3.0),
        a(5, 7, antialias=True),
        a(5, 7, interpolation="bicubic", antialias=True),
    ),
    *rows("Resizing", x(3, 9, 12, values="image"), a(5, 7, data_format="channels_first")),
    *rows("DepthwiseConv2D", IMAGE, a(2)),
    *rows(
        "Conv2D",
        x(4, 8, 9),
        a(6, 3, data_format="channels_first", padding="same", strides=2),
        needs_onednn=("Keras 3",),
    ),
    *rows("MaxPooling2D", x(4, 8, 9), a(3, data_format="channels_first")),
    *rows("Flatten", x(4, dtype="bool", values=(True, False))),
)


FLOAT16 = tuple(
    Row(
        New(row.layer.name, row.layer.arguments, {**row.layer.options, "dtype": "float16"}),
        tuple(replace(given, dtype="float16") for given in row.inputs),
        call=row.call,
    )
    for row in (
        *rows("Dense", VECTOR, a(5, activation="gelu")),
        *rows("Conv2D", IMAGE, a(6, 3, activation="relu"), a(6, 3, groups=2)),
        *rows("DepthwiseConv2D", IMAGE, a(3)),
        *each(("AveragePooling2D", "MaxPooling2D"), IMAGE, a(3, padding="same")),
        *rows("BatchNormalization", IMAGE),
        *rows("Softmax", SEQUENCE),
        *rows("LSTM", x(3, 4), a(3)),
        *rows("MultiHeadAttention", (SEQUENCE, SEQUENCE), a(2, 3), call=_causal, note=" causal"),
    )
)


def table(world: str) -> tuple[Row, ...]:
    """The rows of ``"Keras 2"`` (with Addons) or ``"Keras 3"``."""
    own = {"Keras 2": KERAS_2 + ADDONS, "Keras 3": KERAS_3}[world]
    return BOTH + BOTH_ACTIVATIONS + FLOAT16 + own


_BASES = "computes nothing by itself"
_NEEDS_CUDA = "its operator is in a library of TensorFlow Addons that loads beside CUDA only"
# Public names that have no row, and why.
WITHOUT_ROW: Mapping[str, Mapping[str, str]] = {
    "Keras 2": {
        "AbstractRNNCell": _BASES,
        "InputLayer": _BASES,
        "Layer": _BASES,
        "Wrapper": _BASES,
        "tfa.layers.CorrelationCost": _NEEDS_CUDA,
        "tfa.layers.EmbeddingBag": _NEEDS_CUDA,
    },
    "Keras 3": {
        "InputLayer": _BASES,
        "Layer": _BASES,
        "Wrapper": _BASES,
        "FlaxLayer": "computes with Flax",
        "JaxLayer": "computes with JAX",
        "TorchModuleWrapper": "computes with PyTorch",
    },
}


def page() -> str:
    """The page of the documentation, in Markdown."""
    lines = [_HEAD]
    for world, title in (
        ("Keras 2", "Keras 2 and TensorFlow Addons (TensorFlow 2.15)"),
        ("Keras 3", "Keras 3 (TensorFlow 2.21, Keras 3.15)"),
    ):
        lines += ["", f"## {title}", "", "| layer | converts | is refused |", "| --- | --- | --- |"]
        found: dict[str, list[Row]] = {}
        for row in table(world):
            found.setdefault(row.layer.name, []).append(row)
        for name in sorted(found, key=str.lower):
            right = [_code(row) for row in found[name] if not row.refused]
            refused = [f"{_code(row)}: {row.refused}" for row in found[name] if row.refused]
            lines.append(f"| {name} | {'<br>'.join(right)} | {'<br>'.join(refused)} |")
        missing = sorted(WITHOUT_ROW[world].items(), key=lambda item: item[::-1])
        lines += ["", "Without a row:", ""]
        lines += [f"- `{name}`: {reason}" for name, reason in missing]
    return "\n".join(lines) + "\n"


_HEAD = """\
# Coverage: every built-in layer and activation

Each form below is a test: it converts, and ONNX Runtime computes what Keras computes, or it is
refused by a `ConversionError` that names the layer. Written by
`python -m tests.conversion.builtin_layers`, from the table of the tests."""


def _code(row: Row) -> str:
    return f"`{str(row).replace('|', chr(92) + '|')}`"


if __name__ == "__main__":
    PAGE.write_text(page())
