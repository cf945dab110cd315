"""What makes another model of a model: pruning and distillation."""

from __future__ import annotations

from storage.catalogue.descriptions import DATA, SEED, Transform
from storage.options import Option

_PACKAGES = ("torch", "transformers")

_RECOVER = Option(
    name="recover",
    type="int",
    default="0",
    low=0,
    high=1_000_000,
    help="steps of training afterwards, against the uncut model's logits and the labels; what was cut stays cut",
)

_CUTTABLE = "bert, roberta, xlm-roberta, camembert, electra, distilbert"
_LABELS = "for by=taylor labels that are the model's classes"

_RATE = Option(
    name="learning_rate",
    type="float",
    default="5e-05",
    low=0,
    high=1,
    inside=True,
    help="AdamW's, at its height",
)

_IMPORTANCE = (
    Option(
        name="by",
        type="choice",
        default="taylor",
        choices=("taylor", "activation", "magnitude"),
        help="what tells important ones: the first-order change of the loss on a sample, the mean size of their "
        "output on a sample, or the norm of their weights",
    ),
    Option(name="rows", type="int", default="256", low=1, high=100_000, help="rows that importance is taken on"),
    DATA,
    SEED,
    _RECOVER,
    _RATE,
)

TRANSFORMS = (
    Transform(
        name="prune-magnitude",
        summary="set the smallest weights of the encoder's linear layers to zero",
        implementation="worker.engine.transforms.magnitude:PruneMagnitude",
        packages=_PACKAGES,
        extra="worker",
        options=(
            Option(
                name="amount",
                type="float",
                default="0.5",
                low=0,
                high=1,
                inside=True,
                positional=True,
                only_with={"pattern": ("unstructured",)},
                help="share of each layer's weights",
            ),
            Option(
                name="pattern",
                type="choice",
                default="unstructured",
                choices=("unstructured", "1:4", "2:4", "4:8"),
                help="anywhere in a layer, or N of each M neighbours in a row stay",
            ),
            DATA,
            SEED,
            _RECOVER,
            _RATE,
        ),
        means="fewer weights that are not zero, the same arithmetic: dense kernels multiply by the zeros, so that no "
        "speed is to be expected; torch's CPU kernels for CSR weights are slower at such shares, and it has none for "
        "2:4",
        cost="seconds; with recover= minutes",
        data_unless={"recover": "0"},
        training="recover",
    ),
    Transform(
        name="prune-heads",
        summary="cut attention heads out of the encoder; the projections really shrink",
        implementation="worker.engine.transforms.structured:PruneHeads",
        packages=_PACKAGES,
        extra="worker",
        options=(
            Option(
                name="amount",
                type="float",
                default="0.25",
                low=0,
                high=1,
                inside=True,
                positional=True,
                help="share of each layer's heads",
            ),
            *_IMPORTANCE,
        ),
        needs=f"a model of {_CUTTABLE}; {_LABELS}",
        cost="seconds for the sample; with recover= minutes",
        data_unless={"by": "magnitude", "recover": "0"},
        training="recover",
    ),
    Transform(
        name="prune-ffn",
        summary="cut neurons out of the feed-forward layers; both projections really shrink",
        implementation="worker.engine.transforms.structured:PruneFfn",
        packages=_PACKAGES,
        extra="worker",
        options=(
            Option(
                name="amount",
                type="float",
                default="0.3",
                low=0,
                high=1,
                inside=True,
                positional=True,
                help="share of each layer's neurons; what stays is rounded up to a multiple of 8",
            ),
            *_IMPORTANCE,
        ),
        needs=f"a model of {_CUTTABLE}, mpnet; {_LABELS}",
        cost="seconds for the sample; with recover= minutes",
        data_unless={"by": "magnitude", "recover": "0"},
        training="recover",
    ),
    Transform(
        name="distil",
        summary="train a student of fewer layers on the model's logits",
        implementation="worker.engine.transforms.distil:Distil",
        packages=_PACKAGES,
        extra="worker",
        options=(
            Option(
                name="layers",
                type="int",
                default="half",
                choices=("half",),
                low=1,
                high=1000,
                help="the student's layers: copies of the last of each of as many equal spans of the teacher's",
            ),
            Option(
                name="hidden",
                type="int",
                default="same",
                choices=("same",),
                low=8,
                high=100_000,
                help="the student's width, a multiple of the teacher's heads; a narrower one starts from the teacher's "
                "dimensions, channels and neurons with the largest weights, and needs more epochs",
            ),
            Option(name="epochs", type="int", default="3", low=1, high=1000, help="passes over the data"),
            Option(name="batch", type="int", default="64", low=1, high=4096, help="rows in one step"),
            Option(
                name="temperature",
                type="float",
                default="2",
                low=0,
                high=100,
                inside=True,
                help="softens both distributions (Hinton et al. 2015)",
            ),
            Option(
                name="hard_weight",
                type="float",
                default="0.1",
                low=0,
                high=1,
                help="share of the loss that the labels decide, the rest is the teacher's",
            ),
            Option(
                name="learning_rate",
                type="float",
                default="0.0003",
                low=0,
                high=1,
                inside=True,
                help="AdamW's, at its height",
            ),
            DATA,
            SEED,
        ),
        needs="a dataset to train on, named in the study's `datasets`",
        means="a model of its own: what it lost against its teacher holds for texts like those that it was trained on",
        cost="minutes to hours: a training; a job of its own, whose model all hosts with one store share",
        data_unless={"epochs": "0"},
        training="epochs",
    ),
)
