"""From an encoder, a language model and data to a model folder."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from sparse_encoder.any_encoder import AnyEncoder, is_dense, load_encoder
from sparse_encoder.atlas import FeatureAtlas, first_atlas
from sparse_encoder.errors import SparsightError
from sparse_encoder.pretrain.pair_stream import SkipCounts
from sparse_encoder.towers.photo_encoder import PhotoEncoder
from vlm.any_llm import IN_MODEL, read_template
from vlm.edited_codes import CodeEditor
from vlm.language_model import load_language_model
from vlm.projector import Projector
from vlm.projector_init import name_features
from vlm.start_from import start_with, starting_folder
from vlm.tuning.captioner import TunedCaptioner
from vlm.tuning.config import TuneRun, tune_run
from vlm.tuning.conversations import Conversation, read_conversations
from vlm.tuning.loop import Tuner
from vlm.tuning.model_writer import encoder_folder, write_encoder, write_model, write_random_llm
from vlm.tuning.reference import make_atlas, mine_swaps, naming_words, some_codes
from vlm.tuning.rows import RowLayout
from vlm.tuning.samples import Samples
from vlm.tuning.schedule import Schedule
from vlm.tuning.shapes import projector_shape

log = logging.getLogger(__name__)
_EXAMPLES = 40  # photographs whose soft tokens set the projector's scale
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def tune(
    preset: str,
    out: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    urls: Sequence[str] = (),
    conversations: Sequence[Path] = (),
    images: Path | None = None,
    encoder: Path | None = None,
) -> list[float]:
    """Trains PRESET's projector and LoRA; `out` becomes a model folder.

    urls: webdataset shards of captioned images, paths or addresses. conversations: LLaVA-style JSON or
    JSON lines, whose relative image paths lie below `images`. encoder: folder of any encoder of ours,
    of an exported sparse CLIP, or of a dense CLIP (default: that of the model that the run starts
    from, else of the model in the box). Returns the loss of every step, in nats an answer token. The
    same call on the same number of processes goes on with a run that was stopped. Under ``accelerate
    launch`` every process calls it.
    """
    run = tune_run(preset, settings or {})
    start = starting_folder(run.start_from, out) if run.start_from else None
    source = encoder_folder(encoder, run.start_from)
    talks = read_conversations(conversations, images, skip_bad=run.skip_bad)
    schedule = Schedule(run, len(talks), bool(urls))
    template = read_template(run.chat_template)
    out.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(run, out)
    coder = load_encoder(source)
    _check_edits(run, coder)
    if isinstance(coder, PhotoEncoder):  # the mini trunks are made for CPUs
        coder.to(accelerator.device)
    torch.manual_seed(run.seed)
    llm, tokenizer = load_language_model(
        run.llm,
        chat_template=template,
        dtype=_DTYPES[run.precision],
        with_weights=run.llm_weights,
    )
    llm_name = run.llm if run.llm_weights else f"./{IN_MODEL}"
    if accelerator.is_main_process:
        entry = write_encoder(coder, source, out)
        if not run.llm_weights:
            write_random_llm(llm, tokenizer, out)
        _atlas(coder, source, run, urls, talks, out)
    accelerator.wait_for_everyone()
    if not run.llm_weights:  # those of the main process, on all of them and after a stop
        llm, tokenizer = load_language_model(
            llm_name, chat_template=template, dtype=_DTYPES[run.precision], home=out
        )
    projector = Projector(projector_shape(coder, llm, run))
    captioner = TunedCaptioner(llm, projector, run.lora)
    if start is not None:
        ours = run.llm if run.llm_weights else str(out / IN_MODEL)
        start_with(projector, captioner.llm, ours, start, source)
    elif not is_dense(coder):
        name_features(
            projector,
            captioner.llm,
            tokenizer,
            naming_words(run),
            coder.encode_texts,
            some_codes(coder, urls, talks, _EXAMPLES),
        )
    skipped = SkipCounts()
    swaps = mine_swaps(urls, run.atlas_images) if run.edits.swap and urls else None
    atlas = FeatureAtlas.load(out / "features")
    samples = Samples(
        run,
        schedule,
        RowLayout(tokenizer, projector.config.n_tokens, run.max_tokens),
        coder,
        urls,
        talks,
        swaps,
        rank=accelerator.process_index,
        n_ranks=accelerator.num_processes,
        skipped=skipped,
    )
    editor = CodeEditor(atlas, coder.encode_texts, run.edits) if swaps is not None else None
    if run.tracker:
        accelerator.init_trackers("tune")
    tuner = Tuner(run, accelerator, schedule, coder, captioner, editor, samples, skipped, out)
    losses = tuner.run_all()
    if accelerator.is_main_process:
        write_model(captioner, coder, entry, llm_name, template, run, out)
    accelerator.wait_for_everyone()
    accelerator.end_training()  # last, for it takes the processes apart
    for kind, n in skipped.totals().items():
        if n:
            log.warning("left out in this session: %d of kind %s", n, kind)
    return losses


def _accelerator(run: TuneRun, out: Path) -> Accelerator:
    try:
        return Accelerator(
            mixed_precision="no" if run.precision == "fp32" else run.precision,
            log_with=run.tracker or None,
            project_dir=str(out),
        )
    except ValueError as error:  # fp16 without a GPU, an unknown tracker
        raise SparsightError(
            f"accelerate refuses precision={run.precision!r} with tracker={run.tracker!r}: {error}",
            param="precision",
        ) from error


def _check_edits(run: TuneRun, encoder: AnyEncoder) -> None:
    if is_dense(encoder) and run.edits.any:
        raise SparsightError(
            "the encoder is dense (activation identity), so no concept can be swapped in its codes "
            "and no feature dropped or amplified; set edits.swap=0, edits.dropout=0 and "
            "edits.amplify=0",
            param="edits.swap",
        )


def _atlas(
    encoder: AnyEncoder,
    source: Path,
    run: TuneRun,
    urls: Sequence[str],
    conversations: Sequence[Conversation],
    out: Path,
) -> None:
    """The atlas in `out`: the one that comes with the encoder, else a new one; once a run."""
    found = first_atlas(out, source)
    atlas = (
        make_atlas(encoder, naming_words(run), run, urls, conversations)
        if found is None
        else found[1]
    )
    atlas.save(out / "features")
