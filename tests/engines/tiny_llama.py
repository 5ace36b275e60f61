"""The model of the tests with real engines."""


def write_model(folder, seed=1):
    """A Llama of 2.5 million random parameters: 64 KiB of KV cache for 32 tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=4096, initializer_range=0.2, torch_dtype="bfloat16",
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def make_amx_ready():
    """Asks the kernel for AMX where the CPU has it: vLLM 0.32's attention on the CPU uses it without (findings/,
    torch-tells-of-amx-before-it-may-be-used.sh), and an engine of these tests ended by a signal."""
    import torch

    if torch.cpu._is_amx_tile_supported():
        torch.cpu._init_amx()
