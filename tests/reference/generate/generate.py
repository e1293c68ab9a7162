#!/usr/bin/env python3
"""Writes tiny random models, one per architecture and variant, and the logits that llama.cpp computes from them.

    tests/reference/generate/generate.py RUNNER OUT [NAME...]

RUNNER is the command that runs llama_logits (see llama_logits.cpp beside this; tests/reference/tiny/README.md tells how
the files there were made). Weights are wide enough that every part of the arithmetic shows in the logits.
"""

import json
import math
import random
import shlex
import struct
import subprocess
import sys
from pathlib import Path

EMBEDDING, HEADS, KV_HEADS, HEAD, FORWARD, VOCABULARY = 64, 4, 2, 16, 96, 96
EXPERTS, CHOSEN, EXPERT_FORWARD = 4, 2, 32
CONTEXT, PROMPT, STEPS = 256, 40, 12
F32, F16 = 0, 1
U32, F32_VALUE, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


class Model:
    """The keys and tensors of one file."""

    def __init__(self, architecture, seed):
        self.architecture = architecture
        self.random = random.Random(seed)
        self.keys = []
        self.tensors = []

    def key(self, suffix, value):
        self.keys.append((f"{self.architecture}.{suffix}", value))

    def draw(self, count, mean, deviation):
        return [self.random.gauss(mean, deviation) for _ in range(count)]

    def vector(self, name, count, mean=0.0, deviation=0.3):
        self.tensors.append((name, [count], F32, self.draw(count, mean, deviation)))

    def vectors(self, name, columns, rows, mean=0.0, deviation=0.3):
        self.tensors.append((name, [columns, rows], F32, self.draw(columns * rows, mean, deviation)))

    def norm(self, name, count=EMBEDDING):
        self.vector(name, count, 1.0, 0.3)

    def matrix(self, name, columns, *rows, gain=1.0, kind=F16):
        count = columns * math.prod(rows)
        self.tensors.append((name, [columns, *rows], kind, self.draw(count, 0.0, gain / math.sqrt(columns))))

    def write(self, path):
        out = bytearray()
        string = lambda text: struct.pack("<Q", len(text)) + text.encode()
        out += b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys))
        for name, value in self.keys:
            out += string(name) + self.value(value, string)
        offset = 0
        data = bytearray()
        for name, shape, kind, values in self.tensors:
            out += string(name) + struct.pack("<I", len(shape))
            out += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset)
            data += struct.pack(f"<{len(values)}{'e' if kind == F16 else 'f'}", *values)
            data += b"\0" * (-len(data) % 32)
            offset = len(data)
        out += b"\0" * (-len(out) % 32)
        path.write_bytes(out + data)

    def value(self, value, string):
        if isinstance(value, bool):
            return struct.pack("<IB", BOOL, value)
        if isinstance(value, int):
            return struct.pack("<II", U32, value)
        if isinstance(value, float):
            return struct.pack("<If", F32_VALUE, value)
        if isinstance(value, str):
            return struct.pack("<I", STRING) + string(value)
        kind, code = (BOOL, "B") if isinstance(value[0], bool) else (U32, "I")
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + struct.pack(f"<{len(value)}{code}", *value)


def plain_keys(
    model,
    layers,
    epsilon="attention.layer_norm_rms_epsilon",
    context=CONTEXT,
    rope=None,
    base=10000.0,
    forward=FORWARD,
    kv_heads=KV_HEADS,
    key=None,
    value=None,
):
    model.keys += [("general.architecture", model.architecture), ("tokenizer.ggml.model", "none")]
    model.key("vocab_size", VOCABULARY)
    model.key("context_length", context)
    model.key("embedding_length", EMBEDDING)
    model.key("block_count", layers)
    model.key("feed_forward_length", forward)
    model.key("attention.head_count", HEADS)
    model.key("attention.head_count_kv", kv_heads)
    model.key("attention.key_length", key or HEAD)
    model.key("attention.value_length", value or HEAD)
    model.key(epsilon, 1e-5)
    model.key("rope.dimension_count", rope or HEAD)
    model.key("rope.freq_base", base)


def globals_of(model, output=True, norm_bias=False):
    model.matrix("token_embd.weight", EMBEDDING, VOCABULARY, gain=math.sqrt(EMBEDDING) if output else 4.0)
    model.norm("output_norm.weight")
    if norm_bias:
        model.vector("output_norm.bias", EMBEDDING)
    if output:
        model.matrix("output.weight", EMBEDDING, VOCABULARY, gain=3.0)


def attention(model, layer, biases=False, fused=False, output_bias=False, kv_heads=KV_HEADS):
    query, key = HEADS * HEAD, kv_heads * HEAD
    if fused:
        model.matrix(f"blk.{layer}.attn_qkv.weight", EMBEDDING, query + 2 * key, gain=1.3)
        if biases:
            model.vector(f"blk.{layer}.attn_qkv.bias", query + 2 * key)
    else:
        for part, rows in (("q", query), ("k", key), ("v", key)):
            model.matrix(f"blk.{layer}.attn_{part}.weight", EMBEDDING, rows, gain=1.3)
            if biases:
                model.vector(f"blk.{layer}.attn_{part}.bias", rows)
    model.matrix(f"blk.{layer}.attn_output.weight", query, EMBEDDING)
    if output_bias:
        model.vector(f"blk.{layer}.attn_output.bias", EMBEDDING)


def network(model, layer, gate=True, biases=False, fused=False, forward=FORWARD):
    if gate and not fused:
        model.matrix(f"blk.{layer}.ffn_gate.weight", EMBEDDING, forward, gain=1.5)
        if biases:
            model.vector(f"blk.{layer}.ffn_gate.bias", forward)
    model.matrix(f"blk.{layer}.ffn_up.weight", EMBEDDING, forward * (2 if fused else 1), gain=1.5)
    if biases:
        model.vector(f"blk.{layer}.ffn_up.bias", forward)
    model.matrix(f"blk.{layer}.ffn_down.weight", forward, EMBEDDING, gain=1.5)
    if biases:
        model.vector(f"blk.{layer}.ffn_down.bias", EMBEDDING)


def experts(model, layer, biases=False, selection=False, shared=0, shared_router=False, count=EXPERTS):
    forward = EXPERT_FORWARD
    model.matrix(f"blk.{layer}.ffn_gate_inp.weight", EMBEDDING, count, gain=2.0, kind=F32)
    if selection:
        model.vector(f"blk.{layer}.exp_probs_b.bias", count, deviation=0.2)
    for part, columns, rows in (
        ("gate", EMBEDDING, forward),
        ("up", EMBEDDING, forward),
        ("down", forward, EMBEDDING),
    ):
        model.matrix(f"blk.{layer}.ffn_{part}_exps.weight", columns, rows, count, gain=1.5)
        if biases:
            values = model.draw(rows * count, 0.0, 0.3)
            model.tensors.append((f"blk.{layer}.ffn_{part}_exps.bias", [rows, count], F32, values))
    if biases:
        model.vector(f"blk.{layer}.ffn_gate_inp.bias", count)
    if shared:
        model.matrix(f"blk.{layer}.ffn_gate_shexp.weight", EMBEDDING, shared, gain=1.5)
        model.matrix(f"blk.{layer}.ffn_up_shexp.weight", EMBEDDING, shared, gain=1.5)
        model.matrix(f"blk.{layer}.ffn_down_shexp.weight", shared, EMBEDDING, gain=1.5)
    if shared_router:
        model.tensors.append((f"blk.{layer}.ffn_gate_inp_shexp.weight", [EMBEDDING], F32, model.draw(EMBEDDING, 0.0, 0.2)))


def expert_keys(model, forward_key=True, count=EXPERTS, chosen=CHOSEN):
    model.key("expert_count", count)
    model.key("expert_used_count", chosen)
    if forward_key:
        model.key("expert_feed_forward_length", EXPERT_FORWARD)


def norms(model, layer, *names, count=EMBEDDING, biases=False):
    for name in names:
        model.norm(f"blk.{layer}.{name}.weight", count)
        if biases:
            model.vector(f"blk.{layer}.{name}.bias", count)


PRE = ("attn_norm", "ffn_norm")
POST = ("post_attention_norm", "post_ffw_norm")
HEAD_NORMS = ("attn_q_norm", "attn_k_norm")


def yarn(model, factor, original, log_multiplier=0.0):
    model.key("rope.scaling.type", "yarn")
    model.key("rope.scaling.factor", float(factor))
    model.key("rope.scaling.original_context_length", original)
    if log_multiplier:
        model.key("rope.scaling.yarn_log_multiplier", log_multiplier)


def plain(architecture, seed, layers=2, biases=False, output=True, extra=None, fused=False, tables=None, **options):
    """Llama and its kin: two norms, attention, a gated network."""
    model = Model(architecture, seed)
    plain_keys(model, layers, **options)
    if extra:
        extra(model)
    globals_of(model, output)
    if tables:
        tables(model)
    for layer in range(layers):
        norms(model, layer, *PRE)
        attention(model, layer, biases=biases, fused=fused)
        network(model, layer)
    return model


def rope_table(name):
    return lambda model: model.tensors.append((name, [HEAD // 2], F32, [1.0 + 0.2 * i for i in range(HEAD // 2)]))


def sparse(
    architecture,
    seed,
    layers=2,
    head_norms=0,
    extra=None,
    forward=EXPERT_FORWARD,
    forward_key=True,
    dense=0,
    biases=False,
    kv_heads=KV_HEADS,
    **options,
):
    """The same with experts."""
    model = Model(architecture, seed)
    plain_keys(model, layers, forward=forward, kv_heads=kv_heads)
    expert_keys(model, forward_key)
    if extra:
        extra(model)
    globals_of(model)
    for layer in range(layers):
        norms(model, layer, *PRE)
        attention(model, layer, biases=biases, kv_heads=kv_heads)
        if head_norms:
            model.norm(f"blk.{layer}.attn_q_norm.weight", HEAD * (HEADS if head_norms == 2 else 1))
            model.norm(f"blk.{layer}.attn_k_norm.weight", HEAD * (kv_heads if head_norms == 2 else 1))
        if layer < dense:
            network(model, layer)
        else:
            experts(model, layer, **options)
    return model


def keys(**values):
    return lambda model: [model.key(name.replace("__", "."), value) for name, value in values.items()]


def gemma2():
    model = Model("gemma2", 11)
    plain_keys(model, 2)
    keys(attention__sliding_window=8, attn_logit_softcapping=5.0, final_logit_softcapping=10.0)(model)
    globals_of(model, output=False)
    for layer in range(2):
        norms(model, layer, *PRE, *POST)
        attention(model, layer)
        network(model, layer)
    return model


def gemma3():
    model = Model("gemma3", 12)
    plain_keys(model, 7, base=100000.0)
    keys(attention__sliding_window=8, rope__scaling__type="linear", rope__scaling__factor=8.0)(model)
    globals_of(model, output=False)
    for layer in range(7):
        norms(model, layer, *PRE, *POST)
        norms(model, layer, *HEAD_NORMS, count=HEAD)
        attention(model, layer)
        network(model, layer)
    return model


def phi3():
    model = Model("phi3", 13)
    plain_keys(model, 2, context=4 * CONTEXT)
    keys(rope__scaling__original_context_length=64, rope__scaling__attn_factor=1.19)(model)
    globals_of(model)
    rope_table("rope_factors_long.weight")(model)
    model.tensors.append(("rope_factors_short.weight", [HEAD // 2], F32, [1.0] * (HEAD // 2)))
    for layer in range(2):
        norms(model, layer, *PRE)
        attention(model, layer, fused=True)
        network(model, layer, fused=True)
    return model


def gpt_oss():
    model = Model("gpt-oss", 14)
    plain_keys(model, 3)
    expert_keys(model)
    model.key("attention.sliding_window", 8)
    yarn(model, 32, 64)
    globals_of(model)
    for layer in range(3):
        norms(model, layer, "attn_norm", "post_attention_norm")
        attention(model, layer, biases=True, output_bias=True)
        model.vector(f"blk.{layer}.attn_sinks.weight", HEADS, deviation=1.5)
        experts(model, layer, biases=True)
    return model


def glm4():
    model = Model("glm4", 15)
    plain_keys(model, 2, rope=HEAD // 2)
    globals_of(model)
    for layer in range(2):
        norms(model, layer, *PRE, *POST)
        attention(model, layer, biases=True)
        network(model, layer, fused=True)
    return model


def glm4moe():
    model = Model("glm4moe", 16)
    plain_keys(model, 4, rope=HEAD // 2)
    expert_keys(model)
    keys(
        expert_shared_count=1,
        leading_dense_block_count=1,
        expert_weights_norm=True,
        expert_weights_scale=1.7,
        expert_gating_func=2,
        nextn_predict_layers=1,
    )(model)
    globals_of(model)
    for layer in range(4):
        norms(model, layer, "attn_norm", "post_attention_norm")
        attention(model, layer, biases=True)
        if layer == 0:
            network(model, layer)
        else:
            experts(model, layer, selection=True, shared=EXPERT_FORWARD)
        if layer == 3:
            model.matrix("blk.3.nextn.eh_proj.weight", 2 * EMBEDDING, EMBEDDING)
            norms(model, layer, "nextn.enorm", "nextn.hnorm")
    return model


def post_normed(architecture, seed, layers, whole, extra=None):
    model = Model(architecture, seed)
    plain_keys(model, layers)
    if extra:
        extra(model)
    globals_of(model)
    for layer in range(layers):
        norms(model, layer, *POST)
        attention(model, layer)
        norms(model, layer, "attn_q_norm", count=HEAD * (HEADS if whole else 1))
        norms(model, layer, "attn_k_norm", count=HEAD * (KV_HEADS if whole else 1))
        network(model, layer)
    return model


def command(architecture, seed, layers, extra):
    model = Model(architecture, seed)
    plain_keys(model, layers, epsilon="attention.layer_norm_epsilon")
    extra(model)
    globals_of(model, output=False)
    for layer in range(layers):
        norms(model, layer, "attn_norm")
        attention(model, layer)
        network(model, layer)
    return model


def deep_command():
    """Command R+: from 64 layers on, queries and keys have a norm per head."""
    model = Model("command-r", 19)
    plain_keys(model, 64, epsilon="attention.layer_norm_epsilon")
    model.key("logit_scale", 0.8)
    globals_of(model, output=False)
    for layer in range(64):
        norms(model, layer, "attn_norm")
        for part, heads in (("q", HEADS), ("k", KV_HEADS)):
            values = model.draw(HEAD * heads, 1.0, 0.3)
            model.tensors.append((f"blk.{layer}.attn_{part}_norm.weight", [HEAD, heads], F32, values))
        attention(model, layer)
        network(model, layer, forward=FORWARD)
    return model


def starcoder2():
    model = Model("starcoder2", 20)
    plain_keys(model, 2, epsilon="attention.layer_norm_epsilon")
    globals_of(model, norm_bias=True)
    for layer in range(2):
        norms(model, layer, *PRE, biases=True)
        attention(model, layer, biases=True, output_bias=True)
        network(model, layer, gate=False, biases=True)
    return model


def seed_oss():
    model = Model("seed_oss", 21)
    plain_keys(model, 2)
    globals_of(model)
    for layer in range(2):
        norms(model, layer, "attn_norm", "post_attention_norm")
        attention(model, layer, biases=True)
        network(model, layer)
    return model


def head_normed(architecture, seed, layers=2, extra=None):
    model = Model(architecture, seed)
    plain_keys(model, layers)
    if extra:
        extra(model)
    globals_of(model)
    for layer in range(layers):
        norms(model, layer, *PRE)
        norms(model, layer, *HEAD_NORMS, count=HEAD)
        attention(model, layer)
        network(model, layer)
    return model


def deepseek2(seed, layers, query_rank=40, dense=1, groups=0, extra=None):
    """A latent of 32 and a rotated part of 32 per token; heads of 16 + 32 make 24 values each. With groups, of three
    experts each, a token's three experts come from two of them."""
    latent, rope, plain_part, value = 32, 32, 16, 24
    model = Model("deepseek2", seed)
    plain_keys(model, layers, rope=rope, kv_heads=1, key=latent + rope, value=latent)
    keys(attention__kv_lora_rank=latent, attention__key_length_mla=plain_part + rope, attention__value_length_mla=value)(model)
    if query_rank:
        model.key("attention.q_lora_rank", query_rank)
    if groups:
        expert_keys(model, count=3 * groups, chosen=3)
        keys(expert_group_count=groups, expert_group_used_count=2)(model)
    else:
        expert_keys(model)
    keys(expert_shared_count=1, leading_dense_block_count=dense, expert_weights_scale=1.7)(model)
    if extra:
        extra(model)
    globals_of(model)
    for layer in range(layers):
        name = f"blk.{layer}"
        norms(model, layer, *PRE)
        width = HEADS * (plain_part + rope)
        if query_rank:
            model.matrix(f"{name}.attn_q_a.weight", EMBEDDING, query_rank, gain=1.3)
            model.norm(f"{name}.attn_q_a_norm.weight", query_rank)
            model.matrix(f"{name}.attn_q_b.weight", query_rank, width, gain=1.3)
        else:
            model.matrix(f"{name}.attn_q.weight", EMBEDDING, width, gain=1.3)
        model.matrix(f"{name}.attn_kv_a_mqa.weight", EMBEDDING, latent + rope, gain=1.3)
        model.norm(f"{name}.attn_kv_a_norm.weight", latent)
        model.matrix(f"{name}.attn_k_b.weight", plain_part, latent, HEADS)
        model.matrix(f"{name}.attn_v_b.weight", latent, value, HEADS)
        model.matrix(f"{name}.attn_output.weight", HEADS * value, EMBEDDING)
        if layer < dense:
            network(model, layer)
        else:
            experts(model, layer, selection=query_rank > 0, shared=EXPERT_FORWARD, count=3 * groups or EXPERTS)
    return model


def short_convolution(model, layer, taps):
    model.vectors(f"blk.{layer}.shortconv.conv.weight", taps, EMBEDDING, deviation=0.6)
    model.matrix(f"blk.{layer}.shortconv.in_proj.weight", EMBEDDING, 3 * EMBEDDING, gain=1.3)
    model.matrix(f"blk.{layer}.shortconv.out_proj.weight", EMBEDDING, EMBEDDING)


def lfm2(architecture, seed, dense=None):
    taps, heads = 3, [0, KV_HEADS, 0, 0, KV_HEADS, 0]
    model = Model(architecture, seed)
    plain_keys(model, len(heads), kv_heads=heads)
    model.key("shortconv.l_cache", taps)
    if dense is not None:
        expert_keys(model)
        keys(leading_dense_block_count=dense, expert_gating_func=2)(model)
    model.matrix("token_embd.weight", EMBEDDING, VOCABULARY, gain=4.0)
    model.norm("token_embd_norm.weight")
    for layer, count in enumerate(heads):
        norms(model, layer, *PRE)
        if count:
            attention(model, layer)
            norms(model, layer, *HEAD_NORMS, count=HEAD)
        else:
            short_convolution(model, layer, taps)
        if dense is None or layer < dense:
            network(model, layer)
        else:
            experts(model, layer, selection=True)
    return model


def state_space(model, layer, taps, inner, state, heads, groups):
    name, convolved = f"blk.{layer}", inner + 2 * groups * state
    model.matrix(f"{name}.ssm_in.weight", EMBEDDING, inner + convolved + heads, gain=1.3)
    model.vectors(f"{name}.ssm_conv1d.weight", taps, convolved, deviation=0.6)
    model.vector(f"{name}.ssm_conv1d.bias", convolved)
    model.vector(f"{name}.ssm_dt.bias", heads, -1.0, 0.7)
    model.tensors.append((f"{name}.ssm_a", [1, heads], F32, [-math.exp(x) for x in model.draw(heads, -0.5, 0.7)]))
    model.vectors(f"{name}.ssm_d", 1, heads, 1.0, 0.3)
    model.vectors(f"{name}.ssm_norm.weight", inner // groups, groups, 1.0, 0.3)
    model.matrix(f"{name}.ssm_out.weight", inner, EMBEDDING)


def granitehybrid(seed, sparse_ones=True):
    taps, inner, state, ssm_heads, groups = 4, 2 * EMBEDDING, 32, 8, 2
    heads = [0, 0, KV_HEADS, 0, 0]
    model = Model("granitehybrid", seed)
    plain_keys(model, len(heads), kv_heads=heads, forward=EXPERT_FORWARD if sparse_ones else FORWARD)
    keys(**GRANITE, ssm__conv_kernel=taps, ssm__inner_size=inner, ssm__state_size=state)(model)
    keys(ssm__time_step_rank=ssm_heads, ssm__group_count=groups, rope__scaling__finetuned=False)(model)
    if sparse_ones:
        expert_keys(model, forward_key=False)
        model.key("expert_shared_feed_forward_length", 48)
    globals_of(model)
    for layer, count in enumerate(heads):
        norms(model, layer, *PRE)
        if count:
            attention(model, layer)
        else:
            state_space(model, layer, taps, inner, state, ssm_heads, groups)
        if sparse_ones:
            experts(model, layer, shared=48)
        else:
            network(model, layer)
    return model


GRANITE = dict(attention__scale=0.11, embedding_scale=3.0, residual_scale=0.4, logit_scale=2.5)

MODELS = {
    "llama-3.1": lambda: plain("llama", 1, tables=rope_table("rope_freqs.weight")),
    "llama-linear": lambda: plain("llama", 2, extra=keys(rope__scaling__type="linear", rope__scaling__factor=4.0)),
    "llama-experts": lambda: sparse("llama", 3, forward_key=False),
    "llama-longrope": lambda: plain("llama", 4, context=4 * CONTEXT, tables=rope_table("rope_factors_long.weight"), extra=keys(rope__scaling__type="longrope", rope__scaling__original_context_length=64)),
    "mistral3-yarn": lambda: plain("mistral3", 5, extra=lambda m: (yarn(m, 16, 8, 1.0), m.key("attention.temperature_scale", 0.5))),
    "qwen2-yarn": lambda: plain("qwen2", 6, biases=True, extra=lambda m: yarn(m, 4, 64)),
    "qwen2-fused": lambda: plain("qwen2", 7, biases=True, fused=True),
    "qwen3": lambda: head_normed("qwen3", 8, layers=3),
    "qwen3moe": lambda: sparse("qwen3moe", 9, head_norms=1),
    "gemma2": gemma2,
    "gemma3": gemma3,
    "phi3-longrope": phi3,
    "gpt-oss": gpt_oss,
    "glm4": glm4,
    "glm4moe": glm4moe,
    "olmo2": lambda: post_normed("olmo2", 17, 2, True),
    "olmo3": lambda: post_normed("olmo2", 18, 5, True, lambda m: (m.key("attention.sliding_window", 8), yarn(m, 8, 32))),
    "smollm3": lambda: plain("smollm3", 23, layers=4),
    "granite": lambda: plain("granite", 24, extra=keys(**GRANITE)),
    "granite-unrotated": lambda: plain("granite", 25, extra=keys(**GRANITE, rope__scaling__finetuned=False)),
    "command-r": lambda: command("command-r", 26, 2, keys(logit_scale=0.7)),
    "cohere2": lambda: command("cohere2", 27, 4, keys(logit_scale=0.6, attention__sliding_window=8)),
    "exaone4": lambda: post_normed("exaone4", 28, 2, False),
    "qwen2moe": lambda: sparse("qwen2moe", 29, biases=True, shared=48, shared_router=True, extra=keys(expert_shared_feed_forward_length=48)),
    "olmoe": lambda: sparse("olmoe", 30, head_norms=2, forward_key=False, kv_heads=HEADS),
    "granitemoe": lambda: sparse(
        "granitemoe", 31, forward_key=False, shared=48, extra=keys(**GRANITE, expert_shared_feed_forward_length=48)
    ),
    "hunyuan-dense": lambda: head_normed("hunyuan-dense", 22),
    "hunyuan-moe": lambda: sparse("hunyuan-moe", 32, head_norms=1, shared=48, extra=keys(expert_shared_feed_forward_length=48)),
    "seed_oss": seed_oss,
    "ernie4_5": lambda: plain("ernie4_5", 33),
    "ernie4_5-moe": lambda: sparse("ernie4_5-moe", 34, layers=3, dense=1, forward=FORWARD, selection=True, shared=EXPERT_FORWARD, extra=keys(expert_shared_count=1, expert_shared_feed_forward_length=EXPERT_FORWARD, leading_dense_block_count=1, interleave_moe_layer_step=1)),
    "internlm2": lambda: plain("internlm2", 35),
    "starcoder2": starcoder2,
    "deepseek2": lambda: deepseek2(37, 3, extra=lambda m: (yarn(m, 16, 16, 0.08), keys(expert_gating_func=2, expert_weights_norm=True)(m))),
    "deepseek2-groups": lambda: deepseek2(43, 3, groups=4, extra=keys(expert_gating_func=2, expert_weights_norm=True)),
    "lfm2": lambda: lfm2("lfm2", 39),
    "lfm2moe": lambda: lfm2("lfm2moe", 40, dense=1),
    "granitehybrid": lambda: granitehybrid(41),
    "granitehybrid-dense": lambda: granitehybrid(42, sparse_ones=False),
    "minimax-m2": lambda: sparse("minimax-m2", 36, head_norms=2, selection=True, extra=keys(expert_gating_func=2)),
}
# Models whose heads are wide enough for a q8_0 cache, which the engine's tests try too.
WIDE_HEADS = {"qwen3", "gemma3", "gpt-oss"}
# Too large to keep in the repository.
LARGE = {"command-r-plus": deep_command, "deepseek2-lite": lambda: deepseek2(38, 27, query_rank=0, dense=25)}


def main():
    global HEAD
    runner, out = shlex.split(sys.argv[1]), Path(sys.argv[2])
    for name in sys.argv[3:] or MODELS:
        HEAD = 32 if name in WIDE_HEADS else 16
        model = {**MODELS, **LARGE}[name]()
        path = out / f"{name}.gguf"
        model.write(path)
        draw = random.Random(7)
        prompt = [draw.randrange(VOCABULARY) for _ in range(PROMPT)]
        arguments = [str(path), str(CONTEXT), str(STEPS), str(out / f"{name}.f32"), *map(str, prompt)]
        answer = subprocess.run(runner + arguments, capture_output=True, text=True)
        if answer.returncode != 0:
            print(f"{name}: {answer.stderr.strip()[-400:]}", file=sys.stderr)
            path.unlink()
            continue
        greedy, margin, flash = answer.stdout.splitlines()
        facts = {
            "prompt": prompt,
            "n_vocab": VOCABULARY,
            "greedy": [int(token) for token in greedy.split()],
            "margin": [float(value) for value in margin.split()],
            # Five times what llama.cpp's own flash attention differs, and never finer than F16 arithmetic allows.
            "tolerance": float(f"{max(5 * float(flash), 1e-6):.2g}"),
            "flash_attention_nmse": float(flash),
        }
        (out / f"{name}.json").write_text(json.dumps(facts) + "\n")
        print(name, path.stat().st_size, flash)


if __name__ == "__main__":
    main()
