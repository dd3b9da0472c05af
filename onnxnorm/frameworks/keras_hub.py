"""KerasHub's own layers: RMS normalization over the last axis under many names."""

from __future__ import annotations

from typing import Any

from onnxnorm.frameworks.formula import Formula, Shape, array


def rms_normalization(layer: Any, input_shape: Shape) -> Formula:
    """Of Llama and most others: times ``scale``."""
    return Formula("RMSNormalization", axes=[-1], epsilon=layer.epsilon, scale=layer.scale)


def offset_rms_normalization(layer: Any, input_shape: Shape) -> Formula:
    """Of Gemma: times ``1 + scale``."""
    scale = 1 + array(layer.scale).astype("float32")
    return Formula("RMSNormalization", axes=[-1], epsilon=layer.epsilon, scale=scale)


def t5_layer_norm(layer: Any, input_shape: Shape) -> Formula:
    """Of T5: times ``weight``."""
    return Formula("RMSNormalization", axes=[-1], epsilon=layer.epsilon, scale=layer.weight)


# By module, since one class name stands for several formulas.
LAYERS = {
    "models.edrec.edrec_layers.EdRecRMSNormalization": offset_rms_normalization,
    "models.gemma.rms_normalization.RMSNormalization": offset_rms_normalization,
    "models.gemma3.gemma3_layers.RMSNormalization": offset_rms_normalization,
    "models.gemma4.gemma4_layers.RMSNormalization": rms_normalization,
    "models.gpt_oss.gpt_oss_layer_norm.GptOssLayerNormalization": rms_normalization,
    "models.llama.llama_layernorm.LlamaLayerNorm": rms_normalization,
    "models.mistral.mistral_layer_norm.MistralLayerNormalization": rms_normalization,
    "models.mixtral.mixtral_layer_norm.MixtralLayerNormalization": rms_normalization,
    "models.phi3.phi3_layernorm.Phi3LayerNorm": rms_normalization,
    "models.qwen.qwen_layernorm.QwenLayerNorm": rms_normalization,
    "models.qwen3.qwen3_layernorm.Qwen3LayerNorm": rms_normalization,
    "models.qwen3_5.qwen3_5_layers.Qwen3_5LayerNorm": offset_rms_normalization,
    "models.qwen3_moe.qwen3_moe_layernorm.Qwen3MoeLayerNorm": rms_normalization,
    "models.qwen_moe.qwen_moe_layernorm.QwenMoeLayerNorm": rms_normalization,
    "models.roformer_v2.roformer_v2_attention.RoformerNorm": rms_normalization,
    "models.t5.t5_layer_norm.T5LayerNorm": t5_layer_norm,
}
BATCH_LAYERS: dict[str, Any] = {}
WRAPPERS: dict[str, Any] = {}
