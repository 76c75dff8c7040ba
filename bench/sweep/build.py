"""Tiny random models of every causal architecture that transformers lists: its configuration, made small."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY, WIDTH, HEADS = 259, 32, 4

# A size by the name of the setting; the first that applies.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "decoder_vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_dim", "embedding_size",
         "input_embedding_size", "output_embedding_size", "word_embed_proj_dim", "lru_width", "attention_hidden_size",
         "backbone_hidden_size"),
        WIDTH,
    ),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads",
         "encoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads",
         "swa_num_attention_heads",
         "linear_num_heads", "linear_num_value_heads", "index_n_heads", "mamba_n_heads", "mamba_num_heads"),
        HEADS,
    ),
    **dict.fromkeys(
        ("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "linear_num_key_heads", "n_mamba_heads"), 2
    ),
    **dict.fromkeys(
        ("head_dim", "d_head", "dim_head", "swa_head_dim", "global_head_dim", "linear_head_dim", "linear_key_head_dim",
         "linear_value_head_dim", "index_head_dim", "attention_head_size", "qk_nope_head_dim", "qk_rope_head_dim",
         "v_head_dim", "kv_channels", "attention_head_dim", "query_pre_attn_scalar"),
        8,
    ),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank", "laurel_rank", "adapter_rank", "qk_head_dim"), 16),
    **dict.fromkeys(("shape_embed_dim", "pronunciation_embed_dim"), 16),
    **dict.fromkeys(
        ("intermediate_size", "moe_intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim",
         "ffn_hidden_size",
         "expert_ffn_hidden_size", "shared_expert_intermediate_size", "shared_intermediate_size", "dim_ff", "dff",
         "intermediate_size_mlp", "dense_intermediate_size", "d_inner", "feed_forward_size", "n_inner",
         "moe_shared_expert_intermediate_size", "shared_experts_intermediate_size", "router_hidden_size"),
        64,
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks", "encoder_layers", "decoder_layers",
         "num_encoder_layers", "num_decoder_layers", "depth"),
        2,
    ),
    **dict.fromkeys(
        ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "num_centroids"), 4
    ),
    **dict.fromkeys(
        ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "moe_top_k", "zero_expert_num", "n_group",
         "num_expert_group"),
        2,
    ),
    **dict.fromkeys(("topk_group", "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size"), 16),
    **dict.fromkeys(("n_groups", "mamba_ngroups", "o_groups"), 2),
    **dict.fromkeys(("time_step_rank", "mamba_dt_rank"), 4),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length", "model_max_length",
         "max_target_positions", "max_source_positions"),
        512,
    ),
    **dict.fromkeys(
        ("sliding_window", "attention_window_size", "local_attention", "sliding_window_size", "attention_chunk_size",
         "index_topk", "window_size"),
        64,
    ),
    **dict.fromkeys(("mamba_d_ssm",), 64),
    **dict.fromkeys(("rotary_dim",), 4),
    **dict.fromkeys(("encoder_hash_byte_group_vocab", "hidden_size_global"), WIDTH),
    "hidden_size_per_layer_input": 8,
    **dict.fromkeys(("num_kv_shared_layers", "num_nextn_predict_layers"), 0),
}  # fmt: skip
SPECIALS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
DROPOUTS = ("dropout", "pdrop", "dropout_prob", "layerdrop", "jitter_noise", "dropout_rate", "dropout_p")
# What a head may leave out unseen, unless it is not 1 or none.
TELLING = {
    "logits_scaling": 8.0, "logit_scale": 0.25, "lm_head_multiplier": 0.25, "logits_mup_width_multiplier": 4.0,
    "final_logit_softcapping": 20.0, "dim_model_base": 8,
}  # fmt: skip
UNSAID = ("head_dim", "num_key_value_heads", "num_experts_per_tok")  # some classes cannot do without, and leave it out

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
INDEXED = {
    "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 64,
    "indexer_compress_ratio": 4,
}  # fmt: skip
# What a class needs beyond its sizes.
OWN: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "layer_types": ["full_attention", "sliding_attention"],
        "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE},
    },
    "gemma3n_text": {"altup_num_inputs": 2},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "local"]},
    "roc_bert": {
        "shape_vocab_size": 50,
        "pronunciation_vocab_size": 50,
        "shape_embed_dim": 8,
        "pronunciation_embed_dim": 8,
    },
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["hybrid", "mamba", "hybrid", "mamba"],
        "n_mamba_heads": 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zamba2": {"mamba_headdim": 16, "n_mamba_heads": 4, "attention_hidden_size": 64, "attention_head_dim": 16},
    "dots1": {"moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1},
    "qwen4_exp": {"text_config": INDEXED},
    "qwen4_exp_text": INDEXED,
    "zaya": {"num_experts_per_tok": 1},
}


def types() -> list[str]:
    """Every type that transformers lists for causal language modelling."""
    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def config(kind: str) -> PreTrainedConfig:
    """A small configuration of a type."""
    return _small(CONFIG_MAPPING[kind], OWN.get(kind, {}))


def _small(cls: Any, own: dict[str, Any]) -> PreTrainedConfig:
    usual = cls()
    given: dict[str, Any] = {}
    layers = 2
    parts = getattr(cls, "sub_configs", {})
    for name, value in vars(usual).items():
        if name in parts:
            if isinstance(value, PreTrainedConfig):
                given[name] = _small(type(value), own.get(name, {}))
        elif isinstance(value, bool) or name.startswith("_"):
            continue
        elif name.endswith(DROPOUTS) and isinstance(value, float):
            given[name] = 0.0
        elif name in TELLING:
            given[name] = TELLING[name]
        elif name in SPECIALS:
            given[name] = SPECIALS[name]
        elif isinstance(value, list) and value and isinstance(value[0], str) and len(value) > 3:
            kinds = list(dict.fromkeys(value))
            given[name] = kinds if len(kinds) > 1 else kinds * 2
            layers = max(layers, len(given[name]))
        elif (isinstance(value, int) or (value is None and name in UNSAID)) and name in SMALL:
            given[name] = SMALL[name]
            if name == "num_key_value_heads" and "kv_lora_rank" in vars(usual):
                given[name] = HEADS
        elif isinstance(value, int) and name.endswith("token_id"):
            given[name] = 3
    for name, value in given.items():  # lists of kinds of layers are of one length, and say how many there are
        if isinstance(value, list):
            given[name] = [value[i % len(value)] for i in range(layers)]
        elif name in ("num_hidden_layers", "n_layer", "n_layers"):
            given[name] = layers
    if hasattr(usual, "is_decoder"):
        given["is_decoder"] = True
    return cls(**{**given, **{name: value for name, value in own.items() if name not in parts}})


def model(kind: str, seed: int = 0) -> PreTrainedModel:
    """A random model of a type, whose head and layers speak clearly.

    Raises:
        Exception: whatever its class raises at this size.
    """
    torch.manual_seed(seed)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(config(kind), dtype=torch.float32)
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if tensor.dim() > 1:
                tensor.copy_(torch.randn_like(tensor) * (0.5 if "conv" in name else 1.0) / tensor.shape[-1] ** 0.5)
            elif "bias" in name:
                tensor.copy_(0.1 * torch.randn_like(tensor))
        head: Any = made.get_output_embeddings()
        if isinstance(head, torch.nn.Linear):
            head.weight.mul_(8.0)
    made.tie_weights()
    return made.eval()
