"""What plans say of a network: old and new forms, and what is refused by name."""

from copy import deepcopy

import pytest

from tests.nnunet_networks import THIN, configuration
from vol3dseg.errors import ModelError
from vol3dseg.export.nnunet.architecture import Stage, architecture_of

PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
TODAY = "; expected PlainConvUNet or ResidualEncoderUNet of 3d_fullres or 3d_lowres; run this model"


def older(kind=PLAIN, **changes):
    """The same as `configuration`, as plans said it before nnU-Net 2.4."""
    return {
        "patch_size": [8, 24, 24],
        "UNet_class_name": kind,
        "UNet_base_num_features": 8,
        "unet_max_num_features": 20,
        "conv_kernel_sizes": THIN["kernel_sizes"],
        "pool_op_kernel_sizes": THIN["strides"],
        "n_conv_per_stage_encoder": [2, 1, 2],
        "n_conv_per_stage_decoder": [1, 2],
        "num_pool_per_axis": [1, 2, 1],
        **changes,
    }


def test_a_plain_network():
    found = architecture_of(configuration(), "plans.json")
    assert found.stages == (
        Stage(3, (1, 3, 3), (1, 1, 1), blocks=2, decoder=2),
        Stage(4, (3, 3, 5), (1, 2, 3), blocks=1, decoder=1),
        Stage(5, (3, 3, 3), (2, 2, 1), blocks=2, decoder=0),
    )
    assert (found.kind, found.stem, found.bias, found.affine) == (PLAIN, 0, True, True)
    assert (found.epsilon, found.slope) == (1e-5, 0.01)
    facts = found.facts((0, 1, 2))
    assert (facts.divisor, facts.local) == ((2, 4, 3), False)
    assert facts.architecture["stages"][2] == {
        "features": 5,
        "kernel": (3, 3, 3),
        "stride": (2, 2, 1),
        "convolutions": 2,
        "decoder_convolutions": 0,
    }


def test_torch_defaults_hold_where_plans_say_nothing():
    found = architecture_of(
        configuration(norm_op_kwargs=None, nonlin_kwargs=None, conv_bias=False), "plans.json"
    )
    assert (found.epsilon, found.affine, found.slope, found.bias) == (1e-5, False, 0.01, False)


def test_one_number_for_all_levels():
    one = {"features_per_stage": 4, "kernel_sizes": 3, "strides": [1, 2, [1, 2, 2]]}
    one |= {"n_conv_per_stage": 1, "n_conv_per_stage_decoder": 3}
    stages = architecture_of(configuration(**one), "plans.json").stages
    assert [stage.stride for stage in stages] == [(1, 1, 1), (2, 2, 2), (1, 2, 2)]
    assert {stage.kernel for stage in stages} == {(3, 3, 3)}
    assert [(stage.blocks, stage.decoder) for stage in stages] == [(1, 3), (1, 3), (1, 0)]


@pytest.mark.parametrize("kind", [PLAIN, RESIDUAL])
def test_older_plans_say_the_same_otherwise(kind):
    blocks = {"n_conv_per_stage" if kind == PLAIN else "n_blocks_per_stage": [2, 1, 2]}
    newer = configuration(kind, features_per_stage=[8, 16, 20], **blocks)
    assert architecture_of(older(kind), "a") == architecture_of(newer, "b")


def test_the_largest_preset():
    """Blocks by level as nnU-Net's ResEncUNetPlanner has them."""
    blocks = [1, 3, 4, 6, 6, 6, 6]
    preset = configuration(
        RESIDUAL,
        n_stages=7,
        features_per_stage=[32, 64, 128, 256, 320, 320, 320],
        kernel_sizes=[[3, 3, 3]] * 7,
        strides=[[1, 1, 1]] + [[2, 2, 2]] * 6,
        n_blocks_per_stage=blocks,
        n_conv_per_stage_decoder=[1] * 6,
    )
    found = architecture_of(preset, "plans.json")
    assert [stage.blocks for stage in found.stages] == blocks
    assert (found.stem, found.facts((2, 1, 0)).divisor) == (32, (64, 64, 64))


def changed(**changes):
    made = configuration()
    made["architecture"]["arch_kwargs"] |= changes
    return made


def without(*names):
    made = changed()
    for name in names:
        del made["architecture"]["arch_kwargs"][name]
    return made


def called(name):
    made = changed()
    made["architecture"]["network_class_name"] = name
    return made


ARCHITECTURES = "dynamic_network_architectures.architectures"
REFUSED = [
    pytest.param({**configuration(), "patch_size": [56, 56]}, "a 2-D configuration", id="2-D"),
    pytest.param(
        {**configuration(), "previous_stage": "3d_lowres"}, "a cascade on '3d_lowres'", id="cascade"
    ),
    pytest.param({"patch_size": [8, 8, 8]}, "says no architecture", id="nothing"),
    pytest.param(
        called(f"{ARCHITECTURES}.primus.Primus"),
        "the network 'architectures.primus.Primus'",
        id="Primus",
    ),
    pytest.param(
        called(f"{ARCHITECTURES}.unet.ResidualUNet"),
        "the network 'architectures.unet.ResidualUNet",
        id="a residual decoder",
    ),
    pytest.param(called(f"mine.{PLAIN}"), "the network 'mine.PlainConvUNet'", id="another package"),
    pytest.param(called(None), "the network 'None'", id="no name"),
    pytest.param(older("UMambaBot"), "the network 'UMambaBot'", id="an older one"),
    pytest.param(
        older(UNet_base_num_features="8"), "features_per_stage: expected a list", id="text"
    ),
    pytest.param(older(conv_kernel_sizes=None), "kernel_sizes: expected a list", id="no kernels"),
    pytest.param(without("strides"), "strides is missing", id="no strides"),
    pytest.param(changed(attention=True), "unknown key 'attention'", id="an unknown argument"),
    pytest.param(
        changed(norm_op="torch.nn.GroupNorm"),
        "norm_op: expected 'torch.nn.modules.instancenorm.InstanceNorm3d'",
        id="group norm",
    ),
    pytest.param(
        changed(conv_op="torch.nn.modules.conv.Conv2d"), "conv_op: expected", id="2-D convolutions"
    ),
    pytest.param(
        changed(dropout_op="torch.nn.Threshold"), "dropout_op: expected 'torch.nn", id="dropout"
    ),
    pytest.param(changed(nonlin="torch.nn.GELU"), "nonlin: expected 'torch.nn.Le", id="activation"),
    pytest.param(changed(nonlin_first=True), "nonlin_first: expected False", id="norms last"),
    pytest.param(
        changed(kernel_sizes=[[1, 3, 3]] * 2),
        "3 levels, and values for .*'kernel_sizes': 2",
        id="two kernels",
    ),
    pytest.param(
        changed(n_conv_per_stage_decoder=[1]), "'n_conv_per_stage_decoder': 2", id="one decoder"
    ),
    pytest.param(changed(kernel_sizes=[[3, 3, 2]] * 3), "changes its size", id="an even kernel"),
    pytest.param(changed(strides=[[2, 2, 2]] * 3), "changes its size", id="strides at the top"),
    pytest.param(changed(strides=[[1] * 3, *[[64] * 3] * 2]), "", id="4096 is a divisor still"),
    pytest.param(changed(strides=[[1] * 3, [65] * 3, [2] * 3]), "at most 64", id="a wide stride"),
    pytest.param(changed(n_stages=True), "n_stages: expected a whole number", id="true"),
    pytest.param(changed(n_stages=10**9), "n_stages: expected at most 16", id="many levels"),
    pytest.param(changed(features_per_stage=[10**9] * 3), "at most 16384", id="many features"),
    pytest.param(changed(kernel_sizes=[[3, 3]] * 3), "expected at least 3|missing", id="two sides"),
]


@pytest.mark.parametrize(("said", "match"), REFUSED)
def test_what_is_not_carried_is_refused_by_name(said, match):
    before = deepcopy(said)
    if match:
        with pytest.raises(ModelError, match=match) as caught:
            architecture_of(said, "plans.json")
        assert str(caught.value).startswith("plans.json: has ")
        assert TODAY in str(caught.value)
        assert str(caught.value).isprintable()
    else:
        assert architecture_of(said, "plans.json").facts((0, 1, 2)).divisor == (4096,) * 3
    assert said == before


def test_blocks_of_residual_encoders():
    blocks = f"{ARCHITECTURES[:30]}building_blocks.residual."
    narrow = {"block": f"{blocks}BottleneckD"}
    found = architecture_of(configuration(RESIDUAL, **narrow, bottleneck_channels=4), "plans.json")
    assert [stage.bottleneck for stage in found.stages] == [4, 4, 4]
    assert found.facts((0, 1, 2)).architecture["stages"][0]["bottleneck"] == 4
    usual = {"block": f"{blocks}BasicBlockD", "bottleneck_channels": 4}  # of the other alone
    plain = architecture_of(configuration(RESIDUAL), "plans.json")
    assert architecture_of(configuration(RESIDUAL, **usual), "plans.json") == plain
    for channels, count in ((None, 0), ([4, 4], 2)):
        said = configuration(RESIDUAL, **narrow, bottleneck_channels=channels)
        with pytest.raises(ModelError, match=f"3 levels, and bottleneck_channels of {count}"):
            architecture_of(said, "plans.json")
    with pytest.raises(ModelError, match=r"block: expected .*BottleneckD"):
        architecture_of(configuration(RESIDUAL, block=f"{blocks}Mine"), "plans.json")


def test_norms_are_as_torch_makes_them():
    def made(op, **options):
        found = architecture_of(
            configuration(norm_op=f"torch.nn.{op}", norm_op_kwargs=options), "a"
        )
        return found.statistics, found.affine

    assert made("BatchNorm3d") == (True, True)
    assert made("BatchNorm3d", affine=False, momentum=None) == (True, False)
    assert made("BatchNorm3d", track_running_stats=False) == (False, True)  # of one patch
    assert made("InstanceNorm3d") == (False, False)
    assert made("InstanceNorm3d", affine=True, track_running_stats=True) == (True, True)
