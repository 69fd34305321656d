"""`livery check` against the runtimes themselves: what it says they refuse, they refuse."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from commands.check import check_command
from convert.adapters import formats
from convert.base import load_base
from convert.check import vllm as check_vllm
from convert.check.case import Finding
from convert.check.check import RUNTIMES, Verdict, check
from convert.convert import convert
from convert.gguf.file import write_gguf
from convert.gguf.model import write_model
from convert.pack.folder import write_adapter_folder
from livery.adapter import Adapter, Pair
from livery.cli import COMMANDS, LazyGroup, cli
from livery.errors import UserError
from livery.gguf_reader import open_gguf
from livery.safetensors_file import open_tensors, write_tensors
from tests import PATIENCE, ROOT
from tests.convert import convert_cases as cases
from tests.engines import llamacpp_child
from tests.tiny_models import FAMILIES, tiny_model

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def numbers_of_its_own() -> None:
    """A test draws the same, whichever came before it in this process."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope="session")
def base(root: Path) -> Path:
    return tiny_model("llama", root)


@pytest.fixture(scope="session")
def tied(root: Path) -> Path:
    return tiny_model("llama_tied", root)


@pytest.fixture(scope="session")
def base_gguf(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.getbasetemp() / "llama.gguf"
    if not path.exists():
        write_model(base, path, "f32")
    return path


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32) * np.float32(0.1)


def adapter(base: Path, rank: int = 4, only: str = "_proj", **more: Any) -> Adapter:
    known = load_base(base)
    pairs: dict[str, Pair] = {}
    for module, shape in known.shapes.items():
        if only not in module:
            continue
        if module.endswith("embed_tokens"):
            pairs[module] = Pair(
                numbers(rank, shape[0]), numbers(shape[1], rank), 8.0, kind="embedding"
            )
        elif len(shape) == 3:
            a, b = numbers(shape[0], rank, shape[2]), numbers(shape[0], shape[1], rank)
            pairs[module] = Pair(a, b, 8.0, kind="experts")
        elif len(shape) == 2:
            pairs[module] = Pair(numbers(rank, shape[1]), numbers(shape[0], rank), 8.0)
    heads = (known.heads, known.kv_heads)
    return Adapter(pairs, base_model=str(base), model_type=known.model_type, heads=heads, **more)


def dora(plain: Adapter) -> Adapter:
    pairs = {
        m: Pair(p.a, p.b, p.alpha, magnitude=np.ones(p.b.shape[0], np.float32))
        for m, p in plain.pairs.items()
    }
    return plain.replace(pairs=pairs)


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    """One folder with all three forms."""
    write_adapter_folder(adapter(base), tmp_path / "a", base)
    return tmp_path / "a"


def ask(path: Path, **options: Any) -> dict[str, Verdict]:
    """The verdicts by runtime; every remedy is a command that its program would parse."""
    verdicts = {verdict.runtime: verdict for verdict in check(path, **options)}
    for verdict in verdicts.values():
        for finding in verdict.findings:
            assert finding.why
            assert finding.remedy or not finding.refused
            for command in finding.remedy.split(" && "):
                parses(command)
    return verdicts


def parses(command: str) -> None:
    if not command:
        return
    program, *words = shlex.split(command)
    if program == "livery":
        group = cli
        assert isinstance(group, LazyGroup)
        assert words[0] in COMMANDS
        known = group.get_command(None, words[0])  # type: ignore[arg-type]
        assert known is not None
        known.make_context(words[0], list(words[1:]), resilient_parsing=False)
    elif program == "python":
        assert words[0] == "-c" or words[:2] == ["-m", "zipfile"]
        compile(words[1], "remedy", "exec")
    else:
        assert program in ("vllm", "mlx_lm.fuse")


def rules(verdict: Verdict) -> list[str]:
    return [finding.rule for finding in verdict.findings if finding.refused]


def notes(verdict: Verdict) -> list[str]:
    return [finding.rule for finding in verdict.findings if not finding.refused]


def the(verdict: Verdict, rule: str) -> Finding:
    (finding,) = [f for f in verdict.findings if f.rule == rule]
    return finding


def run_remedy(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "livery"
    done = subprocess.run(
        [sys.executable, "-m", "livery", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def edit_config(path: Path, **changes: Any) -> None:
    config = json.loads(path.read_text())
    for key, value in changes.items():
        if value is ...:
            config.pop(key, None)
        else:
            config[key] = value
    path.write_text(json.dumps(config))


def edit_tensors(path: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    file = open_tensors(path)
    arrays = {name: np.array(file.read(name)) for name in file.entries}
    change(arrays)
    write_tensors(path, arrays, dict.fromkeys(arrays, "float32"), {})


def edit_gguf(
    path: Path,
    change: Callable[[dict[str, np.ndarray]], Any] = lambda tensors: None,
    **metadata: Any,
) -> None:
    file = open_gguf(path)
    arrays = {name: np.array(file.read(name)) for name in file.entries}
    change(arrays)
    fields = {k: v for k, v in file.metadata.items() if k != "livery.record"}
    fields.update({key.replace("__", "."): value for key, value in metadata.items()})
    write_gguf(path, fields, arrays, dict.fromkeys(arrays, "float32"))


def test_a_whole_folder_is_taken_by_all(folder: Path, base: Path) -> None:
    for verdict in ask(folder, base=base).values():
        assert verdict.taken
        assert not verdict.findings
    # Its base is named in it, so that --base may be left out.
    assert all(verdict.taken for verdict in ask(folder).values())


VLLM: dict[str, tuple[dict[str, Any], str]] = {
    "dora": ({"use_dora": True}, "livery merge"),
    "lora-bias": ({"lora_bias": True}, "livery merge"),
    "bias": ({"bias": "all"}, "livery merge"),
    "modules-to-save": ({"modules_to_save": ["norm"]}, "livery merge"),
    "initialisation": ({"init_lora_weights": "pissa_niter_16"}, "python -c"),
    "alora": ({"alora_invocation_tokens": [5, 6]}, "livery convert"),
    "layer-replication": ({"layer_replication": [[0, 2], [1, 2]]}, "python -c"),
    "required-keys": ({"r": ..., "lora_alpha": ...}, "livery convert"),
}


@pytest.mark.parametrize("rule", VLLM)
def test_what_vllm_refuses_of_a_config(rule: str, folder: Path, base: Path) -> None:
    changes, remedy = VLLM[rule]
    edit_config(folder / "adapter_config.json", **changes)
    verdicts = ask(folder, base=base)
    assert rules(verdicts["vllm"])[0] == rule
    assert the(verdicts["vllm"], rule).remedy.startswith(remedy)
    assert not verdicts["vllm"].taken
    assert verdicts["mlx"].taken  # its own form is untouched
    assert verdicts["llamacpp"].taken


@pytest.mark.parametrize("start", ["PiSSA", "olora", "corda", "loftq"])
def test_initialisations_that_change_the_base(start: str, folder: Path) -> None:
    edit_config(folder / "adapter_config.json", init_lora_weights=start)
    assert rules(ask(folder)["vllm"]) == ["initialisation"]
    edit_config(folder / "adapter_config.json", init_lora_weights="gaussian")
    assert rules(ask(folder)["vllm"]) == []


def test_saved_heads_of_a_classifier_are_taken(folder: Path) -> None:
    edit_config(folder / "adapter_config.json", modules_to_save=["score"])
    assert rules(ask(folder)["vllm"]) == []


def test_configs_without_weights_are_judged_too(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "use_dora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert rules(ask(tmp_path)["vllm"]) == ["dora", "required-keys"]
    assert rules(ask(tmp_path)["mlx"]) == ["format"]


@pytest.mark.slow
def test_required_keys_are_written_by_the_remedy(folder: Path, base: Path) -> None:
    # PEFT's defaults: r 8, alpha 8.
    write_adapter_folder(adapter(base, rank=8), folder, base)
    edit_config(folder / "adapter_config.json", r=..., lora_alpha=..., target_modules=...)
    finding = the(ask(folder, base=base)["vllm"], "required-keys")
    run_remedy(finding.remedy)
    assert ask(Path(f"{folder}-whole"), base=base, runtimes=["vllm"])["vllm"].taken


@pytest.mark.parametrize(("rank", "asked", "legal"), [(17, 16, "32"), (300, 256, "320")])
def test_ranks_name_the_next_legal_one(
    rank: int, asked: int, legal: str, base: Path, tmp_path: Path
) -> None:
    formats.write_adapter(adapter(base, rank=rank, only="q_proj"), tmp_path, "peft")
    finding = the(ask(tmp_path, max_lora_rank=asked)["vllm"], "rank")
    assert f"--max-lora-rank {legal}" in finding.remedy
    assert ", 320, 512" in finding.why
    assert ask(tmp_path, max_lora_rank=int(legal))["vllm"].taken


@pytest.mark.parametrize("rank", [8, 16])
def test_a_rank_of_max_lora_rank_is_taken(rank: int, base: Path, tmp_path: Path) -> None:
    formats.write_adapter(adapter(base, rank=rank, only="q_proj"), tmp_path, "peft")
    assert ask(tmp_path, max_lora_rank=rank)["vllm"].taken
    formats.write_adapter(adapter(base, rank=rank + 1, only="q_proj"), tmp_path, "peft")
    assert rules(ask(tmp_path, max_lora_rank=rank)["vllm"]) == ["rank"]


def test_ranks_beyond_all_are_merged(base: Path, tmp_path: Path) -> None:
    formats.write_adapter(adapter(base, rank=600, only="0.self_attn.q"), tmp_path, "peft")
    finding = the(ask(tmp_path, max_lora_rank=512)["vllm"], "rank")
    assert finding.remedy.startswith("livery merge")


def test_a_rank_pattern_counts(folder: Path) -> None:
    edit_config(folder / "adapter_config.json", rank_pattern={"nothing_here": 64})
    assert rules(ask(folder)["vllm"]) == ["rank"]


@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
@pytest.mark.parametrize("family", [*check_vllm.EMBEDDINGS, "gemma"])
def test_embeddings_by_family(family: str, module: str, base: Path, tmp_path: Path) -> None:
    one = adapter(base, only=module).replace(base_model="")
    formats.write_adapter(one.replace(model_type=family), tmp_path, "peft")
    verdict = ask(tmp_path)["vllm"]
    taken = check_vllm.EMBEDDINGS.get(family)
    assert ("embeddings" in rules(verdict)) == (taken is False)
    assert ("embeddings" in notes(verdict)) == (taken is None)


def test_fused_experts(root: Path, tmp_path: Path) -> None:
    model = tiny_model("qwen3_moe", root)
    one = adapter(model, only="experts.down_proj")
    formats.write_adapter(one, tmp_path, "peft", base=load_base(model))
    finding = the(ask(tmp_path, base=model)["vllm"], "fused-experts")
    assert "--enable-mixed-moe-lora-format" in finding.remedy
    assert '"is_3d_lora_weight": true' in finding.remedy
    assert ask(tmp_path, base=model, mixed_moe=True)["vllm"].taken


def test_dense_layers_among_experts_have_no_form_on_4_bits(root: Path, tmp_path: Path) -> None:
    """PEFT wraps their parameter, which bitsandbytes packs."""
    model = shutil.copytree(tiny_model("deepseek_v3", root), tmp_path / "base")
    one = adapter(model, only="layers.0.mlp.down_proj")
    formats.write_adapter(one, tmp_path / "a", "peft", base=load_base(model))
    finding = the(ask(tmp_path / "a", base=model)["vllm"], "peft-4bit")
    assert not finding.refused
    assert "stand in target_parameters (mlp.down_proj.weight)" in finding.why
    assert "livery merge" in finding.remedy
    assert "--dequantize" not in finding.remedy
    plain = adapter(model, only="o_proj")
    formats.write_adapter(plain, tmp_path / "b", "peft", base=load_base(model))
    assert "peft-4bit" not in notes(ask(tmp_path / "b", base=model)["vllm"])
    config = json.loads((model / "config.json").read_text())
    packed = {**config, "quantization_config": {"quant_method": "bitsandbytes"}}
    (model / "config.json").write_text(json.dumps(packed))
    finding = the(ask(tmp_path / "a", base=model)["vllm"], "peft-4bit")
    assert "this base is quantized" in finding.why
    assert "--dequantize" in finding.remedy


@pytest.mark.slow
@pytest.mark.parametrize("only", ["experts.down_proj", "mlp.gate"])
def test_mixtrals_experts_are_named_otherwise_in_vllm(
    only: str, root: Path, tmp_path: Path
) -> None:
    """No flag of vLLM helps: what leads out is merging, and it works as it is said."""
    mixtral = tiny_model("mixtral", root)
    formats.write_adapter(adapter(mixtral, only=only), tmp_path, "peft", base=load_base(mixtral))
    verdict = ask(tmp_path, base=mixtral, mixed_moe=True)["vllm"]
    assert rules(verdict) == ["mixtral-experts"]
    remedy = the(verdict, "mixtral-experts").remedy
    run_remedy(remedy.replace("--out merged", f"--out {tmp_path / 'merged'}"))
    assert (tmp_path / "merged" / "config.json").exists()


def test_architectures_without_lora_in_vllm(folder: Path, base: Path, tmp_path: Path) -> None:
    """As vLLM lists them; what the list does not have is said not to be known."""
    for name, refused, noted in (
        ("LlamaForCausalLM", [], []),
        ("StableLmForCausalLM", ["architecture"], []),
        ("GPTNeoXForCausalLM", ["architecture"], []),
        ("NobodysForCausalLM", [], ["architecture"]),
    ):
        other = tmp_path / name
        shutil.copytree(base, other)
        edit_config(other / "config.json", architectures=[name])
        verdict = ask(folder, base=other)["vllm"]
        assert rules(verdict) == refused, name
        assert notes(verdict) == noted, name


TYPES: dict[str, tuple[dict[str, Any], bool, Any]] = {
    # what is set, whether vLLM refuses it, and what the command sets
    "use_rslora": ({"use_rslora": "no"}, False, True),
    "use_dora": ({"use_dora": 0}, False, False),
    "r": ({"r": 4.0}, False, 4),
    "lora_alpha": ({"lora_alpha": "8"}, True, ...),
    "lora_dropout": ({"lora_dropout": "0"}, False, None),
    "bias": ({"bias": None}, True, "none"),
    "init_lora_weights": ({"init_lora_weights": "odd"}, True, True),
}


@pytest.mark.parametrize("key", TYPES)
def test_values_of_the_wrong_type_are_said_by_key(key: str, folder: Path, base: Path) -> None:
    """convert refuses each; of vLLM it is said what vLLM does; the command fixes it."""
    changes, refused, becomes = TYPES[key]
    config = folder / "adapter_config.json"
    edit_config(config, **changes)
    with pytest.raises(UserError, match=rf"adapter_config.json: {key} is "):
        formats.read_adapter(folder)
    verdict = ask(folder, base=base)["vllm"]
    assert verdict.taken != refused
    rule = {"bias": "bias", "init_lora_weights": "initialisation"}.get(key, "config-types")
    finding = the(verdict, rule)
    assert key in finding.why
    if becomes is ...:
        assert finding.remedy.startswith("livery train")
        return
    subprocess.run([sys.executable, *shlex.split(finding.remedy)[1:]], check=True)
    assert json.loads(config.read_text()).get(key) == becomes
    if key != "use_rslora":  # which is now what vLLM took it for
        formats.read_adapter(folder)
    assert ask(folder, base=base)["vllm"].taken


def test_an_empty_list_of_invocation_tokens_is_a_plain_lora(folder: Path, base: Path) -> None:
    """In PEFT the logits are the same; vLLM asks only whether there are any."""
    edit_config(folder / "adapter_config.json", alora_invocation_tokens=[])
    assert ask(folder, base=base)["vllm"].taken
    assert formats.read_adapter(folder).alora_invocation_tokens is None


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 4.0}, {"rank": "4"}, {"scale": "2"}, {"scale": None}, {"dropout": None},
        {"dropout": 1.0}, {"keys": "self_attn.q_proj"}, {"num_layers": "2"}, {"num_layers": 2.0},
    ],
)  # fmt: skip
def test_mlx_lm_takes_values_as_they_are(
    changes: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    place = tmp_path / "m"
    formats.write_adapter(adapter(base), place, "mlx", base=load_base(base))
    config = place / "adapter_config.json"
    parameters = json.loads(config.read_text())["lora_parameters"]
    if "num_layers" in changes:
        edit_config(config, **changes)
    else:
        edit_config(config, lora_parameters={**parameters, **changes})
    finding = the(ask(place, base=base)["mlx"], "config-types")
    assert finding.refused
    assert not mlx_takes(base, place)
    program, *words = shlex.split(finding.remedy)
    if program == "python":
        subprocess.run([sys.executable, *words], check=True)
        assert ask(place, base=base)["mlx"].taken
        assert mlx_takes(base, place)
    else:
        assert "scale" in changes  # which no tensor tells


def test_routers_that_mlx_lm_has_no_layer_for(base: Path, root: Path, tmp_path: Path) -> None:
    """Of a family whose router is linear there, the form is written and taken."""
    mixtral = tiny_model("mixtral", root)
    formats.write_adapter(adapter(mixtral, only="mlp.gate"), tmp_path, "peft")
    convert(tmp_path, tmp_path / "mlx", "mlx", base=mixtral)
    assert mlx_takes(mixtral, tmp_path / "mlx")
    one = formats.read_adapter(tmp_path)
    for model_type in ("deepseek_v3", "glm4_moe", "granitemoe"):
        with pytest.raises(UserError, match=r"no linear layer for the router.*livery merge"):
            formats.refuse(one.replace(model_type=model_type), "mlx")


def test_other_scales_are_worth_knowing(base: Path, tmp_path: Path) -> None:
    plain = adapter(base)
    pairs = {m: Pair(p.a, p.b, 3.0 if "q_proj" in m else p.alpha) for m, p in plain.pairs.items()}
    formats.write_adapter(plain.replace(pairs=pairs), tmp_path, "peft")
    verdict = ask(tmp_path, base=base)["vllm"]
    assert verdict.taken
    assert notes(verdict) == ["scale-patterns"]


@pytest.mark.slow
def test_half_pairs(folder: Path, base: Path) -> None:
    lost = "model.layers.0.self_attn.q_proj"
    edit_tensors(
        folder / "adapter_model.safetensors",
        lambda t: t.pop(f"base_model.model.{lost}.lora_B.weight"),
    )
    edit_tensors(folder / "mlx" / "adapters.safetensors", lambda t: t.pop(f"{lost}.lora_b"))
    verdicts = ask(folder, base=base)
    for runtime in ("vllm", "mlx"):
        finding = the(verdicts[runtime], "half-pair")
        assert lost in finding.why
        assert "gguf/adapter.gguf" in finding.remedy  # the form that is whole
    run_remedy(the(verdicts["vllm"], "half-pair").remedy)
    whole = Path(f"{folder}-whole")
    assert all(v.taken for v in ask(whole, base=base).values())


def test_tensors_of_other_names(folder: Path) -> None:
    edit_tensors(
        folder / "adapter_model.safetensors",
        lambda t: t.update({"base_model.model.model.norm.weight": numbers(64)}),
    )
    assert rules(ask(folder)["vllm"]) == ["tensor-names"]


def test_another_base(folder: Path, root: Path) -> None:
    other = tiny_model("llama", root, hidden_size=32, intermediate_size=64)
    verdicts = ask(folder, base=other)
    assert rules(verdicts["vllm"]) == ["base"]
    assert rules(verdicts["mlx"]) == ["base"]
    assert rules(verdicts["llamacpp"]) == ["shape"]
    family = ask(folder, base=tiny_model("qwen3", root))
    assert rules(family["llamacpp"]) == ["architecture"]
    assert not family["vllm"].taken


def test_a_truncated_file_is_refused_by_all(folder: Path) -> None:
    for name in ("adapter_model.safetensors", "mlx/adapters.safetensors", "gguf/adapter.gguf"):
        (folder / name).write_bytes((folder / name).read_bytes()[:3000])
    for verdict in ask(folder).values():
        assert rules(verdict) == ["unreadable"]


# --- a form that is missing -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("source", formats.FORMATS)
def test_a_missing_form_is_made_by_the_remedy(source: Any, base: Path, tmp_path: Path) -> None:
    place = tmp_path / "src"
    file = place / "adapter.gguf" if source == "gguf" else place
    formats.write_adapter(adapter(base), file, source, base=load_base(base))
    verdicts = ask(place, base=base)
    reads = {"vllm": "peft", "llamacpp": "gguf", "ollama": "gguf", "mlx": "mlx"}
    for runtime, verdict in verdicts.items():
        assert verdict.taken == (reads[runtime] == source)
    for target in {r for r in reads.values() if r != source}:
        runtime = next(name for name, form in reads.items() if form == target)
        run_remedy(the(verdicts[runtime], "format").remedy)
        made = ask(place / target, base=base, runtimes=[runtime])
        assert made[runtime].taken


def test_what_has_no_gguf_form_is_merged(base: Path, tmp_path: Path) -> None:
    write_adapter_folder(dora(adapter(base)), tmp_path / "d", base)
    verdicts = ask(tmp_path / "d", base=base)
    assert verdicts["mlx"].taken
    assert "DoRA has no GGUF form" in the(verdicts["llamacpp"], "format").why
    for runtime in ("llamacpp", "ollama"):
        remedy = the(verdicts[runtime], "format").remedy
        assert remedy.startswith("livery merge")
        assert "livery gguf" in remedy
    assert "permutes the wrong half" in the(verdicts["ollama"], "format").why


def test_an_adapter_that_only_peft_can_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "p" / name).write_bytes((folder / name).read_bytes())
    edit_config(tmp_path / "p" / "adapter_config.json", init_lora_weights="pissa")
    finding = the(ask(tmp_path / "p")["llamacpp"], "format")
    assert "init_lora_weights" in finding.why
    assert finding.remedy.startswith("python -c")


# --- llama.cpp, against llama.cpp -------------------------------------------------------------


def qk(layer: int = 0) -> str:
    return f"blk.{layer}.attn_q.weight"


GGUF: dict[str, tuple[dict[str, Any], Callable[[dict[str, np.ndarray]], Any]]] = {
    "architecture": ({"general__architecture": "qwen3"}, lambda t: None),
    "kind": ({"adapter__type": "control-vector"}, lambda t: None),
    "alpha": ({"adapter__lora__alpha": 8}, lambda t: None),
    "half-pair": ({}, lambda t: t.pop(f"{qk()}.lora_b")),
    "tensor-names": ({}, lambda t: t.update({f"{qk()}.other": numbers(4, 4)})),
    "absent-tensor": (
        {},
        lambda t: t.update({f"{qk(9)}.lora_{h}": t[f"{qk()}.lora_{h}"] for h in "ab"}),
    ),
    "shape": ({}, lambda t: t.update({f"{qk()}.lora_a": numbers(4, 32)})),
}


def accepts(model: Path, file: Path, folder: Path) -> bool:
    """Whether the real llama.cpp loads the adapter."""
    pytest.importorskip("xllamacpp")
    job = {"vocab": 512, "model": str(model), "adapter": str(file), "prompts": [[5, 6, 7]]}
    return llamacpp_child.answer(folder, **job)[0] is not None


@pytest.mark.parametrize("rule", GGUF)
def test_llama_cpp_refuses_what_check_says(
    rule: str, base: Path, base_gguf: Path, tmp_path: Path
) -> None:
    file = tmp_path / "adapter.gguf"
    formats.write_adapter(adapter(base), file, "gguf", base=load_base(base))
    metadata, change = GGUF[rule]
    edit_gguf(file, change, **metadata)
    assert rules(ask(file, base=base)["llamacpp"]) == [rule]
    assert rules(ask(file, base=base_gguf)["llamacpp"]) == [rule]
    assert rules(ask(file, base=base)["ollama"]) == [rule]
    assert not accepts(base_gguf, file, tmp_path)


def test_llama_cpp_takes_what_check_lets_pass(base: Path, base_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "adapter.gguf"
    formats.write_adapter(adapter(base), file, "gguf", base=load_base(base))
    edit_gguf(
        file,
        lambda t: t.update({"blk.0.attn_norm.weight": numbers(64)}),
        adapter__lora__alpha=0.0,
    )
    verdict = ask(file, base=base_gguf)["llamacpp"]
    assert verdict.taken
    assert notes(verdict) == ["norms", "alpha"]
    assert accepts(base_gguf, file, tmp_path)


@pytest.mark.slow
def test_tied_embeddings_end_llama_cpp(tied: Path, tmp_path: Path) -> None:
    model = tmp_path / "tied.gguf"
    write_model(tied, model, "f32")
    file = tmp_path / "adapter.gguf"
    one = adapter(tied, only="embed_tokens")
    pair = one.pairs["model.embed_tokens"]
    tensors = {"token_embd.weight.lora_a": pair.a.T, "token_embd.weight.lora_b": pair.b}
    metadata = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
    }
    write_gguf(file, metadata, tensors, dict.fromkeys(tensors, "float32"))
    for known in (tied, model):
        assert rules(ask(file, base=known)["llamacpp"]) == ["tied-embedding"]
    finding = the(ask(file, base=tied)["llamacpp"], "tied-embedding")
    assert finding.remedy.startswith("livery train")
    assert "embed_tokens" not in finding.remedy
    assert not accepts(model, file, tmp_path)


def test_an_embedding_of_its_own_is_taken(base: Path, base_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "adapter.gguf"
    formats.write_adapter(adapter(base, only="embed_tokens"), file, "gguf", base=load_base(base))
    assert ask(file, base=base)["llamacpp"].taken
    assert accepts(base_gguf, file, tmp_path)


def test_expert_counts(root: Path, tmp_path: Path) -> None:
    mixtral = tiny_model("mixtral", root)
    file = tmp_path / "adapter.gguf"
    one = adapter(mixtral, only="experts.down_proj")
    formats.write_adapter(one, file, "gguf", base=load_base(mixtral))
    assert ask(file, base=mixtral)["llamacpp"].taken
    edit_gguf(file, lambda t: t.update({n: np.concatenate([a, a]) for n, a in t.items()}))
    assert rules(ask(file, base=mixtral)["llamacpp"]) == ["experts"]


def test_fused_bases_refuse_split_adapters(base: Path, base_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "adapter.gguf"
    formats.write_adapter(adapter(base), file, "gguf", base=load_base(base))
    opened = open_gguf(base_gguf, known_types=False)
    arrays = {name: np.array(opened.read(name)) for name in opened.entries}
    rows = [arrays.pop(f"blk.0.attn_{part}.weight") for part in "qkv"]
    arrays["blk.0.attn_qkv.weight"] = np.concatenate(rows)
    fused = tmp_path / "fused.gguf"
    keep = {"general.architecture": "llama", "general.type": "model"}
    write_gguf(fused, keep, arrays, dict.fromkeys(arrays, "float32"))
    finding = the(ask(file, base=fused)["llamacpp"], "absent-tensor")
    assert "fused" in finding.why
    assert finding.remedy.startswith("livery merge")


@pytest.mark.parametrize(("family", "level"), [("gemma3", "rules"), ("qwen3", "notes")])
def test_ollama_engines_without_lora(family: str, level: str, root: Path, tmp_path: Path) -> None:
    model = tiny_model(family, root)
    write_adapter_folder(adapter(model), tmp_path, model)
    verdicts = ask(tmp_path, base=model)
    found = {"rules": rules, "notes": notes}[level](verdicts["ollama"])
    assert found == ["ollama-engine"]
    assert verdicts["llamacpp"].taken


# --- mlx-lm, against mlx-lm -------------------------------------------------------------------


def mlx_takes(model: Path, folder: Path) -> bool:
    pytest.importorskip("mlx_lm")
    try:
        cases.mlx_logits(model, folder)
    except (ValueError, KeyError, AttributeError, TypeError):
        return False
    return True


MLX: dict[str, tuple[dict[str, Any], Callable[[dict[str, np.ndarray]], Any]]] = {
    "config": ({"num_layers": ...}, lambda t: None),
    "tensor-names": ({}, lambda t: t.update({"model.norm.weight": numbers(64)})),
    "placement": (
        {"num_layers": 1, "lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.0}},
        lambda t: None,
    ),
    "rank": (
        {},
        lambda t: t.update({"model.layers.0.self_attn.q_proj.lora_a": numbers(64, 5)}),
    ),
}


@pytest.mark.parametrize("rule", MLX)
def test_mlx_lm_refuses_what_check_says(rule: str, base: Path, tmp_path: Path) -> None:
    changes, change = MLX[rule]
    place = tmp_path / "m"
    formats.write_adapter(adapter(base), place, "mlx", base=load_base(base))
    assert ask(place, base=base)["mlx"].taken
    assert mlx_takes(base, place)
    edit_config(place / "adapter_config.json", **changes)
    edit_tensors(place / "adapters.safetensors", change)
    assert rules(ask(place, base=base)["mlx"])[0] == rule
    assert not mlx_takes(base, place)


@pytest.mark.parametrize("key", ["scale", "rank", "dropout"])
def test_mlx_lm_needs_its_parameters(key: str, base: Path, tmp_path: Path) -> None:
    formats.write_adapter(adapter(base), tmp_path, "mlx", base=load_base(base))
    parameters = json.loads((tmp_path / "adapter_config.json").read_text())["lora_parameters"]
    del parameters[key]
    edit_config(tmp_path / "adapter_config.json", lora_parameters={**parameters, "alpha": 8})
    assert rules(ask(tmp_path, base=base)["mlx"]) == ["config"]
    assert not mlx_takes(base, tmp_path)


def test_peft_folders_are_not_mlx_lms(base: Path, tmp_path: Path) -> None:
    formats.write_adapter(adapter(base), tmp_path, "peft")
    assert rules(ask(tmp_path, base=base)["mlx"]) == ["format"]
    assert not mlx_takes(base, tmp_path)


def test_heads_that_are_embeddings(tied: Path, tmp_path: Path) -> None:
    for module, refused in (("lm_head", ["tied-head"]), ("model.embed_tokens", [])):
        place = tmp_path / module
        rows = {"lora_a": numbers(64, 4), "lora_b": numbers(4, 512)}
        if module != "lm_head":
            rows = {"lora_a": numbers(512, 4), "lora_b": numbers(4, 64)}
        tensors = {f"{module}.{half}": array for half, array in rows.items()}
        write_tensors(
            place / "adapters.safetensors", tensors, dict.fromkeys(tensors, "float32"), {}
        )
        parameters = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": [module]}
        config = {"model": str(tied), "num_layers": 2, "lora_parameters": parameters}
        (place / "adapter_config.json").write_text(json.dumps(config))
        verdict = ask(place, base=tied)["mlx"]
        assert rules(verdict) == refused
        assert mlx_takes(tied, place) == (not refused)
        if not refused:
            assert notes(verdict) == ["tied-embedding"]


def test_whole_weights_are_no_adapter(tmp_path: Path) -> None:
    tensors = {"model.norm.weight": numbers(64)}
    write_tensors(tmp_path / "adapters.safetensors", tensors, {"model.norm.weight": "float32"}, {})
    (tmp_path / "adapter_config.json").write_text('{"fine_tune_type": "full", "num_layers": 2}')
    assert "full-weights" in notes(ask(tmp_path)["mlx"])


# --- the command ------------------------------------------------------------------------------


def test_the_command(folder: Path, base: Path) -> None:
    def call(*words: str) -> Any:
        return CliRunner().invoke(
            check_command, [str(folder), "--base", str(base), *words], standalone_mode=False
        )

    result = call()
    assert result.return_value == 0
    assert result.output.count("takes it") == 4
    edit_config(folder / "adapter_config.json", use_dora=True)
    result = call()
    assert result.return_value == 1
    assert "vLLM       REFUSES" in result.output
    assert "→ livery merge" in result.output
    assert call("--runtime", "mlx", "--runtime", "ollama").return_value == 0
    report = json.loads(call("--json").output)
    assert report["taken"] is False
    assert [row["runtime"] for row in report["runtimes"]] == list(RUNTIMES)
    assert report["runtimes"][0]["findings"][0]["rule"] == "dora"
    with pytest.raises(UserError, match="no adapter here"):
        check(base)


def test_without_a_base_it_says_what_was_not_compared(base: Path, tmp_path: Path) -> None:
    one = adapter(base).replace(base_model="someone/else")
    formats.write_adapter(one, tmp_path, "peft")
    verdict = ask(tmp_path)["vllm"]
    assert verdict.taken
    assert notes(verdict) == ["not-compared"]
    assert "--base someone/else" in the(verdict, "not-compared").remedy


@pytest.mark.slow
def test_it_starts_fast_and_without_frameworks(folder: Path) -> None:
    code = (
        "import sys; from convert.check.check import check; check(sys.argv[1]); "
        "print(*(m for m in ('torch', 'mlx', 'transformers') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


def test_convert_agrees_that_it_fits(folder: Path, base: Path, tmp_path: Path) -> None:
    """What check lets pass, convert writes, and check takes the result."""
    convert(folder, tmp_path / "again", "all", base=base)
    assert all(verdict.taken for verdict in ask(tmp_path / "again", base=base).values())


def test_a_zip_is_unpacked_before_vllm_serves_it(base: Path, tmp_path: Path) -> None:
    from convert.pack.pack import pack

    write_adapter_folder(adapter(base, rank=32), tmp_path / "a", base)
    pack(tmp_path / "a", tmp_path / "a.zip")
    verdicts = ask(tmp_path / "a.zip", base=base)
    assert verdicts["vllm"].form == str(tmp_path / "a.zip")
    remedy = the(verdicts["vllm"], "rank").remedy
    assert remedy.startswith(f"python -m zipfile -e {tmp_path}/a.zip {tmp_path}/a && vllm serve")
    assert remedy.endswith(f"adapter={tmp_path}/a")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 700) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        "peft_type", "r", "lora_alpha", "target_modules", "use_dora", "use_rslora", "lora_bias",
        "bias", "modules_to_save", "init_lora_weights", "alora_invocation_tokens", "rank_pattern",
        "alpha_pattern", "layer_replication", "base_model_name_or_path", "num_layers",
        "lora_parameters", "fine_tune_type", "model",
    ]
)  # fmt: skip


@pytest.mark.slow
@given(changes=st.dictionaries(KEYS, JSON, min_size=1, max_size=5), parameters=JSON)
def test_odd_configs_are_judged(
    changes: dict[str, Any], parameters: Any, base: Path, tmp_path_factory: Any
) -> None:
    """Whatever a config says: verdicts, and a command for every refusal."""
    folder = tmp_path_factory.mktemp("odd")
    write_adapter_folder(adapter(base), folder, base)
    edit_config(folder / "adapter_config.json", **changes)
    edit_config(folder / "mlx" / "adapter_config.json", **changes, keys=parameters)
    assert len(ask(folder, base=base)) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::UserWarning:peft", "ignore::FutureWarning", "ignore::DeprecationWarning:torch"
)
def test_what_only_peft_applies_peft_merges(root: Path, base: Path, tmp_path: Path) -> None:
    """The remedy for PiSSA, as the user would run it, gives PEFT's own logits."""
    wanted = cases.peft_adapter(
        "llama", root, tmp_path / "p", init_lora_weights="pissa", target_modules=["q_proj"]
    )
    edit_config(tmp_path / "p" / "adapter_config.json", base_model_name_or_path=str(base))
    remedy = the(ask(tmp_path / "p")["vllm"], "initialisation").remedy
    _, *words = shlex.split(remedy)
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, capture_output=True)
    found = cases.base_logits(tmp_path / "merged")
    assert np.abs(found - wanted).max() < 1e-4
    assert np.abs(cases.base_logits(base) - wanted).max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_no_false_alarms(family: str, root: Path, tmp_path: Path) -> None:
    """What convert writes is taken by all, on every family (its own tests load it)."""
    model = tiny_model(family, root)
    only = {"phi": "self_attn."}.get(family, "_proj")
    write_adapter_folder(adapter(model, only=only), tmp_path, model)
    verdicts = ask(tmp_path, base=model)
    wanted = {"mixtral": ["mixtral-experts"], "qwen3_moe": ["fused-experts"]}.get(family, [])
    assert rules(verdicts["vllm"]) == wanted
    assert rules(verdicts["llamacpp"]) == []
    assert rules(verdicts["mlx"]) == []
    assert rules(verdicts["ollama"]) == (["ollama-engine"] if family == "gemma3" else [])
    for verdict in verdicts.values():
        assert "not-compared" not in notes(verdict)


def test_a_base_without_readable_weights_is_not_compared(folder: Path, base: Path) -> None:
    bare = folder.parent / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((base / "config.json").read_bytes())
    for verdict in ask(folder, base=bare).values():
        assert verdict.taken
        assert notes(verdict) == ["not-compared"]


def test_a_bias_that_has_no_place_is_not_merged(base: Path, root: Path, tmp_path: Path) -> None:
    mistral, phi = (tiny_model(family, root) for family in ("mistral", "phi"))
    for model, way in ((mistral, "livery train"), (phi, "livery merge"), (base, "livery merge")):
        plain = adapter(model, only="q_proj")
        pairs = {
            m: Pair(p.a, p.b, p.alpha, bias=numbers(p.b.shape[0])) for m, p in plain.pairs.items()
        }
        place = tmp_path / model.name
        formats.write_adapter(plain.replace(pairs=pairs), place, "peft", base=load_base(model))
        finding = the(ask(place, base=model)["vllm"], "lora-bias")
        assert finding.remedy.startswith(way)


@pytest.mark.slow
@given(
    metadata=st.dictionaries(
        st.sampled_from(
            ["general.type", "adapter.type", "general.architecture", "adapter.lora.alpha"]
        ),
        st.booleans() | st.integers(0, 9) | st.floats(width=32) | st.text(max_size=5)
        | st.lists(st.integers(0, 9), min_size=1, max_size=3),
        min_size=1,
    ),
    cut=st.none() | st.integers(0, 60_000),
)  # fmt: skip
def test_odd_gguf_files_are_judged(
    metadata: dict[str, Any], cut: int | None, base: Path, tmp_path_factory: Any
) -> None:
    file = tmp_path_factory.mktemp("odd") / "adapter.gguf"
    formats.write_adapter(adapter(base), file, "gguf", base=load_base(base))
    opened = open_gguf(file)
    arrays = {name: np.array(opened.read(name)) for name in opened.entries}
    write_gguf(file, {**opened.metadata, **metadata}, arrays, dict.fromkeys(arrays, "float32"))
    raw = file.read_bytes()
    file.write_bytes(raw[:cut])
    try:
        verdict = ask(file, base=base)["llamacpp"]
    except UserError as error:
        assert "neither a GGUF file" in str(error)  # noqa: PT017
        assert cut is not None
        assert cut < 4
        return
    assert not verdict.taken or cut is None or cut >= len(raw)


def real_adapter(base: Path, folder: Path, **config: Any) -> np.ndarray:
    """One made by PEFT with everything that it trains changed; returns its logits."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(cases.torch_base(base), LoraConfig(r=4, lora_alpha=8, **config))
    cases.randomise(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and "lora_" not in name:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    model.save_pretrained(str(folder))
    return cases.torch_logits(model)


REAL: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "modules-to-save": {"modules_to_save": ["norm"]},
    "bias": {"bias": "lora_only"},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning")
@pytest.mark.parametrize("rule", REAL)
def test_what_vllm_refuses_livery_merges(rule: str, root: Path, tmp_path: Path) -> None:
    """The remedy as it is, run, gives PEFT's own logits without an adapter."""
    family = "phi" if rule == "bias" else "llama"
    model = tiny_model(family, root)
    targets = ["q_proj", "v_proj"]
    wanted = real_adapter(model, tmp_path / "p", target_modules=targets, **REAL[rule])
    for target in ("gguf", "mlx"):
        if (rule, target) != ("dora", "mlx"):  # biases and whole modules are not dropped either
            with pytest.raises(UserError, match="livery merge"):
                convert(tmp_path / "p", tmp_path / target, target, base=model)
    remedy = the(ask(tmp_path / "p", base=model)["vllm"], rule).remedy
    run_remedy(remedy.replace("--out merged", f"--out {tmp_path / 'merged'}"))
    assert np.abs(cases.base_logits(tmp_path / "merged") - wanted).max() < 1e-4
    assert np.abs(cases.base_logits(model) - wanted).max() > 0.1


def test_the_embedded_base_is_known_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = ROOT / "base_model"
    one = adapter(embedded).replace(base_model="base_model")
    write_adapter_folder(one, tmp_path / "a", embedded)
    monkeypatch.chdir(tmp_path)
    for verdict in ask(Path("a")).values():
        assert not verdict.findings


@pytest.mark.slow
def test_an_activated_lora_goes_to_llama_cpp(base: Path, tmp_path: Path) -> None:
    one = adapter(base, alora_invocation_tokens=(5, 6))
    formats.write_adapter(one, tmp_path, "peft", base=load_base(base))
    verdicts = ask(tmp_path, base=base)
    for runtime, rule in (("vllm", "alora"), ("mlx", "format")):
        remedy = the(verdicts[runtime], rule).remedy
        assert remedy.startswith("livery convert")
        assert "--to gguf" in remedy
    run_remedy(remedy)
    assert ask(tmp_path, base=base, runtimes=["llamacpp"])["llamacpp"].taken


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])  # switch_mlp, and a name of its own
def test_mlx_lm_has_no_dora_on_experts(family: str, root: Path, tmp_path: Path) -> None:
    base = tiny_model(family, root)
    one = adapter(base, only="experts.down_proj")
    formats.write_adapter(one, tmp_path, "mlx", base=load_base(base))
    assert ask(tmp_path, base=base)["mlx"].taken
    edit_config(tmp_path / "adapter_config.json", fine_tune_type="dora")
    assert rules(ask(tmp_path, base=base)["mlx"]) == ["dora-experts"]
    assert not mlx_takes(base, tmp_path)
