#!/usr/bin/env python3
"""Keeps the KV cache of a transformers model in MemKV: the next start, or another host, reads it instead of computing it.

    memkv start                                                          # a store for this user, in a file of this folder
    python examples/transformers_cache.py --model /models/llama --prompt-file long.txt
    python examples/transformers_cache.py --model /models/llama --prompt-file long.txt   # finds what the first one stored

Which store: MEMKV_SERVERS and MEMKV_AUTH_KEY, or else the server of `memkv start` on this host.
"""

import argparse
import hashlib
import json
import pathlib
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

import memkv
from memkv import naming

PAGE = 64  # tokens a block


class PromptCache:
    """The pages of prompts' KV cache in a store: keys and values of PAGE tokens, of all layers, in one block.

    A page's key is a hash of all tokens up to its end, so prompts share the pages of what they have in common.
    Thread: one."""

    def __init__(self, kv, model, folder):
        self.kv, self.model = kv, model
        config = model.config
        heads = config.num_key_value_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.shape = (config.num_hidden_layers, 2, heads, PAGE, dim)
        self.page_bytes = torch.Size(self.shape).numel() * model.dtype.itemsize
        self.prefix = naming.prefix(
            engine="transformers", weights=naming.weights_identity(folder), dtype=str(model.dtype), kv_dtype=str(model.dtype),
            layout=f"layer,kv,head,token,dim {self.shape}", block_bytes=self.page_bytes, hash_scheme="blake2b of all tokens",
        )  # fmt: skip

    def keys(self, tokens):
        """Of the prompt's whole pages, but not of one that holds its last token: the model has to see a token to go on."""
        digest, keys = hashlib.blake2b(digest_size=32), []
        for begin in range(0, (len(tokens) - 1) // PAGE * PAGE, PAGE):
            digest.update(torch.tensor(tokens[begin : begin + PAGE], dtype=torch.int64).numpy().tobytes())
            keys.append(self.prefix + digest.copy().digest())
        return keys

    def host_pages(self, count):
        """Memory for that many pages. Pinned where there is a GPU: copies to it are then the DMA engine's."""
        return torch.empty((count, *self.shape), dtype=self.model.dtype, pin_memory=self.model.device.type == "cuda")

    def load(self, tokens):
        """A cache of as many pages from the front as the store has, and how many tokens that is. Wrong bytes are misses."""
        keys = self.keys(tokens)
        there = self.kv.exists_many(keys)
        count = there.index(False) if False in there else len(keys)
        pages = self.host_pages(count)
        offsets = [i * self.page_bytes for i in range(count)]
        got = self.kv.get_pages(keys[:count], pages, offsets, self.page_bytes)
        whole = [n == self.page_bytes for n in got]  # a page may have gone since the store was asked
        count = whole.index(False) if False in whole else count
        cache = DynamicCache(config=self.model.config)
        if count == 0:
            return cache, 0
        pages = pages[:count].to(self.model.device, non_blocking=True)
        for layer in range(self.shape[0]):
            # page, head, token, dim -> head, all tokens, dim
            k, v = (pages[:, layer, i].transpose(0, 1).reshape(1, self.shape[2], count * PAGE, self.shape[4]) for i in (0, 1))
            cache.update(k, v, layer)
        return cache, count * PAGE

    def store(self, tokens, cache, have):
        """Stores the pages behind the first `have` tokens. Returns how many are there now."""
        keys = self.keys(tokens)[have // PAGE :]
        pages = self.host_pages(len(keys))
        for layer, kept in enumerate(cache.layers):
            for i, tensor in enumerate((kept.keys, kept.values)):
                new = tensor[0, :, have : have + len(keys) * PAGE]
                pages[:, layer, i].copy_(new.reshape(self.shape[2], len(keys), PAGE, self.shape[4]).transpose(0, 1))
        return sum(self.kv.put_pages(keys, pages, [i * self.page_bytes for i in range(len(keys))], self.page_bytes))


def answer(model, store, tokens, new_tokens):
    """Greedy tokens after the prompt, and what it took, in seconds."""
    begun = time.perf_counter()
    cache, have = store.load(tokens)
    _finish(model)
    loaded = time.perf_counter()
    out = []
    step = torch.tensor([tokens[have:]], device=model.device)
    with torch.inference_mode():
        for _ in range(new_tokens):
            logits = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            step = logits[:, -1].argmax(-1, keepdim=True)
            out.append(int(step))
            if len(out) == 1:
                first = time.perf_counter()
    stored = store.store(tokens, cache, have)
    return {
        "tokens": len(tokens), "from_the_store": have, "pages_stored": stored, "load_s": loaded - begun,
        "first_token_s": first - begun, "generated": out,
    }  # fmt: skip


def _finish(model):
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=pathlib.Path, help="folder with config, weights and, for --prompt-file, a tokenizer")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--prompt-file", type=pathlib.Path, help="text")
    given.add_argument("--prompt-tokens", type=int, help="a made-up prompt of so many tokens")
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype="auto").to(arguments.device).eval()
    if arguments.prompt_file:
        tokens = AutoTokenizer.from_pretrained(arguments.model)(arguments.prompt_file.read_text())["input_ids"]
    else:
        tokens = torch.randint(model.config.vocab_size, (arguments.prompt_tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():  # the first call makes kernels ready, which is none of the cache's time
        model(torch.tensor([tokens[:PAGE]], device=model.device))
    with memkv.connect() as kv:
        print(json.dumps(answer(model, PromptCache(kv, model, arguments.model), tokens, arguments.new_tokens)))


if __name__ == "__main__":
    main()
