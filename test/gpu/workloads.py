# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The standard workloads at full size, as whole models that llamac and PyTorch both train.

A step is forward, backward and AdamW. What a workload is not about is as small as it may be: the vocabulary has 1,024
entries, the encoder of W1 two narrow layers, the text model of W2 one. The floor counts the layers' operations at
790 TFLOP/s and AdamW's 30 bytes a parameter at 4.3 TB/s (docs/gpu-ledger.md).
"""

import dataclasses

VOCABULARY = 1024
LEARNING_RATE = 1e-4
TEXT_8B = {"vocab_size": VOCABULARY, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
           "num_key_value_heads": 8, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
           "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                            "original_max_position_embeddings": 8192},
           "max_position_embeddings": 131072, "tie_word_embeddings": False, "bos_token_id": 1000, "eos_token_id": 1001,
           "pad_token_id": 1004}
ENCODER = {"model_type": "mllama_vision_model", "hidden_size": 1280, "hidden_act": "gelu", "num_hidden_layers": 32,
           "num_global_layers": 8, "attention_heads": 16, "intermediate_size": 5120, "num_channels": 3, "patch_size": 14,
           "image_size": 336, "max_num_tiles": 4, "norm_eps": 1e-5, "vision_output_dim": 7680,
           "intermediate_layers_indices": [3, 7, 15, 23, 30]}


def text(**changes) -> dict:
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | TEXT_8B | changes


def vision(text_changes: dict, encoder_changes: dict) -> dict:
    return {"architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama", "image_token_index": VOCABULARY,
            "text_config": {"model_type": "mllama_text_model"} | TEXT_8B | text_changes, "vision_config": ENCODER | encoder_changes}


@dataclasses.dataclass
class Workload:
    what: str
    floor: float  # ms, of the layers that it is about: operations; W4: bytes
    goal: float  # ms
    config: dict
    samples: int
    text_length: int
    images: int  # of each sample
    is_optimizer: bool = False  # about AdamW alone: what the rest of the step takes does not count


def steps(is_small: bool) -> tuple[int, int]:
    """Of both sides: steps that are not timed (the first prepares, the second is recorded or compiled, clocks rise), and those that are."""
    return (2, 2) if is_small else (8, 20)


def small(workload: Workload) -> Workload:
    """The same at a size that a CPU can do in seconds, for tests of run.py: its times mean nothing."""
    narrow = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": VOCABULARY}
    config = dict(workload.config)
    if workload.images:
        config["text_config"] = config["text_config"] | narrow
        config["vision_config"] = config["vision_config"] | {
            "hidden_size": 160, "attention_heads": 2, "intermediate_size": 320, "num_hidden_layers": 1, "num_global_layers": 1,
            "vision_output_dim": 320, "intermediate_layers_indices": [0], "image_size": 56}
    else:
        config |= narrow
    return dataclasses.replace(workload, config=config, samples=1, text_length=min(workload.text_length, 128))


WORKLOADS = {
    "W1": Workload("four self- and one cross-attention layer of 8B, 8 x 192 text and 2,308 image tokens", 14.1, 16.6,
                   vision({"num_hidden_layers": 5, "cross_attention_layers": [3]},
                          {"hidden_size": 160, "attention_heads": 2, "intermediate_size": 320, "num_hidden_layers": 1,
                           "num_global_layers": 1, "vision_output_dim": 320, "intermediate_layers_indices": [0]}), 8, 192, 1),
    "W2": Workload("encoder, 40 layers, 8 x 2,308 tokens, head size 80", 149.0, 199.0,
                   vision({"num_hidden_layers": 1, "cross_attention_layers": [0], "hidden_size": 256, "intermediate_size": 512,
                           "num_attention_heads": 2, "num_key_value_heads": 1}, {}), 8, 32, 1),
    "W3": Workload("four layers of 8B, 1 x 8,192 tokens", 64.0, 73.5, text(num_hidden_layers=4), 1, 8192, 0),
    "W4": Workload("AdamW on 1e9 parameters", 6.98, 7.35, text(num_hidden_layers=4, vocab_size=15616), 1, 64, 0,
                   is_optimizer=True),
}
